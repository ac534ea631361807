/* steer_block_small.cuh: the kernel for programs of blocks of few reads and writes, whose rows threads hold in registers.
 *
 * Of one row, x in f32 from the first block to the last:
 *     for each block of the program:
 *         P_j = x.m_j, q = |x|           one walk over x, and one barrier for all sums of the block; none where
 *                                        norms are kept and kept_square knows them
 *         a, C_w                         every warp for itself, a lane each
 *         x = a x + sum of C_w m_w       in registers
 *     h = x, rounded once
 *
 * A block of threads is a team with R neighbouring rows, of which a thread holds 16 columns each. Once sums are there, lane
 * 8 i + j of every warp has what is numbered j of row i: a dot, then a coefficient. What no kernel writes (the program's image,
 * the first two vectors) is on its way before the kernel ahead has ended. Rows that begin another program are served in turn. */
#ifndef STEER_KERNELS_STEER_BLOCK_SMALL_CUH
#define STEER_KERNELS_STEER_BLOCK_SMALL_CUH

#include "steer_block.cuh"

#ifdef STEER_KERNEL_IMPLEMENTATION

namespace {

constexpr unsigned WARP = 0xffffffffu;

/* ---- What a thread holds --------------------------------------------------------------------------------------- */

/* The first column of the thread's chunk c. */
template <typename T> struct small_columns {
    int first, hidden;

    __device__ __forceinline__ int base(int c) const { return first + c * 32 * chunk_of<T>::N; }
    __device__ __forceinline__ bool has(int c) const { return base(c) < hidden; }
};

/* 16 columns of R rows; of their residuals as they are stored. */
template <typename T, int R, bool RESIDUAL> struct small_rows {
    static constexpr int N = chunk_of<T>::N, CHUNKS = 16 / N;
    float x[R][CHUNKS][N];
    uint4 r[RESIDUAL ? R : 1][CHUNKS];

    /* From row `first` on, of which `count` are there. */
    __device__ __forceinline__ void load(const steer_block_args &args, int64_t first, int count,
                                         const small_columns<T> &columns) {
        uint4 chunks[R][CHUNKS];
        load_from(chunks, args.hidden, args.hidden_stride, first, count, columns);
        if constexpr (RESIDUAL) load_from(r, args.residual, args.residual_stride, first, count, columns);
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) widen<T>(x[i][c], chunks[i][c]);
    }
    static __device__ __forceinline__ void load_from(uint4 (&to)[R][CHUNKS], const void *rows, int64_t stride,
                                                     int64_t first, int count,
                                                     const small_columns<T> &columns) {
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int c = 0; c < CHUNKS; c++)
                to[i][c] = i < count && columns.has(c)
                               ? load_now((const T *)rows + (first + i) * stride + columns.base(c))
                               : make_uint4(0, 0, 0, 0);
    }
    __device__ __forceinline__ void residual(float (&to)[N], int i, int c) const {
        if constexpr (RESIDUAL) {
            widen<T>(to, r[i][c]);
        } else {
#pragma unroll
            for (int e = 0; e < N; e++) to[e] = 0;
        }
    }
    /* What programs see of chunk c of row i. */
    __device__ __forceinline__ void seen(float (&h)[N], int i, int c) const {
        float more[N];
        residual(more, i, c);
#pragma unroll
        for (int e = 0; e < N; e++) h[e] = RESIDUAL ? __fadd_rn(x[i][c][e], more[e]) : x[i][c][e];
    }
    __device__ __forceinline__ void scale(int i, float a) {
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            float more[N];
            residual(more, i, c);
            scale_by<RESIDUAL>(x[i][c], a, more);
        }
    }
    __device__ __forceinline__ void store(const steer_block_args &args, int64_t row, int i,
                                          const small_columns<T> &columns) const {
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
            if (columns.has(c))
                *(uint4 *)((T *)args.hidden + row * args.hidden_stride + columns.base(c)) =
                    narrow<T>(x[i][c]);
    }
};

/* 16 columns of the vectors that are worked with, two or four. */
template <typename T, int V> struct small_vectors {
    static constexpr int N = chunk_of<T>::N, CHUNKS = 16 / N;
    float v[V][CHUNKS][N];
    uint64_t held[V];

    __device__ __forceinline__ void load(int d, uint64_t address, const small_columns<T> &columns) {
        held[d] = address;
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
#pragma unroll
            for (int e = 0; e < N; e += 4)
                put_four(v[d][c], e,
                         columns.has(c)
                             ? __ldg((const float4 *)((const float *)address + columns.base(c) + e))
                             : make_float4(0, 0, 0, 0));
    }
    /* Makes the first `count` of them these; what is held already is not loaded again. */
    __device__ __forceinline__ void take(const uint64_t *addresses, int count,
                                         const small_columns<T> &columns) {
        if (addresses[0] != held[0] && addresses[0] == held[1]) {
            held[0] = addresses[0];
#pragma unroll
            for (int c = 0; c < CHUNKS; c++)
#pragma unroll
                for (int e = 0; e < N; e++) v[0][c][e] = v[1][c][e];
        }
#pragma unroll
        for (int d = 0; d < V; d++)
            if (d < count && addresses[d] != held[d]) load(d, addresses[d], columns);
    }
};

/* ---- Sums over rows ---------------------------------------------------------------------------------------------- */

/* Leaves the warp's parts of D sums of each row in `partial` [R][SLOTS][block_stride], which are a row's from `slot` on. */
template <int R, int D, int SLOTS>
__device__ __forceinline__ void put_sums(float *partial, float (&sums)[R * D], int slot,
                                         const lane_info &me) {
    const float sum = warp_sum<R * D>(sums, me.lane);
    const int m = me.lane / (32 / (R * D));
    if (me.lane % (32 / (R * D)) == 0)
        partial[(m / D * SLOTS + slot + m % D) * block_stride(me) + me.warp] = sum;
}

/* |h| of the lane's row in f64, where f32 has no room for the square; square(i): the thread's part of that of row i. */
template <int R, typename F>
__device__ __forceinline__ float norms_exactly(double *partial, int row, const lane_info &me,
                                               const F &square) {
    double all = 0;
#pragma unroll
    for (int i = 0; i < R; i++) {
        const double sum = warp_sum(square(i));
        if (me.lane == 0) partial[i * me.warps + me.warp] = sum;
    }
    __syncthreads();
#pragma unroll 1
    for (int w = 0; w < me.warps; w++) all = __dadd_rn(all, partial[row * me.warps + w]);
    return (float)__dsqrt_rn(all);
}

/* Sums of the team: [R][STEER_BLOCK_SLOTS][block_stride], two buffers in turn, so that each takes one barrier. */
template <int R> struct small_sums {
    float *buffers;
    int turn;

    __device__ __forceinline__ float *now(const lane_info &me) const {
        return buffers + turn * R * STEER_BLOCK_SLOTS * block_stride(me);
    }
    /* Leaves the warp's parts of D sums of each row, which are a row's from `slot` on. */
    template <int D>
    __device__ __forceinline__ void put(float (&sums)[R * D], int slot, const lane_info &me) const {
        put_sums<R, D, STEER_BLOCK_SLOTS>(now(me), sums, slot, me);
    }
    __device__ __forceinline__ float get(int i, int slot, const lane_info &me) const {
        return block_get(now(me), i * STEER_BLOCK_SLOTS + slot, me);
    }
};

/* A row's dots, dot j in lane at + j. All lanes ask together. */
struct lane_dots {
    float mine;
    int at;
    __device__ __forceinline__ bool all(bool x) const { return __all_sync(WARP, x); }
    __device__ __forceinline__ float operator()(int j) const { return __shfl_sync(WARP, mine, at + j); }
};

/* What the threads of a team know of R rows of one program. */
template <typename T, int R, bool RESIDUAL> struct small_state {
    static constexpr int N = chunk_of<T>::N, CHUNKS = 16 / N, V = R > 1 || RESIDUAL ? 2 : 4;
    const steer_block_args &args;
    const lane_info me;
    const small_columns<T> columns;
    const char *image; /* in shared memory */
    float *squares;    /* there too, the warp's [2][R]: of norms found last, or units; kept_square */
    small_sums<R> sums;
    small_rows<T, R, RESIDUAL> rows;
    small_vectors<T, V> vectors;
    int64_t first; /* row of the hidden states */
    int count;     /* rows, of R */

    /* The lane's row, and its number there; the lanes beyond 8 R do as others do. */
    __device__ __forceinline__ int row() const { return me.lane / STEER_BLOCK_SMALL % R; }
    __device__ __forceinline__ int number() const { return me.lane % STEER_BLOCK_SMALL; }
    __device__ __forceinline__ float *square() const { return squares + row(); }
    __device__ __forceinline__ float *kept() const { return squares + R + row(); }
    __device__ __forceinline__ bool is_there() const {
        return me.lane / STEER_BLOCK_SMALL < R && row() < count;
    }

    /* Sums of the rows with D of the vectors. */
    template <int D> __device__ __forceinline__ void put_dots(int slot) {
        float dots[R * D] = {};
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
#pragma unroll
            for (int i = 0; i < R; i++) {
                float h[N];
                rows.seen(h, i, c);
#pragma unroll
                for (int d = 0; d < D; d++) dots[i * D + d] = dot_on<N>(dots[i * D + d], h, vectors.v[d][c]);
            }
        sums.template put<D>(dots, slot, me);
    }

    /* Of their squares. */
    __device__ __forceinline__ void put_squares(int slot) {
        float squares[R] = {};
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                float h[N];
                rows.seen(h, i, c);
                squares[i] = dot_on<N>(squares[i], h, h);
            }
        sums.template put<1>(squares, slot, me);
    }

    /* |h - p m| of the lane's row, m the first vector, p in the row's first lane; *square() is its unit. */
    __device__ __forceinline__ float norm_beside(float p) {
        *square() = 1;
        __syncwarp();
#pragma unroll 1
        for (bool again = false;; again = true) {
            float rest[R] = {};
#pragma unroll
            for (int i = 0; i < R; i++) {
                const float away = -__shfl_sync(WARP, p, i * STEER_BLOCK_SMALL), unit = squares[i];
#pragma unroll
                for (int c = 0; c < CHUNKS; c++) {
                    float h[N];
                    rows.seen(h, i, c);
                    axpy<N>(h, away, vectors.v[0][c]);
                    if (again) times<N>(h, unit);
                    rest[i] = dot_on<N>(rest[i], h, h);
                }
            }
            sums.turn ^= 1;
            sums.template put<1>(rest, 0, me);
            __syncthreads();
            const float sum = sums.get(row(), 0, me), next = unit_of(sum);
            if (again || __all_sync(WARP, next == 1 || row() >= count)) /* in every warp of the team */
                return norm_in(sum, *square());
            *square() = next;
            __syncwarp();
        }
    }

    /* |h| of the lane's row in f64, where f32 has no room for the square. */
    __device__ __forceinline__ float norm_exactly() {
        sums.turn ^= 1;
        return norms_exactly<R>((double *)sums.now(me), row(), me, [&](int i) {
            double sum = 0;
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                float h[N];
                rows.seen(h, i, c);
#pragma unroll
                for (int e = 0; e < N; e++) sum = __fma_rn(h[e], h[e], sum);
            }
            return sum;
        });
    }
};

/* ---- A block ----------------------------------------------------------------------------------------------------- */

/* What a row is scaled by, and of a lane its write. */
struct small_change {
    float a, C;
};

/* Sums of a block's dots and, if asked for, norms: the lane's dot and its row's norm. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ float small_dots(small_state<T, R, RESIDUAL> &s, const steer_block_image &block,
                                            bool wants_norm, float *norm) {
    constexpr int V = small_state<T, R, RESIDUAL>::V;
    const uint64_t *addresses = (const uint64_t *)(s.image + block.addresses_at);
    const int dots = steer_block_dots(&block);
    s.sums.turn ^= 1;
#pragma unroll 1
    for (int j = 0; j < dots; j += V) {
        s.vectors.take(addresses + j, dots - j, s.columns);
        if (V > 2 && j + 2 < dots)
            s.template put_dots<V>(j); /* the last may be too many, and has room */
        else if (j + 1 < dots)
            s.template put_dots<2>(j);
        else
            s.template put_dots<1>(j);
    }
    if (wants_norm) s.put_squares(STEER_BLOCK_SMALL);
    __syncthreads();
    const float p = s.number() < dots ? s.sums.get(s.row(), s.number(), s.me) : 0;
    if (wants_norm) {
        const float square = s.sums.get(s.row(), STEER_BLOCK_SMALL, s.me);
        const bool held = square_in_range(square);
        *norm = __fsqrt_rn(square);
        *s.square() = square;
        if (!__all_sync(WARP, held || s.row() >= s.count)) { /* in every warp of the team */
            const float exactly = s.norm_exactly();
            if (!held) *norm = exactly;
        }
    }
    return p;
}

/* What a block comes to, from the lane's dot. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ small_change small_solve(small_state<T, R, RESIDUAL> &s,
                                                    const steer_block_image &block, float p, float norm,
                                                    float first_norm) {
    const lane_dots dots = {p, s.row() * STEER_BLOCK_SMALL};
    uint64_t *notes = s.args.notes + s.first + min(s.row(), s.count - 1);
    const bool open = holds(s.image, block, dots, norm, notes);
    small_change change = {1, 0};
    if (block.kind == STEER_BLOCK_TOWARD) {
        const steer_block_pair pair = read_pair(s.image, block, 0);
        const float along = projection(pair, dots(0));
        s.vectors.take((const uint64_t *)(s.image + block.addresses_at), 1, s.columns);
        turn_toward(&change.a, &change.C, block, pair, along, s.norm_beside(__fmul_rn(pair.out, along)));
    } else {
        change.a = scale_of(block, first_norm, norm);
        if (block.writes) change.C = coefficient_of(s.image, block, min(s.number(), block.writes - 1), dots);
    }
    if (block.kind == STEER_BLOCK_NOTE) {
        __syncthreads(); /* others may still ask for what was there */
        if (s.me.warp == 0 && s.number() == 0 && s.is_there())
            *notes = (*notes & ~((uint64_t)1 << block.note)) | (uint64_t)open << block.note;
        __syncthreads();
    }
    return {open ? change.a : 1, open && s.number() < block.writes ? change.C : 0};
}

/* Updates the rows that change; which of them do: eight bits a row, some of them set. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ unsigned small_update(small_state<T, R, RESIDUAL> &s,
                                                 const steer_block_image &block, const small_change &change) {
    constexpr int N = chunk_of<T>::N, CHUNKS = 16 / N, V = small_state<T, R, RESIDUAL>::V;
    const uint64_t *writes = (const uint64_t *)(s.image + block.addresses_at) + steer_block_dots(&block);
    const unsigned changed = __ballot_sync(WARP, s.is_there() && (change.a != 1 || change.C != 0));
    if (!changed) return 0;
#pragma unroll
    for (int i = 0; i < R; i++) {
        const float a = __shfl_sync(WARP, change.a, i * STEER_BLOCK_SMALL);
        if (a != 1) s.rows.scale(i, a);
    }
#pragma unroll 1
    for (int w = 0; w < block.writes; w += V) {
        s.vectors.take(writes + w, block.writes - w, s.columns);
#pragma unroll
        for (int i = 0; i < R; i++) {
            float C[V];
#pragma unroll
            for (int d = 0; d < V; d++)
                C[d] = __shfl_sync(WARP, change.C, i * STEER_BLOCK_SMALL + min(w + d, STEER_BLOCK_SMALL - 1));
            if (!(changed >> i * STEER_BLOCK_SMALL & 0xff)) continue; /* it keeps its bits */
#pragma unroll
            for (int d = 0; d < V; d++)
                if (w + d < block.writes)
#pragma unroll
                    for (int c = 0; c < CHUNKS; c++) axpy<N>(s.rows.x[i][c], C[d], s.vectors.v[d][c]);
        }
    }
    return changed;
}

/* ---- Programs ---------------------------------------------------------------------------------------------------- */

/* kept_square of the lane's row, once the first block is solved. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ float small_kept(const small_state<T, R, RESIDUAL> &s,
                                            const steer_blocks_image &program, const small_change &change,
                                            float p) {
    const float *gram = program.gram;
    if (!knows_kept<T>(gram[0])) return 0;
    const lane_dots dots = {p, s.row() * STEER_BLOCK_SMALL}, C = {change.C, s.row() * STEER_BLOCK_SMALL};
    return kept_square(change.a, *s.square(), {dots(0), dots(1)}, {C(0), C(1)}, {gram[0], gram[1], gram[2]});
}

template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void small_program(small_state<T, R, RESIDUAL> &s) {
    const steer_blocks_image &program = *(const steer_blocks_image *)s.image;
    float first_norm = 0;
    unsigned touched = 0;
#pragma unroll 1
    for (int k = 0; k < program.blocks; k++) {
        const steer_block_image &block = ((const steer_block_image *)(&program + 1))[k];
        const bool keeps = k == 0 && program.keeps;
        float norm = 0, p = 0;
        if (k == 0 || !__all_sync(WARP, *s.kept() > 0 || s.row() >= s.count))
            p = small_dots(s, block, block.norm || keeps, &norm);
        if (k > 0 && *s.kept() > 0) norm = __fsqrt_rn(*s.kept());
        if (keeps) first_norm = norm;
        const small_change change = small_solve(s, block, p, norm, first_norm);
        if (k == 0) *s.kept() = small_kept(s, program, change, p);
        touched |= small_update(s, block, change);
    }
#pragma unroll
    for (int i = 0; i < R; i++)
        if (touched >> i * STEER_BLOCK_SMALL & 0xff) s.rows.store(s.args, s.first + i, i, s.columns);
}

/* The run that begins at the team's row `at`: its first row, its rows of the tile, its program. */
struct small_place {
    int64_t first;
    int count;
    steer_entry entry;
};
template <int R> __device__ __forceinline__ small_place small_place_of(const steer_block_args &args, int at) {
    small_place here = {(int64_t)blockIdx.x * R + at};
    here.count = (int)min((int64_t)(R - at), args.rows - here.first);
    here.entry = args.entry;
    if (args.table) {
        const steer_row record = load_row(args.table + here.first);
        here.entry = load_entry(record, args.layer);
        if (R > 1) here.count = (int)min((uint32_t)here.count, record.run);
    }
    return here;
}

/* Steers the run that begins at the team's row `at`; how many of the tile's rows it has. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ int small_run(const steer_block_args &args, int at) {
    extern __shared__ __align__(16) char shared_memory[];
    const lane_info me = who();
    char *stage = shared_memory;
    const small_place here = small_place_of<R>(args, at);
    const int64_t first = here.first;
    const int count = here.count;
    const steer_entry &entry = here.entry;
    const char *image = (const char *)steer_entry_blocks(&entry);
    small_state<T, R, RESIDUAL> s = {args,
                                     me,
                                     {chunk_base<T>(me, 0), args.hidden_size},
                                     stage,
                                     (float *)(stage + STEER_BLOCK_STAGE) + me.warp * 2 * R,
                                     {(float *)(stage + STEER_BLOCK_STAGE + STEER_BLOCK_SQUARES), 0}};
    s.first = first;
    s.count = count;
    if (image) {
        for (int i = me.thread * 16; i < entry.image_bytes; i += me.threads * 16)
            copy_async((uint4 *)(stage + i), image + i);
        copies_commit();
        if (entry.m[1]) s.vectors.load(0, entry.m[1], s.columns);
        if (entry.m[2] && entry.m[2] != entry.m[1]) s.vectors.load(1, entry.m[2], s.columns);
    }
    wait_for_previous();
    if (!image) return count;
    s.rows.load(args, first, count, s.columns);
    copies_wait<0>();
    __syncthreads();
    small_program(s);
    return count;
}

template <typename T, int R, bool RESIDUAL>
__global__ void __launch_bounds__(STEER_BLOCK_TEAM, 1)
    steer_block_small_kernel(const __grid_constant__ steer_block_args args) {
    const int count = (int)min((int64_t)R, args.rows - (int64_t)blockIdx.x * R);
    let_next_start();
    for (int at = small_run<T, R, RESIDUAL>(args, 0); R > 1 && at < count;) {
        __syncthreads(); /* the rows before are done with shared memory */
        at += small_run<T, R, RESIDUAL>(args, at);
    }
}

} // namespace

#endif
#endif
