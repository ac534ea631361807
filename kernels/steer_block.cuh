/* steer_block.cuh: programs of blocks (backend/block.h): which kernel serves a launch, and what both of them compute of a row.
 *
 *     P_i = h.m_i of a block's reads, q = |h|; what they come to; h = a h + sum of C_w m_w, block after block
 *
 * steer_block_short.cuh and steer_block_small.cuh have rows in registers, where programs are of few reads and writes; steer_block_general.cuh has them in
 * shared memory, whatever the program, the hidden size and the alignment. In both a row has the team of steer_common.cuh, a thread its
 * columns there, all arithmetic is explicit, and every sum has one order (a thread's elements, the lanes of a warp as
 * a butterfly, the warps in turn): a row's bits depend on its values and its program alone, not on the kernel. With a
 * residual the rows are deltas, and what blocks see is delta + residual. */
#ifndef STEER_KERNELS_STEER_BLOCK_CUH
#define STEER_KERNELS_STEER_BLOCK_CUH

#include "backend/block.h"
#include "steer_solve.cuh"

enum {
    STEER_BLOCK_TEAM = 512, /* most threads of a block, which is a team */
    STEER_BLOCK_SUMS = 32,  /* general: of a walk over the rows at most, rows times vectors */
    STEER_BLOCK_DOTS = STEER_BLOCK_MOST + 8,   /* general: room for a row's dots, reads and comparisons */
    STEER_BLOCK_SLOTS = STEER_BLOCK_SMALL + 1, /* small: sums of a row: dots and the norm */
    STEER_BLOCK_SQUARES = STEER_BLOCK_TEAM / 32 * 8 * 4, /* small: bytes of two floats a warp and row */
    STEER_SHORT_LANES = 4,                               /* short: the same, and lanes of a row */
    STEER_SHORT_STAGE = STEER_SHORT_PIECES + 3           /* short: 16 bytes of its program in shared memory */
};

/* What a launch passes to the kernels. */
struct steer_block_args {
    void *hidden;
    const void *residual;
    int64_t hidden_stride;
    int64_t residual_stride;
    int64_t rows;
    const steer_row *table; /* NULL: every row has `entry` */
    uint64_t *notes;        /* a word a row */
    int32_t hidden_size;
    int32_t layer;
    int32_t row_floats; /* general: of a row in shared memory */
    int32_t aligned;    /* 1: rows are multiples of 16 bytes */
    steer_entry entry;
};

typedef void (*steer_block_kernel)(const steer_block_args);

/* How a launch is served on a device of so many multiprocessors with so much shared memory a block. */
struct steer_block_config {
    steer_block_args args;
    bool brief, small; /* which kernel, else the general one */
    bool one;          /* brief: of one vector */
    int rows;          /* of a block: 1 or 4, few with a residual 1 or 2 */
    unsigned blocks;
    int threads;
    int64_t shared; /* bytes */
};

/* Floats between the sums of a team's warps for one value and those for the next, as block_stride has it. */
static inline int64_t steer_block_parts(int threads) { return threads < 128 ? 4 : threads / 32; }

/* Bytes of shared memory, as the kernels lay it out: sums twice, as they take turns. */
static inline int64_t steer_block_shared(const steer_block_config *config, int rows) {
    const int64_t parts = 2 * steer_block_parts(config->threads) * (int64_t)sizeof(float);
    if (config->brief) return rows * (STEER_SHORT_LANES + 4) * parts / 2 + STEER_SHORT_STAGE * 16;
    if (config->small) return STEER_BLOCK_STAGE + STEER_BLOCK_SQUARES + rows * STEER_BLOCK_SLOTS * parts;
    const int64_t words = config->args.row_floats + STEER_BLOCK_DOTS + STEER_BLOCK_MOST + 8;
    return rows * words * (int64_t)sizeof(float) + STEER_BLOCK_SUMS * parts;
}

static inline bool steer_block_are_aligned(const void *data, int64_t stride, int64_t size) {
    return (uintptr_t)data % 16 == 0 && stride * size % 16 == 0;
}

static inline steer_block_config steer_block_configure(const steer_launch *launch, int multiprocessors,
                                                       int64_t shared_bytes) {
    const int64_t hidden = launch->hidden_size, size = launch->dtype == STEER_F32 ? 4 : 2;
    steer_block_config config = {};
    config.threads = steer_team_of(hidden, STEER_BLOCK_TEAM);
    steer_block_args *args = &config.args;
    args->hidden = launch->hidden;
    args->residual = launch->residual;
    args->hidden_stride = launch->hidden_stride;
    args->residual_stride = launch->residual_stride;
    args->rows = launch->rows;
    args->table = launch->table;
    args->notes = launch->notes;
    args->hidden_size = (int32_t)hidden;
    args->layer = launch->layer;
    args->row_floats = (int32_t)((hidden + 511) / 512 * 512);
    args->aligned =
        hidden * size % 16 == 0 && steer_block_are_aligned(launch->hidden, launch->hidden_stride, size) &&
        (!launch->residual || steer_block_are_aligned(launch->residual, launch->residual_stride, size));
    if (launch->uniform) args->entry = *launch->uniform;
    config.small = launch->blocks <= STEER_BLOCKS_SMALL && args->aligned && config.threads * 16 >= hidden;
    config.brief = config.small && launch->blocks <= STEER_BLOCKS_SHORT;
    config.one = config.brief && launch->blocks == STEER_BLOCKS_ONE && size == 2 && !launch->residual;
    /* Rows share what they load, as long as no multiprocessor stays without work, and two blocks find room on one. */
    config.rows = config.small && launch->residual ? 2 : 4;
    if (launch->rows_per_program < config.rows || launch->rows < (int64_t)config.rows * multiprocessors ||
        steer_block_shared(&config, config.rows) > shared_bytes / 2)
        config.rows = 1;
    config.blocks = (unsigned)((launch->rows + config.rows - 1) / config.rows);
    config.shared = steer_block_shared(&config, config.rows);
    return config;
}

#ifdef STEER_KERNEL_IMPLEMENTATION

namespace {

/* ---- What a block comes to ------------------------------------------------------------------------------------- */

/* `image` is a program's, wherever it lies; p(j) the row's dot j. */

/* Whether the condition holds for a row. */
template <typename Dots>
__device__ __forceinline__ bool holds(const char *image, const steer_block_image &block, const Dots &p,
                                      float norm, const uint64_t *notes) {
    int which = 0;
    for (int i = 0; i < block.atoms; i++) {
        const int4 words = ((const int4 *)(image + block.atoms_at))[i];
        const steer_block_atom atom = *(const steer_block_atom *)&words;
        const bool below = atom.flags & STEER_OP_IMAGE_BELOW;
        if (i >= block.atoms - block.noted) {
            if ((*notes >> atom.note & 1) != (below ? 1 : 0)) which |= 1 << i;
            continue;
        }
        float value = __fmul_rn(atom.inv, p(block.reads + i));
        if (atom.flags & STEER_OP_IMAGE_COSINE) value = norm > 0 ? __fdiv_rn(value, norm) : 0.0f;
        if (below ? value < atom.threshold : value > atom.threshold) which |= 1 << i;
    }
    return block.truth >> which & 1;
}

__device__ __forceinline__ steer_block_pair read_pair(const char *image, const steer_block_image &block,
                                                      int w) {
    const int4 *from = (const int4 *)(image + block.pairs_at + (size_t)w * sizeof(steer_block_pair));
    const int4 words[2] = {from[0], from[1]};
    return *(const steer_block_pair *)words;
}

__device__ __forceinline__ float on_piece(const char *image, const steer_block_pair &pair, float x) {
    const float4 *pieces = (const float4 *)(image + pair.pieces_at);
    float4 piece = pieces[0];
    for (int i = 1; i < pair.pieces; i++) {
        const float4 next = pieces[i];
        if (!(x > next.x)) break;
        piece = next;
    }
    return __fmaf_rn(piece.y, __fsub_rn(x, piece.z), piece.w);
}

__device__ __forceinline__ float projection(const steer_block_pair &pair, float p) {
    return __fmaf_rn(pair.inv, p, pair.bias);
}

/* Whether f32 has room for the square of a norm; else it is summed anew in f64. */
__device__ __forceinline__ bool square_in_range(float square) {
    return square > 0x1p-96f && square <= LARGEST;
}

/* A power of two: what is squared, times it, has squares that f32 has room for. 1 where it has anyway. */
__device__ __forceinline__ float unit_of(float square) {
    return square_in_range(square) ? 1 : square > 1 ? 0x1p-80f : 0x1p100f;
}
template <int N> __device__ __forceinline__ void times(float (&x)[N], float unit) {
#pragma unroll
    for (int e = 0; e < N; e++) x[e] = __fmul_rn(unit, x[e]);
}
__device__ __forceinline__ float norm_in(float square, float unit) {
    const float norm = __fsqrt_rn(square);
    return unit == 1 ? norm : __fdiv_rn(norm, unit);
}

/* p.all(x): whether x is true of all threads that ask for dots together. */
template <typename Dots>
__device__ __forceinline__ float length_of(const char *image, const steer_block_image &block, const Dots &p) {
    float unit = 1;
#pragma unroll 1
    for (bool again = false;; again = true) {
        float square = 0;
        for (int i = 0; i < block.reads; i++) {
            const float s = __fmul_rn(unit, projection(read_pair(image, block, i), p(i)));
            square = __fmaf_rn(s, s, square);
        }
        const float next = unit_of(square);
        if (again || p.all(next == 1)) return norm_in(square, unit);
        unit = next;
    }
}

/* What write `w` is scaled by, but for TOWARD. Threads of a warp may ask for different ones, all at once. */
template <typename Dots>
__device__ __forceinline__ float coefficient_of(const char *image, const steer_block_image &block, int w,
                                                const Dots &p) {
    if (block.kind == STEER_BLOCK_MATRIX) {
        const float *m = (const float *)(image + block.matrix_at);
        float sum = m[block.writes * block.reads + w];
        for (int i = 0; i < block.reads; i++) sum = __fmaf_rn(m[w * block.reads + i], p(i), sum);
        return sum;
    }
    const steer_block_pair pair = read_pair(image, block, w);
    const float s = block.reads ? projection(pair, p(w)) : 0.0f;
    if (block.kind == STEER_BLOCK_PIECES) return __fmul_rn(pair.out, on_piece(image, pair, s));
    const float length = length_of(image, block, p);
    if (block.kind == STEER_BLOCK_ANGLE)
        return __fmul_rn(pair.out, __fsub_rn(__fmul_rn(length, w ? block.b : block.a), s));
    const float part = length > 0 ? __fdiv_rn(s, length) : 0.0f; /* first: a small length divides no change */
    return __fmul_rn(__fmul_rn(pair.out, on_piece(image, read_pair(image, block, 0), length)), part);
}

/* What the row is scaled by, but for TOWARD; first: |h| before the first block. */
__device__ __forceinline__ float scale_of(const steer_block_image &block, float first, float norm) {
    if (block.kind == STEER_BLOCK_KEEP) return norm > 0 ? __fdiv_rn(first, norm) : 1.0f;
    return block.kind == STEER_BLOCK_PIECES || block.kind == STEER_BLOCK_MATRIX ? block.a : 1.0f;
}

/* Turns a row toward the vector whose projection is s, or from it; q: the norm of what is beside it. */
__device__ __forceinline__ void turn_toward(float *a, float *C, const steer_block_image &block,
                                            const steer_block_pair &pair, double s, double q) {
    *a = 1;
    *C = 0;
    if (!(q > 0)) return;
    double new_q = __fma_rn(q, block.a, -__dmul_rn(s, block.b)),
           new_s = __fma_rn(s, block.a, __dmul_rn(q, block.b));
    if (new_q < 0) {
        new_q = 0;
        new_s = __dsqrt_rn(__fma_rn(s, s, __dmul_rn(q, q)));
        if (block.b < 0) new_s = -new_s;
    }
    const double by = __ddiv_rn(new_q, q);
    *a = (float)by;
    *C = (float)__dmul_rn(pair.out, __fma_rn(-by, s, new_s));
}

/* Scales elements of a row, with RESIDUAL of which the residual is r: nothing is left of what is replaced, however it was. */
template <bool RESIDUAL, int N>
__device__ __forceinline__ void scale_by(float (&x)[N], float a, const float (&r)[N]) {
#pragma unroll
    for (int e = 0; e < N; e++) {
        x[e] = a == 0 ? 0.0f : __fmul_rn(a, x[e]);
        if (RESIDUAL) x[e] = __fmaf_rn(__fsub_rn(a, 1), r[e], x[e]);
    }
}

/* ---- Norms that are kept ------------------------------------------------------------------------------------------ */

/* |a h + sum of C_w m_w|^2 from |h|^2, h.m_w and steer_blocks_image.gram. */
__device__ __forceinline__ float square_from(float a, float square, const float (&p)[2], const float (&C)[2],
                                             const float (&gram)[3]) {
    const float twice = __fmul_rn(2, a);
    float sum = __fmul_rn(__fmul_rn(a, a), square);
    sum = __fmaf_rn(C[0], __fmaf_rn(C[0], gram[0], __fmul_rn(twice, p[0])), sum);
    if (!(gram[2] > 0)) return sum; /* one vector */
    const float beside = __fmaf_rn(__fmul_rn(2, C[0]), gram[1], __fmul_rn(twice, p[1]));
    return __fmaf_rn(C[1], __fmaf_rn(C[1], gram[2], beside), sum);
}

/* Whether a program has those dots, for rows of 16 bits: those of f32 are summed. */
template <typename T> __device__ __forceinline__ bool knows_kept(float gram) {
    return sizeof(T) == 2 && gram > 0;
}

/* The same where it is as good as a sum over the row: f32 has room, and the terms lose no more than two bits to each other.
 * Else 0, and the row is summed. */
__device__ __forceinline__ float kept_square(float a, float square, const float (&p)[2], const float (&C)[2],
                                             const float (&gram)[3]) {
    const float now = square_from(a, square, p, C, gram);
    const float most = square_from(fabsf(a), square, {fabsf(p[0]), fabsf(p[1])}, {fabsf(C[0]), fabsf(C[1])},
                                   {gram[0], fabsf(gram[1]), gram[2]});
    return square_in_range(now) && now >= __fmul_rn(0.25f, most) ? now : 0.0f;
}

} // namespace

#endif
#endif
