/* Dropout by a counter-based generator, penalties, lengths, and the optimizers' updates. */

/* Philox4x32-10 (Salmon et al. 2011): four numbers of 32 bits for each counter and key. 16 counters at once. */
#define PHILOX 16
static void philox(uint32_t x[4][PHILOX], uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        for (int i = 0; i < PHILOX; i++) {
            uint64_t a = (uint64_t)0xD2511F53u * x[0][i], b = (uint64_t)0xCD9E8D57u * x[2][i];
            uint32_t y = x[1][i], w = x[3][i];
            x[0][i] = (uint32_t)(b >> 32) ^ y ^ k0;
            x[1][i] = (uint32_t)b;
            x[2][i] = (uint32_t)(a >> 32) ^ w ^ k1;
            x[3][i] = (uint32_t)a;
        }
}

/* Factors of 64 numbers from `first` (a multiple of 64): 0 or 1 / (1 - share). */
static void mask64(uint64_t first, uint64_t seed, uint64_t step, uint32_t site, uint32_t limit, float keep, float *out) {
    uint32_t x[4][PHILOX];
    for (int i = 0; i < PHILOX; i++) {
        uint64_t c = first / 4 + (uint64_t)i;
        x[0][i] = (uint32_t)c, x[1][i] = (uint32_t)(c >> 32) ^ (site << 16), x[2][i] = (uint32_t)step;
        x[3][i] = (uint32_t)(step >> 32);
    }
    philox(x, (uint32_t)seed, (uint32_t)(seed >> 32));
    for (int i = 0; i < PHILOX; i++)
        for (int j = 0; j < 4; j++) out[4 * i + j] = x[j][i] < limit ? 0.f : keep;
}

/* to = from with dropout, (rows, n[1] numbers). The mask of row i is that of row i % period: period = batch keeps it
   over time. n[6]: one factor for a whole row. f[0]: share. p[2]: seed and step. */
static int dropout(const Op *op, int part, int parts) {
    int64_t rows = op->n[0], columns = op->n[1], from_row = op->n[2], to_row = op->n[3], period = op->n[4];
    const float *from = op->p[0];
    float *to = op->p[1];
    const int64_t *clock = op->p[2];
    float keep = (float)(1 / (1 - op->f[0])), mask[64];
    uint32_t limit = (uint32_t)(op->f[0] * 4294967296.0), site = (uint32_t)op->n[5];
    uint64_t seed = (uint64_t)clock[0], step = (uint64_t)clock[1], width = (uint64_t)(columns + 63) / 64 * 64;
    for (int64_t i = share_begin(rows, part, parts); i < share_begin(rows, part + 1, parts); i++) {
        const float *f = from + i * from_row;
        float *t = to + i * to_row;
        uint64_t row = (uint64_t)(i % period);
        if (op->n[6]) {
            mask64(row / 64 * 64, seed, step, site, limit, keep, mask);
            for (int64_t j = 0; j < columns; j++) t[j] = f[j] * mask[row % 64];
            continue;
        }
        for (int64_t j = 0; j < columns; j += 64) {
            mask64(row * width + (uint64_t)j, seed, step, site, limit, keep, mask);
            int64_t most = min_(64, columns - j);
            for (int64_t l = 0; l < most; l++) t[j + l] = f[j + l] * mask[l];
        }
    }
    return OK;
}

/* d += factor x, f[0] the factor: the gradient of a mean of squares. */
static int add_scaled(const Op *op, int part, int parts) {
    const float *x = op->p[0];
    float *d = op->p[1];
    vf factor = splat((float)op->f[0]);
    int64_t units = (op->n[0] + ALIGN - 1) / ALIGN;
    int64_t i = share_begin(units, part, parts) * ALIGN, end = min_(op->n[0], share_begin(units, part + 1, parts) * ALIGN);
    for (; i + V <= end; i += V) store(d + i, fma_(load(x + i), factor, load(d + i)));
    if (i < end) {
        float e[2][V] = {{0}};
        size_t bytes = (size_t)(end - i) * sizeof(float);
        memcpy(e[0], x + i, bytes), memcpy(e[1], d + i, bytes);
        store(e[1], fma_(load(e[0]), factor, load(e[1])));
        memcpy(d + i, e[1], bytes);
    }
    return OK;
}

/* The gradient of the mean square of the change from step to step: x (T, row), row = n[1] padded numbers. */
static int add_changes(const Op *op, int part, int parts) {
    int64_t T = op->n[0], row = op->n[1];
    const float *x = op->p[0];
    float *d = op->p[1];
    vf factor = splat((float)op->f[0]);
    for (int64_t t = share_begin(T, part, parts); t < share_begin(T, part + 1, parts); t++)
        for (int64_t j = 0; j < row; j += V) {
            const float *at = x + t * row + j;
            vf change = splat(0.f);
            if (t) change += load(at) - load(at - row);
            if (t + 1 < T) change -= load(at + row) - load(at);
            store(d + t * row + j, fma_(change, factor, load(d + t * row + j)));
        }
    return OK;
}

#define PIECE 4096 /* numbers whose squares are added up in float32, in 16 lanes */
static int squares(const Op *op, int part, int parts) {
    int64_t count = op->n[0], pieces = (count + PIECE - 1) / PIECE;
    const float *x = op->p[0];
    double *out = op->p[1];
    for (int64_t q = share_begin(pieces, part, parts); q < share_begin(pieces, part + 1, parts); q++) {
        float lanes[16] = {0};
        int64_t i = q * PIECE, end = min_(count, i + PIECE);
        vf sums[16 / V];
        for (int l = 0; l < 16 / V; l++) sums[l] = splat(0.f);
        for (; i + 16 <= end; i += 16)
            for (int l = 0; l < 16 / V; l++) {
                vf a = load(x + i + l * V);
                sums[l] = fma_(a, a, sums[l]);
            }
        for (int l = 0; l < 16 / V; l++) store(lanes + l * V, sums[l]);
        for (int l = 0; i < end; i++, l++) lanes[l] += x[i] * x[i];
        out[q] = sum16(lanes);
    }
    return OK;
}

/* Length of the whole gradient to p[1], and what it is multiplied by to be no longer than f[0], as torch computes it. */
static int clip(const Op *op, int part, int parts) {
    const double *x = op->p[0];
    double *length = op->p[1], *factor = op->p[2], sum = 0;
    (void)parts;
    if (part) return OK;
    for (int64_t i = 0; i < op->n[0]; i++) sum += x[i];
    *length = sqrt(sum);
    double wanted = op->f[0] / (*length + 1e-6);
    *factor = wanted < 1 || wanted != wanted ? wanted : 1;
    return OK;
}

/* Updates. p: weights, gradient, two memories, numbers = [factor of the gradient, rate, Adam's rate of this step, root of
   its second correction]. f: what does not change. */
enum { SGD, NESTEROV, RMSPROP, ADAM, ADAMW };

typedef struct {
    vf factor, rate, adam, root, decay, a, b, eps, less_a, less_b, shrink;
} Rule;

INLINE vf moved(int kind, const Op *op, const Rule *r, vf w, vf g, float *m, float *v) {
    g = g * r->factor;
    if (kind == ADAMW) w = w * r->shrink;
    else if (op->f[0] != 0) g = fma_(r->decay, w, g);
    if (kind == SGD || kind == NESTEROV) {
        if (m) {
            vf buffer = fma_(r->a, load(m), g);
            store(m, buffer);
            g = kind == NESTEROV ? fma_(r->a, buffer, g) : buffer;
        }
        return fma_(-r->rate, g, w);
    }
    if (kind == RMSPROP) {
        vf mean = fma_(g * g, r->less_b, load(v) * r->b), move = g / (sqrt_(mean) + r->eps);
        store(v, mean);
        if (m) {
            move = fma_(r->a, load(m), move);
            store(m, move);
        }
        return fma_(-r->rate, move, w);
    }
    vf first = fma_(g - load(m), r->less_a, load(m)), second = fma_(g * g, r->less_b, load(v) * r->b);
    store(m, first), store(v, second);
    return fma_(-r->adam, first / (sqrt_(second) / r->root + r->eps), w);
}

INLINE void update_kind(const int kind, const Op *op, int64_t begin, int64_t end) {
    float *w = op->p[0], *g = op->p[1], *m = op->p[2], *v = op->p[3];
    const double *x = op->p[4], *f = op->f;
    Rule r = {splat((float)x[0]), splat((float)x[1]), splat((float)x[2]), splat((float)x[3]), splat((float)f[0]),
              splat((float)f[1]), splat((float)f[2]), splat((float)f[3]), splat((float)(1 - f[1])),
              splat((float)(1 - f[2])), splat((float)(1 - x[1] * f[0]))};
    int64_t i = begin;
    for (; i + V <= end; i += V)
        store(w + i, moved(kind, op, &r, load(w + i), load(g + i), m ? m + i : NULL, v ? v + i : NULL));
    if (i < end) {
        float e[4][V];
        size_t bytes = (size_t)(end - i) * sizeof(float);
        memset(e, 0, sizeof e);
        memcpy(e[0], w + i, bytes), memcpy(e[1], g + i, bytes);
        if (m) memcpy(e[2], m + i, bytes);
        if (v) memcpy(e[3], v + i, bytes);
        store(e[0], moved(kind, op, &r, load(e[0]), load(e[1]), m ? e[2] : NULL, v ? e[3] : NULL));
        memcpy(w + i, e[0], bytes);
        if (m) memcpy(m + i, e[2], bytes);
        if (v) memcpy(v + i, e[3], bytes);
    }
}

static int update(const Op *op, int part, int parts) {
    int64_t units = (op->n[0] + ALIGN - 1) / ALIGN;
    int64_t begin = share_begin(units, part, parts) * ALIGN, end = min_(op->n[0], share_begin(units, part + 1, parts) * ALIGN);
    switch (op->n[1]) {
    case SGD: update_kind(SGD, op, begin, end); break;
    case NESTEROV: update_kind(NESTEROV, op, begin, end); break;
    case RMSPROP: update_kind(RMSPROP, op, begin, end); break;
    case ADAM: update_kind(ADAM, op, begin, end); break;
    default: update_kind(ADAMW, op, begin, end);
    }
    return OK;
}

/* average += (weights - average) * share, share = *p[2]. */
static int average(const Op *op, int part, int parts) {
    const float *w = op->p[0];
    float *a = op->p[1], share = (float)*(const double *)op->p[2];
    for (int64_t i = share_begin(op->n[0], part, parts); i < share_begin(op->n[0], part + 1, parts); i++)
        a[i] = a[i] + (w[i] - a[i]) * share;
    return OK;
}
