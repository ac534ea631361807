/* steer_solve.cuh: runs the operations of a program over the dots of a row: what each of its vectors is scaled by. */
#ifndef STEER_KERNELS_STEER_SOLVE_CUH
#define STEER_KERNELS_STEER_SOLVE_CUH

#include "steer_exact.cuh"

#ifdef STEER_KERNEL_IMPLEMENTATION

namespace {

/* ---- Coefficients -------------------------------------------------------------------------------------------- */

/* What m is scaled by, from P. */
__device__ __forceinline__ float coefficient(float p, float inv, float bias, float gain, float offset,
                                             float lo, float hi) {
    float s = __fmaf_rn(inv, p, bias);
    float c = fminf(fmaxf(__fmaf_rn(gain, s, offset), __fsub_rn(lo, s)), __fsub_rn(hi, s));
    return __fmul_rn(c, inv);
}

__device__ __forceinline__ float op_coefficient(const steer_op_image &op, float p) {
    return coefficient(p, op.inv, op.bias, op.gain, op.offset, op.lo, op.hi);
}

__device__ __forceinline__ bool gate_open(const steer_op_image &op, float p, float norm2) {
    float value = __fmaf_rn(op.gate_inv, p, op.gate_bias);
    if (op.flags & STEER_OP_IMAGE_COSINE) value = norm2 > 0 ? __fdiv_rn(value, __fsqrt_rn(norm2)) : 0.0f;
    return op.flags & STEER_OP_IMAGE_BELOW ? value < op.threshold : value > op.threshold;
}

/* Makes NaN of the square of a norm that was once `most` and now is too little of it, or too near an end of f32, to be
 * divided by; it stays NaN, and the row is steered in f64. */
__device__ __forceinline__ float norm2_in_range(float norm2, float most) {
    const bool held = norm2 > __fmul_rn(0x1p-6f, most) && norm2 > 0x1p-96f && norm2 <= LARGEST;
    return held ? norm2 : __uint_as_float(0x7fffffffu);
}

/* |h + c m|^2 */
__device__ __forceinline__ float next_norm2(float norm2, float c, float p, float mm) {
    return __fmaf_rn(c, __fmaf_rn(c, mm, __fmul_rn(2, p)), norm2);
}

/* ---- Programs ------------------------------------------------------------------------------------------------ */

/* A program's parts, on chip where they fit. */
struct program_parts {
    int vectors, updated, ops, norm;
    const uint64_t *addresses; /* of the vectors */
    const steer_op_image *op;
    const float *gram;
};

/* The parts of an image whose header is known. */
__device__ __forceinline__ program_parts parts_of(int4 header, const char *image) {
    const int4 head = baked_head(header);
    return {head.x,
            head.y,
            head.z,
            head.w,
            (const uint64_t *)(image + steer_image_vectors_at()),
            (const steer_op_image *)(image + steer_image_ops_at(head.x)),
            (const float *)(image + steer_image_gram_at(head.x, head.z))};
}

/* The header of an entry's image. */
__device__ __forceinline__ int4 entry_head(const steer_entry &entry) {
    return make_int4(entry.vectors, entry.updated, entry.ops, entry.norm);
}

/* Brings an entry's image on chip; to be read after the next barrier. */
__device__ __forceinline__ void stage_image(char *stage, const steer_entry &entry, const lane_info &me) {
    for (int i = me.thread * 16; i < entry.image_bytes; i += me.threads * 16)
        *(int4 *)(stage + i) = __ldg((const int4 *)(entry.image + i));
}

/* Starts to bring it there. */
__device__ __forceinline__ void stage_copy(char *stage, const steer_entry &entry, const lane_info &me) {
    for (int i = me.thread * 16; i < entry.image_bytes; i += me.threads * 16)
        copy_async((uint4 *)(stage + i), (const char *)entry.image + i);
}

/* An operation in a few loads; images are 16-byte aligned. */
__device__ __forceinline__ steer_op_image read_op(const steer_op_image *op, int k) {
    int4 words[4];
#pragma unroll
    for (int i = 0; i < 3; i++) words[i] = ((const int4 *)(op + k))[i];
    words[3] = make_int4(0, 0, 0, 0);
    return baked_op(*(const steer_op_image *)words, k);
}

/* ---- The recursion over operations --------------------------------------------------------------------------- */

/* Dot `index` of a row, from lane `at` + index % 32 where a lane holds WIDE of them. */
template <int WIDE> __device__ __forceinline__ float dot_of(const float (&p)[WIDE], int index, int at) {
    if constexpr (WIDE == 1) return __shfl_sync(0xffffffffu, p[0], at + index);
    return __shfl_sync(0xffffffffu, index < 32 ? p[0] : p[WIDE - 1], at + index % 32);
}

/* Runs the operations of ROWS rows at once, whose dots with vectors j and j + 32 a lane holds; lane `at` has j = 0.
 * C: what those vectors are scaled by. Rows keep their own order of operations, whatever the number of them. */
template <int ROWS, int WIDE, bool NORM>
__device__ __forceinline__ void solve_any(float (&C)[ROWS][WIDE], float (&p)[ROWS][WIDE],
                                          float (&norm2)[ROWS], const program_parts &program, int at, int j) {
    const int n = program.vectors;
    const float *column = program.gram + (j < n ? j : 0);
    float most[ROWS]; /* of norm2 so far */
#pragma unroll
    for (int i = 0; i < ROWS; i++) most[i] = norm2[i];
    STEER_UNROLL_BAKED
    for (int k = 0; k < program.ops; k++) {
        const steer_op_image op = read_op(program.op, k);
        float m[WIDE];
#pragma unroll
        for (int w = 0; w < WIDE; w++) m[w] = column[op.dot * n + (w > 0 && j + 32 * w < n ? 32 * w : 0)];
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const float dot = dot_of<WIDE>(p[i], op.dot, at);
            float c = op_coefficient(op, dot);
            if (NORM && op.flags & STEER_OP_IMAGE_COSINE) norm2[i] = norm2_in_range(norm2[i], most[i]);
            if (op.gate >= 0 && !gate_open(op, dot_of<WIDE>(p[i], op.gate, at), norm2[i])) c = 0;
            if (NORM && program.norm) {
                norm2[i] = next_norm2(norm2[i], c, dot, program.gram[op.dot * n + op.dot]);
                most[i] = fmaxf(most[i], norm2[i]);
            }
#pragma unroll
            for (int w = 0; w < WIDE; w++) {
                p[i][w] = __fmaf_rn(c, m[w], p[i][w]);
                if (j + 32 * w == op.dot) C[i][w] = __fadd_rn(C[i][w], c);
            }
        }
    }
}

/* The same where operation k is unconditional and on vector k: a lane holds its own operations, `own`, and works them out
 * from its own dots. */
template <int ROWS, int WIDE>
__device__ __forceinline__ void solve_plain(float (&C)[ROWS][WIDE], float (&p)[ROWS][WIDE],
                                            const steer_op_image (&own)[WIDE], const program_parts &program,
                                            int at, int j) {
    const int n = program.vectors;
#pragma unroll
    for (int w = 0; w < WIDE; w++) {
        const float *gram = program.gram + 32 * w * n + (j < n ? j : 0);
#pragma unroll 4
        for (int k = 0; k < min(32, n - 32 * w); k++, gram += n) {
            float m[WIDE];
#pragma unroll
            for (int v = 0; v < WIDE; v++) m[v] = gram[v > 0 && j + 32 * v < n ? 32 * v : 0];
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                const float c = __shfl_sync(0xffffffffu, op_coefficient(own[w], p[i][w]), at + k);
                if (j == k) C[i][w] = __fadd_rn(C[i][w], c);
#pragma unroll
                for (int v = 0; v < WIDE; v++) p[i][v] = __fmaf_rn(c, m[v], p[i][v]);
            }
        }
    }
}

/* NORM: a program may have a cosine. */
template <int ROWS, int WIDE, bool NORM>
__device__ __forceinline__ void solve_lanes(float (&C)[ROWS][WIDE], float (&p)[ROWS][WIDE],
                                            float (&norm2)[ROWS], const program_parts &program, int at,
                                            int j) {
#ifndef STEER_BAKED /* what is baked into the operations is worth more */
    steer_op_image own[WIDE];
    bool plain = program.ops == program.vectors && !program.norm;
#pragma unroll
    for (int w = 0; w < WIDE; w++) {
        const int k = j + 32 * w;
        own[w] = read_op(program.op, k < program.ops ? k : 0);
        plain = plain && (k >= program.ops || (own[w].dot == k && own[w].gate < 0));
    }
    if (__all_sync(0xffffffffu, plain)) return solve_plain<ROWS, WIDE>(C, p, own, program, at, j);
#endif
    solve_any<ROWS, WIDE, NORM>(C, p, norm2, program, at, j);
}

__device__ __forceinline__ float entry_coefficient(float p, const steer_entry &entry) {
    return coefficient(p, entry.inv, entry.bias, entry.gain, 0, entry.lo, entry.hi);
}

/* Rows in shared memory. Below, index(row, j) is where in C vector j's coefficient belongs, and dot(row, j) the dot with it. */
struct solve_state {
    float *p;     /* [rows][stride]: the dots with each vector; used up where there are many */
    float *C;     /* what each vector is scaled by, 0 at first */
    float *norm2; /* [rows], where the program has a cosine */
    int *
        changed; /* [rows]: not 0 if the update is to store the row; of those steered in f64 it has nothing to do */
    int stride;
};

/* Whether f32 cannot hold a dot, as the operations left it, or what its vector is scaled by. A dot that once was not finite
 * never is again. */
__device__ __forceinline__ bool is_lost(float p, float C) { return !is_finite(p) || !is_finite(C); }

/* Dots that are added up already. */
struct solve_dots {
    const solve_state &s;
    __device__ __forceinline__ float operator()(int row, int j) const { return s.p[row * s.stride + j]; }
};

/* Below, adds: there are folded adds too; exactly(row), for a whole warp: steers it in f64, which nobody has stored yet, or says
 * that it is not finite. */

/* Up to 32 WIDE vectors: a warp serves 32 / width rows at once, and ROWS of them in turn. */
template <int ROWS, int WIDE, typename At, typename Dot, typename Exactly>
__device__ __forceinline__ void solve_register_vectors(const solve_state &s, const program_parts &program,
                                                       int rows, const lane_info &me, bool adds, At index,
                                                       Dot dot, Exactly exactly) {
    const int n = program.vectors;
    const int shift = WIDE > 1 || n > 16 ? 5 : n > 1 ? 32 - __clz(n - 1) : 0;
    const int width = 1 << shift, together = 32 >> shift;
    const int j = me.lane & (width - 1), at = me.lane - j;
    for (int first = me.warp * together; first * ROWS < rows; first += me.warps * together) {
        float p[ROWS][WIDE], C[ROWS][WIDE] = {}, norm2[ROWS];
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int row = (first + (me.lane >> shift)) * ROWS + i;
#pragma unroll
            for (int w = 0; w < WIDE; w++) p[i][w] = row < rows && j + 32 * w < n ? dot(row, j + 32 * w) : 0;
            norm2[i] = program.norm && row < rows ? s.norm2[row] : 0;
        }
        solve_lanes<ROWS, WIDE, true>(C, p, norm2, program, at, j);
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int row = (first + (me.lane >> shift)) * ROWS + i;
            bool changes = false, lost = program.norm && norm2[i] != norm2[i];
#pragma unroll
            for (int w = 0; w < WIDE; w++) {
                const bool mine = row < rows && j + 32 * w < n;
                if (mine) s.C[index(row, j + 32 * w)] = C[i][w];
                changes = changes || (mine && C[i][w] != 0);
                lost = lost || (mine && is_lost(p[i][w], C[i][w]));
            }
            const unsigned its = 0xffffffffu >> (32 - width); /* lanes of a row */
            changes = adds || (__ballot_sync(0xffffffffu, changes) >> at & its) != 0;
            const unsigned any = __ballot_sync(0xffffffffu, lost && row < rows);
            for (int first_lane = 0; any && first_lane < 32; first_lane += width)
                if (any >> first_lane & its && exactly((first + (first_lane >> shift)) * ROWS + i))
                    changes = changes && at != first_lane;
            if (row < rows && j == 0) s.changed[row] = changes;
        }
    }
}

/* Any number of vectors: the dots stay in shared memory, a warp serves a row. */
template <typename At, typename Exactly>
__device__ __forceinline__ void solve_mma_vectors(const solve_state &s, const program_parts &program,
                                                  int rows, const lane_info &me, bool adds, At index,
                                                  Exactly exactly) {
    const int n = program.vectors;
    for (int row = me.warp; row < rows; row += me.warps) {
        float *p = s.p + row * s.stride;
        float norm2 = program.norm ? s.norm2[row] : 0, most = norm2;
        bool changed = adds;
        for (int j = me.lane; j < n; j += 32) s.C[index(row, j)] = 0;
        __syncwarp();
        STEER_UNROLL_BAKED
        for (int k = 0; k < program.ops; k++) {
            const steer_op_image op = read_op(program.op, k);
            float dot = p[op.dot];
            if (op.flags & STEER_OP_IMAGE_COSINE) norm2 = norm2_in_range(norm2, most);
            float c = op.gate >= 0 && !gate_open(op, p[op.gate], norm2) ? 0 : op_coefficient(op, dot);
            const float *gram = program.gram + (size_t)op.dot * n;
            if (program.norm) {
                norm2 = next_norm2(norm2, c, dot, gram[op.dot]);
                most = fmaxf(most, norm2);
            }
            changed = changed || c != 0;
            __syncwarp();
            for (int j = me.lane; j < n; j += 32) p[j] = __fmaf_rn(c, gram[j], p[j]);
            if (me.lane == 0) s.C[index(row, op.dot)] = __fadd_rn(s.C[index(row, op.dot)], c);
            __syncwarp();
        }
        bool lost = program.norm && norm2 != norm2;
        for (int j = me.lane; j < n; j += 32) lost = lost || is_lost(p[j], s.C[index(row, j)]);
        if (__ballot_sync(0xffffffffu, lost) && exactly(row)) changed = false;
        if (me.lane == 0) s.changed[row] = changed;
    }
}

/* ---- All rows -------------------------------------------------------------------------------------------------- */

/* The one coefficient of up to 32 rows, whose program the entry states. */
template <typename At, typename Dot, typename Exactly>
__device__ __forceinline__ void solve_entry(const solve_state &s, const steer_entry &entry, int rows,
                                            int lane, At index, Dot dot, Exactly exactly) {
    const bool mine = lane < rows;
    const float c = mine && entry.vectors ? entry_coefficient(dot(lane, 0), entry) : 0;
    bool changes = c != 0 || entry.u;
    const unsigned lost = __ballot_sync(0xffffffffu, !is_finite(c)); /* as it is where the dot is not */
    for (int row = 0; lost >> row; row++)
        if (lost >> row & 1 && exactly(row)) changes = changes && row != lane;
    if (!mine) return;
    s.C[index(lane, 0)] = c;
    s.changed[lane] = changes;
}

/* Coefficients of rows of one program, and those steered whose coefficients f32 cannot hold; every thread of the block takes
 * part. */
template <int ROWS, typename At, typename Dot, typename Exactly>
__device__ __forceinline__ void solve_rows(const solve_state &s, const steer_entry &entry,
                                           const program_parts &program, int rows, const lane_info &me,
                                           At index, Dot dot, Exactly exactly) {
    const bool adds = entry.u != 0;
    if (!entry.image) {
        if (me.warp == 0) solve_entry(s, entry, rows, me.lane, index, dot, exactly);
    } else if (program.vectors <= 16) {
        solve_register_vectors<1, 1>(s, program, rows, me, adds, index, dot, exactly);
    } else if (program.vectors <= 32) {
        solve_register_vectors<ROWS, 1>(s, program, rows, me, adds, index, dot, exactly);
    } else if (program.vectors <= 64) {
        solve_register_vectors<ROWS, 2>(s, program, rows, me, adds, index, dot, exactly);
    } else {
        solve_mma_vectors(s, program, rows, me, adds, index, exactly);
    }
}

} // namespace

#endif
#endif
