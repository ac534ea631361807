/* activate.cu: out = act(x), or act(gate) * up of rows [gate | up]; in f32, rounded once. activation.cuh has the formulas. */
#include "activation.cuh"

#include <algorithm>

namespace {

/* Packs of a row along x, rows along y. */
template <typename T, int V>
__global__ void __launch_bounds__(256) activate_packs(steer_activate a, int64_t packs) {
    steer_begin();
    const int64_t p = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= packs) return;
    for (int64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
        const T *x = static_cast<const T *>(a.x) + row * a.size * (a.glu ? 2 : 1) + p * V;
        float values[V], up[V];
        steer_read<V>(values, x);
        if (a.glu) steer_read<V>(up, x + a.size);
#pragma unroll
        for (int j = 0; j < V; j++) {
            values[j] = steer_act(a.act, values[j]);
            if (a.glu) values[j] *= up[j];
        }
        steer_write<V>(static_cast<T *>(a.out) + row * a.size + p * V, values);
    }
}

} // namespace

int steer_cuda_activate(void *handle, const steer_activate *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (args->rows == 0 || args->size == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    const int64_t bytes = args->size * (args->dtype == STEER_F32 ? 4 : 2);
    const bool wide = steer_is_wide(args->x, bytes) && steer_is_wide(args->out, bytes);
    return steer_with_packs(args->dtype, wide, [&](auto type, auto number) {
        using T = typename decltype(type)::type;
        constexpr int V = decltype(number)::value;
        const int64_t packs = args->size / V;
        const unsigned threads = steer_threads_for(packs, 256);
        const dim3 grid((unsigned)steer_divide_up(packs, threads),
                        (unsigned)std::min<int64_t>(args->rows, 65535));
        return steer_cuda_launch(device, activate_packs<T, V>, grid, threads, 0, "the activation kernel",
                                 *args, packs);
    });
}
