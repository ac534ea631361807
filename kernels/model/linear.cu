/* linear.cu: y = x @ weight^T + bias through cuBLASLt, accumulated in f32 (no TF32); gemv.cu has the products of few rows.
 *
 * cuBLASLt counts by columns: there y is [out, rows], weight [in, out] transposed and x [in, rows]. A bias is put into y first
 * and y is added to what the product gives, so that it is rounded once. algorithm.cu chooses how a product is computed. */
#include "gemv.cuh"
#include "linear.cuh"

#include <new>

namespace {

/* ---- What is kept on the device ----------------------------------------------------------------------------------- */

/* Under blas_lock. */
int get_linears(steer_cuda_device *device, steer_cuda_linears **out) {
    if (!device->linears) {
        auto *made = new (std::nothrow) steer_cuda_linears();
        if (!made) return STEER_CUDA_FAIL(STEER_E_OUT_OF_MEMORY, "linear: no memory for the products' state");
        cublasStatus_t status = cublasLtCreate(&made->blas);
        if (status != CUBLAS_STATUS_SUCCESS) {
            delete made;
            return steer_cuda_fail_blas(status, "cublasLtCreate", __LINE__);
        }
        device->linears = made;
    }
    *out = device->linears;
    return STEER_OK;
}

/* The workspace of the caller's stream; a graph that he captures is launched there too. NULL: more streams than places. */
int get_workspace(steer_cuda_device *device, steer_cuda_linears *linears, void **out) {
    const steer_cuda_choice *choice = steer_cuda_chosen(device);
    cudaStream_t stream = choice->caller ? choice->caller : device->stream;
    for (int i = 0; i < linears->workspaces; i++) {
        if (linears->workspace[i].stream == stream) {
            *out = linears->workspace[i].data;
            return STEER_OK;
        }
    }
    *out = nullptr;
    if (linears->workspaces == STEER_BLAS_WORKSPACES) return STEER_OK;
    STEER_CUDA_TRY(cudaMalloc(out, STEER_BLAS_WORKSPACE_BYTES));
    linears->workspace[linears->workspaces++] = {stream, *out};
    return STEER_OK;
}

/* ---- One product ---------------------------------------------------------------------------------------------------- */

template <typename T, typename Y>
__global__ void __launch_bounds__(256) fill_bias(Y *y, const T *bias, int64_t out, int64_t stride) {
    steer_begin();
    y += blockIdx.x * stride;
    for (int64_t i = threadIdx.x; i < out; i += blockDim.x) y[i] = steer_from_f32<Y>(steer_to_f32(bias[i]));
}

int put_bias(steer_cuda_device *device, const steer_linear &a) {
    return steer_with_float(a.dtype, [&](auto type) {
        return steer_with_float(a.y_dtype, [&](auto y_type) {
            using T = typename decltype(type)::type;
            using Y = typename decltype(y_type)::type;
            return steer_cuda_launch(device, fill_bias<T, Y>, dim3((unsigned)a.rows), 256, 0,
                                     "the bias kernel", static_cast<Y *>(a.y), static_cast<const T *>(a.bias),
                                     a.out, a.y_stride);
        });
    });
}

int multiply(steer_cuda_device *device, const steer_linear &a) {
    const float one = 1.0f, add = steer_cuda_puts_bias(a) ? 1.0f : 0.0f;
    steer_product p;
    cublasLtMatmulAlgo_t algorithm;
    steer_cuda_linears *linears;
    void *workspace = nullptr;
    std::lock_guard<std::mutex> hold(device->blas_lock);
    const steer_cuda_relaxed relaxed; /* the first products allocate and load code */
    STEER_CUDA_CHECK(get_linears(device, &linears));
    STEER_CUDA_CHECK(get_workspace(device, linears, &workspace));
    steer_cuda_scratch temporary(device);
    if (!workspace) {
        STEER_CUDA_CHECK(temporary.get(STEER_BLAS_WORKSPACE_BYTES));
        workspace = temporary.data;
    }
    STEER_CUDA_CHECK(steer_cuda_algorithm(device, linears, a, workspace, &algorithm));
    STEER_CUDA_CHECK(steer_cuda_describe(&p, a, a.rows));
    TRY_BLAS(cublasLtMatmul(linears->blas, &p.operation, &one, a.weight, &p.weight, a.x, &p.x, &add, a.y,
                            &p.y, a.y, &p.y, &algorithm, workspace, STEER_BLAS_WORKSPACE_BYTES,
                            steer_cuda_stream(device)),
             "cublasLtMatmul");
    return STEER_OK;
}

} // namespace

int steer_cuda_linear(void *handle, const steer_linear *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (args->rows == 0 || args->out == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    if (args->dtype > STEER_BF16 || (args->y_dtype != args->dtype && args->y_dtype != STEER_F32))
        return STEER_CUDA_FAIL(STEER_E_DTYPE_MISMATCH,
                               "y_dtype: %d from %d, expected f32, f16 or bf16, and f32 or the same",
                               (int)args->y_dtype, (int)args->dtype);
    if (!args->reproducible && steer_gemv_mma_serves(*args)) return steer_gemv_mma(device, *args);
    if (!args->reproducible && args->rows <= STEER_GEMV_ROWS) return steer_gemv(device, *args);
    if (steer_cuda_puts_bias(*args)) STEER_CUDA_CHECK(put_bias(device, *args));
    return multiply(device, *args);
}

int steer_cuda_fuses(void *device, const steer_linear *args) {
    return steer_gemv_mma_serves(*args) && (!args->glu || args->out % 2 == 0);
}

void steer_cuda_linear_close(steer_cuda_device *device) {
    steer_cuda_linears *linears = device->linears;
    if (!linears) return;
    for (int i = 0; i < linears->workspaces; i++) cudaFree(linears->workspace[i].data);
    cublasLtDestroy(linears->blas);
    delete linears;
    device->linears = nullptr;
}
