/* explain.c: says what a plan does on a layer, and what it should cost. */
#include "steering/jit.h"

#include <stdio.h>

/* Neighbouring segments with the same program on the layer, empty ones skipped. Returns 0 past the last run. */
typedef struct run_walk {
    int32_t next;        /* segment to go on with */
    int32_t first, last; /* segments of the run */
    int64_t start, rows;
    steer_program *program;
} run_walk;

static int next_run(run_walk *walk, const steer_batch *batch, int32_t layer) {
    walk->rows = 0;
    for (; walk->next < batch->segment_count; walk->next++) {
        const steer_segment *segment = &batch->segments[walk->next];
        steer_program *program = segment->lowered ? steer_lowered_program(segment->lowered, layer) : NULL;
        if (segment->rows == 0) continue;
        if (walk->rows > 0 && program != walk->program) return 1;
        if (!program) continue;
        if (walk->rows == 0) {
            walk->first = walk->next;
            walk->start = segment->start;
            walk->program = program;
        }
        if (segment->start != walk->start + walk->rows) return 1; /* unsteered rows lie between */
        walk->rows += segment->rows;
    }
    return walk->rows > 0;
}

/* Bytes of the vectors and tables that a program reads. */
static int64_t program_bytes(const steer_program *program, int64_t hidden) {
    return (int64_t)program->resident_count * hidden * (int64_t)sizeof(float) +
           (int64_t)program->image_bytes + (int64_t)sizeof(steer_entry);
}

static int compare_pointers(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    return (x > y) - (x < y);
}

/* Distinct programs of the layer, sorted by address; the caller frees. */
static int distinct_programs(steer_program ***out, int32_t *count, const steer_plan *plan, int32_t layer) {
    const steer_batch *batch = &plan->batch;
    steer_program **programs = malloc(((size_t)batch->spec_count + 1) * sizeof(steer_program *));
    if (!programs) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "explain: no host memory");
    int32_t n = 0, kept = 0;
    for (int32_t i = 0; i < batch->spec_count; i++) {
        steer_program *program = steer_lowered_program(batch->specs[i], layer);
        if (program) programs[n++] = program;
    }
    qsort(programs, (size_t)n, sizeof(steer_program *), compare_pointers);
    for (int32_t i = 0; i < n; i++)
        if (i == 0 || programs[i] != programs[i - 1]) programs[kept++] = programs[i];
    *out = programs;
    *count = kept;
    return STEER_OK;
}

/* Best of four in-place streams over `bytes` of device memory, in bytes/s. */
static int time_stream(double *out, steer_device *device, void *data, size_t bytes) {
    const steer_backend *backend = device->backend;
    void *start = NULL, *stop = NULL;
    steer_view view = {data, STEER_F32, 1, {(int64_t)(bytes / sizeof(float))}, {1}};
    double best = 0;
    int status = backend->fill(device->state, &view, 1);
    if (status == STEER_OK) status = backend->event_create(device->state, &start);
    if (status == STEER_OK) status = backend->event_create(device->state, &stop);
    for (int i = 0; i < 4 && status == STEER_OK; i++) {
        double seconds = 0;
        status = backend->event_record(device->state, start);
        if (status == STEER_OK)
            status = backend->reference(device->state, data, bytes, STEER_F32, STEER_REFERENCE_STREAM);
        if (status == STEER_OK) status = backend->event_record(device->state, stop);
        if (status == STEER_OK) status = backend->event_elapsed(device->state, &seconds, start, stop);
        if (status == STEER_OK && seconds > 0 && 2.0 * (double)bytes / seconds > best)
            best = 2.0 * (double)bytes / seconds;
    }
    if (start) backend->event_release(device->state, start);
    if (stop) backend->event_release(device->state, stop);
    *out = best;
    return status;
}

/* A GPU's stream bandwidth, measured once over memory that exceeds its caches; 0 while there is no such memory, and for the CPU: its
 * caches hold most batches, its arithmetic counts, and its other programs take their share, so that bytes tell nothing of time. */
static int measure_bandwidth(double *out, steer_device *device) {
    *out = atomic_load(&device->bandwidth);
    if (*out > 0 || steer_device_is_cpu(device)) return STEER_OK;
    const size_t bytes = (size_t)512 << 20;
    void *data;
    int status = steer_device_allocate(device, &data, bytes, "bandwidth measurement");
    if (status == STEER_E_OUT_OF_MEMORY) return STEER_OK;
    STEER_TRY(status);
    status = time_stream(out, device, data, bytes);
    steer_device_deallocate(device, data, bytes);
    STEER_TRY(status);
    atomic_store(&device->bandwidth, *out);
    return STEER_OK;
}

static int count_costs(steer_explain *out, const steer_plan *plan, int32_t layer) {
    steer_program **programs;
    STEER_TRY(distinct_programs(&programs, &out->programs, plan, layer));
    for (int32_t i = 0; i < out->programs; i++) {
        const int32_t ops = steer_program_ops(programs[i]);
        out->ops += ops + (programs[i]->entry.u ? 1 : 0);
        if (ops > out->max_ops) out->max_ops = ops;
        out->bytes += program_bytes(programs[i], plan->engine->hidden);
    }
    free(programs);
    run_walk walk = {0};
    while (next_run(&walk, &plan->batch, layer)) {
        out->groups++;
        out->steered_rows += walk.rows;
    }
    size_t element = steer_dtype_size(plan->engine->dtype);
    out->bytes += 2 * out->steered_rows * plan->engine->hidden * (int64_t)element;
    return STEER_OK;
}

/* Of one apply; names their kernels where they serve all rows. */
static int count_launches(steer_explain *out, const steer_plan *plan, int32_t layer, steer_path path) {
    if (path == STEER_PATH_NONE) return 0;
    if (path != STEER_PATH_LOOP)
        return steer_plan_name_kernels(out->kernels, sizeof out->kernels, plan, layer, path);
    int launches = 0;
    for (int32_t i = 0; i < plan->batch.segment_count; i++) {
        const steer_segment *segment = &plan->batch.segments[i];
        launches += segment->rows > 0 && segment->lowered && steer_lowered_program(segment->lowered, layer);
    }
    return launches;
}

static void explain_mode(steer_explain *out, steer_plan *plan, int32_t layer) {
    int off = plan->compile == STEER_COMPILE_INHERIT || plan->compile == STEER_COMPILE_OFF;
    out->compile = off ? STEER_COMPILE_OFF : plan->compile;
    out->compile_state = off ? STEER_COMPILE_STATE_OFF : STEER_COMPILE_STATE_NONE;
    if (plan->compile == STEER_COMPILE_DEFAULT)
        steer_jit_explain(out, plan, layer);
    else if (!off)
        snprintf(out->compile_why, sizeof out->compile_why, "this mode has graphs only");
}

int steer_plan_explain(steer_explain *out, steer_plan *plan, int32_t layer) {
    STEER_ENTER("plan_explain");
    STEER_REQUIRE(plan);
    STEER_REQUIRE_STRUCT(out);
    STEER_TRY(steer_plan_check_layer(layer));
    const steer_layer_choice *choice;
    STEER_TRY(steer_plan_choose(&choice, plan, layer));
    int forced = plan->forced != STEER_PATH_AUTO && choice->path != STEER_PATH_NONE;
    steer_explain explain = {.struct_size = sizeof explain,
                             .path = forced ? plan->forced : choice->path,
                             .rows = plan->rows,
                             .idle_specs = plan->batch.idle_count};
    snprintf(explain.why, sizeof explain.why, "%s%s", forced ? "forced; " : "", choice->why);
    STEER_TRY(count_costs(&explain, plan, layer));
    explain.launches = count_launches(&explain, plan, layer, explain.path);
    if (explain.path == STEER_PATH_MIXED) explain.bytes += plan->rows * (int64_t)sizeof(steer_row);
    if (explain.steered_rows > 0) {
        double bandwidth;
        STEER_TRY(measure_bandwidth(&bandwidth, plan->engine->device));
        if (bandwidth > 0) explain.expected_us = (double)explain.bytes / bandwidth * 1e6;
    }
    explain_mode(&explain, plan, layer);
    *out = explain;
    return STEER_OK;
}

int steer_plan_group(steer_group *out, steer_plan *plan, int32_t layer, int32_t index) {
    STEER_ENTER("plan_group");
    STEER_REQUIRE(plan);
    STEER_REQUIRE_STRUCT(out);
    STEER_TRY(steer_plan_check_layer(layer));
    const steer_batch *batch = &plan->batch;
    run_walk walk = {0};
    int32_t at = 0;
    while (index >= 0 && next_run(&walk, batch, layer)) {
        if (at++ < index) continue;
        const steer_segment *segment = &batch->segments[walk.first];
        *out = (steer_group){.struct_size = sizeof *out,
                             .program = walk.program->entry.program,
                             .start = walk.start,
                             .rows = walk.rows,
                             .request = segment->request,
                             .adds = walk.program->entry.u != 0,
                             .projections = steer_program_ops(walk.program),
                             .source_ops = segment->lowered->source_ops[layer - segment->lowered->first]};
        return STEER_OK;
    }
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "index: %d, expected 0 to %d", index, at - 1);
}

int steer_plan_idle_spec(int32_t *out, steer_plan *plan, int32_t index) {
    STEER_ENTER("plan_idle_spec");
    STEER_REQUIRE(out);
    STEER_REQUIRE(plan);
    if (index < 0 || index >= plan->batch.idle_count)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "index: %d, expected 0 to %d", index,
                          plan->batch.idle_count - 1);
    *out = plan->batch.idles[index];
    return STEER_OK;
}
