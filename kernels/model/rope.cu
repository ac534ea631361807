/* rope.cu: q, k and v between their product and the attention, rope.cuh; a warp for each head of each row. q stays in place,
 * k and v go to the row's slot of the cache. */
#include "rope.cuh"

namespace {

enum { WARPS = 4 };

/* blockIdx.x is the row, blockIdx.y and the warp say which of its heads: q's, then k's, then v's. */
template <typename T>
__global__ void __launch_bounds__(WARPS * 32) turn_heads(steer_rope a, steer_rows rows) {
    steer_begin();
    extern __shared__ float shared[];
    const int warp = threadIdx.x / 32, which = blockIdx.y * WARPS + warp, all = a.heads + 2 * a.kv_heads;
    const int64_t row = blockIdx.x;
    const int slot = rows.slots[row];
    if (which >= all || rows.positions[row] < 0 || (which >= a.heads && slot < 0)) return;
    T *to = which < a.heads ? static_cast<T *>(a.qkv) + (row * all + which) * a.head_dim
                            : steer_cache_place<T>(a, which, slot);
    steer_turn_head<T>(a, rows, row, which, shared + warp * a.head_dim, to);
}

} // namespace

int steer_cuda_rope(void *handle, const steer_rope *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    const int64_t rows = args->rows->rows, heads = (int64_t)args->heads + 2 * (int64_t)args->kv_heads;
    const size_t shared = sizeof(float) * WARPS * (size_t)args->head_dim;
    if (rows == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    if (shared > 48 * 1024)
        return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "head_dim: %d is more than 3072", (int)args->head_dim);
    return steer_with_float(args->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        const dim3 grid((unsigned)rows, (unsigned)steer_divide_up(heads, WARPS));
        return steer_cuda_launch(device, turn_heads<T>, grid, WARPS * 32, shared, "the rotation kernel",
                                 *args, *args->rows);
    });
}
