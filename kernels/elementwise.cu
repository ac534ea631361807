/* elementwise.cu: copy and conversion, fill, arange, and arithmetic.
 *
 *     copy    dst[i] = convert(src[i])
 *     fill    dst[i] = value
 *     arange  dst[i] = start + i * step                 in f64
 *     binary  dst[i] = a[i] (op) alpha * b[i]           floats in f32, every operation rounded; integers in 64 bits
 *     scalar  dst[i] = a[i] (op) value */
#include "convert.cuh"
#include "map.cuh"

template <typename D, typename S> struct copy_op {
    __device__ D operator()(int64_t, S x) const { return steer_convert<D>(x); }
};

int steer_cuda_copy(void *handle, const steer_view *dst, const steer_view *src) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_dtype(dst->dtype, [&](auto to) {
        using D = typename decltype(to)::type;
        return steer_with_dtype(src->dtype, [&](auto from) {
            using S = typename decltype(from)::type;
            return steer_each<D, S>::run(device, copy_op<D, S>(), dst, src);
        });
    });
}

template <typename T> struct fill_op {
    double value;
    __device__ T operator()(int64_t) const { return steer_from_f64<T>(value); }
};

int steer_cuda_fill(void *handle, const steer_view *dst, double value) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_dtype(dst->dtype, [&](auto to) {
        using T = typename decltype(to)::type;
        return steer_each<T>::run(device, fill_op<T>{value}, dst);
    });
}

template <typename T> struct arange_op {
    double start, step;
    __device__ T operator()(int64_t i) const {
        return steer_from_f64<T>(__dadd_rn(start, __dmul_rn(__ll2double_rn(i), step)));
    }
};

int steer_cuda_arange(void *handle, const steer_view *dst, double start, double step) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_dtype(dst->dtype, [&](auto to) {
        using T = typename decltype(to)::type;
        return steer_each<T>::run(device, arange_op<T>{start, step}, dst);
    });
}

/* ---- Arithmetic ---------------------------------------------------------------------------------------------- */

__device__ __forceinline__ float calculate(steer_binary op, float a, float b) {
    switch (op) {
    case STEER_ADD:
        return __fadd_rn(a, b);
    case STEER_SUB:
        return __fsub_rn(a, b);
    case STEER_MUL:
        return __fmul_rn(a, b);
    default:
        return __fdiv_rn(a, b);
    }
}

/* Wraps; division by 0 gives 0. */
__device__ __forceinline__ int64_t calculate(steer_binary op, int64_t a, int64_t b) {
    uint64_t x = static_cast<uint64_t>(a), y = static_cast<uint64_t>(b);
    switch (op) {
    case STEER_ADD:
        return static_cast<int64_t>(x + y);
    case STEER_SUB:
        return static_cast<int64_t>(x - y);
    case STEER_MUL:
        return static_cast<int64_t>(x * y);
    default:
        return b == 0 ? 0 : b == -1 ? static_cast<int64_t>(0 - x) : a / b;
    }
}

/* A host number in the type that T is worked on in. */
template <typename T> static steer_work<T> host_number(double x) {
    if constexpr (steer_is_float<T>)
        return static_cast<float>(x);
    else if (x != x)
        return 0;
    else
        return x >= 9223372036854775808.0   ? INT64_MAX
               : x < -9223372036854775808.0 ? INT64_MIN
                                            : static_cast<int64_t>(x);
}

template <typename T> struct binary_op {
    steer_binary op;
    steer_work<T> alpha;
    __device__ T operator()(int64_t, T a, T b) const {
        steer_work<T> scaled = calculate(STEER_MUL, alpha, steer_to_work(b));
        return steer_from_work<T>(calculate(op, steer_to_work(a), scaled));
    }
};

int steer_cuda_binary(void *handle, const steer_view *dst, const steer_view *a, const steer_view *b,
                      steer_binary op, double alpha) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_dtype(dst->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        return steer_each<T, T, T>::run(device, binary_op<T>{op, host_number<T>(alpha)}, dst, a, b);
    });
}

template <typename T> struct scalar_op {
    steer_binary op;
    steer_work<T> value;
    __device__ T operator()(int64_t, T a) const {
        return steer_from_work<T>(calculate(op, steer_to_work(a), value));
    }
};

int steer_cuda_scalar(void *handle, const steer_view *dst, const steer_view *a, steer_binary op,
                      double value) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_dtype(dst->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        return steer_each<T, T>::run(device, scalar_op<T>{op, host_number<T>(value)}, dst, a);
    });
}
