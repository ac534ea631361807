/* steer_block_select.cuh: the kernel of a dtype and a plan for programs of blocks. */
#ifndef STEER_KERNELS_STEER_BLOCK_SELECT_CUH
#define STEER_KERNELS_STEER_BLOCK_SELECT_CUH

#include "steer_block_few.cuh"
#include "steer_block_general.cuh"
#include "steer_block_short.cuh"

template <typename T> steer_block_kernel steer_block_of(const steer_block_plan &plan) {
    const bool residual = plan.args.residual != nullptr, several = plan.rows > 1;
    if (plan.brief && residual)
        return several ? steer_block_short_kernel<T, 2, true> : steer_block_short_kernel<T, 1, true>;
    if (plan.brief)
        return several ? steer_block_short_kernel<T, 4, false> : steer_block_short_kernel<T, 1, false>;
    if (plan.few && residual)
        return several ? steer_block_few_kernel<T, 2, true> : steer_block_few_kernel<T, 1, true>;
    if (plan.few) return several ? steer_block_few_kernel<T, 4, false> : steer_block_few_kernel<T, 1, false>;
    if (residual)
        return several ? steer_block_general_kernel<T, 4, true> : steer_block_general_kernel<T, 1, true>;
    return several ? steer_block_general_kernel<T, 4, false> : steer_block_general_kernel<T, 1, false>;
}

static inline steer_block_kernel steer_block_select(steer_dtype dtype, const steer_block_plan &plan) {
    return dtype == STEER_F32   ? steer_block_of<float>(plan)
           : dtype == STEER_F16 ? steer_block_of<steer_f16>(plan)
                                : steer_block_of<steer_bf16>(plan);
}

#endif
