/* rope.cu: what happens to q, k and v between their product and the attention; a warp for each head of each row.
 *
 *     q, k    normed over the head where there are norms, then pairs (a, b) of the first `rotary` dimensions are turned by the
 *             angle of their frequency i and the row's position: (a cos - b sin, b cos + a sin)
 *     pairs   (i, i + rotary / 2), or interleaved (2i, 2i + 1)
 *     q stays in place; k and v go to the row's slot of the cache, [blocks, kv_heads, STEER_KV_BLOCK, head_dim] */
#include "model.cuh"

namespace {

enum { WARPS = 4 };

/* The head's element j after the rotation; `head` holds the elements before it. */
__device__ __forceinline__ float rotated(const steer_rope &a, const float *head, const float *turn, int j) {
    if (j >= a.rotary || !turn) return head[j];
    const int half = a.rotary / 2;
    const bool second = a.interleaved ? j % 2 : j >= half;
    const int pair = a.interleaved ? j / 2 : second ? j - half : j;
    const int other = a.interleaved ? j ^ 1 : second ? pair : pair + half;
    const float cosine = turn[pair], sine = turn[half + pair];
    return second ? __fadd_rn(__fmul_rn(head[j], cosine), __fmul_rn(head[other], sine))
                  : __fsub_rn(__fmul_rn(head[j], cosine), __fmul_rn(head[other], sine));
}

__device__ __forceinline__ steer_moments head_moments(const steer_norm &norm, const float *head, int size,
                                                      int lane) {
    steer_moments m = {0.0f, 0.0f};
    float sum = 0.0f, squares = 0.0f;
    if (norm.kind == STEER_NORM_LAYER) {
        for (int j = lane; j < size; j += 32) sum += head[j];
        m.mean = steer_warp_sum(sum) / (float)size;
    }
    for (int j = lane; j < size; j += 32) squares += (head[j] - m.mean) * (head[j] - m.mean);
    m.scale = steer_norm_scale(steer_warp_sum(squares), size, norm.eps);
    return m;
}

/* blockIdx.x is the row, blockIdx.y and the warp say which of its heads: q's, then k's, then v's. */
template <typename T>
__global__ void __launch_bounds__(WARPS * 32) turn_heads(steer_rope a, steer_rows rows) {
    steer_begin();
    extern __shared__ float shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, which = blockIdx.y * WARPS + warp;
    const int all = a.heads + 2 * a.kv_heads, size = a.head_dim;
    const int64_t row = blockIdx.x;
    const int position = rows.positions[row], slot = rows.slots[row];
    if (which >= all || position < 0) return;
    const bool is_q = which < a.heads, is_v = which >= a.heads + a.kv_heads;
    if (!is_q && slot < 0) return;
    float *head = shared + warp * size;
    T *from = static_cast<T *>(a.qkv) + (row * all + which) * size, *to = from;
    if (!is_q) {
        const int kv = which - a.heads - (is_v ? a.kv_heads : 0);
        const int64_t block = slot / STEER_KV_BLOCK, at = slot % STEER_KV_BLOCK;
        to = static_cast<T *>(is_v ? a.values : a.keys) +
             ((block * a.kv_heads + kv) * STEER_KV_BLOCK + at) * size;
    }
    for (int j = lane; j < size; j += 32) head[j] = steer_to_f32(from[j]);
    __syncwarp();
    const steer_norm &norm = is_q ? a.q_norm : a.k_norm;
    if (!is_v && norm.kind != STEER_NORM_NONE) {
        const steer_moments m = head_moments(norm, head, size, lane);
        for (int j = lane; j < size; j += 32) head[j] = steer_norm_one<T>(norm, m, head[j], j);
        __syncwarp();
    }
    const int64_t turn_row = rows.turns ? rows.turns[row] : position;
    const float *turn = is_v || !a.table ? nullptr : a.table + turn_row * a.rotary;
    for (int j = lane; j < size; j += 32) to[j] = steer_from_f32<T>(rotated(a, head, turn, j));
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
