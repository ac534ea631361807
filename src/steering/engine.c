/* engine.c: makes engines, and compiles specs for them. */
#include "steering/jit.h"

/* ---- Compiled specs ------------------------------------------------------------------------------------------ */

/* Specs that were made one after the other have buckets side by side: the lookups of a batch walk few cache lines and
 * no chains. */
static uint64_t lowered_key(uint64_t spec_uid, uint64_t mask) {
    return spec_uid + mask * 0x9e3779b97f4a7c15u;
}

static void lowered_free(steer_engine *engine, steer_lowered *lowered) {
    for (int32_t i = 0; lowered->programs && i < lowered->count; i++)
        steer_program_release(engine, lowered->programs[i]);
    if (lowered->entries)
        steer_device_deallocate(engine->device, lowered->entries,
                                (size_t)lowered->count * sizeof(steer_entry));
    steer_life_release(lowered->life);
    free(lowered->programs);
    free(lowered->source_ops);
    free(lowered);
}

void steer_engine_sweep(steer_engine *engine) {
    for (size_t i = 0; i < engine->lowered.capacity; i++) {
        for (steer_node *node = engine->lowered.buckets[i], *next; node; node = next) {
            next = node->next;
            steer_lowered *lowered = STEER_OWNER(node, steer_lowered);
            if (lowered->plans > 0 || atomic_load(&lowered->life->alive)) continue;
            steer_table_remove(&engine->lowered, node);
            lowered_free(engine, lowered);
        }
    }
    engine->sweep_at = engine->lowered.count * 2 + 64;
}

/* Programs of every layer under the mask, into lowered->programs. */
static int acquire_programs(steer_lowered *lowered, steer_engine *engine, const steer_spec *spec,
                            uint64_t mask) {
    steer_op *active[STEER_MAX_OPS];
    for (int32_t i = 0; i < spec->layer_count; i++) {
        const steer_spec_layer *layer = &spec->layers[i];
        int32_t count = 0;
        for (int32_t j = layer->start; j < layer->start + layer->count; j++)
            if (spec->op_scope[j] < 0 || (mask >> spec->op_scope[j] & 1)) active[count++] = spec->ops[j];
        int32_t at = layer->layer - lowered->first;
        lowered->source_ops[at] = count;
        int status = steer_program_acquire(&lowered->programs[at], engine, count, active);
        if (status != STEER_OK) return steer_fail_prefix(status, "layer %d", layer->layer);
    }
    return STEER_OK;
}

static int upload_entries(steer_lowered *lowered, steer_engine *engine) {
    size_t bytes = (size_t)lowered->count * sizeof(steer_entry);
    steer_entry *host = calloc((size_t)lowered->count, sizeof *host);
    if (!host) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "spec: no host memory");
    for (int32_t i = 0; i < lowered->count; i++)
        if (lowered->programs[i]) host[i] = lowered->programs[i]->entry;
    int status = steer_device_allocate(engine->device, &lowered->entries, bytes, "compiled spec");
    if (status == STEER_OK)
        status = engine->device->backend->upload(engine->device->state, lowered->entries, host, bytes);
    free(host);
    return status;
}

static int compile(steer_lowered *lowered, steer_engine *engine, steer_spec *spec, uint64_t mask) {
    if (spec->layer_count == 0) return STEER_OK;
    lowered->first = spec->layers[0].layer;
    int32_t count = spec->layers[spec->layer_count - 1].layer - lowered->first + 1;
    lowered->programs = calloc((size_t)count, sizeof(steer_program *));
    lowered->source_ops = calloc((size_t)count, sizeof *lowered->source_ops);
    if (!lowered->programs || !lowered->source_ops)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "spec: no host memory for %d layers", count);
    lowered->count = count;
    STEER_TRY(acquire_programs(lowered, engine, spec, mask));
    int steers = 0;
    for (int32_t i = 0; i < count; i++) {
        const steer_program *program = lowered->programs[i];
        steers |= program != NULL;
        lowered->notes |= program && program->blocks && steer_blocks_note(program->blocks);
    }
    if (steers) return upload_entries(lowered, engine);
    lowered->count = 0;
    return STEER_OK;
}

static int create(steer_lowered **out, steer_engine *engine, steer_spec *spec, uint64_t mask) {
    steer_lowered *lowered = calloc(1, sizeof *lowered);
    if (!lowered) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "spec: no host memory");
    lowered->spec_uid = spec->uid;
    lowered->mask = mask;
    lowered->life = spec->life;
    steer_refs_add(&spec->life->refs);
    int status = compile(lowered, engine, spec, mask);
    if (status == STEER_OK && !steer_table_reserve(&engine->lowered))
        status = STEER_FAIL(STEER_E_OUT_OF_MEMORY, "engine: no host memory");
    if (status != STEER_OK) {
        lowered_free(engine, lowered);
        return status;
    }
    steer_table_add(&engine->lowered, &lowered->node, lowered_key(spec->uid, mask));
    *out = lowered;
    return STEER_OK;
}

int steer_engine_lower(steer_lowered **out, steer_engine *engine, steer_spec *spec, uint64_t mask) {
    uint64_t key = lowered_key(spec->uid, mask);
    steer_node *node = steer_table_find(&engine->lowered, key);
    for (; node; node = steer_table_next(node->next, key)) {
        steer_lowered *lowered = STEER_OWNER(node, steer_lowered);
        if (lowered->spec_uid == spec->uid && lowered->mask == mask) {
            *out = lowered;
            return STEER_OK;
        }
    }
    if (engine->lowered.count >= engine->sweep_at) steer_engine_sweep(engine);
    int status = create(out, engine, spec, mask);
    if (status != STEER_E_OUT_OF_MEMORY) return status;
    steer_engine_sweep(engine); /* what dead specs hold may be all that is missing */
    return create(out, engine, spec, mask);
}

/* ---- Engines ------------------------------------------------------------------------------------------------- */

static int check_desc(const steer_engine_desc *desc) {
    STEER_REQUIRE_STRUCT(desc);
    STEER_REQUIRE(desc->device);
    if (desc->dtype != STEER_F32 && desc->dtype != STEER_F16 && desc->dtype != STEER_BF16)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "dtype: %s, expected f32, f16 or bf16",
                          steer_dtype_name(desc->dtype));
    if (desc->hidden < 1 || desc->hidden > STEER_MAX_HIDDEN)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "hidden: %lld, expected 1 to %d", (long long)desc->hidden,
                          STEER_MAX_HIDDEN);
    if (desc->vector_bytes < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "vector_bytes: %lld, expected 0 (1 GiB) or more",
                          (long long)desc->vector_bytes);
    return steer_jit_check(desc->compile, desc->compile_background);
}

/* The mode that the environment's STEER_COMPILE asks for, INHERIT without one. */
static int environment_mode(steer_compile *out) {
    static const struct {
        const char *text;
        steer_compile mode;
    } modes[] = {{"", STEER_COMPILE_INHERIT},
                 {"0", STEER_COMPILE_OFF},
                 {"1", STEER_COMPILE_DEFAULT},
                 {"default", STEER_COMPILE_DEFAULT},
                 {"reduce-overhead", STEER_COMPILE_REDUCE_OVERHEAD}};
    const char *text = getenv("STEER_COMPILE");
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(text ? text : "", modes[i].text) != 0) continue;
        *out = modes[i].mode;
        return STEER_OK;
    }
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                      "STEER_COMPILE: \"%.64s\", expected 0, 1, default or reduce-overhead", text);
}

/* Settles the engine's mode and readies what it needs. */
static int settle_mode(steer_engine *engine, const steer_engine_desc *desc) {
    engine->compile = desc->compile;
    engine->background = desc->compile_background == 1;
    if (desc->compile == STEER_COMPILE_INHERIT) STEER_TRY(environment_mode(&engine->compile));
    if (engine->compile != STEER_COMPILE_DEFAULT) return STEER_OK;
    int status = steer_jit_open(engine);
    return status != STEER_OK && desc->compile == STEER_COMPILE_INHERIT
               ? steer_fail_prefix(status, "STEER_COMPILE")
               : status;
}

int steer_engine_create(steer_engine **out, const steer_engine_desc *desc) {
    STEER_ENTER("engine_create");
    STEER_REQUIRE(out);
    STEER_TRY(check_desc(desc));
    steer_engine *engine = calloc(1, sizeof *engine);
    if (!engine) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "engine: no host memory");
    steer_refs_init(&engine->refs);
    engine->device = steer_device_retain(desc->device);
    engine->dtype = desc->dtype;
    engine->hidden = desc->hidden;
    engine->bank.device = desc->device;
    engine->bank.budget = desc->vector_bytes ? desc->vector_bytes : (int64_t)1 << 30;
    engine->sweep_at = 64;
    pthread_mutex_init(&engine->lock, NULL);
    int status = settle_mode(engine, desc);
    if (status != STEER_OK) {
        steer_engine_release(engine);
        return status;
    }
    *out = engine;
    return STEER_OK;
}

void steer_engine_release(steer_engine *engine) {
    if (!engine || !steer_refs_drop(&engine->refs)) return;
    steer_jit_close(engine);
    for (size_t i = 0; i < engine->lowered.capacity; i++) {
        for (steer_node *node = engine->lowered.buckets[i], *next; node; node = next) {
            next = node->next;
            lowered_free(engine, STEER_OWNER(node, steer_lowered));
        }
    }
    steer_table_free(&engine->lowered);
    steer_table_free(&engine->programs);
    steer_bank_free(&engine->bank);
    steer_device_release(engine->device);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

int steer_engine_get_stats(steer_engine_stats *out, steer_engine *engine) {
    STEER_ENTER("engine_get_stats");
    STEER_REQUIRE(engine);
    STEER_REQUIRE_STRUCT(out);
    pthread_mutex_lock(&engine->lock);
    steer_engine_sweep(engine);
    const steer_bank *bank = &engine->bank;
    *out = engine->stats;
    out->struct_size = sizeof *out;
    out->vectors = (int64_t)bank->table.count;
    out->vector_bytes = bank->bytes;
    out->vector_budget = bank->budget;
    out->vector_hits = bank->hits;
    out->vector_misses = bank->misses;
    out->vector_evictions = bank->evictions;
    out->programs = (int64_t)engine->programs.count;
    for (const steer_plan *plan = engine->plans; plan; plan = plan->older) steer_plan_add_counts(out, plan);
    steer_jit_count(out, engine);
    pthread_mutex_unlock(&engine->lock);
    return STEER_OK;
}
