/* engine.h: an engine: the lowered specs, programs and vectors of one device, dtype and hidden size. */
#ifndef STEER_STEERING_ENGINE_H
#define STEER_STEERING_ENGINE_H

#include "steering/program.h"
#include "steering/spec.h"

#include <pthread.h>

/* A spec under one scope mask (bit i: scope i selects the row), lowered: entries for layers first .. first+count-1. */
typedef struct steer_lowered {
    steer_node node; /* in the engine's table, by spec and mask */
    uint64_t spec_uid;
    uint64_t mask;
    steer_life *life; /* of the spec */
    int64_t plans;    /* plans that hold it */
    uint64_t stamp;   /* the plan update that saw it last */
    int notes;        /* some program reads or writes notes */
    int32_t first;
    int32_t count;            /* 0: steers nothing */
    steer_program **programs; /* [count], NULL where a layer is not steered */
    int32_t *source_ops;      /* [count], operations of the spec on that layer */
    void *entries;            /* device memory, [count] steer_entry */
} steer_lowered;

/* Plans of one engine may be on different threads: `lock` is held wherever what stands below it is read or written, which
 * applies never do. What lowered specs and programs say is settled before a plan has them. */
struct steer_engine {
    steer_refs refs;
    steer_device *device;
    steer_dtype dtype;
    int64_t hidden;
    steer_compile compile; /* INHERIT: nobody chose a mode */
    int background;        /* compile on a thread */

    pthread_mutex_t lock;
    struct steer_compiler *compiler; /* of specialised kernels, made when a mode first asks for them */
    steer_bank bank;
    steer_table programs;
    steer_table lowered;
    size_t sweep_at; /* number of lowered specs at which dead ones are looked for */
    uint64_t epoch;  /* counts plan updates */
    int32_t next_program;
    struct steer_plan *plans; /* alive */
    steer_engine_stats stats; /* what plans count themselves: of those that are gone */
};

/* The next two are called with the lock held.
 *
 * The lowered form of a spec under a mask; valid while a plan holds it or the spec lives. */
int steer_engine_lower(steer_lowered **out, steer_engine *engine, steer_spec *spec, uint64_t mask);
/* Frees lowered specs whose spec is gone and that no plan holds. */
void steer_engine_sweep(steer_engine *engine);

static inline steer_program *steer_lowered_program(const steer_lowered *lowered, int32_t layer) {
    int32_t at = layer - lowered->first;
    return at >= 0 && at < lowered->count ? lowered->programs[at] : NULL;
}

#endif
