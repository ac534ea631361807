/* divergence.cu: how far rows of logits are from their twins.
 *
 *     kl        sum of p * (log p - log q), p and q the softmax of the row x and of its twin y
 *               = sum(w * (x - y)) / sum(w) - (max x - max y) - log(sum(w)) + log(sum(v)),
 *                 w = exp(x - max x), v = exp(y - max y); the sums and what follows in f64
 *     logprob   y[token] - max y - log(sum(v))
 *     top       the first i with the greatest y
 *
 * A block has a row: it reads both rows twice, the second time from the cache. */
#include "model.cuh"

namespace {

__global__ void __launch_bounds__(1024) diverge_rows(steer_divergence a) {
    __shared__ float room[32];
    __shared__ double wide_room[32];
    __shared__ int top;
    steer_begin();
    const int64_t row = blockIdx.x;
    const int twin = a.twin[row];
    if (twin < 0) {
        if (threadIdx.x == 0) a.kl[row] = a.logprob[row] = 0.0f, a.top[row] = -1;
        return;
    }
    const float *x = a.logits + row * a.vocab, *y = a.logits + twin * a.vocab;
    float most_x = steer_minus_infinity(), most_y = steer_minus_infinity();
    for (int64_t i = threadIdx.x; i < a.vocab; i += blockDim.x) {
        most_x = fmaxf(most_x, x[i]); /* fmaxf passes over NaN */
        most_y = fmaxf(most_y, y[i]);
    }
    if (threadIdx.x == 0) top = INT32_MAX;
    most_x = steer_block_max(most_x, room);
    most_y = steer_block_max(most_y, room);
    double p = 0.0, q = 0.0, difference = 0.0;
    for (int64_t i = threadIdx.x; i < a.vocab; i += blockDim.x) {
        const float x_i = x[i], y_i = y[i], weight = expf(x_i - most_x);
        p += (double)weight;
        q += (double)expf(y_i - most_y);
        /* What has no weight in p adds nothing, however small q is there. */
        if (weight > 0.0f) difference += (double)weight * ((double)x_i - (double)y_i);
        if (y_i == most_y) atomicMin(&top, (int)i);
    }
    p = steer_block_sum(p, wide_room);
    q = steer_block_sum(q, wide_room);
    difference = steer_block_sum(difference, wide_room); /* its barriers are those of `top` too */
    if (threadIdx.x != 0) return;
    const double kl = difference / p - ((double)most_x - (double)most_y) - log(p) + log(q);
    const int target = a.target[row], token = target >= 0 || !a.chosen ? target : a.chosen[row];
    a.kl[row] = kl < 0.0 ? 0.0f : (float)kl; /* by rounding; NaN stays */
    a.logprob[row] = token < 0 ? 0.0f : (float)((double)y[token] - (double)most_y - log(q));
    a.top[row] = top == INT32_MAX ? 0 : top;
}

} // namespace

int steer_cuda_divergence(void *handle, const steer_divergence *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (args->count == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_cuda_launch(device, diverge_rows, dim3((unsigned)args->count),
                             steer_threads_for(args->vocab, 1024), 0, "the kernel of divergences", *args);
}
