/* One list of operations, by one thread or several that go through it together. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "kernels.h"

#define MOST_THREADS 64
#ifndef SOURCES
#define SOURCES "unknown"
#endif

/* Hash of the sources that this was built from, so that a library left over from others is not used. */
const char *terry_kernels_sources(void) { return SOURCES; }

/* The highest level that this processor has. */
int terry_kernels_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}

static RunFn run_of(int level) {
#if defined(__x86_64__)
    if (level == 2) return terry_run_level2;
    if (level == 1) return terry_run_level1;
#endif
    (void)level;
    return terry_run_level0;
}

typedef struct {
    atomic_int arrived, round;
    int parts;
} Barrier;

static void wait_at(void *with) {
    Barrier *b = with;
    int round = atomic_load(&b->round);
    if (atomic_fetch_add(&b->arrived, 1) + 1 == b->parts) {
        atomic_store(&b->arrived, 0);
        atomic_fetch_add(&b->round, 1);
        return;
    }
    for (int spins = 0; atomic_load(&b->round) == round; spins++)
        if (spins > 2000) sched_yield();
}

/* Threads are made at the first call that needs them and sleep between calls; a forked child makes its own. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int made, round;
    const Op *ops;
    int64_t count;
    RunFn run;
    Barrier barrier;
    atomic_int status, done;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
static pthread_mutex_t one_call = PTHREAD_MUTEX_INITIALIZER;

static void take_part(int part, int parts) {
    int status = pool.run(pool.ops, pool.count, part, parts, wait_at, &pool.barrier);
    if (status) atomic_store(&pool.status, status);
}

/* number: the part of this thread, and behind it the round that it must not take for its first. */
static void *worker(void *number) {
    int part = (int)((intptr_t)number & 255), seen = (int)((intptr_t)number >> 8);
    for (;;) {
        pthread_mutex_lock(&pool.lock);
        while (pool.round == seen || part >= pool.barrier.parts) {
            seen = pool.round;
            pthread_cond_wait(&pool.wake, &pool.lock);
        }
        seen = pool.round;
        int parts = pool.barrier.parts;
        pthread_mutex_unlock(&pool.lock);
        take_part(part, parts);
        atomic_fetch_add(&pool.done, 1);
    }
    return NULL;
}

static void after_fork(void) {
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_mutex_init(&one_call, NULL);
    pool.made = 0;
}

/* How many threads there can be, up to as many as wanted; the caller is one of them. */
static int threads_for(int wanted) {
    if (!pool.made) {
        static int watched;
        if (!watched) watched = !pthread_atfork(NULL, NULL, after_fork);
        pool.made = 1;
    }
    for (; pool.made < wanted; pool.made++) {
        pthread_t thread;
        intptr_t number = (intptr_t)pool.round << 8 | pool.made;
        if (pthread_create(&thread, NULL, worker, (void *)number)) break;
        pthread_detach(thread);
    }
    return pool.made < wanted ? pool.made : wanted;
}

/* Do all operations; level and threads (1 to 64) do not change a bit. 0, or why not. */
int terry_kernels_run(int level, const Op *ops, int64_t count, int threads) {
    if (level < 0 || level > terry_kernels_level()) return BAD_CODE;
    RunFn run = run_of(level);
    if (threads <= 1) return run(ops, count, 0, 1, 0, 0);
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    /* Ids are checked by one thread before others start: an operation that fails would leave them waiting. */
    while (count && ops->code == 0) {
        int status = run(ops, 1, 0, 1, 0, 0);
        if (status) return status;
        ops++, count--;
    }
    pthread_mutex_lock(&one_call);
    threads = threads_for(threads);
    pthread_mutex_lock(&pool.lock);
    pool.ops = ops, pool.count = count, pool.run = run;
    pool.barrier.parts = threads;
    atomic_store(&pool.barrier.arrived, 0);
    atomic_store(&pool.status, 0);
    atomic_store(&pool.done, 0);
    pool.round = (pool.round + 1) & 0x7fffff;
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    take_part(0, threads);
    while (atomic_load(&pool.done) < threads - 1) sched_yield();
    int status = atomic_load(&pool.status);
    pthread_mutex_unlock(&one_call);
    return status;
}
