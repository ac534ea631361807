/* jit_measure.c: times a specialised kernel against the ordinary one, on programs and hidden states made up for it, so that
 * it needs nothing of a plan and may run on a thread. The made-up programs always change a row, but by next to nothing. */
#include "steering/jit_kernel.h"
#include "steering/program.h"

#include "core/status.h"
#include "steering/row_table.h"
#include "tensor/dtype.h"

#include <math.h>

enum { LAUNCHES = 16, MOST_ROUNDS = 15, LEAST_ROUNDS = 3 };
static const double ENOUGH_SECONDS = 0.02;
static const size_t MOST_VECTOR_BYTES = (size_t)64 << 20;

/* Where everything lies in one piece of device memory; offsets in bytes. */
typedef struct trial {
    steer_device *device;
    const steer_jit_kernel *kernel;
    steer_needs needs;        /* of the programs */
    int32_t programs;         /* different ones */
    int32_t vectors, updated; /* of each */
    int32_t ops;
    int has_image, adds;
    size_t vector_bytes, image_bytes;
    size_t images_at, entries_at, table_at, hidden_at, residual_at, total;
    int32_t inner_runs[STEER_INNER_TILES];
    char *data;
    steer_entry first; /* the first program */
    int by_table;      /* as in a graph of a plan, where one program too is launched by the row table */
} trial;

static size_t round_up(size_t bytes) { return (bytes + 255) & ~(size_t)255; }

/* Where the programs differ, all are as large as the largest. */
static void settle_shape(trial *t) {
    const steer_shape *shape = &t->kernel->shape;
    const steer_needs *needs = &t->needs;
    t->vectors = shape->vectors >= 0 ? shape->vectors : needs->max_vectors;
    t->updated = shape->updated >= 0 ? shape->updated : t->vectors;
    t->ops = shape->ops >= 0 ? shape->ops : t->vectors;
    t->has_image = shape->image >= 0 ? shape->image : needs->max_image_bytes > 0;
    t->adds = shape->adds >= 0 ? shape->adds : 1;
    if (shape->adds < 0 && !needs->both && t->vectors > 0) t->adds = 0;
    while (shape->ops < 0 && t->ops > 1 &&
           (int64_t)steer_image_size(t->vectors, t->ops) > needs->max_image_bytes)
        t->ops--;
}

static void lay_out(trial *t) {
    const steer_launch *launch = &t->kernel->launch;
    size_t row_bytes = (size_t)launch->hidden_size * steer_dtype_size(launch->dtype);
    t->vector_bytes = round_up((size_t)launch->hidden_size * sizeof(float));
    size_t each = t->vector_bytes * (size_t)(t->vectors + t->adds);
    t->programs = t->kernel->uniform ? 1 : t->kernel->programs;
    if (each && (size_t)t->programs > MOST_VECTOR_BYTES / each)
        t->programs = (int32_t)(MOST_VECTOR_BYTES / each) + 1;
    t->image_bytes = t->has_image ? round_up(steer_image_size(t->vectors, t->ops)) : 0;
    t->images_at = each * (size_t)t->programs;
    t->entries_at = t->images_at + t->image_bytes * (size_t)t->programs;
    t->table_at = t->entries_at + round_up((size_t)t->programs * sizeof(steer_entry));
    t->hidden_at = t->table_at + round_up(steer_rows_room(launch->rows));
    t->residual_at = t->hidden_at + round_up((size_t)launch->rows * row_bytes);
    t->total = t->residual_at + (t->kernel->residual ? (size_t)launch->rows * row_bytes : 0);
}

/* ---- Programs that always act ---------------------------------------------------------------------------------- */

static steer_op_image make_op(const trial *t, int32_t k) {
    const steer_shape *shape = &t->kernel->shape;
    int32_t dots = t->updated > 0 ? t->updated : 1;
    steer_op_image op = {.dot = k % dots, .gate = -1, .hi = -1, .lo = -INFINITY};
    if (shape->ops >= 0) op = shape->op[k];
    if (shape->ops < 0 && k == 0 && t->needs.norm) {
        op.gate = 0;
        op.flags = STEER_OP_IMAGE_COSINE;
    }
    op.inv = 1e-20f;
    /* s is next to bias: beyond the bounds if there are some. */
    op.bias = isfinite(op.hi) ? op.hi + 1 : isfinite(op.lo) ? op.lo - 1 : 1;
    op.gate_inv = 1e-20f;
    op.gate_bias = op.flags & STEER_OP_IMAGE_BELOW ? -1 : 1; /* open */
    return op;
}

static uint64_t vector_address(const trial *t, int32_t program, int32_t vector) {
    size_t at = ((size_t)program * (size_t)(t->vectors + t->adds) + (size_t)vector) * t->vector_bytes;
    return (uint64_t)(uintptr_t)(t->data + at);
}

/* The entry of a program, and its image in `image` where it has one. */
static steer_entry write_program(const trial *t, char *image, int32_t program) {
    const steer_program_image head = {t->vectors, t->updated, t->ops, t->needs.norm};
    uint64_t addresses[2 * STEER_MAX_OPS];
    steer_op_image ops[STEER_MAX_OPS];
    steer_entry entry;
    for (int32_t i = 0; i < t->vectors; i++) addresses[i] = vector_address(t, program, i);
    for (int32_t k = 0; k < t->ops; k++) ops[k] = make_op(t, k);
    steer_entry_write(&entry, &head, addresses, ops);
    entry.program = program;
    if (t->adds) {
        entry.u = vector_address(t, program, t->vectors);
        entry.u_coef = 1e-20f;
    }
    if (!t->has_image) return entry;
    steer_image_write(image, &head, addresses, ops);
    entry.image = (uint64_t)(uintptr_t)(t->data + t->images_at + (size_t)program * t->image_bytes);
    entry.image_bytes = (int32_t)steer_image_room(t->vectors, t->ops);
    return entry;
}

/* Everything between the vectors and the hidden states. */
static int write_tables(trial *t) {
    const steer_launch *launch = &t->kernel->launch;
    size_t bytes = t->hidden_at - t->images_at;
    int64_t each = launch->rows_per_program > 0 ? launch->rows_per_program : 1;
    char *host = calloc(1, bytes);
    if (!host) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "compile: no host memory to measure with");
    for (int32_t i = 0; i < t->programs; i++) {
        const steer_entry entry = write_program(t, host + (size_t)i * t->image_bytes, i);
        if (i == 0) t->first = entry;
        memcpy(host + t->entries_at - t->images_at + (size_t)i * sizeof entry, &entry, sizeof entry);
    }
    char *table = host + (t->table_at - t->images_at);
    for (int64_t i = 0; i < launch->rows; i++) {
        char *entry = t->data + t->entries_at + (size_t)(i / each % t->programs) * sizeof(steer_entry);
        int64_t run = t->programs > 1 ? each - i % each : launch->rows - i;
        if (run > launch->rows - i) run = launch->rows - i;
        steer_row row = {(uint64_t)(uintptr_t)entry, 0, 1, (uint32_t)(run < UINT32_MAX ? run : UINT32_MAX)};
        memcpy(table + (size_t)i * sizeof row, &row, sizeof row);
    }
    steer_row_table_find_inner(t->inner_runs, table, launch->rows);
    int status = t->device->backend->upload(t->device->state, t->data + t->images_at, host, bytes);
    free(host);
    return status;
}

static int fill(const trial *t, size_t at, size_t bytes, steer_dtype dtype) {
    if (bytes == 0) return STEER_OK;
    steer_view view = {t->data + at, dtype, 1, {(int64_t)(bytes / steer_dtype_size(dtype))}, {1}};
    return t->device->backend->random(t->device->state, &view, STEER_NORMAL, 1);
}

static int fill_all(trial *t) {
    STEER_TRY(fill(t, 0, t->images_at, STEER_F32));
    STEER_TRY(fill(t, t->hidden_at, t->total - t->hidden_at, t->kernel->launch.dtype));
    return write_tables(t);
}

/* ---- Timing ---------------------------------------------------------------------------------------------------- */

/* served: 0 if it is not the specialised kernel's, which then launches nothing. */
static int launch_once(const trial *t, int specialised, int *served) {
    const steer_backend *backend = t->device->backend;
    steer_launch launch = t->kernel->launch;
    launch.hidden = t->data + t->hidden_at;
    launch.hidden_stride = launch.residual_stride = launch.hidden_size;
    launch.residual = t->kernel->residual ? t->data + t->residual_at : NULL;
    launch.layer = 0;
    launch.table = (const steer_row *)(void *)(t->data + t->table_at);
    launch.inner = steer_row_table_inner(launch.table, launch.rows);
    memcpy(launch.inner_runs, t->inner_runs, sizeof launch.inner_runs);
    launch.uniform = NULL;
    if (t->kernel->uniform && !t->by_table) {
        launch.uniform = &t->first;
        launch.table = NULL;
    }
    if (!specialised) return backend->steer(t->device->state, &launch);
    return backend->kernel_launch(t->device->state, t->kernel->loaded, &launch, served);
}

/* A graph of launches, so that the host's time per launch does not count. */
static int capture(void **graph, const trial *t, int specialised) {
    const steer_backend *backend = t->device->backend;
    int served;
    STEER_TRY(backend->graph_begin(t->device->state));
    int status = STEER_OK;
    for (int i = 0; i < LAUNCHES && status == STEER_OK; i++) status = launch_once(t, specialised, &served);
    int32_t nodes;
    int ended = backend->graph_end(t->device->state, graph, &nodes);
    return status == STEER_OK ? ended : status;
}

static int time_graph(double *best_us, const trial *t, void *graph, void *const events[2]) {
    const steer_backend *backend = t->device->backend;
    void *device = t->device->state;
    double seconds;
    STEER_TRY(backend->event_record(device, events[0]));
    STEER_TRY(backend->graph_launch(device, graph));
    STEER_TRY(backend->event_record(device, events[1]));
    STEER_TRY(backend->event_elapsed(device, &seconds, events[0], events[1]));
    double us = seconds * 1e6 / LAUNCHES;
    if (*best_us == 0 || us < *best_us) *best_us = us;
    return STEER_OK;
}

/* The best of several rounds in turn: what else runs on the device can only add to a time. */
static int time_both(double best_us[2], const trial *t, void *const graphs[2], void *const events[2]) {
    double total = 0, warm = 0;
    for (int i = 0; i < 2; i++) STEER_TRY(time_graph(&warm, t, graphs[i], events));
    for (int round = 0; round < MOST_ROUNDS; round++) {
        if (round >= LEAST_ROUNDS && total > ENOUGH_SECONDS) break;
        for (int i = 0; i < 2; i++) STEER_TRY(time_graph(&best_us[i], t, graphs[i], events));
        total += (best_us[0] + best_us[1]) * 1e-6 * LAUNCHES;
    }
    return STEER_OK;
}

/* Times both where the specialised kernel serves. */
static int run(double best_us[2], int *served, trial *t) {
    const steer_backend *backend = t->device->backend;
    void *device = t->device->state, *graphs[2] = {NULL, NULL}, *events[2] = {NULL, NULL};
    STEER_TRY(fill_all(t));
    STEER_TRY(launch_once(t, 1, served)); /* what a first launch sets up is not captured */
    if (!*served) return STEER_OK;
    int status = launch_once(t, 0, served);
    for (int i = 0; i < 2 && status == STEER_OK; i++) status = backend->event_create(device, &events[i]);
    for (int i = 0; i < 2 && status == STEER_OK; i++) status = capture(&graphs[i], t, i);
    if (status == STEER_OK) status = time_both(best_us, t, graphs, events);
    for (int i = 0; i < 2; i++) {
        if (graphs[i]) backend->graph_release(device, graphs[i]);
        if (events[i]) backend->event_release(device, events[i]);
    }
    return status;
}

int steer_jit_measure(steer_jit_kernel *kernel, steer_device *device) {
    trial t = {.device = device, .kernel = kernel, .needs = steer_needs_of_all(&kernel->launch)};
    double best_us[2] = {0, 0};
    settle_shape(&t);
    lay_out(&t);
    void *data;
    STEER_TRY(steer_device_allocate(device, &data, t.total, "compile: memory to measure with"));
    t.data = data;
    int status = STEER_OK;
    for (t.by_table = !kernel->uniform; t.by_table <= 1 && status == STEER_OK; t.by_table++) {
        double us[2] = {0, 0};
        int served = 0;
        status = run(us, &served, &t);
        if (!served) continue; /* by table it may be another kernel that serves one program */
        if (best_us[0] != 0 && us[1] * best_us[0] <= best_us[1] * us[0]) continue; /* it gains more */
        best_us[0] = us[0];
        best_us[1] = us[1];
    }
    steer_device_deallocate(device, data, t.total);
    STEER_TRY(status);
    if (best_us[0] == 0)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "compile: the kernel does not serve what it was built for");
    kernel->ordinary_us = best_us[0];
    kernel->compiled_us = best_us[1];
    return STEER_OK;
}
