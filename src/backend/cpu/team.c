/* team.c: threads that share the pieces of an operation of a few microseconds.
 *
 * Between two products of a decoder lie a few microseconds, and a step of it is hundreds of them. A region of OpenMP ends when each of
 * its threads has come and gone, so one that has gone to sleep meanwhile must be woken for each: that took longer than the products.
 * Here a thread joins a job if it is there, and else the others do its part. */
#include "backend/cpu/team.h"
#include "steer.h"

#include <pthread.h>
#include <sched.h>

enum {
    SPINS = 4096, /* looks for a job before others may have the processor: 0.1 ms, about */
    YIELDS = 256, /* and such looks before the thread sleeps */
    JOINED = 1,   /* `state`: one thread that has joined */
    OPEN = 1 << 16,
    NUMBER = 1 << 17, /* of the job */
    MOST = 1024       /* threads */
};

static struct {
    _Alignas(64) _Atomic uint64_t state; /* number of the job, whether threads may join, how many have */
    _Alignas(64) _Atomic int busy;       /* 1: a job runs */
    _Atomic int sleeping;
    _Atomic int32_t threads; /* of the job: others need not look at it */
    steer_job *job;
    int32_t workers; /* that were started; changed by the thread that has set `busy` */
    pthread_mutex_t lock;
    pthread_cond_t wake;
} team = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void pause_shortly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static int may_join(uint64_t state, uint64_t seen) { return (state & OPEN) && state / NUMBER != seen; }

/* Waits for a job other than number `seen`. */
static uint64_t await(uint64_t seen) {
    uint64_t state;
    for (int i = 0; i < SPINS + YIELDS; i++) {
        state = atomic_load_explicit(&team.state, memory_order_acquire);
        if (may_join(state, seen)) return state;
        if (i < SPINS)
            pause_shortly();
        else
            sched_yield();
    }
    pthread_mutex_lock(&team.lock);
    atomic_fetch_add(&team.sleeping, 1);
    while (state = atomic_load(&team.state), !may_join(state, seen))
        pthread_cond_wait(&team.wake, &team.lock);
    atomic_fetch_sub(&team.sleeping, 1);
    pthread_mutex_unlock(&team.lock);
    return state;
}

static void *worker(void *place) {
    for (uint64_t seen = 0;;) {
        uint64_t state = await(seen);
        seen = state / NUMBER;
        const int32_t own = (int32_t)(intptr_t)place;
        int joined = 0;
        while (!joined && own < atomic_load(&team.threads) && (state & OPEN) && state / NUMBER == seen)
            joined = atomic_compare_exchange_weak(&team.state, &state, state + JOINED);
        if (!joined) continue;
        steer_job *job = team.job; /* which stays while one who has joined it is there */
        if (own < job->threads) job->work(job->context, job, own);
        atomic_fetch_sub_explicit(&team.state, JOINED, memory_order_release);
    }
    return NULL;
}

/* Workers stay behind when a process forks; steer_cpu_threads() is 1 in the child. */
static void forget(void) {
    team.workers = 0;
    atomic_store(&team.state, atomic_load(&team.state) / NUMBER * NUMBER);
    atomic_store(&team.sleeping, 0);
    atomic_store(&team.busy, 0);
    pthread_mutex_init(&team.lock, NULL);
    pthread_cond_init(&team.wake, NULL);
}

/* Fewer than asked for where the system has no more: the others then do the work. */
static void start_workers(int32_t count) {
    pthread_attr_t attributes;
    if (team.workers >= count || pthread_attr_init(&attributes) != 0) return;
    static int forgets = 0;
    if (!forgets++) pthread_atfork(NULL, NULL, forget);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (pthread_t thread; team.workers < count; team.workers++)
        if (pthread_create(&thread, &attributes, worker, (void *)(intptr_t)(team.workers + 1)) != 0) break;
    pthread_attr_destroy(&attributes);
}

int32_t steer_job_threads(int64_t pieces) {
    const int32_t most = steer_cpu_threads() < MOST ? steer_cpu_threads() : MOST;
    return pieces < 1 ? 1 : pieces < most ? (int32_t)pieces : most;
}

void steer_job_run(steer_job_work work, void *context, int64_t pieces, int shared) {
    steer_job job = {work, context, pieces, steer_job_threads(pieces), 0};
    if (!shared || job.threads < 2 || atomic_exchange(&team.busy, 1)) {
        work(context, &job, 0);
        return;
    }
    start_workers(job.threads - 1);
    atomic_store(&team.threads, job.threads);
    team.job = &job;
    atomic_fetch_add(&team.state, NUMBER + OPEN);
    if (atomic_load(&team.sleeping)) {
        pthread_mutex_lock(&team.lock);
        pthread_cond_broadcast(&team.wake);
        pthread_mutex_unlock(&team.lock);
    }
    work(context, &job, 0);
    atomic_fetch_sub(&team.state, OPEN);
    for (int i = 0; atomic_load_explicit(&team.state, memory_order_acquire) % OPEN; i++)
        if (i < SPINS)
            pause_shortly();
        else
            sched_yield();
    atomic_store(&team.busy, 0);
}
