/* steer_instances_f16.cu: the steering kernels of f16 hidden states. */
#define STEER_KERNEL_IMPLEMENTATION 1
#include "steer_general.cuh"
#include "steer_mma.cuh"
#include "steer_stream.cuh"
#include "steer_tile.cuh"

template steer_rows_kernel steer_rows_tile<steer_f16>(steer_rows_variant variant);
template steer_rows_kernel steer_rows_mma<steer_f16>(steer_rows_variant variant);
template steer_rows_kernel steer_rows_stream<steer_f16>(steer_rows_variant variant);
template steer_rows_kernel steer_rows_general<steer_f16>(steer_rows_variant variant);
