/* gemv.cuh: products of few rows: gemv.cu and gemv_mma.cu. */
#ifndef STEER_KERNELS_GEMV_CUH
#define STEER_KERNELS_GEMV_CUH

#include "model.cuh"

enum { STEER_GEMV_ROWS = 8 }; /* the most */

/* linear() of 1 to STEER_GEMV_ROWS rows. */
int steer_gemv(steer_cuda_device *device, const steer_linear &a);
/* The same on the tensor cores, where they serve the dtype and the sizes. */
bool steer_gemv_mma_serves(const steer_linear &a);
int steer_gemv_mma(steer_cuda_device *device, const steer_linear &a);

#endif
