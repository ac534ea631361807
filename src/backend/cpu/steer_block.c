/* steer_block.c: steers rows by programs of blocks: the readable reference of backend/block.h. A row is held in f64 from
 * the first block to the last and rounded once. */
#include "backend/cpu/cpu.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

enum { LANES = 8 };

/* A row between two blocks. */
typedef struct block_row {
    int64_t n;
    double *h;       /* what is steered: the row, or the delta */
    const double *r; /* its residual, or NULL: blocks see h + r */
    double first;    /* |h + r| before the first block */
    uint64_t *notes;
} block_row;

/* What a block does to the row: h = a h + sum of C_w m_w. */
typedef struct block_change {
    double a;
    double C[STEER_BLOCK_MOST];
} block_change;

static const float *vector_at(uint64_t address) { return (const float *)(uintptr_t)address; }

static double sum_lanes(const double *lanes) {
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

static double dot(const double *x, const float *m, int64_t n) {
    double lanes[LANES] = {0};
    for (int64_t i = 0; i < n; i++) lanes[i % LANES] += x[i] * (double)m[i];
    return sum_lanes(lanes);
}

/* (h + r).m */
static double seen_dot(const block_row *row, uint64_t address) {
    const float *m = vector_at(address);
    return dot(row->h, m, row->n) + (row->r ? dot(row->r, m, row->n) : 0);
}

/* |h + r - p m| */
static double norm_beside(const block_row *row, double p, const float *m) {
    double lanes[LANES] = {0};
    for (int64_t i = 0; i < row->n; i++) {
        double x = row->h[i] + (row->r ? row->r[i] : 0) - (m ? p * (double)m[i] : 0);
        lanes[i % LANES] += x * x;
    }
    return sqrt(sum_lanes(lanes));
}

/* ---- What a block does --------------------------------------------------------------------------------------- */

static int holds(const char *image, const steer_block_image *block, const double *p, double norm,
                 uint64_t notes) {
    const steer_block_atom *atoms = (const void *)(image + block->atoms_at);
    int which = 0;
    for (int32_t i = 0; i < block->atoms; i++) {
        const int below = (atoms[i].flags & STEER_OP_IMAGE_BELOW) != 0;
        if (i >= block->atoms - block->noted) {
            which |= ((int)(notes >> atoms[i].note & 1) ^ below) << i;
            continue;
        }
        double value = (double)atoms[i].inv * p[block->reads + i], threshold = (double)atoms[i].threshold;
        if (atoms[i].flags & STEER_OP_IMAGE_COSINE)
            value = norm > 0 ? value / norm : 0; /* of a zero row: 0 */
        if (below ? value < threshold : value > threshold) which |= 1 << i;
    }
    return block->truth >> which & 1;
}

static double on_piece(const char *image, const steer_block_pair *pair, double s) {
    const steer_block_piece *piece = (const void *)(image + pair->pieces_at);
    for (int32_t i = 1; i < pair->pieces && s > (double)piece[1].from; i++) piece++;
    return (double)piece->slope * (s - (double)piece->at) + (double)piece->offset;
}

static double projection(const steer_block_pair *pair, double p) {
    return (double)pair->inv * p + (double)pair->bias;
}

static double length_of(const steer_block_pair *pairs, const double *p, int32_t n) {
    double square = 0;
    for (int32_t i = 0; i < n; i++) square += projection(&pairs[i], p[i]) * projection(&pairs[i], p[i]);
    return sqrt(square);
}

static void pieces(block_change *out, const char *image, const steer_block_image *block, const double *p) {
    const steer_block_pair *pairs = (const void *)(image + block->pairs_at);
    for (int32_t i = 0; i < block->writes; i++)
        out->C[i] =
            (double)pairs[i].out * on_piece(image, &pairs[i], block->reads ? projection(&pairs[i], p[i]) : 0);
    out->a = (double)block->a;
}

static void radial(block_change *out, const char *image, const steer_block_image *block, const double *p) {
    const steer_block_pair *pairs = (const void *)(image + block->pairs_at);
    double length = length_of(pairs, p, block->reads);
    double change = length > 0 ? on_piece(image, &pairs[0], length) / length : 0;
    for (int32_t i = 0; i < block->writes; i++)
        out->C[i] = (double)pairs[i].out * change * projection(&pairs[i], p[i]);
}

static void matrix(block_change *out, const char *image, const steer_block_image *block, const double *p) {
    const float *m = (const void *)(image + block->matrix_at), *bias = m + block->writes * block->reads;
    for (int32_t w = 0; w < block->writes; w++) {
        double sum = (double)bias[w];
        for (int32_t i = 0; i < block->reads; i++) sum += (double)m[w * block->reads + i] * p[i];
        out->C[w] = sum;
    }
    out->a = (double)block->a;
}

static void angle(block_change *out, const char *image, const steer_block_image *block, const double *p) {
    const steer_block_pair *pairs = (const void *)(image + block->pairs_at);
    double length = length_of(pairs, p, 2);
    out->C[0] = (double)pairs[0].out * (length * (double)block->a - projection(&pairs[0], p[0]));
    out->C[1] = (double)pairs[1].out * (length * (double)block->b - projection(&pairs[1], p[1]));
}

/* With s = |h| cos and q = |h| sin of the angle to the vector, which turns to one smaller by that of the block. */
static void toward(block_change *out, const block_row *row, const char *image, const steer_block_image *block,
                   const double *p, const float *m) {
    const steer_block_pair *pair = (const void *)(image + block->pairs_at);
    double s = projection(pair, p[0]), q = norm_beside(row, (double)pair->out * s, m);
    if (q == 0) return; /* in no plane */
    double new_q = q * (double)block->a - s * (double)block->b,
           new_s = s * (double)block->a + q * (double)block->b;
    if (new_q < 0) { /* past the vector, or its opposite */
        new_q = 0;
        new_s = copysign(hypot(s, q), (double)block->b);
    }
    out->a = new_q / q;
    out->C[0] = (double)pair->out * (new_s - out->a * s);
}

static block_change find_change(const block_row *row, const char *image, const steer_block_image *block) {
    const uint64_t *addresses = (const void *)(image + block->addresses_at);
    double p[STEER_BLOCK_MOST + STEER_BLOCK_ATOMS];
    block_change out = {.a = 1};
    for (int32_t i = 0; i < steer_block_dots(block); i++) p[i] = seen_dot(row, addresses[i]);
    const double norm = block->norm ? norm_beside(row, 0, NULL) : 0;
    const int open = holds(image, block, p, norm, *row->notes);
    if (block->kind == STEER_BLOCK_NOTE)
        *row->notes = (*row->notes & ~(UINT64_C(1) << block->note)) | (uint64_t)open << block->note;
    if (!open) return out;
    switch ((steer_block_kind)block->kind) {
    case STEER_BLOCK_PIECES:
        pieces(&out, image, block, p);
        break;
    case STEER_BLOCK_MATRIX:
        matrix(&out, image, block, p);
        break;
    case STEER_BLOCK_RADIAL:
        radial(&out, image, block, p);
        break;
    case STEER_BLOCK_ANGLE:
        angle(&out, image, block, p);
        break;
    case STEER_BLOCK_TOWARD:
        toward(&out, row, image, block, p, vector_at(addresses[0]));
        break;
    case STEER_BLOCK_KEEP:
        if (norm > 0) out.a = row->first / norm;
        break;
    case STEER_BLOCK_NOTE:
        break;
    }
    return out;
}

/* ---- Rows ---------------------------------------------------------------------------------------------------- */

/* a (h + r) + sum of C m, less r; 0 if that is h. */
static int change_row(block_row *row, const block_change *change, const steer_block_image *block,
                      const uint64_t *writes) {
    int changed = change->a != 1;
    for (int64_t i = 0; changed && i < row->n; i++) {
        const double r =
            row->r ? row->r[i] : 0; /* nothing is left of a row that is replaced, however it was */
        row->h[i] = change->a == 0 ? -r : change->a * row->h[i] + (change->a - 1) * r;
    }
    for (int32_t w = 0; w < block->writes; w++) {
        const float *m = vector_at(writes[w]);
        const double c = change->C[w];
        if (c == 0) continue;
        changed = 1;
        for (int64_t i = 0; i < row->n; i++) row->h[i] += c * (double)m[i];
    }
    return changed;
}

static void load(double *x, const void *row, steer_dtype dtype, int64_t n) {
    const size_t size = dtype == STEER_F32 ? 4 : 2;
    steer_cpu_block block;
    for (int64_t i = 0; i < n; i += STEER_CPU_BLOCK) {
        const int64_t count = n - i < STEER_CPU_BLOCK ? n - i : STEER_CPU_BLOCK;
        steer_cpu_load(&block, dtype, (const char *)row + (size_t)i * size, 1, count);
        for (int64_t j = 0; j < count; j++) x[i + j] = (double)block.f[j];
    }
}

static void store(void *row, const double *x, steer_dtype dtype, int64_t n) {
    const size_t size = dtype == STEER_F32 ? 4 : 2;
    steer_cpu_block block;
    for (int64_t i = 0; i < n; i += STEER_CPU_BLOCK) {
        const int64_t count = n - i < STEER_CPU_BLOCK ? n - i : STEER_CPU_BLOCK;
        for (int64_t j = 0; j < count; j++) block.f[j] = (float)x[i + j];
        steer_cpu_store(&block, dtype, (char *)row + (size_t)i * size, 1, count);
    }
}

void steer_cpu_steer_blocks(void *h, const void *r, uint64_t address, uint64_t *notes, steer_dtype dtype,
                            int64_t n) {
    static _Thread_local double x[STEER_MAX_HIDDEN], residual[STEER_MAX_HIDDEN];
    const char *image = (const char *)(uintptr_t)address;
    const steer_blocks_image *program = (const void *)image;
    const steer_block_image *blocks = (const void *)(image + sizeof *program);
    block_row row = {.n = n, .h = x, .r = r ? residual : NULL, .notes = notes};
    int changed = 0;
    load(x, h, dtype, n);
    if (r) load(residual, r, dtype, n);
    if (program->keeps) row.first = norm_beside(&row, 0, NULL);
    for (int32_t k = 0; k < program->blocks; k++) {
        const uint64_t *addresses = (const void *)(image + blocks[k].addresses_at);
        const block_change change = find_change(&row, image, &blocks[k]);
        changed |= change_row(&row, &change, &blocks[k], addresses + steer_block_dots(&blocks[k]));
    }
    if (changed) store(h, x, dtype, n);
}
