/* steer_exact.cuh: steers a row whose dots, coefficients or norm f32 cannot hold, in f64, as steer_exact.c does on the CPU.
 *
 * One warp does so from what lies in device memory: the row, which nobody may have stored yet, its entry, the program's image and
 * its vectors. All kernels leave such rows to it, so that their bits are the same on every path. Before each operation the row
 * is what it was and the vectors so far; all that is kept is what each of them is scaled by. */
#ifndef STEER_KERNELS_STEER_EXACT_CUH
#define STEER_KERNELS_STEER_EXACT_CUH

#include "steer_common.cuh"

#ifdef STEER_KERNEL_IMPLEMENTATION

namespace {

constexpr float LARGEST = 3.402823466e+38f; /* finite number */
enum { EXACT_VECTORS = 256 };               /* most that a program adds: one an operation */
#ifndef __CUDACC_RTC__
static_assert((int)EXACT_VECTORS >= (int)STEER_MAX_OPS, "a lane has a place for each of its vectors");
#endif

__device__ __forceinline__ bool is_finite(float x) { return fabsf(x) <= LARGEST; }

__device__ __forceinline__ double warp_sum(double sum) {
    for (int bits = 16; bits > 0; bits /= 2) sum = __dadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, bits));
    return sum;
}

/* ---- What a row and its program are ---------------------------------------------------------------------------- */

template <typename T> struct exact_row {
    T *h;
    const T *residual;
    const steer_entry *entry;
    int size;

    __device__ __forceinline__ exact_row(const steer_rows_args &args, int64_t row)
        : h((T *)args.hidden + row * args.hidden_stride),
          residual(args.residual ? (const T *)args.residual + row * args.residual_stride : nullptr),
          entry(&args.entry), size(args.hidden_size) {
        if (!args.table) return;
        const steer_row record = load_row(args.table + row);
        entry = (const steer_entry *)(record.entries +
                                      (uint64_t)(args.layer - record.first) * sizeof(steer_entry));
    }
    /* What programs see of element i; 0 beyond the row, where its vectors end in zeros. */
    __device__ __forceinline__ float seen(int i) const {
        if (i >= size) return 0;
        return residual ? __fadd_rn(steer_to_f32(h[i]), steer_to_f32(residual[i])) : steer_to_f32(h[i]);
    }
    __device__ __forceinline__ const float *vector(int j) const {
        const uint64_t *image = (const uint64_t *)(entry->image + steer_image_vectors_at());
        return (const float *)(entry->image ? image : entry->m)[j];
    }
};

/* ---- Coefficients ---------------------------------------------------------------------------------------------- */

/* What m is scaled by, from P. */
__device__ __forceinline__ double coefficient_exactly(const steer_op_image &op, double p) {
    const double inv = __dadd_rn(op.inv, op.inv_rest), s = __fma_rn(inv, p, op.bias);
    const double c = fmin(fmax(__fma_rn(op.gain, s, op.offset), __dadd_rn(op.lo, -s)), __dadd_rn(op.hi, -s));
    return __dmul_rn(c, inv);
}

/* most: the square of the greatest norm so far. What is left of it but the rounding of what was taken away is nothing. */
__device__ __forceinline__ bool gate_open_exactly(const steer_op_image &op, double p, double norm2,
                                                  double most) {
    double value = __fma_rn(op.gate_inv, p, op.gate_bias);
    if (op.flags & STEER_OP_IMAGE_COSINE)
        value = norm2 > __dmul_rn(0x1p-84, most) ? __ddiv_rn(value, __dsqrt_rn(norm2)) : 0;
    return op.flags & STEER_OP_IMAGE_BELOW ? value < op.threshold : value > op.threshold;
}

/* ---- Rows ------------------------------------------------------------------------------------------------------ */

/* The functions below are for cold paths of kernels that need their registers: they take few. */

/* x + element i of all vectors; C[j / 32] of lane j % 32 is what vector j is scaled by. All lanes take part. */
template <typename T>
__device__ __forceinline__ double moved(double x, const double *C, const exact_row<T> &row, int i) {
#pragma unroll 1
    for (int j = 0; j < row.entry->updated; j++) {
        const double c = __shfl_sync(0xffffffffu, C[j / 32], j % 32);
        if (c != 0) x = __fma_rn(c, (double)row.vector(j)[i], x);
    }
    return x;
}

/* The dot of the row, as the vectors so far left it, with m, or for NULL with itself. */
template <typename T>
__device__ __forceinline__ double exact_dot(const double *C, const exact_row<T> &row, const float *m) {
    const int lane = (int)threadIdx.x % 32;
    double sum = 0;
#pragma unroll 1
    for (int i = lane; i - lane < row.size; i += 32) {
        const double x = moved(row.seen(i), C, row, i);
        sum = __fma_rn(x, m ? (double)m[i] : x, sum);
    }
    return warp_sum(sum);
}

/* Steers a row in f64, and stores it; false, and nothing is stored, if it holds what is not finite. A whole warp calls it. */
template <typename T>
__device__ __noinline__ bool steer_row_exactly(const steer_rows_args &args, int64_t number) {
    const exact_row<T> row(args, number);
    const steer_entry &entry = *row.entry;
    const int lane = (int)threadIdx.x % 32;
    bool finite = true;
#pragma unroll 1
    for (int i = lane; i < row.size; i += 32) finite = finite && is_finite(row.seen(i));
    if (!__all_sync(0xffffffffu, finite)) return false;
    steer_op_image only = {}; /* of an entry without an image */
    only.gate = -1;
    only.inv = entry.inv;
    only.bias = entry.bias;
    only.gain = entry.gain;
    only.lo = entry.lo;
    only.hi = entry.hi;
    const steer_op_image *op =
        entry.image ? (const steer_op_image *)(entry.image + steer_image_ops_at(entry.vectors)) : &only;
    double C[EXACT_VECTORS / 32] = {}, most = 0;
#pragma unroll 1
    for (int left = entry.image ? entry.ops : 1; left > 0; left--, op++) {
        const double norm2 = entry.norm ? exact_dot(C, row, nullptr) : 0;
        most = fmax(most, norm2);
        if (op->gate >= 0 && !gate_open_exactly(*op, exact_dot(C, row, row.vector(op->gate)), norm2, most))
            continue;
        const double c = coefficient_exactly(*op, exact_dot(C, row, row.vector(op->dot)));
        if (op->dot % 32 == lane) C[op->dot / 32] = __dadd_rn(C[op->dot / 32], c);
    }
    const float *u = (const float *)entry.u;
#pragma unroll 1
    for (int i = lane; i - lane < row.size; i += 32) {
        double x = moved(i < row.size ? steer_to_f32(row.h[i]) : 0, C, row, i);
        if (u) x = __fma_rn((double)entry.u_coef, (double)u[i], x);
        if (i < row.size) row.h[i] = steer_from_f32<T>((float)x);
    }
    return true;
}

/* Steers a row of few vectors as those beside it are steered from registers: lane j has in c what vector j is scaled by. lost:
 * f32 cannot hold some of that, and the row is steered in f64 if it is finite. A whole warp takes part. */
template <typename T>
__device__ __forceinline__ void steer_row_again(const steer_rows_args &args, int64_t number, float c,
                                                bool lost) {
    if (lost && steer_row_exactly<T>(args, number)) return;
    const exact_row<T> row(args, number);
    const steer_entry &entry = *row.entry;
    const float *u = (const float *)entry.u;
    const int lane = (int)threadIdx.x % 32;
    if (!u && !__ballot_sync(0xffffffffu, lane < entry.vectors && c != 0)) return;
#pragma unroll 1
    for (int i = lane; i - lane < row.size; i += 32) {
        float h = i < row.size ? steer_to_f32(row.h[i]) : 0;
        if (u) h = __fmaf_rn(entry.u_coef, u[i], h);
#pragma unroll 1
        for (int j = 0; j < entry.updated; j++)
            h = __fmaf_rn(__shfl_sync(0xffffffffu, c, j), row.vector(j)[i], h);
        if (i < row.size) row.h[i] = steer_from_f32<T>(h);
    }
}

/* Steers `count` rows so, the first of which begins at lane 0's `at`. Lane i room + j has in c what
 * vector j of row i is scaled by, and in `lost` its bit. A whole warp calls it. */
template <typename T>
__device__ __noinline__ void steer_rows_again(const steer_rows_args &args, const T *at, int count, float c,
                                              unsigned lost, int room) {
    int64_t first = args.rows > 1 ? (at - (const T *)args.hidden) / args.hidden_stride : 0;
    first = __shfl_sync(0xffffffffu, first, 0);
#pragma unroll 1
    for (int i = 0; i < count; i++) {
        const float its = __shfl_sync(0xffffffffu, c, i * room + (int)threadIdx.x % 32 % room);
        steer_row_again<T>(args, first + i, its, lost >> i * room & (1u << room) - 1);
    }
}

} // namespace

#endif
#endif
