/* steer_register.cuh: rows and programs of few vectors that threads hold in registers, and how they are steered there: what
 * steer_tile.cuh and steer_stream.cuh share. steer_in_registers() is all of it for rows of one program:
 *
 *     dots of the thread's columns, lanes, warps (register_dots); barrier; every warp solves for itself (register_solve); h += (register_update) */
#ifndef STEER_KERNELS_STEER_REGISTER_CUH
#define STEER_KERNELS_STEER_REGISTER_CUH

#include "steer_solve.cuh"

namespace {

/* ---- What a thread holds ------------------------------------------------------------------------------------- */

/* Where a thread's chunks are in a row. Pointers that go with it are at the first of them. */
template <typename T> struct column_span {
    static constexpr int N = chunk_of<T>::N, CHUNKS = 16 / N;
    int first; /* column of chunk 0 */
    int left;  /* columns of a row from that one on */
    int lap;   /* columns from a chunk to the one CHUNKS later */

    __device__ __forceinline__ column_span(const lane_info &me, int hidden)
        : first(chunk_base<T>(me, 0)), left(hidden - chunk_base<T>(me, 0)), lap(me.threads * 16) {}
    __device__ __forceinline__ int offset(int c) const { return c / CHUNKS * lap + c % CHUNKS * 32 * N; }
    __device__ __forceinline__ bool has(int c) const { return offset(c) < left; }
};

/* R rows of E elements a thread as they are stored, in registers; in the serving form with their residuals. */
template <typename T, int E, int R, bool RESIDUAL> struct register_rows {
    static constexpr int N = chunk_of<T>::N, CHUNKS = E / N,
                         TURNS = R; /* unrolled: registers have no index */
    static constexpr bool AWAY =
        false; /* what is steered is stored elsewhere than in the hidden states, which have it at `place` */
    uint4 x[R][CHUNKS], r[RESIDUAL ? R : 1][CHUNKS];

    /* Of `count` rows that there are, the first at x and r. */
    __device__ __forceinline__ void load(const T *x_at, const T *r_at, const steer_rows_args &args, int count,
                                         const column_span<T> &span) {
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int c = 0; c < CHUNKS; c++)
                load_chunk(x[i][c], x_at + i * args.hidden_stride, i < count, c, span);
        if constexpr (RESIDUAL) {
#pragma unroll
            for (int i = 0; i < R; i++)
#pragma unroll
                for (int c = 0; c < CHUNKS; c++)
                    load_chunk(r[i][c], r_at + i * args.residual_stride, i < count, c, span);
        }
    }
    __device__ __forceinline__ void load_chunk(uint4 &to, const T *row, bool there, int c,
                                               const column_span<T> &span) {
        to = there && span.has(c) ? load_now(row + span.offset(c)) : make_uint4(0, 0, 0, 0);
    }
    /* Chunk c of a row as it is, and as programs see it. */
    __device__ __forceinline__ uint4 chunk(int row, int c) const { return x[row][c]; }
    __device__ __forceinline__ void elements(float (&h)[N], int row, int c) const {
        if constexpr (RESIDUAL)
            widen_sum<T>(h, x[row][c], r[row][c]);
        else
            widen<T>(h, x[row][c]);
    }
};

/* The same of 16 elements in shared memory, where a thread keeps only what it copied itself: no barrier is needed. A row has a
 * slot, its residual behind it. */
template <typename T> __device__ __forceinline__ int slot_bytes(const lane_info &me, bool residual) {
    return me.threads * 16 * (int)sizeof(T) * (residual ? 2 : 1);
}
template <typename T, bool RESIDUAL> struct slot_rows {
    static constexpr int N = chunk_of<T>::N, CHUNKS = 16 / N,
                         TURNS = 1; /* a block waits for each new instruction */
    static constexpr bool AWAY = false;
    const char *slot; /* the thread's chunk 0 in the first row */
    int step;         /* bytes from there to the next row */
    int residual;     /* and to the residual */

    __device__ __forceinline__ uint4 chunk(int row, int c) const {
        return *(const uint4 *)(slot + row * step + c * 512);
    }
    __device__ __forceinline__ void elements(float (&h)[N], int row, int c) const {
        if constexpr (RESIDUAL)
            widen_sum<T>(h, chunk(row, c), *(const uint4 *)(slot + row * step + residual + c * 512));
        else
            widen<T>(h, chunk(row, c));
    }
};

/* Starts copying a row, at the thread's chunk 0, to its slot; zeros where there is no column, or no row. */
template <typename T>
__device__ __forceinline__ void copy_row(char *slot, const T *from, const column_span<T> &span,
                                         bool there = true) {
#pragma unroll
    for (int c = 0; c < 16 / chunk_of<T>::N; c++)
        copy_or_zero(slot + c * 512, span.has(c) ? from + span.offset(c) : from - span.first,
                     there && span.has(c) ? 16 : 0);
}

/* Where element i of chunk c of a vector is. */
template <typename T>
__device__ __forceinline__ const float *vector_at(uint64_t address, const column_span<T> &span, int c,
                                                  int i) {
    return (const float *)address + span.first + span.offset(c) + i;
}

/* Where the folded adds are until they are due, and vectors that have no room in registers: where they lie in memory; in shared
 * memory, where a thread has its own elements of each; the folded adds in registers, as all vectors have room. */
enum rest_place { REST_IN_MEMORY, REST_IN_SLOTS, ADDS_HELD };

/* The vectors of a program: up to NV projecting ones, of which HELD stay in registers. With NV 0 no program of the launch has both
 * these and folded adds: its one vector serves either way. */
template <typename T, int E, int VECTORS, rest_place REST> struct register_vectors {
    static constexpr int NV = VECTORS, N = chunk_of<T>::N, CHUNKS = E / N, SLOTS = NV > 0 ? NV : 1;
    static constexpr int HELD = steer_register_vectors(SLOTS), MORE = SLOTS - HELD;
    static constexpr bool ADDS = REST == ADDS_HELD, SLOTTED = REST == REST_IN_SLOTS;
    static constexpr int ROOM = steer_sums_room(SLOTS), TEAMS = NV > 1 ? 2 : 1;
    float v[HELD + ADDS][CHUNKS][N];
    uint64_t more[MORE + 1]; /* addresses of the others and of the folded adds; 0: none */
    char *slots;             /* the warp's [MORE + 1][2048 bytes], from the lane's first 16 on */

    __device__ __forceinline__ void load_one(int j, uint64_t address, const column_span<T> &span) {
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
#pragma unroll
            for (int i = 0; i < N; i += 4)
                put_four(v[j][c], i,
                         span.has(c) ? __ldg((const float4 *)vector_at(address, span, c, i))
                                     : make_float4(0, 0, 0, 0));
    }
    __device__ __forceinline__ char *place(int j, int c, int i) const {
        return slots + j * 2048 + (c * N + i) * 128;
    }
    __device__ __forceinline__ void load(const steer_entry &entry, const column_span<T> &span) {
        if constexpr (NV == 0) {
            if (entry.u || entry.vectors) load_one(0, entry.u ? entry.u : entry.m[0], span);
        } else {
#pragma unroll
            for (int j = 0; j < HELD; j++)
                if (j < entry.vectors) load_one(j, entry.m[j], span);
#pragma unroll
            for (int j = 0; j < MORE; j++) more[j] = HELD + j < entry.vectors ? entry.m[HELD + j] : 0;
            more[MORE] = entry.u;
            if (ADDS && entry.u) load_one(HELD + ADDS - 1, entry.u, span);
        }
    }
    /* Copies to the slots what is not in registers. */
    __device__ __forceinline__ void fill_slots(const column_span<T> &span) {
#pragma unroll
        for (int j = 0; j <= MORE; j++)
#pragma unroll
            for (int c = 0; c < CHUNKS; c++)
#pragma unroll
                for (int i = 0; i < N; i += 4) *(float4 *)place(j, c, i) = fetch(j, c, i, span);
    }
    __device__ __forceinline__ float4 fetch(int j, int c, int i, const column_span<T> &span) const {
        return span.has(c) && more[j] ? load_again(vector_at(more[j], span, c, i)) : make_float4(0, 0, 0, 0);
    }
    /* Chunk c of vector j; of the folded adds for j = NV. */
    __device__ __forceinline__ void get(float (&to)[N], int j, int c, const column_span<T> &span) const {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            if (j < HELD || (ADDS && j == NV))
                put_four(to, i, *(const float4 *)&v[j < HELD ? j : HELD + ADDS - 1][c][i]);
            else
                put_four(to, i,
                         SLOTTED ? *(const float4 *)place(j - HELD, c, i) : fetch(j - HELD, c, i, span));
        }
    }
};

/* Waits for the team, of which a block has at most TEAMS. */
template <int TEAMS> __device__ __forceinline__ void team_barrier(const lane_info &me) {
    if constexpr (TEAMS == 1)
        __syncthreads();
    else
        barrier_of_two(me.team, me.threads);
}

/* ---- Steering ------------------------------------------------------------------------------------------------ */

/* Rows that are worked on side by side: what registers suffice for. */
template <int R> constexpr int abreast = R < 2 ? R : 2;

/* Leaves the warp's parts of the dots of R rows in `partial`: one, or where a thread stands for several of the team as many. */
template <typename T, int R, typename Rows, typename Vectors>
__device__ __forceinline__ void register_dots(const Rows &rows, const Vectors &vectors,
                                              const column_span<T> &span, float *partial,
                                              const lane_info &me) {
    constexpr int SLOTS = Vectors::SLOTS, ROOM = Vectors::ROOM, SIDE = abreast<R>, N = Vectors::N;
    constexpr int CHUNKS = sizeof(T) > 2 ? Vectors::CHUNKS : 16 / N; /* of a part */
    constexpr int PARTS = Vectors::CHUNKS / CHUNKS;
    static_assert(PARTS == 1 || SIDE == 1, "a turn is a row's part");
#pragma unroll(Rows::TURNS *PARTS)
    for (int turn = 0; turn < R * PARTS; turn += SIDE) {
        const int first = turn / PARTS, part = turn % PARTS;
        float sums[SIDE * ROOM] = {};
#pragma unroll
        for (int c = part * CHUNKS; c < (part + 1) * CHUNKS; c++) {
            float h[SIDE][N], v[N];
#pragma unroll
            for (int i = 0; i < SIDE; i++) rows.elements(h[i], first + i, c);
#pragma unroll
            for (int j = 0; j < SLOTS; j++) {
                vectors.get(v, j, c, span);
#pragma unroll
                for (int i = 0; i < SIDE; i++) sums[i * ROOM + j] = dot_on<N>(sums[i * ROOM + j], h[i], v);
            }
        }
        block_put<SIDE * ROOM>(partial + first * ROOM * block_stride(me) + part * me.warps, sums, me);
    }
}

/* What vectors are scaled by, from the sums in `partial`, where programs may have several. Every warp runs the operations
 * for itself, so that no barrier is needed after it: lane i ROOM + j has vector j in row i, and `lost` its bit where f32 cannot
 * hold that. */
template <int R, int ROOM>
__device__ __forceinline__ float register_solve(unsigned *lost, const float *partial,
                                                const steer_entry &entry, const char *stage,
                                                const lane_info &me) {
    const int j = me.lane % ROOM;
    const bool mine = me.lane < R * ROOM && j < entry.vectors;
    float p[1][1] = {{mine ? block_get(partial, me.lane, me) : 0}}, C[1][1] = {}, no_norm[1] = {};
    if (entry.image)
        solve_lanes<1, 1, false>(C, p, no_norm, parts_of(entry_head(entry), stage), me.lane - j, j);
    else if (mine)
        C[0][0] = entry_coefficient(p[0][0], entry);
    *lost = __ballot_sync(0xffffffffu, is_lost(p[0][0], C[0][0]));
    return C[0][0];
}

/* h += what a program adds to chunk c of rows side by side. */
template <typename T, int SIDE, typename Vectors>
__device__ __forceinline__ void register_update(float (&h)[SIDE][Vectors::N], int c, const steer_entry &entry,
                                                const Vectors &vectors, const column_span<T> &span,
                                                const float (&C)[SIDE][Vectors::SLOTS]) {
    constexpr int N = Vectors::N, NV = Vectors::NV;
    float v[N];
    if (NV > 0 && entry.u) {
        vectors.get(v, NV, c, span);
#pragma unroll
        for (int i = 0; i < SIDE; i++) axpy<N>(h[i], entry.u_coef, v);
    }
#pragma unroll
    for (int j = 0; j < Vectors::SLOTS; j++) {
        if (NV > 0 && j >= entry.updated) continue; /* a gate, or there is none */
        vectors.get(v, j, c, span);
#pragma unroll
        for (int i = 0; i < SIDE; i++) axpy<N>(h[i], NV == 0 && entry.u ? entry.u_coef : C[i][j], v);
    }
}

/* Steers `count` of R rows by one program and stores them from `to` on; one that does not change keeps its
 * bits and saves the traffic. Every thread of the team takes part. True if some took another way. */
template <typename T, int R, typename Rows, typename Vectors>
__device__ __forceinline__ bool steer_in_registers(const steer_rows_args &args, const Rows &rows, int count,
                                                   T *to, const steer_entry &entry, const Vectors &vectors,
                                                   const column_span<T> &span, float *partial,
                                                   const char *stage, const lane_info &me) {
    constexpr int NV = Vectors::NV, SLOTS = Vectors::SLOTS, ROOM = Vectors::ROOM, SIDE = abreast<R>,
                  N = Vectors::N;
    const int64_t stride = args.hidden_stride;
    float solved = 0;
    unsigned lost = 0;
    if (entry.vectors) {
        register_dots<T, R>(rows, vectors, span, partial, me);
        team_barrier<Vectors::TEAMS>(me);
        if constexpr (NV > 1) solved = register_solve<R, ROOM>(&lost, partial, entry, stage, me);
    }
    if (NV > 1 && lost) {
        if constexpr (Rows::AWAY) to = rows.place;
        if (me.warp == 0) steer_rows_again<T>(args, to, count, solved, lost, ROOM);
        return true;
    }
    const unsigned any = NV > 1 ? __ballot_sync(0xffffffffu, solved != 0) : 0;
#pragma unroll(Rows::TURNS)
    for (int first = 0; first < R; first += SIDE) {
        float C[SIDE][SLOTS] = {};
        bool changes[SIDE];
#pragma unroll
        for (int i = 0; i < SIDE; i++) {
            if constexpr (NV > 1) {
#pragma unroll
                for (int j = 0; j < SLOTS; j++)
                    C[i][j] = __shfl_sync(0xffffffffu, solved, (first + i) * ROOM + j);
                changes[i] = any >> (first + i) * ROOM & (1u << ROOM) - 1;
            } else {
                if (entry.vectors) C[i][0] = entry_coefficient(block_get(partial, first + i, me), entry);
                changes[i] = C[i][0] != 0;
            }
            changes[i] = (changes[i] || entry.u) && first + i < count;
        }
        if constexpr (NV < 2) { /* a coefficient is not finite where its dot is not */
            unsigned lost_here = 0;
#pragma unroll
            for (int i = 0; i < SIDE; i++) lost_here |= (unsigned)!is_finite(C[i][0]) << i;
            if (lost_here) {
                const float c = me.lane == 0 ? C[0][0] : C[SIDE - 1][0];
                if constexpr (Rows::AWAY) to = rows.place;
                if (me.warp == 0) steer_rows_again<T>(args, to, min(SIDE, count - first), c, lost_here, 1);
                if (R == SIDE) return true;
                to += SIDE * stride;
                continue;
            }
        }
#pragma unroll
        for (int c = 0; c < Vectors::CHUNKS; c++) {
            float h[SIDE][N];
#pragma unroll
            for (int i = 0; i < SIDE; i++) widen<T>(h[i], rows.chunk(first + i, c));
            register_update<T, SIDE>(h, c, entry, vectors, span, C);
#pragma unroll
            for (int i = 0; i < SIDE; i++) {
                const uint4 chunk = narrow<T>(h[i]);
                if (changes[i] && span.has(c)) *(uint4 *)(to + i * stride + span.offset(c)) = chunk;
            }
        }
        to += SIDE * stride;
    }
    return false;
}

} // namespace

#endif
