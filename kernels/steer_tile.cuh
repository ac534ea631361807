/* steer_tile.cuh: the fast kernels, for programs of few vectors, which they hold in registers.
 *
 * tile: a block holds a few neighbouring rows in registers and is done: least latency, for batches that fit the chip.
 * stream: a block walks along several rows, fetching the next ones while it works on one, and keeps the vectors while
 * the program stays the same: least traffic, for batches that do not fit. */
#ifndef STEER_KERNELS_STEER_TILE_CUH
#define STEER_KERNELS_STEER_TILE_CUH

#include "steer_solve.cuh"

namespace {

/* ---- What a thread holds ------------------------------------------------------------------------------------- */

/* E elements of a row as they are stored. */
template <typename T, int E> struct row_part {
    static constexpr int N = chunk_of<T>::N, CHUNKS = E / N;
    uint4 chunk[CHUNKS];

    __device__ __forceinline__ void load(const T *row, int hidden, const lane_info &me) {
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            int base = chunk_base<T>(me, c);
            chunk[c] = base < hidden ? load_now(row + base) : make_uint4(0, 0, 0, 0);
        }
    }
};

/* The same elements of a vector. */
template <typename T, int E> struct vector_part {
    static constexpr int N = chunk_of<T>::N, CHUNKS = E / N;
    float v[CHUNKS][N];

    __device__ __forceinline__ void load(uint64_t address, int hidden, const lane_info &me) {
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) load_vector<N, true>(v[c], address, chunk_base<T>(me, c), hidden);
    }
};

/* The vectors of a program that are wanted twice: up to NV projecting ones. The folded adds are fetched when they are
 * due. With NV 0 no program of the launch has both: its one vector serves either way. */
template <typename T, int E, int NV> struct program_vectors {
    static constexpr int N = chunk_of<T>::N, SLOTS = NV > 0 ? NV : 1;
    static constexpr int ROOM = SLOTS > 4 ? 8 : SLOTS > 2 ? 4 : SLOTS; /* of a row's sums: a power of two */
    vector_part<T, E> m[SLOTS];

    __device__ __forceinline__ void load(const steer_entry &entry, const steer_rows_args &args,
                                         const lane_info &me) {
        const int hidden = args.hidden_size;
        if (NV == 0) {
            if (entry.u || entry.vectors) m[0].load(entry.u ? entry.u : entry.m, hidden, me);
            return;
        }
        const uint64_t *addresses = (const uint64_t *)(entry.image + steer_image_vectors_at());
#pragma unroll
        for (int j = 0; j < SLOTS; j++)
            if (j < entry.vectors) m[j].load(entry.image ? __ldg(addresses + j) : entry.m, hidden, me);
    }

    /* h += u_coef u + sum of c_j m_j, j < updated, on chunk i. */
    __device__ __forceinline__ void add(float (&h)[N], int i, const steer_entry &entry, int updated,
                                        const float (&u)[N], const float (&c)[SLOTS]) const {
        if (NV == 0) {
            axpy<N>(h, entry.u ? entry.u_coef : c[0], m[0].v[i]);
            return;
        }
        if (entry.u) axpy<N>(h, entry.u_coef, u);
#pragma unroll
        for (int j = 0; j < SLOTS; j++)
            if (j < updated) axpy<N>(h, c[j], m[j].v[i]);
    }
};

/* A row and, in the serving form, its residual. */
template <typename T, int E, bool RESIDUAL> struct row_pair {
    static constexpr int N = chunk_of<T>::N, CHUNKS = E / N;
    row_part<T, E> x;
    row_part<T, RESIDUAL ? E : N> r;

    __device__ __forceinline__ void load(const steer_rows_args &args, int64_t row, const lane_info &me) {
        x.load((const T *)args.hidden + row * args.hidden_stride, args.hidden_size, me);
        if (RESIDUAL) r.load((const T *)args.residual + row * args.residual_stride, args.hidden_size, me);
    }

    __device__ __forceinline__ float dot(const vector_part<T, E> &m) const {
        float sum = 0;
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            float h[N];
            if (RESIDUAL)
                widen_sum<T>(h, x.chunk[c], r.chunk[RESIDUAL ? c : 0]);
            else
                widen<T>(h, x.chunk[c]);
            sum = dot_on<N>(sum, h, m.v[c]);
        }
        return sum;
    }

    /* Chunk i of the updated row. */
    template <int NV>
    __device__ __forceinline__ uint4 updated(int i, const steer_entry &entry, int count,
                                             const program_vectors<T, E, NV> &vectors, const float (&u)[N],
                                             const float (&c)[program_vectors<T, E, NV>::SLOTS]) const {
        float h[N];
        widen<T>(h, x.chunk[i]);
        vectors.add(h, i, entry, count, u, c);
        return narrow<T>(h);
    }
};

/* ---- R rows of one program ----------------------------------------------------------------------------------- */

/* Coefficients of R rows with up to NV vectors from the sums in `partial`: every warp runs the operations for itself, a
 * lane to a row and vector, so that no barrier is needed after it. */
template <int R, int NV, int ROOM>
__device__ __forceinline__ void solve_few(float (&c)[R][NV], const float *partial, const steer_entry &entry,
                                          const char *stage, const lane_info &me) {
    const int row = me.lane / ROOM, j = me.lane % ROOM;
    const bool mine = row < R && j < entry.vectors;
    float p[1][1] = {{mine ? block_get(partial, me.lane, me) : 0}}, C[1][1] = {}, no_norm[1] = {};
    if (entry.image)
        solve_any<1, 1>(C, p, no_norm, stage_parts(stage), me.lane - j, j);
    else if (mine)
        C[0][0] = entry_coefficient(p[0][0], entry);
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int k = 0; k < NV; k++) c[i][k] = __shfl_sync(0xffffffffu, C[0][0], i * ROOM + k);
}

/* Stores the updated rows; one that does not change keeps its bits and saves the traffic. */
template <typename T, int E, int R, int NV, bool RESIDUAL>
__device__ __forceinline__ void
store_together(const row_pair<T, E, RESIDUAL> *rows, int64_t first, const steer_entry &entry, int updated,
               const program_vectors<T, E, NV> &vectors, const steer_rows_args &args,
               const float (&c)[R][program_vectors<T, E, NV>::SLOTS], const lane_info &me) {
    constexpr int N = chunk_of<T>::N;
    bool changes[R];
#pragma unroll
    for (int i = 0; i < R; i++) {
        changes[i] = entry.u != 0;
#pragma unroll
        for (int j = 0; j < program_vectors<T, E, NV>::SLOTS; j++) changes[i] = changes[i] || c[i][j] != 0;
    }
#pragma unroll
    for (int k = 0; k < E / N; k++) {
        const int base = chunk_base<T>(me, k);
        float u[N] = {};
        if (NV > 0 && entry.u) load_vector<N, true>(u, entry.u, base, args.hidden_size);
#pragma unroll
        for (int i = 0; i < R; i++) {
            T *to = (T *)args.hidden + (first + i) * args.hidden_stride + base;
            const uint4 chunk = rows[i].template updated<NV>(k, entry, updated, vectors, u, c[i]);
            if (changes[i] && base < args.hidden_size) *(uint4 *)to = chunk;
        }
    }
}

template <typename T, int E, int R, int NV, bool RESIDUAL>
__device__ __forceinline__ void
steer_together(const row_pair<T, E, RESIDUAL> *rows, int64_t first, const steer_entry &entry,
               const program_vectors<T, E, NV> &vectors, const steer_rows_args &args, float *partial,
               const char *stage, const lane_info &me) {
    constexpr int SLOTS = program_vectors<T, E, NV>::SLOTS, ROOM = program_vectors<T, E, NV>::ROOM;
    float c[R][SLOTS] = {};
    int updated = entry.vectors;
    if (entry.vectors) {
        float sums[R * ROOM] = {};
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int j = 0; j < SLOTS; j++)
                sums[i * ROOM + j] = SLOTS == 1 || j < entry.vectors ? rows[i].dot(vectors.m[j]) : 0;
        block_put<R * ROOM>(partial, sums, me);
        __syncthreads();
        if constexpr (NV > 1) {
            solve_few<R, NV, ROOM>(c, partial, entry, stage, me);
            if (entry.image) updated = stage_parts(stage).updated; /* the others are gates */
        } else {
#pragma unroll
            for (int i = 0; i < R; i++) c[i][0] = entry_coefficient(block_get(partial, i, me), entry);
        }
    }
    store_together<T, E, R, NV, RESIDUAL>(rows, first, entry, updated, vectors, args, c, me);
}

/* Blocks of 512 threads (or four times as many of 128) that a multiprocessor must hold: what registers suffice for. */
template <typename T> constexpr int blocks_for(int elements, int rows, int vectors, bool residual) {
    return elements > 16 || rows > 2 || vectors > 1 || residual || sizeof(T) > 2 ? 1 : 2;
}

/* Threads of a block at most: eight vectors take the registers of two. */
constexpr int most_threads(int vectors) { return vectors > 4 ? STEER_EIGHT_THREADS : STEER_BLOCK_THREADS; }

/* ---- Kernels ------------------------------------------------------------------------------------------------- */

template <typename T, int E, int R, int NV, bool RESIDUAL>
__device__ __forceinline__ void tile_block(const steer_rows_args &args) {
    constexpr int ROOM = program_vectors<T, E, NV>::ROOM;
    extern __shared__ __align__(16) float partial[];
    const lane_info me = who();
    char *stage = (char *)(partial + R * ROOM * block_stride(me));
    const int64_t first = (int64_t)blockIdx.x * R;
    let_next_start();
    if (first >= args.rows) return;
    bool same = first + R <= args.rows;
    steer_row record = {};
    if (args.table) {
        record = load_row(args.table + first);
#pragma unroll
        for (int i = 1; i < R; i++)
            same = load_row_entries(args.table + (first + i < args.rows ? first + i : first)) ==
                       record.entries &&
                   same;
    }
    steer_entry entry = args.entry;
    if (args.table) entry = load_entry(record, args.layer);
    program_vectors<T, E, NV> vectors;
    vectors.load(entry, args, me);
    if (NV > 1 && entry.image) stage_image(stage, entry.image, me);
    wait_for_previous();
    row_pair<T, E, RESIDUAL> rows[R];
    if (same) {
        if (!entry.u && !entry.vectors) return;
#pragma unroll
        for (int i = 0; i < R; i++) rows[i].load(args, first + i, me);
        steer_together<T, E, R, NV, RESIDUAL>(rows, first, entry, vectors, args, partial, stage, me);
        return;
    }
    if constexpr (R > 1) { /* rows of several programs, or the last ones: one by one */
        for (int64_t row = first; row < first + R && row < args.rows; row++) {
            if (row > first) {
                __syncthreads(); /* the row before is done with shared memory */
                entry = args.table ? load_entry(load_row(args.table + row), args.layer) : args.entry;
                vectors.load(entry, args, me);
                if (NV > 1 && entry.image) stage_image(stage, entry.image, me);
            }
            if (!entry.u && !entry.vectors) continue;
            rows[0].load(args, row, me);
            steer_together<T, E, 1, NV, RESIDUAL>(rows, row, entry, vectors, args, partial, stage, me);
        }
    }
}

/* Rows on their way to shared memory, where a thread keeps only what it fetched itself: no barrier is needed. */
template <typename T, bool RESIDUAL> struct row_ring {
    static constexpr int N = chunk_of<T>::N, CHUNKS = 16 / N, PARTS = RESIDUAL ? 2 : 1;
    uint4 *slots; /* [rows][PARTS][CHUNKS][threads] */

    __device__ __forceinline__ uint4 *at(int slot, int part, int c, const lane_info &me) const {
        return slots + ((slot * PARTS + part) * CHUNKS + c) * me.threads + me.thread;
    }
    __device__ __forceinline__ void fetch(int slot, const steer_rows_args &args, int64_t row,
                                          const lane_info &me) const {
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            const int base = chunk_base<T>(me, c);
            if (base >= args.hidden_size) continue;
            copy_async(at(slot, 0, c, me), (const T *)args.hidden + row * args.hidden_stride + base);
            if (RESIDUAL)
                copy_async(at(slot, PARTS - 1, c, me),
                           (const T *)args.residual + row * args.residual_stride + base);
        }
    }
    __device__ __forceinline__ void read(row_pair<T, 16, RESIDUAL> &row, int slot, int hidden,
                                         const lane_info &me) const {
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            const bool inside = chunk_base<T>(me, c) < hidden;
            row.x.chunk[c] = inside ? *at(slot, 0, c, me) : make_uint4(0, 0, 0, 0);
            if (RESIDUAL)
                row.r.chunk[RESIDUAL ? c : 0] = inside ? *at(slot, PARTS - 1, c, me) : make_uint4(0, 0, 0, 0);
        }
    }
};

/* The program in force, and what a block keeps of it from row to row. */
template <typename T, int NV> struct program_cache {
    steer_entry entry;
    uint64_t entries; /* of the row whose program it is */
    program_vectors<T, 16, NV> vectors;

    __device__ __forceinline__ void load(const steer_rows_args &args, char *stage, const lane_info &me) {
        vectors.load(entry, args, me);
        if (NV > 1) {
            __syncthreads(); /* the rows before are done with the stage */
            if (entry.image) stage_image(stage, entry.image, me);
        }
    }
    /* Turns to the program of a row with the given entries. */
    __device__ __forceinline__ void turn_to(uint64_t wanted, int64_t row, const steer_rows_args &args,
                                            char *stage, const lane_info &me) {
        if (!args.table || wanted == entries) return;
        entries = wanted;
        entry = load_entry(load_row(args.table + row), args.layer);
        load(args, stage, me);
    }
};

template <typename T, int R, int NV, bool RESIDUAL>
__device__ __forceinline__ void stream_block(const steer_rows_args &args) {
    constexpr int ROOM = program_vectors<T, 16, NV>::ROOM, AHEAD = STEER_STREAM_STEPS - 1;
    extern __shared__ __align__(16) float shared_words[];
    const lane_info me = who();
    const row_ring<T, RESIDUAL> ring = {(uint4 *)shared_words};
    float *partial = (float *)(ring.slots + STEER_STREAM_STEPS * R * ring.PARTS * ring.CHUNKS * me.threads);
    const int partial_size = R * ROOM * block_stride(me);
    char *stage = (char *)(partial + 2 * partial_size);
    const int64_t first = (int64_t)blockIdx.x * args.turns;
    const int64_t end = min(first + args.turns, args.rows);
    let_next_start();
    if (first >= end) return;
    wait_for_previous();
#pragma unroll
    for (int i = 0; i < AHEAD * R; i++) {
        if (first + i < end) ring.fetch(i, args, first + i, me);
        if (i % R == R - 1) copies_commit();
    }
    program_cache<T, NV> program;
    program.entry = args.entry;
    program.entries = ~0ull; /* of no row */
    uint64_t next[R] = {};
    if (args.table) {
#pragma unroll
        for (int i = 0; i < R; i++)
            next[i] = load_row_entries(args.table + (first + i < end ? first + i : first));
    } else {
        program.load(args, stage, me);
    }
    int buffer = 0; /* two in turn: one barrier a step is enough */
    for (int64_t row = first; row < end; row += R) {
        const int slot = (int)((row - first) / R % STEER_STREAM_STEPS),
                  ahead = (slot + AHEAD) % STEER_STREAM_STEPS;
        uint64_t wanted[R];
        row_pair<T, 16, RESIDUAL> now[R];
        bool same = row + R <= end;
        copies_wait<AHEAD - 1>();
#pragma unroll
        for (int i = 0; i < R; i++) {
            wanted[i] = next[i];
            same = same && wanted[i] == wanted[0];
            ring.read(now[i], slot * R + i, args.hidden_size, me);
            const int64_t later = row + AHEAD * R + i;
            if (later < end) ring.fetch(ahead * R + i, args, later, me);
            if (args.table && row + R + i < end) next[i] = load_row_entries(args.table + row + R + i);
        }
        copies_commit();
        if (same) {
            program.turn_to(wanted[0], row, args, stage, me);
            if (program.entry.u || program.entry.vectors)
                steer_together<T, 16, R, NV, RESIDUAL>(now, row, program.entry, program.vectors, args,
                                                       partial + buffer * partial_size, stage, me);
            buffer ^= 1;
            continue;
        }
#pragma unroll
        for (int i = 0; i < R; i++) { /* rows of two programs, or a last one alone */
            if (row + i >= end) break;
            program.turn_to(wanted[i], row + i, args, stage, me);
            if (program.entry.u || program.entry.vectors)
                steer_together<T, 16, 1, NV, RESIDUAL>(now + i, row + i, program.entry, program.vectors, args,
                                                       partial + buffer * partial_size, stage, me);
            buffer ^= 1;
        }
    }
}

template <typename T, int E, int R, int NV, bool RESIDUAL>
__global__ void __launch_bounds__(most_threads(NV), blocks_for<T>(E, R, NV, RESIDUAL))
    steer_tile_kernel(const __grid_constant__ steer_rows_args args) {
    tile_block<T, E, R, NV, RESIDUAL>(args);
}

template <typename T, int R, int NV, bool RESIDUAL>
__global__ void __launch_bounds__(STEER_BLOCK_THREADS, blocks_for<T>(16, R, NV, RESIDUAL))
    steer_stream_kernel(const __grid_constant__ steer_rows_args args) {
    stream_block<T, R, NV, RESIDUAL>(args);
}

/* ---- Selection ----------------------------------------------------------------------------------------------- */

template <typename T, int E, int R, int NV> steer_rows_kernel tile_of(bool residual) {
    return residual ? steer_tile_kernel<T, E, R, NV, true> : steer_tile_kernel<T, E, R, NV, false>;
}

template <typename T, int R, int NV> steer_rows_kernel stream_of(bool residual) {
    return residual ? steer_stream_kernel<T, R, NV, true> : steer_stream_kernel<T, R, NV, false>;
}

/* Four rows and more than two vectors: what has registers for them. */
template <typename T, int NV> steer_rows_kernel tile_of_four() {
    if constexpr (sizeof(T) == 2)
        return steer_tile_kernel<T, 16, 4, NV, false>;
    else
        return nullptr;
}

} // namespace

template <typename T> steer_rows_kernel steer_rows_tile(steer_rows_variant variant) {
    const bool r = variant.residual;
    const int rows = variant.tile, nv = variant.vectors;
    if (variant.family == STEER_ROWS_STREAM) {
        if (nv <= 1) return nv == 0 ? stream_of<T, 1, 0>(r) : stream_of<T, 1, 1>(r);
        return nv == 2 ? stream_of<T, 2, 2>(r) : nv == 3 ? stream_of<T, 2, 3>(r) : stream_of<T, 2, 4>(r);
    }
    if (variant.elements == 32) return nv == 0 ? tile_of<T, 32, 1, 0>(r) : tile_of<T, 32, 1, 1>(r);
    if (nv == 0) return rows == 1 ? tile_of<T, 16, 1, 0>(r) : tile_of<T, 16, 2, 0>(r);
    if (nv == 1) return rows == 1 ? tile_of<T, 16, 1, 1>(r) : tile_of<T, 16, 2, 1>(r);
    if (nv == 2) return rows == 1 ? tile_of<T, 16, 1, 2>(r) : tile_of<T, 16, 4, 2>(r);
    if (nv == 3) return rows == 1 ? tile_of<T, 16, 1, 3>(r) : tile_of_four<T, 3>();
    if (nv == 4 && rows == 1) return tile_of<T, 16, 1, 4>(r);
    if (nv == 4) return rows == 2 ? tile_of<T, 16, 2, 4>(r) : tile_of_four<T, 4>();
    if constexpr (sizeof(T) == 4) return tile_of<T, 16, 1, 8>(r); /* the others have tensor cores for them */
    return nullptr;
}

#endif
