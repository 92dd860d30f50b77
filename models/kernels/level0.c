/* For any processor: SSE2 on x86-64, NEON on 64-bit Arm. */
#if defined(__aarch64__)
#include <arm_neon.h>
#endif
#define LEVEL 0
#define V 4
#define RUN terry_run_level0
#include "level.h"
