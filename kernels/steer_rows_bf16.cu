/* steer_rows_bf16.cu: the steering kernels of bf16 hidden states. */
#define STEER_ROWS_IMPLEMENTATION 1
#include "steer_general.cuh"
#include "steer_many.cuh"
#include "steer_stream.cuh"
#include "steer_tile.cuh"

template steer_rows_kernel steer_rows_tile<steer_bf16>(steer_rows_variant variant);
template steer_rows_kernel steer_rows_many<steer_bf16>(steer_rows_variant variant);
template steer_rows_kernel steer_rows_stream<steer_bf16>(steer_rows_variant variant);
template steer_rows_kernel steer_rows_general<steer_bf16>(steer_rows_variant variant);
