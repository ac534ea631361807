/* steer_stream.cuh: the kernel of few vectors for batches beyond the last-level cache.
 *
 *     P = h M; c = solve(P); h += u_coef u + M c          M: the program's vectors, at most six
 *
 * Threads: a block is one team of 1/16 of the hidden size of threads, as in steer_tile.cuh, and has `turns` neighbouring rows. It keeps
 * the vectors in registers while the program stays the same.
 *
 * The loop, in stream_rows, goes from one run of rows with a program to the next, and along a run one or two rows a turn. Rows come
 * through a ring of four to eight buffers in shared memory, which cp.async fills ahead: double buffering, only deeper. */
#ifndef STEER_KERNELS_STEER_STREAM_CUH
#define STEER_KERNELS_STEER_STREAM_CUH

#include "steer_register.cuh"

namespace {

/* Rows on their way to shared memory, where a thread keeps only what it fetched itself: no barrier is needed. They are
 * taken in the order in which they were fetched, ROWS at most being under way. */
template <typename T, int ROWS, bool RESIDUAL> struct row_ring {
    char *slots;      /* the thread's chunk 0 in the first */
    int bytes;        /* of a slot */
    int next, oldest; /* offsets of the slots of the row to be fetched next and of the one to be taken */
    const T *x, *r;   /* the row to be fetched next */
    int64_t x_stride, r_stride;
    int left; /* rows to be fetched */

    __device__ __forceinline__ int after(int slot) const {
        return slot + bytes == ROWS * bytes ? 0 : slot + bytes;
    }
    __device__ __forceinline__ void fetch(const column_span<T> &span) {
        if (left > 0) {
            copy_row<T>(slots + next, x, span);
            if (RESIDUAL) copy_row<T>(slots + next + bytes / 2, r, span);
            x += x_stride;
            if (RESIDUAL) r += r_stride;
        }
        left--;
        next = after(next);
        copies_commit();
    }
    /* The oldest row, which has arrived. Its slot may be fetched to when what was read has been used. */
    __device__ __forceinline__ const char *take() {
        const char *slot = slots + oldest;
        oldest = after(oldest);
        return slot;
    }
};

/* Steers the block's rows from the `from`-th on, as a rule all of them: up to those that took another way, behind which nothing
 * is kept in registers. How many are done. */
template <typename T, int NV, bool RESIDUAL, bool WIDE>
__device__ __forceinline__ int stream_rows(const steer_rows_args &args, int from) {
    constexpr int R = steer_stream_rows(NV); /* of a turn */
    typedef register_vectors<T, 16, NV, REST_IN_SLOTS> vector_set;
    constexpr int ROOM = vector_set::ROOM, ROWS = steer_stream_ring(NV), MORE = steer_vector_slots(NV);
    extern __shared__ __align__(16) char shared_memory[];
    const lane_info me = WIDE ? who_of_long((int)threadIdx.x, 1) : who();
    const column_span<T> span(me, args.hidden_size);
    const int64_t first = (int64_t)blockIdx.x * args.turns + from;
    const int count = (int)min((int64_t)args.turns - from, args.rows - first);
    const int bytes = slot_bytes<T>(me, RESIDUAL);
    char *const slots = shared_memory + ROWS * bytes;
    float *partial = (float *)(slots + MORE * me.threads * 64);
    const int partial_size = R * ROOM * block_stride(me);
    char *stage = (char *)(partial + 2 * partial_size);
    let_next_start();
    T *x = (T *)args.hidden + first * args.hidden_stride + span.first;
    row_ring<T, ROWS, RESIDUAL> ring = {shared_memory + span.first * (int)sizeof(T), bytes, 0, 0, x};
    ring.x_stride = args.hidden_stride;
    if (RESIDUAL) {
        ring.r = (const T *)args.residual + first * args.residual_stride + span.first;
        ring.r_stride = args.residual_stride;
    }
    ring.left = count;
    wait_for_previous();
#pragma unroll
    for (int i = 0; i < ROWS; i++) ring.fetch(span);
    steer_entry entry = args.entry;
    vector_set vectors;
    vectors.slots = slots + me.warp * MORE * 2048 + me.lane * 16;
    int turn = 0; /* of two buffers for sums, so that one barrier a sum is enough */
    for (int row = 0; row < count;) {
        int run = count - row;
        if (args.table) {
            const steer_row record = load_row(args.table + first + row);
            run = (int)min((uint32_t)run, record.run);
            entry = load_register_entry<T>(record, args.layer);
        }
        vectors.load(entry, span);
        if (NV > 0) vectors.fill_slots(span);
        if (NV > 1) {
            __syncthreads(); /* the rows before are done with the stage */
            stage_image(stage, entry, me);
        }
        row += run;
        const bool steers = entry.u || entry.vectors;
        while (run > 0) {
            const int rows = min(R, run);
            copies_wait<ROWS - R>();
            const char *slot = ring.take();
            const slot_rows<T, RESIDUAL> now = {slot, R > 1 && rows > 1 ? (int)(ring.take() - slot) : 0,
                                                bytes / 2};
            if (steers && steer_in_registers<T, R>(args, now, rows, x, entry, vectors, span,
                                                   partial + turn * partial_size, stage, me)) {
                copies_wait<0>();
                __syncthreads(); /* shared memory is free again */
                return from + row - run + rows;
            }
            ring.fetch(span);
            if (R > 1 && rows > 1) ring.fetch(span);
            x += rows * args.hidden_stride;
            if (entry.vectors) turn ^= 1;
            run -= rows;
        }
    }
    return args.turns;
}

template <typename T, int NV, bool RESIDUAL, bool WIDE>
__device__ __forceinline__ void stream_block(const steer_rows_args &args) {
    for (int done = 0; done < args.turns;) done = stream_rows<T, NV, RESIDUAL, WIDE>(args, done);
}

template <typename T, int NV, bool RESIDUAL>
__global__ void __launch_bounds__(STEER_BLOCK_THREADS, steer_blocks_for((int)sizeof(T), 16, NV, RESIDUAL))
    steer_stream_kernel(const __grid_constant__ steer_rows_args args) {
    stream_block<T, NV, RESIDUAL, false>(args);
}

template <typename T, int NV>
__global__ void __launch_bounds__(STEER_WIDE_THREADS, 1)
    steer_wide_stream_kernel(const __grid_constant__ steer_rows_args args) {
    stream_block<T, NV, false, true>(args);
}

template <typename T, int NV> steer_rows_kernel stream_of(bool residual) {
    return residual ? steer_stream_kernel<T, NV, true> : steer_stream_kernel<T, NV, false>;
}

} // namespace

template <typename T> steer_rows_kernel steer_rows_stream(steer_rows_variant variant) {
    const bool r = variant.residual;
    if constexpr (sizeof(T) == 2)
        if (variant.wide)
            return variant.vectors == 0 ? steer_wide_stream_kernel<T, 0> : steer_wide_stream_kernel<T, 1>;
    switch (variant.vectors) {
    case 0:
        return stream_of<T, 0>(r);
    case 1:
        return stream_of<T, 1>(r);
    case 2:
        return stream_of<T, 2>(r);
    case 3:
        return stream_of<T, 3>(r);
    case 4:
        return stream_of<T, 4>(r);
    case 5:
        return stream_of<T, 5>(r);
    default:
        return stream_of<T, 6>(r);
    }
}

#endif
