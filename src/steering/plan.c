/* plan.c: turns requests into rows and chooses the path of a layer. */
#include "steering/jit.h"
#include "steering/row_table.h"

/* ---- Building a batch ---------------------------------------------------------------------------------------- */

/* The full array of elements of `size` bytes with twice the room; NULL when memory is out. */
static void *grow(void *array, int32_t *capacity, size_t size) {
    int64_t wanted = *capacity ? 2 * (int64_t)*capacity : 64;
    void *bigger = wanted <= INT32_MAX ? realloc(array, (size_t)wanted * size) : NULL;
    if (!bigger) {
        steer_fail(STEER_E_OUT_OF_MEMORY, __FILE__, __LINE__, "plan: no host memory for %lld entries",
                   (long long)*capacity + 1);
        return NULL;
    }
    *capacity = (int32_t)wanted;
    return bigger;
}

/* Makes room for one more element of a steer_batch array. */
#define ROOM(batch, array)                                                                                   \
    do {                                                                                                     \
        if ((batch)->array##_count < (batch)->array##_capacity) break;                                       \
        void *room = grow((batch)->array##s, &(batch)->array##_capacity, sizeof *(batch)->array##s);         \
        if (!room) return STEER_E_OUT_OF_MEMORY;                                                             \
        (batch)->array##s = room;                                                                            \
    } while (0)

static int push_segment(steer_batch *batch, int64_t rows, int32_t request, steer_lowered *lowered) {
    if (rows == 0) return STEER_OK; /* an empty request has no say in the path */
    ROOM(batch, segment);
    batch->segments[batch->segment_count++] = (steer_segment){batch->total, rows, request, lowered};
    batch->total += rows;
    if (lowered)
        batch->steered_rows += rows;
    else
        batch->has_unsteered = 1;
    return STEER_OK;
}

/* Notes a lowered spec once per batch and holds it. */
static int hold(steer_batch *batch, steer_lowered *lowered, uint64_t epoch) {
    if (lowered->stamp == epoch) return STEER_OK;
    ROOM(batch, spec);
    lowered->stamp = epoch;
    lowered->plans++;
    batch->notes |= lowered->notes;
    batch->specs[batch->spec_count++] = lowered;
    return STEER_OK;
}

/* The lowered spec of rows under `mask`, held; *out NULL if it steers nothing. */
static int resolve(steer_lowered **out, steer_plan *plan, steer_batch *batch, steer_spec *spec,
                   uint64_t mask) {
    STEER_TRY(steer_engine_lower(out, plan->engine, spec, mask));
    if ((*out)->count == 0) {
        *out = NULL;
        return STEER_OK;
    }
    return hold(batch, *out, plan->engine->epoch);
}

static uint64_t row_mask(const steer_spec *spec, const steer_request *request, int64_t row) {
    uint64_t mask = 0;
    for (int32_t i = 0; i < spec->scope_count; i++)
        mask |= (uint64_t)steer_scope_selects(spec->scopes[i], request, row) << i;
    return mask;
}

/* A request whose spec has scopes: one segment per run of rows with the same mask. */
static int add_scoped(steer_plan *plan, steer_batch *batch, int32_t index, const steer_request *request) {
    for (int64_t row = 0, end; row < request->tokens; row = end) {
        uint64_t mask = row_mask(request->spec, request, row);
        for (end = row + 1; end < request->tokens && row_mask(request->spec, request, end) == mask;) end++;
        steer_lowered *lowered;
        STEER_TRY(resolve(&lowered, plan, batch, request->spec, mask));
        STEER_TRY(push_segment(batch, end - row, index, lowered));
    }
    return STEER_OK;
}

static int add_request(steer_plan *plan, steer_batch *batch, int32_t index, const steer_request *request) {
    steer_spec *spec = request->spec;
    int64_t steered_before = batch->steered_rows;
    if (!spec || spec->op_count == 0) return push_segment(batch, request->tokens, index, NULL);
    if (spec->scope_count > 0) {
        STEER_TRY(add_scoped(plan, batch, index, request));
    } else if (request->tokens > 0) {
        steer_lowered *lowered;
        STEER_TRY(resolve(&lowered, plan, batch, spec, 0));
        STEER_TRY(push_segment(batch, request->tokens, index, lowered));
    }
    if (batch->steered_rows != steered_before) return STEER_OK;
    ROOM(batch, idle);
    batch->idles[batch->idle_count++] = index;
    return STEER_OK;
}

/* Whether its rows can lie where it says. A prompt of no tokens is what a caller has who does not say how long it is, and
 * matters to scopes alone. */
static int check_place(const steer_request *request) {
    int matters = request->prompt_tokens > 0 ||
                  (request->prompt_tokens == 0 && request->spec && request->spec->scope_count > 0);
    long long end = request->prompt_tokens, position = request->position;
    if (!matters || request->tokens == 0) return STEER_OK;
    if (request->phase == STEER_GENERATION && position < end)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "position: %lld, a generated row cannot lie before the end of its prompt of %lld "
                          "tokens (prompt_tokens); positions count from the beginning of the prompt",
                          position, end);
    if (request->phase == STEER_PROMPT && (position > end || request->tokens > end - position))
        return STEER_FAIL(
            STEER_E_INVALID_ARGUMENT,
            "tokens: %lld from position %lld on, a prompt of %lld tokens (prompt_tokens) has no "
            "such rows; generated ones have the phase generation",
            (long long)request->tokens, position, end);
    return STEER_OK;
}

static int check_request(const steer_plan *plan, const steer_request *request) {
    if (request->tokens < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "tokens: %lld, expected 0 or more",
                          (long long)request->tokens);
    if ((unsigned)request->phase > STEER_GENERATION)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "phase: %d, expected a steer_phase", (int)request->phase);
    if (request->position < 0 || request->position > INT64_MAX / 2)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "position: %lld, expected 0 to 2^62",
                          (long long)request->position);
    const steer_spec *spec = request->spec;
    STEER_TRY(check_place(request));
    if (!spec || spec->op_count == 0) return STEER_OK;
    if (spec->hidden != 0 && spec->hidden != plan->engine->hidden)
        return STEER_FAIL(STEER_E_SHAPE_MISMATCH,
                          "spec: vectors of %lld elements, the engine's hidden size is %lld",
                          (long long)spec->hidden, (long long)plan->engine->hidden);
    for (int32_t i = 0; i < spec->scope_count; i++) STEER_TRY(steer_scope_check(spec->scopes[i], request));
    if (spec->asks && !plan->notes_shared && request->phase == STEER_GENERATION && request->tokens > 0)
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "phase: generation, its spec asks for the verdict of the whole prompt, which "
                          "sessions of models keep for later batches and a plan does not");
    return STEER_OK;
}

static void batch_reset(steer_batch *batch) {
    for (int32_t i = 0; i < batch->spec_count; i++) batch->specs[i]->plans--;
    batch->total = batch->steered_rows = 0;
    batch->notes = 0;
    batch->segment_count = batch->spec_count = batch->idle_count = batch->has_unsteered = 0;
}

static int batch_build(steer_plan *plan, steer_batch *batch, int32_t count, const steer_request *requests) {
    for (int32_t i = 0; i < count; i++) {
        int status = check_request(plan, &requests[i]);
        if (status == STEER_OK && requests[i].tokens > plan->rows - batch->total)
            status =
                STEER_FAIL(STEER_E_SHAPE_MISMATCH, "tokens: %lld after %lld rows, the plan has %lld",
                           (long long)requests[i].tokens, (long long)batch->total, (long long)plan->rows);
        if (status == STEER_OK) status = add_request(plan, batch, i, &requests[i]);
        if (status != STEER_OK) return steer_fail_prefix(status, "requests[" STEER_INDEX "]", i);
    }
    return STEER_OK;
}

/* ---- Idle specs ---------------------------------------------------------------------------------------------- */

typedef struct spec_use {
    uint64_t uid;
    int32_t steers; /* sorts uses that steer before those that do not */
    int32_t request;
} spec_use;

static int compare_uses(const void *a, const void *b) {
    const spec_use *x = a, *y = b;
    if (x->uid != y->uid) return x->uid < y->uid ? -1 : 1;
    if (x->steers != y->steers) return y->steers - x->steers;
    return (x->request > y->request) - (x->request < y->request);
}

static int compare_requests(const void *a, const void *b) {
    return *(const int32_t *)a - *(const int32_t *)b;
}

/* Keeps one idle request per spec, and only if no other request makes the spec steer. */
static int settle_idle(steer_batch *batch, const steer_request *requests) {
    if (batch->idle_count == 0) return STEER_OK;
    spec_use *uses = malloc(((size_t)batch->segment_count + (size_t)batch->idle_count) * sizeof *uses);
    if (!uses) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "plan: no host memory");
    size_t n = 0;
    for (int32_t i = 0; i < batch->segment_count; i++)
        if (batch->segments[i].lowered && batch->segments[i].rows > 0)
            uses[n++] = (spec_use){batch->segments[i].lowered->spec_uid, 1, batch->segments[i].request};
    for (int32_t i = 0; i < batch->idle_count; i++)
        uses[n++] = (spec_use){requests[batch->idles[i]].spec->uid, 0, batch->idles[i]};
    qsort(uses, n, sizeof *uses, compare_uses);
    batch->idle_count = 0;
    for (size_t i = 0; i < n; i++)
        if (!uses[i].steers && (i == 0 || uses[i].uid != uses[i - 1].uid))
            batch->idles[batch->idle_count++] = uses[i].request;
    qsort(batch->idles, (size_t)batch->idle_count, sizeof *batch->idles, compare_requests);
    free(uses);
    return STEER_OK;
}

/* ---- Choosing the path --------------------------------------------------------------------------------------- */

int steer_plan_check_layer(int32_t layer) {
    if (layer < 0 || layer >= STEER_MAX_LAYERS)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "layer: %d, expected 0 to %d", layer,
                          STEER_MAX_LAYERS - 1);
    return STEER_OK;
}

static void choose_auto(steer_layer_choice *choice, const steer_batch *batch, int32_t layer) {
    steer_program *first = NULL;
    int programs = 0, holes = batch->has_unsteered, conditional = 0;
    steer_envelope needs = {.rows = batch->total};
    for (int32_t i = 0; i < batch->spec_count; i++) {
        steer_program *program = steer_lowered_program(batch->specs[i], layer);
        if (!program) {
            holes = 1;
            continue;
        }
        if (program != first) programs++;
        if (!first) first = program;
        conditional |= program->conditional;
        if (!steer_program_is_plain(program)) {
            const int32_t demand = steer_blocks_demand(program->blocks);
            if (demand > needs.blocks) needs.blocks = demand;
            continue;
        }
        const steer_needs its = steer_program_needs(program);
        steer_needs_widen(steer_program_is_few(program) ? &needs.few : &needs.many, &its);
    }
    choice->needs = needs;
    choice->program = first;
    choice->conditional = conditional;
    choice->path = programs == 0             ? STEER_PATH_NONE
                   : programs == 1 && !holes ? STEER_PATH_UNIFORM
                                             : STEER_PATH_MIXED;
    choice->why = programs == 0  ? "no row is steered on this layer"
                  : programs > 1 ? "several programs share the batch"
                  : holes        ? "some rows are not steered"
                                 : "one program covers every row";
    choice->rows_per_program =
        (int32_t)(batch->segment_count ? batch->total / batch->segment_count : batch->total);
}

int steer_plan_choose(const steer_layer_choice **out, steer_plan *plan, int32_t layer) {
    steer_layer_choice *choice = &plan->choices[layer];
    if (choice->epoch != plan->epoch) {
        choose_auto(choice, &plan->batch, layer);
        choice->epoch = plan->epoch;
    }
    *out = choice;
    if (plan->forced == STEER_PATH_UNIFORM && choice->path == STEER_PATH_MIXED)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "path: uniform cannot serve layer %d: %s", layer, choice->why);
    return STEER_OK;
}

static int check_forced(steer_plan *plan) {
    if (plan->forced != STEER_PATH_UNIFORM) return STEER_OK;
    for (int32_t i = 0; i < plan->batch.spec_count; i++) {
        const steer_lowered *lowered = plan->batch.specs[i];
        for (int32_t layer = lowered->first; layer < lowered->first + lowered->count; layer++) {
            const steer_layer_choice *choice;
            STEER_TRY(steer_plan_choose(&choice, plan, layer));
        }
    }
    return STEER_OK;
}

/* ---- Updating ------------------------------------------------------------------------------------------------ */

/* Writes the record of a row, from the last one to the first, in front of `row`. */
static void put_row(steer_row **row, steer_row *record) {
    if (record->run < UINT32_MAX) record->run++;
    *--*row = *record;
}

/* Nothing is noted of any row. */
static int clear_notes(const steer_plan *plan) {
    const steer_device *device = plan->engine->device;
    const steer_view view = {plan->notes, STEER_F32, 1, {2 * plan->rows}, {1}};
    return device->backend->fill(device->state, &view, 0);
}

/* Writes the row table and sends it to the device in stream order. */
static int send_table(steer_plan *plan) {
    const steer_batch *batch = &plan->batch;
    steer_row *row = plan->stage + plan->rows, record = {0};
    for (int64_t n = plan->rows - batch->total; n > 0; n--) put_row(&row, &record);
    for (int32_t i = batch->segment_count - 1; i >= 0; i--) {
        const steer_lowered *lowered = batch->segments[i].lowered;
        const uint64_t entries = lowered ? (uint64_t)(uintptr_t)lowered->entries : 0;
        if (entries != record.entries)
            record = (steer_row){entries, (uint16_t)(lowered ? lowered->first : 0),
                                 (uint16_t)(lowered ? lowered->count : 0), 0};
        for (int64_t n = batch->segments[i].rows; n > 0; n--) put_row(&row, &record);
    }
    if (plan->rows == 0) return STEER_OK;
    const steer_device *device = plan->engine->device;
    int32_t inner_runs[STEER_INNER_TILES];
    const size_t bytes = steer_row_table_find_inner(inner_runs, plan->stage, plan->rows);
    STEER_TRY(device->backend->upload(device->state, plan->table, plan->stage, bytes));
    memcpy(plan->inner_runs, inner_runs, sizeof inner_runs);
    return batch->notes && !plan->notes_shared ? clear_notes(plan) : STEER_OK;
}

static void swap_batches(steer_plan *plan) {
    steer_batch batch = plan->batch;
    plan->batch = plan->spare;
    plan->spare = batch;
    plan->epoch = ++plan->engine->epoch;
}

/* With the engine's lock held. */
static int update_locked(steer_plan *plan, int32_t count, const steer_request *requests) {
    if (count < 0 || count > STEER_MAX_REQUESTS)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "request_count: %d, expected 0 to %d", count,
                          STEER_MAX_REQUESTS);
    if (count > 0) STEER_REQUIRE(requests);
    plan->engine->epoch++;
    steer_batch *next = &plan->spare;
    int status = batch_build(plan, next, count, requests);
    if (status == STEER_OK) status = settle_idle(next, requests);
    if (status == STEER_OK && plan->strict && next->idle_count > 0)
        status = STEER_FAIL(STEER_E_NO_EFFECT,
                            "requests[" STEER_INDEX "]: its spec steers no row on any layer (%d such specs)",
                            next->idles[0], next->idle_count);
    if (status == STEER_OK) {
        swap_batches(plan);
        status = check_forced(plan);
        if (status == STEER_OK) status = send_table(plan);
        if (status != STEER_OK) swap_batches(plan);
    }
    batch_reset(&plan->spare); /* the batch that was, or the one that failed */
    if (status != STEER_OK) return status;
    plan->engine->stats.updates++;
    plan->missed = plan->met = 0;
    if (plan->compile == STEER_COMPILE_DEFAULT) steer_jit_prepare(plan);
    return STEER_OK;
}

static int update(steer_plan *plan, int32_t count, const steer_request *requests) {
    pthread_mutex_lock(&plan->engine->lock);
    int status = update_locked(plan, count, requests);
    pthread_mutex_unlock(&plan->engine->lock);
    return status;
}

int steer_plan_update(steer_plan *plan, int32_t request_count, const steer_request *requests) {
    STEER_ENTER("plan_update");
    STEER_REQUIRE(plan);
    return update(plan, request_count, requests);
}

int32_t steer_plan_is_missed(const steer_plan *plan) {
    return plan && plan->missed && !plan->met && plan->batch.steered_rows > 0;
}

/* ---- Creating ------------------------------------------------------------------------------------------------ */

static int count_rows(int64_t *out, const steer_plan_desc *desc) {
    int64_t total = 0;
    for (int32_t i = 0; i < desc->request_count; i++) {
        int64_t tokens = desc->requests[i].tokens;
        if (tokens < 0 || tokens > UINT32_MAX - total)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "requests[" STEER_INDEX
                              "]: tokens: %lld, expected 0 or more, at most %lld rows in all",
                              i, (long long)tokens, (long long)UINT32_MAX);
        total += tokens;
    }
    if (desc->rows < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "rows: %lld, expected 0 (the requests' rows) or more",
                          (long long)desc->rows);
    if (desc->rows > 0 && desc->rows < total)
        return STEER_FAIL(STEER_E_SHAPE_MISMATCH, "rows: %lld, the requests have %lld", (long long)desc->rows,
                          (long long)total);
    *out = desc->rows > 0 ? desc->rows : total;
    if (*out > UINT32_MAX)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "rows: %lld is beyond what can be addressed",
                          (long long)*out);
    return STEER_OK;
}

static int check_desc(const steer_plan_desc *desc) {
    STEER_REQUIRE_STRUCT(desc);
    if ((unsigned)desc->path > STEER_PATH_LOOP)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "path: %d, expected auto, uniform, mixed or loop",
                          (int)desc->path);
    if (desc->request_count < 0 || desc->request_count > STEER_MAX_REQUESTS)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "request_count: %d, expected 0 to %d",
                          desc->request_count, STEER_MAX_REQUESTS);
    if (desc->request_count > 0) STEER_REQUIRE(desc->requests);
    return steer_jit_check(desc->compile, desc->compile_background);
}

/* Takes the plan's mode from the descriptor or the engine and readies what it needs. */
static int settle_mode(steer_plan *plan, const steer_plan_desc *desc) {
    plan->compile = desc->compile ? desc->compile : plan->engine->compile;
    plan->background = desc->compile_background ? desc->compile_background == 1 : plan->engine->background;
    if (plan->compile != STEER_COMPILE_DEFAULT) return STEER_OK;
    pthread_mutex_lock(&plan->engine->lock);
    int status = steer_jit_open(plan->engine);
    pthread_mutex_unlock(&plan->engine->lock);
    return status;
}

static void batch_free(steer_batch *batch) {
    batch_reset(batch);
    free(batch->segments);
    free(batch->specs);
    free(batch->idles);
}

void steer_plan_add_counts(steer_engine_stats *out, const steer_plan *plan) {
    int64_t *const totals[STEER_COUNTERS] = {
        [STEER_COUNT_APPLIES] = &out->applies,
        [STEER_COUNT_NONE] = &out->applies_none,
        [STEER_COUNT_UNIFORM] = &out->launches_uniform,
        [STEER_COUNT_MIXED] = &out->launches_mixed,
        [STEER_COUNT_LOOP] = &out->launches_loop,
        [STEER_COUNT_GRAPH] = &out->launches_graph,
        [STEER_COUNT_COMPILED] = &out->launches_compiled,
    };
    for (int i = 0; i < STEER_COUNTERS; i++)
        *totals[i] += atomic_load_explicit(&plan->counts[i], memory_order_relaxed);
}

/* Enters the plan in the list of its engine. */
static void enlist(steer_plan *plan) {
    steer_engine *engine = plan->engine;
    pthread_mutex_lock(&engine->lock);
    plan->older = engine->plans;
    if (plan->older) plan->older->newer = plan;
    engine->plans = plan;
    engine->stats.plans++;
    engine->stats.live_plans++;
    pthread_mutex_unlock(&engine->lock);
}

/* With the engine's lock held. */
static void strike_out(steer_plan *plan) {
    steer_engine *engine = plan->engine;
    *(plan->newer ? &plan->newer->older : &engine->plans) = plan->older;
    if (plan->older) plan->older->newer = plan->newer;
    steer_plan_add_counts(&engine->stats, plan);
    engine->stats.live_plans--;
}

static void free_plan(steer_plan *plan, int listed) {
    steer_jit_forget(plan);
    pthread_mutex_lock(&plan->engine->lock);
    if (listed) strike_out(plan);
    batch_free(&plan->batch);
    batch_free(&plan->spare);
    pthread_mutex_unlock(&plan->engine->lock);
    if (plan->notes && !plan->notes_shared)
        steer_device_deallocate(plan->engine->device, plan->notes, (size_t)plan->rows * sizeof(uint64_t));
    if (plan->table) steer_device_deallocate(plan->engine->device, plan->table, steer_rows_room(plan->rows));
    free(plan->stage);
    free(plan->choices);
    steer_engine_release(plan->engine);
    free(plan);
}

/* Takes the caller's words of notes, or makes some. */
static int take_notes(steer_plan *plan, void *notes) {
    plan->notes = notes;
    plan->notes_shared = notes != NULL;
    if (notes || plan->rows == 0) return STEER_OK;
    return steer_device_allocate(plan->engine->device, &plan->notes, (size_t)plan->rows * sizeof(uint64_t),
                                 "plan's notes");
}

int steer_plan_create_noting(steer_plan **out, steer_engine *engine, const steer_plan_desc *desc,
                             void *notes) {
    STEER_REQUIRE(out);
    STEER_REQUIRE(engine);
    STEER_TRY(check_desc(desc));
    int64_t rows;
    STEER_TRY(count_rows(&rows, desc));
    steer_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "plan: no host memory");
    steer_refs_init(&plan->refs);
    steer_refs_add(&engine->refs);
    plan->engine = engine;
    plan->forced = desc->path;
    plan->strict = desc->strict;
    plan->rows = rows;
    plan->stage = malloc(steer_rows_room(plan->rows));
    plan->choices = calloc(STEER_MAX_LAYERS, sizeof *plan->choices);
    int status = settle_mode(plan, desc);
    if (status == STEER_OK && !(plan->stage && plan->choices))
        status = STEER_FAIL(STEER_E_OUT_OF_MEMORY, "plan: no host memory for %lld rows", (long long)rows);
    if (status == STEER_OK)
        status =
            steer_device_allocate(engine->device, &plan->table, steer_rows_room(rows), "plan's row table");
    if (status == STEER_OK) status = take_notes(plan, notes);
    if (status == STEER_OK) status = update(plan, desc->request_count, desc->requests);
    if (status != STEER_OK) {
        free_plan(plan, 0);
        return status;
    }
    enlist(plan);
    *out = plan;
    return STEER_OK;
}

int steer_plan_create(steer_plan **out, steer_engine *engine, const steer_plan_desc *desc) {
    STEER_ENTER("plan_create");
    return steer_plan_create_noting(out, engine, desc, NULL);
}

void steer_plan_release(steer_plan *plan) {
    if (!plan || !steer_refs_drop(&plan->refs)) return;
    free_plan(plan, 1);
}
