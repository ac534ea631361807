/* matmul.cu: dst[b] = a[b] @ b[b] through cuBLAS, products accumulated in f32.
 *
 * cuBLAS counts by columns: a row-major C = A B is the column-major C^T = B^T A^T with the operands exchanged. f32 stays
 * f32 (no TF32), and f16 and bf16 are not reduced in their own precision. */
#include "cuda.cuh"

enum { WORKSPACE_BYTES = 32 << 20 };

/* A row-major operand as cuBLAS wants it. */
struct operand {
    const void *data;
    cublasOperation_t op;
    int64_t leading;
    int64_t batch;
};

/* The last stride of 1 is a row-major matrix, else it is the transpose of one. */
static operand as_operand(const steer_view *view) {
    int64_t batch = view->shape[0] == 1 ? 0 : view->stride[0];
    if (view->stride[2] == 1) return {view->data, CUBLAS_OP_N, view->stride[1], batch};
    return {view->data, CUBLAS_OP_T, view->stride[2], batch};
}

static int fail_blas(cublasStatus_t status, const char *what, int line) {
    int code = status == CUBLAS_STATUS_ALLOC_FAILED ? STEER_E_OUT_OF_MEMORY : STEER_E_DEVICE;
    return steer_cuda_host->fail(code, __FILE__, line, "cuBLAS %s: %s", what, cublasGetStatusString(status));
}
#define TRY_BLAS(call, what)                                                                                 \
    do {                                                                                                     \
        cublasStatus_t blas_status = (call);                                                                 \
        if (blas_status != CUBLAS_STATUS_SUCCESS) return fail_blas(blas_status, what, __LINE__);             \
    } while (0)

/* The handle, made at the first product. Under blas_lock. */
static int get_handle(steer_cuda_device *device, cublasHandle_t *out) {
    if (!device->blas) {
        cublasHandle_t made = nullptr;
        TRY_BLAS(cublasCreate(&made), "cublasCreate");
        device->blas = made;
        TRY_BLAS(cublasSetMathMode(
                     made, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                                     CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
                 "cublasSetMathMode");
    }
    *out = device->blas;
    return STEER_OK;
}

int steer_cuda_matmul(void *handle, const steer_view *dst, const steer_view *a, const steer_view *b) {
    static const struct {
        cudaDataType_t type;
        cublasComputeType_t compute;
    } kinds[] = {{CUDA_R_32F, CUBLAS_COMPUTE_32F_PEDANTIC},
                 {CUDA_R_16F, CUBLAS_COMPUTE_32F},
                 {CUDA_R_16BF, CUBLAS_COMPUTE_32F}};
    static_assert(STEER_F32 == 0 && STEER_F16 == 1 && STEER_BF16 == 2, "kinds is indexed by dtype");
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    if (dst->dtype > STEER_BF16)
        return STEER_CUDA_FAIL(STEER_E_DTYPE_MISMATCH, "dst: a matrix product takes f32, f16 or bf16");
    const auto &kind = kinds[dst->dtype];
    const operand left = as_operand(a), right = as_operand(b);
    const float one = 1.0f, zero = 0.0f;
    int64_t batch = dst->shape[0], m = dst->shape[1], n = dst->shape[2], k = a->shape[2];
    /* The workspace is this product's alone: a shared one would be written by products on two streams, or by two
     * launches of a graph, at the same time. */
    steer_cuda_scratch workspace(device);
    STEER_CUDA_CHECK(workspace.get(WORKSPACE_BYTES));

    std::lock_guard<std::mutex> hold(device->blas_lock);
    const steer_cuda_relaxed relaxed; /* cuBLAS may allocate and load code at its first products */
    cublasHandle_t blas = nullptr;
    STEER_CUDA_CHECK(get_handle(device, &blas));
    TRY_BLAS(cublasSetStream(blas, steer_cuda_stream(device)), "cublasSetStream");
    TRY_BLAS(cublasSetWorkspace(blas, workspace.data, WORKSPACE_BYTES), "cublasSetWorkspace");
    TRY_BLAS(cublasGemmStridedBatchedEx_64(blas, right.op, left.op, n, m, k, &one, right.data, kind.type,
                                           right.leading, right.batch, left.data, kind.type, left.leading,
                                           left.batch, &zero, dst->data, kind.type, n, m * n, batch,
                                           kind.compute, CUBLAS_GEMM_DEFAULT),
             "cublasGemmStridedBatchedEx");
    return STEER_OK;
}
