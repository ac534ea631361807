/* steer_block_short.cuh: the kernel for short programs of blocks (steer_block_short, backend/block.h), whose entries say all.
 *
 *     P_j = h.m_j, q = |h|             one walk over the row, one barrier
 *     C_w                              every warp for itself, a lane each
 *     h = a h + sum of C_w m_w         in registers, anew wherever it is asked for
 *     h = q / |h| h                    where norms are kept; one more barrier of rows that kept_square does not know
 *
 * A block of threads is a team with R neighbouring rows, of which a thread holds 16 columns each as they are stored. Once sums are
 * there, lane 4 i + j of every warp has what is numbered j of row i: a dot, then a coefficient; number 2 is the square of the
 * norm. Before the kernel ahead has ended, vectors are in registers and the program is in shared memory. Sums have the order of
 * steer_block_small.cuh. */
#ifndef STEER_KERNELS_STEER_BLOCK_SHORT_CUH
#define STEER_KERNELS_STEER_BLOCK_SHORT_CUH

#include "steer_block_small.cuh"

#ifdef STEER_KERNEL_IMPLEMENTATION

namespace {

constexpr int SHORT_LANES = STEER_SHORT_LANES, SHORT_SQUARE = 2;
constexpr int SHORT_WRITES = STEER_SHORT_PIECES, SHORT_GRAM = SHORT_WRITES + 2; /* places in `stage` */

/* What the threads of a team know of R rows of one program of at most V vectors. */
template <typename T, int R, int V, bool RESIDUAL> struct short_state {
    static constexpr int N = chunk_of<T>::N, CHUNKS = 16 / N;
    const lane_info me;
    const small_columns<T> columns;
    const steer_block_short program;
    float4 *stage;   /* pieces; behind room for most what writes are made of, and steer_blocks_image.gram */
    float *dots;     /* [R][SHORT_LANES][block_stride] */
    float *squares;  /* [R][block_stride], after the update */
    double *exactly; /* [R][warps] */
    small_vectors<T, V> vectors;
    uint4 x[R][CHUNKS], r[RESIDUAL ? R : 1][CHUNKS];
    float C;
    unsigned changed; /* 1 << SHORT_LANES i for row i */
    int count;        /* rows, of R */

    __device__ __forceinline__ int row() const { return me.lane / SHORT_LANES % R; }
    __device__ __forceinline__ int number() const { return me.lane % SHORT_LANES; }
    __device__ __forceinline__ bool has_two() const { return V > 1 && program.vectors > 1; }
    /* The first vector that is written. */
    __device__ __forceinline__ int first() const { return has_two() && program.reads < 2; }
    __device__ __forceinline__ bool is_changed(int i) const { return changed >> i * SHORT_LANES & 1; }
    __device__ __forceinline__ float of_row(float value, int i, int j) const {
        return __shfl_sync(WARP, value, i * SHORT_LANES + j);
    }

    /* All that no kernel writes. */
    __device__ __forceinline__ void load_program(const steer_entry &entry) {
        vectors.load(0, entry.m[1], columns);
        if (has_two()) vectors.load(V - 1, entry.m[2], columns);
        if (me.warp == 0 && me.lane < program.count)
            copy_async((uint4 *)stage + me.lane, (const char *)program.pieces + me.lane * sizeof(float4));
        if (me.thread == 0) {
#pragma unroll
            for (int w = 0; w < 2; w++)
                stage[SHORT_WRITES + w] =
                    make_float4(program.write[w].read[0], program.write[w].read[1], program.write[w].out, 0);
            if (program.keeps)
                copy_async((uint4 *)stage + SHORT_GRAM,
                           ((const steer_blocks_image *)steer_entry_blocks(&entry))->gram);
        }
        copies_commit();
    }

    /* Chunk c of row i as it is, and of a chunk what programs see. */
    __device__ __forceinline__ void get(float (&h)[N], int i, int c) {
        anew(x[i][c]);
        widen<T>(h, x[i][c]);
    }
    __device__ __forceinline__ void see(float (&h)[N], int i, int c) const {
        if constexpr (RESIDUAL) {
            float more[N];
            widen<T>(more, r[i][c]);
#pragma unroll
            for (int e = 0; e < N; e++) h[e] = __fadd_rn(h[e], more[e]);
        }
    }
    __device__ __forceinline__ void scale(float (&h)[N], float a, int i, int c) const {
        float more[N] = {};
        if constexpr (RESIDUAL) widen<T>(more, r[i][c]);
        scale_by<RESIDUAL>(h, a, more);
    }
    /* The same as the block leaves it, of whose row the coefficients are these. */
    __device__ __forceinline__ void update(float (&h)[N], int i, int c, const float (&Ci)[V]) {
        get(h, i, c);
        if (!is_changed(i)) return;
        if (program.a != 1) scale(h, program.a, i, c);
        if (first() == 0) axpy<N>(h, Ci[0], vectors.v[0][c]);
        if (has_two()) axpy<N>(h, Ci[V - 1], vectors.v[V - 1][c]);
    }
    __device__ __forceinline__ void coefficients(float (&Ci)[V], int i) const {
#pragma unroll
        for (int j = 0; j < V; j++) Ci[j] = R * V == 1 ? C : of_row(C, i, j);
    }

    template <int D, bool KEEPS> __device__ __forceinline__ void put_dots() {
        float sums[R * D] = {}, all[R] = {};
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                float h[N];
                get(h, i, c);
                see(h, i, c);
#pragma unroll
                for (int d = 0; d < D; d++) sums[i * D + d] = dot_on<N>(sums[i * D + d], h, vectors.v[d][c]);
                if (KEEPS) all[i] = dot_on<N>(all[i], h, h);
            }
        put_sums<R, D, SHORT_LANES>(dots, sums, 0, me);
        if (KEEPS) put_sums<R, 1, SHORT_LANES>(dots, all, SHORT_SQUARE, me);
    }
    /* |h| of the lane's row, from its square; chunk(h, i, c): chunk c of row i. */
    template <typename F> __device__ __forceinline__ float norm_of(float square, const F &chunk) {
        const bool held = square_in_range(square);
        float norm = __fsqrt_rn(square);
        if (!__all_sync(WARP, held || row() >= count)) { /* in every warp of the team */
            const float all = norms_exactly<R>(exactly, row(), me, [&](int i) {
                double sum = 0;
#pragma unroll
                for (int c = 0; c < CHUNKS; c++) {
                    float h[N];
                    chunk(h, i, c);
                    see(h, i, c);
#pragma unroll
                    for (int e = 0; e < N; e++) sum = __fma_rn(h[e], h[e], sum);
                }
                return sum;
            });
            if (!held) norm = all;
        }
        return norm;
    }

    /* What the lane's vector is scaled by; sum: the lane's. */
    __device__ __forceinline__ float coefficient_of_lane(float sum) const {
        const float p0 = of_row(sum, row(), 0), p1 = of_row(sum, row(), 1);
        const float4 write = stage[SHORT_WRITES + (V > 1 && number() - first() == 1)];
        const float read[2] = {write.x, write.y}, out = write.z;
        if (program.count == 0) {
            float all = program.reads > 0 ? __fmaf_rn(read[0], p0, out) : out;
            return program.reads > 1 ? __fmaf_rn(read[1], p1, all) : all;
        }
        const float p = program.reads > 1 && number() == 1 ? p1 : p0,
                    s = program.reads > 0 ? __fmaf_rn(read[0], p, read[1]) : 0.0f;
        int k = 0; /* its piece; they rise */
        for (int i = 1; i < program.count; i++) k += s > stage[i].x;
        const float4 piece = stage[k];
        return __fmul_rn(out, __fmaf_rn(piece.y, __fsub_rn(s, piece.z), piece.w));
    }
    /* From the sums: what the lane's row is scaled by once it is updated, which keeps its norm. */
    __device__ __forceinline__ float solve() {
        const bool asks = number() < program.reads || (program.keeps && number() == SHORT_SQUARE);
        const float sum = asks ? block_get(dots, row() * SHORT_LANES + number(), me) : 0;
        const bool writes = V == 1 || (number() >= first() && number() < program.vectors);
        const float solved = coefficient_of_lane(sum);
        C = writes ? solved : 0;
        const unsigned some =
            __ballot_sync(WARP, row() < count && me.lane < R * SHORT_LANES && (C != 0 || program.a != 1));
        changed = some | some >> 1;
        return program.keeps ? kept(sum) : 1;
    }
    __device__ __forceinline__ float kept(float sum) {
        const float square = of_row(sum, row(), SHORT_SQUARE), known = known_square(sum, square);
        float norm = __fsqrt_rn(square), now = __fsqrt_rn(known);
        if (!__all_sync(WARP, (known > 0 && square_in_range(square)) || row() >= count)) { /* in every warp */
            norm = norm_of(square, [&](float(&h)[N], int i, int c) { get(h, i, c); });
            const float summed = norm_by_sum();
            if (!(known > 0)) now = summed;
        }
        return now > 0 && row() < count ? __fdiv_rn(norm, now) : 1;
    }
    /* kept_square of the lane's row. */
    __device__ __forceinline__ float known_square(float sum, float square) const {
        const float4 gram = stage[SHORT_GRAM];
        if (!knows_kept<T>(gram.x)) return 0;
        const float p0 = of_row(sum, row(), 0);
        if constexpr (V == 1)
            return kept_square(program.a, square, {p0, 0}, {C, 0}, {gram.x, 0, 0});
        else
            return kept_square(program.a, square, {p0, of_row(sum, row(), 1)},
                               {of_row(C, row(), 0), of_row(C, row(), 1)}, {gram.x, gram.y, gram.z});
    }
    /* |h| of the lane's row once it is updated. */
    __device__ __forceinline__ float norm_by_sum() {
        float sums[R] = {};
#pragma unroll
        for (int i = 0; i < R; i++) {
            float Ci[V];
            coefficients(Ci, i);
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                float h[N];
                update(h, i, c, Ci);
                see(h, i, c);
                sums[i] = dot_on<N>(sums[i], h, h);
            }
        }
        put_sums<R, 1, 1>(squares, sums, 0, me);
        __syncthreads();
        return norm_of(block_get(squares, row(), me), [&](float(&h)[N], int i, int c) {
            float Ci[V];
            coefficients(Ci, i);
            update(h, i, c, Ci);
        });
    }

    /* Steers rows, of which the first is at `to`. Where norms are kept, rows may be updated more than once: in f32 they would
     * have no room. */
    __device__ __forceinline__ void run(T *to, int64_t stride) {
        if (V > 1 && program.reads > 1)
            program.keeps ? put_dots<V, true>() : put_dots<V, false>();
        else
            program.keeps ? put_dots<1, true>() : put_dots<1, false>();
        copies_wait<0>();
        __syncthreads();
        const float kept_by = solve();
#pragma unroll
        for (int i = 0; i < R; i++) {
            float Ci[V];
            coefficients(Ci, i);
            const float by = R == 1 ? kept_by : of_row(kept_by, i, 0);
            if (!is_changed(i) && by == 1) continue; /* it keeps its bits */
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                float h[N];
                update(h, i, c, Ci);
                if (by != 1) scale(h, by, i, c);
                if (columns.has(c)) *(uint4 *)(to + i * stride + columns.base(c)) = narrow<T>(h);
            }
        }
    }
};

/* Steers the run that begins at the team's row `at`; how many of the tile's rows it has. */
template <typename T, int R, int V, bool RESIDUAL>
__device__ __forceinline__ int short_run(const steer_block_args &args, int at) {
    extern __shared__ __align__(16) char shared_memory[];
    const lane_info me = who();
    const small_place here = small_place_of<R>(args, at);
    const bool there = steer_entry_blocks(&here.entry);
    const int room = R * block_stride(me);
    float4 *stage = (float4 *)shared_memory;
    float *sums = (float *)(stage + STEER_SHORT_STAGE);
    short_state<T, R, V, RESIDUAL> s = {me,
                                        {chunk_base<T>(me, 0), args.hidden_size},
                                        *(const steer_block_short *)(here.entry.m + 3),
                                        stage,
                                        sums,
                                        sums + room * SHORT_LANES,
                                        (double *)(sums + room * (SHORT_LANES + 2))};
    s.count = here.count;
    if (there) s.load_program(here.entry);
    wait_for_previous();
    if (!there) return here.count;
    small_rows<T, R, RESIDUAL>::load_from(s.x, args.hidden, args.hidden_stride, here.first, here.count,
                                          s.columns);
    if constexpr (RESIDUAL)
        small_rows<T, R, RESIDUAL>::load_from(s.r, args.residual, args.residual_stride, here.first,
                                              here.count, s.columns);
    s.run((T *)args.hidden + here.first * args.hidden_stride, args.hidden_stride);
    return here.count;
}

template <typename T, int R, int V, bool RESIDUAL>
__global__ void __launch_bounds__(STEER_BLOCK_TEAM, 1)
    steer_block_short_kernel(const __grid_constant__ steer_block_args args) {
    const int count = (int)min((int64_t)R, args.rows - (int64_t)blockIdx.x * R);
    let_next_start();
    for (int at = 0;;) {
        at += short_run<T, R, V, RESIDUAL>(args, at);
        if (R == 1 || at >= count) return;
        __syncthreads(); /* the rows before are done with shared memory */
    }
}

} // namespace

#endif
#endif
