/* RNN, GRU and LSTM over a sequence. Row t * B + b of an array belongs to step t of text b; rows are padded to Hp, the
   padding stays 0. `states` has one step more than the others: h_0 first. Threads take rows of the batch. */

typedef struct {
    int64_t T, B, H, Hp, G, relu;
    const float *x;       /* inputs' part of the gates, (rows, G Hp) */
    const int64_t *ids;   /* row of x for each step and text; NULL: its own */
    float *states, *gates, *cells, *inner;
    const float *weight, *bias; /* packed; of the GRU's W_n h */
} Forward;

INLINE Forward forward_of(const Op *op) {
    return (Forward){op->n[0], op->n[1], op->n[2], padded(op->n[2]), op->n[3], op->n[4],
                     op->p[0], op->p[1], op->p[2], op->p[3], op->p[4], op->p[5], op->p[6], op->p[7]};
}

/* The product of one gate for rows i .. i + rows: start + h W. */
INLINE void gate_product(const Forward *s, int gate, int rows, const float *h, const float *const *start,
                         float *const *to) {
    for (int64_t j = 0; j < s->Hp; j += NR) {
        const float *from[MR];
        float *out[MR];
        for (int r = 0; r < rows; r++) from[r] = start[r] + j, out[r] = to[r] + j;
        int64_t width = min_(NR, s->Hp - j);
        any_tile(rows, width, s->H, (Strided){h, s->Hp, 1}, s->weight + (gate * s->Hp + j) * s->H, width, from, out);
    }
}

INLINE void rnn_row(const Forward *s, const float *g, float *h) {
    for (int64_t j = 0; j < s->Hp; j += V) {
        vf x = load(g + j);
        store(h + j, s->relu ? choose(x < splat(0.f), splat(0.f), x) : tanh_(x));
    }
}

INLINE void gru_row(const Forward *s, float *g, const float *x, const float *q, const float *before, float *h) {
    for (int64_t j = 0, H = s->Hp; j < H; j += V) {
        vf r = sigmoid_(load(g + j)), z = sigmoid_(load(g + H + j));
        vf n = tanh_(fma_(r, load(q + j), load(x + 2 * H + j)));
        store(g + j, r), store(g + H + j, z), store(g + 2 * H + j, n);
        store(h + j, fma_(z, load(before + j) - n, n));
    }
}

INLINE void lstm_row(const Forward *s, float *g, const float *before, float *cell, float *squashed, float *h) {
    for (int64_t j = 0, H = s->Hp; j < H; j += V) {
        vf i = sigmoid_(load(g + j)), f = sigmoid_(load(g + H + j)), o = sigmoid_(load(g + 3 * H + j));
        vf a = tanh_(load(g + 2 * H + j)), c = fma_(f, load(before + j), i * a), t = tanh_(c);
        store(g + j, i), store(g + H + j, f), store(g + 2 * H + j, a), store(g + 3 * H + j, o);
        store(cell + j, c), store(squashed + j, t), store(h + j, o * t);
    }
}

static int recurrence_forward(const Op *op, int part, int parts) {
    Forward s = forward_of(op);
    int64_t begin = share_begin(s.B, part, parts), end = share_begin(s.B, part + 1, parts);
    for (int64_t t = 0; t < s.T; t++)
        for (int64_t i = begin; i < end; i += MR) {
            int rows = (int)min_(MR, end - i);
            int64_t n = t * s.B + i;
            const float *x[MR], *start[MR], *h = s.states + n * s.Hp;
            float *to[MR];
            for (int r = 0; r < rows; r++) x[r] = s.x + (s.ids ? s.ids[n + r] : n + r) * s.G * s.Hp;
            for (int gate = 0; gate < s.G; gate++) {
                int inner = s.G == 3 && gate == 2;
                for (int r = 0; r < rows; r++) {
                    start[r] = inner ? s.bias : x[r] + gate * s.Hp;
                    to[r] = inner ? s.inner + (n + r) * s.Hp : s.gates + (n + r) * s.G * s.Hp + gate * s.Hp;
                }
                gate_product(&s, gate, rows, h, start, to);
            }
            for (int r = 0; r < rows; r++) {
                int64_t m = (n + r) * s.Hp;
                float *g = s.gates + m * s.G, *after = s.states + s.B * s.Hp + m;
                if (s.G == 1) rnn_row(&s, g, after);
                else if (s.G == 3) gru_row(&s, g, x[r], s.inner + m, s.states + m, after);
                else lstm_row(&s, g, s.cells + m, s.cells + s.B * s.Hp + m, s.inner + m, after);
            }
        }
    return OK;
}

/* Backward. `slopes` (rows, S Hp): gradients of the gates' arguments. A GRU has four: of x_n, r, z, W_n h + b_n; inputs
   have the first three, recurrent weights the last three. `carry`, `carry_c` (B, Hp): what comes from the step after. */
typedef struct {
    int64_t T, B, H, Hp, G, relu;
    const float *up, *states, *gates, *cells, *inner, *weight;
    float *slopes, *carry, *carry_c;
} Backward;

INLINE void rnn_back(const Backward *s, const float *up, const float *h, const float *dh, float *d) {
    for (int64_t j = 0; j < s->Hp; j += V) {
        vf a = load(up + j) + load(dh + j), o = load(h + j);
        store(d + j, s->relu ? choose(o <= splat(0.f), splat(0.f), a) : a * fma_(-o, o, splat(1.f)));
    }
}

INLINE void gru_back(const Backward *s, const float *up, const float *g, const float *q, const float *before, float *dh,
                     float *d) {
    vf one = splat(1.f);
    for (int64_t j = 0, H = s->Hp; j < H; j += V) {
        vf a = load(up + j) + load(dh + j), r = load(g + j), z = load(g + H + j), n = load(g + 2 * H + j);
        vf dn = a * (one - z) * fma_(-n, n, one);
        store(d + j, dn);
        store(d + H + j, dn * load(q + j) * (r * (one - r)));
        store(d + 2 * H + j, a * (load(before + j) - n) * (z * (one - z)));
        store(d + 3 * H + j, dn * r);
        store(dh + j, a * z);
    }
}

INLINE void lstm_back(const Backward *s, const float *up, const float *g, const float *squashed, const float *before,
                      const float *dh, float *dc, float *d) {
    vf one = splat(1.f);
    for (int64_t j = 0, H = s->Hp; j < H; j += V) {
        vf a = load(up + j) + load(dh + j), t = load(squashed + j);
        vf i = load(g + j), f = load(g + H + j), e = load(g + 2 * H + j), o = load(g + 3 * H + j);
        vf c = fma_(a * o, fma_(-t, t, one), load(dc + j));
        store(d + j, c * e * (i * (one - i)));
        store(d + H + j, c * load(before + j) * (f * (one - f)));
        store(d + 2 * H + j, c * i * fma_(-e, e, one));
        store(d + 3 * H + j, a * t * (o * (one - o)));
        store(dc + j, c * f);
    }
}

static int recurrence_backward(const Op *op, int part, int parts) {
    Backward s = {op->n[0], op->n[1], op->n[2], padded(op->n[2]), op->n[3], op->n[4], op->p[0], op->p[1],
                  op->p[2], op->p[3], op->p[4], op->p[5], op->p[6], op->p[7], op->p[8]};
    int64_t begin = share_begin(s.B, part, parts), end = share_begin(s.B, part + 1, parts);
    int64_t S = s.G == 3 ? 4 : s.G, K = s.G * s.Hp, recurrent = (S - s.G) * s.Hp;
    memset(s.carry + begin * s.Hp, 0, (size_t)((end - begin) * s.Hp) * sizeof(float));
    if (s.G == 4) memset(s.carry_c + begin * s.Hp, 0, (size_t)((end - begin) * s.Hp) * sizeof(float));
    for (int64_t t = s.T - 1; t >= 0; t--)
        for (int64_t i = begin; i < end; i += MR) {
            int rows = (int)min_(MR, end - i);
            for (int r = 0; r < rows; r++) {
                int64_t b = (i + r) * s.Hp, m = (t * s.B + i + r) * s.Hp;
                const float *g = s.gates + m * s.G, *after = s.states + s.B * s.Hp + m;
                float *d = s.slopes + m * S, *dh = s.carry + b;
                if (s.G == 1) rnn_back(&s, s.up + m, after, dh, d);
                else if (s.G == 3) gru_back(&s, s.up + m, g, s.inner + m, s.states + m, dh, d);
                else lstm_back(&s, s.up + m, g, s.inner + m, s.cells + m, dh, s.carry_c + b, d);
            }
            if (t == 0) continue; /* the state before the first step is not learned */
            const float *d = s.slopes + (t * s.B + i) * S * s.Hp + recurrent;
            for (int64_t j = 0; j < s.Hp; j += NR) {
                int64_t width = min_(NR, s.Hp - j);
                float *to[MR];
                for (int r = 0; r < rows; r++) to[r] = s.carry + (i + r) * s.Hp + j;
                any_tile(rows, width, K, (Strided){d, S * s.Hp, 1}, s.weight + j * K, width,
                         s.G == 3 ? (const float *const *)to : NULL, to);
            }
        }
    return OK;
}
