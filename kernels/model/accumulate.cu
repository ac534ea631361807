/* accumulate.cu: sums of rows by group, in the order in which the rows are listed.
 *
 *     sum[g] = sum[g] + x[index of g] + x[next index of g] + ...     squares[g]: the same of x * x, each product rounded
 *
 * A block has some columns of the groups g = blockIdx.y, + gridDim.y, ...: it goes through the list window by window. What is of its
 * groups in the next window is on its way to shared memory while a thread for each column adds this window's, and keeps the sum
 * of the group it is in. */
#include "mma.cuh"

namespace {

enum { THREADS = 64, COLUMNS = THREADS, MOST_GROUPS = 64 };

template <typename T> struct window {
    static constexpr int rows = 256 / (int)sizeof(T);
    T x[rows][COLUMNS];
    int64_t row[rows];
    int group[rows], count;
};

/* Lists what of the window from entry `first` on is of this block's groups; all threads. */
template <typename T>
__device__ void list_rows(window<T> &to, const steer_accumulate &a, int64_t first, int *counts) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int done = 0;
    for (int part = 0; part < window<T>::rows; part += THREADS) {
        const int64_t i = first + part + threadIdx.x;
        const int group = i < a.rows ? a.group[i] : -1;
        const bool ours = group >= 0 && group < a.groups && group % gridDim.y == blockIdx.y;
        const unsigned bits = __ballot_sync(0xffffffffu, ours);
        if (lane == 0) counts[warp] = __popc(bits);
        __syncthreads();
        int at = done + __popc(bits & ((1u << lane) - 1));
        for (int w = 0; w < THREADS / 32; w++) {
            if (w < warp) at += counts[w];
            done += counts[w];
        }
        if (ours) to.group[at] = group, to.row[at] = a.index ? a.index[i] : i;
        __syncthreads();
    }
    if (threadIdx.x == 0) to.count = done;
    __syncthreads();
}

/* Starts the copies of a window's rows: WIDE: 16 bytes at a time. */
template <typename T, bool WIDE> __device__ void copy_rows(window<T> &to, const steer_accumulate &a) {
    constexpr int V = WIDE ? steer_wide<T> : 1, PACKS = COLUMNS / V;
    const int64_t begin = (int64_t)blockIdx.x * COLUMNS;
    for (int i = threadIdx.x; i < to.count * PACKS; i += THREADS) {
        const int r = i / PACKS, at = i % PACKS * V;
        const T *from = static_cast<const T *>(a.x) + to.row[r] * a.hidden + begin + at;
        const bool inside = begin + at < a.hidden;
        if (WIDE)
            steer_copy_16(&to.x[r][at], inside ? from : a.x, inside);
        else if (inside)
            to.x[r][at] = *from;
    }
    steer_copies_close();
}

/* A column's sums of the group that it is in; they come from memory and go back there. */
struct column_sums {
    int group = -1;
    float sum = 0.0f, squares = 0.0f;
    __device__ void change_to(const steer_accumulate &a, int64_t column, int next) {
        if (group >= 0) {
            a.sum[group * a.sum_stride + column] = sum;
            if (a.squares) a.squares[group * a.sum_stride + column] = squares;
        }
        if (next >= 0) {
            sum = a.sum[next * a.sum_stride + column];
            if (a.squares) squares = a.squares[next * a.sum_stride + column];
        }
        group = next;
    }
};

template <typename T, bool WIDE>
__global__ void __launch_bounds__(THREADS) accumulate_columns(steer_accumulate a) {
    __shared__ alignas(16) window<T> windows[2];
    __shared__ int counts[THREADS / 32];
    constexpr int ROWS = window<T>::rows;
    const int64_t column = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
    column_sums state;
    steer_begin();
    for (int64_t first = 0, n = 0; first < a.rows + ROWS; first += ROWS, n++) {
        window<T> &next = windows[n % 2], &now = windows[(n + 1) % 2];
        if (first < a.rows) {
            list_rows(next, a, first, counts);
            copy_rows<T, WIDE>(next, a);
        } else {
            steer_copies_close();
        }
        steer_copies_wait<1>();
        __syncthreads();
        if (n > 0 && column < a.hidden) {
            for (int r = 0; r < now.count; r++) {
                if (now.group[r] != state.group) state.change_to(a, column, now.group[r]);
                const float value = steer_to_f32(now.x[r][threadIdx.x]);
                state.sum = __fadd_rn(state.sum, value);
                state.squares = __fadd_rn(state.squares, __fmul_rn(value, value));
            }
        }
        __syncthreads();
    }
    if (column < a.hidden) state.change_to(a, column, -1);
}

} // namespace

int steer_cuda_accumulate(void *handle, const steer_accumulate *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (args->rows == 0 || args->groups == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_float(args->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        const dim3 grid((unsigned)steer_divide_up(args->hidden, COLUMNS),
                        (unsigned)(args->groups < MOST_GROUPS ? args->groups : MOST_GROUPS));
        const bool wide = args->hidden % steer_wide<T> == 0 && steer_is_wide(args->x, 0);
        return steer_cuda_launch(device, wide ? accumulate_columns<T, true> : accumulate_columns<T, false>,
                                 grid, THREADS, 0, "the kernel that adds rows", *args);
    });
}
