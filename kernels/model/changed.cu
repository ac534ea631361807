/* changed.cu: which rows are no more what they were, by digests of their bits: a warp for each row.
 *
 *     digest = sum over i of mix(i * 2^32 + bits of element i), modulo 2^64: in any order */
#include "backend/random.h"
#include "model.cuh"

namespace {

constexpr int THREADS = 256;

template <typename Bits> __global__ void __launch_bounds__(THREADS) digest_rows(steer_changed a) {
    steer_begin();
    const int64_t row = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (row >= a.rows) return;
    const Bits *x = static_cast<const Bits *>(a.x) + row * a.hidden;
    unsigned long long sum = 0;
    for (int64_t i = lane; i < a.hidden; i += 32) sum += steer_mix((uint64_t)i << 32 | x[i]);
    sum = steer_warp_sum(sum);
    if (lane > 0) return;
    if (a.out)
        a.out[row] = sum != a.before[row];
    else
        a.before[row] = sum;
}

} // namespace

int steer_cuda_changed(void *handle, const steer_changed *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (args->rows == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    const dim3 grid((unsigned)steer_divide_up(args->rows, THREADS / 32));
    return steer_cuda_launch(device, args->dtype == STEER_F32 ? digest_rows<uint32_t> : digest_rows<uint16_t>,
                             grid, THREADS, 0, "the digest kernel", *args);
}
