/* rope.cuh: what happens to a head of q, k or v between its product and the attention, by a warp.
 *
 *     q, k    normed over the head where there are norms, then pairs (a, b) of the first `rotary` dimensions are turned by the
 *             angle of their frequency i and the row's position: (a cos - b sin, b cos + a sin)
 *     pairs   (i, i + rotary / 2), or interleaved (2i, 2i + 1) */
#ifndef STEER_KERNELS_ROPE_CUH
#define STEER_KERNELS_ROPE_CUH

#include "model.cuh"

/* The head's element j after the rotation; `head` holds the elements before it. */
__device__ __forceinline__ float steer_rotated(const steer_rope &a, const float *head, const float *turn,
                                               int j) {
    if (j >= a.rotary || !turn) return head[j];
    const int half = a.rotary / 2;
    const bool second = a.interleaved ? j % 2 : j >= half;
    const int pair = a.interleaved ? j / 2 : second ? j - half : j;
    const int other = a.interleaved ? j ^ 1 : second ? pair : pair + half;
    const float cosine = turn[pair], sine = turn[half + pair];
    return second ? __fadd_rn(__fmul_rn(head[j], cosine), __fmul_rn(head[other], sine))
                  : __fsub_rn(__fmul_rn(head[j], cosine), __fmul_rn(head[other], sine));
}

__device__ __forceinline__ steer_moments steer_head_moments(const steer_norm &norm, const float *head,
                                                            int size, int lane) {
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

/* Where head `which` of a row, k's or v's, goes: its slot of the cache, [blocks, kv_heads, STEER_KV_BLOCK, head_dim]. */
template <typename T>
__device__ __forceinline__ T *steer_cache_place(const steer_rope &a, int which, int slot) {
    const bool is_v = which >= a.heads + a.kv_heads;
    const int kv = which - a.heads - (is_v ? a.kv_heads : 0);
    const int64_t block = slot / STEER_KV_BLOCK, at = slot % STEER_KV_BLOCK;
    return static_cast<T *>(is_v ? a.values : a.keys) +
           ((block * a.kv_heads + kv) * STEER_KV_BLOCK + at) * a.head_dim;
}

/* The same of a head that is turned as a whole, its halves against each other, two neighbouring pairs a lane. */
template <typename T>
__device__ __forceinline__ void steer_turn_halves(const T *from, const float *turn, int size, T *to) {
    const int half = size / 2, at = threadIdx.x % 32 * 2;
    if (at >= half) return;
    const steer_pack<T, 2> a = *reinterpret_cast<const steer_pack<T, 2> *>(from + at);
    const steer_pack<T, 2> b = *reinterpret_cast<const steer_pack<T, 2> *>(from + half + at);
    steer_pack<T, 2> first = a, second = b;
    if (turn) {
        const float2 cosine = *reinterpret_cast<const float2 *>(turn + at);
        const float2 sine = *reinterpret_cast<const float2 *>(turn + half + at);
        const float c[2] = {cosine.x, cosine.y}, s[2] = {sine.x, sine.y};
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const float x = steer_to_f32(a.at[k]), y = steer_to_f32(b.at[k]);
            first.at[k] = steer_from_f32<T>(__fsub_rn(__fmul_rn(x, c[k]), __fmul_rn(y, s[k])));
            second.at[k] = steer_from_f32<T>(__fadd_rn(__fmul_rn(y, c[k]), __fmul_rn(x, s[k])));
        }
    }
    *reinterpret_cast<steer_pack<T, 2> *>(to + at) = first;
    *reinterpret_cast<steer_pack<T, 2> *>(to + half + at) = second;
}

/* Head `which` of a row (q's, then k's, then v's) to `to`; `head` is shared memory of head_dim floats for this warp. */
template <typename T>
__device__ __forceinline__ void steer_turn_head(const steer_rope &a, const steer_rows &rows, int64_t row,
                                                int which, float *head, T *to) {
    const int lane = threadIdx.x % 32, all = a.heads + 2 * a.kv_heads, size = a.head_dim;
    const bool is_q = which < a.heads, is_v = which >= a.heads + a.kv_heads;
    const T *from = static_cast<const T *>(a.qkv) + (row * all + which) * size;
    const steer_norm norm = is_q ? a.q_norm : a.k_norm;
    const int64_t turn_row = rows.turns ? rows.turns[row] : rows.positions[row];
    const float *turn = is_v || !a.table ? nullptr : a.table + turn_row * a.rotary;
    if (size <= 128 && size % 4 == 0 && (is_v || norm.kind == STEER_NORM_NONE) &&
        (!turn || (!a.interleaved && a.rotary == size))) {
        steer_turn_halves(from, turn, size, to);
        return;
    }
    for (int j = lane; j < size; j += 32) head[j] = steer_to_f32(from[j]);
    __syncwarp();
    if (!is_v && norm.kind != STEER_NORM_NONE) {
        const steer_moments m = steer_head_moments(norm, head, size, lane);
        for (int j = lane; j < size; j += 32) head[j] = steer_norm_one<T>(norm, m, head[j], j);
        __syncwarp();
    }
    for (int j = lane; j < size; j += 32) to[j] = steer_from_f32<T>(steer_rotated(a, head, turn, j));
}

#endif
