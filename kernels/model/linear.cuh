/* linear.cuh: what linear.cu and algorithm.cu share: a product as cuBLASLt sees it, and what is kept of the products. */
#ifndef STEER_KERNELS_MODEL_LINEAR_CUH
#define STEER_KERNELS_MODEL_LINEAR_CUH

#include "model.cuh"

#include <cublasLt.h>

enum { STEER_BLAS_WORKSPACE_BYTES = 32 << 20, STEER_BLAS_WORKSPACES = 8, STEER_BLAS_ALGORITHMS = 1024 };

/* What an algorithm is chosen for. */
struct steer_product_key {
    int64_t rows, in, out, x_stride, y_stride; /* rows: the most of the step */
    int32_t dtype, y_dtype, adds, alignment, reproducible, padding;
};

/* Memory that a stream's products work in: one after the other, so one is enough for a stream. */
struct steer_product_workspace {
    cudaStream_t stream;
    void *data;
};

struct steer_cuda_linears {
    cublasLtHandle_t blas;
    int workspaces, algorithms;
    steer_product_workspace workspace[STEER_BLAS_WORKSPACES];
    struct {
        steer_product_key key;
        cublasLtMatmulAlgo_t algorithm;
    } known[STEER_BLAS_ALGORITHMS];
};

struct steer_product {
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t weight, x, y;
};

int steer_cuda_fail_blas(cublasStatus_t status, const char *what, int line);
#define TRY_BLAS(call, what)                                                                                 \
    do {                                                                                                     \
        cublasStatus_t blas_status = (call);                                                                 \
        if (blas_status != CUBLAS_STATUS_SUCCESS) return steer_cuda_fail_blas(blas_status, what, __LINE__);  \
    } while (0)

/* 1 if y begins as the bias. The library adds it itself where it is of y's dtype; where rows do not lie at multiples of 16 bytes it
 * would round the products before that. */
bool steer_cuda_puts_bias(const steer_linear &a);
int steer_cuda_describe(steer_product *p, const steer_linear &a, int64_t rows);
/* How the product is computed: found among those known, on disk, or by timing; workspace of STEER_BLAS_WORKSPACE_BYTES. Under
 * blas_lock. */
int steer_cuda_algorithm(steer_cuda_device *device, steer_cuda_linears *linears, const steer_linear &a,
                         void *workspace, cublasLtMatmulAlgo_t *out);

#endif
