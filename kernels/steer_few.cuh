/* steer_few.cuh: programs of few vectors in the kernel of many, for batches that have both. They are summed as in
 * steer_tile.cuh and steer_general.cuh, so that a row has the same bits beside any other. */
#ifndef STEER_KERNELS_STEER_FEW_CUH
#define STEER_KERNELS_STEER_FEW_CUH

#include "steer_slots.cuh"

#ifdef STEER_ROWS_IMPLEMENTATION

namespace {

enum {
    FEW_ROWS = 2, /* of a team at once */
    FEW_ROOM = steer_sums_room(STEER_FEW_VECTORS)
};
static_assert(FEW_ROOM >= (int)STEER_FEW_VECTORS && FEW_ROOM <= (int)STEER_ENTRY_VECTORS,
              "vectors of the entry");

/* ---- Rows where they lie --------------------------------------------------------------------------------------- */

/* Eight columns of a row from `base`, which it has. */
template <typename T, bool ALIGNED>
__device__ __forceinline__ uint4 few_load(const T *row, int base, int hidden) {
    return ALIGNED ? load_now(row + base) : load_elements(row + base, hidden - base);
}

/* The same as numbers, zeros where there is nothing: what its program sees, or what is there to be updated. */
template <typename T, bool ALIGNED>
__device__ __forceinline__ void few_chunk(float (&h)[8], const many_state &s, int row, int base, bool sees) {
    const steer_rows_args &args = s.args;
    const bool there = row < s.rows && base < args.hidden_size;
    const T *x = (const T *)args.hidden + (s.first + row) * args.hidden_stride;
    const uint4 delta = there ? few_load<T, ALIGNED>(x, base, args.hidden_size) : make_uint4(0, 0, 0, 0);
    if (!sees || !args.residual) return widen<T>(h, delta);
    const T *r = (const T *)args.residual + (s.first + row) * args.residual_stride;
    widen_sum<T>(h, delta, there ? few_load<T, ALIGNED>(r, base, args.hidden_size) : make_uint4(0, 0, 0, 0));
}

/* ---- Teams of threads ------------------------------------------------------------------------------------------- */

/* Who a thread is among those that share a row. Where a block has less of them each stands for several, `part` by part. */
__device__ __forceinline__ lane_info few_who(const many_state &s, int part) {
    const int here = min(s.args.team, (int)blockDim.x), thread = (int)threadIdx.x % here + part * here;
    const int parts = s.args.team > STEER_BLOCK_THREADS ? 1 : 0;
    return {thread, s.args.team, s.args.team / 32, thread / 32, s.lane(), 0, 1, parts};
}
__device__ __forceinline__ int few_parts(const many_state &s) {
    return max(1, s.args.team / (int)blockDim.x);
}

/* Dots of FEW_ROWS rows, `apart` from each other, to `partial`. */
template <typename T, bool ALIGNED>
__device__ __forceinline__ void few_dots(const many_state &s, const many_program &program, int row, int apart,
                                         float *partial) {
    for (int part = 0; part < few_parts(s); part++) {
        const lane_info me = few_who(s, part);
        float sums[FEW_ROWS * FEW_ROOM] = {};
        for (int base = chunk_base<T>(me, 0), c = 0; c < 2 || base < s.args.hidden_size;
             base = chunk_base<T>(me, ++c)) {
            float h[FEW_ROWS][8], v[8];
#pragma unroll
            for (int i = 0; i < FEW_ROWS; i++) few_chunk<T, ALIGNED>(h[i], s, row + i * apart, base, true);
#pragma unroll
            for (int j = 0; j < STEER_FEW_VECTORS; j++) {
                if (j >= program.entry.vectors) break;
                load_vector<8, ALIGNED>(v, program.entry.m[j], base, s.args.hidden_size);
#pragma unroll
                for (int i = 0; i < FEW_ROWS; i++)
                    sums[i * FEW_ROOM + j] = dot_on<8>(sums[i * FEW_ROOM + j], h[i], v);
            }
        }
        block_put<FEW_ROWS * FEW_ROOM>(partial, sums, me);
    }
}

/* Every warp of the rows solves for itself: lane i FEW_ROOM + j has vector j in row i, and `lost` its bit where f32 cannot hold
 * that. */
__device__ __forceinline__ float few_solve(unsigned *lost, const many_state &s, const many_program &program,
                                           const float *partial) {
    const lane_info me = few_who(s, 0);
    const int j = me.lane % FEW_ROOM;
    const bool mine = me.lane < FEW_ROWS * FEW_ROOM && j < program.entry.vectors;
    float p[1][1] = {{mine ? block_get(partial, me.lane, me) : 0}}, C[1][1] = {}, no_norm[1] = {};
    if (program.entry.image)
        solve_lanes<1, 1, false>(C, p, no_norm, program.parts, me.lane - j, j);
    else if (mine)
        C[0][0] = entry_coefficient(p[0][0], program.entry);
    *lost = __ballot_sync(0xffffffffu, is_lost(p[0][0], C[0][0]));
    return C[0][0];
}

template <typename T, bool ALIGNED>
__device__ __forceinline__ void few_update(const many_state &s, const many_program &program, int row,
                                           const float (&c)[STEER_FEW_VECTORS]) {
    for (int i = 0; i < few_parts(s); i++) {
        const lane_info me = few_who(s, i);
        for (int base = chunk_base<T>(me, 0), k = 0; base < s.args.hidden_size;
             base = chunk_base<T>(me, ++k)) {
            float h[8], v[8];
            few_chunk<T, ALIGNED>(h, s, row, base, false);
            if (program.entry.u) {
                load_vector<8, ALIGNED>(v, program.entry.u, base, s.args.hidden_size);
                axpy<8>(h, program.entry.u_coef, v);
            }
#pragma unroll
            for (int j = 0; j < STEER_FEW_VECTORS; j++) {
                if (j >= program.parts.updated) break;
                load_vector<8, ALIGNED>(v, program.entry.m[j], base, s.args.hidden_size);
                axpy<8>(h, c[j], v);
            }
            store_chunk<T, ALIGNED>((T *)s.args.hidden + (s.first + row) * s.args.hidden_stride, base,
                                    s.args.hidden_size, h);
        }
    }
}

/* The same of a row whose dots or coefficients f32 cannot hold: its first warp does it. */
template <typename T> __device__ __forceinline__ void few_again(const many_state &s, int row, float c) {
    if ((int)threadIdx.x % min(s.args.team, (int)blockDim.x) >= 32) return;
    const T *at = (const T *)s.args.hidden + (s.first + row) * s.args.hidden_stride;
    steer_rows_again<T>(s.args, at, 1, c, ~0u, FEW_ROOM);
}

/* Teams of threads take some rows each. */
template <typename T, bool ALIGNED>
__device__ __forceinline__ void few_run(const many_state &s, const many_program &program) {
    const int here = min(s.args.team, (int)blockDim.x), teams = (int)blockDim.x / here,
              team = (int)threadIdx.x / here;
    const int each = FEW_ROWS * FEW_ROOM * block_stride(few_who(s, 0));
    for (int base = team, turn = 0; base - team < s.rows; base += FEW_ROWS * teams, turn ^= 1) {
        float *partial = s.partial() + (turn * teams + team) * each; /* two in turn: one barrier is enough */
        float solved = 0;
        unsigned lost = 0;
        if (program.entry.vectors) {
            few_dots<T, ALIGNED>(s, program, base, teams, partial);
            __syncthreads();
            solved = few_solve(&lost, s, program, partial);
        }
#pragma unroll
        for (int i = 0; i < FEW_ROWS; i++) {
            const int row = base + i * teams;
            bool changes = program.entry.u != 0;
            float c[STEER_FEW_VECTORS];
#pragma unroll
            for (int j = 0; j < STEER_FEW_VECTORS; j++) {
                c[j] = __shfl_sync(0xffffffffu, solved, i * FEW_ROOM + j);
                changes = changes || c[j] != 0;
            }
            if (row >= s.rows) continue;
            if (lost >> i * FEW_ROOM & (1u << FEW_ROOM) - 1)
                few_again<T>(s, row, __shfl_sync(0xffffffffu, solved, i * FEW_ROOM + s.lane() % FEW_ROOM));
            else if (changes)
                few_update<T, ALIGNED>(s, program, row, c);
        }
    }
    __syncthreads(); /* shared memory is free again */
}

__device__ __forceinline__ bool is_few(const program_parts &program) {
    return program.vectors <= STEER_FEW_VECTORS && !program.norm;
}

} // namespace

#endif
#endif
