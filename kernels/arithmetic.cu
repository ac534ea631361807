/* arithmetic.cu: functions of one element, of two, comparisons, and choices by a mask.
 *
 *     unary   dst[i] = op(a[i])                         floats in f32; integers take ABS only
 *     binary  dst[i] = a[i] (op) alpha * b[i]           floats in f32, every operation rounded; integers in 64 bits
 *     scalar  dst[i] = a[i] (op) value                  dst of a comparison is u8
 *     where   dst[i] = mask[i] ? a[i] : b[i] */
#include "convert.cuh"
#include "map.cuh"

namespace {

/* ---- One element --------------------------------------------------------------------------------------------- */

__device__ __forceinline__ float function_of(steer_unary op, float x) {
    switch (op) {
    case STEER_EXP:
        return expf(x);
    case STEER_LOG:
        return logf(x);
    case STEER_SQRT:
        return __fsqrt_rn(x);
    case STEER_ABS:
        return fabsf(x);
    case STEER_SIGMOID:
        return __fdiv_rn(1.0f, __fadd_rn(1.0f, expf(-x)));
    case STEER_TANH:
        return tanhf(x);
    case STEER_ASIN:
        return asinf(x);
    default:
        return acosf(x);
    }
}

template <typename T> struct unary_op {
    steer_unary op;
    __device__ T operator()(int64_t, T x) const {
        if constexpr (steer_is_float<T>) {
            return steer_from_f32<T>(function_of(op, steer_to_f32(x)));
        } else {
            int64_t wide = x;
            return static_cast<T>(wide < 0 ? static_cast<int64_t>(0 - static_cast<uint64_t>(wide)) : wide);
        }
    }
};

/* ---- Two elements -------------------------------------------------------------------------------------------- */

__device__ __forceinline__ float calculate(steer_binary op, float a, float b) {
    switch (op) {
    case STEER_ADD:
        return __fadd_rn(a, b);
    case STEER_SUB:
        return __fsub_rn(a, b);
    case STEER_MUL:
        return __fmul_rn(a, b);
    case STEER_DIV:
        return __fdiv_rn(a, b);
    case STEER_LOWER: /* NaN wins */
        return a != a || a < b ? a : b;
    default:
        return a != a || a > b ? a : b;
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
    case STEER_DIV:
        return b == 0 ? 0 : b == -1 ? static_cast<int64_t>(0 - x) : a / b;
    case STEER_LOWER:
        return a < b ? a : b;
    default:
        return a > b ? a : b;
    }
}

/* W is float or int64_t; with NaN all but NE are false. */
template <typename W> __device__ __forceinline__ uint8_t compare(steer_binary op, W a, W b) {
    switch (op) {
    case STEER_EQ:
        return a == b;
    case STEER_NE:
        return a != b;
    case STEER_LT:
        return a < b;
    case STEER_LE:
        return a <= b;
    case STEER_GT:
        return a > b;
    default:
        return a >= b;
    }
}

/* Three kinds of functors, so that powf costs the others no registers. R is the type of the result. */
template <typename T> struct arithmetic {
    using R = T;
    steer_binary op;
    __device__ T of(steer_work<T> a, steer_work<T> b) const {
        return steer_from_work<T>(calculate(op, a, b));
    }
};

template <typename T> struct power {
    using R = T;
    steer_binary op;
    __device__ T of(float a, float b) const { return steer_from_f32<T>(powf(a, b)); }
};

template <typename T> struct comparison {
    using R = uint8_t;
    steer_binary op;
    __device__ uint8_t of(steer_work<T> a, steer_work<T> b) const { return compare(op, a, b); }
};

template <typename T, typename F> struct binary_op : F {
    steer_work<T> alpha;
    __device__ typename F::R operator()(int64_t, T a, T b) const {
        return F::of(steer_to_work(a), calculate(STEER_MUL, alpha, steer_to_work(b)));
    }
};

template <typename T, typename F> struct scalar_op : F {
    steer_work<T> value;
    __device__ typename F::R operator()(int64_t, T a) const { return F::of(steer_to_work(a), value); }
};

/* Calls f(functor) with the one that computes `op` of elements of T. */
template <typename T, typename F> int with_functor(steer_binary op, F f) {
    if (steer_binary_compares(op)) return f(comparison<T>{op});
    if (op != STEER_POW) return f(arithmetic<T>{op});
    if constexpr (steer_is_float<T>)
        return f(power<T>{op});
    else
        return STEER_CUDA_FAIL(STEER_E_DTYPE_MISMATCH, "a: integers have no pow");
}

/* A host number in the type that T is worked on in. */
template <typename T> steer_work<T> host_number(double x) {
    if constexpr (steer_is_float<T>)
        return static_cast<float>(x);
    else if (x != x)
        return 0;
    else
        return x >= 9223372036854775808.0   ? INT64_MAX
               : x < -9223372036854775808.0 ? INT64_MIN
                                            : static_cast<int64_t>(x);
}

template <typename T> struct where_op {
    __device__ T operator()(int64_t, uint8_t mask, T a, T b) const { return mask ? a : b; }
};

} // namespace

/* ---- Entries -------------------------------------------------------------------------------------------------- */

int steer_cuda_unary(void *handle, const steer_view *dst, const steer_view *a, steer_unary op) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_dtype(a->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        return steer_each<T, T>::run(device, unary_op<T>{op}, dst, a);
    });
}

int steer_cuda_binary(void *handle, const steer_view *dst, const steer_view *a, const steer_view *b,
                      steer_binary op, double alpha) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_dtype(a->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        return with_functor<T>(op, [&](auto functor) {
            using F = decltype(functor);
            binary_op<T, F> map = {functor, host_number<T>(alpha)};
            return steer_each<typename F::R, T, T>::run(device, map, dst, a, b);
        });
    });
}

int steer_cuda_scalar(void *handle, const steer_view *dst, const steer_view *a, steer_binary op,
                      double value) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_dtype(a->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        return with_functor<T>(op, [&](auto functor) {
            using F = decltype(functor);
            scalar_op<T, F> map = {functor, host_number<T>(value)};
            return steer_each<typename F::R, T>::run(device, map, dst, a);
        });
    });
}

int steer_cuda_where(void *handle, const steer_view *dst, const steer_view *mask, const steer_view *a,
                     const steer_view *b) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_word(dst->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        return steer_each<T, uint8_t, T, T>::run(device, where_op<T>(), dst, mask, a, b);
    });
}
