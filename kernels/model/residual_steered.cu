/* residual_steered.cu: the residual stream, steered by programs of few vectors, and its norm: a block for each row.
 *
 *     x = round(x + multiplier * post(y)), x as steer_tile.cuh steers it, out = next(x)
 *
 * The block has the row as in residual.cuh; its first 1/16 of the hidden size of threads (to a power of two) are the team of
 * steer_tile.cuh, with its columns, its sums and so its bits. Programs and vectors are fetched before the kernel ahead has ended;
 * then the row goes from the one order of columns to the other through shared memory, and back through the hidden states. */
#define STEER_KERNEL_IMPLEMENTATION 1
#include "../steer_register.cuh"
#include "residual.cuh"

namespace {

enum { MOST_THREADS = 512, PACK = 8 };

/* What a block keeps in shared memory: a row, its team's sums, its program's image. */
template <typename T, int NV> struct block_memory {
    __align__(16) T row[MOST_THREADS * PACK];
    float sums[steer_sums_room(NV) * (MOST_THREADS / 32)];
    __align__(16) char stage[STEER_RESIDUAL_IMAGE];
    bool again; /* the row took another way: it is in the hidden states */
};

/* The row in shared memory, where it is steered too; `place` is where it lies in the hidden states. */
template <typename T> struct handed_row : slot_rows<T, false> {
    static constexpr bool AWAY = true;
    T *place;
};

/* The team has columns behind the row too, whose sums with a vector's zeros must be zeros. */
template <typename T, int NV>
__device__ __forceinline__ void end_row(block_memory<T, NV> &memory, const steer_rows_args &args) {
    for (int at = args.hidden_size + (int)threadIdx.x * PACK; at < args.team * 16; at += blockDim.x * PACK)
        *(uint4 *)(memory.row + at) = make_uint4(0, 0, 0, 0);
}

/* The team waits for itself at the barrier of a second one: the block's own is where the other threads wait. */
__device__ __forceinline__ lane_info who_of_team(int threads) {
    lane_info me = who_in_team((int)threadIdx.x, threads);
    me.team = 1;
    return me;
}

template <typename T, int NV>
__global__ void __launch_bounds__(MOST_THREADS, 1)
    residual_steered_rows(const __grid_constant__ steer_residual a,
                          const __grid_constant__ steer_rows_args args) {
    __shared__ block_memory<T, NV> memory;
    __shared__ float room[32];
    const lane_info me = who_of_team(args.team);
    const bool of_team = (int)threadIdx.x < args.team;
    const column_span<T> span(me, args.hidden_size);
    const steer_entry entry = load_register_entry<T>(load_row(args.table + blockIdx.x), args.layer);
    const bool steers = entry.u || entry.vectors; /* else the row keeps its bits */
    register_vectors<T, 16, NV, NV == 2 ? ADDS_HELD : REST_IN_MEMORY> vectors;
    if (of_team && steers) {
        vectors.load(entry, span);
        stage_copy(memory.stage, entry, me);
        copies_commit();
    }
    end_row<T, NV>(memory, args);
    const norm_weights<PACK, true> weights(a);
    steer_begin();
    T *data = static_cast<T *>(a.x) + blockIdx.x * a.hidden;
    spread_row<T, PACK, true> x(data, a.hidden);
    residual_add(a, x, data, room);
    if (steers) {
        x.each([&](int64_t at, float(&sum)[PACK]) { steer_write<PACK>(memory.row + at, sum); });
        __syncthreads();
        if (of_team) {
            T *const at = memory.row + span.first;
            copies_wait<0>();
            const handed_row<T> rows = {{(const char *)at, 0, 0}, data + span.first};
            const bool again = steer_in_registers<T, 1>(args, rows, 1, at, entry, vectors, span, memory.sums,
                                                        memory.stage, me);
            if (threadIdx.x == 0) memory.again = again;
        }
        __syncthreads();
        if (memory.again)
            x.read_again(data);
        else
            x.move(memory.row, data);
    }
    residual_norm(a, x, weights, room);
}

} // namespace

int32_t steer_cuda_steers(void *, steer_dtype dtype, int64_t hidden) {
    return dtype != STEER_F32 && hidden % PACK == 0 && hidden <= MOST_THREADS * PACK ? STEER_REGISTER_VECTORS
                                                                                     : 0;
}

int steer_cuda_residual_steered(steer_cuda_device *device, const steer_residual *args) {
    steer_rows_args rows = {};
    rows.hidden = args->x;
    rows.hidden_stride = args->hidden;
    rows.rows = args->rows;
    rows.table = args->table;
    rows.hidden_size = (int32_t)args->hidden;
    rows.layer = args->layer;
    rows.team = steer_team_of(args->hidden, STEER_WIDE_THREADS);
    const unsigned threads = steer_threads_for(args->hidden / PACK, MOST_THREADS);
    const auto launch = [&](auto kernel) {
        return steer_cuda_launch(device, kernel, dim3((unsigned)args->rows), threads, 0,
                                 "the residual kernel that steers", *args, rows);
    };
    const auto of_type = [&](auto type) {
        using T = decltype(type);
        return args->vectors <= 2 ? launch(residual_steered_rows<T, 2>) : launch(residual_steered_rows<T, 6>);
    };
    return args->dtype == STEER_F16 ? of_type(steer_f16()) : of_type(steer_bf16());
}
