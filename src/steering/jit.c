/* jit.c: specialised kernels of a plan's layers: which shape of programs a layer has, and the kernel for it. */
#include "steering/jit.h"
#include "steering/jit_kernel.h"

#include "core/cache.h"

#include <stdio.h>

/* Kernels with gains and bounds baked in, of one shape: the next one serves all values. */
enum { MOST_VALUES = 4 };

/* The kernels of one layer of a plan, NULL: none is wanted or memory is out. */
typedef struct layer_kernels {
    uint64_t epoch;             /* of the batch they were looked up for */
    steer_jit_kernel *found[2]; /* without and with a residual */
    int wants_residual;         /* an apply had one */
} layer_kernels;

struct steer_jit_kernels {
    layer_kernels layers[STEER_MAX_LAYERS];
};

/* ---- Engines --------------------------------------------------------------------------------------------------- */

int steer_jit_open(steer_engine *engine) {
    const steer_device *device = engine->device;
    if (engine->compiler) return STEER_OK;
    if (!device->backend->kernel_ready)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "compile: %s compiles no kernels", device->id);
    STEER_TRY(steer_cache_check());
    STEER_TRY(device->backend->kernel_ready(device->state, 0));
    return steer_compiler_create(&engine->compiler, engine->device);
}

void steer_jit_close(steer_engine *engine) {
    if (engine->compiler) steer_compiler_free(engine->compiler);
    engine->compiler = NULL;
}

void steer_jit_count(steer_engine_stats *out, const steer_engine *engine) {
    const steer_compiler *compiler = engine->compiler;
    if (!compiler) return;
    out->compiles = atomic_load(&compiler->compiles);
    out->memory_hits = atomic_load(&compiler->memory_hits);
    out->disk_hits = atomic_load(&compiler->disk_hits);
    out->failures = atomic_load(&compiler->failures);
}

/* ---- What a layer asks for ------------------------------------------------------------------------------------- */

/* The programs of a layer, and all else that its kernel is found by. */
typedef struct layer_request {
    const steer_layer_choice *choice;
    const steer_program *first; /* one of the programs */
    int32_t programs;           /* different ones among neighbours, about */
    int same_shape, same_values;
} layer_request;

/* Beyond STEER_SHAPE_OPS operations nothing is unrolled, and what is left to gain was measured to be nothing. Programs of
 * blocks have a kernel of their own. */
static int has_long_program(const steer_plan *plan, int32_t layer) {
    for (int32_t i = 0; i < plan->batch.spec_count; i++) {
        const steer_program *program = steer_lowered_program(plan->batch.specs[i], layer);
        if (program && (program->entry.ops > STEER_SHAPE_OPS || !steer_program_is_plain(program))) return 1;
    }
    return 0;
}

static layer_request request_of(const steer_plan *plan, const steer_layer_choice *choice, int32_t layer) {
    layer_request request = {.choice = choice, .same_shape = 1, .same_values = 1};
    const steer_program *last = NULL;
    for (int32_t i = 0; i < plan->batch.spec_count; i++) {
        const steer_program *program = steer_lowered_program(plan->batch.specs[i], layer);
        if (!program || program == last) continue;
        last = program;
        request.programs++;
        if (!request.first) request.first = program;
        request.same_shape &= steer_hash_equal(program->shape, request.first->shape);
        request.same_values &= steer_hash_equal(program->values, request.first->values);
    }
    request.same_values &= request.same_shape;
    return request;
}

static int floor_log2(int64_t n) {
    int log = 0;
    while (n > 1) {
        n /= 2;
        log++;
    }
    return log;
}

/* Batches that differ only in what does not matter to a kernel's speed share one. */
static steer_hash key_of(const layer_request *request, int64_t rows, int residual, int values) {
    const steer_envelope *needs = &request->choice->needs;
    int64_t numbers[] = {rows,
                         floor_log2(request->choice->rows_per_program),
                         floor_log2(request->programs),
                         request->choice->path,
                         residual,
                         needs->few.present,
                         needs->few.max_vectors,
                         needs->few.max_image_bytes,
                         needs->few.both,
                         needs->many.present,
                         needs->many.max_vectors,
                         needs->many.max_image_bytes,
                         needs->many.both,
                         needs->many.norm,
                         request->same_shape};
    steer_hash key = steer_hash_bytes((steer_hash){0, 0}, numbers, sizeof numbers);
    if (request->same_shape)
        key = steer_hash_bytes(key, &request->first->shape, sizeof request->first->shape);
    if (values) key = steer_hash_bytes(key, &request->first->values, sizeof request->first->values);
    return key;
}

static steer_jit_kernel *find(const steer_compiler *compiler, steer_hash key) {
    steer_node *node = steer_table_find(&compiler->kernels, key.lo);
    for (; node; node = steer_table_next(node->next, key.lo)) {
        steer_jit_kernel *kernel = STEER_OWNER(node, steer_jit_kernel);
        if (steer_hash_equal(kernel->key, key)) return kernel;
    }
    return NULL;
}

/* A kernel for the very values of the programs comes before one for all values. */
static steer_jit_kernel *find_for(const steer_plan *plan, const layer_request *request, int residual) {
    const steer_compiler *compiler = plan->engine->compiler;
    steer_jit_kernel *kernel = NULL;
    if (request->same_values) kernel = find(compiler, key_of(request, plan->rows, residual, 1));
    return kernel ? kernel : find(compiler, key_of(request, plan->rows, residual, 0));
}

/* ---- New kernels ----------------------------------------------------------------------------------------------- */

static int has_values_to_bake(const steer_program *program) {
    for (int32_t k = 0; k < program->entry.ops; k++) {
        const steer_op_image *op = &program->ops[k];
        float values[] = {op->gain, op->offset, op->lo, op->hi};
        for (int i = 0; i < 4; i++)
            if (!steer_value_is_shape(values[i])) return 1;
    }
    return 0;
}

/* Whether a kernel for these very values may be built: a series of values, such as a sweep, stops building soon. */
static int may_bake_values(const steer_compiler *compiler, const layer_request *request) {
    if (!request->same_values || !has_values_to_bake(request->first)) return 0;
    int count = 0;
    for (size_t i = 0; i < compiler->kernels.capacity; i++)
        for (steer_node *node = compiler->kernels.buckets[i]; node; node = node->next) {
            const steer_jit_kernel *kernel = STEER_OWNER(node, steer_jit_kernel);
            count += kernel->shape.values && steer_hash_equal(kernel->programs_shape, request->first->shape);
        }
    return count < MOST_VALUES;
}

static steer_shape shape_of(const layer_request *request, int values) {
    const steer_program *program = request->first;
    steer_shape shape = {-1, -1, -1, -1, -1, -1, 0, {{0}}};
    if (!request->same_shape) return shape;
    shape.adds = program->entry.u != 0;
    shape.image = program->image != NULL;
    shape.vectors = program->entry.vectors;
    shape.updated = program->entry.updated;
    shape.norm = program->entry.norm;
    shape.values = values;
    shape.ops = program->entry.ops;
    for (int32_t k = 0; k < shape.ops; k++) shape.op[k] = program->ops[k];
    return shape;
}

/* Stands for addresses that a launch has. */
static const _Alignas(16) steer_row somewhere[1];

/* A kernel to be made for the layer; NULL when memory is out. */
static steer_jit_kernel *add_kernel(const steer_plan *plan, const layer_request *request, int residual) {
    const steer_engine *engine = plan->engine;
    steer_compiler *compiler = engine->compiler;
    const steer_layer_choice *choice = request->choice;
    int values = may_bake_values(compiler, request), uniform = choice->path == STEER_PATH_UNIFORM;
    int32_t rows = plan->rows > INT32_MAX ? INT32_MAX : (int32_t)plan->rows;
    steer_jit_kernel *kernel = steer_table_reserve(&compiler->kernels) ? calloc(1, sizeof *kernel) : NULL;
    if (!kernel) return NULL;
    kernel->key = key_of(request, plan->rows, residual, values);
    if (request->same_shape) kernel->programs_shape = request->first->shape;
    kernel->shape = shape_of(request, values);
    kernel->launch = (steer_launch){.residual = residual ? somewhere : NULL,
                                    .table = uniform ? NULL : somewhere,
                                    .hidden_stride = engine->hidden,
                                    .residual_stride = engine->hidden,
                                    .hidden_size = engine->hidden,
                                    .rows = plan->rows,
                                    .dtype = engine->dtype,
                                    .few = choice->needs.few,
                                    .many = choice->needs.many,
                                    .rows_per_program = uniform ? rows : choice->rows_per_program};
    kernel->residual = residual;
    kernel->uniform = uniform;
    kernel->programs = request->programs;
    atomic_init(&kernel->state, STEER_COMPILE_STATE_NONE);
    steer_table_add(&compiler->kernels, &kernel->node, kernel->key.lo);
    return kernel;
}

/* ---- Plans ----------------------------------------------------------------------------------------------------- */

/* Looks up the kernels of a layer for the batch in force. */
static layer_kernels *look_up(steer_plan *plan, int32_t layer, layer_request *request) {
    layer_kernels *kernels = &plan->kernels->layers[layer];
    const steer_layer_choice *choice;
    kernels->epoch = plan->epoch;
    kernels->found[0] = kernels->found[1] = NULL;
    *request = (layer_request){0};
    if (steer_plan_choose(&choice, plan, layer) != STEER_OK || choice->path == STEER_PATH_NONE ||
        has_long_program(plan, layer))
        return kernels;
    *request = request_of(plan, choice, layer);
    for (int residual = 0; residual < 2; residual++)
        kernels->found[residual] = find_for(plan, request, residual);
    return kernels;
}

static void prepare_layer(steer_plan *plan, int32_t layer) {
    steer_compiler *compiler = plan->engine->compiler;
    layer_request request;
    layer_kernels *kernels = look_up(plan, layer, &request);
    for (int residual = 0; request.first && residual <= kernels->wants_residual; residual++) {
        steer_jit_kernel *kernel = kernels->found[residual];
        if (!kernel) kernel = add_kernel(plan, &request, residual);
        kernels->found[residual] = kernel;
        if (!kernel) continue;
        if (atomic_load(&kernel->state) != STEER_COMPILE_STATE_NONE)
            atomic_fetch_add(&compiler->memory_hits, 1);
        else if (plan->background)
            steer_jit_make_later(kernel, compiler);
        else if (!steer_interrupt_pending() && !steer_device_is_capturing(compiler->device))
            steer_jit_make(kernel, compiler); /* else at a later update; ordinary kernels serve */
    }
}

void steer_jit_prepare(steer_plan *plan) {
    if (plan->forced != STEER_PATH_AUTO || plan->rows == 0) return;
    if (!plan->kernels) plan->kernels = calloc(1, sizeof *plan->kernels);
    if (!plan->kernels) return; /* ordinary kernels need none */
    for (int32_t i = 0; i < plan->batch.spec_count; i++) {
        const steer_lowered *lowered = plan->batch.specs[i];
        for (int32_t layer = lowered->first; layer < lowered->first + lowered->count; layer++)
            if (plan->kernels->layers[layer].epoch != plan->epoch) prepare_layer(plan, layer);
    }
}

void steer_jit_forget(steer_plan *plan) { free(plan->kernels); }

static steer_jit_kernel *kernel_of(steer_plan *plan, int32_t layer, int residual) {
    layer_request unused;
    if (!plan->kernels) return NULL;
    if (plan->kernels->layers[layer].epoch != plan->epoch) { /* a layer that no program is on */
        pthread_mutex_lock(&plan->engine->lock);
        look_up(plan, layer, &unused);
        pthread_mutex_unlock(&plan->engine->lock);
    }
    return plan->kernels->layers[layer].found[residual];
}

const steer_jit_kernel *steer_jit_kernel_of(steer_plan *plan, int32_t layer, int residual) {
    const steer_jit_kernel *kernel = kernel_of(plan, layer, residual);
    if (residual && plan->kernels) plan->kernels->layers[layer].wants_residual = 1;
    return kernel && atomic_load(&kernel->state) == STEER_COMPILE_STATE_READY ? kernel : NULL;
}

int steer_jit_launch(const steer_jit_kernel *kernel, steer_plan *plan, const steer_launch *launch) {
    const steer_device *device = plan->engine->device;
    steer_launch own =
        *launch; /* a graph's launch has room for other programs, which this kernel does not serve */
    int served;
    own.few = kernel->launch.few;
    own.many = kernel->launch.many;
    STEER_TRY(device->backend->kernel_launch(device->state, kernel->loaded, &own, &served));
    if (served) {
        steer_plan_count(plan, STEER_COUNT_COMPILED);
        return STEER_OK;
    }
    STEER_TRY(device->backend->steer(device->state, launch));
    steer_plan_count(plan, launch->uniform ? STEER_COUNT_UNIFORM : STEER_COUNT_MIXED);
    return STEER_OK;
}

/* ---- Explaining ------------------------------------------------------------------------------------------------ */

static void say_why_none(char *why, size_t size, const steer_plan *plan, int32_t layer) {
    if (plan->forced != STEER_PATH_AUTO)
        snprintf(why, size, "a forced path has ordinary kernels only");
    else if (plan->choices[layer].path == STEER_PATH_NONE)
        snprintf(why, size, "%s", plan->choices[layer].why);
    else if (has_long_program(plan, layer))
        snprintf(why, size,
                 "kernels are specialised for programs of add, cap and ablate, at most %d operations",
                 STEER_SHAPE_OPS);
    else
        snprintf(why, size, "nothing was built for this batch");
}

void steer_jit_explain(steer_explain *out, steer_plan *plan, int32_t layer) {
    int residual = plan->kernels && plan->kernels->layers[layer].wants_residual;
    const steer_jit_kernel *kernel = kernel_of(plan, layer, residual);
    if (!kernel && residual) kernel = kernel_of(plan, layer, 0);
    int state = kernel ? atomic_load(&kernel->state) : STEER_COMPILE_STATE_NONE;
    out->compile_state = (steer_compile_state)state;
    if (state == STEER_COMPILE_STATE_NONE) {
        say_why_none(out->compile_why, sizeof out->compile_why, plan, layer);
        return;
    }
    if (state == STEER_COMPILE_STATE_COMPILING) {
        snprintf(out->compile_why, sizeof out->compile_why, "in the background");
        return;
    }
    out->compile_source = kernel->source;
    out->compile_ms = kernel->ms;
    out->ordinary_us = kernel->ordinary_us;
    out->compiled_us = kernel->compiled_us;
    double gain_us = kernel->ordinary_us - kernel->compiled_us;
    if (state == STEER_COMPILE_STATE_READY) out->pays_back = (int64_t)(kernel->ms * 1e3 / gain_us) + 1;
    snprintf(out->compile_why, sizeof out->compile_why, "%s", kernel->why);
}
