/* The same in float64, for drawing texts: half as many lanes in a register, products and sums rounded one by one (a fused
   multiply-add in float64 could not be had without hardware for it). Weights are float32 and become float64 on their way. */
typedef double vd __attribute__((vector_size(4 * V)));
typedef int64_t vl __attribute__((vector_size(4 * V)));
typedef uint64_t vul __attribute__((vector_size(4 * V)));
typedef double vd_any __attribute__((vector_size(4 * V), aligned(8), may_alias));
typedef float vh __attribute__((vector_size(2 * V)));
typedef float vh_any __attribute__((vector_size(2 * V), aligned(4), may_alias));
#define VD (V / 2)

INLINE vd load_d(const double *p) { return *(const vd_any *)p; }
INLINE void store_d(double *p, vd x) { *(vd_any *)p = x; }
INLINE vd splat_d(double x) { return x - (vd){0}; }
INLINE vd widened(const float *p) { return __builtin_convertvector(*(const vh_any *)p, vd); }
INLINE vd choose_d(vl mask, vd yes, vd no) { return (vd)(((vl)yes & mask) | ((vl)no & ~mask)); }

/* exp, 0 below -700, its value at 700 above; NaN stays NaN. ln 2 in two parts (Cephes), then its series to degree 13,
   whose rest is below 5e-18 up to ln(2) / 2. */
INLINE vd exp_d(vd x) {
    vd y = choose_d(x > splat_d(700.), splat_d(700.), x);
    y = choose_d(y < splat_d(-700.), splat_d(-700.), y);
    vd magic = splat_d(6755399441055744.), t = y * splat_d(1.4426950408889634) + magic, n = t - magic;
    vd f = (y - n * splat_d(6.93145751953125e-1)) - n * splat_d(1.42860682030941723212e-6);
    vd p = splat_d(1. / 6227020800);
    static const double inverse[] = {1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320, 1. / 5040,
                                     1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2, 1., 1.};
    for (int i = 0; i < 13; i++) p = p * f + splat_d(inverse[i]);
    vd scale = (vd)(((vul)t << 52) + (vul)((vl){0} + (1023ll << 52)));
    return choose_d(x < splat_d(-700.), splat_d(0.), p * scale);
}
INLINE vd sigmoid_d(vd x) { return splat_d(1.) / (splat_d(1.) + exp_d(-x)); }
/* To 1e-16 absolute, which is all that a state takes of it. */
INLINE vd tanh_d(vd x) {
    vd e = exp_d(x + x);
    return (e - splat_d(1.)) / (e + splat_d(1.));
}

/* C[rows][vectors * V] = start + A B, one chain over k for each element; B float32 with bs from k to k. */
INLINE void tile_d(const int rows, const int vectors, int64_t K, const double *a, int64_t rs, const float *b, int64_t bs,
                   const double *const *start, double *const *c) {
    vd acc[MR][2 * NV];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 2 * vectors; j++) acc[i][j] = load_d(start[i] + j * VD);
    for (int64_t k = 0; k < K; k++, b += bs) {
        vd bv[2 * NV];
        for (int j = 0; j < 2 * vectors; j++) bv[j] = widened(b + j * VD);
        for (int i = 0; i < rows; i++) {
            vd x = splat_d(a[i * rs + k]);
            for (int j = 0; j < 2 * vectors; j++) acc[i][j] += x * bv[j];
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 2 * vectors; j++) store_d(c[i] + j * VD, acc[i][j]);
}

typedef void (*TileFnD)(int64_t, const double *, int64_t, const float *, int64_t, const double *const *, double *const *);
#define TILE_D(R, C)                                                                                                  \
    static void tile_d_##R##_##C(int64_t K, const double *a, int64_t rs, const float *b, int64_t bs,                  \
                                 const double *const *start, double *const *c) {                                      \
        tile_d(R, C, K, a, rs, b, bs, start, c);                                                                      \
    }
TILE_D(1, 1) TILE_D(2, 1) TILE_D(3, 1) TILE_D(4, 1) TILE_D(5, 1) TILE_D(6, 1) TILE_D(1, 2)
#if NV == 4
TILE_D(1, 4)
#define WIDEST tile_d_1_4
#else
#define WIDEST tile_d_1_2
#endif
static const TileFnD tiles_d[MR] = {tile_d_1_1, tile_d_2_1, tile_d_3_1, tile_d_4_1, tile_d_5_1, tile_d_6_1};

/* rows <= MR and one panel of `width` columns, a multiple of V. */
static void panel_d(int rows, int64_t width, int64_t K, const double *a, int64_t rs, const float *b,
                    const double *const *start, double *const *c) {
    if (rows == 1 && width == NR) {
        WIDEST(K, a, rs, b, width, start, c);
        return;
    }
    for (int64_t j = 0; j < width; j += V) {
        const double *from[MR];
        double *to[MR];
        for (int r = 0; r < rows; r++) from[r] = start[r] + j, to[r] = c[r] + j;
        tiles_d[rows - 1](K, a, rs, b + j, width, from, to);
    }
}

/* C[M][Np] = start + A[M][K] B, B in packed panels, Np a multiple of V; start: one row for all. */
static void product_d(int64_t M, int64_t Np, int64_t K, const double *a, int64_t rs, const float *b, const double *start,
                      double *c, int64_t ldc) {
    for (int64_t i = 0; i < M; i += MR)
        for (int64_t j = 0; j < Np; j += NR) {
            int rows = (int)min_(MR, M - i);
            const double *from[MR];
            double *to[MR];
            for (int r = 0; r < rows; r++) from[r] = start + j, to[r] = c + (i + r) * ldc + j;
            panel_d(rows, min_(NR, Np - j), K, a + i * rs, rs, b + j * K, from, to);
        }
}
