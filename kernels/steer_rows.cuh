/* steer_rows.cuh: the kernel that applies compiled programs to rows of hidden states, one launch for any mix.
 *
 *     P_j = h.m_j for all vectors of the row's program at once; s = inv P + bias; c = min(max(gain s + offset, lo - s),
 *     hi - s) inv, P_j += c (m.m_j), operation by operation; h += u_coef u + sum of c_j m_j, rounded once.
 *
 * A group of `threads` threads (a function of the hidden size alone) holds R rows in registers, E elements of each per
 * thread, in 16-byte chunks: thread t has chunks t, t + threads, ... Rows that share a program share the loads of its
 * vectors. All arithmetic is explicit (no contraction left to the compiler) and every sum has one order: a thread's
 * elements, the lanes of a warp as a butterfly, the warps in turn. A row's bits therefore depend on its values and its
 * program alone, not on its neighbours, R, or the path. */
#ifndef STEER_KERNELS_STEER_ROWS_CUH
#define STEER_KERNELS_STEER_ROWS_CUH

#include "cuda.cuh"

enum {
    STEER_ROWS_TILE = 4,     /* rows of a shared tile */
    STEER_ROWS_DOTS = 4,     /* vectors whose dots are reduced together */
    STEER_ROWS_THREADS = 512 /* most threads of a group */
};

/* What a launch passes to the kernel. */
struct steer_rows_args {
    void *hidden;
    const void *residual;
    int64_t hidden_stride;
    int64_t residual_stride;
    int64_t rows;
    const steer_row *table; /* NULL: every row has `entry` */
    int32_t hidden_size;
    int32_t layer;
    int32_t vectors;     /* room for dots in shared memory */
    int32_t stage_bytes; /* room for a program image in shared memory */
    int32_t group_bytes; /* shared memory of a group */
    steer_entry entry;
};

typedef void (*steer_rows_kernel)(const steer_rows_args);

/* Kernels of a dtype. aligned: rows and hidden size are multiples of 16 bytes. many: programs may have an image. */
struct steer_rows_choice {
    int elements; /* per thread: 16, 32 or 64 */
    bool aligned, tiled, many, residual;
};
template <typename T> steer_rows_kernel steer_rows_select(steer_rows_choice choice);

#ifdef STEER_ROWS_IMPLEMENTATION

namespace {

/* ---- Elements of a thread ------------------------------------------------------------------------------------ */

/* Loads that leave L1 to the vectors, which are read again. */
__device__ __forceinline__ uint4 load_stream(const void *p) {
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}

/* Elements of a 16-byte chunk. */
template <typename T> struct chunk_of { static constexpr int N = 16 / (int)sizeof(T); };

/* A thread's part of a row, as stored. */
template <typename T, int E> struct row_part {
    static constexpr int N = chunk_of<T>::N;
    uint4 chunk[E / N];
    __device__ __forceinline__ float at(int i) const {
        return steer_to_f32(((const T *)&chunk[i / N])[i % N]);
    }
};

struct lane_info {
    int thread;  /* in the group */
    int threads; /* of the group */
    int warps;
    int warp, lane;
    int barrier; /* named barrier of the group */
};

template <typename T, int E, bool ALIGNED>
__device__ __forceinline__ void load_part(row_part<T, E> &part, const T *row, int hidden,
                                          const lane_info &me) {
    constexpr int N = chunk_of<T>::N;
#pragma unroll
    for (int c = 0; c < E / N; c++) {
        int base = (me.thread + c * me.threads) * N;
        part.chunk[c] = make_uint4(0, 0, 0, 0);
        if (ALIGNED) {
            if (base < hidden) part.chunk[c] = load_stream(row + base);
        } else {
#pragma unroll
            for (int i = 0; i < N; i++)
                if (base + i < hidden) ((T *)&part.chunk[c])[i] = row[base + i];
        }
    }
}

template <typename T, int E, bool ALIGNED>
__device__ __forceinline__ void store_values(T *row, const float (&x)[E], int hidden, const lane_info &me) {
    constexpr int N = chunk_of<T>::N;
#pragma unroll
    for (int c = 0; c < E / N; c++) {
        int base = (me.thread + c * me.threads) * N;
        alignas(16) T out[N];
#pragma unroll
        for (int i = 0; i < N; i++) out[i] = steer_from_f32<T>(x[c * N + i]);
        if (ALIGNED) {
            if (base < hidden) *(uint4 *)(row + base) = *(const uint4 *)out;
        } else {
#pragma unroll
            for (int i = 0; i < N; i++)
                if (base + i < hidden) row[base + i] = out[i];
        }
    }
}

/* The same elements of a vector. Vectors are 64-byte aligned and `hidden` long. */
template <typename T, int E, bool ALIGNED>
__device__ __forceinline__ void load_vector(float (&v)[E], uint64_t address, int hidden,
                                            const lane_info &me) {
    constexpr int N = chunk_of<T>::N;
    const float *m = (const float *)address;
#pragma unroll
    for (int c = 0; c < E / N; c++) {
        int base = (me.thread + c * me.threads) * N;
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            float4 four = make_float4(0, 0, 0, 0);
            if (ALIGNED || base + i + 4 <= hidden) {
                if (base + i < hidden) four = __ldg((const float4 *)(m + base + i));
            } else {
                if (base + i < hidden) four.x = __ldg(m + base + i);
                if (base + i + 1 < hidden) four.y = __ldg(m + base + i + 1);
                if (base + i + 2 < hidden) four.z = __ldg(m + base + i + 2);
            }
            v[c * N + i] = four.x;
            v[c * N + i + 1] = four.y;
            v[c * N + i + 2] = four.z;
            v[c * N + i + 3] = four.w;
        }
    }
}

/* ---- Sums ---------------------------------------------------------------------------------------------------- */

__device__ __forceinline__ void group_sync(const lane_info &me) {
    if (me.warps == 1)
        __syncwarp();
    else
        asm volatile("bar.sync %0, %1;" ::"r"(me.barrier), "r"(me.threads) : "memory");
}

/* Sums M values (a power of two, at most 32) over the lanes, all in the same butterfly order: lane l is left with the
 * sum of value l / (32 / M). */
template <int M> __device__ __forceinline__ float warp_sum(float (&v)[M], int lane) {
    int bit = 16;
#pragma unroll
    for (int n = M; n > 1; n /= 2, bit /= 2) {
        bool upper = lane & bit;
#pragma unroll
        for (int i = 0; i < n / 2; i++) {
            float send = upper ? v[i] : v[i + n / 2];
            float keep = upper ? v[i + n / 2] : v[i];
            v[i] = __fadd_rn(keep, __shfl_xor_sync(0xffffffffu, send, bit));
        }
    }
#pragma unroll
    for (int b = 16 / M; b >= 1; b /= 2) v[0] = __fadd_rn(v[0], __shfl_xor_sync(0xffffffffu, v[0], b));
    return v[0];
}

/* Sum of value m over the warps, from the partial sums that group_put wrote. */
__device__ __forceinline__ float group_get(const float *partial, int m, int warps) {
    float sum = partial[m * warps];
    for (int w = 1; w < warps; w++) sum = __fadd_rn(sum, partial[m * warps + w]);
    return sum;
}

template <int M>
__device__ __forceinline__ void group_put(float *partial, float (&v)[M], const lane_info &me) {
    float sum = warp_sum<M>(v, me.lane);
    if (me.lane % (32 / M) == 0) partial[me.lane / (32 / M) * me.warps + me.warp] = sum;
}

template <typename T, int E>
__device__ __forceinline__ float part_dot(const row_part<T, E> &x, const float (&v)[E]) {
    float even = 0, odd = 0;
#pragma unroll
    for (int i = 0; i < E; i += 2) {
        even = __fmaf_rn(x.at(i), v[i], even);
        odd = __fmaf_rn(x.at(i + 1), v[i + 1], odd);
    }
    return __fadd_rn(even, odd);
}

/* The same over x + r. */
template <typename T, int E>
__device__ __forceinline__ float part_dot(const row_part<T, E> &x, const row_part<T, E> &r,
                                          const float (&v)[E]) {
    float even = 0, odd = 0;
#pragma unroll
    for (int i = 0; i < E; i += 2) {
        even = __fmaf_rn(__fadd_rn(x.at(i), r.at(i)), v[i], even);
        odd = __fmaf_rn(__fadd_rn(x.at(i + 1), r.at(i + 1)), v[i + 1], odd);
    }
    return __fadd_rn(even, odd);
}

/* ---- Programs ------------------------------------------------------------------------------------------------ */

__device__ __forceinline__ float coefficient(float p, float inv, float bias, float gain, float offset,
                                             float lo, float hi) {
    float s = __fmaf_rn(inv, p, bias);
    float c = fminf(fmaxf(__fmaf_rn(gain, s, offset), __fsub_rn(lo, s)), __fsub_rn(hi, s));
    return __fmul_rn(c, inv);
}

__device__ __forceinline__ bool gate_open(const steer_op_image &op, const float *p, float norm2) {
    if (op.gate < 0) return true;
    float value = __fmaf_rn(op.gate_inv, p[op.gate], op.gate_bias);
    if (op.flags & STEER_OP_IMAGE_COSINE) value = norm2 > 0 ? __fdiv_rn(value, __fsqrt_rn(norm2)) : 0.0f;
    return op.flags & STEER_OP_IMAGE_BELOW ? value < op.threshold : value > op.threshold;
}

/* One warp runs the operations over the dots p of a row, leaving in C what each vector is scaled by. */
__device__ __forceinline__ void solve(float *C, float *p, float norm2, const steer_program_image &head,
                                      const char *image, int lane) {
    int n = head.vectors;
    const steer_op_image *ops = (const steer_op_image *)(image + steer_image_ops_at(n));
    const float *gram = (const float *)(image + steer_image_gram_at(n, head.ops));
    for (int j = lane; j < n; j += 32) C[j] = 0;
    __syncwarp();
    for (int k = 0; k < head.ops; k++) {
        const steer_op_image &op = ops[k];
        if (!gate_open(op, p, norm2)) continue;
        float dot = p[op.dot];
        float c = coefficient(dot, op.inv, op.bias, op.gain, op.offset, op.lo, op.hi);
        const float *row = gram + (size_t)op.dot * n;
        norm2 = __fmaf_rn(c, __fmaf_rn(c, row[op.dot], 2 * dot), norm2);
        __syncwarp();
        for (int j = lane; j < n; j += 32) p[j] = __fmaf_rn(c, row[j], p[j]);
        if (lane == 0) C[op.dot] = __fadd_rn(C[op.dot], c);
        __syncwarp();
    }
}

/* ---- A tile: R rows of one program --------------------------------------------------------------------------- */

/* Shared memory of a group. */
struct group_memory {
    float *partial; /* two buffers of [R * DOTS][warps], used in turn so that one barrier a sum is enough */
    int partial_size;
    int turn;
    float *p, *C, *norm2; /* [R][vectors], [R][vectors], [R] */
    char *stage;
    __device__ __forceinline__ float *next_partial() {
        turn ^= 1;
        return partial + turn * partial_size;
    }
};

template <typename T, int E, int R, bool RESIDUAL> struct tile {
    row_part<T, E> x[R];
    row_part<T, E> r[RESIDUAL ? R : 1];
    __device__ __forceinline__ float dot(int i, const float (&v)[E]) const {
        return RESIDUAL ? part_dot<T, E>(x[i], r[RESIDUAL ? i : 0], v) : part_dot<T, E>(x[i], v);
    }
};

template <typename T, int E>
__device__ __forceinline__ void widen(float (&out)[E], const row_part<T, E> &part) {
#pragma unroll
    for (int i = 0; i < E; i++) out[i] = part.at(i);
}

template <int E> __device__ __forceinline__ void axpy(float (&y)[E], float a, const float (&v)[E]) {
#pragma unroll
    for (int i = 0; i < E; i++) y[i] = __fmaf_rn(a, v[i], y[i]);
}

/* A program of at most one unconditional projecting operation. */
template <typename T, int E, int R, bool ALIGNED, bool RESIDUAL>
__device__ __forceinline__ void steer_one(const tile<T, E, R, RESIDUAL> &rows, T *const (&address)[R],
                                          const steer_entry &entry, const steer_rows_args &args,
                                          group_memory &memory, const lane_info &me) {
    float c[R] = {};
    float v[E], u[E];
    if (entry.vectors) load_vector<T, E, ALIGNED>(v, entry.m, args.hidden_size, me);
    if (entry.u) load_vector<T, E, ALIGNED>(u, entry.u, args.hidden_size, me);
    if (entry.vectors) {
        float sums[R];
#pragma unroll
        for (int i = 0; i < R; i++) sums[i] = rows.dot(i, v);
        float *partial = memory.next_partial();
        group_put<R>(partial, sums, me);
        group_sync(me);
#pragma unroll
        for (int i = 0; i < R; i++)
            c[i] = coefficient(group_get(partial, i, me.warps), entry.inv, entry.bias, entry.gain, 0,
                               entry.lo, entry.hi);
    }
#pragma unroll
    for (int i = 0; i < R; i++) {
        if (!entry.u && c[i] == 0) continue; /* nothing changes: keep the bits and save the store */
        float x[E];
        widen<T, E>(x, rows.x[i]);
        if (entry.u) axpy<E>(x, entry.u_coef, u);
        if (c[i] != 0) axpy<E>(x, c[i], v);
        store_values<T, E, ALIGNED>(address[i], x, args.hidden_size, me);
    }
}

/* Dots of the rows with all vectors of the program, into memory.p; h.h into memory.norm2 if a cosine needs it. */
template <typename T, int E, int R, bool ALIGNED, bool RESIDUAL>
__device__ __forceinline__ void
find_dots(const tile<T, E, R, RESIDUAL> &rows, const steer_program_image &head, const uint64_t *vectors,
          const steer_rows_args &args, group_memory &memory, const lane_info &me) {
    constexpr int D = STEER_ROWS_DOTS;
    for (int j = 0; j < head.vectors; j += D) {
        float sums[R * D];
#pragma unroll
        for (int d = 0; d < D; d++) {
            float v[E];
            if (j + d < head.vectors)
                load_vector<T, E, ALIGNED>(v, __ldg(vectors + j + d), args.hidden_size, me);
#pragma unroll
            for (int i = 0; i < R; i++) sums[i * D + d] = j + d < head.vectors ? rows.dot(i, v) : 0;
        }
        float *partial = memory.next_partial();
        group_put<R * D>(partial, sums, me);
        group_sync(me);
        if (me.thread < R * D && j + me.thread % D < head.vectors)
            memory.p[me.thread / D * args.vectors + j + me.thread % D] =
                group_get(partial, me.thread, me.warps);
    }
    if (head.norm) {
        float sums[R];
#pragma unroll
        for (int i = 0; i < R; i++) {
            float x[E];
            widen<T, E>(x, rows.x[i]);
            if (RESIDUAL) {
                float r[E];
                widen<T, E>(r, rows.r[RESIDUAL ? i : 0]);
#pragma unroll
                for (int e = 0; e < E; e++) x[e] = __fadd_rn(x[e], r[e]);
            }
            sums[i] = rows.dot(i, x);
        }
        float *partial = memory.next_partial();
        group_put<R>(partial, sums, me);
        group_sync(me);
        if (me.thread < R) memory.norm2[me.thread] = group_get(partial, me.thread, me.warps);
    }
    group_sync(me);
}

/* Any program that has an image. */
template <typename T, int E, int R, bool ALIGNED, bool RESIDUAL>
__device__ __forceinline__ void steer_many(const tile<T, E, R, RESIDUAL> &rows, T *const (&address)[R],
                                           const steer_entry &entry, const steer_rows_args &args,
                                           group_memory &memory, const lane_info &me) {
    const char *image = (const char *)entry.image;
    int4 words = __ldg((const int4 *)image);
    const steer_program_image head = {words.x, words.y, words.z, words.w};
    const uint64_t *vectors = (const uint64_t *)(image + steer_image_vectors_at());
    int size = (int)steer_image_size(head.vectors, head.ops);
    const char *program = image;
    if (size <= args.stage_bytes) { /* what the solver walks through comes on chip while the dots are taken */
        for (int i = me.thread * 16; i < size; i += me.threads * 16)
            if (i + 16 <= size)
                *(int4 *)(memory.stage + i) = __ldg((const int4 *)(image + i));
            else
                for (int b = i; b < size; b += 4)
                    *(int *)(memory.stage + b) = __ldg((const int *)(image + b));
        program = memory.stage;
    }
    find_dots<T, E, R, ALIGNED, RESIDUAL>(rows, head, vectors, args, memory, me);
    for (int i = me.warp; i < R; i += me.warps)
        solve(memory.C + i * args.vectors, memory.p + i * args.vectors, head.norm ? memory.norm2[i] : 0, head,
              program, me.lane);
    group_sync(me);
    float x[R][E];
    bool changed[R];
    float v[E];
#pragma unroll
    for (int i = 0; i < R; i++) {
        widen<T, E>(x[i], rows.x[i]);
        changed[i] = entry.u != 0;
    }
    if (entry.u) {
        load_vector<T, E, ALIGNED>(v, entry.u, args.hidden_size, me);
#pragma unroll
        for (int i = 0; i < R; i++) axpy<E>(x[i], entry.u_coef, v);
    }
#pragma unroll 2
    for (int j = 0; j < head.updated; j++) {
        load_vector<T, E, ALIGNED>(v, __ldg(vectors + j), args.hidden_size, me);
#pragma unroll
        for (int i = 0; i < R; i++) {
            float c = memory.C[i * args.vectors + j];
            if (c == 0) continue;
            axpy<E>(x[i], c, v);
            changed[i] = true;
        }
    }
#pragma unroll
    for (int i = 0; i < R; i++)
        if (changed[i]) store_values<T, E, ALIGNED>(address[i], x[i], args.hidden_size, me);
    group_sync(me); /* p, C and the stage are free again */
}

template <typename T, int E, int R, bool ALIGNED, bool MANY, bool RESIDUAL>
__device__ __forceinline__ void steer_tile(const tile<T, E, R, RESIDUAL> &rows, T *const (&address)[R],
                                           const steer_entry &entry, const steer_rows_args &args,
                                           group_memory &memory, const lane_info &me) {
    if (MANY && entry.image)
        steer_many<T, E, R, ALIGNED, RESIDUAL>(rows, address, entry, args, memory, me);
    else if (entry.u || entry.vectors)
        steer_one<T, E, R, ALIGNED, RESIDUAL>(rows, address, entry, args, memory, me);
}

/* ---- The kernel ---------------------------------------------------------------------------------------------- */

__device__ __forceinline__ steer_row load_row(const steer_row *row) {
    int4 words = __ldg((const int4 *)row);
    return *(const steer_row *)&words;
}

__device__ __forceinline__ steer_entry load_entry(const steer_row &row, int layer) {
    int4 words[4] = {};
    int at = layer - row.first;
    if (at >= 0 && at < row.count) {
        const int4 *from = (const int4 *)(row.entries + (uint64_t)at * sizeof(steer_entry));
#pragma unroll
        for (int i = 0; i < 4; i++) words[i] = __ldg(from + i);
    }
    return *(const steer_entry *)words;
}

__device__ __forceinline__ bool same_row(const steer_row &a, const steer_row &b) {
    return a.entries == b.entries && a.first == b.first && a.count == b.count;
}

template <typename T, int E, int R, bool ALIGNED, bool MANY, bool RESIDUAL>
__global__ void __launch_bounds__(STEER_ROWS_THREADS)
    steer_rows(const __grid_constant__ steer_rows_args args) {
    extern __shared__ int4 shared[];
    const int groups = blockDim.y, group = threadIdx.y;
    const lane_info me = {(int)threadIdx.x,      (int)blockDim.x,       (int)blockDim.x / 32,
                          (int)threadIdx.x / 32, (int)threadIdx.x % 32, group + 1};
    const int64_t first = ((int64_t)blockIdx.x * groups + group) * R;
    if (first >= args.rows) return;
    const int count = (int)min((int64_t)R, args.rows - first);

    /* Everything that does not depend on something loaded is under way before the first use. */
    tile<T, E, R, RESIDUAL> rows;
    T *address[R];
    steer_row record[R] = {};
#pragma unroll
    for (int i = 0; i < R; i++) {
        int64_t row = first + (i < count ? i : 0);
        address[i] = (T *)args.hidden + row * args.hidden_stride;
        if (args.table) record[i] = load_row(args.table + row);
        load_part<T, E, ALIGNED>(rows.x[i], address[i], args.hidden_size, me);
        if (RESIDUAL)
            load_part<T, E, ALIGNED>(rows.r[RESIDUAL ? i : 0],
                                     (const T *)args.residual + row * args.residual_stride, args.hidden_size,
                                     me);
    }

    group_memory memory;
    char *base = (char *)shared + group * args.group_bytes;
    memory.partial_size = R * (MANY ? STEER_ROWS_DOTS : 1) * me.warps;
    memory.turn = 0;
    memory.partial = (float *)base;
    memory.p = memory.partial + 2 * memory.partial_size;
    memory.C = memory.p + R * args.vectors;
    memory.norm2 = memory.C + R * args.vectors;
    memory.stage = base + args.group_bytes - args.stage_bytes;

    bool same = count == R;
#pragma unroll
    for (int i = 1; i < R; i++) same = same && same_row(record[i], record[0]);
    if (same) {
        steer_entry entry = args.table ? load_entry(record[0], args.layer) : args.entry;
        steer_tile<T, E, R, ALIGNED, MANY, RESIDUAL>(rows, address, entry, args, memory, me);
        return;
    }
    if constexpr (R > 1) {
        /* Rows of several programs, or the last ones: one by one, each in turn moved to the first place. */
#pragma unroll 1
        for (int n = 0; n < count; n++) {
            tile<T, E, 1, RESIDUAL> one;
            one.x[0] = rows.x[0];
            one.r[0] = rows.r[0];
            T *const at[1] = {address[0]};
            steer_entry entry = args.table ? load_entry(record[0], args.layer) : args.entry;
            steer_tile<T, E, 1, ALIGNED, MANY, RESIDUAL>(one, at, entry, args, memory, me);
#pragma unroll
            for (int i = 0; i + 1 < R; i++) {
                rows.x[i] = rows.x[i + 1];
                if (RESIDUAL) rows.r[RESIDUAL ? i : 0] = rows.r[RESIDUAL ? i + 1 : 0];
                address[i] = address[i + 1];
                record[i] = record[i + 1];
            }
        }
    }
}

template <typename T, int E, int R, bool ALIGNED> steer_rows_kernel select_class(steer_rows_choice choice) {
    if (choice.residual)
        return choice.many ? steer_rows<T, E, R, ALIGNED, true, true>
                           : steer_rows<T, E, R, ALIGNED, false, true>;
    return choice.many ? steer_rows<T, E, R, ALIGNED, true, false>
                       : steer_rows<T, E, R, ALIGNED, false, false>;
}

/* Rare shapes have the general class only. */
template <typename T, int E, bool ALIGNED> steer_rows_kernel select_general(steer_rows_choice choice) {
    return choice.residual ? steer_rows<T, E, 1, ALIGNED, true, true>
                           : steer_rows<T, E, 1, ALIGNED, true, false>;
}

} // namespace

template <typename T> steer_rows_kernel steer_rows_select(steer_rows_choice choice) {
    if (choice.elements == 64) return select_general<T, 64, false>(choice);
    if (choice.elements == 32)
        return choice.aligned ? select_general<T, 32, true>(choice) : select_general<T, 32, false>(choice);
    if (!choice.aligned) return select_general<T, 16, false>(choice);
    return choice.tiled ? select_class<T, 16, STEER_ROWS_TILE, true>(choice)
                        : select_class<T, 16, 1, true>(choice);
}

#endif
#endif
