/* steer_mma_pipeline.cuh: what the kernel of many vectors works with: a block and its program, products on tensor cores, and the
 * slots of shared memory that a warp copies rows and vectors to.
 *
 * A warp has neighbouring columns, in steps of 64: what a line of the cache has. Rows and vectors of a step are copied to a
 * slot that is the warp's own, steps ahead of their use. */
#ifndef STEER_KERNELS_STEER_MMA_PIPELINE_CUH
#define STEER_KERNELS_STEER_MMA_PIPELINE_CUH

#include "steer_solve.cuh"

#ifdef STEER_KERNEL_IMPLEMENTATION

namespace {

/* ---- A block ------------------------------------------------------------------------------------------------- */

/* A program in force, its vectors those of the image and then the folded adds. Each warp has it in shared memory for
 * itself, so that turning to another takes no barrier. */
struct mma_program {
    steer_entry entry;
    uint64_t entries; /* of the rows that have it */
    program_parts parts;
    int vectors;                    /* with the folded adds */
    int chunks;                     /* of as many vectors as a slot has room for */
    const uint64_t *listed;         /* addresses of the image's vectors, on chip if they are few */
    alignas(16) uint32_t within[4]; /* runs that begin within tiles: four of the list's numbers */
};
static_assert(sizeof(mma_program) <= STEER_MMA_PROGRAM, "as the host lays it out");
static_assert(STEER_VECTOR_STEP % STEER_MMA_STEP == 0, "vectors are padded for the last step");

struct mma_state {
    const steer_rows_args &args;
    char *shared;
    int64_t first; /* the run's first row, of `rows` with one program */
    int rows;

    __device__ __forceinline__ int warp() const { return (int)threadIdx.x / 32; }
    __device__ __forceinline__ int lane() const { return (int)threadIdx.x % 32; }
    __device__ __forceinline__ int group() const { return lane() / 4; } /* lane = 4 group + place */
    __device__ __forceinline__ int place() const { return lane() % 4; }

    __device__ __forceinline__ float *partial() const { return (float *)shared; }
    __device__ __forceinline__ float *norms() const { return (float *)(shared + args.at.norms); }
    __device__ __forceinline__ char *stage() const { return shared + args.at.stage; }
    __device__ __forceinline__ mma_program *program() const {
        return (mma_program *)(shared + args.at.programs + warp() * STEER_MMA_PROGRAM);
    }
    __device__ __forceinline__ solve_state solved() const {
        return {(float *)(shared + args.at.p), (float *)(shared + args.at.C),
                (float *)(shared + args.at.norm2), (int *)(shared + args.at.changed), args.vectors};
    }
    /* The warp's first part of the columns, its first column and its steps. */
    __device__ __forceinline__ int part() const { return warp() * args.each; }
    __device__ __forceinline__ int column() const { return part() * args.steps * STEER_MMA_STEP; }
    __device__ __forceinline__ int steps() const {
        const int all = (args.hidden_size + STEER_MMA_STEP - 1) / STEER_MMA_STEP;
        return max(0, min(args.each * args.steps, all - part() * args.steps));
    }
};

/* Products that take so many vectors. */
__device__ __forceinline__ int mma_groups(int vectors) {
    return (vectors + STEER_MMA_GROUP - 1) / STEER_MMA_GROUP;
}

/* Where in C the coefficient of vector j in a row is: four of a lane's operands of a product lie together. */
__device__ __forceinline__ int mma_index(int row, int j) {
    return (j / 8 * 32 + row % 8 * 4 + j % 4) * 4 + row / 8 + j % 8 / 4 * 2;
}

/* ---- Tensor cores -------------------------------------------------------------------------------------------- */

/* The upper part of a number, exact in TF32; the rest of it is the lower one. */
__device__ __forceinline__ float upper_part(float x) {
    return __uint_as_float(__float_as_uint(x) & 0xffffe000u);
}
__device__ __forceinline__ float lower_part(float x) { return __fsub_rn(x, upper_part(x)); }

/* ---- Slots --------------------------------------------------------------------------------------------------- */

/* Chunks of 16 bytes lie in an order that spreads every way of reading them over all banks. A slot has [16 rows] of 128
 * bytes, then [vectors] of 256. */
enum { MMA_VECTORS_AT = STEER_MMA_ROWS * 128 };
__device__ __forceinline__ int mma_row_at(int row, int chunk) {
    return row * 128 + (chunk ^ (row & 1) * 4) * 16;
}
__device__ __forceinline__ int mma_vector_at(int vector, int chunk) {
    return vector * 256 + (chunk ^ ((vector & 3) << 1 | (vector & 1))) * 16;
}

/* What a lane knows of its warp's slots. A slot has the rows and vectors of a step, and zeros for vectors that there are
 * not; nobody cares what it has for rows that there are not. What is copied next is found from what was copied last: a copy
 * holds on to the registers of its address until it is under way, so they are changed as late as can be. */
template <typename T, bool ALIGNED, int GROUPS> struct mma_slots {
    enum { BYTES = steer_mma_slot_bytes(GROUPS * STEER_MMA_GROUP) };
    char *at; /* the first */
    /* The lane copies chunk lane % 8 of rows lane / 8, 4 more and so on, */
    const char *row; /* of the first of them, in the step that was copied last */
    int64_t four_rows;
    int rows, steps; /* rows that there are from that one on, and steps in which there is the chunk */
    /* and of both halves of a step chunk lane % 8 of vectors lane / 8, 4 more and so on. */
    const char *vector[2 * GROUPS];
    int vector_bytes[2 * GROUPS]; /* 16, or 0 without a vector */

    __device__ __forceinline__ mma_slots(const mma_state &s) {
        at = s.shared + s.args.at.slots + s.warp() * s.args.slots * BYTES;
    }
    /* Turns to the rows of a run, of the hidden states or the residual; the next step is the first. */
    __device__ __forceinline__ void take_rows(const mma_state &s, const void *data, int64_t stride) {
        const int first = s.lane() / 8, base = s.column() + s.lane() % 8 * 8;
        rows = s.rows - first;
        steps = max(0, (s.args.hidden_size - base + STEER_MMA_STEP - 1) / STEER_MMA_STEP);
        four_rows = 4 * stride * (int64_t)sizeof(T);
        row = (const char *)((const T *)data + (s.first + (rows > 0 ? first : 0)) * stride + base -
                             STEER_MMA_STEP);
    }
    /* Turns to the j-th and later vectors of a program, whose addresses are at `listed`; the next step is `step`. */
    __device__ __forceinline__ void take_vectors(const mma_state &s, const mma_program &program,
                                                 const uint64_t *listed, int j, int step) {
#pragma unroll
        for (int i = 0; i < 2 * GROUPS; i++) {
            const int k = j + 4 * i + s.lane() / 8;
            const uint64_t address = k < program.parts.vectors ? listed[k]
                                     : k < program.vectors     ? program.entry.u
                                                               : 0;
            vector[i] = (const char *)((const float *)(address ? address : (uint64_t)s.args.hidden) +
                                       s.column() + s.lane() % 8 * 4 + (step - 1) * STEER_MMA_STEP);
            vector_bytes[i] = address ? 16 : 0;
        }
    }
    __device__ __forceinline__ void move_rows(int count) { row += count * STEER_MMA_STEP * (int)sizeof(T); }
    __device__ __forceinline__ void move_vectors(int count) {
#pragma unroll
        for (int i = 0; i < 2 * GROUPS; i++) vector[i] += count * STEER_MMA_STEP * 4;
    }

    /* Starts copying to a slot, or to where its vectors are, what is BY steps from the last. */
    template <int BY> __device__ __forceinline__ void copy_vectors(const mma_state &s, char *vectors) {
        char *to = vectors + mma_vector_at(s.lane() / 8, s.lane() % 8);
        move_vectors(BY);
#pragma unroll
        for (int i = 0; i < 2 * GROUPS; i++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                copy_or_zero(to + i * 1024 + half * 128, vector[i] + half * 128, vector_bytes[i]);
    }
    template <int BY> __device__ __forceinline__ void copy_rows(const mma_state &s, char *slot, int step) {
        char *to = slot + mma_row_at(s.lane() / 8, s.lane() % 8);
        move_rows(BY);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (4 * i >= s.rows) break;
            const char *from = row + i * four_rows;
            const bool there = step < steps && 4 * i < rows;
            if constexpr (ALIGNED) {
                copy_or_zero(to + i * 512, there ? from : row, there ? 16 : 0);
            } else {
                const int left = s.args.hidden_size - s.column() - step * STEER_MMA_STEP - s.lane() % 8 * 8;
                *(uint4 *)(to + i * 512) = load_elements((const T *)from, there ? left : 0);
            }
        }
    }
};

/* A lane's chunks of its rows, one or two, in a half of a step. */
template <int ROWS>
__device__ __forceinline__ void mma_words(uint4 (&words)[ROWS], const mma_state &s, const char *slot,
                                          int half) {
    const char *from = slot + mma_row_at(s.group(), 4 * half + s.place());
#pragma unroll
    for (int i = 0; i < ROWS; i++) words[i] = *(const uint4 *)(from + i * 1024);
}

/* Waits until at most `pending` groups of copies are on their way, or fewer. */
__device__ __forceinline__ void mma_wait(int pending) {
    if (pending >= 4)
        copies_wait<4>();
    else if (pending >= 2)
        copies_wait<2>();
    else if (pending == 1)
        copies_wait<1>();
    else
        copies_wait<0>();
    __syncwarp();
}

} // namespace

#endif
#endif
