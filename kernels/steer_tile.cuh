/* steer_tile.cuh: the kernel of few vectors for batches that the last-level cache keeps.
 *
 *     P = h M; c = solve(P); h += u_coef u + M c          M: the program's vectors, at most six (f32: eight)
 *
 * Threads: block b has `teams` teams, of 1/16 of the hidden size of threads each; team t has the R rows from (b teams + t) R on, a tile,
 * and thread i of it the columns of steer_common.cuh in all of them. Rows and vectors are in registers; four rows of three and more
 * vectors in shared memory. Teams of a block share what its cache has of a program's vectors.
 *
 * A team's way, in tile_run and steer_in_registers: look the program up and load its vectors, which no kernel writes; griddepcontrol.wait for
 * the kernel before; load the rows; dots; a barrier; solve; update and store. There is no loop: then it is done. */
#ifndef STEER_KERNELS_STEER_TILE_CUH
#define STEER_KERNELS_STEER_TILE_CUH

#include "steer_register.cuh"

namespace {

/* What kernels are made for: elements of a thread and row; rows of a tile; vectors, as register_vectors has them; whether there are residuals;
 * whether programs are folded adds alone, so that teams wait for nobody; whether blocks are wide. */
template <int ELEMENTS, int ROWS, int VECTORS, bool WITH_RESIDUAL, bool ADDS_ALONE = false,
          bool WIDE_BLOCKS = false>
struct tile_shape {
    static constexpr int E = ELEMENTS, R = ROWS, NV = VECTORS;
    static constexpr bool RESIDUAL = WITH_RESIDUAL, ADDS = ADDS_ALONE, WIDE = WIDE_BLOCKS;
    static constexpr bool SLOTS = steer_tile_has_slots(R, NV); /* rows are in shared memory */
    /* A row alone of 16 bits has registers for the adds beside the vectors. */
    template <typename T> static constexpr rest_place rest() {
        if (SLOTS && steer_register_vectors(NV) < NV) return REST_IN_SLOTS;
        return R == 1 && NV > 1 && NV < 4 && sizeof(T) == 2 ? ADDS_HELD : REST_IN_MEMORY;
    }
    template <typename T> using vectors_of = register_vectors<T, E, NV, rest<T>()>;
    /* Of a sum that a warp leaves, as lane_info has them. */
    template <typename T> static constexpr int parts = sizeof(T) > 2 ? 0 : E > 16 ? E / 16 : WIDE;
};

/* Copies `count` rows to the team's slots, zeros to those behind. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ slot_rows<T, RESIDUAL> tile_copy(char *slots, const T *x, const T *r,
                                                            const steer_rows_args &args, int count,
                                                            const column_span<T> &span, const lane_info &me) {
    const int bytes = slot_bytes<T>(me, RESIDUAL);
    const slot_rows<T, RESIDUAL> rows = {slots + span.first * (int)sizeof(T), bytes, bytes / 2};
#pragma unroll
    for (int i = 0; i < R; i++) {
        copy_row<T>((char *)rows.slot + i * bytes, x, span, i < count);
        if (RESIDUAL) copy_row<T>((char *)rows.slot + i * bytes + bytes / 2, r, span, i < count);
        x += args.hidden_stride;
        if (RESIDUAL) r += args.residual_stride;
    }
    copies_commit();
    return rows;
}

/* A team's shared memory: sums, a program image, then rows and vectors. */
struct tile_memory {
    float *partial;
    char *stage, *slots;
};

/* Rows of a team. In the first blocks, args.blocks of them, each has a tile of R rows and serves the run that it begins with: rows
 * of one program. In the blocks behind each has a run that begins within a tile, so that none waits for another. A graph may be
 * replayed with more of these than those blocks have teams: then the tile's team serves all of its runs in turn. */
template <int R> struct tile_rows {
    int64_t first;
    int count; /* from there on in the tile, at most; 0: there are none */

    /* From row `at` of the tile on, where the team has one. */
    __device__ __forceinline__ tile_rows(const steer_rows_args &args, const lane_info &me, int at)
        : count(0) {
        if (has_tile(args)) {
            if (at >= R) return;
            first = ((int64_t)blockIdx.x * me.teams + me.team) * R + at;
        } else {
            const uint32_t number = (blockIdx.x - args.blocks) * me.teams + me.team;
            if (number >= runs_within(args) || are_crowded(args, me)) return;
            first = __ldg(args.inner + STEER_INNER_AT + number);
        }
        count = (int)max((int64_t)0, min((int64_t)(R - (int)(first % R)), args.rows - first));
    }
    static __device__ __forceinline__ bool has_tile(const steer_rows_args &args) {
        return R == 1 || blockIdx.x < args.blocks;
    }
    /* Whether the team serves others after its first `served`. */
    __device__ __forceinline__ bool are_more(const steer_rows_args &args, const lane_info &me,
                                             int served) const {
        return R > 1 && args.replayed && served < count && has_tile(args) && are_crowded(args, me);
    }

  private:
    static __device__ __forceinline__ uint32_t runs_within(const steer_rows_args &args) {
        return __ldg(args.inner + steer_inner_index(R));
    }
    static __device__ __forceinline__ bool are_crowded(const steer_rows_args &args, const lane_info &me) {
        return args.replayed && runs_within(args) > (gridDim.x - args.blocks) * me.teams;
    }
};

/* Steers a run of `count` rows from x and r on, where there are `there`. True if some took another way. */
template <typename Tile, typename T>
__device__ __forceinline__ bool tile_run(const T *r, T *x, int there, int count, const steer_entry &entry,
                                         const tile_memory &memory, const steer_rows_args &args,
                                         const column_span<T> &span, const lane_info &me) {
    constexpr int R = Tile::R;
    typename Tile::template vectors_of<T> vectors;
    vectors.load(entry, span);
    if (Tile::NV > 1 && entry.vectors)
        stage_copy(memory.stage, entry, me); /* others have images of other kernels */
    wait_for_previous();
    if (!entry.u && !entry.vectors) return false;
    if constexpr (Tile::SLOTS) {
        const slot_rows<T, Tile::RESIDUAL> rows =
            tile_copy<T, R, Tile::RESIDUAL>(memory.slots, x, r, args, there, span, me);
        if constexpr (vectors.MORE > 0) {
            vectors.slots = memory.slots + R * slot_bytes<T>(me, Tile::RESIDUAL) +
                            me.warp * (vectors.MORE + 1) * 2048 + me.lane * 16;
            vectors.fill_slots(span);
        }
        copies_wait<0>();
        return steer_in_registers<T, R>(args, rows, count, x, entry, vectors, span, memory.partial,
                                        memory.stage, me);
    } else {
        register_rows<T, Tile::E, R, Tile::RESIDUAL> rows;
        rows.load(x, r, args, there, span);
        if (Tile::NV > 1) {
            copies_commit();
            copies_wait<0>();
        }
        return steer_in_registers<T, R>(args, rows, count, x, entry, vectors, span, memory.partial,
                                        memory.stage, me);
    }
}

template <typename T, typename Tile>
__device__ __forceinline__ lane_info tile_who(const steer_rows_args &args) {
    constexpr int PARTS = Tile::template parts<T>;
    return Tile::NV > 1 || Tile::ADDS ? who_in_team(thread_now(), args.team)
           : PARTS                    ? who_of_long(thread_now(), PARTS)
                                      : who(thread_now());
}

/* Rows of the run that begins with the team's `at`-th. */
template <int R>
__device__ __forceinline__ int tile_run_length(const steer_rows_args &args, const tile_rows<R> &here) {
    if (R == 1 || !args.table) return here.count;
    return (int)min((uint32_t)here.count, load_row(args.table + here.first).run);
}

/* Steers that run; false if the team serves none behind it. again: some rows took another way. */
template <typename T, typename Tile>
__device__ __forceinline__ bool tile_serve(const steer_rows_args &args, int at, bool *again) {
    constexpr int R = Tile::R;
    constexpr bool RESIDUAL = Tile::RESIDUAL;
    extern __shared__ __align__(16) char shared_memory[];
    const lane_info me = tile_who<T, Tile>(args);
    const tile_rows<R> here(args, me, at);
    if (here.count == 0) return false;
    float *mine = (float *)(shared_memory + me.team * args.tile_bytes);
    char *stage = (char *)(mine + R * Tile::template vectors_of<T>::ROOM * block_stride(me));
    const column_span<T> span(me, args.hidden_size);
    steer_entry entry = args.entry;
    int count = here.count;
    if (args.table) {
        const steer_row record = load_row(args.table + here.first);
        if (R > 1) count = (int)min((uint32_t)count, record.run);
        entry = load_register_entry<T>(record, args.layer);
    }
    if (Tile::ADDS) entry.vectors = 0;
    T *x = (T *)args.hidden + here.first * args.hidden_stride + span.first;
    const T *r =
        RESIDUAL ? (const T *)args.residual + here.first * args.residual_stride + span.first : nullptr;
    if (R != 2) materialise(x); /* two rows have no register to spare */
    if (R != 2 && RESIDUAL) materialise(r);
    *again = tile_run<Tile>(r, x, here.count, count, entry, {mine, stage, stage + args.stage_bytes}, args,
                            span, me);
    return *again || here.are_more(args, me, count);
}

/* Serves the runs behind the first of a tile one after the other. By itself, and counting the first anew: what is kept in registers
 * for it, beside rows that took another way too, would cost those that never come here. */
template <typename T, typename Tile> __device__ __noinline__ void tile_others(const steer_rows_args &args) {
    for (int at = 0;;) {
        const lane_info me = tile_who<T, Tile>(args);
        const tile_rows<Tile::R> here(args, me, at);
        const int count = tile_run_length(args, here);
        if (here.count == 0 || !here.are_more(args, me, count)) return;
        at += count;
        if (!Tile::ADDS)
            team_barrier<Tile::template vectors_of<T>::TEAMS>(
                me); /* these rows are done with shared memory */
        bool again;
        tile_serve<T, Tile>(args, at, &again);
    }
}

template <typename T, typename Tile> __device__ __forceinline__ void tile_block(const steer_rows_args &args) {
    let_next_start();
    bool again;
    if (tile_serve<T, Tile>(args, 0, &again) && Tile::R > 1) tile_others<T, Tile>(args);
}

template <typename T, typename Tile>
__global__ void
__launch_bounds__(Tile::WIDE ? STEER_WIDE_THREADS : steer_most_threads(Tile::NV),
                  Tile::WIDE ? 1 : steer_blocks_for((int)sizeof(T), Tile::E, Tile::NV, Tile::RESIDUAL))
    steer_tile_kernel(const __grid_constant__ steer_rows_args args) {
    tile_block<T, Tile>(args);
}

template <typename T, int E, int R, int NV> steer_rows_kernel tile_of(bool residual) {
    return residual ? steer_tile_kernel<T, tile_shape<E, R, NV, true>>
                    : steer_tile_kernel<T, tile_shape<E, R, NV, false>>;
}

/* Of wide blocks. */
template <typename T, int NV> steer_rows_kernel tile_of_wide() {
    return steer_tile_kernel<T, tile_shape<16, 2, NV, false, false, true>>;
}

} // namespace

template <typename T> steer_rows_kernel steer_rows_tile(steer_rows_variant variant) {
    const bool r = variant.residual, four = variant.tile == 4;
    if constexpr (sizeof(T) == 2)
        if (variant.wide) return variant.vectors == 0 ? tile_of_wide<T, 0>() : tile_of_wide<T, 1>();
    if (variant.adds)
        return steer_tile_kernel<T, tile_shape<16, 2, 0, false, true>>; /* residuals do not matter to them */
    if (variant.elements == 32)
        return variant.vectors == 0 ? tile_of<T, 32, 1, 0>(r) : tile_of<T, 32, 1, 1>(r);
    switch (variant.vectors) {
    case 0:
        return variant.tile == 2 ? tile_of<T, 16, 2, 0>(r) : tile_of<T, 16, 1, 0>(r);
    case 1:
        return variant.tile == 2 ? tile_of<T, 16, 2, 1>(r) : tile_of<T, 16, 1, 1>(r);
    case 2:
        return four ? tile_of<T, 16, 4, 2>(r) : tile_of<T, 16, 1, 2>(r);
    case 3:
        return four ? tile_of<T, 16, 4, 3>(r) : tile_of<T, 16, 1, 3>(r);
    case 4:
        return four ? tile_of<T, 16, 4, 4>(r) : tile_of<T, 16, 1, 4>(r);
    case 5:
        return four ? tile_of<T, 16, 4, 5>(r) : tile_of<T, 16, 1, 5>(r);
    case 6:
        return four ? tile_of<T, 16, 4, 6>(r) : tile_of<T, 16, 1, 6>(r);
    default:
        if constexpr (sizeof(T) == 4)
            return tile_of<T, 16, 1, 8>(r); /* the others have tensor cores for them */
        return nullptr;
    }
}

#endif
