/* jit.h: kernels specialised for the programs of a plan's layers: built with a batch, used where they are faster.
 * Asked only for plans of mode STEER_COMPILE_DEFAULT. Called with the engine's lock held are steer_jit_open,
 * steer_jit_prepare and steer_jit_count. */
#ifndef STEER_STEERING_JIT_H
#define STEER_STEERING_JIT_H

#include "steering/plan.h"

/* INVALID_ARGUMENT unless they are values of a descriptor. */
static inline int steer_jit_check(steer_compile mode, int32_t background) {
    if ((unsigned)mode > STEER_COMPILE_REDUCE_OVERHEAD)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "compile: %d, expected a steer_compile", (int)mode);
    if (background < -1 || background > 1)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "compile_background: %d, expected -1, 0 or 1",
                          (int)background);
    return STEER_OK;
}

/* Readies the engine's compiler, once. UNSUPPORTED if its device or this machine has none, saying what was looked for. */
int steer_jit_open(steer_engine *engine);
/* Ends what runs in the background and frees the kernels: at the engine's last release. */
void steer_jit_close(steer_engine *engine);

/* Finds, builds or begins to build the kernels of every layer of the plan's new batch, those of the residual form for
 * layers that were applied in it. A kernel that cannot be built, or that the user interrupts, is no failure of the
 * plan: the ordinary one serves, and an interrupt stays pending. */
void steer_jit_prepare(steer_plan *plan);
/* Frees what is kept for a plan: at its last release. */
void steer_jit_forget(steer_plan *plan);

/* The kernel that serves a layer of the plan's batch, NULL: the ordinary one. It lives as long as its engine, and a
 * captured launch of it stays right for all batches for which this gives the same kernel. */
const steer_jit_kernel *steer_jit_kernel_of(steer_plan *plan, int32_t layer, int residual);
/* Launches it and counts the launch; the ordinary kernel where it does not serve tensors laid out like these. */
int steer_jit_launch(const steer_jit_kernel *kernel, steer_plan *plan, const steer_launch *launch);
/* Fills in the compile_* fields, but for the mode. */
void steer_jit_explain(steer_explain *out, steer_plan *plan, int32_t layer);
/* Fills in what an engine's statistics say of kernels built and found. */
void steer_jit_count(steer_engine_stats *out, const steer_engine *engine);

#endif
