/* AVX2 with fused multiply-add: x86-64-v3. */
#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define LEVEL 1
#define V 8
#define RUN terry_run_level1
#include "level.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
