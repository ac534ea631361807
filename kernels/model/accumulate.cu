/* accumulate.cu: sums of rows by group, in the order of the rows.
 *
 *     sum[g] = sum[g] + x[row] + x[next row of g] + ...     squares[g]: the same of x * x, each product rounded
 *
 * Long sums take a few warps for some microseconds: they run beside the products that follow, on a stream of their own, and
 * steer_cuda_join makes the step wait for them. Of groups of few rows a thread has a pack of columns. Of long ones a thread has
 * one column, as nothing is faster than its chain of additions, and a warp 32: it copies their rows to shared memory so far ahead
 * that only the chain takes time. */
#include "mma.cuh"

namespace {

/* ---- Few rows ------------------------------------------------------------------------------------------------ */

enum { THREADS = 128, FEW = 16, AT_ONCE = 4 };

/* V columns of a group's sums, 16 bytes at a time where there are more than one. */
template <int V> __device__ __forceinline__ void read_sums(float (&to)[V], const float *from) {
    constexpr int PART = V < 4 ? V : 4;
#pragma unroll
    for (int i = 0; i < V; i += PART) steer_read(reinterpret_cast<float(&)[PART]>(to[i]), from + i);
}
template <int V> __device__ __forceinline__ void write_sums(float *to, const float (&from)[V]) {
    constexpr int PART = V < 4 ? V : 4;
#pragma unroll
    for (int i = 0; i < V; i += PART) steer_write(to + i, reinterpret_cast<const float(&)[PART]>(from[i]));
}

/* Block (i, j): group i, columns from j * THREADS * V on. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 8) accumulate_few(steer_accumulate a) {
    const int32_t *row = a.row + a.first[blockIdx.x];
    const int count = a.first[blockIdx.x + 1] - a.first[blockIdx.x];
    const int64_t column = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * V;
    const int64_t at = a.group[blockIdx.x] * a.sum_stride + column;
    int rows[AT_ONCE]; /* the next ones, known before they are needed */
    auto find = [&](int from) {
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++)
            if (from + n < count) rows[n] = row[from + n];
    };
    find(0);
    steer_begin();
    if (column >= a.hidden) return;
    const T *x = static_cast<const T *>(a.x) + column;
    float sum[V], squares[V];
    read_sums(sum, a.sum + at);
    if (a.squares) read_sums(squares, a.squares + at);
    for (int from = 0; from < count; from += AT_ONCE) {
        steer_pack<T, V> values[AT_ONCE];
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++)
            if (from + n < count)
                values[n] = *reinterpret_cast<const steer_pack<T, V> *>(x + (int64_t)rows[n] * a.hidden);
        find(from + AT_ONCE);
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            if (from + n >= count) break;
#pragma unroll
            for (int v = 0; v < V; v++) {
                const float value = steer_to_f32(values[n].at[v]);
                sum[v] = __fadd_rn(sum[v], value);
                if (a.squares) squares[v] = __fadd_rn(squares[v], __fmul_rn(value, value));
            }
        }
    }
    write_sums(a.sum + at, sum);
    if (a.squares) write_sums(a.squares + at, squares);
}

/* ---- Many rows ----------------------------------------------------------------------------------------------- */

/* LONG: rows of a group from which the sums take longer than two streams take to wait for each other. */
enum { COLUMNS = 32, STAGES = 4, STAGE_BYTES = 8192, TAIL = 16, LONG = 256 };

template <typename T> constexpr int stage_rows = STAGE_BYTES / COLUMNS / (int)sizeof(T);

/* What the fetching warp's lane copies: 16 bytes of every STEP-th row. */
template <typename T> struct source {
    static constexpr int ROWS = stage_rows<T>, LANES = COLUMNS / steer_wide<T>, STEP = 32 / LANES;
    const char *x; /* its part of row 0 */
    const int32_t *row;
    int count, stride, lane;
    bool there;          /* its part is within the rows */
    int next[ROWS / 32]; /* numbers of rows of the stage that is fetched next, known before they are needed */

    __device__ __forceinline__ void find(int stage) {
        const int from = stage * ROWS + lane;
#pragma unroll
        for (int k = 0; k < ROWS / 32; k++) next[k] = row[min(from + k * 32, count - 1)];
    }
    __device__ __forceinline__ void fetch(T (*to)[COLUMNS], int stage) {
        if (stage * ROWS < count) {
            T *at = &to[lane / LANES][lane % LANES * steer_wide<T>];
#pragma unroll
            for (int r = 0; r < ROWS; r += STEP) {
                const int from = __shfl_sync(0xffffffffu, next[r / 32], r % 32 + lane / LANES);
                steer_copy_16(at + r * COLUMNS, x + (int64_t)from * stride, there);
            }
            find(stage + 1);
        }
        steer_copies_close();
    }
};

/* Adds the first `count` rows of a stage: f(element) for each. */
template <typename T, typename F>
__device__ __forceinline__ void for_rows(const T (*rows)[COLUMNS], int count, int lane, F f) {
    if (count >= stage_rows<T>) {
#pragma unroll
        for (int r = 0; r < stage_rows<T>; r++) f(rows[r][lane]);
        return;
    }
    for (int from = 0; from < count; from += TAIL) {
#pragma unroll
        for (int r = 0; r < TAIL; r++)
            if (from + r < count) f(rows[from + r][lane]);
    }
}

/* Block (i, j): group i, columns from j * COLUMNS on. The second warp has rows come, stage by stage, and the first adds them. */
template <typename T, bool SQUARES>
__global__ void __launch_bounds__(64) accumulate_many(steer_accumulate a) {
    __shared__ alignas(16) T room[STAGES][stage_rows<T>][COLUMNS];
    const int lane = threadIdx.x % 32, first = a.first[blockIdx.x], count = a.first[blockIdx.x + 1] - first;
    const int64_t column = (int64_t)blockIdx.y * COLUMNS;
    if (threadIdx.x >= 32) {
        const int64_t part = column + lane % source<T>::LANES * steer_wide<T>;
        source<T> from = {reinterpret_cast<const char *>(static_cast<const T *>(a.x) + part),
                          a.row + first,
                          count,
                          (int)a.hidden * (int)sizeof(T),
                          lane,
                          part < a.hidden};
        from.find(0);
        steer_begin();
        for (int stage = 0; stage < STAGES - 1; stage++) from.fetch(room[stage], stage);
        for (int stage = 0; stage * stage_rows<T> < count; stage++) {
            steer_copies_wait<STAGES - 2>();
            __syncthreads(); /* this stage has come, and the room of the next one is free */
            from.fetch(room[(stage + STAGES - 1) % STAGES], stage + STAGES - 1);
        }
        return;
    }
    const bool there = column + lane < a.hidden;
    const int64_t at = a.group[blockIdx.x] * a.sum_stride + column + lane;
    steer_begin();
    float sum = there ? a.sum[at] : 0.0f, squares = SQUARES && there ? a.squares[at] : 0.0f;
    for (int stage = 0; stage * stage_rows<T> < count; stage++) {
        __syncthreads();
        for_rows(room[stage % STAGES], count - stage * stage_rows<T>, lane, [&](T element) {
            const float value = steer_to_f32(element);
            sum = __fadd_rn(sum, value);
            if (SQUARES) squares = __fadd_rn(squares, __fmul_rn(value, value));
        });
    }
    if (there) {
        a.sum[at] = sum;
        if (SQUARES) a.squares[at] = squares;
    }
}

/* ---- Beside other work --------------------------------------------------------------------------------------- */

/* Lets what is launched while there is one run beside the work of the current stream, after what is there by now. */
struct beside {
    steer_cuda_choice *const choice;
    const cudaStream_t caller;

    beside(steer_cuda_device *device) : choice(steer_cuda_chosen(device)), caller(choice->caller) {
        choice->caller = device->beside;
        choice->beside = true;
    }
    ~beside() { choice->caller = caller; }
};

template <typename F> int launch_beside(steer_cuda_device *device, F launch) {
    STEER_CUDA_CHECK(steer_cuda_order(device, device->beside, steer_cuda_stream(device)));
    const beside now(device);
    return launch();
}

} // namespace

int steer_cuda_accumulate(void *handle, const steer_accumulate *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (args->count == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    const bool wide = steer_is_wide(args->x, args->hidden * (args->dtype == STEER_F32 ? 4 : 2)) &&
                      steer_is_wide(args->sum, args->sum_stride * 4) && steer_is_wide(args->squares, 0);
    return steer_with_packs(args->dtype, wide, [&](auto type, auto pack) {
        using T = typename decltype(type)::type;
        constexpr int V = decltype(pack)::value;
        const char *what = "the kernel that adds rows";
        const bool many = V > 1 && args->most_rows > FEW;
        const auto kernel = !many           ? accumulate_few<T, V>
                            : args->squares ? accumulate_many<T, true>
                                            : accumulate_many<T, false>;
        const int threads = many ? 64 : THREADS, columns = many ? (int)COLUMNS : THREADS * V;
        const dim3 grid((unsigned)args->count, (unsigned)steer_divide_up(args->hidden, columns));
        const auto launch = [&] { return steer_cuda_launch(device, kernel, grid, threads, 0, what, *args); };
        const bool is_long = args->most_rows >= LONG && !steer_cuda_is_capturing(device);
        return is_long ? launch_beside(device, launch) : launch();
    });
}

int steer_cuda_join(void *handle) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    steer_cuda_choice *choice = steer_cuda_chosen(device);
    if (!choice->beside) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    choice->beside = false;
    return steer_cuda_order(device, steer_cuda_stream(device), device->beside);
}
