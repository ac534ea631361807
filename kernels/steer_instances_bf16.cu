/* steer_instances_bf16.cu: the steering kernels of bf16 hidden states. */
#define STEER_KERNEL_IMPLEMENTATION 1
#include "steer_general.cuh"
#include "steer_mma.cuh"
#include "steer_stream.cuh"
#include "steer_tile.cuh"

template steer_rows_kernel steer_rows_tile<steer_bf16>(steer_rows_variant variant);
template steer_rows_kernel steer_rows_mma<steer_bf16>(steer_rows_variant variant);
template steer_rows_kernel steer_rows_stream<steer_bf16>(steer_rows_variant variant);
template steer_rows_kernel steer_rows_general<steer_bf16>(steer_rows_variant variant);
