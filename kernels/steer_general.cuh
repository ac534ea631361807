/* steer_general.cuh: the kernel of every program, hidden size and alignment in f32; in f16 and bf16, of few vectors where registers do
 * not hold them or rows are no multiples of 16 bytes.
 *
 *     P = h M; c = solve(P); h += u_coef u + M c          M: the program's vectors, any number of them
 *
 * Threads: a block is one team, as in steer_tile.cuh, and has R neighbouring rows in shared memory, where each thread keeps its own
 * chunks, for `turns` tiles one after the other.
 *
 * The loop is in general_block, over tiles; within a tile (steer_rows) one walk over the vectors takes the dots of all R rows with a few
 * of them at a time, so that rows of one program share their loads; one warp runs the operations over the dots of a row (the recursion
 * of program.c); a second walk updates the rows. Rows of different programs in one tile go one by one, with the same arithmetic. */
#ifndef STEER_KERNELS_STEER_GENERAL_CUH
#define STEER_KERNELS_STEER_GENERAL_CUH

#include "steer_solve.cuh"

namespace {

/* Shared memory of a block, and what its threads know. */
template <typename T> struct general_state {
    const steer_rows_args &args;
    const lane_info &me;
    int chunks;        /* of a thread and row */
    uint4 *x, *r;      /* [R][chunks][threads]: rows, residuals */
    const T *residual; /* the row's residual where shared memory has no room for it (R 1), else NULL */
    float *partial; /* two buffers of [R * GENERAL_DOTS][block_stride] in turn: one barrier a sum is enough */
    int partial_size;
    int turn;
    solve_state solved; /* p [R][vectors], C [vectors][R] */
    char *stage;

    __device__ __forceinline__ uint4 &at(uint4 *tile, int row, int chunk) const {
        return tile[(row * chunks + chunk) * me.threads + me.thread];
    }
    __device__ __forceinline__ int base(int chunk) const { return chunk_base<T>(me, chunk); }
    __device__ __forceinline__ float *next_partial() {
        turn ^= 1;
        return partial + turn * partial_size;
    }
};

/* ---- Rows in shared memory ----------------------------------------------------------------------------------- */

template <typename T, bool ALIGNED>
__device__ __forceinline__ void fetch_row(const general_state<T> &s, uint4 *tile, int to, const T *row) {
    for (int c = 0; c < s.chunks; c++) {
        const int base = s.base(c);
        if (ALIGNED && base < s.args.hidden_size)
            copy_async(&s.at(tile, to, c), row + base);
        else
            s.at(tile, to, c) =
                ALIGNED ? make_uint4(0, 0, 0, 0) : load_elements(row + base, s.args.hidden_size - base);
    }
}

/* Chunk `chunk` of a residual that did not fit shared memory. */
template <typename T> __device__ __forceinline__ uint4 residual_chunk(const general_state<T> &s, int chunk) {
    return load_elements(s.residual + s.base(chunk), s.args.hidden_size - s.base(chunk));
}

/* What a program sees of a row: its elements, or delta + residual. */
template <typename T, bool RESIDUAL>
__device__ __forceinline__ void seen(float (&h)[chunk_of<T>::N], const general_state<T> &s, int row,
                                     int chunk) {
    if (RESIDUAL)
        widen_sum<T>(h, s.at(s.x, row, chunk), s.residual ? residual_chunk(s, chunk) : s.at(s.r, row, chunk));
    else
        widen<T>(h, s.at(s.x, row, chunk));
}

/* ---- Dots ---------------------------------------------------------------------------------------------------- */

/* Dots of rows from .. from + R - 1 with vectors j .. j + D - 1, into s.solved.p. */
template <typename T, int R, int D, bool ALIGNED, bool RESIDUAL>
__device__ __forceinline__ void find_some_dots(general_state<T> &s, int from, const program_parts &program,
                                               int j) {
    constexpr int N = chunk_of<T>::N;
    uint64_t address[D];
    float sums[R * D] = {};
#pragma unroll
    for (int d = 0; d < D; d++) address[d] = program.addresses[j + d];
    for (int c = 0; c < s.chunks; c++) {
        const int base = s.base(c);
        float v[D][N];
#pragma unroll
        for (int d = 0; d < D; d++) load_vector<N, ALIGNED>(v[d], address[d], base, s.args.hidden_size);
#pragma unroll
        for (int i = 0; i < R; i++) {
            float h[N];
            seen<T, RESIDUAL>(h, s, from + i, c);
#pragma unroll
            for (int d = 0; d < D; d++) sums[i * D + d] = dot_on<N>(sums[i * D + d], h, v[d]);
        }
    }
    float *partial = s.next_partial();
    block_put<R * D>(partial, sums, s.me);
    __syncthreads();
    const int row = s.me.thread / D, vector = j + s.me.thread % D;
    if (row < R) s.solved.p[row * s.solved.stride + vector] = block_get(partial, s.me.thread, s.me);
}

/* Dots with all vectors, as many together as registers allow. */
template <typename T, int R, bool ALIGNED, bool RESIDUAL>
__device__ __forceinline__ void find_dots(general_state<T> &s, int from, const program_parts &program) {
    constexpr int DOTS = general_dots<T>();
    int j = program.vectors / DOTS * DOTS;
#pragma unroll 1
    for (int i = 0; i < j; i += DOTS) find_some_dots<T, R, DOTS, ALIGNED, RESIDUAL>(s, from, program, i);
    if (DOTS > 4 && j + 4 <= program.vectors) {
        find_some_dots<T, R, 4, ALIGNED, RESIDUAL>(s, from, program, j);
        j += 4;
    }
    if (j + 2 <= program.vectors) {
        find_some_dots<T, R, 2, ALIGNED, RESIDUAL>(s, from, program, j);
        j += 2;
    }
    if (j < program.vectors) find_some_dots<T, R, 1, ALIGNED, RESIDUAL>(s, from, program, j);
}

/* h.h of the rows, into s.solved.norm2. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void find_norms(general_state<T> &s, int from) {
    constexpr int N = chunk_of<T>::N;
    float sums[R] = {};
    for (int c = 0; c < s.chunks; c++) {
#pragma unroll
        for (int i = 0; i < R; i++) {
            float h[N];
            seen<T, RESIDUAL>(h, s, from + i, c);
            sums[i] = dot_on<N>(sums[i], h, h);
        }
    }
    float *partial = s.next_partial();
    block_put<R>(partial, sums, s.me);
    __syncthreads();
    if (s.me.thread < R) s.solved.norm2[s.me.thread] = block_get(partial, s.me.thread, s.me);
}

/* ---- The update ---------------------------------------------------------------------------------------------- */

/* What vector j is scaled by in each row. */
template <int R> __device__ __forceinline__ void read_coefficients(float (&c)[R], const float *C) {
    if constexpr (R % 4 == 0) {
#pragma unroll
        for (int i = 0; i < R; i += 4) *(float4 *)(c + i) = *(const float4 *)(C + i);
    } else {
#pragma unroll
        for (int i = 0; i < R; i++) c[i] = C[i];
    }
}

template <typename T, int R, bool ALIGNED>
__device__ __forceinline__ void update(const general_state<T> &s, int from, int64_t first,
                                       const steer_entry &entry, const program_parts &program) {
    constexpr int N = chunk_of<T>::N;
    for (int c = 0; c < s.chunks; c++) {
        const int base = s.base(c);
        float x[R][N], v[N];
#pragma unroll
        for (int i = 0; i < R; i++) widen<T>(x[i], s.at(s.x, from + i, c));
        if (entry.u) {
            load_vector<N, ALIGNED>(v, entry.u, base, s.args.hidden_size);
#pragma unroll
            for (int i = 0; i < R; i++) axpy<N>(x[i], entry.u_coef, v);
        }
#pragma unroll 2
        for (int j = 0; j < program.updated; j++) {
            alignas(16) float C[R];
            load_vector<N, ALIGNED>(v, program.addresses[j], base, s.args.hidden_size);
            read_coefficients<R>(C, s.solved.C + j * R);
#pragma unroll
            for (int i = 0; i < R; i++) axpy<N>(x[i], C[i], v);
        }
#pragma unroll
        for (int i = 0; i < R; i++)
            if (s.solved.changed[i])
                store_chunk<T, ALIGNED>((T *)s.args.hidden + (first + i) * s.args.hidden_stride, base,
                                        s.args.hidden_size, x[i]);
    }
}

/* ---- A program over R rows ----------------------------------------------------------------------------------- */

/* The program of an entry, brought on chip if there is room; to be read after a barrier. A program that the entry
 * states is one vector, whose address is put where an image has it. */
template <typename T>
__device__ __forceinline__ program_parts fetch_program(const general_state<T> &s, const steer_entry &entry) {
    if (!entry.image) {
        if (s.me.thread == 0) *(uint64_t *)s.stage = entry.m[0];
        return {entry.vectors, entry.vectors, 0, 0, (const uint64_t *)s.stage, nullptr, nullptr};
    }
    const int4 head = entry_head(entry);
    if (entry.image_bytes > s.args.stage_bytes) return parts_of(head, (const char *)entry.image);
    stage_image(s.stage, entry, s.me);
    return parts_of(head, s.stage);
}

/* Rows from .. from + R - 1 of the tile, which are rows first .. of the hidden states; all of one entry. */
template <typename T, int R, bool ALIGNED, bool RESIDUAL>
__device__ __forceinline__ void steer_rows(general_state<T> &s, int from, int64_t first,
                                           const steer_entry &entry, const program_parts &fetched) {
    if (!entry.u && !entry.vectors) return;
    program_parts program = fetched;
    baked_counts(&program.vectors, &program.updated, &program.ops, &program.norm);
    __syncthreads(); /* the program is on chip */
    find_dots<T, R, ALIGNED, RESIDUAL>(s, from, program);
    if (program.norm) find_norms<T, R, RESIDUAL>(s, from);
    __syncthreads();
    const auto index = [](int row, int j) { return j * R + row; };
    solve_rows<1>(s.solved, entry, program, R, s.me, index, solve_dots{s.solved},
                  [&](int row) { return steer_row_exactly<T>(s.args, first + row); });
    __syncthreads();
    update<T, R, ALIGNED>(s, from, first, entry, program);
    __syncthreads(); /* p, C and the stage are free again */
}

template <typename T, int R, bool ALIGNED, bool RESIDUAL>
__device__ __forceinline__ void general_block(const steer_rows_args &args) {
    constexpr int N = chunk_of<T>::N;
    extern __shared__ __align__(16) char shared_memory[];
    const lane_info me =
        sizeof(T) == 2 && blockDim.x > STEER_BLOCK_THREADS ? who_of_long((int)threadIdx.x, 1) : who();
    let_next_start();
    general_state<T> s = {args, me};
    char *base = shared_memory;
    s.chunks = (args.hidden_size + me.threads * 16 - 1) / (me.threads * 16) * (16 / N);
    s.x = (uint4 *)base;
    s.r = s.x + R * s.chunks * me.threads;
    s.partial_size = R * general_dots<T>() * block_stride(me);
    s.turn = 0;
    s.residual = nullptr;
    s.partial = (float *)(RESIDUAL && !args.residual_away ? s.r + R * s.chunks * me.threads : s.r);
    s.solved.C = s.partial + 2 * s.partial_size; /* multiples of 16 bytes up to here */
    s.solved.p = s.solved.C + R * args.vectors;
    s.solved.norm2 = s.solved.p + R * args.vectors;
    s.solved.changed = (int *)(s.solved.norm2 + R);
    s.solved.stride = args.vectors;
    s.stage = base + args.stage_at;

    bool waited = false;
    for (int turn = 0; turn < args.turns; turn++) {
        const int64_t first = ((int64_t)blockIdx.x * args.turns + turn) * R;
        if (first >= args.rows) return;
        const int count = (int)min((int64_t)R, args.rows - first);
        steer_row record = {};
        bool same = count == R;
        if (args.table) {
            record = load_row(args.table + first);
            same = same && record.run >= R;
        }
        steer_entry entry = args.table ? load_register_entry<T>(record, args.layer) : args.entry;
        program_parts program = fetch_program(s, entry);
        if (!waited) wait_for_previous();
        waited = true;
        for (int i = 0; i < count; i++) {
            fetch_row<T, ALIGNED>(s, s.x, i, (const T *)args.hidden + (first + i) * args.hidden_stride);
            if (!RESIDUAL) continue;
            const T *residual = (const T *)args.residual + (first + i) * args.residual_stride;
            if (args.residual_away)
                s.residual = residual;
            else
                fetch_row<T, ALIGNED>(s, s.r, i, residual);
        }
        copies_commit();
        copies_wait<0>(); /* a thread reads only what it copied itself */
        if (same) steer_rows<T, R, ALIGNED, RESIDUAL>(s, 0, first, entry, program);
        if constexpr (R > 1) {
            for (int i = 0; i < count && !same; i++) {
                if (i > 0 && args.table)
                    entry = load_register_entry<T>(load_row(args.table + first + i), args.layer);
                if (i > 0) program = fetch_program(s, entry);
                steer_rows<T, 1, ALIGNED, RESIDUAL>(s, i, first + i, entry, program);
            }
        }
    }
}

template <typename T, int R, bool ALIGNED, bool RESIDUAL>
__global__ void __launch_bounds__(sizeof(T) == 2 ? STEER_WIDE_THREADS : STEER_BLOCK_THREADS, 1)
    steer_general_kernel(const __grid_constant__ steer_rows_args args) {
    general_block<T, R, ALIGNED, RESIDUAL>(args);
}

template <typename T, int R, bool ALIGNED> steer_rows_kernel general_of(bool residual) {
    return residual ? steer_general_kernel<T, R, ALIGNED, true> : steer_general_kernel<T, R, ALIGNED, false>;
}

} // namespace

template <typename T> steer_rows_kernel steer_rows_general(steer_rows_variant variant) {
    if (!variant.aligned) return general_of<T, 1, false>(variant.residual);
    if constexpr (sizeof(T) == 4)
        if (variant.tile == 4) return general_of<T, 4, true>(variant.residual);
    return general_of<T, 1, true>(variant.residual);
}

#endif
