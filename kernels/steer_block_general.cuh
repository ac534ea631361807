/* steer_block_general.cuh: the kernel that serves programs of blocks whatever they are, for every hidden size and alignment.
 *
 * A block of threads holds R neighbouring rows in f32 in shared memory from the first block of the program to the last, so that
 * rows of one program share the loads of its vectors, and hidden states are read and written once. A thread reads and writes
 * none but its own columns there, four at a time: no barrier is needed for them. */
#ifndef STEER_KERNELS_STEER_BLOCK_GENERAL_CUH
#define STEER_KERNELS_STEER_BLOCK_GENERAL_CUH

#include "steer_block.cuh"

#ifdef STEER_KERNEL_IMPLEMENTATION

namespace {

/* Shared memory of a block of R rows, and what its threads know. Arrays of a row's numbers have stride R. */
template <typename T> struct block_state {
    const steer_block_args &args;
    const lane_info &me;
    float *x;       /* [R][row_floats] */
    float *partial; /* two buffers of [STEER_BLOCK_SUMS][block_stride] in turn */
    float *p;       /* [dots][R] */
    float *C;       /* [writes][R] */
    float *a;       /* [R] */
    float *norm;    /* [R] |h| now */
    float *first;   /* [R] |h| before the first block */
    float *square;  /* [R] |h|^2 of the norms found last */
    float *rest;    /* [R] |h|^2 beside a vector; kept_square */
    int *changed;   /* [R] by this block */
    int *touched;   /* [R] by any */
    int turn;

    __device__ __forceinline__ float *next_partial() {
        turn ^= 1;
        return partial + turn * STEER_BLOCK_SUMS * block_stride(me);
    }
};

/* Rows of it from `from` on, which are rows `first` .. of the hidden states. */
struct block_span {
    int from;
    int64_t first;
};

/* A row's dots. */
template <int R> struct shared_dots {
    const float *p;
    __device__ __forceinline__ bool all(bool x) const { return x; }
    __device__ __forceinline__ float operator()(int j) const { return p[j * R]; }
};

/* ---- Elements ------------------------------------------------------------------------------------------------ */

/* The thread's q-th four columns: which they are, and where they lie in a row in shared memory. */
template <typename T> struct quad {
    static constexpr int N = chunk_of<T>::N;
    int base;
    int at;

    __device__ __forceinline__ quad(const lane_info &me, int q)
        : base(chunk_base<T>(me, q * 4 / N) + q * 4 % N),
          at((((q / 4 * me.warps + me.warp) * 4 + q % 4) * 32 + me.lane) * 4) {}
};

/* How many a thread has at most; beyond the hidden size they hold nothing. */
__device__ __forceinline__ int quads_of(const steer_block_args &args, const lane_info &me) {
    return (args.hidden_size + me.threads * 16 - 1) / (me.threads * 16) * 4;
}

__device__ __forceinline__ void get_four(float (&v)[4], const float *from) {
    put_four<4>(v, 0, *(const float4 *)from);
}

/* Four elements of the residual of row i of the span. */
template <typename T>
__device__ __forceinline__ void residual_four(float (&r)[4], const block_state<T> &s, const block_span &span,
                                              int i, int base) {
    const T *row = (const T *)s.args.residual + (span.first + i) * s.args.residual_stride;
    if (s.args.aligned) {
        const steer_pack<T, 4> four = *(const steer_pack<T, 4> *)(row + base);
#pragma unroll
        for (int e = 0; e < 4; e++) r[e] = steer_to_f32(four.at[e]);
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++) r[e] = base + e < s.args.hidden_size ? steer_to_f32(row[base + e]) : 0.0f;
    }
}

/* What a program sees of row i of the span. */
template <typename T, bool RESIDUAL>
__device__ __forceinline__ void seen_four(float (&v)[4], const block_state<T> &s, const block_span &span,
                                          int i, const quad<T> &here) {
    get_four(v, s.x + (span.from + i) * s.args.row_floats + here.at);
    if (RESIDUAL) {
        float r[4];
        residual_four(r, s, span, i, here.base);
#pragma unroll
        for (int e = 0; e < 4; e++) v[e] = __fadd_rn(v[e], r[e]);
    }
}

/* Brings a row to shared memory. */
template <typename T> __device__ __forceinline__ void bring_row(const block_state<T> &s, int i, int64_t row) {
    constexpr int N = chunk_of<T>::N;
    const T *from = (const T *)s.args.hidden + row * s.args.hidden_stride;
    for (int q = 0; q < quads_of(s.args, s.me); q += N / 4) {
        const int base = quad<T>(s.me, q).base;
        if (base >= s.args.hidden_size) continue;
        float h[N];
        widen<T>(h, s.args.aligned ? *(const uint4 *)(from + base)
                                   : load_elements(from + base, s.args.hidden_size - base));
#pragma unroll
        for (int e = 0; e < N; e += 4)
            *(float4 *)(s.x + i * s.args.row_floats + quad<T>(s.me, q + e / 4).at) =
                make_float4(h[e], h[e + 1], h[e + 2], h[e + 3]);
    }
}

template <typename T> __device__ __forceinline__ void store_row(const block_state<T> &s, int i, int64_t row) {
    constexpr int N = chunk_of<T>::N;
    T *to = (T *)s.args.hidden + row * s.args.hidden_stride;
    for (int q = 0; q < quads_of(s.args, s.me); q += N / 4) {
        const int base = quad<T>(s.me, q).base;
        if (base >= s.args.hidden_size) continue;
        float h[N];
#pragma unroll
        for (int e = 0; e < N; e += 4)
            put_four<N>(h, e, *(const float4 *)(s.x + i * s.args.row_floats + quad<T>(s.me, q + e / 4).at));
        if (s.args.aligned)
            store_chunk<T, true>(to, base, s.args.hidden_size, h);
        else
            store_chunk<T, false>(to, base, s.args.hidden_size, h);
    }
}

/* ---- Sums over rows -------------------------------------------------------------------------------------------- */

/* Sums M values over the threads; thread m < M is left with the sum of value m. */
template <typename T, int M>
__device__ __forceinline__ float sum_over_team(block_state<T> &s, float (&sums)[M]) {
    float *partial = s.next_partial();
    block_put<M>(partial, sums, s.me);
    __syncthreads();
    return s.me.thread < M ? block_get(partial, s.me.thread, s.me) : 0;
}

/* Dots of R rows with the D vectors from j on, into s.p. */
template <typename T, int R, int D, bool RESIDUAL>
__device__ __forceinline__ void find_dots_of(block_state<T> &s, const block_span &span,
                                             const uint64_t *addresses, int j) {
    const float *m[D];
    float sums[R * D] = {};
#pragma unroll
    for (int d = 0; d < D; d++) m[d] = (const float *)__ldg((const unsigned long long *)addresses + j + d);
#pragma unroll 2
    for (int q = 0; q < quads_of(s.args, s.me); q++) {
        const quad<T> here(s.me, q);
        if (here.base >= s.args.hidden_size) continue;
        float v[D][4];
#pragma unroll
        for (int d = 0; d < D; d++) put_four<4>(v[d], 0, __ldg((const float4 *)(m[d] + here.base)));
#pragma unroll
        for (int i = 0; i < R; i++) {
            float h[4];
            seen_four<T, RESIDUAL>(h, s, span, i, here);
#pragma unroll
            for (int d = 0; d < D; d++) sums[i * D + d] = dot_on<4>(sums[i * D + d], h, v[d]);
        }
    }
    const float sum = sum_over_team<T, R * D>(s, sums);
    if (s.me.thread < R * D) s.p[(j + s.me.thread % D) * R + s.me.thread / D] = sum;
}

template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void find_dots(block_state<T> &s, const block_span &span,
                                          const uint64_t *addresses, int count) {
    int j = 0;
#pragma unroll 1
    for (; j + 8 <= count; j += 8) find_dots_of<T, R, 8, RESIDUAL>(s, span, addresses, j);
#pragma unroll 1
    for (; j + 2 <= count; j += 2) find_dots_of<T, R, 2, RESIDUAL>(s, span, addresses, j);
    if (j < count) find_dots_of<T, R, 1, RESIDUAL>(s, span, addresses, j);
}

/* |h| of a row whose square f32 has no room for, in f64. */
template <typename T, bool RESIDUAL>
__device__ __forceinline__ float norm_exactly(block_state<T> &s, const block_span &span, int i) {
    double *partial = (double *)s.next_partial(), sum = 0, all = 0;
    for (int q = 0; q < quads_of(s.args, s.me); q++) {
        const quad<T> here(s.me, q);
        if (here.base >= s.args.hidden_size) continue;
        float h[4];
        seen_four<T, RESIDUAL>(h, s, span, i, here);
        for (int e = 0; e < 4; e++) sum = __fma_rn(h[e], h[e], sum);
    }
    sum = warp_sum(sum);
    if (s.me.lane == 0) partial[s.me.warp] = sum;
    __syncthreads();
    for (int w = 0; w < s.me.warps; w++) all = __dadd_rn(all, partial[w]);
    return (float)__dsqrt_rn(all);
}

/* |h| of R rows into `out`; for all to read after the next barrier. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void find_norms(block_state<T> &s, const block_span &span, float *out) {
    float sums[R] = {};
    for (int q = 0; q < quads_of(s.args, s.me); q++) {
        const quad<T> here(s.me, q);
        if (here.base >= s.args.hidden_size) continue;
#pragma unroll
        for (int i = 0; i < R; i++) {
            float h[4];
            seen_four<T, RESIDUAL>(h, s, span, i, here);
            sums[i] = dot_on<4>(sums[i], h, h);
        }
    }
    const float square = sum_over_team<T, R>(s, sums);
    if (s.me.thread < R) out[s.me.thread] = s.square[s.me.thread] = square;
    __syncthreads();
    float norms[R];
#pragma unroll
    for (int i = 0; i < R; i++)
        norms[i] = square_in_range(out[i]) ? __fsqrt_rn(out[i]) : norm_exactly<T, RESIDUAL>(s, span, i);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < R; i++)
        if (s.me.thread == i) out[i] = norms[i];
}

/* |h| of R rows into s.norm for KEEP, of the rows that can without a sum (kept_square): there was one block before. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void find_kept_norms(block_state<T> &s, const block_span &span,
                                                const char *image) {
    const float4 gram = __ldg((const float4 *)image + 1);
    const int i = s.me.thread;
    if (i < R) s.rest[i] = 0;
    if (i < R && knows_kept<T>(gram.x))
        s.rest[i] = kept_square(s.a[i], s.square[i], {s.p[i], s.p[R + i]}, {s.C[i], s.C[R + i]},
                                {gram.x, gram.y, gram.z});
    __syncthreads();
    bool all = true;
#pragma unroll
    for (int row = 0; row < R; row++) all = all && s.rest[row] > 0;
    if (!all) find_norms<T, R, RESIDUAL>(s, span, s.norm);
    if (i < R && s.rest[i] > 0) s.norm[i] = __fsqrt_rn(s.rest[i]);
}

/* |h - p m| of R rows, p from s.a: thread i < R has that of row i. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ float find_rests(block_state<T> &s, const block_span &span, uint64_t address) {
    const float *m = (const float *)address;
    float unit = 1;
#pragma unroll 1
    for (bool again = false;; again = true) {
        float sums[R] = {};
        for (int q = 0; q < quads_of(s.args, s.me); q++) {
            const quad<T> here(s.me, q);
            if (here.base >= s.args.hidden_size) continue;
            float v[4];
            put_four<4>(v, 0, __ldg((const float4 *)(m + here.base)));
#pragma unroll
            for (int i = 0; i < R; i++) {
                float h[4];
                seen_four<T, RESIDUAL>(h, s, span, i, here);
                axpy<4>(h, -s.a[i], v);
                if (again) times<4>(h, unit_of(s.rest[i]));
                sums[i] = dot_on<4>(sums[i], h, h);
            }
        }
        const float square = sum_over_team<T, R>(s, sums);
        if (again) return norm_in(square, unit);
        unit = unit_of(square);
        if (s.me.thread < R) s.rest[s.me.thread] = square;
        __syncthreads();
        bool all = true;
#pragma unroll
        for (int i = 0; i < R; i++) all = all && square_in_range(s.rest[i]);
        if (all) return norm_in(square, 1);
    }
}

/* ---- What a block does ----------------------------------------------------------------------------------------- */

__device__ __forceinline__ steer_block_image read_block(const char *image, int k) {
    int4 words[sizeof(steer_block_image) / 16];
    const int4 *from =
        (const int4 *)(image + sizeof(steer_blocks_image) + (size_t)k * sizeof(steer_block_image));
#pragma unroll
    for (int i = 0; i < (int)(sizeof(steer_block_image) / 16); i++) words[i] = __ldg(from + i);
    return *(const steer_block_image *)words;
}

/* Coefficients of R rows; every thread takes part, and dots and norms are there. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void find_changes(block_state<T> &s, const block_span &span, const char *image,
                                             const steer_block_image &block, const uint64_t *addresses) {
    const int thread = s.me.thread;
    const shared_dots<R> mine = {s.p + thread};
    uint64_t *notes = s.args.notes + span.first + thread;
    if (thread < R) s.changed[thread] = 0;
    if (block.kind == STEER_BLOCK_TOWARD) {
        const steer_block_pair pair = read_pair(image, block, 0);
        if (thread < R) s.a[thread] = __fmul_rn(pair.out, projection(pair, mine(0)));
        __syncthreads();
        const float rest = find_rests<T, R, RESIDUAL>(s, span, __ldg((const unsigned long long *)addresses));
        if (thread >= R) return;
        float a, C;
        turn_toward(&a, &C, block, pair, projection(pair, mine(0)), rest);
        const bool open = holds(image, block, mine, s.norm[thread], notes);
        s.a[thread] = open ? a : 1;
        s.C[thread] = open ? C : 0;
        s.changed[thread] = open && (a != 1 || C != 0);
        return;
    }
    __syncthreads();
    if (thread < R) {
        const bool open = holds(image, block, mine, s.norm[thread], notes);
        const float a = open ? scale_of(block, s.first[thread], s.norm[thread]) : 1;
        if (block.kind == STEER_BLOCK_NOTE)
            *notes = (*notes & ~((uint64_t)1 << block.note)) | (uint64_t)open << block.note;
        s.a[thread] = a;
        if (a != 1) s.changed[thread] = 1;
    }
    for (int i = thread; i < R * block.writes; i += s.me.threads) {
        const int row = i % R;
        const shared_dots<R> p = {s.p + row};
        const float C = holds(image, block, p, s.norm[row], s.args.notes + span.first + row)
                            ? coefficient_of(image, block, i / R, p)
                            : 0.0f;
        s.C[i] = C;
        if (C != 0) s.changed[row] = 1;
    }
}

/* The update of R rows, those that change. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void update_rows(block_state<T> &s, const block_span &span,
                                            const steer_block_image &block, const uint64_t *addresses) {
    bool any = false;
#pragma unroll
    for (int i = 0; i < R; i++) any = any || s.changed[i];
    if (!any) return;
    const unsigned long long *writes = (const unsigned long long *)addresses + steer_block_dots(&block);
    for (int q = 0; q < quads_of(s.args, s.me); q++) {
        const quad<T> here(s.me, q);
        if (here.base >= s.args.hidden_size) continue;
        float x[R][4];
#pragma unroll
        for (int i = 0; i < R; i++) {
            get_four(x[i], s.x + (span.from + i) * s.args.row_floats + here.at);
            const float a = s.a[i];
            if (a == 1) continue;
            float r[4] = {};
            if (RESIDUAL) residual_four(r, s, span, i, here.base);
            scale_by<RESIDUAL>(x[i], a, r);
        }
#pragma unroll 4
        for (int w = 0; w < block.writes; w++) {
            float v[4];
            put_four<4>(v, 0, __ldg((const float4 *)((const float *)__ldg(writes + w) + here.base)));
#pragma unroll
            for (int i = 0; i < R; i++) axpy<4>(x[i], s.C[w * R + i], v);
        }
#pragma unroll
        for (int i = 0; i < R; i++)
            if (s.changed[i])
                *(float4 *)(s.x + (span.from + i) * s.args.row_floats + here.at) =
                    make_float4(x[i][0], x[i][1], x[i][2], x[i][3]);
    }
}

/* ---- Programs ---------------------------------------------------------------------------------------------------- */

/* R rows of one program. */
template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void steer_span(block_state<T> &s, const block_span &span, uint64_t address) {
    const char *image = (const char *)address;
    if (!image) return;
    const int4 head = __ldg((const int4 *)image); /* blocks, keeps */
    if (s.me.thread < R) s.touched[s.me.thread] = 0;
    if (head.y) find_norms<T, R, RESIDUAL>(s, span, s.first);
#pragma unroll 1
    for (int k = 0; k < head.x; k++) {
        const steer_block_image block = read_block(image, k);
        const uint64_t *addresses = (const uint64_t *)(image + block.addresses_at);
        find_dots<T, R, RESIDUAL>(s, span, addresses, steer_block_dots(&block));
        if (block.kind == STEER_BLOCK_KEEP)
            find_kept_norms<T, R, RESIDUAL>(s, span, image);
        else if (block.norm)
            find_norms<T, R, RESIDUAL>(s, span, s.norm);
        __syncthreads();
        find_changes<T, R, RESIDUAL>(s, span, image, block, addresses);
        __syncthreads();
        update_rows<T, R, RESIDUAL>(s, span, block, addresses);
        if (s.me.thread < R && s.changed[s.me.thread]) s.touched[s.me.thread] = 1;
        __syncthreads();
    }
    for (int i = 0; i < R; i++)
        if (s.touched[i]) store_row(s, span.from + i, span.first + i);
    __syncthreads(); /* what is known of these rows may be overwritten */
}

template <typename T, int R, bool RESIDUAL>
__device__ __forceinline__ void block_rows(const steer_block_args &args) {
    extern __shared__ __align__(16) char shared_memory[];
    const lane_info me = who();
    let_next_start();
    block_state<T> s = {args, me};
    s.x = (float *)shared_memory;
    s.partial = s.x + R * args.row_floats;
    s.C = s.partial + 2 * STEER_BLOCK_SUMS * block_stride(me);
    s.p = s.C + R * STEER_BLOCK_MOST;
    s.a = s.p + R * STEER_BLOCK_DOTS;
    s.norm = s.a + R;
    s.first = s.norm + R;
    s.square = s.first + R;
    s.rest = s.square + R;
    s.changed = (int *)(s.rest + R);
    s.touched = s.changed + R;
    const int64_t first = (int64_t)blockIdx.x * R;
    const int count = (int)min((int64_t)R, args.rows - first);
    steer_row record = {};
    bool same = count == R;
    if (args.table) {
        record = load_row(args.table + first);
        same = same && record.run >= R;
    }
    steer_entry entry = args.table ? load_entry(record, args.layer) : args.entry;
    wait_for_previous();
    if (same && !steer_entry_blocks(&entry)) return;
#pragma unroll
    for (int i = 0; i < R; i++)
        if (i < count) bring_row(s, i, first + i);
    if (same) return steer_span<T, R, RESIDUAL>(s, {0, first}, steer_entry_blocks(&entry));
    if constexpr (R > 1) {
        for (int i = 0; i < count; i++) {
            if (i > 0 && args.table) entry = load_entry(load_row(args.table + first + i), args.layer);
            steer_span<T, 1, RESIDUAL>(s, {i, first + i}, steer_entry_blocks(&entry));
        }
    }
}

template <typename T, int R, bool RESIDUAL>
__global__ void __launch_bounds__(STEER_BLOCK_TEAM, 1)
    steer_block_general_kernel(const __grid_constant__ steer_block_args args) {
    block_rows<T, R, RESIDUAL>(args);
}

} // namespace

#endif
#endif
