/* Drawing the next token of each text. The state is float64, so that it is the same wherever it is computed; scores of
   all tokens are float32, block by block, and only the sums of a block's exponentials are kept. The block in which the
   number drawn falls is computed again. Where it falls so near to a boundary between two tokens that rounding might
   decide, the row is marked, and its scores are taken in float64. All of this knows how many rows there are from *p[0]. */
#define BLOCK 64
#define NOTHING (-1e30f) /* score of a token that is not there */

INLINE int64_t rows_of(const Op *op) { return *(const int64_t *)op->p[0]; }

/* Rows of a float32 table by id, as float64 rows of n[1] numbers. */
static int draw_read(const Op *op, int part, int parts) {
    int64_t rows = rows_of(op), columns = op->n[0], row = op->n[1];
    const float *table = op->p[1];
    const int64_t *ids = op->p[2];
    double *to = op->p[3];
    for (int64_t i = share_begin(rows, part, parts); i < share_begin(rows, part + 1, parts); i++)
        for (int64_t j = 0; j < columns; j++) to[i * row + j] = table[ids[i] * columns + j];
    return OK;
}

/* Inputs' part of the gates: (rows, G Hp) = bias + x W. */
static int draw_project(const Op *op, int part, int parts) {
    int64_t rows = rows_of(op), K = op->n[0], row = op->n[1], G = op->n[2], Hp = padded(op->n[3]);
    int64_t begin = share_begin(rows, part, parts), end = share_begin(rows, part + 1, parts);
    const double *x = op->p[1], *bias = op->p[3];
    const float *w = op->p[2];
    double *gates = op->p[4];
    for (int64_t g = 0; g < G; g++)
        product_d(end - begin, Hp, K, x + begin * row, row, w + g * Hp * K, bias + g * Hp,
                  gates + begin * G * Hp + g * Hp, G * Hp);
    return OK;
}

INLINE void rnn_drawn(int64_t H, int relu, const double *g, double *h) {
    for (int64_t j = 0; j < H; j += VD) {
        vd x = load_d(g + j);
        store_d(h + j, relu ? choose_d(x < splat_d(0.), splat_d(0.), x) : tanh_d(x));
    }
}
INLINE void gru_drawn(int64_t H, const double *g, const double *x, double *h) {
    for (int64_t j = 0; j < H; j += VD) {
        vd r = sigmoid_d(load_d(g + j)), z = sigmoid_d(load_d(g + H + j));
        vd n = tanh_d(load_d(x + 2 * H + j) + r * load_d(g + 2 * H + j));
        store_d(h + j, n + z * (load_d(h + j) - n));
    }
}
INLINE void lstm_drawn(int64_t H, const double *g, double *h, double *c) {
    for (int64_t j = 0; j < H; j += VD) {
        vd i = sigmoid_d(load_d(g + j)), f = sigmoid_d(load_d(g + H + j)), o = sigmoid_d(load_d(g + 3 * H + j));
        vd cell = f * load_d(c + j) + i * tanh_d(load_d(g + 2 * H + j));
        store_d(c + j, cell), store_d(h + j, o * tanh_d(cell));
    }
}

/* One step: states (rows, Hp) in place. Gates' inputs by id, or in order; work (rows, G Hp). */
static int draw_step(const Op *op, int part, int parts) {
    int64_t rows = rows_of(op), H = op->n[0], G = op->n[1], Hp = padded(H);
    int64_t begin = share_begin(rows, part, parts), end = share_begin(rows, part + 1, parts);
    const double *gates = op->p[1], *rest = op->p[4];
    const int64_t *ids = op->p[2];
    const float *weight = op->p[3];
    double *h = op->p[5], *c = op->p[6], *work = op->p[7];
    for (int64_t i = begin; i < end; i += MR) {
        int count = (int)min_(MR, end - i);
        for (int64_t g = 0; g < G; g++)
            for (int64_t j = 0; j < Hp; j += NR) {
                const double *from[MR];
                double *to[MR];
                for (int r = 0; r < count; r++) {
                    const double *x = gates + (ids ? ids[i + r] : i + r) * G * Hp;
                    from[r] = (G == 3 && g == 2 ? rest : x + g * Hp) + j;
                    to[r] = work + (i + r) * G * Hp + g * Hp + j;
                }
                panel_d(count, min_(NR, Hp - j), H, h + i * Hp, Hp, weight + (g * Hp + j) * H, from, to);
            }
        for (int64_t r = i; r < i + count; r++) {
            const double *g = work + r * G * Hp;
            if (G == 1) rnn_drawn(Hp, (int)op->n[2], g, h + r * Hp);
            else if (G == 3) gru_drawn(Hp, g, gates + (ids ? ids[r] : r) * G * Hp, h + r * Hp);
            else lstm_drawn(Hp, g, h + r * Hp, c + r * Hp);
        }
    }
    return OK;
}

/* Scores in float64: (rows, padded tokens) = bias + h W. */
static int draw_scores(const Op *op, int part, int parts) {
    int64_t rows = rows_of(op), tokens = op->n[0], H = op->n[1], Hp = padded(H), Vp = padded(tokens);
    int64_t count = (Vp + NR - 1) / NR;
    int64_t v0 = share_begin(count, part, parts) * NR, v1 = min_(Vp, share_begin(count, part + 1, parts) * NR);
    const double *h = op->p[1], *bias = op->p[3];
    const float *weight = op->p[2];
    double *out = op->p[4];
    for (int64_t v = v0; v < v1; v += NR)
        product_d(rows, min_(NR, Vp - v), H, h, Hp, weight + v * H, bias + v, out + v, Vp);
    return OK;
}

/* States as float32; for each row what no score passes, |h| max|w| + max|b| (f: the two), and by how much the logarithm
   of a probability may be wrong: rounding of a product of H numbers taken as independent (Higham and Mary 2019), of
   sums with numbers of that size, of exponentials and of sums of 64. */
static int draw_narrow(const Op *op, int part, int parts) {
    int64_t rows = rows_of(op), H = op->n[0], Hp = padded(H);
    const double *h = op->p[1];
    float *to = op->p[2];
    double *shift = op->p[3], *wrong = op->p[4], unit = 1. / 16777216;
    for (int64_t r = share_begin(rows, part, parts); r < share_begin(rows, part + 1, parts); r++) {
        double squares = 0;
        for (int64_t j = 0; j < Hp; j++) {
            squares += h[r * Hp + j] * h[r * Hp + j];
            to[r * Hp + j] = (float)h[r * Hp + j];
        }
        double most = __builtin_sqrt(squares) * op->f[0];
        shift[r] = (float)(most + op->f[1]);
        wrong[r] = unit * (__builtin_sqrt((double)H) * most + 4 * shift[r]) + 1e-6;
    }
    return OK;
}

typedef struct {
    int64_t tokens, H, Hp, Vp, blocks, member, members, plain;
    const float *hidden, *weight, *bias, *allowed;
    const double *shift;
    double *sums; /* (rows, members, 2, blocks): of all tokens, of those that may come */
    float warmth; /* 1 / temperature */
} Draw;

INLINE Draw draw_of(const Op *op) {
    Draw d = {op->n[0], op->n[1], padded(op->n[1]), padded(op->n[0]), (op->n[0] + BLOCK - 1) / BLOCK, op->n[2], op->n[3],
              op->n[4], op->p[1], op->p[2], op->p[3], op->p[4], op->p[5], op->p[6], (float)op->f[0]};
    return d;
}

/* Scores of one block for up to MR rows. */
INLINE void block_scores(const Draw *d, int64_t v0, int rows, const float *h, float out[MR][BLOCK]) {
    for (int64_t j = 0; j < BLOCK; j += NR) {
        int64_t v = v0 + j, width = min_(NR, d->Vp - v);
        const float *from[MR];
        float *to[MR];
        for (int r = 0; r < rows; r++) from[r] = d->bias + v, to[r] = out[r] + j;
        if (width > 0) any_tile(rows, width, d->H, (Strided){h, d->Hp, 1}, d->weight + v * d->H, width, from, to);
        for (int r = 0; r < rows; r++)
            for (int64_t l = width > 0 ? width : 0; l < NR; l++) out[r][j + l] = NOTHING;
    }
}

/* Exponentials of V scores, and of those that may come. */
INLINE vf drawn_exp(const Draw *d, vf score, vf shift, const float *allowed, vf *may) {
    vf x = score - shift, e = exp_(x);
    *may = d->plain ? e : (d->warmth == 1.f ? e : exp_(x * splat(d->warmth))) * load(allowed);
    return e;
}

static int draw_sums(const Op *op, int part, int parts) {
    Draw d = draw_of(op);
    int64_t rows = rows_of(op);
    for (int64_t q = share_begin(d.blocks, part, parts); q < share_begin(d.blocks, part + 1, parts); q++)
        for (int64_t i = 0; i < rows; i += MR) {
            int count = (int)min_(MR, rows - i);
            float scores[MR][BLOCK], lanes[16];
            block_scores(&d, q * BLOCK, count, d.hidden + i * d.Hp, scores);
            for (int r = 0; r < count; r++) {
                vf shift = splat((float)d.shift[i + r]), all[16 / V], mays[16 / V], may;
                for (int l = 0; l < 16 / V; l++) all[l] = mays[l] = splat(0.f);
                for (int64_t j = 0; j < BLOCK; j += 16)
                    for (int l = 0; l < 16 / V; l++) {
                        const float *allowed = d.allowed + q * BLOCK + j + l * V;
                        all[l] += drawn_exp(&d, load(scores[r] + j + l * V), shift, allowed, &may);
                        mays[l] += may;
                    }
                double *sums = d.sums + ((i + r) * d.members + d.member) * 2 * d.blocks + q;
                for (int l = 0; l < 16 / V; l++) store(lanes + l * V, all[l]);
                sums[0] = sum16(lanes);
                for (int l = 0; l < 16 / V; l++) store(lanes + l * V, mays[l]);
                sums[d.blocks] = sum16(lanes);
            }
        }
    return OK;
}

/* One member's part of the block in which the number fell: what may come, and probabilities, each times `factor`. */
static void add_block(const Op *op, int64_t row, int64_t q, double factor, double may[BLOCK], double p[BLOCK]) {
    Draw d = draw_of(op);
    float scores[MR][BLOCK], one[V], other[V];
    block_scores(&d, q * BLOCK, 1, d.hidden + row * d.Hp, scores);
    for (int64_t j = 0; j < BLOCK; j += V) {
        vf mays;
        store(one, drawn_exp(&d, load(scores[0] + j), splat((float)d.shift[row]), d.allowed + q * BLOCK + j, &mays));
        store(other, mays);
        for (int l = 0; l < V; l++) p[j + l] += factor * one[l], may[j + l] += factor * other[l];
    }
}

typedef struct {
    int64_t members, blocks;
    const double *sums, *shares;
    double factors[64], total;
} Mixture;

/* What each member's exponentials are multiplied by, and the sum of what may come; 0 where float32 is not enough. */
static int mix(Mixture *m, int64_t row) {
    m->total = 0;
    for (int64_t k = 0; k < m->members; k++) {
        const double *sums = m->sums + (row * m->members + k) * 2 * m->blocks;
        double all = 0, may = 0;
        for (int64_t q = 0; q < m->blocks; q++) all += sums[q], may += sums[m->blocks + q];
        if (!(all > 1e-17 && may > 1e-17 && all < 1e30)) return 0;
        m->factors[k] = m->shares[k] / all;
        m->total += m->factors[k] * may;
    }
    return 1;
}

static double mixed(const Mixture *m, int64_t row, int64_t q) {
    double sum = 0;
    for (int64_t k = 0; k < m->members; k++)
        sum += m->factors[k] * m->sums[((row * m->members + k) * 2 + 1) * m->blocks + q];
    return sum;
}

/* The token of one row: 1 if it is certain. */
static int pick_row(const Op *op, int64_t row, double number, double wrong, int64_t *token, double *log_p) {
    const Op *members = op - op->n[0]; /* draw_sums of each member stand before */
    Mixture m = {op->n[0], (op->n[1] + BLOCK - 1) / BLOCK, members[0].p[6], op->p[1], {0}, 0};
    if (!mix(&m, row)) return 0;
    double wanted = number * m.total, before = 0, may[BLOCK] = {0}, p[BLOCK] = {0};
    int64_t q = 0;
    for (; q < m.blocks; q++) {
        double next = before + mixed(&m, row, q);
        if (next > wanted) break;
        before = next;
    }
    if (q == m.blocks) return 0;
    for (int64_t k = 0; k < m.members; k++) add_block(members + k, row, q, m.factors[k], may, p);
    for (int64_t v = 0; v < BLOCK; v++) {
        if (before + may[v] > wanted) {
            *token = q * BLOCK + v, *log_p = log_(p[v]);
            return wanted - before > wrong * m.total && before + may[v] - wanted > wrong * m.total;
        }
        before += may[v];
    }
    return 0;
}

/* The next token of each row, its log probability, and whether it is certain. n: members (their draw_sums come right
   before), tokens. p: shares, numbers drawn, log probability's possible error (members, n[2] rows), then the three. */
static int draw_pick(const Op *op, int part, int parts) {
    int64_t rows = rows_of(op);
    const double *numbers = op->p[2], *wrong = op->p[3];
    int64_t *tokens = op->p[4], *certain = op->p[6];
    double *log_p = op->p[5];
    for (int64_t r = share_begin(rows, part, parts); r < share_begin(rows, part + 1, parts); r++) {
        double most = 0;
        for (int64_t k = 0; k < op->n[0]; k++)
            if (!(wrong[k * op->n[2] + r] <= most)) most = wrong[k * op->n[2] + r];
        tokens[r] = 0, log_p[r] = 0;
        certain[r] = pick_row(op, r, numbers[r], most * op->f[0], tokens + r, log_p + r);
    }
    return OK;
}
