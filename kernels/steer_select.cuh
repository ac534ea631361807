/* steer_select.cuh: the kernel of a dtype and a variant; the kernels of each dtype are compiled by themselves. */
#ifndef STEER_KERNELS_STEER_SELECT_CUH
#define STEER_KERNELS_STEER_SELECT_CUH

#include "steer_common.cuh"

static inline steer_rows_kernel steer_rows_select(steer_dtype dtype, steer_rows_variant variant) {
    if (variant.family == STEER_ROWS_GENERAL) return steer_rows_general<float>(variant);
    if (variant.family == STEER_ROWS_MANY)
        return dtype == STEER_F16 ? steer_rows_many<steer_f16>(variant)
                                  : steer_rows_many<steer_bf16>(variant);
    if (variant.family == STEER_ROWS_ANY)
        return dtype == STEER_F16 ? steer_rows_any<steer_f16>(variant) : steer_rows_any<steer_bf16>(variant);
    if (variant.family == STEER_ROWS_PAIR)
        return dtype == STEER_F16 ? steer_rows_pair<steer_f16>(variant)
                                  : steer_rows_pair<steer_bf16>(variant);
    if (variant.family == STEER_ROWS_STREAM)
        return dtype == STEER_F32   ? steer_rows_stream<float>(variant)
               : dtype == STEER_F16 ? steer_rows_stream<steer_f16>(variant)
                                    : steer_rows_stream<steer_bf16>(variant);
    return dtype == STEER_F32   ? steer_rows_tile<float>(variant)
           : dtype == STEER_F16 ? steer_rows_tile<steer_f16>(variant)
                                : steer_rows_tile<steer_bf16>(variant);
}

#endif
