/* team.h: threads that share the pieces of an operation of a few microseconds. */
#ifndef STEER_BACKEND_CPU_TEAM_H
#define STEER_BACKEND_CPU_TEAM_H

#include <stdatomic.h>
#include <stdint.h>

typedef struct steer_job steer_job;

/* What a thread does for a job: takes pieces by steer_job_next() until there are none. `place`: the thread's own, from 0 below
 * steer_job_threads(pieces). */
typedef void (*steer_job_work)(void *context, steer_job *job, int32_t place);

struct steer_job {
    steer_job_work work;
    void *context;
    int64_t pieces;
    int32_t threads; /* at most */
    _Atomic int64_t next;
};

/* How many threads may share so many pieces: at least 1, at most steer_cpu_threads(). */
int32_t steer_job_threads(int64_t pieces);

/* Runs `work` on this thread and on those of the team that are there before the pieces are gone; returns when all have been
 * done. Nobody is waited for who has taken none: a thread that sleeps, or that the system runs later, costs nothing. On this thread
 * alone where `shared` is 0, where there is one piece, and while another job runs. */
void steer_job_run(steer_job_work work, void *context, int64_t pieces, int shared);

/* The next piece that nobody has taken, -1 if there is none. */
static inline int64_t steer_job_next(steer_job *job) {
    const int64_t piece = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
    return piece < job->pieces ? piece : -1;
}

#endif
