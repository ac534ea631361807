/* linear.cu: y = x @ weight^T + bias through cuBLASLt, accumulated in f32 (no TF32); gemv.cu has the products of few rows.
 *
 * cuBLASLt counts by columns: there y is [out, rows], weight [in, out] transposed and x [in, rows]. A bias is put into y first
 * and y is added to what the product gives, so that it is rounded once. Algorithms are asked for once for each shape, rows
 * counted in steps (a request's bits change with the step, not with each row more), and kept. */
#include "gemv.cuh"

#include <cublasLt.h>

#include <new>
#include <string.h>

enum { WORKSPACE_BYTES = 32 << 20, WORKSPACES = 8, ALGORITHMS = 1024 };
enum {
    REPRODUCIBLE_ROWS = 256
}; /* whose algorithm serves all numbers of rows: 13 % slower at 64 rows, half as fast at 2048 */

/* What an algorithm is chosen for. */
struct product_key {
    int64_t rows, in, out, x_stride, y_stride; /* rows: the most of the step */
    int32_t dtype, y_dtype, adds, alignment, reproducible, padding;
};

/* Memory that a stream's products work in: one after the other, so one is enough for a stream. */
struct product_workspace {
    cudaStream_t stream;
    void *data;
};

struct steer_cuda_linears {
    cublasLtHandle_t blas;
    int workspaces, algorithms;
    product_workspace workspace[WORKSPACES];
    struct {
        product_key key;
        cublasLtMatmulAlgo_t algorithm;
    } known[ALGORITHMS];
};

namespace {

int fail_blas(cublasStatus_t status, const char *what, int line) {
    const int code = status == CUBLAS_STATUS_ALLOC_FAILED ? STEER_E_OUT_OF_MEMORY : STEER_E_DEVICE;
    return steer_cuda_host->fail(code, __FILE__, line, "cuBLASLt %s: %s", what,
                                 cublasGetStatusString(status));
}
#define TRY_BLAS(call, what)                                                                                 \
    do {                                                                                                     \
        cublasStatus_t blas_status = (call);                                                                 \
        if (blas_status != CUBLAS_STATUS_SUCCESS) return fail_blas(blas_status, what, __LINE__);             \
    } while (0)

/* ---- What is kept on the device ----------------------------------------------------------------------------------- */

/* Under blas_lock. */
int get_linears(steer_cuda_device *device, steer_cuda_linears **out) {
    if (!device->linears) {
        auto *made = new (std::nothrow) steer_cuda_linears();
        if (!made) return STEER_CUDA_FAIL(STEER_E_OUT_OF_MEMORY, "linear: no memory for the products' state");
        cublasStatus_t status = cublasLtCreate(&made->blas);
        if (status != CUBLAS_STATUS_SUCCESS) {
            delete made;
            return fail_blas(status, "cublasLtCreate", __LINE__);
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
    if (linears->workspaces == WORKSPACES) return STEER_OK;
    STEER_CUDA_TRY(cudaMalloc(out, WORKSPACE_BYTES));
    linears->workspace[linears->workspaces++] = {stream, *out};
    return STEER_OK;
}

/* ---- One product ---------------------------------------------------------------------------------------------------- */

cudaDataType_t type_of(steer_dtype dtype) {
    return dtype == STEER_F32 ? CUDA_R_32F : dtype == STEER_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* Steps of rows: powers of two and the numbers half way between. */
int64_t step_of(int64_t rows) {
    int64_t step = 16;
    while (step < rows) {
        if (step + step / 2 >= rows) return step + step / 2;
        step *= 2;
    }
    return step;
}

/* The greatest power of two, at most 256, that an address is a multiple of. */
uint32_t alignment_of(const void *data) {
    uint32_t alignment = 256;
    while ((uintptr_t)data % alignment) alignment /= 2;
    return alignment;
}

struct product {
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t weight, x, y;
};

/* 1 if y begins as the bias. The library adds it itself where it is of y's dtype; where rows do not lie at multiples of 16 bytes it
 * would round the products before that. */
bool is_put(const steer_linear &a) {
    const int64_t element = a.dtype == STEER_F32 ? 4 : 2;
    return a.bias && (a.y_dtype != a.dtype || !steer_is_wide(a.x, a.x_stride * element) ||
                      !steer_is_wide(a.y, a.y_stride * element) || !steer_is_wide(a.weight, a.in * element));
}

int describe(product *p, const steer_linear &a, int64_t rows) {
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t type = type_of(a.dtype);
    TRY_BLAS(cublasLtMatmulDescInit(&p->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescInit");
    TRY_BLAS(cublasLtMatmulDescSetAttribute(&p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                            sizeof transposed),
             "cublasLtMatmulDescSetAttribute");
    if (a.bias && !is_put(a)) {
        TRY_BLAS(cublasLtMatmulDescSetAttribute(&p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                sizeof epilogue),
                 "cublasLtMatmulDescSetAttribute");
        TRY_BLAS(cublasLtMatmulDescSetAttribute(&p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &a.bias,
                                                sizeof a.bias),
                 "cublasLtMatmulDescSetAttribute");
    }
    TRY_BLAS(cublasLtMatrixLayoutInit(&p->weight, type, (uint64_t)a.in, (uint64_t)a.out, a.in),
             "cublasLtMatrixLayoutInit");
    TRY_BLAS(cublasLtMatrixLayoutInit(&p->x, type, (uint64_t)a.in, (uint64_t)rows, a.x_stride),
             "cublasLtMatrixLayoutInit");
    TRY_BLAS(cublasLtMatrixLayoutInit(&p->y, type_of(a.y_dtype), (uint64_t)a.out, (uint64_t)rows, a.y_stride),
             "cublasLtMatrixLayoutInit");
    return STEER_OK;
}

struct preference {
    cublasLtMatmulPreferenceOpaque_t opaque;
    int set(cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t size) {
        TRY_BLAS(cublasLtMatmulPreferenceSetAttribute(&opaque, attribute, value, size),
                 "cublasLtMatmulPreferenceSetAttribute");
        return STEER_OK;
    }
};

/* Asks for the algorithm of a step of rows. Partial sums are added in f32, in a fixed order; where bits may not depend on how many
 * rows there are, there are none. */
int ask(steer_cuda_linears *linears, const steer_linear &a, const product_key &key,
        cublasLtMatmulAlgo_t *out) {
    product p;
    preference wish;
    const uint64_t workspace = WORKSPACE_BYTES;
    const uint32_t reduction = a.reproducible ? CUBLASLT_REDUCTION_SCHEME_NONE
                                              : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE,
                   alignment = (uint32_t)key.alignment;
    STEER_CUDA_CHECK(describe(&p, a, key.rows));
    TRY_BLAS(cublasLtMatmulPreferenceInit(&wish.opaque), "cublasLtMatmulPreferenceInit");
    STEER_CUDA_CHECK(wish.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
    STEER_CUDA_CHECK(wish.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction));
    for (auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
        STEER_CUDA_CHECK(wish.set(attribute, &alignment, sizeof alignment));
    cublasLtMatmulHeuristicResult_t found = {};
    int count = 0;
    TRY_BLAS(cublasLtMatmulAlgoGetHeuristic(linears->blas, &p.operation, &p.weight, &p.x, &p.y, &p.y,
                                            &wish.opaque, 1, &found, &count),
             "cublasLtMatmulAlgoGetHeuristic");
    if (count == 0)
        return STEER_CUDA_FAIL(STEER_E_DEVICE,
                               "cuBLASLt: no algorithm for %lld rows, in %lld, out %lld, dtype %d",
                               (long long)a.rows, (long long)a.in, (long long)a.out, (int)a.dtype);
    *out = found.algo;
    return STEER_OK;
}

int get_algorithm(steer_cuda_linears *linears, const steer_linear &a, cublasLtMatmulAlgo_t *out) {
    uint32_t alignment = alignment_of(a.x);
    for (const void *data : {a.weight, static_cast<const void *>(a.y)}) {
        if (alignment_of(data) < alignment) alignment = alignment_of(data);
    }
    const product_key key = {a.reproducible ? (int64_t)REPRODUCIBLE_ROWS : step_of(a.rows),
                             a.in,
                             a.out,
                             a.x_stride,
                             a.y_stride,
                             (int32_t)a.dtype,
                             (int32_t)a.y_dtype,
                             a.bias ? 1 : 0,
                             (int32_t)alignment,
                             a.reproducible};
    for (int i = 0; i < linears->algorithms; i++) {
        if (memcmp(&linears->known[i].key, &key, sizeof key) == 0) {
            *out = linears->known[i].algorithm;
            return STEER_OK;
        }
    }
    STEER_CUDA_CHECK(ask(linears, a, key, out));
    if (linears->algorithms < ALGORITHMS) {
        linears->known[linears->algorithms].key = key;
        linears->known[linears->algorithms++].algorithm = *out;
    }
    return STEER_OK;
}

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
    const float one = 1.0f, add = is_put(a) ? 1.0f : 0.0f;
    product p;
    cublasLtMatmulAlgo_t algorithm;
    steer_cuda_linears *linears;
    void *workspace = nullptr;
    std::lock_guard<std::mutex> hold(device->blas_lock);
    const steer_cuda_relaxed relaxed; /* the first products allocate and load code */
    STEER_CUDA_CHECK(get_linears(device, &linears));
    STEER_CUDA_CHECK(get_workspace(device, linears, &workspace));
    STEER_CUDA_CHECK(get_algorithm(linears, a, &algorithm));
    STEER_CUDA_CHECK(describe(&p, a, a.rows));
    steer_cuda_scratch temporary(device);
    if (!workspace) {
        STEER_CUDA_CHECK(temporary.get(WORKSPACE_BYTES));
        workspace = temporary.data;
    }
    TRY_BLAS(cublasLtMatmul(linears->blas, &p.operation, &one, a.weight, &p.weight, a.x, &p.x, &add, a.y,
                            &p.y, a.y, &p.y, &algorithm, workspace, WORKSPACE_BYTES,
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
    if (is_put(*args)) STEER_CUDA_CHECK(put_bias(device, *args));
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
