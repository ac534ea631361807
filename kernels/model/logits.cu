/* logits.cu: what is done to whole rows of logits.
 *
 *     logits    x = cap * tanh(scale * x / cap), or scale * x without a cap; in place
 *     logprob   out = x[target] - max - log(sum of exp(x - max)), the sum and what follows in f64; target -1: 0 */
#include "model.cuh"

namespace {

__device__ __forceinline__ float scaled(float x, float scale, float cap) {
    x *= scale;
    return cap > 0.0f ? cap * tanhf(x / cap) : x;
}

template <int V> __global__ void __launch_bounds__(256) scale_logits(steer_logits a, int64_t packs) {
    steer_begin();
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t p = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; p < packs; p += step) {
        float values[V];
        steer_read<V>(values, a.logits + p * V);
#pragma unroll
        for (int j = 0; j < V; j++) values[j] = scaled(values[j], a.scale, a.softcap);
        steer_write<V>(a.logits + p * V, values);
    }
}

__global__ void __launch_bounds__(1024) logprob_rows(steer_logprob a) {
    __shared__ float room[32];
    __shared__ double wide_room[32];
    const int64_t row = blockIdx.x;
    const int target = a.target[row];
    const float *x = a.logits + row * a.vocab;
    if (target < 0) {
        if (threadIdx.x == 0) a.out[row] = 0.0f;
        return;
    }
    float most = steer_minus_infinity();
    for (int64_t i = threadIdx.x; i < a.vocab; i += blockDim.x) most = fmaxf(most, x[i]);
    most = steer_block_max(most, room);
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < a.vocab; i += blockDim.x) sum += expf(x[i] - most);
    sum = steer_block_sum(sum, wide_room);
    if (threadIdx.x == 0) a.out[row] = (float)((double)x[target] - (double)most - log(sum));
}

} // namespace

int steer_cuda_logits(void *handle, const steer_logits *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    const int64_t n = args->count * args->vocab;
    if (n == 0 || (args->scale == 1.0f && !(args->softcap > 0.0f))) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    const char *what = "the kernel that scales logits";
    if (n % 4 == 0 && steer_is_wide(args->logits, 0))
        return steer_cuda_launch(device, scale_logits<4>, dim3(steer_blocks_for(n / 4, 256)), 256, 0, what,
                                 *args, n / 4);
    return steer_cuda_launch(device, scale_logits<1>, dim3(steer_blocks_for(n, 256)), 256, 0, what, *args, n);
}

int steer_cuda_logprob(void *handle, const steer_logprob *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (args->count == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    logprob_rows<<<(unsigned)args->count, steer_threads_for(args->vocab, 1024), 0,
                   steer_cuda_stream(device)>>>(*args);
    STEER_CUDA_LAUNCHED("the kernel of log probabilities");
    return STEER_OK;
}
