/* steer_block.cuh: the kernel that serves programs of blocks (backend/block.h), for every hidden size and alignment.
 *
 *     P_i = h.m_i of a block's reads, all from one walk over h; what they come to; h = a h + sum of C_w m_w
 *
 * A block of threads holds R neighbouring rows in f32 in shared memory from the first block of the program to the last, so that
 * rows of one program share the loads of its vectors, and hidden states are read and written once. Thread t of n has the
 * columns 4 (t + n k) to + 3; n depends on the hidden size alone. All arithmetic is explicit and every sum has one order (a
 * thread's elements, the lanes of a warp as a butterfly, the warps in turn), so a row's bits depend on its values and its
 * program alone. With a residual the rows are deltas, and what blocks see is delta + residual, which is read anew each time. */
#ifndef STEER_KERNELS_STEER_BLOCK_CUH
#define STEER_KERNELS_STEER_BLOCK_CUH

#include "backend/block.h"
#include "steer_solve.cuh"

enum {
    STEER_BLOCK_TEAM = 512,                 /* most threads of a block */
    STEER_BLOCK_SUMS = 32,                  /* of a walk over the rows at most: rows times vectors */
    STEER_BLOCK_DOTS = STEER_BLOCK_MOST + 8 /* room for a row's dots: reads and comparisons */
};

/* What a launch passes to the kernel. */
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
    int32_t row_floats; /* of a row in shared memory */
    int32_t aligned;    /* 1: four elements of a row are aligned, and it consists of such */
    steer_entry entry;
};

typedef void (*steer_block_kernel)(const steer_block_args);

/* How a launch is served on a device of so many multiprocessors with so much shared memory a block. */
struct steer_block_plan {
    steer_block_args args;
    int rows; /* of a block: 1, 4 or 8 */
    unsigned blocks;
    int threads;
    int64_t shared; /* bytes */
};

/* Bytes of shared memory, as the kernel lays it out. */
static inline int64_t steer_block_shared(int rows, int64_t row_floats) {
    const int64_t words = rows * (row_floats + STEER_BLOCK_DOTS + STEER_BLOCK_MOST + 8);
    return (words + 2 * STEER_BLOCK_SUMS * (STEER_BLOCK_TEAM / 32)) * (int64_t)sizeof(float);
}

static inline bool steer_block_are_aligned(const void *data, int64_t stride, int64_t size) {
    return (uintptr_t)data % (size_t)(4 * size) == 0 && stride % 4 == 0;
}

static inline steer_block_plan steer_block_plan_of(const steer_launch *launch, int multiprocessors,
                                                   int64_t shared_bytes) {
    const int64_t hidden = launch->hidden_size, size = launch->dtype == STEER_F32 ? 4 : 2;
    steer_block_plan plan = {};
    plan.threads = 32; /* 8 elements each; from 256 on 16, so that two blocks find room on a multiprocessor */
    while (plan.threads < STEER_BLOCK_TEAM && plan.threads * (plan.threads < 256 ? 8 : 16) < hidden)
        plan.threads *= 2;
    steer_block_args *args = &plan.args;
    args->hidden = launch->hidden;
    args->residual = launch->residual;
    args->hidden_stride = launch->hidden_stride;
    args->residual_stride = launch->residual_stride;
    args->rows = launch->rows;
    args->table = launch->table;
    args->notes = launch->notes;
    args->hidden_size = (int32_t)hidden;
    args->layer = launch->layer;
    args->row_floats = (int32_t)((hidden + 3) / 4 * 4);
    args->aligned =
        hidden % 4 == 0 && steer_block_are_aligned(launch->hidden, launch->hidden_stride, size) &&
        (!launch->residual || steer_block_are_aligned(launch->residual, launch->residual_stride, size));
    if (launch->uniform) args->entry = *launch->uniform;
    /* Rows share what they load, as long as no multiprocessor stays without work, and two blocks find room on one. */
    plan.rows = launch->residual ? 4 : 8;
    while (plan.rows > 1 &&
           (launch->rows_per_program < plan.rows || launch->rows < (int64_t)plan.rows * multiprocessors ||
            steer_block_shared(plan.rows, args->row_floats) > shared_bytes / 2))
        plan.rows = plan.rows == 8 ? 4 : 1;
    plan.blocks = (unsigned)((launch->rows + plan.rows - 1) / plan.rows);
    plan.shared = steer_block_shared(plan.rows, args->row_floats);
    return plan;
}

template <typename T> steer_block_kernel steer_block_select(int rows, bool residual);

#ifdef STEER_ROWS_IMPLEMENTATION

namespace {

/* Shared memory of a block of R rows, and what its threads know. Arrays of a row's numbers have stride R. */
template <typename T> struct block_state {
    const steer_block_args &args;
    const lane_info &me;
    float *x;       /* [R][row_floats] */
    float *partial; /* two buffers of [STEER_BLOCK_SUMS][STEER_BLOCK_TEAM / 32] in turn */
    float *p;       /* [dots][R] */
    float *C;       /* [writes][R] */
    float *a;       /* [R] */
    float *norm;    /* [R] |h| now */
    float *first;   /* [R] |h| before the first block */
    float *rest;    /* [R] |h| beside a vector, squared */
    int *changed;   /* [R] by this block */
    int *touched;   /* [R] by any */
    int turn;

    __device__ __forceinline__ float *next_partial() {
        turn ^= 1;
        return partial + turn * STEER_BLOCK_SUMS * (STEER_BLOCK_TEAM / 32);
    }
};

/* Rows of it from `from` on, which are rows `first` .. of the hidden states. */
struct block_span {
    int from;
    int64_t first;
};

/* ---- Elements ------------------------------------------------------------------------------------------------ */

template <typename T>
__device__ __forceinline__ void load_four(float (&v)[4], const T *row, int base,
                                          const steer_block_args &args) {
    if (args.aligned) {
        const steer_pack<T, 4> four = *(const steer_pack<T, 4> *)(row + base);
#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = steer_to_f32(four.at[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = base + i < args.hidden_size ? steer_to_f32(row[base + i]) : 0.0f;
    }
}

template <typename T>
__device__ __forceinline__ void store_four(T *row, int base, const float (&v)[4],
                                           const steer_block_args &args) {
    if (args.aligned) {
        steer_pack<T, 4> four;
#pragma unroll
        for (int i = 0; i < 4; i++) four.at[i] = steer_from_f32<T>(v[i]);
        *(steer_pack<T, 4> *)(row + base) = four;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (base + i < args.hidden_size) row[base + i] = steer_from_f32<T>(v[i]);
    }
}

template <typename T> __device__ __forceinline__ const T *residual_row(const block_state<T> &s, int64_t row) {
    return (const T *)s.args.residual + row * s.args.residual_stride;
}

__device__ __forceinline__ void get_four(float (&v)[4], const float *from) {
    put_four<4>(v, 0, *(const float4 *)from);
}

/* What a program sees of row i of the span from column `base` on. */
template <typename T, bool RESIDUAL>
__device__ __forceinline__ void seen_four(float (&v)[4], const block_state<T> &s, const block_span &span,
                                          int i, int base) {
    get_four(v, s.x + (span.from + i) * s.args.row_floats + base);
    if (RESIDUAL) {
        float r[4];
        load_four<T>(r, residual_row(s, span.first + i), base, s.args);
#pragma unroll
        for (int e = 0; e < 4; e++) v[e] = __fadd_rn(v[e], r[e]);
    }
}

/* ---- Sums over rows -------------------------------------------------------------------------------------------- */

/* Sums M values over the threads; thread m < M is left with the sum of value m. */
template <typename T, int M>
__device__ __forceinline__ float sum_over_team(block_state<T> &s, float (&sums)[M]) {
    float *partial = s.next_partial();
    const float sum = warp_sum<M>(sums, s.me.lane);
    if (s.me.lane % (32 / M) == 0) partial[s.me.lane / (32 / M) * s.me.warps + s.me.warp] = sum;
    __syncthreads();
    float all = 0;
    if (s.me.thread < M)
        for (int w = 0; w < s.me.warps; w++) all = __fadd_rn(all, partial[s.me.thread * s.me.warps + w]);
    return all;
}

/* Dots of R rows with the D vectors from j on, into s.p. */
template <typename T, int R, int D, bool RESIDUAL>
__device__ __forceinline__ void find_dots_of(block_state<T> &s, const block_span &span,
                                             const uint64_t *addresses, int j) {
    const float *m[D];
    float sums[R * D] = {};
#pragma unroll
    for (int d = 0; d < D; d++) m[d] = (const float *)__ldg((const unsigned long long *)addresses + j + d);
#pragma unroll 2
    for (int base = s.me.thread * 4; base < s.args.hidden_size; base += s.me.threads * 4) {
        float v[D][4];
#pragma unroll
        for (int d = 0; d < D; d++) put_four<4>(v[d], 0, __ldg((const float4 *)(m[d] + base)));
#pragma unroll
        for (int i = 0; i < R; i++) {
            float h[4];
            seen_four<T, RESIDUAL>(h, s, span, i, base);
#pragma unroll
            for (int d = 0; d < D; d++) sums[i * D + d] = dot_on<4>(sums[i * D + d], h, v[d]);
        }
    }
    const float sum = sum_over_team<T, R * D>(s, sums);
    if (s.me.thread < R * D) s.p[(j + s.me.thread % D) * R + s.me.thread / D] = sum;
}

template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void find_dots(block_state<T> &s, const block_span &span,
                                          const uint64_t *addresses, int count) {
    constexpr int D = R > 4 ? STEER_BLOCK_SUMS / R : 8;
    int j = 0;
#pragma unroll 1
    for (; j + D <= count; j += D) find_dots_of<T, R, D, RESIDUAL>(s, span, addresses, j);
    if constexpr (D > 4) {
        if (j + 4 <= count) {
            find_dots_of<T, R, 4, RESIDUAL>(s, span, addresses, j);
            j += 4;
        }
    }
    if (j + 2 <= count) {
        find_dots_of<T, R, 2, RESIDUAL>(s, span, addresses, j);
        j += 2;
    }
    if (j < count) find_dots_of<T, R, 1, RESIDUAL>(s, span, addresses, j);
}

/* |row - p m| of R rows in f64, by a warp each, where f32 has no room for the squares. */
template <typename T, int R, bool RESIDUAL>
__device__ __noinline__ void norms_exactly(block_state<T> &s, const block_span &span, float *out) {
    for (int i = s.me.warp; i < R; i += s.me.warps) {
        const float square = out[i];
        if (square > 0x1p-96f && square <= LARGEST) continue;
        double sum = 0;
        for (int k = s.me.lane; k < s.args.hidden_size; k += 32) {
            float h = s.x[(span.from + i) * s.args.row_floats + k];
            if (RESIDUAL) h = __fadd_rn(h, steer_to_f32(residual_row(s, span.first + i)[k]));
            sum = __fma_rn(h, h, sum);
        }
        sum = warp_sum(sum);
        __syncwarp();
        if (s.me.lane == 0) out[i] = (float)__dsqrt_rn(sum);
    }
}

/* |h| of R rows into `out`; for all to read after the next barrier. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void find_norms(block_state<T> &s, const block_span &span, float *out) {
    float sums[R] = {};
    for (int base = s.me.thread * 4; base < s.args.hidden_size; base += s.me.threads * 4) {
#pragma unroll
        for (int i = 0; i < R; i++) {
            float h[4];
            seen_four<T, RESIDUAL>(h, s, span, i, base);
            sums[i] = dot_on<4>(sums[i], h, h);
        }
    }
    const float square = sum_over_team<T, R>(s, sums);
    if (s.me.thread < R) out[s.me.thread] = square;
    __syncthreads();
    norms_exactly<T, R, RESIDUAL>(s, span, out);
    __syncthreads();
    if (s.me.thread < R && square > 0x1p-96f && square <= LARGEST) out[s.me.thread] = __fsqrt_rn(square);
}

/* |h - p m|^2 of R rows into s.rest, p from s.a. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void find_rests(block_state<T> &s, const block_span &span, uint64_t address) {
    const float *m = (const float *)address;
    float sums[R] = {};
    for (int base = s.me.thread * 4; base < s.args.hidden_size; base += s.me.threads * 4) {
        float v[4];
        put_four<4>(v, 0, __ldg((const float4 *)(m + base)));
#pragma unroll
        for (int i = 0; i < R; i++) {
            float h[4];
            seen_four<T, RESIDUAL>(h, s, span, i, base);
            axpy<4>(h, -s.a[i], v);
            sums[i] = dot_on<4>(sums[i], h, h);
        }
    }
    const float square = sum_over_team<T, R>(s, sums);
    if (s.me.thread < R) s.rest[s.me.thread] = square;
    __syncthreads();
}

/* ---- What a block does ----------------------------------------------------------------------------------------- */

__device__ __forceinline__ steer_block_image read_block(const char *image, int k) {
    int4 words[sizeof(steer_block_image) / 16];
    const int4 *from =
        (const int4 *)(image + sizeof(steer_blocks_image) + (size_t)k * sizeof(steer_block_image));
#pragma unroll
    for (int i = 0; i < (int)(sizeof(steer_block_image) / 16); i++) words[i] = __ldg(from + i);
    return *(const steer_block_image *)words;
}

__device__ __forceinline__ steer_block_pair read_pair(const char *image, const steer_block_image &block,
                                                      int w) {
    int4 words[2];
    const int4 *from = (const int4 *)(image + block.pairs_at + (size_t)w * sizeof(steer_block_pair));
    words[0] = __ldg(from);
    words[1] = __ldg(from + 1);
    return *(const steer_block_pair *)words;
}

/* Whether the condition holds for a row, whose dots stand R apart. */
template <int R>
__device__ __forceinline__ bool holds(const char *image, const steer_block_image &block, const float *p,
                                      float norm, const uint64_t *notes) {
    int which = 0;
    for (int i = 0; i < block.atoms; i++) {
        const int4 words = __ldg((const int4 *)(image + block.atoms_at) + i);
        const steer_block_atom atom = *(const steer_block_atom *)&words;
        const bool below = atom.flags & STEER_OP_IMAGE_BELOW;
        if (i >= block.atoms - block.noted) {
            if ((*notes >> atom.note & 1) != (below ? 1 : 0)) which |= 1 << i;
            continue;
        }
        float value = __fmul_rn(atom.inv, p[(block.reads + i) * R]);
        if (atom.flags & STEER_OP_IMAGE_COSINE) value = norm > 0 ? __fdiv_rn(value, norm) : 0.0f;
        if (below ? value < atom.threshold : value > atom.threshold) which |= 1 << i;
    }
    return block.truth >> which & 1;
}

__device__ __forceinline__ float on_piece(const char *image, const steer_block_pair &pair, float x) {
    const float4 *pieces = (const float4 *)(image + pair.pieces_at);
    float4 piece = __ldg(pieces);
    for (int i = 1; i < pair.pieces; i++) {
        const float4 next = __ldg(pieces + i);
        if (!(x > next.x)) break;
        piece = next;
    }
    return __fmaf_rn(piece.y, __fsub_rn(x, piece.z), piece.w);
}

__device__ __forceinline__ float projection(const steer_block_pair &pair, float p) {
    return __fmaf_rn(pair.inv, p, pair.bias);
}

template <int R>
__device__ __forceinline__ float length_of(const char *image, const steer_block_image &block,
                                           const float *p) {
    float square = 0;
    for (int i = 0; i < block.reads; i++) {
        const float s = projection(read_pair(image, block, i), p[i * R]);
        square = __fmaf_rn(s, s, square);
    }
    return __fsqrt_rn(square);
}

/* What write `w` is scaled by. */
template <int R>
__device__ __forceinline__ float coefficient_of(const char *image, const steer_block_image &block, int w,
                                                const float *p) {
    if (block.kind == STEER_BLOCK_MATRIX) {
        const float *m = (const float *)(image + block.matrix_at);
        float sum = __ldg(m + block.writes * block.reads + w);
        for (int i = 0; i < block.reads; i++) sum = __fmaf_rn(__ldg(m + w * block.reads + i), p[i * R], sum);
        return sum;
    }
    const steer_block_pair pair = read_pair(image, block, w);
    const float s = block.reads ? projection(pair, p[w * R]) : 0.0f;
    if (block.kind == STEER_BLOCK_PIECES) return __fmul_rn(pair.out, on_piece(image, pair, s));
    const float length = length_of<R>(image, block, p);
    if (block.kind == STEER_BLOCK_ANGLE)
        return __fmul_rn(pair.out, __fsub_rn(__fmul_rn(length, w ? block.b : block.a), s));
    const float change =
        length > 0 ? __fdiv_rn(on_piece(image, read_pair(image, block, 0), length), length) : 0.0f;
    return __fmul_rn(__fmul_rn(pair.out, change), s);
}

/* Turns a row toward the vector whose projection is s, or from it; rest: what is beside it, squared. */
__device__ __forceinline__ void turn_toward(float *a, float *C, const steer_block_image &block,
                                            const steer_block_pair &pair, double s, double rest) {
    const double q = __dsqrt_rn(rest);
    *a = 1;
    *C = 0;
    if (!(q > 0)) return;
    double new_q = __fma_rn(q, block.a, -__dmul_rn(s, block.b)),
           new_s = __fma_rn(s, block.a, __dmul_rn(q, block.b));
    if (new_q < 0) {
        new_q = 0;
        new_s = __dsqrt_rn(__fma_rn(s, s, rest));
        if (block.b < 0) new_s = -new_s;
    }
    const double by = __ddiv_rn(new_q, q);
    *a = (float)by;
    *C = (float)__dmul_rn(pair.out, __fma_rn(-by, s, new_s));
}

/* Coefficients of R rows; every thread takes part, and dots and norms are there. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void find_changes(block_state<T> &s, const block_span &span, const char *image,
                                             const steer_block_image &block, const uint64_t *addresses) {
    const int thread = s.me.thread;
    if (thread < R) s.changed[thread] = 0;
    if (block.kind == STEER_BLOCK_TOWARD) {
        const steer_block_pair pair = read_pair(image, block, 0);
        if (thread < R) s.a[thread] = __fmul_rn(pair.out, projection(pair, s.p[thread]));
        __syncthreads();
        find_rests<T, R, RESIDUAL>(s, span, __ldg((const unsigned long long *)addresses));
        if (thread >= R) return;
        float a, C;
        turn_toward(&a, &C, block, pair, projection(pair, s.p[thread]), s.rest[thread]);
        const bool open =
            holds<R>(image, block, s.p + thread, s.norm[thread], s.args.notes + span.first + thread);
        s.a[thread] = open ? a : 1;
        s.C[thread] = open ? C : 0;
        s.changed[thread] = open && (a != 1 || C != 0);
        return;
    }
    __syncthreads();
    if (thread < R) {
        uint64_t *notes = s.args.notes + span.first + thread;
        const bool open = holds<R>(image, block, s.p + thread, s.norm[thread], notes);
        float a = block.kind == STEER_BLOCK_RADIAL || block.kind == STEER_BLOCK_ANGLE ? 1 : block.a;
        if (block.kind == STEER_BLOCK_KEEP)
            a = s.norm[thread] > 0 ? __fdiv_rn(s.first[thread], s.norm[thread]) : 1;
        if (block.kind == STEER_BLOCK_NOTE)
            *notes = (*notes & ~((uint64_t)1 << block.note)) | (uint64_t)open << block.note;
        if (!open) a = 1;
        s.a[thread] = a;
        if (a != 1) s.changed[thread] = 1;
    }
    for (int i = thread; i < R * block.writes; i += s.me.threads) {
        const int row = i % R, w = i / R;
        const uint64_t *notes = s.args.notes + span.first + row;
        const float C = holds<R>(image, block, s.p + row, s.norm[row], notes)
                            ? coefficient_of<R>(image, block, w, s.p + row)
                            : 0.0f;
        s.C[i] = C;
        if (C != 0) s.changed[row] = 1;
    }
}

/* The update of R rows, those that change. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void update_rows(block_state<T> &s, const block_span &span,
                                            const steer_block_image &block, const uint64_t *addresses) {
    bool any = false;
#pragma unroll
    for (int i = 0; i < R; i++) any = any || s.changed[i];
    if (!any) return;
    const unsigned long long *writes = (const unsigned long long *)addresses + steer_block_dots(&block);
    for (int base = s.me.thread * 4; base < s.args.hidden_size; base += s.me.threads * 4) {
        float x[R][4];
#pragma unroll
        for (int i = 0; i < R; i++) {
            get_four(x[i], s.x + (span.from + i) * s.args.row_floats + base);
            const float a = s.a[i];
            if (a == 1) continue;
            float r[4] = {};
            if (RESIDUAL) load_four<T>(r, residual_row(s, span.first + i), base, s.args);
#pragma unroll
            for (int e = 0; e < 4; e++) /* nothing is left of a row that is replaced, however it was */
                x[i][e] = a == 0 ? -r[e] : __fmaf_rn(__fsub_rn(a, 1), r[e], __fmul_rn(a, x[i][e]));
        }
#pragma unroll 4
        for (int w = 0; w < block.writes; w++) {
            float v[4];
            put_four<4>(v, 0, __ldg((const float4 *)((const float *)__ldg(writes + w) + base)));
#pragma unroll
            for (int i = 0; i < R; i++) axpy<4>(x[i], s.C[w * R + i], v);
        }
#pragma unroll
        for (int i = 0; i < R; i++)
            if (s.changed[i])
                *(float4 *)(s.x + (span.from + i) * s.args.row_floats + base) =
                    make_float4(x[i][0], x[i][1], x[i][2], x[i][3]);
    }
}

/* ---- Programs ---------------------------------------------------------------------------------------------------- */

/* R rows of one program. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void steer_span(block_state<T> &s, const block_span &span, uint64_t address) {
    const char *image = (const char *)address;
    if (!image) return;
    const int4 head = __ldg((const int4 *)image); /* blocks, keeps */
    if (s.me.thread < R) s.touched[s.me.thread] = 0;
    if (head.y) find_norms<T, R, RESIDUAL>(s, span, s.first);
#pragma unroll 1
    for (int k = 0; k < head.x; k++) {
        const steer_block_image block = read_block(image, k);
        const uint64_t *addresses = (const uint64_t *)(image + block.addresses_at);
        find_dots<T, R, RESIDUAL>(s, span, addresses, steer_block_dots(&block));
        if (block.norm) find_norms<T, R, RESIDUAL>(s, span, s.norm);
        __syncthreads();
        find_changes<T, R, RESIDUAL>(s, span, image, block, addresses);
        __syncthreads();
        update_rows<T, R, RESIDUAL>(s, span, block, addresses);
        if (s.me.thread < R && s.changed[s.me.thread]) s.touched[s.me.thread] = 1;
        __syncthreads();
    }
    __syncthreads();
    for (int base = s.me.thread * 4; base < s.args.hidden_size; base += s.me.threads * 4) {
#pragma unroll
        for (int i = 0; i < R; i++) {
            if (!s.touched[i]) continue;
            float x[4];
            get_four(x, s.x + (span.from + i) * s.args.row_floats + base);
            store_four<T>((T *)s.args.hidden + (span.first + i) * s.args.hidden_stride, base, x, s.args);
        }
    }
    __syncthreads(); /* what is known of these rows may be overwritten */
}

template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void block_rows(const steer_block_args &args) {
    extern __shared__ int4 shared[];
    const lane_info me = who();
    let_next_start();
    block_state<T> s = {args, me};
    s.x = (float *)shared;
    s.partial = s.x + R * args.row_floats;
    s.C = s.partial + 2 * STEER_BLOCK_SUMS * (STEER_BLOCK_TEAM / 32);
    s.p = s.C + R * STEER_BLOCK_MOST;
    s.a = s.p + R * STEER_BLOCK_DOTS;
    s.norm = s.a + R;
    s.first = s.norm + R;
    s.rest = s.first + R;
    s.changed = (int *)(s.rest + R);
    s.touched = s.changed + R;
    const int64_t first = (int64_t)blockIdx.x * R;
    const int count = (int)min((int64_t)R, args.rows - first);
    steer_row record = {};
    bool same = count == R;
    if (args.table) {
        record = load_row(args.table + first);
        same = same && record.run >= R;
    }
    steer_entry entry = args.table ? load_entry(record, args.layer) : args.entry;
    wait_for_previous();
    if (same && !steer_entry_blocks(&entry)) return;
    for (int base = me.thread * 4; base < args.hidden_size; base += me.threads * 4) {
#pragma unroll
        for (int i = 0; i < R; i++) {
            float x[4] = {};
            if (i < count)
                load_four<T>(x, (const T *)args.hidden + (first + i) * args.hidden_stride, base, args);
            *(float4 *)(s.x + i * args.row_floats + base) = make_float4(x[0], x[1], x[2], x[3]);
        }
    }
    if (same) return steer_span<T, R, RESIDUAL>(s, {0, first}, steer_entry_blocks(&entry));
    if constexpr (R > 1) {
        for (int i = 0; i < count; i++) {
            if (i > 0 && args.table) entry = load_entry(load_row(args.table + first + i), args.layer);
            steer_span<T, 1, RESIDUAL>(s, {i, first + i}, steer_entry_blocks(&entry));
        }
    }
}

template <typename T, int R, bool RESIDUAL>
__global__ void __launch_bounds__(STEER_BLOCK_TEAM, 1)
    steer_block_rows(const __grid_constant__ steer_block_args args) {
    block_rows<T, R, RESIDUAL>(args);
}

} // namespace

template <typename T> steer_block_kernel steer_block_select(int rows, bool residual) {
    if (residual) return rows == 4 ? steer_block_rows<T, 4, true> : steer_block_rows<T, 1, true>;
    return rows == 8   ? steer_block_rows<T, 8, false>
           : rows == 4 ? steer_block_rows<T, 4, false>
                       : steer_block_rows<T, 1, false>;
}

#endif
#endif
