/* steer_rows_bf16.cu: the steering kernels of bf16 hidden states. */
#define STEER_ROWS_IMPLEMENTATION
#include "steer_rows.cuh"

template steer_rows_kernel steer_rows_select<steer_bf16>(steer_rows_choice choice);
