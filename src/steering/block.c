/* block.c: writes operations as blocks, and puts blocks together. */
#include "steering/block.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { MOST_PIECES = STEER_BLOCK_MOST + 2 };

/* ---- One block ---------------------------------------------------------------------------------------------------- */

/* Puts a number where f32 has room for it. */
static int put_number(float *out, double value) {
    *out = (float)value;
    if (isnan(value) || (isinf(*out) && !isinf(value)))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "numbers: %g, which it comes to, is beyond the range of f32", value);
    return STEER_OK;
}

static const steer_vectors *written(const steer_op *op) {
    return op->write.count ? &op->write : &op->vectors;
}

/* What multiplies m of write `i` to give w. */
static double write_scale(const steer_op *op, int32_t i) {
    return op->write.count ? steer_vector_scale(op->write.at[i], 0)
                           : steer_vector_scale(op->vectors.at[i], op->normalize);
}

static size_t reserve(size_t *at, size_t bytes) {
    size_t start = *at;
    *at += (bytes + 15) & ~(size_t)15;
    return start;
}

static void lay_out(steer_block *block, const steer_op *op, int32_t pieces) {
    steer_block_image *head = &block->head;
    const size_t writes = (size_t)head->writes, reads = (size_t)head->reads;
    size_t at = 0;
    head->addresses_at = (uint32_t)reserve(&at, (size_t)block->vector_count * sizeof(uint64_t));
    head->atoms_at = (uint32_t)reserve(&at, (size_t)head->atoms * sizeof(steer_block_atom));
    if (head->kind == STEER_BLOCK_MATRIX)
        head->matrix_at = (uint32_t)reserve(&at, (writes * reads + writes) * sizeof(float));
    else
        head->pairs_at = (uint32_t)reserve(&at, writes * sizeof(steer_block_pair));
    reserve(&at, (size_t)pieces * sizeof(steer_block_piece));
    block->size = at;
}

/* The operation's comparisons with those that read notes last: which one comes as number i. */
static void order_atoms(int32_t order[STEER_BLOCK_ATOMS], const steer_op *op) {
    int32_t n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < op->atom_count; i++)
            if ((op->atoms[i].vector == NULL) == pass) order[n++] = i;
}

/* The condition over the comparisons in that order. */
static uint64_t reorder(uint64_t truth, const int32_t *order, int32_t count) {
    uint64_t out = 0;
    for (int b = 0; b < 1 << count; b++) {
        int given = 0;
        for (int32_t i = 0; i < count; i++) given |= (b >> i & 1) << order[i];
        out |= (truth >> given & 1) << b;
    }
    return out;
}

static int fill_atoms(steer_block *block, const steer_op *op, const int32_t *order) {
    steer_block_atom *atoms = (void *)(block->data + block->head.atoms_at);
    for (int32_t i = 0; i < op->atom_count; i++) {
        const steer_op_atom *atom = &op->atoms[order[i]];
        atoms[i].flags =
            (atom->cosine ? STEER_OP_IMAGE_COSINE : 0u) | (atom->below ? STEER_OP_IMAGE_BELOW : 0u);
        atoms[i].note = atom->note;
        if (!atom->vector) continue;
        STEER_TRY(put_number(&atoms[i].inv, steer_op_atom_scale(atom)));
        STEER_TRY(put_number(&atoms[i].threshold, atom->threshold));
    }
    return STEER_OK;
}

/* All pairs have the same pieces. */
static int fill_pairs(steer_block *block, const steer_op *op, const steer_block_piece *pieces,
                      int32_t count) {
    steer_block_pair *pairs = (void *)(block->data + block->head.pairs_at);
    const size_t pieces_at = block->size - (size_t)count * sizeof *pieces;
    for (int32_t i = 0; i < block->head.writes; i++) {
        pairs[i].pieces = count;
        pairs[i].pieces_at = (uint32_t)pieces_at;
        STEER_TRY(put_number(&pairs[i].inv,
                             block->head.reads ? steer_vector_scale(op->vectors.at[i], op->normalize) : 0));
        STEER_TRY(put_number(&pairs[i].bias, op->bias ? op->bias[i] : 0));
        STEER_TRY(put_number(&pairs[i].out, write_scale(op, i)));
    }
    for (int32_t i = 0; i < count; i++)
        if (!isfinite(pieces[i].slope) || !isfinite(pieces[i].at) || !isfinite(pieces[i].offset))
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "numbers: what they come to is beyond the range of f32");
    if (count) memcpy(block->data + pieces_at, pieces, (size_t)count * sizeof *pieces);
    return STEER_OK;
}

/* M and b with all factors in them, so that C = M P + b. */
static int fill_matrix(steer_block *block, const steer_op *op) {
    const int32_t reads = block->head.reads, writes = block->head.writes;
    float *matrix = (void *)(block->data + block->head.matrix_at), *bias = matrix + writes * reads;
    const double angle = op->degrees * acos(-1) / 180, c = cos(angle) - 1, s = sin(angle);
    const double turn[4] = {c, -s, s, c};
    for (int32_t w = 0; w < writes; w++) {
        const double out = write_scale(op, w) * (op->kind == STEER_OP_AFFINE ? op->scale : 1);
        for (int32_t i = 0; i < reads; i++) {
            const double value = op->kind == STEER_OP_ROTATE ? turn[w * 2 + i]
                                 : op->matrix                ? op->matrix[w * reads + i]
                                                             : i == w;
            STEER_TRY(put_number(&matrix[w * reads + i],
                                 out * value * steer_vector_scale(op->vectors.at[i], op->normalize)));
        }
        STEER_TRY(put_number(&bias[w], op->bias ? out * op->bias[w] : 0));
    }
    return STEER_OK;
}

static void fill_constants(steer_block_image *head, const steer_op *op) {
    const double angle = op->degrees * acos(-1) / 180;
    head->a = op->kind == STEER_OP_REPLACE ? 0 : 1;
    if (head->kind != STEER_BLOCK_ANGLE && head->kind != STEER_BLOCK_TOWARD) return;
    head->a = (float)cos(angle);
    head->b = (float)sin(angle);
}

static int fill(steer_block *block, const steer_op *op) {
    const steer_op_traits *traits = &steer_op_table[op->kind];
    const steer_vectors *writes = written(op);
    steer_block_image *head = &block->head;
    steer_block_piece pieces[MOST_PIECES] = {{0}};
    const int32_t count = traits->pieces ? traits->pieces(op, pieces) : 0;
    int32_t order[STEER_BLOCK_ATOMS];
    head->kind = (int32_t)(op->vectors.count > 1 ? traits->several : traits->block);
    head->reads = traits->reads || op->kind == STEER_OP_AFFINE ? op->vectors.count : 0;
    head->writes = writes->count;
    head->atoms = op->atom_count;
    order_atoms(order, op);
    head->truth = op->atom_count ? reorder(op->truth, order, op->atom_count) : 1;
    head->note = op->note;
    for (int32_t i = 0; i < op->atom_count; i++) head->noted += !op->atoms[i].vector;
    head->norm = head->kind == STEER_BLOCK_KEEP;
    for (int32_t i = 0; i < op->atom_count; i++) head->norm |= op->atoms[i].cosine;
    fill_constants(head, op);
    block->vectors = calloc((size_t)(head->reads + head->atoms + head->writes) + 1, sizeof(steer_vector *));
    if (!block->vectors) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "op: no host memory");
    for (int32_t i = 0; i < head->reads; i++) block->vectors[block->vector_count++] = op->vectors.at[i];
    for (int32_t i = 0; i < head->atoms - head->noted; i++)
        block->vectors[block->vector_count++] = op->atoms[order[i]].vector;
    for (int32_t i = 0; i < head->writes; i++) block->vectors[block->vector_count++] = writes->at[i];
    lay_out(block, op, count);
    block->data = calloc(1, block->size + 1);
    if (!block->data) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "op: no host memory");
    STEER_TRY(fill_atoms(block, op, order));
    return head->kind == STEER_BLOCK_MATRIX ? fill_matrix(block, op) : fill_pairs(block, op, pieces, count);
}

int steer_block_create(steer_block **out, const steer_op *op) {
    steer_block *block = calloc(1, sizeof *block);
    if (!block) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "op: no host memory");
    int status = fill(block, op);
    if (status != STEER_OK) {
        steer_block_free(block);
        return status;
    }
    *out = block;
    return STEER_OK;
}

void steer_block_free(steer_block *block) {
    if (!block) return;
    free(block->vectors);
    free(block->data);
    free(block);
}

/* ---- Programs ------------------------------------------------------------------------------------------------------- */

/* Norms are kept from what is done before. */
static int32_t drop_noops(const steer_op **kept, int32_t count, steer_op *const *ops) {
    int32_t n = 0;
    for (int32_t i = 0; i < count; i++) {
        if (steer_op_table[ops[i]->kind].is_noop(ops[i])) continue;
        if (ops[i]->kind == STEER_OP_KEEP_NORM && n == 0) continue;
        if (ops[i]->atom_count && ops[i]->truth == 0) continue;
        kept[n++] = ops[i];
    }
    return n;
}

static steer_block_image *heads_of(const steer_blocks *blocks) {
    return (void *)(blocks->image + sizeof(steer_blocks_image));
}

/* Copies a block to `at` of the image. */
static void place(steer_blocks *blocks, int32_t i, const steer_block *block, size_t at) {
    steer_block_image *head = &heads_of(blocks)[i];
    char *data = blocks->image + at;
    memcpy(data, block->data, block->size);
    *head = block->head;
    if (head->kind != STEER_BLOCK_MATRIX) {
        steer_block_pair *pairs = (void *)(data + head->pairs_at);
        for (int32_t w = 0; w < head->writes; w++) pairs[w].pieces_at += (uint32_t)at;
    }
    head->addresses_at += (uint32_t)at;
    head->atoms_at += (uint32_t)at;
    head->pairs_at += (uint32_t)at;
    head->matrix_at += (uint32_t)at;
    for (int32_t j = 0; j < block->vector_count; j++)
        blocks->vectors[blocks->vector_count++] = steer_vector_retain(block->vectors[j]);
}

static int put_together(steer_blocks *blocks, int32_t count, const steer_op *const *ops) {
    size_t at = sizeof(steer_blocks_image) + (size_t)count * sizeof(steer_block_image), vectors = 0;
    blocks->size = at;
    for (int32_t i = 0; i < count; i++) {
        blocks->size += ops[i]->block->size;
        vectors += (size_t)ops[i]->block->vector_count;
    }
    blocks->image = calloc(1, blocks->size);
    blocks->vectors = calloc(vectors + 1, sizeof(steer_vector *));
    if (!blocks->image || !blocks->vectors)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "program: no host memory");
    steer_blocks_image *head = (void *)blocks->image;
    head->blocks = count;
    for (int32_t i = 0; i < count; i++) {
        head->keeps |= ops[i]->kind == STEER_OP_KEEP_NORM;
        place(blocks, i, ops[i]->block, at);
        at += ops[i]->block->size;
    }
    return STEER_OK;
}

/* Different vectors of the first block; 0 if it is not that of a short program. */
static int32_t short_vectors(const steer_blocks *blocks) {
    const steer_block_image *block = (const void *)(blocks->image + sizeof(steer_blocks_image));
    const int32_t reads = block->reads, writes = block->writes;
    steer_vector *const *read = blocks->vectors, *const *write = blocks->vectors + reads;
    if (block->atoms || reads > 2 || writes < 1 || writes > 2) return 0;
    if (reads == 0) return writes == 1 ? 1 : 0;
    if (reads == 1 && writes == 1) return steer_vector_equal(read[0], write[0]) ? 1 : 2;
    if (reads == 1 || writes == 1 || steer_vector_equal(read[0], read[1])) return 0;
    return steer_vector_equal(read[0], write[0]) && steer_vector_equal(read[1], write[1]) ? 2 : 0;
}

static int is_short(const steer_blocks *blocks) {
    const steer_blocks_image *head = (const void *)blocks->image;
    const steer_block_image *block = (const void *)(head + 1);
    if (head->blocks > 2 || short_vectors(blocks) == 0) return 0;
    if (head->blocks == 2 && (block[1].kind != STEER_BLOCK_KEEP || block[1].atoms)) return 0;
    if (block->kind == STEER_BLOCK_MATRIX) return 1;
    const steer_block_pair *pairs = (const void *)(blocks->image + block->pairs_at);
    return block->kind == STEER_BLOCK_PIECES && pairs->pieces <= STEER_SHORT_PIECES;
}

/* The dots of what is written, where norms are kept behind vectors that are read as well. */
static void fill_gram(steer_blocks *blocks) {
    steer_blocks_image *head = (void *)blocks->image;
    steer_vector *const *m = blocks->vectors;
    if (head->blocks != 2 || !is_short(blocks) || heads_of(blocks)->reads != short_vectors(blocks)) return;
    head->gram[0] = (float)steer_vector_dot(m[0], m[0]);
    if (heads_of(blocks)->writes < 2) return;
    head->gram[1] = (float)steer_vector_dot(m[0], m[1]);
    head->gram[2] = (float)steer_vector_dot(m[1], m[1]);
}

int steer_blocks_create(steer_blocks **out, int32_t count, steer_op *const *ops) {
    *out = NULL;
    const steer_op **kept = malloc((size_t)(count > 0 ? count : 1) * sizeof *kept);
    steer_blocks *blocks = calloc(1, sizeof *blocks);
    int32_t n = 0;
    int status = STEER_OK;
    if (!kept || !blocks)
        status = STEER_FAIL(STEER_E_OUT_OF_MEMORY, "program: no host memory");
    else if ((n = drop_noops(kept, count, ops)) > 0)
        status = put_together(blocks, n, kept);
    if (status == STEER_OK && n > 0) fill_gram(blocks);
    free(kept);
    if (status != STEER_OK || n == 0)
        steer_blocks_free(blocks);
    else
        *out = blocks;
    return status;
}

void steer_blocks_free(steer_blocks *blocks) {
    if (!blocks) return;
    for (int32_t i = 0; i < blocks->vector_count; i++) steer_vector_release(blocks->vectors[i]);
    free(blocks->vectors);
    free(blocks->image);
    free(blocks);
}

int steer_blocks_are_conditional(const steer_blocks *blocks) {
    const steer_blocks_image *head = (const void *)blocks->image;
    const steer_block_image *block = (const void *)(head + 1);
    for (int32_t i = 0; i < head->blocks; i++)
        if (block[i].atoms || block[i].kind == STEER_BLOCK_NOTE) return 1;
    return 0;
}

int32_t steer_blocks_demand(const steer_blocks *blocks) {
    const steer_blocks_image *head = (const void *)blocks->image;
    const steer_block_image *block = (const void *)(head + 1);
    if (blocks->size > STEER_BLOCK_STAGE) return STEER_BLOCKS_ANY;
    for (int32_t i = 0; i < head->blocks; i++)
        if (steer_block_dots(&block[i]) > STEER_BLOCK_SMALL || block[i].writes > STEER_BLOCK_SMALL)
            return STEER_BLOCKS_ANY;
    if (!is_short(blocks)) return STEER_BLOCKS_SMALL;
    return short_vectors(blocks) > 1 ? STEER_BLOCKS_SHORT : STEER_BLOCKS_ONE;
}

steer_block_short steer_blocks_short(const steer_blocks *blocks, uint64_t address) {
    const steer_blocks_image *head = (const void *)blocks->image;
    const steer_block_image *block = (const void *)(head + 1);
    steer_block_short out = {.a = block->a,
                             .reads = (uint8_t)block->reads,
                             .vectors = (uint8_t)short_vectors(blocks),
                             .keeps = (uint8_t)(head->blocks > 1)};
    if (block->kind == STEER_BLOCK_MATRIX) {
        const float *matrix = (const void *)(blocks->image + block->matrix_at);
        for (int32_t w = 0; w < block->writes; w++) {
            for (int32_t i = 0; i < block->reads; i++) out.write[w].read[i] = matrix[w * block->reads + i];
            out.write[w].out = matrix[block->writes * block->reads + w];
        }
        return out;
    }
    const steer_block_pair *pairs = (const void *)(blocks->image + block->pairs_at);
    out.pieces = address + pairs->pieces_at;
    out.count = (uint8_t)pairs->pieces;
    for (int32_t w = 0; w < block->writes; w++) {
        out.write[w].read[0] = pairs[w].inv;
        out.write[w].read[1] = pairs[w].bias;
        out.write[w].out = pairs[w].out;
    }
    return out;
}

int steer_blocks_note(const steer_blocks *blocks) {
    const steer_blocks_image *head = (const void *)blocks->image;
    const steer_block_image *block = (const void *)(head + 1);
    for (int32_t i = 0; i < head->blocks; i++)
        if (block[i].noted || block[i].kind == STEER_BLOCK_NOTE) return 1;
    return 0;
}

steer_hash steer_blocks_hash(const steer_blocks *blocks) {
    steer_hash hash = steer_hash_bytes((steer_hash){0, 0}, blocks->image, blocks->size);
    for (int32_t i = 0; i < blocks->vector_count; i++)
        hash = steer_hash_bytes(hash, &blocks->vectors[i]->hash, sizeof blocks->vectors[i]->hash);
    return hash;
}

int steer_blocks_equal(const steer_blocks *a, const steer_blocks *b) {
    if (a->size != b->size || a->vector_count != b->vector_count) return 0;
    if (memcmp(a->image, b->image, a->size) != 0) return 0;
    for (int32_t i = 0; i < a->vector_count; i++)
        if (!steer_vector_equal(a->vectors[i], b->vectors[i])) return 0;
    return 1;
}

void steer_blocks_set_address(char *image, const steer_blocks *blocks, int32_t i, uint64_t address) {
    for (const steer_block_image *head = heads_of(blocks);; head++) {
        const int32_t count = steer_block_dots(head) + head->writes;
        if (i < count) {
            memcpy(image + head->addresses_at + (size_t)i * sizeof address, &address, sizeof address);
            return;
        }
        i -= count;
    }
}
