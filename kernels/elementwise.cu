/* elementwise.cu: copy and conversion, fill, arange, and elements by their index.
 *
 *     copy    dst[i] = convert(src[i])
 *     fill    dst[i] = value
 *     arange  dst[i] = start + i * step                 in f64
 *     take    dst[o, i, j] = src[o, index[o, i, j] - base, j] */
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

template <typename T, typename I> struct take_op {
    const T *src;
    int64_t stride[3], kept, inner, base; /* of dst: elements of an outer index, and of one of the middle */
    __device__ T operator()(int64_t i, I index) const {
        int64_t which = static_cast<int64_t>(index) - base;
        return src[i / kept * stride[0] + which * stride[1] + i % inner * stride[2]];
    }
};

int steer_cuda_take(void *handle, const steer_view *dst, const steer_view *src, const steer_view *index,
                    int64_t base) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    const int64_t inner = dst->shape[2], kept = dst->shape[1] * inner;
    return steer_with_word(dst->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        const auto with_index = [&](auto zero) {
            using I = decltype(zero);
            const take_op<T, I> op = {static_cast<const T *>(src->data),
                                      {src->stride[0], src->stride[1], src->stride[2]},
                                      kept,
                                      inner,
                                      base};
            return steer_each<T, I>::run(device, op, dst, index);
        };
        return index->dtype == STEER_I32 ? with_index(int32_t()) : with_index(int64_t());
    });
}
