/* program.cuh: what the kernels of a decoder know of the rows' programs (backend/image.h). */
#ifndef STEER_KERNELS_MODEL_PROGRAM_CUH
#define STEER_KERNELS_MODEL_PROGRAM_CUH

#include "model.cuh"

/* The entry of a row on a layer, NULL if it has none. Nothing of it is written while kernels run. */
__device__ __forceinline__ const steer_entry *steer_entry_of(const steer_row *table, int64_t row, int layer) {
    const steer_row here = table[row];
    const int at = layer - here.first;
    if (at < 0 || at >= here.count) return nullptr;
    return reinterpret_cast<const steer_entry *>(here.entries) + at;
}

__device__ __forceinline__ void steer_prefetch(uint64_t from, int64_t bytes) {
    for (int64_t at = threadIdx.x % 32 * 128; from && at < bytes; at += 32 * 128)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(from + at));
}

/* Has the second-level cache fetch a row's program of few vectors, and these, of `hidden` elements; a warp. */
__device__ __forceinline__ void steer_prefetch_program(const steer_row *table, int64_t row, int layer,
                                                       int64_t hidden) {
    const steer_entry *entry = steer_entry_of(table, row, layer);
    if (!entry) return;
    steer_prefetch(entry->image, entry->image_bytes);
    steer_prefetch(entry->u, hidden * 4);
#pragma unroll
    for (int j = 0; j < STEER_REGISTER_VECTORS; j++)
        steer_prefetch(j < entry->vectors ? entry->m[j] : 0, hidden * 4);
}

#endif
