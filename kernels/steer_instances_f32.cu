/* steer_instances_f32.cu: the steering kernels of f32 hidden states. */
#define STEER_KERNEL_IMPLEMENTATION 1
#include "steer_general.cuh"
#include "steer_stream.cuh"
#include "steer_tile.cuh"

template steer_rows_kernel steer_rows_tile<float>(steer_rows_variant variant);
template steer_rows_kernel steer_rows_general<float>(steer_rows_variant variant);
template steer_rows_kernel steer_rows_stream<float>(steer_rows_variant variant);
