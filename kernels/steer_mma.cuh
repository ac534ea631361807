/* steer_mma.cuh: the kernel of f16 and bf16 rows whose programs have many vectors, or a cosine, on tensor cores.
 *
 *     P = H M (TF32, 16 rows x 8 vectors a product); C = solve(P); H += u_coef u + C M
 *
 * A vector's f32 elements are the sum of two TF32 parts, up to 2^-21 of their size; hidden states are TF32 numbers as they are; C is
 * split like the vectors, and the product of the two lower parts left out. Sums are in f32.
 *
 * Threads: a block has tiles of up to 16 rows, `turns` of them one after the other. The columns are split into 16 parts (split K; below
 * hidden size 2048 fewer), of which a warp has one or two neighbouring ones, in steps of 64 columns. Lane 4g + t takes rows g and g + 8
 * from a slot (steer_mma_pipeline.cuh), of each half of a step the columns from 8t, and for the dots the same columns of vector g: as the order
 * of columns within a product is free, these are operands as they are. For the update it takes vectors t and t + 4, columns from 4g.
 *
 * The loop is in mma_runs, over runs of rows with one program; for each, mma_block's run(): mma_dots over the steps, a barrier, the
 * parts added up and solved, mma_update over the steps in reverse, so that it begins with what the slots still hold, and ends with the
 * vectors that the next rows begin with. Slots are filled ahead by cp.async, a warp's own by itself: multiple buffering without barriers.
 *
 * The order of a sum depends on the hidden size alone: it is one of parts of the columns, whatever number of them a warp has.
 * Loops are short on purpose: unrolled, they wait for instructions. */
#ifndef STEER_KERNELS_STEER_MMA_CUH
#define STEER_KERNELS_STEER_MMA_CUH

#include "steer_mma_pipeline.cuh"

#ifdef STEER_KERNEL_IMPLEMENTATION

namespace {

/* ---- Dots ---------------------------------------------------------------------------------------------------- */

enum { MMA_SUMS = STEER_MMA_ROWS * STEER_MMA_GROUP }; /* of a product */

/* Sums of a part's columns: of products with the upper and with the lower parts of the vectors. */
template <int GROUPS> struct mma_sums {
    float d[GROUPS][2][4] = {};
};

/* += the columns of a step of the rows times its vectors, in `groups` of eight. */
template <typename T, int GROUPS, int ROWS>
__device__ __forceinline__ void mma_step_dots(mma_sums<GROUPS> &sums, const mma_state &s, const char *slot,
                                              int groups) {
    const char *const vectors = slot + MMA_VECTORS_AT;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int at = mma_vector_at(s.group(), 2 * s.place()) + half * 128;
        float h[2][8] = {};
        uint4 words[ROWS];
        mma_words<ROWS>(words, s, slot, half);
#pragma unroll
        for (int i = 0; i < ROWS; i++) widen<T>(h[i], words[i]);
        const float(&x)[8] = h[0], (&y)[8] = h[1];
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            if (g > 0 && g >= groups) break;
            float(&d)[2][4] = sums.d[g];
#pragma unroll
            for (int k = 0; k < 8; k += 4) {
                const float4 v = *(const float4 *)(vectors + (k ? at ^ 16 : at) + g * 2048);
                const float a[4] = {x[k], y[k], x[k + 1], y[k + 1]};
                const float b[4] = {x[k + 2], y[k + 2], x[k + 3], y[k + 3]};
                multiply(d[0], a, upper_part(v.x), upper_part(v.y), d[0]);
                multiply(d[1], a, lower_part(v.x), lower_part(v.y), d[1]);
                multiply(d[0], b, upper_part(v.z), upper_part(v.w), d[0]);
                multiply(d[1], b, lower_part(v.z), lower_part(v.w), d[1]);
            }
        }
    }
}

/* Leaves a part's sums at `to_part`, each group's behind those of all parts of the one before, or adds them to what is there. */
template <int GROUPS, int ROWS>
__device__ __forceinline__ void mma_put(const mma_sums<GROUPS> &sums, const mma_state &s, float *to_part,
                                        int groups, bool add) {
    const int apart = s.args.parts * MMA_SUMS;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        if (g > 0 && g >= groups) break;
        const float(&d)[2][4] = sums.d[g];
        float2 *to = (float2 *)(to_part + g * apart) + s.lane();
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const float2 before = add ? to[32 * i] : make_float2(0, 0);
            to[32 * i] = make_float2(__fadd_rn(before.x, __fadd_rn(d[0][2 * i], d[1][2 * i])),
                                     __fadd_rn(before.y, __fadd_rn(d[0][2 * i + 1], d[1][2 * i + 1])));
        }
    }
}

/* Puts the sums of all the warp's columns of the rows that `slots` has turned to, and of the vectors from the j-th; `add`: to
 * those of the residual. held: the slots have the vectors of the first steps. */
template <typename T, bool ALIGNED, int GROUPS, int ROWS>
__device__ __forceinline__ void mma_pass(const mma_state &s, mma_slots<T, ALIGNED, GROUPS> &slots, int j,
                                         int groups, bool held, bool add) {
    const int steps = s.steps(), ahead = min(s.args.slots, steps);
    char *slot = slots.at;
    for (int step = 0; step < ahead; step++, slot += slots.BYTES) {
        if (!held) slots.template copy_vectors<1>(s, slot + MMA_VECTORS_AT);
        slots.template copy_rows<1>(s, slot, step);
        copies_commit();
    }
    bool others = j > 0 && !add; /* sums before these, which somebody may still read */
    slot = slots.at;
    for (int step = 0, to = 0, part = s.part(); step < steps; part++) {
        mma_sums<GROUPS> sums;
#pragma unroll 1
        for (const int end = min(step + s.args.steps, steps); step < end; step++) {
            mma_wait(min(ahead, steps - step) - 1);
            mma_step_dots<T, GROUPS, ROWS>(sums, s, slot, groups);
            if (step + ahead < steps) {
                __syncwarp(); /* all lanes have used the slot */
                slots.template copy_vectors<1>(s, slot + MMA_VECTORS_AT);
                slots.template copy_rows<1>(s, slot, step + ahead);
                copies_commit();
            }
            to = to + 1 == ahead ? 0 : to + 1;
            slot = slots.at + to * slots.BYTES;
        }
        if (others) __syncthreads();
        others = false;
        mma_put<GROUPS, ROWS>(sums, s, s.partial() + part * MMA_SUMS, groups, add);
    }
    if (others) __syncthreads(); /* a warp without columns waits all the same */
    __syncwarp();
}

/* Eight columns of a row from `base` as its program sees them, zeros where there is nothing. */
template <typename T, bool ALIGNED>
__device__ __forceinline__ void mma_chunk(float (&h)[8], const mma_state &s, int row, int base) {
    const steer_rows_args &args = s.args;
    const auto load = [&](const void *rows, int64_t stride) {
        if (row >= s.rows || base >= args.hidden_size) return make_uint4(0, 0, 0, 0);
        const T *from = (const T *)rows + (s.first + row) * stride + base;
        return ALIGNED ? load_now(from) : load_elements(from, args.hidden_size - base);
    };
    const uint4 delta = load(args.hidden, args.hidden_stride);
    if (args.residual)
        widen_sum<T>(h, delta, load(args.residual, args.residual_stride));
    else
        widen<T>(h, delta);
}

/* h.h of the rows over the parts of this warp, from where they lie. */
template <typename T, bool ALIGNED> __device__ __forceinline__ void mma_norms(const mma_state &s) {
    for (int half = 0; half < 2; half++) {
        const int row = s.group() + half * 8;
        for (int part = s.part(), step = 0; step < s.steps(); part++, step += s.args.steps) {
            float sum = 0;
            for (int i = 2 * step; i < 2 * min(step + s.args.steps, s.steps()); i++) {
                float h[8];
                mma_chunk<T, ALIGNED>(h, s, row, s.column() + i * STEER_MMA_STEP / 2 + s.place() * 8);
                sum = dot_on<8>(sum, h, h);
            }
            sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, 1));
            sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, 2));
            if (s.place() == 0) s.norms()[part * STEER_MMA_ROWS + row] = sum;
        }
    }
}

/* Parts in turn. */
__device__ __forceinline__ float mma_sum_of(const float *partial, int step, int parts) {
    float sum = 0;
#pragma unroll 4
    for (int part = 0; part < parts; part++) sum = __fadd_rn(sum, partial[part * step]);
    return sum;
}
/* The sum of all parts: of those of the first half and those of the second. */
__device__ __forceinline__ float mma_sum(const float *partial, int step, int parts) {
    const int first = min(parts, (int)STEER_MMA_HALF);
    return __fadd_rn(mma_sum_of(partial, step, first),
                     mma_sum_of(partial + first * step, step, parts - first));
}

/* Adds up the dots with `count` vectors from the j-th. */
__device__ __forceinline__ void mma_take(const mma_state &s, int j, int count) {
    constexpr int TILE = MMA_SUMS;
    for (int i = (int)threadIdx.x; i / TILE * STEER_MMA_GROUP < count; i += (int)blockDim.x) {
        const int row = i % TILE / STEER_MMA_GROUP, vector = i / TILE * STEER_MMA_GROUP + i % STEER_MMA_GROUP;
        if (row < s.rows && vector < count)
            s.solved().p[row * s.args.vectors + j + vector] =
                mma_sum(s.partial() + i / TILE * s.args.parts * TILE + i % TILE, TILE, s.args.parts);
    }
}

/* Dots with all vectors and the norms. Of a program of one chunk, the slots hold the vectors of the first steps already, and the
 * dots are not added up yet. With a residual the dots are those of both. */
template <typename T, bool ALIGNED, int GROUPS, int ROWS>
__device__ __forceinline__ void mma_dots(const mma_state &s, const mma_program &program,
                                         mma_slots<T, ALIGNED, GROUPS> &slots) {
    constexpr int ROOM = GROUPS * STEER_MMA_GROUP;
    const steer_rows_args &args = s.args;
    bool held = program.chunks == 1;
    if (program.parts.norm) mma_norms<T, ALIGNED>(s);
    for (int j = 0; j < program.parts.vectors; j += ROOM) {
        const int count = min(ROOM, program.vectors - j), groups = mma_groups(count);
        if (args.residual) {
            if (!held) slots.take_vectors(s, program, program.listed, j, 0);
            slots.take_rows(s, args.residual, args.residual_stride);
            mma_pass<T, ALIGNED, GROUPS, ROWS>(s, slots, j, groups, held, false);
            held = false;
        }
        if (!held) slots.take_vectors(s, program, program.listed, j, 0);
        slots.take_rows(s, args.hidden, args.hidden_stride);
        mma_pass<T, ALIGNED, GROUPS, ROWS>(s, slots, j, groups, held, args.residual);
        __syncthreads();
        if (program.chunks > 1) mma_take(s, j, count);
    }
    if (program.parts.norm && (int)threadIdx.x < s.rows)
        s.solved().norm2[threadIdx.x] = mma_sum(s.norms() + threadIdx.x, STEER_MMA_ROWS, s.args.parts);
    if (program.chunks > 1 || program.parts.norm) __syncthreads();
}

/* The dot with vector j of a program of one chunk. */
__device__ __forceinline__ float mma_dot(const mma_state &s, int row, int j) {
    const int group = j / STEER_MMA_GROUP * s.args.parts * MMA_SUMS;
    return mma_sum(s.partial() + group + row * STEER_MMA_GROUP + j % STEER_MMA_GROUP, MMA_SUMS, s.args.parts);
}

/* What vectors are scaled by where no operation says it: folded adds as the entry does, others not at all. */
__device__ __forceinline__ void mma_clear(const mma_state &s, const mma_program &program) {
    const int places = mma_groups(program.vectors) * STEER_MMA_GROUP * STEER_MMA_ROWS;
    for (int i = (int)threadIdx.x; i < places; i += (int)blockDim.x) {
        const int row = i / 4 % 32 / 4 + i % 2 * 8, j = i / 128 * 8 + i / 4 % 4 + i % 4 / 2 * 4;
        if (row >= s.rows || j >= program.parts.vectors)
            s.solved().C[i] = j == program.parts.vectors && program.entry.u ? program.entry.u_coef : 0;
    }
}

/* ---- The update ---------------------------------------------------------------------------------------------- */

/* The parts of four numbers. The compiler does not know the mask: it would leave the masking to the tensor cores, and copy
 * registers that do not lie side by side instead. */
struct mma_split {
    float upper[4], lower[4];

    __device__ __forceinline__ mma_split(const float4 &x, const mma_state &s) {
        const float from[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            upper[i] = __uint_as_float(__float_as_uint(from[i]) & s.args.upper_mask);
            lower[i] = __fsub_rn(from[i], upper[i]);
        }
    }
};

/* d[i]: what 8 vectors add to columns i and 4 + i of a lane's eight. */
__device__ __forceinline__ void mma_products(float (&d)[4][4], const mma_split &c, const mma_split &low,
                                             const mma_split &high) {
    const float zero[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) multiply(d[i], c.upper, low.lower[i], high.lower[i], zero);
#pragma unroll
    for (int i = 0; i < 4; i++) multiply(d[i], c.lower, low.upper[i], high.upper[i], d[i]);
#pragma unroll
    for (int i = 0; i < 4; i++) multiply(d[i], c.upper, low.upper[i], high.upper[i], d[i]);
}

__device__ __forceinline__ void mma_add(float (&d)[4][4], const float (&more)[4][4]) {
#pragma unroll
    for (int k = 0; k < 16; k++) d[k / 4][k % 4] = __fadd_rn(d[k / 4][k % 4], more[k / 4][k % 4]);
}

/* d += what the vectors of a slot, in `groups` of eight that begin with the j-th, add to a lane's columns of a half of the
 * step; = for ONE group. */
template <bool ONE>
__device__ __forceinline__ void mma_step_update(float (&d)[4][4], const mma_state &s, const char *slot,
                                                int half, const float4 &first, int j, int groups) {
    const char *vectors = slot + MMA_VECTORS_AT + mma_vector_at(s.place(), s.group()) + half * 128;
    if constexpr (ONE)
        return mma_products(d, {first, s}, {*(const float4 *)vectors, s},
                            {*(const float4 *)(vectors + 1024), s});
    const float4 *C = (const float4 *)s.solved().C + j * 4 + s.lane();
#pragma unroll 1
    for (int g = 0; g < groups; g++) {
        float more[4][4];
        mma_products(more, {C[g * 32], s}, {*(const float4 *)(vectors + g * 2048), s},
                     {*(const float4 *)(vectors + g * 2048 + 1024), s});
        mma_add(d, more);
    }
}

/* Where a lane stores its columns: rows that change. */
template <typename T, bool ALIGNED, int ROWS> struct mma_target {
    T *row[ROWS];
    int left[ROWS]; /* columns from the lane's first on */

    __device__ __forceinline__ mma_target(const mma_state &s, const int *changed) {
        const int base = s.column() + s.place() * 8;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int k = s.group() + i * 8;
            const bool changes = k < s.rows && changed[k];
            row[i] = (T *)s.args.hidden + (s.first + (k < s.rows ? k : 0)) * s.args.hidden_stride + base;
            left[i] = changes ? s.args.hidden_size - base : 0;
        }
    }
    /* Stores the lane's columns of a half of a step, in `words` as they were, with d added. */
    __device__ __forceinline__ void store(int step, int half, const uint4 (&words)[ROWS],
                                          const float (&d)[4][4]) const {
        const int column = step * STEER_MMA_STEP + half * STEER_MMA_STEP / 2;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            float h[8];
            widen<T>(h, words[i]);
#pragma unroll
            for (int k = 0; k < 8; k++) h[k] = __fadd_rn(h[k], d[k % 4][i * 2 + k / 4]);
            T *to = row[i] + column;
            const uint4 out = narrow<T>(h);
            if constexpr (ALIGNED) {
                store_if(column < left[i], to, out);
            } else {
#pragma unroll
                for (int k = 0; k < 8; k++)
                    if (column + k < left[i]) to[k] = ((const T *)&out)[k];
            }
        }
    }
};

/* The update with vectors of one chunk, which begins with what the slots hold. */
template <typename T, bool ALIGNED, int GROUPS, int ROWS>
__device__ __forceinline__ void mma_update(const mma_state &s, const mma_program &program,
                                           mma_slots<T, ALIGNED, GROUPS> &slots) {
    const int steps = s.steps(), ahead = min(s.args.slots, steps);
    const int groups = mma_groups(program.vectors);
    const float4 first = ((const float4 *)s.solved().C)[s.lane()];
    const mma_target<T, ALIGNED, ROWS> target(s, s.solved().changed);
    const bool again = steps > ahead; /* copies are needed, of steps that the slots do not hold */
    if (again) slots.move_rows(1 - ahead);
    if (again) slots.move_vectors(1 - ahead);
    int to = steps > 0 ? (steps - 1) % ahead : 0;
#pragma unroll 1
    for (int step = steps - 1; step >= 0; step--) {
        char *slot = slots.at + to * slots.BYTES;
        if (step < steps - ahead) mma_wait(min(ahead - 1, step));
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float d[4][4] = {};
            uint4 words[ROWS];
            mma_words<ROWS>(words, s, slot, half);
            mma_step_update<GROUPS == 1>(d, s, slot, half, first, 0, groups);
            target.store(step, half, words, d);
        }
        if (step >= ahead) {
            __syncwarp(); /* all lanes have used the slot */
            slots.template copy_vectors<-1>(s, slot + MMA_VECTORS_AT);
            slots.template copy_rows<-1>(s, slot, step - ahead);
            copies_commit();
        }
        to = to == 0 ? ahead - 1 : to - 1;
    }
    if (again) slots.move_vectors(ahead - 1); /* the next rows find the vectors of the first steps */
    __syncwarp();
}

/* The update with vectors of several chunks: an item is a chunk in a step. */
template <typename T, bool ALIGNED, int GROUPS, int ROWS>
__device__ __forceinline__ void mma_update_chunks(const mma_state &s, const mma_program &program,
                                                  mma_slots<T, ALIGNED, GROUPS> &slots) {
    constexpr int ROOM = GROUPS * STEER_MMA_GROUP;
    const int chunks = program.chunks, items = s.steps() * chunks, ahead = min(s.args.slots, items);
    const mma_target<T, ALIGNED, ROWS> target(s, s.solved().changed);
    int step = 0, chunk = 0; /* of what is copied next */
    slots.take_rows(s, s.args.hidden, s.args.hidden_stride);
    const auto copy = [&](char *slot) {
        slots.take_vectors(s, program, program.parts.addresses, chunk * ROOM, step);
        slots.template copy_vectors<1>(s, slot + MMA_VECTORS_AT);
        if (++chunk == chunks) { /* the rows are stored with the last one */
            slots.template copy_rows<1>(s, slot, step++);
            chunk = 0;
        }
        copies_commit();
    };
    for (int item = 0; item < ahead; item++) copy(slots.at + item * slots.BYTES);
    float d[2][4][4] = {};
#pragma unroll 1
    for (int item = 0, to = 0, now = 0, j = 0; item < items; item++) {
        char *slot = slots.at + to * slots.BYTES;
        const int groups = mma_groups(min(ROOM, program.vectors - j));
        const bool last = j + ROOM >= program.vectors;
        mma_wait(min(ahead, items - item) - 1);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            mma_step_update<false>(d[half], s, slot, half, {}, j, groups);
            if (!last) continue;
            uint4 words[ROWS];
            mma_words<ROWS>(words, s, slot, half);
            target.store(now, half, words, d[half]);
#pragma unroll
            for (int k = 0; k < 16; k++) d[half][k / 4][k % 4] = 0;
        }
        j = last ? 0 : j + ROOM;
        now += last;
        if (item + ahead < items) {
            __syncwarp(); /* all lanes have used the slot */
            copy(slot);
        }
        to = to + 1 == ahead ? 0 : to + 1;
    }
    __syncthreads(); /* nobody needs the program's addresses any more */
}

/* ---- The kernel ---------------------------------------------------------------------------------------------- */

/* Where a row's entry of a layer is, or NULL. */
__device__ __forceinline__ const uint64_t *entry_at(const steer_row &row, int layer) {
    const int at = layer - row.first;
    if (at < 0 || at >= row.count) return nullptr;
    return (const uint64_t *)(row.entries + (uint64_t)at * sizeof(steer_entry));
}

/* Whether there is room for an entry's image on chip. */
__device__ __forceinline__ bool mma_fits(const mma_state &s, const steer_entry &entry) {
    return entry.image && entry.image_bytes <= s.args.stage_bytes;
}

/* Brings the program of the entry at `from`, NULL for none, on chip, but for its image. */
__device__ __forceinline__ void mma_turn_to(mma_program *program, const mma_state &s, const uint64_t *from,
                                            uint64_t entries, int room) {
    const steer_entry &entry = program->entry;
    __syncwarp(); /* nobody needs the program before */
    if (s.lane() < (int)sizeof entry / 8) ((uint64_t *)&program->entry)[s.lane()] = from ? from[s.lane()] : 0;
    __syncwarp();
    const char *image = (const char *)entry.image;
    if (s.lane() == 0) {
        program->entries = entries;
        program->parts = {entry.vectors, entry.vectors, 0, 0, nullptr, nullptr, nullptr};
        if (image) program->parts = parts_of(entry_head(entry), mma_fits(s, entry) ? s.stage() : image);
        program->listed = entry.vectors <= STEER_ENTRY_VECTORS
                              ? entry.m
                              : (const uint64_t *)(image + steer_image_vectors_at());
        program->vectors = entry.vectors + (entry.u ? 1 : 0);
        program->chunks = (program->vectors + room - 1) / room;
    }
    __syncwarp();
}

/* The rows that a block serves, by runs of rows with one program. WHOLE: all runs of its tiles. Otherwise the
 * run that each begins with, then some of those that begin within tiles, of which the last blocks have the first. turned(): the
 * program is another, whose image is to be brought on chip; run(): serves the run that `s` has. */
template <bool WHOLE, typename Turned, typename Run>
__device__ __forceinline__ void mma_runs(mma_state &s, mma_program &program, int room, const Turned &turned,
                                         const Run &run) {
    const steer_rows_args &args = s.args;
    const int tiles = steer_inner_index(args.tile),
              within = args.tile - 1; /* the bits of a row within its tile */
    if (s.lane() == 0) {
        program.entries = ~0ull; /* of no row */
        if (!WHOLE && args.table) copy_async((uint4 *)program.within, args.inner + tiles / 4 * 4);
        if (!WHOLE) copies_commit();
    }
    __syncwarp();
    for (int turn = 0, number = (int)(gridDim.x - 1 - blockIdx.x);;) {
        int64_t first = s.first + s.rows;
        if (!WHOLE || (first & within) == 0 || first == args.rows) {
            first = ((int64_t)blockIdx.x * args.turns + turn) * args.tile;
            if (turn < args.turns && first < args.rows) {
                turn++;
            } else {
                if (WHOLE || !args.table) break;
                copies_wait<0>();
                __syncwarp();
                if ((uint32_t)number >= program.within[tiles % 4]) break;
                first = __ldg(args.inner + STEER_INNER_AT + number);
                number += (int)gridDim.x;
            }
        }
        s.first = first;
        s.rows = (int)min((int64_t)args.tile - (first & within), args.rows - first);
        steer_row record = {};
        if (args.table) {
            record = load_row(args.table + first);
            s.rows = (int)min((uint32_t)s.rows, record.run);
        }
        if (record.entries != program.entries) {
            const uint64_t *from = args.table ? entry_at(record, args.layer) : (const uint64_t *)&args.entry;
            mma_turn_to(&program, s, from, record.entries, room);
            if (!steer_fits_registers(program.parts.vectors, program.parts.norm)) turned();
        }
        if (!steer_fits_registers(program.parts.vectors, program.parts.norm))
            run(); /* few are another kernel's */
    }
}

/* GROUPS: of eight vectors, that slots have room for; with the most of them a program may have more than those. ROWS: of each product,
 * in eights. */
template <typename T, bool ALIGNED, int GROUPS, int ROWS>
__device__ __forceinline__ void mma_block(const steer_rows_args &args) {
    constexpr int ROOM = GROUPS * STEER_MMA_GROUP;
    constexpr bool WHOLE = !steer_mma_shares(ROOM), CHUNKS = ROOM == STEER_MMA_ROOM;
    extern __shared__ __align__(16) char shared_memory[];
    const lane_info me = who();
    mma_state s = {args, shared_memory, 0, 0};
    let_next_start();
    mma_program &program = *s.program();
    mma_slots<T, ALIGNED, GROUPS> slots(s);
    bool waited = false;
    const auto turned = [&] {
        if (mma_fits(s, program.entry))
            stage_image(s.stage(), program.entry, me); /* to be read after a barrier */
        if (program.chunks > 1) return;
        slots.take_vectors(s, program, program.listed, 0, 0);
        for (int step = 0; step < min(args.slots, s.steps()); step++)
            slots.template copy_vectors<1>(s, slots.at + step * slots.BYTES + MMA_VECTORS_AT);
        copies_commit();
    };
    const auto run = [&] {
        if (!waited) wait_for_previous();
        waited = true;
        mma_dots<T, ALIGNED, GROUPS, ROWS>(s, program, slots);
        mma_clear(s, program);
        const solve_state solved = s.solved();
        const auto dot = [&](int row, int j) {
            return program.chunks == 1 ? mma_dot(s, row, j) : solve_dots{solved}(row, j);
        };
        solve_rows<2>(solved, program.entry, program.parts, s.rows, me, mma_index, dot,
                      [&](int row) { return steer_row_exactly<T>(args, s.first + row); });
        __syncthreads();
        if (program.chunks == 1)
            mma_update<T, ALIGNED, GROUPS, ROWS>(s, program, slots);
        else if (CHUNKS)
            mma_update_chunks<T, ALIGNED, GROUPS, ROWS>(s, program, slots);
    };
    mma_runs<WHOLE>(s, program, ROOM, turned, run);
    if (!waited) wait_for_previous(); /* the kernel after this one counts on it */
}

/* Of 128 registers where blocks share a multiprocessor, or have twice the threads. */
template <typename T, bool ALIGNED, int GROUPS, int ROWS>
__global__ void __launch_bounds__(GROUPS == 1 ? 2 * STEER_MMA_THREADS : STEER_MMA_THREADS, 1)
    steer_mma_kernel(const __grid_constant__ steer_rows_args args) {
    mma_block<T, ALIGNED, GROUPS, ROWS>(args);
}

} // namespace

template <typename T> steer_rows_kernel steer_rows_mma(steer_rows_variant variant) {
    if (!variant.aligned) return steer_mma_kernel<T, false, 4, 2>;
    switch (variant.vectors / STEER_MMA_GROUP) {
    case 1:
        return variant.tile > STEER_MMA_ROWS / 2 ? steer_mma_kernel<T, true, 1, 2>
                                                 : steer_mma_kernel<T, true, 1, 1>;
    case 2:
        return steer_mma_kernel<T, true, 2, 2>;
    case 3:
        return steer_mma_kernel<T, true, 3, 2>;
    default:
        return steer_mma_kernel<T, true, 4, 2>;
    }
}

#endif
#endif
