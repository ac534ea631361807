/* steer_any.cuh: the kernel of 16-bit rows with all kinds of programs: of a batch that has them, or of a captured launch, which
 * serves any later batch. Teams serve programs of few vectors as in steer_tile.cuh; a block that has a row of many vectors is
 * served as in steer_many.cuh. */
#ifndef STEER_KERNELS_STEER_ANY_CUH
#define STEER_KERNELS_STEER_ANY_CUH

#include "steer_many.cuh"
#include "steer_tile.cuh"

#ifdef STEER_ROWS_IMPLEMENTATION

namespace {

/* The vectors of a program of several. */
template <typename T, int R>
struct any_several : held_vectors<T, 16, STEER_FEW_VECTORS, steer_tile_has_slots(R, STEER_FEW_VECTORS)> {
    static constexpr int TEAMS = STEER_ANY_TEAMS;
};

/* Of a program of at most one projecting operation: its vector, or without it the folded adds, stays in registers. */
template <typename T> struct any_one : held_vectors<T, 16, 1, false> {
    typedef held_vectors<T, 16, 1, false> base;
    static constexpr int TEAMS = STEER_ANY_TEAMS;
    static constexpr bool IN_SLOTS =
        true; /* of four rows in registers the other ways to serve them would lose theirs */

    __device__ __forceinline__ void load(const steer_entry &entry, const column_span<T> &span) {
        this->load_one(0, entry.vectors ? entry.m[0] : entry.u, span);
        this->more[0] = entry.vectors ? entry.u : 0;
    }
    __device__ __forceinline__ void get(float (&to)[base::N], int j, int c,
                                        const column_span<T> &span) const {
        if (j < base::NV || !this->more[0]) return base::get(to, 0, c, span);
        base::get(to, base::NV, c, span);
    }
};

/* A program that a team serves by itself. */
__device__ __forceinline__ bool any_is_few(const steer_entry &entry, const steer_rows_args &args) {
    return entry.vectors <= STEER_FEW_VECTORS && !entry.norm && entry.image_bytes <= STEER_ANY_STAGE &&
           args.team <= STEER_BLOCK_THREADS && args.team * 16 >= args.hidden_size;
}

/* Whether all programs of a block's rows are; every warp looks for itself, so that none waits. */
__device__ __forceinline__ bool any_are_few(const steer_rows_args &args, int64_t block, int lane) {
    const int64_t row = block * args.tile + lane;
    const bool mine = lane < args.tile && row < args.rows;
    return __all_sync(0xffffffffu,
                      !mine || any_is_few(load_entry(load_row(args.table + row), args.layer), args));
}

/* Serves the run that a team's rows begin with; how many of them it has. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ int any_run(const steer_rows_args &args, const lane_info &me,
                                       const tile_rows<R> &here) {
    extern __shared__ __align__(16) char shared_bytes[];
    float *partial = (float *)(shared_bytes + me.team * args.tile_bytes);
    char *stage = (char *)(partial + R * any_several<T, R>::ROOM * block_stride(me));
    const tile_memory memory = {partial, stage, stage + STEER_ANY_STAGE};
    const column_span<T> span(me, args.hidden_size);
    const steer_row record = load_row(args.table + here.first);
    const steer_entry entry = load_entry(record, args.layer);
    const int count = R > 1 ? (int)min((uint32_t)here.count, record.run) : here.count;
    T *x = (T *)args.hidden + here.first * args.hidden_stride + span.first;
    const T *r =
        RESIDUAL ? (const T *)args.residual + here.first * args.residual_stride + span.first : nullptr;
    if (!entry.vectors && !entry.u) {
        wait_for_previous();
    } else if (entry.vectors < 2 && !entry.image) {
        any_one<T> vectors;
        tile_run<T, 16, R, RESIDUAL>(r, x, vectors, here.count, count, entry, memory, args, span, me);
    } else {
        any_several<T, R> vectors;
        tile_run<T, 16, R, RESIDUAL>(r, x, vectors, here.count, count, entry, memory, args, span, me);
    }
    return count;
}

/* Serves the other runs of a tile one after the other, from the `at`-th row on. By itself: what it keeps in registers would cost
 * those that never come here. */
template <typename T, int R, bool RESIDUAL>
__device__ __noinline__ void any_others(const steer_rows_args &args, int at) {
    for (;;) {
        const lane_info me = who_in_team(thread_now(), args.team);
        team_barrier<STEER_ANY_TEAMS>(me); /* the rows before are done with shared memory */
        const tile_rows<R> here(args, me, at);
        if (here.count == 0) return;
        at += any_run<T, R, RESIDUAL>(args, me, here);
    }
}

template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void any_block(const steer_rows_args &args) {
    let_next_start();
    const lane_info me = who_in_team(thread_now(), args.team);
    const bool has_tile = tile_rows<R>::has_tile(args);
    if (has_tile && !any_are_few(args, blockIdx.x, me.lane))
        return many_block<T, true, 1, 1, true>(args, true);
    const tile_rows<R> here(args, me, 0);
    if (here.count == 0) return;
    if (!has_tile && !any_are_few(args, here.first / args.tile, me.lane))
        return; /* the block that has the tile serves all of it */
    const int served = any_run<T, R, RESIDUAL>(args, me, here);
    if (here.are_more(args, me, served)) any_others<T, R, RESIDUAL>(args, served);
}

template <typename T, int R, bool RESIDUAL>
__global__ void __launch_bounds__(STEER_BLOCK_THREADS, 1)
    steer_any_kernel(const __grid_constant__ steer_rows_args args) {
    any_block<T, R, RESIDUAL>(args);
}

} // namespace

template <typename T> steer_rows_kernel steer_rows_any(steer_rows_variant variant) {
    if (variant.residual) return steer_any_kernel<T, 1, true>;
    return variant.tile > 1 ? steer_any_kernel<T, 4, false> : steer_any_kernel<T, 1, false>;
}

#endif
#endif
