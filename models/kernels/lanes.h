/* Vectors of this level's width, and the few operations on them. Every lane is computed as a scalar would be, with
   IEEE 754 rounding and fused multiply-add only where `fma` is written, so that no level differs from another in a bit.
   Sums over lanes are always taken over 16 of them in one order, whatever the width. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define ALIGN 16 /* floats to which rows of internal arrays are padded, at every level */

typedef float vf __attribute__((vector_size(4 * V)));
typedef int32_t vi __attribute__((vector_size(4 * V)));
typedef uint32_t vu __attribute__((vector_size(4 * V)));
typedef float vf_any __attribute__((vector_size(4 * V), aligned(4), may_alias));

INLINE vf load(const float *p) { return *(const vf_any *)p; }
INLINE void store(float *p, vf x) { *(vf_any *)p = x; }
INLINE vf splat(float x) { return x - (vf){0}; }
INLINE vi splati(int32_t x) { return x - (vi){0}; }
INLINE vf choose(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }

#if LEVEL == 2
INLINE vf fma_(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE vf sqrt_(vf a) { return (vf)_mm512_sqrt_ps((__m512)a); }
#elif LEVEL == 1
INLINE vf fma_(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE vf sqrt_(vf a) { return (vf)_mm256_sqrt_ps((__m256)a); }
#elif defined(__aarch64__)
INLINE vf fma_(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE vf sqrt_(vf a) { return (vf)vsqrtq_f32((float32x4_t)a); }
#else
/* a*b is exact in float64. Its sum with c is rounded to odd there, which makes the rounding to float32 the right one
   (Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums"). Faster than libm's where no FMA is. */
INLINE float fma_one(float a, float b, float c) {
    double p = (double)a * b, s = p + c, t = s - p, e = (p - (s - t)) + (c - t);
    int64_t bits;
    memcpy(&bits, &s, 8);
    if (e != 0 && !(bits & 1) && s - s == 0) {
        bits += (e > 0) == (s > 0) ? 1 : -1;
        memcpy(&s, &bits, 8);
    }
    return (float)s;
}
INLINE vf fma_(vf a, vf b, vf c) {
    vf r;
    for (int i = 0; i < V; i++) r[i] = fma_one(a[i], b[i], c[i]);
    return r;
}
INLINE vf sqrt_(vf a) {
    vf r;
    for (int i = 0; i < V; i++) r[i] = sqrtf(a[i]);
    return r;
}
#endif

/* exp, 0 below -87 (so that nothing subnormal slows a loop), its value at 88 above; NaN stays NaN. Range reduction and
   polynomial as in Cephes' expf (Moshier), relative error 1e-7. */
INLINE vf exp_(vf x) {
    vf y = choose(x > splat(88.f), splat(88.f), x);
    vf magic = splat(12582912.f), t = fma_(y, splat(1.44269504f), magic), n = t - magic;
    vf f = fma_(n, splat(2.12194440e-4f), fma_(n, splat(-0.693359375f), y));
    vf p = fma_(splat(1.9875691500e-4f), f, splat(1.3981999507e-3f));
    p = fma_(p, f, splat(8.3334519073e-3f));
    p = fma_(p, f, splat(4.1665795894e-2f));
    p = fma_(p, f, splat(1.6666665459e-1f));
    p = fma_(p, f, splat(5.0000001201e-1f));
    p = fma_(p, f * f, f + splat(1.f));
    vf scale = (vf)(((vu)t << 23) + (vu)splati(127 << 23)); /* 2^n; the magic number's low bits are those of n */
    return choose(x < splat(-87.f), splat(0.f), p * scale);
}
/* Exactly 0 and 1 far out, as their slopes must be: weights there may be huge. */
INLINE vf sigmoid_(vf x) {
    vf y = splat(1.f) / (splat(1.f) + exp_(-x));
    return choose(x < splat(-88.f), splat(0.f), y);
}

/* A rational function of our own fit, in x^2 up to 9^2, relative error 2.2e-8 before rounding; beyond, 1. */
INLINE vf tanh_(vf x) {
    vf t = x * x;
    vf p = fma_(splat(1.3266028275893404e-08f), t, splat(2.054525066341739e-05f));
    p = fma_(p, t, splat(0.0034917122684419155f));
    p = fma_(p, t, splat(0.13377763330936432f));
    p = fma_(p, t, splat(1.f));
    vf q = fma_(splat(7.740326850580459e-07f), t, splat(0.00032792947604320943f));
    q = fma_(q, t, splat(0.02586223930120468f));
    q = fma_(q, t, splat(0.4671107828617096f));
    q = fma_(q, t, splat(1.f));
    vf one = (vf)(((vi)x & splati(INT32_MIN)) | (vi)splat(1.f));
    return choose(t > splat(81.f), one, x * p / q);
}

/* Natural logarithm of a positive number, in float64 by additions, products and one division: libm's may differ
   between processors in its last bit. */
INLINE double log_(double x) {
    if (!(x > 0) || x - x != 0) return x == 0 ? -INFINITY : x > 0 ? INFINITY : NAN;
    int e;
    double m = frexp(x, &e);
    if (m < 0.70710678118654752) m *= 2, e--;
    double s = (m - 1) / (m + 1), t = s * s, sum = 0;
    for (int k = 21; k >= 1; k -= 2) sum = sum * t + 1.0 / k;
    return 2 * s * sum + e * 0.69314718055994531;
}

/* The sum of 16 numbers, in one order. */
INLINE float sum16(const float *p) {
    float a[8];
    for (int i = 0; i < 8; i++) a[i] = p[i] + p[i + 8];
    for (int i = 0; i < 4; i++) a[i] += a[i + 4];
    return (a[0] + a[2]) + (a[1] + a[3]);
}

INLINE int64_t min_(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t padded(int64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }
INLINE int64_t share_begin(int64_t count, int part, int parts) { return count * part / parts; }
