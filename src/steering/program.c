/* program.c: lowers operations: drops no-ops, folds adds, interns, and writes the device image of image.h.
 *
 * With u the sum of all unconditional adds and u_k the part of it before projecting operation k,
 *     s_k = inv_k * (h.m_k + sum over j<k of C_j (m_j.m_k)) + inv_k * (u_k.m_k),   h' = h + u + sum of C_k m_k
 * where C_k = c_k * inv_k: the compact WY form of a chain of rank-1 updates (Schreiber and Van Loan 1989), with
 * constants folded. A cosine needs |h| as the operations before left it, so a program with one folds nothing. */
#include "steering/program.h"

#include "steering/engine.h"

#include <math.h>

/* ---- Source: operations by content --------------------------------------------------------------------------- */

static void source_fill(steer_source *source, const steer_op *op) {
    memset(source, 0, sizeof *source); /* padding too: sources are compared as bytes */
    source->vector = steer_vector_retain(op->vectors.at[0]);
    source->inv = steer_op_vector_scale(op);
    steer_op_table[op->kind].coefficients(op, &source->gain, &source->offset, &source->lo, &source->hi);
    source->is_add = op->kind == STEER_OP_ADD && op->atom_count == 0;
    if (op->atom_count == 0) return;
    const steer_op_atom *gate = &op->atoms[0];
    source->gate_vector = steer_vector_retain(gate->vector);
    source->gate_inv = steer_op_atom_scale(gate);
    source->threshold = gate->threshold;
    source->flags = (gate->cosine ? STEER_OP_IMAGE_COSINE : 0u) | (gate->below ? STEER_OP_IMAGE_BELOW : 0u);
}

static void source_release(steer_source *source, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        steer_vector_release(source[i].vector);
        steer_vector_release(source[i].gate_vector);
    }
    free(source);
}

static size_t source_scalars_at(void) { return offsetof(steer_source, inv); }

static steer_hash source_hash(const steer_source *source, int32_t count) {
    steer_hash hash = {0, 0};
    for (int32_t i = 0; i < count; i++) {
        hash = steer_hash_bytes(hash, &source[i].vector->hash, sizeof source[i].vector->hash);
        if (source[i].gate_vector)
            hash = steer_hash_bytes(hash, &source[i].gate_vector->hash, sizeof source[i].gate_vector->hash);
        hash = steer_hash_bytes(hash, (const char *)&source[i] + source_scalars_at(),
                                sizeof source[i] - source_scalars_at());
    }
    return hash;
}

static int source_equal(const steer_source *a, const steer_source *b, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        if (memcmp((const char *)&a[i] + source_scalars_at(), (const char *)&b[i] + source_scalars_at(),
                   sizeof a[i] - source_scalars_at()) != 0)
            return 0;
        if (!steer_vector_equal(a[i].vector, b[i].vector)) return 0;
        if (!a[i].gate_vector != !b[i].gate_vector) return 0;
        if (a[i].gate_vector && !steer_vector_equal(a[i].gate_vector, b[i].gate_vector)) return 0;
    }
    return 1;
}

/* ---- Draft: a program being lowered ------------------------------------------------------------------------- */

typedef struct draft {
    int64_t hidden;
    int fold; /* adds are folded */
    int norm; /* a cosine asks for h.h */
    int32_t vector_count, updated, op_count;
    steer_vector **vectors; /* distinct, borrowed: those added to h first */
    steer_op_image *ops;
    double *sum;       /* [hidden], the adds so far */
    steer_vector *add; /* the folded adds, NULL: none */
    double add_coef;   /* on add->m */
} draft;

static void draft_free(draft *d) {
    free(d->vectors);
    free(d->ops);
    free(d->sum);
    steer_vector_release(d->add);
}

static int32_t draft_vector(draft *d, steer_vector *vector) {
    for (int32_t i = 0; i < d->vector_count; i++)
        if (steer_vector_equal(d->vectors[i], vector)) return i;
    d->vectors[d->vector_count] = vector;
    return d->vector_count++;
}

/* Numbers the vectors: those that operations add to h, then those that are only gates. */
static int draft_vectors(draft *d, const steer_source *source, int32_t count) {
    d->vectors = calloc((size_t)count * 2, sizeof(steer_vector *));
    d->ops = calloc((size_t)count, sizeof *d->ops);
    if (!d->vectors || !d->ops) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "program: no host memory");
    for (int32_t i = 0; i < count; i++)
        if (!(d->fold && source[i].is_add)) draft_vector(d, source[i].vector);
    d->updated = d->vector_count;
    for (int32_t i = 0; i < count; i++)
        if (source[i].gate_vector) draft_vector(d, source[i].gate_vector);
    return STEER_OK;
}

static double dot_sum(const draft *d, const steer_vector *vector) {
    double dot = 0;
    if (d->sum)
        for (int64_t i = 0; i < d->hidden; i++) dot += d->sum[i] * (double)vector->m[i];
    return dot;
}

static int draft_add(draft *d, const steer_source *source) {
    double coef = source->offset * source->inv;
    if (!(fabs(coef) <= FLT_MAX))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "add: scale times vector is beyond the range of f32");
    if (!d->sum && !(d->sum = calloc((size_t)d->hidden, sizeof *d->sum)))
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "program: no host memory");
    for (int64_t i = 0; i < d->hidden; i++) d->sum[i] += coef * (double)source->vector->m[i];
    return STEER_OK;
}

static int draft_op(draft *d, const steer_source *source) {
    if (!(source->inv <= FLT_MAX) || !(source->gate_inv <= FLT_MAX))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "vector: its magnitude is beyond the range of f32");
    steer_op_image *op = &d->ops[d->op_count++];
    op->dot = draft_vector(d, source->vector);
    op->gate = source->gate_vector ? draft_vector(d, source->gate_vector) : -1;
    op->flags = source->flags;
    op->inv = (float)source->inv;
    op->inv_rest = (float)(source->inv - (double)op->inv);
    op->bias = (float)(source->inv * dot_sum(d, source->vector));
    op->gain = (float)source->gain;
    op->offset = (float)source->offset;
    op->lo = (float)source->lo;
    op->hi = (float)source->hi;
    op->gate_inv = (float)source->gate_inv;
    if (source->gate_vector) op->gate_bias = (float)(source->gate_inv * dot_sum(d, source->gate_vector));
    op->threshold = (float)source->threshold;
    return STEER_OK;
}

/* The folded adds as one vector: the users' own where all adds share it, else their sum in f32. */
static int draft_fold(draft *d, const steer_source *source, int32_t count) {
    if (!d->sum) return STEER_OK;
    steer_vector *only = NULL;
    double coef = 0;
    int shared = 1;
    for (int32_t i = 0; i < count; i++) {
        if (!source[i].is_add) continue;
        if (only && !steer_vector_equal(only, source[i].vector)) shared = 0;
        only = source[i].vector;
        coef += source[i].offset * source[i].inv;
    }
    if (shared) {
        if (coef == 0) return STEER_OK;
        d->add = steer_vector_retain(only);
        d->add_coef = coef;
        return STEER_OK;
    }
    int64_t i = 0;
    while (i < d->hidden && d->sum[i] == 0) i++;
    if (i == d->hidden) return STEER_OK; /* they cancel */
    STEER_TRY(steer_vector_from_f64(&d->add, d->sum, d->hidden));
    d->add_coef = ldexp(1, d->add->exponent);
    return STEER_OK;
}

static int draft_compile(draft *d, const steer_source *source, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        if (source[i].flags & STEER_OP_IMAGE_COSINE) d->norm = 1;
    d->fold = !d->norm;
    STEER_TRY(draft_vectors(d, source, count));
    for (int32_t i = 0; i < count; i++)
        STEER_TRY(d->fold && source[i].is_add ? draft_add(d, &source[i]) : draft_op(d, &source[i]));
    STEER_TRY(draft_fold(d, source, count));
    if (!(fabs(d->add_coef) <= FLT_MAX))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "add: the sum of the adds is beyond the range of f32");
    return STEER_OK;
}

/* ---- Program: the draft in device memory --------------------------------------------------------------------- */

static uint64_t address(const void *pointer) { return (uint64_t)(uintptr_t)pointer; }

void steer_entry_write(steer_entry *entry, const steer_program_image *head, const uint64_t *addresses,
                       const steer_op_image *ops) {
    *entry = (steer_entry){
        .vectors = head->vectors, .updated = head->updated, .ops = head->ops, .norm = head->norm};
    for (int32_t i = 0; i < head->vectors && i < STEER_ENTRY_VECTORS; i++) entry->m[i] = addresses[i];
    if (head->ops != 1 || head->vectors != 1) return;
    entry->inv = ops->inv;
    entry->bias = ops->bias;
    entry->gain = ops->gain;
    entry->lo = ops->lo;
    entry->hi = ops->hi;
}

void steer_image_write(char *image, const steer_program_image *head, const uint64_t *addresses,
                       const steer_op_image *ops) {
    memcpy(image, head, sizeof *head);
    memcpy(image + steer_image_vectors_at(), addresses, (size_t)head->vectors * sizeof *addresses);
    memcpy(image + steer_image_ops_at(head->vectors), ops, (size_t)head->ops * sizeof *ops);
}

static int upload_image(steer_program *program, steer_engine *engine, const draft *d,
                        const steer_program_image *head, const uint64_t *addresses) {
    int32_t n = d->vector_count;
    program->image_bytes = steer_image_room(n, d->op_count);
    char *host = calloc(1, program->image_bytes);
    if (!host) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "program: no host memory");
    steer_image_write(host, head, addresses, d->ops);
    float *gram = (float *)(void *)(host + steer_image_gram_at(n, d->op_count));
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j <= i; j++)
            gram[i * n + j] = gram[j * n + i] = (float)steer_vector_dot(d->vectors[i], d->vectors[j]);
    steer_device *device = engine->device;
    int status = steer_device_allocate(device, &program->image, program->image_bytes, "compiled program");
    if (status == STEER_OK)
        status = device->backend->upload(device->state, program->image, host, program->image_bytes);
    free(host);
    return status;
}

/* A value as far as it belongs to the shape. */
static float shape_value(float value) { return steer_value_is_shape(value) ? value : NAN; }

/* Programs with equal hashes can be served by one specialised kernel. */
static void hash_shape(steer_program *program) {
    if (program->entry.ops > STEER_SHAPE_OPS) return; /* it has none */
    const steer_entry *entry = &program->entry;
    int32_t counts[] = {entry->u != 0,          program->image != NULL, entry->vectors,
                        program->entry.updated, program->entry.ops,     program->entry.norm};
    steer_hash shape = steer_hash_bytes((steer_hash){0, 0}, counts, sizeof counts), values = {0, 0};
    for (int32_t k = 0; k < program->entry.ops; k++) {
        const steer_op_image *op = &program->ops[k];
        int32_t indices[] = {op->dot, op->gate, (int32_t)op->flags};
        float all[] = {op->gain, op->offset, op->lo, op->hi}, known[4];
        for (int i = 0; i < 4; i++) known[i] = shape_value(all[i]);
        shape = steer_hash_bytes(shape, indices, sizeof indices);
        shape = steer_hash_bytes(shape, known, sizeof known);
        values = steer_hash_bytes(values, all, sizeof all);
    }
    program->shape = shape;
    program->values = values;
}

static int load(steer_program *program, steer_engine *engine, draft *d) {
    program->residents = calloc((size_t)d->vector_count + 1, sizeof(steer_resident *));
    if (!program->residents) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "program: no host memory");
    for (int32_t i = 0; i < d->vector_count + (d->add ? 1 : 0); i++) {
        steer_vector *vector = i < d->vector_count ? d->vectors[i] : d->add;
        STEER_TRY(steer_bank_acquire(&program->residents[i], &engine->bank, vector));
        program->resident_count++;
    }
    steer_entry *entry = &program->entry;
    const steer_program_image head = {d->vector_count, d->updated, d->op_count, d->norm};
    uint64_t addresses[2 * STEER_MAX_OPS]; /* an operation has two vectors at most */
    for (int32_t i = 0; i < d->vector_count; i++) addresses[i] = address(program->residents[i]->data);
    steer_entry_write(entry, &head, addresses, d->ops);
    entry->program = engine->next_program++;
    if (d->add) {
        entry->u = address(program->residents[d->vector_count]->data);
        entry->u_coef = (float)d->add_coef;
    }
    /* An offset, a gate or a second vector needs the image. */
    if (d->op_count > 1 || d->vector_count > 1 ||
        (d->op_count == 1 && (d->ops[0].gate >= 0 || d->ops[0].offset != 0))) {
        STEER_TRY(upload_image(program, engine, d, &head, addresses));
        entry->image = address(program->image);
        entry->image_bytes = (int32_t)program->image_bytes;
    }
    program->ops = d->ops;
    d->ops = NULL; /* the program's now */
    hash_shape(program);
    return STEER_OK;
}

static void free_program(steer_engine *engine, steer_program *program) {
    for (int32_t i = 0; i < program->resident_count; i++)
        steer_bank_release(&engine->bank, program->residents[i]);
    free(program->residents);
    free(program->ops);
    if (program->image) steer_device_deallocate(engine->device, program->image, program->image_bytes);
    source_release(program->source, program->source_count);
    steer_blocks_free(program->blocks);
    free(program);
}

/* 1 if the program was lowered of the same content, which is in `source` or in `blocks`. */
static int has_content(const steer_program *program, const steer_source *source, int32_t count,
                       const steer_blocks *blocks) {
    if (program->blocks || blocks)
        return program->blocks && blocks && steer_blocks_equal(program->blocks, blocks);
    return program->source_count == count && source_equal(program->source, source, count);
}

static steer_program *find(const steer_engine *engine, steer_hash hash, const steer_source *source,
                           int32_t count, const steer_blocks *blocks) {
    steer_node *node = steer_table_find(&engine->programs, hash.lo);
    for (; node; node = steer_table_next(node->next, hash.lo)) {
        steer_program *program = STEER_OWNER(node, steer_program);
        if (steer_hash_equal(program->hash, hash) && has_content(program, source, count, blocks))
            return program;
    }
    return NULL;
}

/* ---- Programs of blocks ------------------------------------------------------------------------------------- */

static void write_block_entry(steer_program *program) {
    const steer_blocks *blocks = program->blocks;
    steer_entry *entry = &program->entry;
    const int32_t demand = steer_blocks_demand(blocks);
    entry->m[0] = address(program->image);
    for (int32_t i = 0; i < blocks->vector_count && i < 2; i++)
        entry->m[1 + i] = address(program->residents[i]->data);
    if (demand <= STEER_BLOCKS_SMALL) entry->image_bytes = (int32_t)program->image_bytes;
    if (demand > STEER_BLOCKS_SHORT) return;
    const steer_block_short own = steer_blocks_short(blocks, entry->m[0]);
    _Static_assert(sizeof own == sizeof entry->m - 3 * sizeof entry->m[0], "as long as its place");
    memcpy(entry->m + 3, &own, sizeof own);
}

static int load_blocks(steer_program *program, steer_engine *engine) {
    const steer_blocks *blocks = program->blocks;
    steer_device *device = engine->device;
    program->residents = calloc((size_t)blocks->vector_count + 1, sizeof(steer_resident *));
    char *image = malloc(blocks->size);
    int status = STEER_OK;
    if (!program->residents || !image)
        status = STEER_FAIL(STEER_E_OUT_OF_MEMORY, "program: no host memory");
    else
        memcpy(image, blocks->image, blocks->size);
    for (int32_t i = 0; i < blocks->vector_count && status == STEER_OK; i++) {
        status = steer_bank_acquire(&program->residents[i], &engine->bank, blocks->vectors[i]);
        if (status != STEER_OK) break;
        program->resident_count++;
        steer_blocks_set_address(image, blocks, i, address(program->residents[i]->data));
    }
    program->image_bytes = blocks->size;
    if (status == STEER_OK)
        status = steer_device_allocate(device, &program->image, blocks->size, "compiled program");
    if (status == STEER_OK)
        status = device->backend->upload(device->state, program->image, image, blocks->size);
    free(image);
    program->entry.program = engine->next_program++;
    if (status == STEER_OK) write_block_entry(program);
    return status;
}

/* ---- Programs by content ------------------------------------------------------------------------------------ */

static int compile(steer_program *program, steer_engine *engine) {
    if (program->blocks) return load_blocks(program, engine);
    draft d = {.hidden = engine->hidden};
    int status = draft_compile(&d, program->source, program->source_count);
    if (status == STEER_OK) status = load(program, engine, &d);
    draft_free(&d);
    return status;
}

/* Compiles `source` or `blocks`, which the program takes over, also on failure. */
static int create(steer_program **out, steer_engine *engine, steer_hash hash, steer_source *source,
                  int32_t count, steer_blocks *blocks) {
    steer_program *program = calloc(1, sizeof *program);
    if (!program) {
        source_release(source, count);
        steer_blocks_free(blocks);
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "program: no host memory");
    }
    program->hash = hash;
    program->source = source;
    program->source_count = count;
    for (int32_t i = 0; i < count; i++) program->conditional |= source[i].gate_vector != NULL;
    if (blocks) program->conditional = steer_blocks_are_conditional(blocks);
    program->blocks = blocks;
    int status = compile(program, engine);
    if (status == STEER_OK && !steer_table_reserve(&engine->programs))
        status = STEER_FAIL(STEER_E_OUT_OF_MEMORY, "program: no host memory");
    if (status != STEER_OK) {
        free_program(engine, program);
        return status;
    }
    steer_table_add(&engine->programs, &program->node, hash.lo);
    *out = program;
    return STEER_OK;
}

/* The program of the content, which it takes over, with one more user. */
static int acquire(steer_program **out, steer_engine *engine, steer_hash hash, steer_source *source,
                   int32_t count, steer_blocks *blocks) {
    steer_program *program = find(engine, hash, source, count, blocks);
    if (program) {
        source_release(source, count);
        steer_blocks_free(blocks);
        engine->stats.program_hits++;
    } else {
        STEER_TRY(create(&program, engine, hash, source, count, blocks));
    }
    program->users++;
    *out = program;
    return STEER_OK;
}

static int acquire_blocks(steer_program **out, steer_engine *engine, int32_t count, steer_op *const *ops) {
    steer_blocks *blocks;
    STEER_TRY(steer_blocks_create(&blocks, count, ops));
    return blocks ? acquire(out, engine, steer_blocks_hash(blocks), NULL, 0, blocks) : STEER_OK;
}

int steer_program_acquire(steer_program **out, steer_engine *engine, int32_t count, steer_op *const *ops) {
    *out = NULL;
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++) {
        if (steer_op_table[ops[i]->kind].is_noop(ops[i])) continue;
        if (!steer_op_is_plain(ops[i])) return acquire_blocks(out, engine, count, ops);
        kept++;
    }
    if (kept == 0) return STEER_OK;
    steer_source *source = calloc((size_t)kept, sizeof *source);
    if (!source) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "program: no host memory");
    kept = 0;
    for (int32_t i = 0; i < count; i++)
        if (!steer_op_table[ops[i]->kind].is_noop(ops[i])) source_fill(&source[kept++], ops[i]);
    return acquire(out, engine, source_hash(source, kept), source, kept, NULL);
}

void steer_program_release(steer_engine *engine, steer_program *program) {
    if (!program || --program->users > 0) return;
    steer_table_remove(&engine->programs, &program->node);
    free_program(engine, program);
}
