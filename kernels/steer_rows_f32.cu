/* steer_rows_f32.cu: the steering kernels of f32 hidden states. */
#define STEER_ROWS_IMPLEMENTATION
#include "steer_rows.cuh"

template steer_rows_kernel steer_rows_select<float>(steer_rows_choice choice);
