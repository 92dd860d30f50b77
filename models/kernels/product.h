/* Products of matrices. Each element of a result is one chain of fused multiply-adds over k = 0, 1, ... from its
   starting value: tiles, panels, blocks of k and threads change the time, never a bit. */

#if LEVEL == 2 || defined(__aarch64__)
#define NV 4
#else
#define NV 2
#endif
#define MR 6
#define NR (NV * V) /* columns of a panel */
#define KB 128      /* steps of k for which a panel is read again and again */

typedef struct {
    const float *p;
    int64_t rs, cs; /* distance of rows, of columns */
} Strided;

/* C[rows][vectors * V] = start + A B. start: a row for each row (NULL: zeros). */
INLINE void tile(const int rows, const int vectors, int64_t K, const float *a, int64_t rs, int64_t cs, const float *b,
                 int64_t bs, const float *const *start, float *const *c) {
    vf acc[MR][NV];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) acc[i][j] = start ? load(start[i] + j * V) : splat(0.f);
    const float *far = a + 3 * rs;
    for (int64_t k = 0; k < K; k++, a += cs, far += cs, b += bs) {
        vf bv[NV];
        for (int j = 0; j < vectors; j++) bv[j] = load(b + j * V);
        for (int i = 0; i < rows; i++) {
            vf x = splat(i < 3 ? a[i * rs] : far[(i - 3) * rs]);
            for (int j = 0; j < vectors; j++) acc[i][j] = fma_(x, bv[j], acc[i][j]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) store(c[i] + j * V, acc[i][j]);
}

typedef void (*TileFn)(int64_t, const float *, int64_t, int64_t, const float *, int64_t, const float *const *, float *const *);
#define TILE(R, C)                                                                                                    \
    static void tile_##R##_##C(int64_t K, const float *a, int64_t rs, int64_t cs, const float *b, int64_t bs,         \
                               const float *const *start, float *const *c) {                                          \
        tile(R, C, K, a, rs, cs, b, bs, start, c);                                                                    \
    }
#define TILES(C) TILE(1, C) TILE(2, C) TILE(3, C) TILE(4, C) TILE(5, C) TILE(6, C)
#define ROW(C) {tile_1_##C, tile_2_##C, tile_3_##C, tile_4_##C, tile_5_##C, tile_6_##C}
TILES(1)
TILES(2)
#if NV == 4
TILES(3)
TILES(4)
static const TileFn tiles[NV][MR] = {ROW(1), ROW(2), ROW(3), ROW(4)};
#else
static const TileFn tiles[NV][MR] = {ROW(1), ROW(2)};
#endif

/* One tile of any size: rows <= MR, columns <= NR of which B has all vectors. Rows start and end where pointers say. */
static void any_tile(int rows, int64_t columns, int64_t K, Strided a, const float *b, int64_t bs,
                     const float *const *start, float *const *c) {
    int vectors = (int)((columns + V - 1) / V);
    if (columns == (int64_t)vectors * V) {
        tiles[vectors - 1][rows - 1](K, a.p, a.rs, a.cs, b, bs, start, c);
        return;
    }
    float edge[MR][NR];
    float *rows_of[MR] = {0};
    for (int i = 0; i < rows; i++) {
        rows_of[i] = edge[i];
        if (start)
            for (int j = 0; j < vectors * V; j++) edge[i][j] = j < columns ? start[i][j] : 0.f;
    }
    tiles[vectors - 1][rows - 1](K, a.p, a.rs, a.cs, b, bs, start ? (const float *const *)rows_of : NULL, rows_of);
    for (int i = 0; i < rows; i++) memcpy(c[i], edge[i], (size_t)columns * sizeof(float));
}

/* B as panels of NR columns. ps: from panel to panel; bs: from k to k; 0: the width of the panel (packed tightly). */
typedef struct {
    const float *p;
    int64_t ps, bs;
} Panels;

INLINE Panels direct(const float *p, int64_t row) { return (Panels){p, NR, row}; }
INLINE Panels packed(const float *p, int64_t K) { return (Panels){p, NR * K, 0}; }
INLINE int64_t panel_step(Panels b, int64_t width) { return b.bs ? b.bs : min_(NR, padded(width)); }

typedef struct {
    const float *p;
    int64_t rs; /* 0: one row for all */
} Start;

/* C[M][N] = start + A[M][K] B[K][N]; start.p NULL: zeros. C may be what it starts from. K in one block. */
static void product_block(int64_t M, int64_t N, int64_t K, Strided a, Panels b, Start start, float *c, int64_t ldc) {
    for (int64_t m0 = 0; m0 < M; m0 += 16 * MR)
        for (int64_t j = 0; j < N; j += NR) {
            int64_t width = min_(NR, N - j);
            const float *panel = b.p + j / NR * b.ps;
            for (int64_t i = m0; i < min_(M, m0 + 16 * MR); i += MR) {
                int rows = (int)min_(MR, M - i);
                const float *from[MR];
                float *to[MR];
                for (int r = 0; r < rows; r++) {
                    from[r] = start.p ? start.p + (i + r) * start.rs + j : NULL;
                    to[r] = c + (i + r) * ldc + j;
                }
                any_tile(rows, width, K, (Strided){a.p + i * a.rs, a.rs, a.cs}, panel, panel_step(b, width),
                         start.p ? from : NULL, to);
            }
        }
}

/* The same for any K; B direct. */
static void product(int64_t M, int64_t N, int64_t K, Strided a, Panels b, Start start, float *c, int64_t ldc) {
    int64_t first = min_(K, KB);
    product_block(M, N, first, a, b, start, c, ldc);
    for (int64_t k = first; k < K; k += KB) {
        Panels rest = {b.p + k * b.bs, b.ps, b.bs};
        product_block(M, N, min_(KB, K - k), (Strided){a.p + k * a.cs, a.rs, a.cs}, rest, (Start){c, ldc}, c, ldc);
    }
}

/* Panels of B[K][N padded], from w[k * rs + n * cs], zeros beyond N. */
INLINE int64_t panel_width(int64_t N, int64_t j) { return min_(NR, padded(N) - j); }
static void pack(int64_t K, int64_t N, const float *w, int64_t rs, int64_t cs, float *out, int part, int parts) {
    int64_t Np = padded(N), count = (Np + NR - 1) / NR;
    for (int64_t q = share_begin(count, part, parts); q < share_begin(count, part + 1, parts); q++) {
        int64_t j0 = q * NR, width = panel_width(N, j0), valid = min_(width, N - j0);
        float *o = out + q * NR * K;
        const float *from = w + j0 * cs;
        if (cs == 1)
            for (int64_t k = 0; k < K; k++, o += width) {
                memcpy(o, from + k * rs, (size_t)(valid > 0 ? valid : 0) * sizeof(float));
                for (int64_t j = valid > 0 ? valid : 0; j < width; j++) o[j] = 0.f;
            }
        else
            for (int64_t k = 0; k < K; k++, o += width)
                for (int64_t j = 0; j < width; j++) o[j] = j < valid ? from[k * rs + j * cs] : 0.f;
    }
}
