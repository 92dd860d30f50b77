/* Random cases for all operations, and a hash of every number that they leave: `bits LEVEL FIRST COUNT THREADS`.
   Every array has exactly the size that the border in Python demands, so that sanitizers and valgrind see one step more. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

int terry_kernels_run(int level, const Op *ops, int64_t count, int threads);
int terry_kernels_level(void);

static uint64_t state, hash = 1469598103934665603u;
static int level, threads;
static void *made[4096];
static int made_count;

static uint32_t next_number(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}
static int64_t between(int64_t low, int64_t high) { return low + next_number() % (uint64_t)(high - low + 1); }
static void *memory(int64_t bytes) { return made[made_count++] = malloc((size_t)(bytes ? bytes : 1)); }
static float *floats(int64_t count) {
    float *x = memory(count * 4);
    for (int64_t i = 0; i < count; i++) x[i] = ((float)next_number() / 1073741824.f - 1.f) * (next_number() % 50 ? 1.f : 30.f);
    return x;
}
static float *zeros(int64_t count) { return memset(memory(count * 4), 0, (size_t)count * 4); }
static double *doubles(int64_t count) { return memset(memory(count * 8), 0, (size_t)count * 8); }
static int64_t *ids(int64_t count, int64_t limit) {
    int64_t *x = memory(count * 8);
    for (int64_t i = 0; i < count; i++) x[i] = between(0, limit - 1);
    return x;
}
static int64_t *in_order(int64_t count) {
    int64_t *x = memory(count * 8);
    for (int64_t i = 0; i < count; i++) x[i] = i;
    return x;
}
static int64_t up16(int64_t n) { return (n + 15) / 16 * 16; }
/* Every bit, but for those of NaN, whose sign and payload are each processor's own. */
static void see(const void *of, int64_t bytes) {
    const uint32_t *p = of;
    for (int64_t i = 0; i < bytes / 4; i++) {
        float x;
        memcpy(&x, p + i, 4);
        hash = (hash ^ (x == x ? p[i] : 0x7fc00000u)) * 1099511628211u;
    }
}
#define LIST(...) {__VA_ARGS__}
#define RUN_OP(CODE, N, P, ...)                                                \
    do {                                                                       \
        Op op = {.code = CODE, .n = N, .p = P, .f = {__VA_ARGS__}};            \
        if (terry_kernels_run(level, &op, 1, threads)) { puts("failed"); exit(1); } \
    } while (0)

static float *padded_rows(int64_t rows, int64_t columns) {
    float *x = floats(rows * up16(columns));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = columns; j < up16(columns); j++) x[i * up16(columns) + j] = 0.f;
    return x;
}

static void recurrence(void) {
    int64_t T = between(1, 5), B = between(1, 14), H = between(1, 70), K = between(1, 40), N = T * B, Hp = up16(H), Kp = up16(K);
    int64_t gates[] = {1, 3, 4}, G = gates[next_number() % 3], S = G == 3 ? 4 : G, wide = G * Hp, relu = next_number() % 2;
    int64_t both = G == 3 ? 2 : G, *natural = in_order(G), *order = in_order(G);
    if (G == 3) order[0] = 2, order[1] = 0, order[2] = 1;
    float *x = padded_rows(N, K), *w = floats(G * H * K), *u = floats(G * H * H), *b = floats(G * H), *c = floats(G * H);
    for (int64_t i = 0; i < G * H * H; i++) u[i] *= 0.2f;
    float *laid = floats(wide * K), *back = floats(wide * Kp), *laid_u = floats(wide * H), *back_u = floats(wide * Hp);
    float *bias = floats(wide), *rest = zeros(Hp), *g = floats(N * wide), *states = floats((N + B) * Hp), *up = padded_rows(N, H);
    float *cells = floats((N + B) * Hp), *inner = floats(N * Hp), *slopes = floats(N * S * Hp), *carry = floats(B * Hp), *cc = floats(B * Hp);
    float *h0 = padded_rows(B, H), *dw = floats(G * H * K), *du = floats(G * H * H), *db = floats(G * H), *dx = floats(N * Kp);
    memcpy(states, h0, (size_t)(B * Hp) * 4), memcpy(cells, h0, (size_t)(B * Hp) * 4);
    RUN_OP(3, LIST(G, H, K), LIST(w, laid));
    RUN_OP(3, LIST(G, H, H), LIST(u, laid_u));
    RUN_OP(4, LIST(G, H, K), LIST(w, back, order));
    RUN_OP(4, LIST(G, H, H), LIST(u, back_u, natural));
    RUN_OP(5, LIST(G, H, both), LIST(b, c, bias, rest));
    RUN_OP(6, LIST(N, K, Kp, G, H), LIST(x, laid, bias, g));
    RUN_OP(13, LIST(T, B, H, G, relu), LIST(g, NULL, states, g, cells, inner, laid_u, rest));
    RUN_OP(14, LIST(T, B, H, G, relu), LIST(up, states, g, cells, inner, back_u, slopes, carry, cc));
    RUN_OP(8, LIST(N, G, H, S * Hp, K, Kp), LIST(slopes, x, dw, order));
    RUN_OP(8, LIST(N, G, H, S * Hp, H, Hp), LIST(slopes + (S - G) * Hp, states, du, natural));
    RUN_OP(9, LIST(N, G, H, S * Hp), LIST(slopes, db, NULL, order));
    RUN_OP(7, LIST(N, wide, S * Hp, Kp, Kp, 0), LIST(slopes, back, dx));
    see(states, (N + B) * Hp * 4), see(slopes, N * S * Hp * 4), see(dw, G * H * K * 4), see(du, G * H * H * 4);
    see(db, G * H * 4), see(dx, N * Kp * 4);
}

static void softmax(void) {
    int64_t tokens = between(1, 150), H = between(1, 70), rows = between(1, 150), Hp = up16(H), blocks = (tokens + 63) / 64;
    int64_t *targets = ids(rows, tokens), *kept = in_order(rows), count = between(1, rows);
    float *hidden = padded_rows(rows, H), *w = floats(tokens * H), *b = floats(tokens);
    float *work[] = {floats(tokens * 128), floats(H * 128), floats((blocks + 2) * 128), floats(threads * 64 * Hp), zeros(256 * Hp)};
    float *dh = zeros(rows * Hp), *dw = floats(tokens * H), *db = floats(tokens);
    double scale = 1.0 / (double)count, *loss = doubles(1);
    for (int64_t first = 0; first < rows; first += 128)
        for (int64_t code = 15; code <= 21; code++)
            RUN_OP(code, LIST(first, tokens, H, 1), LIST(hidden, w, b, targets, kept, &count, &scale, work, dh, dw, db, loss));
    see(dh, rows * Hp * 4), see(dw, tokens * H * 4), see(db, tokens * 4), see(loss, 8);
}

static void updates(void) {
    int64_t count = between(1, 9000), kind = between(0, 4), pieces = (count + 4095) / 4096;
    float *w = floats(count), *g = floats(count), *m = zeros(count), *v = zeros(count), *average = floats(count);
    double *squares = doubles(pieces), numbers[4] = {1, 0.01, 0.02, 0.3}, length[1], share = 0.25;
    RUN_OP(25, LIST(count), LIST(g, squares));
    RUN_OP(26, LIST(pieces), LIST(squares, length, numbers), 1.0);
    for (int i = 0; i < 3; i++)
        RUN_OP(27, LIST(count, kind), LIST(w, g, kind < 2 && next_number() % 2 ? NULL : m, v, numbers), 0.01, 0.9, 0.99, 1e-8);
    RUN_OP(28, LIST(count), LIST(w, average, &share));
    RUN_OP(23, LIST(count), LIST(w, average), 0.3);
    see(w, count * 4), see(m, count * 4), see(v, count * 4), see(average, count * 4), see(length, 8);
}

static void rows_by_id(void) {
    int64_t N = between(1, 60), tokens = between(1, 40), K = between(1, 50), Kp = up16(K), H = between(1, 30), G = between(1, 4);
    int64_t *which = ids(N, tokens), *order = in_order(G), clock[2] = {(int64_t)state, next_number()};
    float *table = floats(tokens * K), *x = floats(N * Kp), *sum = zeros(tokens * K), *out = floats(N * Kp);
    float *w = floats(G * H * tokens), *bias = floats(G * up16(H)), *turned = floats(tokens * G * up16(H)), *dw = floats(G * H * tokens);
    RUN_OP(1, LIST(N, K, K, Kp), LIST(table, x, which));
    RUN_OP(22, LIST(N, Kp, Kp, Kp, N, 3, next_number() % 2), LIST(x, out, clock), 0.4);
    RUN_OP(24, LIST(N, Kp), LIST(x, out), 0.1);
    RUN_OP(10, LIST(N, Kp, K, K), LIST(out, sum, which));
    RUN_OP(11, LIST(tokens, G, H), LIST(w, bias, turned));
    RUN_OP(12, LIST(tokens, G, H), LIST(turned, dw, order));
    see(x, N * Kp * 4), see(out, N * Kp * 4), see(sum, tokens * K * 4), see(turned, tokens * G * up16(H) * 4), see(dw, G * H * tokens * 4);
}

static double *wide_rows(int64_t rows, int64_t columns) {
    double *x = doubles(rows * up16(columns));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) x[i * up16(columns) + j] = (double)next_number() / 1073741824. - 1. + next_number() * 1e-19;
    return x;
}

static void draws(void) {
    int64_t rows = between(1, 20), tokens = between(1, 200), K = between(1, 40), H = between(1, 70), blocks = (tokens + 63) / 64;
    int64_t gates[] = {1, 3, 4}, G = gates[next_number() % 3], Hp = up16(H), wide = G * Hp, Vp = up16(tokens), relu = next_number() % 2;
    int64_t *which = ids(rows, tokens), *drawn = in_order(rows), *certain = in_order(rows), table = next_number() % 2;
    float *words = floats(tokens * K), *w = floats(G * H * K), *u = floats(G * H * H), *o = floats(tokens * H);
    for (int64_t i = 0; i < G * H * H; i++) u[i] *= 0.2f;
    float *laid = floats(wide * K), *laid_u = floats(wide * H), *laid_o = floats(Vp * H), *bias = floats(blocks * 64), *may = zeros(blocks * 64);
    double *x = doubles(rows * up16(K)), *b = wide_rows(G, H), *rest = wide_rows(1, H), *g = wide_rows(table ? tokens : rows, G * Hp);
    double *h = wide_rows(rows, H), *c = wide_rows(rows, H), *work = doubles(rows * wide), *exact_bias = wide_rows(1, tokens), *scores = doubles(rows * Vp);
    double *shift = doubles(2 * rows), *wrong = doubles(2 * rows), *sums = doubles(rows * 4 * blocks), shares[2] = {0.25, 0.75};
    double *numbers = doubles(rows), *log_p = doubles(rows), warmth = next_number() % 2 ? 1 : 1.7;
    float *narrow[2] = {floats(rows * Hp), floats(rows * Hp)};
    for (int64_t i = 0; i < blocks * 64; i++) may[i] = i < tokens && next_number() % 9, bias[i] = i < tokens ? bias[i] : -1e30f;
    for (int64_t i = 0; i < rows; i++) numbers[i] = (double)next_number() / 2147483648.;
    RUN_OP(3, LIST(G, H, K), LIST(w, laid));
    RUN_OP(3, LIST(G, H, H), LIST(u, laid_u));
    RUN_OP(3, LIST(1, tokens, H), LIST(o, laid_o));
    RUN_OP(29, LIST(K, up16(K)), LIST(&rows, words, which, x));
    if (!table) RUN_OP(30, LIST(K, up16(K), G, H), LIST(&rows, x, laid, b, g));
    RUN_OP(31, LIST(H, G, relu), LIST(&rows, g, table ? which : NULL, laid_u, rest, h, c, work));
    RUN_OP(32, LIST(tokens, H), LIST(&rows, h, laid_o, exact_bias, scores));
    int64_t plain = warmth == 1 && next_number() % 2;
    Op ops[5] = {{.code = 33, .n = {H}, .p = {&rows, h, narrow[0], shift, wrong}, .f = {3, 30}}};
    ops[1] = ops[0], ops[1].p[2] = narrow[1], ops[1].p[3] = shift + rows, ops[1].p[4] = wrong + rows;
    for (int64_t k = 0; k < 2; k++) {
        Op of = {.code = 34, .n = {tokens, H, k, 2, plain}, .p = {&rows, narrow[k], laid_o, bias, may, shift + k * rows, sums}, .f = {warmth}};
        ops[2 + k] = of;
    }
    Op pick = {.code = 35, .n = {2, tokens, rows}, .p = {&rows, shares, numbers, wrong, drawn, log_p, certain}, .f = {1.7}};
    ops[4] = pick;
    if (terry_kernels_run(level, ops, 5, threads)) puts("failed"), exit(1);
    see(x, rows * up16(K) * 8), see(h, rows * Hp * 8), see(c, rows * Hp * 8), see(scores, rows * Vp * 8), see(sums, rows * 4 * blocks * 8);
    see(drawn, rows * 8), see(certain, rows * 8), see(log_p, rows * 8);
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    level = atoi(argv[1]), threads = atoi(argv[4]);
    if (level > terry_kernels_level()) return 3;
    for (long i = atol(argv[2]), end = i + atol(argv[3]); i < end; i++) {
        state = (uint64_t)i * 2654435761u + 1;
        void (*kinds[])(void) = {recurrence, softmax, updates, rows_by_id, draws};
        kinds[i % 5]();
        while (made_count) free(made[--made_count]);
    }
    printf("%016llx\n", (unsigned long long)hash);
    return 0;
}
