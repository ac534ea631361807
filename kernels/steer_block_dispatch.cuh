/* steer_block_dispatch.cuh: the kernel of a dtype and a config for programs of blocks. */
#ifndef STEER_KERNELS_STEER_BLOCK_DISPATCH_CUH
#define STEER_KERNELS_STEER_BLOCK_DISPATCH_CUH

#include "steer_block_small.cuh"
#include "steer_block_general.cuh"
#include "steer_block_short.cuh"

template <typename T> steer_block_kernel steer_block_of(const steer_block_config &config) {
    const bool residual = config.args.residual != nullptr, several = config.rows > 1;
    if (config.brief && residual)
        return several ? steer_block_short_kernel<T, 2, 2, true> : steer_block_short_kernel<T, 1, 2, true>;
    if constexpr (sizeof(T) == 2)
        if (config.one)
            return several ? steer_block_short_kernel<T, 4, 1, false>
                           : steer_block_short_kernel<T, 1, 1, false>;
    if (config.brief)
        return several ? steer_block_short_kernel<T, 4, 2, false> : steer_block_short_kernel<T, 1, 2, false>;
    if (config.small && residual)
        return several ? steer_block_small_kernel<T, 2, true> : steer_block_small_kernel<T, 1, true>;
    if (config.small)
        return several ? steer_block_small_kernel<T, 4, false> : steer_block_small_kernel<T, 1, false>;
    if (residual)
        return several ? steer_block_general_kernel<T, 4, true> : steer_block_general_kernel<T, 1, true>;
    return several ? steer_block_general_kernel<T, 4, false> : steer_block_general_kernel<T, 1, false>;
}

static inline steer_block_kernel steer_block_dispatch(steer_dtype dtype, const steer_block_config &config) {
    return dtype == STEER_F32   ? steer_block_of<float>(config)
           : dtype == STEER_F16 ? steer_block_of<steer_f16>(config)
                                : steer_block_of<steer_bf16>(config);
}

#endif
