/* AVX-512: x86-64-v4. */
#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,fma")
#endif
#define LEVEL 2
#define V 16
#define RUN terry_run_level2
#include "level.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
