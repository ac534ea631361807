/* test_team.c: jobs that threads share: each piece is done once, by whoever comes, also by two callers at once and after a fork. */
#include "backend/cpu/team.h"
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, MOST = 600 };

static int32_t threads = THREADS;
static _Atomic int helped;                          /* jobs that several threads shared */
int32_t steer_cpu_threads(void) { return threads; } /* in place of the library's, which asks OpenMP */

typedef struct tally {
    int done[MOST];             /* how often each piece was taken */
    _Atomic int there[THREADS]; /* threads at a place now */
    _Atomic int shared_place, outside, entered;
    int64_t effort; /* of a piece */
    int nested;
} tally;

static void count_nested(void *context, steer_job *job, int32_t place) {
    while (steer_job_next(job) >= 0) ++*(int *)context;
}

static void count(void *context, steer_job *job, int32_t place) {
    tally *t = context;
    t->entered++;
    if (place < 0 || place >= threads) {
        t->outside++;
        return;
    }
    if (t->there[place]++) t->shared_place++;
    for (int64_t piece; (piece = steer_job_next(job)) >= 0;) {
        volatile int64_t left = t->effort;
        while (left > 0) left--;
        t->done[piece]++;
        int within = 0;
        if (t->nested) steer_job_run(count_nested, &within, 5, 1);
        if (t->nested && within != 5) t->outside++;
    }
    t->there[place]--;
}

/* Whether all of it was done, once. */
static int run(int64_t pieces, int shared, int64_t effort, int nested) {
    tally t = {.effort = effort, .nested = nested};
    steer_job_run(count, &t, pieces, shared);
    int right = !t.shared_place && !t.outside && t.entered >= 1 && t.entered <= threads;
    if (!shared || pieces < 2 || threads < 2) right &= t.entered == 1;
    helped += t.entered > 1;
    for (int64_t i = 0; i < MOST; i++) right &= t.done[i] == (i < pieces);
    return right;
}

static void *run_many(void *wrong) {
    for (int i = 0; i < 400; i++) *(int *)wrong += !run(i % 60, 1, i % 7 * 100, 0);
    return NULL;
}

static void test_pieces(void) {
    int wrong = 0;
    for (int64_t pieces = 0; pieces < MOST; pieces += 1 + pieces / 8)
        for (int shared = 0; shared < 2; shared++)
            for (int64_t effort = 0; effort <= 2000; effort += 500) wrong += !run(pieces, shared, effort, 0);
    CHECK(wrong == 0);
    CHECK(run(50, 1, 200, 1)); /* jobs of pieces run alone */
    threads = 1;
    CHECK(run(50, 1, 200, 0));
    threads = THREADS;
}

static void test_sleepers(void) {
    for (int i = 0; i < 5; i++) {
        usleep(30000); /* long enough for all workers to sleep */
        CHECK(run(40, 1, 20000, 0));
    }
}

static void test_help(void) {
    helped = 0;
    for (int i = 0; i < 1000 && !helped; i++) CHECK(run(40, 1, 100000, 0));
    CHECK(helped); /* in seconds of work somebody came */
}

static void test_callers(void) {
    pthread_t other;
    int wrong[2] = {0};
    CHECK(pthread_create(&other, NULL, run_many, &wrong[0]) == 0);
    run_many(&wrong[1]);
    pthread_join(other, NULL);
    CHECK(wrong[0] == 0 && wrong[1] == 0);
}

static void test_fork(void) {
    int status = 1;
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        threads = 1; /* as the library says there */
        _exit(run(50, 1, 1000, 0) ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(run(50, 1, 1000, 0));
}

int main(void) {
    test_pieces();
    test_sleepers();
    test_help();
    test_callers();
    test_fork();
    return check_result();
}
