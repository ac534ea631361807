/* plan.h: a batch resolved to rows: which lowered spec steers which rows, and by which path. */
#ifndef STEER_STEERING_PLAN_H
#define STEER_STEERING_PLAN_H

#include "steering/engine.h"

/* Neighbouring rows of one request with one lowered spec; NULL: unsteered. */
typedef struct steer_segment {
    int64_t start, rows;
    int32_t request;
    steer_lowered *lowered;
} steer_segment;

/* A batch: what an update replaces as a whole. */
typedef struct steer_batch {
    int64_t total;        /* rows of the requests, padding not counted */
    int64_t steered_rows; /* on any layer */
    int has_unsteered;    /* some row of a request has no lowered spec */
    int notes;            /* some program reads or writes notes */
    int32_t segment_count, segment_capacity;
    steer_segment *segments; /* in row order */
    int32_t spec_count, spec_capacity;
    steer_lowered **specs; /* distinct lowered specs, each held once */
    int32_t idle_count, idle_capacity;
    int32_t *idles; /* requests whose spec steers nothing, one per spec */
} steer_batch;

/* What launches by the row table must be able to run; fields as in steer_launch, upper bounds all. */
typedef struct steer_envelope {
    int64_t rows;
    steer_needs few, many;
    int32_t blocks;
} steer_envelope;

/* Widens an envelope to what is needed, its rows to at most `most_rows`. */
void steer_envelope_widen(steer_envelope *envelope, const steer_envelope *needs, int64_t most_rows);
/* Opens it to any program there may be. */
void steer_envelope_open(steer_envelope *envelope);
/* Says in `why` what of the needs is not within the envelope; where nothing is, `why` stays. */
void steer_envelope_compare(char *why, size_t size, int32_t layer, const steer_envelope *needs,
                            const steer_envelope *envelope);

/* What the batch means for one layer; found when the layer is first asked for after an update. */
typedef struct steer_layer_choice {
    uint64_t epoch; /* of the batch it was made for */
    steer_path path;
    const char *why;
    steer_program *program;   /* path uniform: the one program */
    int conditional;          /* some program is */
    steer_envelope needs;     /* of the batch on this layer */
    int32_t rows_per_program; /* as in steer_launch */
} steer_layer_choice;

typedef struct steer_jit_kernel steer_jit_kernel; /* a specialised kernel, see jit.h */

/* What a plan counts of its applies: the thread that has the plan writes, others read it for statistics. */
typedef enum steer_counter {
    STEER_COUNT_APPLIES,
    STEER_COUNT_NONE,
    STEER_COUNT_UNIFORM,
    STEER_COUNT_MIXED,
    STEER_COUNT_LOOP,
    STEER_COUNT_GRAPH,
    STEER_COUNT_COMPILED,
    STEER_COUNTERS
} steer_counter;

struct steer_plan {
    steer_refs refs;
    steer_engine *engine;             /* retained */
    struct steer_plan *older, *newer; /* among the engine's, under its lock */
    atomic_int_fast64_t counts[STEER_COUNTERS];
    steer_path forced; /* STEER_PATH_AUTO: chosen per layer */
    int strict;
    steer_compile compile;             /* INHERIT: nobody chose a mode */
    int background;                    /* compile on a thread */
    struct steer_jit_kernels *kernels; /* specialised ones of its layers, see jit.h */
    int64_t rows;                      /* padded */
    void *table;      /* device memory, a row table, see row_table.h; its address never changes */
    void *notes;      /* device memory, a word for each row; 0 at each update that needs them */
    int notes_shared; /* they are the caller's, who sets them, and keeps verdicts of prompts */
    steer_row *stage; /* the same on the host */
    int32_t inner_runs[STEER_INNER_TILES]; /* as in steer_launch */
    steer_batch batch, spare;              /* in force, and the memory that the next update builds in */
    uint64_t epoch;
    steer_layer_choice *choices; /* [STEER_MAX_LAYERS] */
    int met, missed; /* since the update, a layer was applied that the batch steers, one that it does not */
};

/* One more; without a locked instruction, as nobody else writes. */
static inline void steer_plan_count(steer_plan *plan, steer_counter counter) {
    atomic_int_fast64_t *count = &plan->counts[counter];
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1, memory_order_relaxed);
}
/* Adds what the plan has counted. */
void steer_plan_add_counts(steer_engine_stats *out, const steer_plan *plan);

/* A plan whose rows have the given words of notes, [rows]: plans of one batch at several sites share them. */
int steer_plan_create_noting(steer_plan **out, steer_engine *engine, const steer_plan_desc *desc,
                             void *notes);

/* The path of a layer: the one place where it is chosen. UNSUPPORTED if a forced path cannot serve. */
int steer_plan_choose(const steer_layer_choice **out, steer_plan *plan, int32_t layer);
int steer_plan_check_layer(int32_t layer);

/* What an apply asks of its arguments. */
int steer_plan_check_apply(const steer_plan *plan, int32_t layer, const steer_tensor *hidden,
                           const steer_tensor *residual);
/* Applies with arguments that are checked. */
int steer_plan_run(steer_plan *plan, int32_t layer, steer_tensor *hidden, steer_tensor *residual);
/* Names the kernels that an apply to contiguous hidden states without a residual would launch, by one path for all rows; how many
 * there are. */
int steer_plan_name_kernels(char *text, size_t size, const steer_plan *plan, int32_t layer, steer_path path);
/* One launch by the row table that steers every batch within `envelope`; `kernel` is a specialised one, or NULL. */
int steer_plan_launch(steer_plan *plan, int32_t layer, steer_tensor *hidden, steer_tensor *residual,
                      const steer_envelope *envelope, const steer_jit_kernel *kernel);

#endif
