/* gemv.cuh: products of few rows: gemv.cu, gemv_mma.cu and gemv_stream.cu. */
#ifndef STEER_KERNELS_GEMV_CUH
#define STEER_KERNELS_GEMV_CUH

#include "model.cuh"

enum { STEER_GEMV_ROWS = 8 }; /* the most */

/* linear() of 1 to STEER_GEMV_ROWS rows. */
int steer_gemv(steer_cuda_device *device, const steer_linear &a);
/* The same on the tensor cores, where they serve the dtype and the sizes. */
bool steer_gemv_mma_serves(const steer_linear &a);
int steer_gemv_mma(steer_cuda_device *device, const steer_linear &a);
/* What it leaves to the kernel that streams weights, where a block of that fits a multiprocessor. */
bool steer_gemv_stream_fits(const steer_cuda_device *device);
int steer_gemv_stream(steer_cuda_device *device, const steer_linear &a);

#endif
