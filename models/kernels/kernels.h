/* What Python calls: one list of operations for a step, each with its sizes, pointers and numbers. Every size was
   checked against the memory behind the pointers where the list was made (terry.models.kernels.operations). */
#ifndef TERRY_KERNELS_H
#define TERRY_KERNELS_H
#include <stdint.h>

typedef struct {
    int64_t code;
    int64_t n[12];
    void *p[12];
    double f[4];
} Op;

enum { OK = 0, BAD_ID = 1, BAD_CODE = 2 };

/* All operations of a list, by one of `parts` threads; `wait` returns when all of them have come there. */
typedef int (*RunFn)(const Op *ops, int64_t count, int part, int parts, void (*wait)(void *), void *with);
int terry_run_level0(const Op *, int64_t, int, int, void (*)(void *), void *);
int terry_run_level1(const Op *, int64_t, int, int, void (*)(void *), void *);
int terry_run_level2(const Op *, int64_t, int, int, void (*)(void *), void *);
#endif
