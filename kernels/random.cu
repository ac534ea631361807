/* random.cu: dst[i] = number i of the Philox stream of a seed; backend/random.h has the formula. */
#include "backend/random.h"
#include "map.cuh"
#include "convert.cuh"

/* A contiguous dst: a thread writes the four numbers of a block. */
template <typename T>
static __global__ void __launch_bounds__(256)
    random_dense(T *dst, int64_t n, steer_random kind, steer_dtype dtype, uint64_t seed) {
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t block = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; block * 4 < n; block += step) {
        float four[4];
        steer_random_block(four, kind, dtype, (uint64_t)block, seed);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (block * 4 + i < n) dst[block * 4 + i] = steer_from_f32<T>(four[i]);
        }
    }
}

/* Any other dst: an element at a time. */
template <typename T> struct random_op {
    steer_random kind;
    steer_dtype dtype;
    uint64_t seed;
    __device__ T operator()(int64_t i) const {
        float four[4];
        steer_random_block(four, kind, dtype, (uint64_t)i >> 2, seed);
        int lane = (int)(i & 3);
        return steer_from_f32<T>(lane == 0 ? four[0] : lane == 1 ? four[1] : lane == 2 ? four[2] : four[3]);
    }
};

int steer_cuda_random(void *handle, const steer_view *dst, steer_random kind, uint64_t seed) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    const steer_view *const views[] = {dst};
    steer_layout<1> layout = steer_layout_make(views);
    return steer_with_float(dst->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        if (!(layout.ndim == 1 && layout.stride[0][0] == 1))
            return steer_each<T>::run(device, random_op<T>{kind, dst->dtype, seed}, dst);
        int64_t blocks = (layout.numel + 1023) / 1024, most = 1 << 20;
        random_dense<T><<<(unsigned)(blocks < most ? blocks : most), 256, 0, steer_cuda_stream(device)>>>(
            static_cast<T *>(dst->data), layout.numel, kind, dst->dtype, seed);
        STEER_CUDA_LAUNCHED("the random kernel");
        return (int)STEER_OK;
    });
}
