/* reduce.cu: reductions, normalize and softmax along the middle of [outer, n, inner]; the order of every sum is fixed.
 *
 *     sum, mean   sum of x (/ n)                 f64 for floats, i64 for integers
 *     norm        sqrt(sum of x * x)             f64
 *     var, std    sum of (x - mean)^2 / (n - 1), over n of a population, and its root    f64
 *     max, min    NaN wins;  argmax, argmin: index of the first such element, or of the first NaN
 *     normalize   x / norm
 *     softmax     exp(x - max) / sum of exp(x - max)
 *
 * A block of 256 threads serves X outputs with Y threads each: thread y takes elements y, y + Y, ... and the Y partial
 * results merge pairwise in shared memory. Where outputs are few and n is long, n is cut into parts that write their
 * states to scratch memory, and the same kernel then reduces the states. The cut depends on the shape alone. */
#include "convert.cuh"
#include "map.cuh"

#include <stdlib.h>

namespace {

/* ---- What is gathered ----------------------------------------------------------------------------------------
 * State is what a thread holds; start() the state of no elements; add() takes element i of output o; merge() another
 * thread's state; finish() gives the result of n elements as a double or an int64_t. */

template <typename T> struct sum_op {
    using State = typename std::conditional<steer_is_float<T>, double, int64_t>::type;
    __device__ State start() const { return 0; }
    __device__ void add(State &s, T x, int64_t, int64_t) const {
        merge(s, static_cast<State>(steer_to_work(x)));
    }
    __device__ void merge(State &s, const State &other) const {
        if constexpr (steer_is_float<T>)
            s += other;
        else
            s = static_cast<int64_t>(static_cast<uint64_t>(s) + static_cast<uint64_t>(other));
    }
    __device__ State finish(const State &s, int64_t) const { return s; }
};

/* R is double, or int64_t for a mean of integers that is stored as an integer. */
template <typename T, typename R> struct mean_op : sum_op<T> {
    __device__ R finish(const typename sum_op<T>::State &s, int64_t n) const {
        return static_cast<R>(s) / static_cast<R>(n);
    }
};

template <typename T> struct norm_op {
    using State = double;
    __device__ State start() const { return 0.0; }
    __device__ void add(State &s, T x, int64_t, int64_t) const {
        double value = static_cast<double>(steer_to_work(x));
        s += value * value;
    }
    __device__ void merge(State &s, const State &other) const { s += other; }
    __device__ double finish(const State &s, int64_t) const { return sqrt(s); }
};

/* Count, mean and squared distances from it, merged as by Chan, Golub and LeVeque (1979): no sum of squares that cancels. */
struct spread {
    double count, mean, squares;
};

template <typename T> struct spread_op {
    using State = spread;
    bool sample, root;
    __device__ State start() const { return {0.0, 0.0, 0.0}; }
    __device__ void add(State &s, T x, int64_t, int64_t) const {
        double value = static_cast<double>(steer_to_work(x)), away = value - s.mean;
        s.count += 1.0;
        s.mean += away / s.count;
        s.squares += away * (value - s.mean);
    }
    __device__ void merge(State &s, const State &other) const {
        if (other.count == 0.0) return;
        double count = s.count + other.count, away = other.mean - s.mean;
        s.squares += other.squares + away * away * (s.count * other.count / count);
        s.mean += away * (other.count / count);
        s.count = count;
    }
    __device__ double finish(const State &s, int64_t n) const {
        double variance = s.squares / static_cast<double>(sample ? n - 1 : n);
        return root ? sqrt(variance) : variance;
    }
};

template <typename W> __device__ __forceinline__ W least() {
    if constexpr (std::is_same<W, float>::value)
        return __int_as_float(0xff800000); /* -inf */
    else
        return INT64_MIN;
}

template <typename W> __device__ __forceinline__ W greatest() {
    if constexpr (std::is_same<W, float>::value)
        return __int_as_float(0x7f800000);
    else
        return INT64_MAX;
}

template <typename T, bool IS_MAX> struct extreme_op {
    using State = steer_work<T>;
    __device__ State start() const { return IS_MAX ? least<State>() : greatest<State>(); }
    __device__ void add(State &s, T x, int64_t, int64_t) const { merge(s, steer_to_work(x)); }
    __device__ void merge(State &s, const State &other) const {
        if (other != other || (IS_MAX ? other > s : other < s)) s = other;
    }
    __device__ typename std::conditional<steer_is_float<T>, double, int64_t>::type finish(const State &s,
                                                                                          int64_t) const {
        return s;
    }
};

template <typename W> struct ranked {
    W value;
    int64_t index;
};

/* The index of the first greatest (or least) element. */
template <typename T, bool IS_MAX> struct position_op {
    using W = steer_work<T>;
    using State = ranked<W>;
    __device__ State start() const { return {IS_MAX ? least<W>() : greatest<W>(), INT64_MAX}; }
    __device__ void add(State &s, T x, int64_t i, int64_t) const { merge(s, {steer_to_work(x), i}); }
    __device__ void merge(State &s, const State &other) const {
        bool nan = s.value != s.value, other_nan = other.value != other.value;
        bool equal = nan ? other_nan : other.value == s.value;
        bool beyond = IS_MAX ? other.value > s.value : other.value < s.value;
        if (equal ? other.index < s.index : other_nan || (!nan && beyond)) s = other;
    }
    __device__ int64_t finish(const State &s, int64_t) const { return s.index; }
};

/* The sum of a softmax; max has one entry for each output. */
template <typename T> struct exponential_op {
    using State = double;
    const float *max;
    __device__ State start() const { return 0.0; }
    __device__ void add(State &s, T x, int64_t, int64_t o) const {
        s += expf(__fsub_rn(steer_to_f32(x), max[o]));
    }
    __device__ void merge(State &s, const State &other) const { s += other; }
    __device__ double finish(const State &s, int64_t) const { return s; }
};

/* The second step: the elements are the states of the first. */
template <typename Op> struct merge_op : Op {
    using State = typename Op::State;
    __device__ void add(State &s, const State &other, int64_t, int64_t) const { this->merge(s, other); }
};

/* ---- The kernel ---------------------------------------------------------------------------------------------- */

struct source {
    const void *data;
    int64_t n;
    int64_t inner;
    int64_t stride[3];
};

/* Where results go: elements of dst, or states in scratch memory. */
struct target {
    void *data;
    steer_dtype dtype;
    bool states;
    int64_t n; /* elements reduced: the divisor of a mean */
    int64_t inner;
    int64_t stride[2];
};

/* Y threads serve an output; `along` says that neighbouring threads are neighbours along n, else along the outputs. */
struct shape {
    int y;
    bool along;
    int64_t part; /* elements of n that a block takes */
    int64_t parts;
    int64_t outputs;
};

template <typename R> __device__ void store(const target &to, int64_t at, R x) {
    auto put = [&](auto *data) {
        using D = typename std::remove_pointer<decltype(data)>::type;
        if constexpr (std::is_same<R, double>::value)
            data[at] = steer_from_f64<D>(x);
        else
            data[at] = steer_convert<D>(x);
    };
    switch (to.dtype) {
    case STEER_F32:
        return put(static_cast<float *>(to.data));
    case STEER_F16:
        return put(static_cast<steer_f16 *>(to.data));
    case STEER_BF16:
        return put(static_cast<steer_bf16 *>(to.data));
    case STEER_I32:
        return put(static_cast<int32_t *>(to.data));
    case STEER_I64:
        return put(static_cast<int64_t *>(to.data));
    default:
        return put(static_cast<uint8_t *>(to.data));
    }
}

template <typename Op, typename T>
__global__ void __launch_bounds__(256) reduce_kernel(Op op, source from, target to, shape work) {
    using State = typename Op::State;
    __shared__ State shared[256];
    int per_block = 256 / work.y;
    int x = work.along ? threadIdx.x / work.y : threadIdx.x % per_block;
    int y = work.along ? threadIdx.x % work.y : threadIdx.x / per_block;
    int slot = y * per_block + x;
    int64_t begin = blockIdx.y * work.part;
    int64_t end = begin + work.part < from.n ? begin + work.part : from.n;

    for (int64_t first = (int64_t)blockIdx.x * per_block; first < work.outputs;
         first += (int64_t)gridDim.x * per_block) {
        int64_t o = first + x;
        State state = op.start();
        if (o < work.outputs) {
            const T *data = static_cast<const T *>(from.data) + o / from.inner * from.stride[0] +
                            o % from.inner * from.stride[2];
#pragma unroll 4
            for (int64_t i = begin + y; i < end; i += work.y) op.add(state, data[i * from.stride[1]], i, o);
        }
        shared[slot] = state;
        __syncthreads();
        for (int half = work.y / 2; half > 0; half /= 2) {
            if (y < half) op.merge(shared[slot], shared[slot + half * per_block]);
            __syncthreads();
        }
        if (y == 0 && o < work.outputs) {
            if (to.states)
                static_cast<State *>(to.data)[o * work.parts + blockIdx.y] = shared[slot];
            else
                store(to, o / to.inner * to.stride[0] + o % to.inner * to.stride[1],
                      op.finish(shared[slot], to.n));
        }
    }
}

/* ---- Launching ----------------------------------------------------------------------------------------------- */

int power_of_two(int64_t at_least, int most) {
    int p = 1;
    while (p < most && p < at_least) p *= 2;
    return p;
}

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Neighbouring threads read neighbouring memory: along the outputs where those lie closer together than the elements
 * of one. About 512 blocks fill any GPU; a part has at least 16 elements a thread. */
shape choose(const source &from, int64_t outputs, bool may_cut) {
    shape s = {};
    s.outputs = outputs;
    s.along = !(from.inner > 1 && llabs(from.stride[2]) < llabs(from.stride[1]));
    s.y = power_of_two(from.n, s.along ? 256 : 256 / power_of_two(from.inner, 32));
    s.part = from.n;
    s.parts = 1;
    int64_t blocks = divide_up(outputs, 256 / s.y), parts = 512 / blocks, most = from.n / (16 * s.y);
    if (parts > most) parts = most;
    if (may_cut && parts > 1) {
        s.part = divide_up(from.n, parts);
        s.parts = divide_up(from.n, s.part);
    }
    return s;
}

template <typename T, typename Op>
int launch(steer_cuda_device *device, const Op &op, const source &from, const target &to, const shape &work) {
    int64_t blocks = divide_up(work.outputs, 256 / work.y);
    dim3 grid((unsigned)(blocks < INT32_MAX ? blocks : INT32_MAX), (unsigned)work.parts);
    reduce_kernel<Op, T><<<grid, 256, 0, steer_cuda_stream(device)>>>(op, from, to, work);
    STEER_CUDA_LAUNCHED("a reduction kernel");
    return STEER_OK;
}

template <typename T, typename Op>
int run(steer_cuda_device *device, const Op &op, const steer_view *src, const target &to) {
    using State = typename Op::State;
    source from = {src->data, src->shape[1], src->shape[2], {src->stride[0], src->stride[1], src->stride[2]}};
    int64_t outputs = src->shape[0] * src->shape[2];
    if (outputs == 0) return STEER_OK;
    shape work = choose(from, outputs, true);
    if (work.parts == 1) return launch<T>(device, op, from, to, work);

    steer_cuda_scratch states(device);
    STEER_CUDA_CHECK(states.get(sizeof(State) * (size_t)(outputs * work.parts)));
    target partial = to;
    partial.data = states.data;
    partial.states = true;
    STEER_CUDA_CHECK(launch<T>(device, op, from, partial, work));
    source again = {states.data, work.parts, 1, {work.parts, 1, 0}};
    return launch<State>(device, merge_op<Op>{op}, again, to, choose(again, outputs, false));
}

} // namespace

int steer_cuda_reduce(void *handle, const steer_view *dst, const steer_view *src, steer_reduce op) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    target to = {dst->data,     dst->dtype,    false,
                 src->shape[1], src->shape[2], {dst->stride[0], dst->stride[1]}};
    bool to_float = dst->dtype == STEER_F32 || dst->dtype == STEER_F16 || dst->dtype == STEER_BF16;
    return steer_with_dtype(src->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        switch (op) {
        case STEER_SUM:
            return run<T>(device, sum_op<T>(), src, to);
        case STEER_MEAN:
            if constexpr (!steer_is_float<T>) {
                if (!to_float) return run<T>(device, mean_op<T, int64_t>(), src, to);
            }
            return run<T>(device, mean_op<T, double>(), src, to);
        case STEER_MAX:
            return run<T>(device, extreme_op<T, true>(), src, to);
        case STEER_MIN:
            return run<T>(device, extreme_op<T, false>(), src, to);
        case STEER_ARGMAX:
            return run<T>(device, position_op<T, true>(), src, to);
        case STEER_ARGMIN:
            return run<T>(device, position_op<T, false>(), src, to);
        case STEER_VAR:
        case STEER_STD:
            return run<T>(device, spread_op<T>{true, op == STEER_STD}, src, to);
        case STEER_POPULATION_VAR:
        case STEER_POPULATION_STD:
            return run<T>(device, spread_op<T>{false, op == STEER_POPULATION_STD}, src, to);
        case STEER_NORM:
            return run<T>(device, norm_op<T>(), src, to);
        default:
            return STEER_CUDA_FAIL(STEER_E_INVALID_ARGUMENT, "op: %d is not a reduction", (int)op);
        }
    });
}

/* ---- Normalize and softmax: reduce, then map over the elements ----------------------------------------------- */

namespace {

/* One state for each output, in scratch memory, and as a view that is broadcast along n of src. */
template <typename T, typename Op>
int gather(steer_cuda_device *device, const Op &op, const steer_view *src, steer_cuda_scratch *scratch,
           steer_view *out) {
    int64_t inner = src->shape[2], outputs = src->shape[0] * inner;
    STEER_CUDA_CHECK(scratch->get(sizeof(typename Op::State) * (size_t)outputs));
    *out = *src;
    out->data = scratch->data;
    out->stride[0] = inner;
    out->stride[1] = 0;
    out->stride[2] = 1;
    target to = {scratch->data, src->dtype, true, src->shape[1], inner, {inner, 1}};
    return run<T>(device, op, src, to);
}

template <typename T> struct normalize_op {
    __device__ T operator()(int64_t, T x, double squares) const {
        return steer_from_f64<T>(__ddiv_rn(static_cast<double>(steer_to_f32(x)), __dsqrt_rn(squares)));
    }
};

template <typename T> struct softmax_op {
    __device__ T operator()(int64_t, T x, float max, double sum) const {
        return steer_from_f64<T>(__ddiv_rn(static_cast<double>(expf(__fsub_rn(steer_to_f32(x), max))), sum));
    }
};

} // namespace

int steer_cuda_normalize(void *handle, const steer_view *dst, const steer_view *src) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_float(dst->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        steer_cuda_scratch scratch(device);
        steer_view squares;
        STEER_CUDA_CHECK(gather<T>(device, norm_op<T>(), src, &scratch, &squares));
        return steer_each<T, T, double>::run(device, normalize_op<T>(), dst, src, &squares);
    });
}

int steer_cuda_softmax(void *handle, const steer_view *dst, const steer_view *src) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_float(dst->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        steer_cuda_scratch max_scratch(device), sum_scratch(device);
        steer_view max, sum;
        STEER_CUDA_CHECK(gather<T>(device, extreme_op<T, true>(), src, &max_scratch, &max));
        exponential_op<T> exponentials = {static_cast<const float *>(max.data)};
        STEER_CUDA_CHECK(gather<T>(device, exponentials, src, &sum_scratch, &sum));
        return steer_each<T, T, float, double>::run(device, softmax_op<T>(), dst, src, &max, &sum);
    });
}
