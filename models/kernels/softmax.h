/* The output layer, its softmax and its loss, for up to ROWS rows at once. Scores stand transposed, (tokens, rows): a
   row of the batch is a lane, so that no sum goes across lanes, and weights are read as they are, never turned. */
#define ROWS 128
#define TOKENS 64 /* of a block: its weights and scores stay in the nearest caches */

typedef struct {
    int64_t first, most, V_, H, Hp, Rp, gradients;
    const float *hidden;                                     /* (rows, Hp) */
    const float *weight, *bias;                              /* (tokens, H), (tokens,) */
    const int64_t *targets, *kept, *count;                   /* of kept rows; which rows; how many */
    float *scores, *turned, *rows, *block;                   /* work */
    float *d_hidden, *d_weight, *d_bias;
    double *losses;
    const double *scale; /* what each row's gradient is multiplied by */
    float *gathered;
} Softmax;

INLINE Softmax softmax_of(const Op *op) {
    Softmax s;
    float **work = op->p[7];
    memset(&s, 0, sizeof s);
    s.first = op->n[0], s.V_ = op->n[1], s.H = op->n[2], s.Hp = padded(s.H), s.gradients = op->n[3];
    s.hidden = op->p[0], s.weight = op->p[1], s.bias = op->p[2], s.targets = op->p[3], s.kept = op->p[4];
    s.count = op->p[5], s.scale = op->p[6], s.losses = op->p[11];
    s.scores = work[0], s.turned = work[1], s.rows = work[2], s.block = work[3], s.gathered = work[4];
    s.d_hidden = op->p[8], s.d_weight = op->p[9], s.d_bias = op->p[10];
    s.most = *s.count - s.first;
    s.most = s.most < 0 ? 0 : min_(s.most, ROWS);
    s.Rp = padded(s.most);
    return s;
}

/* Rows that count, beside each other and turned: panels (H, NR) of them. */
static int softmax_gather(const Op *op, int part, int parts) {
    Softmax s = softmax_of(op);
    if (part || !s.most) return OK;
    for (int64_t r = 0; r < s.Rp; r++) {
        float *to = s.gathered + r * s.Hp;
        if (r < s.most) memcpy(to, s.hidden + s.kept[s.first + r] * s.Hp, (size_t)s.Hp * sizeof(float));
        else memset(to, 0, (size_t)s.Hp * sizeof(float));
    }
    pack(s.H, s.most, s.gathered, 1, s.Hp, s.turned, 0, 1);
    (void)parts;
    return OK;
}

/* Scores of a share of the blocks, and each block's largest for each row: rows[(block, Rp)]. */
static int softmax_scores(const Op *op, int part, int parts) {
    Softmax s = softmax_of(op);
    int64_t blocks = (s.V_ + TOKENS - 1) / TOKENS;
    if (!s.most) return OK;
    for (int64_t q = share_begin(blocks, part, parts); q < share_begin(blocks, part + 1, parts); q++) {
        int64_t v0 = q * TOKENS, count = min_(TOKENS, s.V_ - v0);
        float *scores = s.scores + v0 * s.Rp, *largest = s.rows + q * s.Rp;
        product_block(count, s.Rp, s.H, (Strided){s.weight + v0 * s.H, s.H, 1}, packed(s.turned, s.H), (Start){0, 0},
                      scores, s.Rp);
        for (int64_t j = 0; j < s.Rp; j += V) {
            vf most = splat(-INFINITY);
            for (int64_t v = 0; v < count; v++) {
                vf x = load(scores + v * s.Rp + j) + splat(s.bias[v0 + v]);
                store(scores + v * s.Rp + j, x);
                most = choose(x > most, x, most);
            }
            store(largest + j, most);
        }
    }
    return OK;
}

/* Each row's largest score and its target's: behind the blocks' rows. */
static int softmax_largest(const Op *op, int part, int parts) {
    Softmax s = softmax_of(op);
    int64_t blocks = (s.V_ + TOKENS - 1) / TOKENS;
    (void)parts;
    if (part || !s.most) return OK;
    float *most = s.rows + blocks * s.Rp, *target = most + s.Rp;
    for (int64_t j = 0; j < s.Rp; j += V) {
        vf m = load(s.rows + j);
        for (int64_t q = 1; q < blocks; q++) {
            vf x = load(s.rows + q * s.Rp + j);
            m = choose(x > m, x, m);
        }
        store(most + j, m);
        store(target + j, splat(0.f));
    }
    for (int64_t r = 0; r < s.most; r++) {
        target[r] = s.scores[s.targets[s.kept[s.first + r]] * s.Rp + r];
    }
    return OK;
}

/* Exponentials in the scores' place; each block's sums for each row. */
static int softmax_exp(const Op *op, int part, int parts) {
    Softmax s = softmax_of(op);
    int64_t blocks = (s.V_ + TOKENS - 1) / TOKENS;
    if (!s.most) return OK;
    const float *most = s.rows + blocks * s.Rp;
    for (int64_t q = share_begin(blocks, part, parts); q < share_begin(blocks, part + 1, parts); q++) {
        int64_t v0 = q * TOKENS, count = min_(TOKENS, s.V_ - v0);
        float *scores = s.scores + v0 * s.Rp, *sums = s.rows + q * s.Rp;
        for (int64_t j = 0; j < s.Rp; j += V) {
            vf m = load(most + j), sum = splat(0.f);
            for (int64_t v = 0; v < count; v++) {
                vf x = exp_(load(scores + v * s.Rp + j) - m);
                store(scores + v * s.Rp + j, x);
                sum += x;
            }
            store(sums + j, sum);
        }
    }
    return OK;
}

/* Losses added up in the order of rows; what each row's exponentials are multiplied by, in the largest one's place. */
static int softmax_losses(const Op *op, int part, int parts) {
    Softmax s = softmax_of(op);
    int64_t blocks = (s.V_ + TOKENS - 1) / TOKENS;
    (void)parts;
    if (part) return OK;
    double total = s.first ? *s.losses : 0;
    float *most = s.rows + blocks * s.Rp, *target = most + s.Rp, sums[ROWS];
    for (int64_t r = 0; r < s.most; r++) {
        float sum = 0;
        for (int64_t q = 0; q < blocks; q++) sum += s.rows[q * s.Rp + r];
        total += (double)(most[r] - target[r]) + log_(sum);
        sums[r] = sum;
    }
    for (int64_t r = 0; r < s.most && s.gradients; r++) {
        s.scores[s.targets[s.kept[s.first + r]] * s.Rp + r] -= sums[r];
        most[r] = (float)*s.scale / sums[r];
    }
    for (int64_t r = s.most; r < s.Rp; r++) most[r] = 0.f;
    *s.losses = total;
    return OK;
}

/* Gradients of the scores in a share of the blocks, and of weights and bias from them; with one thread also of hidden,
   while a block is near. */
static void hidden_slopes(const Softmax *s, int64_t v0, int64_t count, int64_t r0, int64_t r1, float *block) {
    const float *weight = s->weight + v0 * s->H, *scores = s->scores + v0 * s->Rp + r0;
    if (s->H != s->Hp) {
        for (int64_t v = 0; v < count; v++) {
            memcpy(block + v * s->Hp, weight + v * s->H, (size_t)s->H * sizeof(float));
            memset(block + v * s->Hp + s->H, 0, (size_t)(s->Hp - s->H) * sizeof(float));
        }
        weight = block;
    }
    float *out = s->gathered + r0 * s->Hp + ROWS * s->Hp; /* gradients stand behind the rows themselves */
    product_block(r1 - r0, s->Hp, count, (Strided){scores, 1, s->Rp}, direct(weight, s->Hp),
                  (Start){v0 ? out : NULL, s->Hp}, out, s->Hp);
}

static int softmax_weights(const Op *op, int part, int parts) {
    Softmax s = softmax_of(op);
    int64_t blocks = (s.V_ + TOKENS - 1) / TOKENS;
    if (!s.most || !s.gradients) return OK;
    const float *scale = s.rows + blocks * s.Rp;
    for (int64_t q = share_begin(blocks, part, parts); q < share_begin(blocks, part + 1, parts); q++) {
        int64_t v0 = q * TOKENS, count = min_(TOKENS, s.V_ - v0);
        float *scores = s.scores + v0 * s.Rp;
        for (int64_t v = 0; v < count; v++) {
            float lanes[16] = {0};
            for (int64_t j = 0; j < s.Rp; j += 16)
                for (int64_t l = 0; l < 16; l += V) {
                    vf x = load(scores + v * s.Rp + j + l) * load(scale + j + l);
                    store(scores + v * s.Rp + j + l, x);
                    store(lanes + l, load(lanes + l) + x);
                }
            s.d_bias[v0 + v] = s.first ? s.d_bias[v0 + v] + sum16(lanes) : sum16(lanes);
        }
        float *d_weight = s.d_weight + v0 * s.H;
        if (s.d_weight)
            product_block(count, s.H, s.most, (Strided){scores, s.Rp, 1}, direct(s.gathered, s.Hp),
                          (Start){s.first ? d_weight : NULL, s.H}, d_weight, s.H);
        if (parts == 1) hidden_slopes(&s, v0, count, 0, s.most, s.block);
    }
    return OK;
}

/* Gradients of hidden, and all of them written where their rows came from. */
static int softmax_hidden(const Op *op, int part, int parts) {
    Softmax s = softmax_of(op);
    if (!s.most || !s.gradients) return OK;
    int64_t begin = share_begin(s.most, part, parts), end = share_begin(s.most, part + 1, parts);
    float *block = s.block + part * TOKENS * s.Hp;
    if (parts > 1)
        for (int64_t v0 = 0; v0 < s.V_; v0 += TOKENS)
            hidden_slopes(&s, v0, min_(TOKENS, s.V_ - v0), begin, end, block);
    for (int64_t r = begin; r < end; r++)
        memcpy(s.d_hidden + s.kept[s.first + r] * s.Hp, s.gathered + (ROWS + r) * s.Hp, (size_t)s.Hp * sizeof(float));
    return OK;
}
