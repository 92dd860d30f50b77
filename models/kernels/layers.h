/* What stands around the recurrence: rows looked up, weights laid out, inputs projected, gradients of weights. */

/* Whether all ids are from 0 to below the limit. The only operation that fails, so it comes first in a list. */
static int check_ids(const Op *op, int part, int parts) {
    const int64_t *ids = op->p[0];
    (void)parts;
    if (part) return OK;
    for (int64_t i = 0; i < op->n[0]; i++)
        if (ids[i] < 0 || ids[i] >= op->n[1]) return BAD_ID;
    return OK;
}

/* Rows of `from` (distance n[1], n[2] numbers) to rows of `to` (distance n[3]), zeros behind them; by ids, if given. */
static int copy_rows(const Op *op, int part, int parts) {
    const float *from = op->p[0];
    float *to = op->p[1];
    const int64_t *ids = op->p[2];
    int64_t columns = op->n[2], row = op->n[3], fill = min_(row, padded(columns)) - columns;
    for (int64_t i = share_begin(op->n[0], part, parts); i < share_begin(op->n[0], part + 1, parts); i++) {
        memcpy(to + i * row, from + (ids ? ids[i] : i) * op->n[1], (size_t)columns * sizeof(float));
        if (fill > 0) memset(to + i * row + columns, 0, (size_t)fill * sizeof(float));
    }
    return OK;
}

static int zero(const Op *op, int part, int parts) {
    float *to = op->p[0];
    const int64_t *count = op->p[1];
    if (count && *count >= op->n[1]) return OK; /* every row will be written */
    int64_t begin = share_begin(op->n[0], part, parts), end = share_begin(op->n[0], part + 1, parts);
    memset(to + begin, 0, (size_t)(end - begin) * sizeof(float));
    return OK;
}

/* Weights (G H, K) as torch has them, for products with rows of K numbers: gate by gate. */
static int lay_out_forward(const Op *op, int part, int parts) {
    int64_t G = op->n[0], H = op->n[1], K = op->n[2];
    const float *w = op->p[0];
    float *out = op->p[1];
    for (int64_t g = 0; g < G; g++) pack(K, H, w + g * H * K, 1, K, out + g * padded(H) * K, part, parts);
    return OK;
}

/* The same for products with rows of slopes: B[G Hp][K padded], its gates in the order p[2]. */
static int lay_out_backward(const Op *op, int part, int parts) {
    int64_t G = op->n[0], H = op->n[1], columns = op->n[2], Hp = padded(H), K = G * Hp, Np = padded(columns);
    const float *w = op->p[0];
    float *out = op->p[1];
    const int64_t *order = op->p[2];
    int64_t count = (Np + NR - 1) / NR;
    for (int64_t q = share_begin(count, part, parts); q < share_begin(count, part + 1, parts); q++) {
        int64_t j0 = q * NR, width = panel_width(columns, j0), valid = min_(width, columns - j0);
        if (valid < 0) valid = 0;
        float *o = out + j0 * K;
        for (int64_t g = 0; g < G; g++)
            for (int64_t u = 0; u < Hp; u++, o += width) {
                int64_t given = u < H ? valid : 0;
                if (given) memcpy(o, w + (order[g] * H + u) * columns + j0, (size_t)given * sizeof(float));
                memset(o + given, 0, (size_t)(width - given) * sizeof(float));
            }
    }
    return OK;
}

/* Biases of a layer, padded: those of inputs, with the recurrent ones of the first n[2] gates; the rest of these to p[3]. */
static int lay_out_bias(const Op *op, int part, int parts) {
    int64_t G = op->n[0], H = op->n[1], both = op->n[2], Hp = padded(H);
    const float *ih = op->p[0], *hh = op->p[1];
    float *out = op->p[2], *rest = op->p[3];
    (void)parts;
    if (part) return OK;
    for (int64_t g = 0; g < G; g++)
        for (int64_t u = 0; u < Hp; u++) {
            int64_t i = g * H + u;
            out[g * Hp + u] = u >= H ? 0.f : g < both ? ih[i] + hh[i] : ih[i];
            if (g >= both) rest[u] = u >= H ? 0.f : hh[i];
        }
    return OK;
}

/* (M, G Hp) = bias + A (M, K) W, W from lay_out_forward. */
static int project(const Op *op, int part, int parts) {
    int64_t M = op->n[0], K = op->n[1], row = op->n[2], G = op->n[3], Hp = padded(op->n[4]);
    int64_t begin = share_begin(M, part, parts), end = share_begin(M, part + 1, parts);
    const float *a = op->p[0], *w = op->p[1], *bias = op->p[2];
    float *c = op->p[3];
    for (int64_t g = 0; g < G; g++)
        product_block(end - begin, Hp, K, (Strided){a + begin * row, row, 1}, packed(w + g * Hp * K, K),
                      (Start){bias + g * Hp, 0}, c + begin * G * Hp + g * Hp, G * Hp);
    return OK;
}

/* (M, columns) = or += A (M, K, row distance n[2]) W, W from lay_out_backward; columns need not be padded in C. */
static int project_back(const Op *op, int part, int parts) {
    int64_t M = op->n[0], K = op->n[1], row = op->n[2], columns = op->n[3], ldc = op->n[4];
    int64_t begin = share_begin(M, part, parts), end = share_begin(M, part + 1, parts);
    const float *a = op->p[0], *w = op->p[1];
    float *c = (float *)op->p[2] + begin * ldc;
    product_block(end - begin, columns, K, (Strided){a + begin * row, row, 1}, packed(w, K),
                  (Start){op->n[5] ? c : NULL, ldc}, c, ldc);
    return OK;
}

/* Gradient of weights (G H, columns): slopes^T X over all rows, the slopes' gates in the order p[3]. */
static int weight_slopes(const Op *op, int part, int parts) {
    int64_t N = op->n[0], G = op->n[1], H = op->n[2], row = op->n[3], columns = op->n[4], x_row = op->n[5];
    const float *d = op->p[0], *x = op->p[1];
    float *out = op->p[2];
    const int64_t *order = op->p[3];
    int64_t units = (H + MR - 1) / MR, Hp = padded(H);
    for (int64_t g = 0; g < G; g++) {
        int64_t u0 = min_(H, share_begin(units, part, parts) * MR), u1 = min_(H, share_begin(units, part + 1, parts) * MR);
        if (u1 > u0)
            product(u1 - u0, columns, N, (Strided){d + g * Hp + u0, 1, row}, direct(x, x_row), (Start){0, 0},
                    out + (order[g] * H + u0) * columns, columns);
    }
    return OK;
}

/* Gradient of biases: slopes added up over all rows, to p[1] and p[2] (either may be NULL). */
static int bias_slopes(const Op *op, int part, int parts) {
    int64_t N = op->n[0], G = op->n[1], H = op->n[2], row = op->n[3], Hp = padded(H), vectors = Hp / ALIGN;
    const float *d = op->p[0];
    float *one = op->p[1], *other = op->p[2];
    const int64_t *order = op->p[3];
    for (int64_t i = share_begin(G * vectors, part, parts); i < share_begin(G * vectors, part + 1, parts); i++) {
        int64_t g = i / vectors, u = i % vectors * ALIGN, valid = min_(ALIGN, H - u);
        float sums[ALIGN] = {0};
        for (int64_t l = 0; l < ALIGN; l += V) {
            vf sum = splat(0.f);
            for (int64_t n = 0; n < N; n++) sum += load(d + n * row + g * Hp + u + l);
            store(sums + l, sum);
        }
        for (int64_t l = 0; l < valid; l++) {
            if (one) one[order[g] * H + u + l] = sums[l];
            if (other) other[order[g] * H + u + l] = sums[l];
        }
    }
    return OK;
}

/* to[ids[n]] += from[n], in the order of n; threads take columns. */
static int scatter(const Op *op, int part, int parts) {
    int64_t N = op->n[0], row = op->n[1], columns = op->n[2], to_row = op->n[3];
    const float *from = op->p[0];
    float *to = op->p[1];
    const int64_t *ids = op->p[2];
    int64_t units = (columns + ALIGN - 1) / ALIGN;
    int64_t begin = share_begin(units, part, parts) * ALIGN, end = min_(columns, share_begin(units, part + 1, parts) * ALIGN);
    for (int64_t n = 0; n < N; n++) {
        const float *f = from + n * row;
        float *t = to + ids[n] * to_row;
        int64_t j = begin;
        for (; j + V <= end; j += V) store(t + j, load(t + j) + load(f + j));
        for (; j < end; j++) t[j] += f[j];
    }
    return OK;
}

/* One-hot inputs: the table of projected rows is the weights, turned, and the bias. (tokens, G Hp). */
static int turn_forward(const Op *op, int part, int parts) {
    int64_t tokens = op->n[0], G = op->n[1], H = op->n[2], Hp = padded(H);
    const float *w = op->p[0], *bias = op->p[1];
    float *out = op->p[2];
    for (int64_t v = share_begin(tokens, part, parts); v < share_begin(tokens, part + 1, parts); v++)
        for (int64_t g = 0; g < G; g++)
            for (int64_t u = 0; u < Hp; u++)
                out[(v * G + g) * Hp + u] = u < H ? w[(g * H + u) * tokens + v] + bias[g * Hp + u] : 0.f;
    return OK;
}

static int turn_backward(const Op *op, int part, int parts) {
    int64_t tokens = op->n[0], G = op->n[1], H = op->n[2], Hp = padded(H);
    const float *d = op->p[0];
    float *out = op->p[1];
    const int64_t *order = op->p[2];
    for (int64_t i = share_begin(G * H, part, parts); i < share_begin(G * H, part + 1, parts); i++) {
        int64_t g = i / H, u = i % H;
        for (int64_t v = 0; v < tokens; v++) out[(order[g] * H + u) * tokens + v] = d[(v * G + g) * Hp + u];
    }
    return OK;
}
