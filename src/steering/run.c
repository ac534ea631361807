/* run.c: applies a plan to the hidden states of one layer: checks the tensors, fills the launch, counts. */
#include "steering/jit.h"
#include "steering/row_table.h"
#include "tensor/tensor.h"

#include <string.h>

static int check_tensor(const steer_plan *plan, const steer_tensor *tensor, const char *name) {
    const steer_engine *engine = plan->engine;
    if (!tensor) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: is NULL, expected a tensor", name);
    const steer_view *view = &tensor->view;
    if (view->dtype != engine->dtype)
        return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "%s: %s, the engine's dtype is %s", name,
                          steer_dtype_name(view->dtype), steer_dtype_name(engine->dtype));
    if (steer_tensor_on(tensor) != engine->device)
        return STEER_FAIL(STEER_E_DEVICE_MISMATCH, "%s: on %s, the engine is on %s", name,
                          steer_tensor_on(tensor)->id, engine->device->id);
    char text[128];
    if (view->ndim != 2 || view->shape[0] != plan->rows || view->shape[1] != engine->hidden)
        return STEER_FAIL(STEER_E_SHAPE_MISMATCH,
                          "%s: %s, expected [%lld, %lld] (the plan's rows, the hidden size)", name,
                          steer_shape_text(text, sizeof text, view->ndim, view->shape), (long long)plan->rows,
                          (long long)engine->hidden);
    if (view->shape[0] > 0 && ((view->shape[1] > 1 && view->stride[1] != 1) ||
                               (view->shape[0] > 1 && view->stride[0] < view->shape[1])))
        return STEER_FAIL(
            STEER_E_INVALID_ARGUMENT,
            "%s: strides [%lld, %lld], expected rows whose elements are neighbours and that do not overlap",
            name, (long long)view->stride[0], (long long)view->stride[1]);
    return STEER_OK;
}

/* Whether two matrices of one dtype and shape share memory without being the same one: rows of one and the other may lie in
 * turn, as in a buffer of both. With equal strides, the first row or the last one tells. */
static int partly_overlap(const steer_view *a, const steer_view *b) {
    int64_t size = (int64_t)steer_dtype_size(a->dtype), rows = a->shape[0], width = a->shape[1] * size;
    int64_t step_a = a->stride[0] * size, step_b = b->stride[0] * size;
    if (!steer_view_overlap(a, b) || (a->data == b->data && (rows == 1 || step_a == step_b))) return 0;
    if (rows == 1) return 1;
    int64_t apart = (int64_t)((uintptr_t)a->data - (uintptr_t)b->data);
    for (int64_t i = 0; i < rows; i += step_a == step_b ? rows - 1 : 1) {
        int64_t at = apart + i * step_a,
                j = at > 0 ? at / step_b : 0; /* the row of b before it, and the next */
        for (int64_t k = j; k <= j + 1 && k < rows; k++)
            if (at < k * step_b + width && k * step_b < at + width) return 1;
    }
    return 0;
}

static void *row_address(void *data, int64_t row, int64_t stride, steer_dtype dtype) {
    return (char *)data + (size_t)row * (size_t)stride * steer_dtype_size(dtype);
}

static int start(steer_plan *plan, const steer_launch *launch, const steer_jit_kernel *kernel) {
    if (kernel) return steer_jit_launch(kernel, plan, launch);
    return plan->engine->device->backend->steer(plan->engine->device->state, launch);
}

/* One launch over rows that share an entry. */
static int launch_rows(steer_plan *plan, const steer_launch *base, int64_t first, int64_t rows,
                       const steer_program *program, const steer_jit_kernel *kernel) {
    steer_launch launch = *base;
    launch.hidden = row_address(base->hidden, first, base->hidden_stride, base->dtype);
    if (base->residual)
        launch.residual =
            row_address((void *)(uintptr_t)base->residual, first, base->residual_stride, base->dtype);
    launch.rows = rows;
    launch.notes += first;
    launch.uniform = &program->entry;
    launch.blocks =
        steer_program_is_plain(program) ? STEER_BLOCKS_NONE : steer_blocks_demand(program->blocks);
    if (!launch.blocks)
        *(steer_program_is_few(program) ? &launch.few : &launch.many) = steer_program_needs(program);
    launch.rows_per_program = rows > INT32_MAX ? INT32_MAX : (int32_t)rows;
    return start(plan, &launch, kernel);
}

static int launch_loop(steer_plan *plan, const steer_launch *base) {
    for (int32_t i = 0; i < plan->batch.segment_count; i++) {
        const steer_segment *segment = &plan->batch.segments[i];
        const steer_program *program =
            segment->lowered ? steer_lowered_program(segment->lowered, base->layer) : NULL;
        if (!program || segment->rows == 0) continue;
        STEER_TRY(launch_rows(plan, base, segment->start, segment->rows, program, NULL));
        steer_plan_count(plan, STEER_COUNT_LOOP);
    }
    return STEER_OK;
}

/* The rows of the envelope by the row table. */
static int launch_table(steer_plan *plan, const steer_launch *base, const steer_envelope *envelope,
                        const steer_layer_choice *choice, const steer_jit_kernel *kernel, int capturing) {
    steer_launch launch = *base;
    launch.rows = envelope->rows;
    launch.table = plan->table;
    launch.inner = steer_row_table_inner(plan->table, plan->rows);
    memcpy(launch.inner_runs, plan->inner_runs, sizeof launch.inner_runs);
    launch.replayed = capturing;
    launch.few = envelope->few;
    launch.many = envelope->many;
    launch.blocks = envelope->blocks;
    launch.rows_per_program = choice->rows_per_program;
    return start(plan, &launch, kernel);
}

int steer_plan_name_kernels(char *text, size_t size, const steer_plan *plan, int32_t layer, steer_path path) {
    const steer_device *device = plan->engine->device;
    const steer_layer_choice *choice = &plan->choices[layer];
    *text = '\0';
    if (!device->backend->name_kernels || plan->rows == 0) return 1;
    steer_launch launch = {.hidden_stride = plan->engine->hidden,
                           .hidden_size = plan->engine->hidden,
                           .dtype = plan->engine->dtype,
                           .layer = layer,
                           .rows = plan->batch.total,
                           .few = choice->needs.few,
                           .many = choice->needs.many,
                           .blocks = choice->needs.blocks};
    if (path == STEER_PATH_UNIFORM) {
        launch.uniform = &choice->program->entry;
        launch.rows_per_program = launch.rows > INT32_MAX ? INT32_MAX : (int32_t)launch.rows;
    } else {
        launch.rows = plan->rows;
        launch.table = plan->table;
        memcpy(launch.inner_runs, plan->inner_runs, sizeof launch.inner_runs);
        launch.rows_per_program = choice->rows_per_program;
    }
    return device->backend->name_kernels(device->state, text, size, &launch);
}

/* In a graph that an update must not invalidate, nothing of the batch may be baked into the launch: the automatic path
 * is then always the mixed one, and runs any program. */
static steer_path path_to_run(const steer_plan *plan, const steer_layer_choice *choice, int *capturing) {
    const steer_device *device = plan->engine->device;
    *capturing = steer_device_is_capturing(device);
    if (plan->forced == STEER_PATH_AUTO) return *capturing ? STEER_PATH_MIXED : choice->path;
    return choice->path == STEER_PATH_NONE && !*capturing ? STEER_PATH_NONE : plan->forced;
}

static steer_launch base_launch(const steer_plan *plan, int32_t layer, const steer_tensor *hidden,
                                const steer_tensor *residual) {
    return (steer_launch){.hidden = hidden->view.data,
                          .residual = residual ? residual->view.data : NULL,
                          .hidden_stride = hidden->view.stride[0],
                          .residual_stride = residual ? residual->view.stride[0] : 0,
                          .hidden_size = plan->engine->hidden,
                          .dtype = plan->engine->dtype,
                          .layer = layer,
                          .notes = plan->notes};
}

int steer_plan_check_apply(const steer_plan *plan, int32_t layer, const steer_tensor *hidden,
                           const steer_tensor *residual) {
    STEER_TRY(steer_plan_check_layer(layer));
    STEER_TRY(check_tensor(plan, hidden, "hidden"));
    if (!residual) return STEER_OK;
    STEER_TRY(check_tensor(plan, residual, "residual"));
    if (partly_overlap(&hidden->view, &residual->view))
        return STEER_FAIL(
            STEER_E_INVALID_ARGUMENT,
            "residual: shares memory with hidden, which is written, expected memory of its own");
    return STEER_OK;
}

int steer_plan_launch(steer_plan *plan, int32_t layer, steer_tensor *hidden, steer_tensor *residual,
                      const steer_envelope *envelope, const steer_jit_kernel *kernel) {
    const steer_layer_choice *choice;
    STEER_TRY(steer_plan_choose(&choice, plan, layer));
    const steer_launch base = base_launch(plan, layer, hidden, residual);
    return launch_table(plan, &base, envelope, choice, kernel, 1);
}

/* By the row table, padding included, so that a replay after an update skips no row. */
static int run_mixed(steer_plan *plan, const steer_launch *base, const steer_layer_choice *choice,
                     int capturing) {
    steer_envelope envelope = choice->needs;
    envelope.rows = plan->rows;
    if (capturing && plan->forced == STEER_PATH_AUTO) steer_envelope_open(&envelope);
    STEER_TRY(launch_table(plan, base, &envelope, choice, NULL, capturing));
    steer_plan_count(plan, STEER_COUNT_MIXED);
    return STEER_OK;
}

int steer_plan_run(steer_plan *plan, int32_t layer, steer_tensor *hidden, steer_tensor *residual) {
    const steer_layer_choice *choice;
    STEER_TRY(steer_plan_choose(&choice, plan, layer));
    int capturing;
    steer_path path = path_to_run(plan, choice, &capturing);
    steer_plan_count(plan, STEER_COUNT_APPLIES);
    if (path == STEER_PATH_NONE || plan->rows == 0) {
        steer_plan_count(plan, STEER_COUNT_NONE);
        plan->missed = 1;
        return STEER_OK;
    }
    plan->met |= choice->path != STEER_PATH_NONE;
    const steer_launch base = base_launch(plan, layer, hidden, residual);
    const steer_jit_kernel *kernel = NULL;
    if (plan->compile == STEER_COMPILE_DEFAULT && plan->forced == STEER_PATH_AUTO && !capturing)
        kernel = steer_jit_kernel_of(plan, layer, residual != NULL);
    if (kernel && path == STEER_PATH_MIXED)
        return launch_table(plan, &base, &choice->needs, choice, kernel, 0);
    if (kernel) return launch_rows(plan, &base, 0, plan->batch.total, choice->program, kernel);
    if (path == STEER_PATH_LOOP) return launch_loop(plan, &base);
    if (path == STEER_PATH_MIXED) return run_mixed(plan, &base, choice, capturing);
    if (!choice->program) return STEER_OK; /* uniform, captured, and nothing to do */
    STEER_TRY(launch_rows(plan, &base, 0, plan->batch.total, choice->program, NULL));
    steer_plan_count(plan, STEER_COUNT_UNIFORM);
    return STEER_OK;
}

int steer_plan_apply(steer_plan *plan, int32_t layer, steer_tensor *hidden, steer_tensor *residual) {
    STEER_ENTER("plan_apply");
    STEER_REQUIRE(plan);
    STEER_TRY(steer_plan_check_apply(plan, layer, hidden, residual));
    return steer_plan_run(plan, layer, hidden, residual);
}
