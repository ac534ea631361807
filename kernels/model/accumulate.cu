/* accumulate.cu: sums of rows by group, in the order of the rows.
 *
 *     sum[g] = sum[g] + x[row] + x[next row of g] + ...     squares[g]: the same of x * x, each product rounded
 *
 * A thread has a column of the groups g = blockIdx.y, + gridDim.y, ...: it goes through all rows and keeps the sum of the group
 * it is in. The rows of the block's groups are listed in shared memory first, so that their loads do not wait for another. */
#include "model.cuh"

namespace {

enum { THREADS = 64, LIST = 256, MOST_GROUPS = 64, AT_ONCE = 32 };

/* Lists the rows from `first` on that are of this block's groups; all threads. */
__device__ int list_rows(const steer_accumulate &a, int64_t first, int *list, int *counts) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int done = 0;
    for (int part = 0; part < LIST; part += THREADS) {
        const int64_t row = first + part + threadIdx.x;
        const int group = row < a.rows ? a.group[row] : -1;
        const bool ours = group >= 0 && group < a.groups && group % gridDim.y == blockIdx.y;
        const unsigned bits = __ballot_sync(0xffffffffu, ours);
        if (lane == 0) counts[warp] = __popc(bits);
        __syncthreads();
        int at = done + __popc(bits & ((1u << lane) - 1));
        for (int w = 0; w < THREADS / 32; w++) {
            if (w < warp) at += counts[w];
            done += counts[w];
        }
        if (ours) list[at] = part + threadIdx.x;
        __syncthreads();
    }
    return done;
}

template <typename T> __global__ void __launch_bounds__(THREADS) accumulate_columns(steer_accumulate a) {
    steer_begin();
    __shared__ int list[LIST], counts[THREADS / 32];
    const int64_t column = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const bool inside = column < a.hidden;
    const T *x = static_cast<const T *>(a.x) + column;
    int group = -1;
    float sum = 0.0f, squares = 0.0f;
    auto change_to = [&](int next) { /* the sums of a group come from memory and go back there */
                                     if (group >= 0) {
                                         a.sum[group * a.sum_stride + column] = sum;
                                         if (a.squares) a.squares[group * a.sum_stride + column] = squares;
                                     }
                                     if (next >= 0) {
                                         sum = a.sum[next * a.sum_stride + column];
                                         if (a.squares) squares = a.squares[next * a.sum_stride + column];
                                     }
                                     group = next;
    };
    for (int64_t first = 0; first < a.rows; first += LIST) {
        const int count = list_rows(a, first, list, counts);
        for (int i = 0; inside && i < count; i += AT_ONCE) {
            T values[AT_ONCE];
            int groups[AT_ONCE];
#pragma unroll
            for (int n = 0; n < AT_ONCE; n++) {
                const int64_t row = first + list[min(i + n, count - 1)];
                values[n] = x[row * a.hidden];
                groups[n] = a.group[row];
            }
#pragma unroll
            for (int n = 0; n < AT_ONCE; n++) {
                if (i + n >= count) break;
                if (groups[n] != group) change_to(groups[n]);
                const float value = steer_to_f32(values[n]);
                sum = __fadd_rn(sum, value);
                squares = __fadd_rn(squares, __fmul_rn(value, value));
            }
        }
        __syncthreads();
    }
    if (inside) change_to(-1);
}

} // namespace

int steer_cuda_accumulate(void *handle, const steer_accumulate *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (args->rows == 0 || args->groups == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_float(args->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        const dim3 grid((unsigned)steer_divide_up(args->hidden, THREADS),
                        (unsigned)(args->groups < MOST_GROUPS ? args->groups : MOST_GROUPS));
        return steer_cuda_launch(device, accumulate_columns<T>, grid, THREADS, 0, "the kernel that adds rows",
                                 *args);
    });
}
