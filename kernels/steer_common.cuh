/* steer_common.cuh: what the steering kernels share: who holds which elements, sums in a fixed order, coefficients.
 *
 *     P_j = h.m_j; s = inv P + bias; c = min(max(gain s + offset, lo - s), hi - s) inv; h += u_coef u + sum of c_j m_j
 *
 * A row has 1/16 of the hidden size of threads, at most 1024 (f32: 512): a team. Each warp of it has a slice of 512 columns, in which
 * lane l has the 16-byte chunks l, l + 32, ...; what is beyond 16 elements a thread starts over with the first warp. All
 * arithmetic is explicit (nothing is left to contraction) and every sum has one order: a thread's elements, the lanes of a
 * warp as a butterfly, the warps in turn. A row's bits therefore depend on its values and its program alone, not on its
 * neighbours, the tile it is in, or the kernel that serves it. */
#ifndef STEER_KERNELS_STEER_COMMON_CUH
#define STEER_KERNELS_STEER_COMMON_CUH

#if defined(__CUDACC_RTC__) || defined(STEER_EMULATED)
#include "backend/image.h"
#include "element.cuh"
#else
#include "cuda.cuh"
#endif
#include "ptx.cuh"
#include "steer_baked.cuh"

enum {
    STEER_BLOCK_THREADS = 512,  /* most threads of a block but a wide one */
    STEER_WIDE_THREADS = 1024,  /* of that, and of a team */
    STEER_PORTABLE_CLUSTER = 8, /* most blocks of a cluster on every device that has clusters */
    STEER_EIGHT_THREADS = 256,  /* most threads of one whose registers hold eight vectors */
    STEER_MMA_ROWS = 16,        /* of a product on tensor cores */
    STEER_MMA_GROUP = 8,        /* vectors of one */
    STEER_MMA_STEP = 64,        /* columns that a warp works on together */
    STEER_MMA_ROOM = 32,        /* most vectors that a slot of shared memory has room for */
    STEER_MMA_THREADS = 256,    /* most of a block, twice as many of a large one */
    STEER_MMA_PARTS = 16,       /* of the columns, each with sums of its own; a warp has one or two */
    STEER_MMA_HALF = 8,         /* parts whose sums are added up together */
    STEER_MMA_SPLIT = 2048, /* hidden size from which there are so many; below, a warp of a block has one */
    STEER_MMA_LONG = 8192,  /* hidden size from which those for eight vectors are large: fewer rows in work */
    STEER_MMA_PROGRAM = 208, /* bytes of what a warp knows of a program */
};

/* Threads of a team: a 1/16 of the hidden size, to a power of two, from a warp on. */
__host__ __device__ constexpr int steer_team_of(int64_t hidden, int most) {
    int threads = 32;
    while (threads < most && threads * 16 < hidden) threads *= 2;
    return threads;
}

/* general kernel: most vectors whose dots are taken together, as registers allow: 16-bit rows have wide blocks. */
template <typename T> __host__ __device__ constexpr int general_dots() { return sizeof(T) == 2 ? 4 : 8; }

/* Bytes of a slot of the mma kernel: a step of 16-bit rows and of f32 vectors. */
constexpr int steer_mma_slot_bytes(int vectors) {
    return (STEER_MMA_ROWS * 2 + vectors * 4) * STEER_MMA_STEP;
}

/* Whether blocks of the mma kernel with room for so many vectors share a multiprocessor. Then runs that begin within tiles have
 * blocks of their own, so that none waits for another; blocks that would come after the others gain nothing. */
__host__ __device__ constexpr bool steer_mma_shares(int vectors) { return vectors <= STEER_MMA_GROUP; }

/* Vectors that have room in registers, of those that a program may have; slots in shared memory of the others and the folded
 * adds. */
__host__ __device__ constexpr int steer_register_vectors(int vectors) { return vectors == 6 ? 4 : vectors; }
__host__ __device__ constexpr int steer_vector_slots(int vectors) {
    return vectors == 0 ? 0 : vectors - steer_register_vectors(vectors) + 1;
}

/* Places of a row's sums: a power of two. */
__host__ __device__ constexpr int steer_sums_room(int vectors) {
    return vectors > 4 ? 8 : vectors > 2 ? 4 : vectors > 1 ? 2 : 1;
}

/* Threads of a block of the fast kernels at most: eight vectors take the registers of two. */
__host__ __device__ constexpr int steer_most_threads(int vectors) {
    return vectors > STEER_REGISTER_VECTORS ? STEER_EIGHT_THREADS : STEER_BLOCK_THREADS;
}

/* A wide block is a team of any number of warps more than eight, whose rows of 16 bits have one vector: 64 registers a thread.
 * Where a team is larger than another block, each of its threads stands for two of the team. */

/* Blocks of so many threads (or four times as many of a quarter) that a multiprocessor must hold: what registers suffice for. */
constexpr int steer_blocks_for(int element_bytes, int elements, int vectors, bool residual) {
    return elements > 16 || vectors > 1 || residual || element_bytes > 2 ? 1 : 2;
}

/* Whether a tile's rows are in shared memory: four have no room in registers beside more than two vectors. */
__host__ __device__ constexpr bool steer_tile_has_slots(int rows, int vectors) {
    return rows > 2 && vectors > 2;
}

/* Stream kernel: rows of a step, and rows that are in shared memory at once. */
__host__ __device__ constexpr int steer_stream_rows(int vectors) { return vectors > 1 ? 2 : 1; }
__host__ __device__ constexpr int steer_stream_ring(int vectors) {
    return vectors > 5 ? 7 : vectors > 1 ? 8 : 4;
}

/* What a launch passes to a kernel. */
struct steer_rows_args {
    void *hidden;
    const void *residual;
    int64_t hidden_stride;
    int64_t residual_stride;
    int64_t rows;
    const steer_row *table; /* NULL: every row has `entry` */
    const uint32_t *inner;  /* with it: where runs begin within tiles */
    int32_t hidden_size;
    int32_t layer;
    int32_t turns;         /* rows or tiles that a block works through one after the other */
    int32_t vectors;       /* general, mma: room for dots in shared memory */
    int32_t stage_bytes;   /* tile, general, mma: room for a program image in shared memory */
    int32_t stage_at;      /* general: where in shared memory it starts */
    int32_t residual_away; /* general: 1 if the residual has no room in shared memory */
    int32_t tile;          /* mma: rows worked on together, at most STEER_MMA_ROWS */
    int32_t team;          /* threads that share rows; but of many */
    int32_t tile_bytes;    /* tile: shared memory of a team */
    uint32_t blocks;       /* tile: those that have tiles; those behind have what begins within tiles */
    int32_t replayed;      /* tile: 1 if there may be more of that than when they were counted */
    int32_t parts;         /* mma: of the columns, STEER_MMA_PARTS or fewer */
    int32_t each;          /* mma: parts of a warp */
    int32_t steps;         /* mma: of STEER_MMA_STEP columns of a part */
    int32_t slots;         /* mma: of a warp */
    uint32_t upper_mask;   /* mma: bits of a number's upper part */
    struct {
        int32_t norms, C, p, norm2, changed, programs, stage, slots;
    } at; /* mma: offsets in shared memory */
    steer_entry entry;
};

typedef void (*steer_rows_kernel)(const steer_rows_args);

enum steer_rows_family { STEER_ROWS_TILE, STEER_ROWS_STREAM, STEER_ROWS_GENERAL, STEER_ROWS_MMA };

struct steer_rows_variant {
    steer_rows_family family;
    int elements; /* tile: per thread and row, 16 or 32; mma: 32 where mma's blocks are large */
    int tile;     /* rows worked on together: tile 1, 2 or 4, stream 1 or 2, general 1 or 4, many 1 to 16 */
    int vectors; /* tile, stream: 0 (one a program, folded adds or projecting), else with adds beside 1 to 6 or 8;
                    mma: what a slot has room for */
    bool aligned; /* rows are multiples of 16 bytes */
    bool adds;    /* tile of 2: programs are folded adds alone */
    bool residual;
    bool wide; /* tile, stream: blocks are */
};

template <typename T> steer_rows_kernel steer_rows_tile(steer_rows_variant variant);   /* steer_tile.cuh */
template <typename T> steer_rows_kernel steer_rows_stream(steer_rows_variant variant); /* steer_stream.cuh */
template <typename T>
steer_rows_kernel steer_rows_general(steer_rows_variant variant);                   /* steer_general.cuh */
template <typename T> steer_rows_kernel steer_rows_mma(steer_rows_variant variant); /* steer_mma.cuh */

#ifndef __CUDACC_RTC__

/* All that a launch is. */
struct steer_launch_config {
    steer_rows_variant variant;
    steer_rows_args args;
    int64_t blocks; /* more than INT32_MAX are beyond one launch */
    int threads;
    int64_t shared; /* bytes, which may be more than the device has */
    int cluster;    /* blocks of one */
};

struct steer_situation; /* steer_config.cuh */

/* A kernel and the launches that it serves: a row of the table in steer_config.cuh. */
struct steer_family {
    steer_rows_family family;
    const char *name;
    bool (*serves)(const steer_situation &s);
    void (*configure)(steer_launch_config *config,
                      const steer_situation &s); /* with `variant` and `args` begun */
    steer_rows_kernel (*kernel)(steer_dtype dtype, const steer_rows_variant &variant);
    const char *source; /* of its specialised kernels; NULL: tensor cores take the time */
    const char *why;
};

#endif
#if !defined(__CUDACC_RTC__) && !defined(STEER_EMULATED)

/* Plans the kernel of a launch for programs with such needs; UNSUPPORTED where the device cannot run it. */
int steer_cuda_configure_rows(steer_launch_config *config, const steer_family **family,
                              const steer_launch *launch, const steer_needs *needs,
                              const steer_cuda_device *gpu);
/* Launches a kernel as planned. */
int steer_cuda_launch_configured(steer_cuda_device *gpu, steer_rows_kernel kernel,
                                 const steer_launch_config &config);

/* steer_block.cu: serves the rows of a launch whose programs have blocks. */
int steer_cuda_steer_blocks(steer_cuda_device *gpu, const steer_launch *launch);

/* Launches a steering kernel, which may start before the kernel ahead of it has ended. cluster: blocks of one, 1 for none. */
template <typename Args>
int steer_cuda_launch_rows(steer_cuda_device *gpu, void (*kernel)(const Args), const Args &args,
                           unsigned blocks, int threads, int shared, int cluster) {
    if (shared > 48 * 1024 || cluster > STEER_PORTABLE_CLUSTER)
        STEER_CUDA_CHECK(steer_cuda_allow_most((const void *)kernel, gpu));
    cudaLaunchAttribute attributes[3] = {};
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim = {(unsigned)cluster, 1, 1};
    attributes[2].id = cudaLaunchAttributeClusterSchedulingPolicyPreference; /* several on a multiprocessor */
    attributes[2].val.clusterSchedulingPolicyPreference = cudaClusterSchedulingPolicyLoadBalancing;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = (size_t)shared;
    config.stream = steer_cuda_stream(gpu);
    config.attrs = attributes;
    config.numAttrs = gpu->compute_major < 9 ? 0 : cluster > 2 ? 3 : cluster > 1 ? 2 : 1;
    STEER_CUDA_TRY(cudaLaunchKernelEx(&config, kernel, args));
    return STEER_OK;
}

#endif

#ifdef STEER_KERNEL_IMPLEMENTATION

namespace {

/* ---- Who ----------------------------------------------------------------------------------------------------- */

/* A thread in its team: those that share rows. */
struct lane_info {
    int thread;
    int threads; /* of the team */
    int warps;
    int warp, lane;
    int team, teams; /* of the block */
    int parts; /* of a sum that a warp leaves, where a team may have more than 16; else 0. Known when it is compiled */
};

/* Where a block is one team. */
__device__ __forceinline__ lane_info who(int thread) {
    const int threads = baked_threads((int)blockDim.x);
    return {thread, threads, threads / 32, thread / 32, thread % 32, 0, 1};
}
__device__ __forceinline__ lane_info who_of_long(int thread, int parts) {
    lane_info me = who(thread);
    me.parts = parts;
    return me;
}
__device__ __forceinline__ lane_info who() { return who((int)threadIdx.x); }

/* Where teams have `given` threads, a power of two. */
__device__ __forceinline__ lane_info who_in_team(int thread, int given) {
    const int threads = baked_threads(given), shift = __ffs(threads) - 1, own = thread & (threads - 1);
    return {own, threads, threads / 32, own / 32, own % 32, thread >> shift, (int)blockDim.x >> shift};
}

/* ---- Tables -------------------------------------------------------------------------------------------------- */

__device__ __forceinline__ steer_row load_row(const steer_row *row) {
    int4 words = __ldg((const int4 *)row);
    return *(const steer_row *)&words;
}

__device__ __forceinline__ steer_entry load_entry(const steer_row &row, int layer) {
    int4 words[sizeof(steer_entry) / 16] = {};
    int at = layer - row.first;
    if (at >= 0 && at < row.count) {
        const int4 *from = (const int4 *)(row.entries + (uint64_t)at * sizeof(steer_entry));
#pragma unroll
        for (int i = 0; i < (int)(sizeof(steer_entry) / 16); i++) words[i] = __ldg(from + i);
    }
    return baked_entry(*(const steer_entry *)words);
}

/* The entry of a row for kernels of few vectors: of 16-bit rows the program is another kernel's where it has many. */
template <typename T>
__device__ __forceinline__ steer_entry load_register_entry(const steer_row &row, int layer) {
    steer_entry entry = load_entry(row, layer);
    if (sizeof(T) == 2 && !steer_fits_registers(entry.vectors, entry.norm)) {
        entry.u = 0;
        entry.vectors = entry.image_bytes = 0;
    }
    return entry;
}

/* ---- Elements ------------------------------------------------------------------------------------------------ */

/* Elements of a 16-byte chunk. */
template <typename T> struct chunk_of { static constexpr int N = 16 / (int)sizeof(T); };

/* First column of a thread's chunk c. */
template <typename T> __device__ __forceinline__ int chunk_base(const lane_info &me, int c) {
    constexpr int N = chunk_of<T>::N, CHUNKS = 16 / N;
    return (c / CHUNKS * me.threads + me.warp * 32) * 16 + (c % CHUNKS * 32 + me.lane) * N;
}

/* Chunks come by value: 16 bytes are read at once, wherever they lie. */
template <typename T>
__device__ __forceinline__ void widen_as(float (&out)[chunk_of<T>::N], const uint4 chunk, T) {
#pragma unroll
    for (int i = 0; i < chunk_of<T>::N; i++) out[i] = steer_to_f32(((const T *)&chunk)[i]);
}
/* The upper element of a pair is its word without the lower one: an instruction an element. */
__device__ __forceinline__ void widen_as(float (&out)[8], const uint4 chunk, steer_bf16) {
    const uint32_t words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out[2 * i] = __uint_as_float(words[i] << 16);
        out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}
template <typename T> __device__ __forceinline__ void widen(float (&out)[chunk_of<T>::N], const uint4 chunk) {
    widen_as(out, chunk, T());
}

/* The same of delta + residual. */
template <typename T>
__device__ __forceinline__ void widen_sum(float (&out)[chunk_of<T>::N], const uint4 delta,
                                          const uint4 residual) {
    float more[chunk_of<T>::N];
    widen<T>(out, delta);
    widen<T>(more, residual);
#pragma unroll
    for (int i = 0; i < chunk_of<T>::N; i++) out[i] = __fadd_rn(out[i], more[i]);
}

template <typename T> __device__ __forceinline__ uint4 narrow(const float (&x)[chunk_of<T>::N]) {
    uint4 chunk;
#pragma unroll
    for (int i = 0; i < chunk_of<T>::N; i++) ((T *)&chunk)[i] = steer_from_f32<T>(x[i]);
    return chunk;
}

/* Elements that may lie unaligned, and zeros from `left` on. */
template <typename T> __device__ __forceinline__ uint4 load_elements(const T *from, int left) {
    uint4 chunk = make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < chunk_of<T>::N; i++)
        if (i < left) ((T *)&chunk)[i] = from[i];
    return chunk;
}

/* Stores a row's chunk from column `base` as far as the row goes. */
template <typename T, bool ALIGNED>
__device__ __forceinline__ void store_chunk(T *row, int base, int hidden, const float (&x)[chunk_of<T>::N]) {
    uint4 chunk = narrow<T>(x);
    if constexpr (ALIGNED) {
        if (base < hidden) *(uint4 *)(row + base) = chunk;
    } else {
#pragma unroll
        for (int i = 0; i < chunk_of<T>::N; i++)
            if (base + i < hidden) row[base + i] = ((const T *)&chunk)[i];
    }
}

template <int N> __device__ __forceinline__ void put_four(float (&v)[N], int i, const float4 &four) {
    v[i] = four.x;
    v[i + 1] = four.y;
    v[i + 2] = four.z;
    v[i + 3] = four.w;
}

/* N elements of a vector from `base`; elements beyond the hidden size are 0. */
template <int N, bool ALIGNED>
__device__ __forceinline__ void load_vector(float (&v)[N], uint64_t address, int base, int hidden) {
    const float *m = (const float *)address + base;
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        float4 four = make_float4(0, 0, 0, 0);
        if (base + i + 4 <= hidden) {
            four = __ldg((const float4 *)(m + i));
        } else if (!ALIGNED) {
            if (base + i < hidden) four.x = __ldg(m + i);
            if (base + i + 1 < hidden) four.y = __ldg(m + i + 1);
            if (base + i + 2 < hidden) four.z = __ldg(m + i + 2);
        }
        put_four(v, i, four);
    }
}

template <int N>
__device__ __forceinline__ float dot_on(float sum, const float (&x)[N], const float (&v)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) sum = __fmaf_rn(x[i], v[i], sum);
    return sum;
}

template <int N> __device__ __forceinline__ void axpy(float (&y)[N], float a, const float (&v)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) y[i] = __fmaf_rn(a, v[i], y[i]);
}

/* ---- Sums ---------------------------------------------------------------------------------------------------- */

/* Halves N values to one: lanes with `bit` set keep the upper half, the others the lower, each with its partner's. */
template <int N> __device__ __forceinline__ void fold(float *v, int lane, int bit) {
    if constexpr (N > 1) {
        const bool upper = lane & bit;
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const float send = upper ? v[i] : v[i + N / 2], keep = upper ? v[i + N / 2] : v[i];
            v[i] = __fadd_rn(keep, __shfl_xor_sync(0xffffffffu, send, bit));
        }
        fold<N / 2>(v, lane, bit / 2);
    }
}

/* Sums M values (a power of two, at most 32) over the lanes, all in the same butterfly order: lane l is left with the
 * sum of value l / (32 / M). */
template <int M> __device__ __forceinline__ float warp_sum(float (&v)[M], int lane) {
    fold<M>(v, lane, 16);
#pragma unroll
    for (int bit = 16 / M; bit >= 1; bit /= 2)
        v[0] = __fadd_rn(v[0], __shfl_xor_sync(0xffffffffu, v[0], bit));
    return v[0];
}

/* Leaves each warp's part of M sums in `partial` [M][block_stride]; block_get adds the warps in turn after a barrier. */
__device__ __forceinline__ int block_stride(const lane_info &me) {
    if (me.parts) return STEER_WIDE_THREADS / 32;
    return me.warps < 4 ? 4 : me.warps;
}

template <int M>
__device__ __forceinline__ void block_put(float *partial, float (&v)[M], const lane_info &me) {
    float sum = warp_sum<M>(v, me.lane);
    if (me.lane % (32 / M) == 0) partial[me.lane / (32 / M) * block_stride(me) + me.warp] = sum;
}

__device__ __forceinline__ float add_four(float sum, const float4 &four) {
    return __fadd_rn(__fadd_rn(__fadd_rn(__fadd_rn(sum, four.x), four.y), four.z), four.w);
}

__device__ __forceinline__ float block_get(const float *partial, int m, const lane_info &me) {
    const float4 *four = (const float4 *)(partial + m * block_stride(me));
    if (me.parts) {
        const int all = me.parts * me.warps, fours = all / 4, left = all % 4;
        float sum = 0;
#pragma unroll 2
        for (int i = 0; i < fours; i++) sum = add_four(sum, four[i]);
        if (left > 0) sum = __fadd_rn(sum, four[fours].x);
        if (left > 1) sum = __fadd_rn(sum, four[fours].y);
        if (left > 2) sum = __fadd_rn(sum, four[fours].z);
        return sum;
    }
    if (me.warps < 4) return me.warps == 1 ? four[0].x : __fadd_rn(four[0].x, four[0].y);
    float sum = add_four(0, four[0]);
    if (me.warps > 4) sum = add_four(sum, four[1]);
    if (me.warps > 8) sum = add_four(add_four(sum, four[2]), four[3]);
    return sum;
}

} // namespace

#endif
#endif
