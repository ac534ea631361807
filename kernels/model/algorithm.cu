/* algorithm.cu: how cuBLASLt computes a product: the fastest of what it offers, timed once for each shape and kept on disk.
 *
 * Rows are counted in steps (a request's bits change with the step, not with each row more). The weight comes from memory in every
 * run, as it does in a step of a model, where the weights of other layers came between. */
#include "linear.cuh"

#include "backend/steps.h"

#include <string.h>

enum { OFFERS = 8, RUNS = 8, LEAST_ROWS = 16 };
enum {
    REPRODUCIBLE_ROWS = 256
}; /* whose algorithm serves all numbers of rows: 13 % slower at 64 rows, half as fast at 2048 */
constexpr float WORTH = 0.97f; /* of the first offer's time: less is noise */

int steer_cuda_fail_blas(cublasStatus_t status, const char *what, int line) {
    const int code = status == CUBLAS_STATUS_ALLOC_FAILED ? STEER_E_OUT_OF_MEMORY : STEER_E_DEVICE;
    return steer_cuda_host->fail(code, __FILE__, line, "cuBLASLt %s: %s", what,
                                 cublasGetStatusString(status));
}

/* ---- A product as the library sees it ------------------------------------------------------------------------------- */

namespace {

cudaDataType_t type_of(steer_dtype dtype) {
    return dtype == STEER_F32 ? CUDA_R_32F : dtype == STEER_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

} // namespace

bool steer_cuda_puts_bias(const steer_linear &a) {
    const int64_t element = a.dtype == STEER_F32 ? 4 : 2;
    return a.bias && (a.y_dtype != a.dtype || !steer_is_wide(a.x, a.x_stride * element) ||
                      !steer_is_wide(a.y, a.y_stride * element) || !steer_is_wide(a.weight, a.in * element));
}

int steer_cuda_describe(steer_product *p, const steer_linear &a, int64_t rows) {
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t type = type_of(a.dtype);
    TRY_BLAS(cublasLtMatmulDescInit(&p->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescInit");
    TRY_BLAS(cublasLtMatmulDescSetAttribute(&p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                            sizeof transposed),
             "cublasLtMatmulDescSetAttribute");
    if (a.bias && !steer_cuda_puts_bias(a)) {
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

/* ---- What it offers ------------------------------------------------------------------------------------------------ */

namespace {

/* The greatest power of two, at most 256, that an address is a multiple of. */
uint32_t alignment_of(const void *data) {
    uint32_t alignment = 256;
    while ((uintptr_t)data % alignment) alignment /= 2;
    return alignment;
}

struct preference {
    cublasLtMatmulPreferenceOpaque_t opaque;
    int set(cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t size) {
        TRY_BLAS(cublasLtMatmulPreferenceSetAttribute(&opaque, attribute, value, size),
                 "cublasLtMatmulPreferenceSetAttribute");
        return STEER_OK;
    }
};

/* Asks for algorithms of a step of rows, the most promising first. Partial sums are added in f32, in a fixed order; where bits may
 * not depend on how many rows there are, there are none. */
int ask(int *count, cublasLtMatmulHeuristicResult_t *found, steer_cuda_linears *linears,
        const steer_linear &a, const steer_product_key &key) {
    steer_product p;
    preference wish;
    const uint64_t workspace = STEER_BLAS_WORKSPACE_BYTES;
    const uint32_t reduction = a.reproducible ? CUBLASLT_REDUCTION_SCHEME_NONE
                                              : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE,
                   alignment = (uint32_t)key.alignment;
    STEER_CUDA_CHECK(steer_cuda_describe(&p, a, key.rows));
    TRY_BLAS(cublasLtMatmulPreferenceInit(&wish.opaque), "cublasLtMatmulPreferenceInit");
    STEER_CUDA_CHECK(wish.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
    STEER_CUDA_CHECK(wish.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction));
    for (auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
        STEER_CUDA_CHECK(wish.set(attribute, &alignment, sizeof alignment));
    TRY_BLAS(cublasLtMatmulAlgoGetHeuristic(linears->blas, &p.operation, &p.weight, &p.x, &p.y, &p.y,
                                            &wish.opaque, a.reproducible ? 1 : OFFERS, found, count),
             "cublasLtMatmulAlgoGetHeuristic");
    if (*count == 0)
        return STEER_CUDA_FAIL(STEER_E_DEVICE,
                               "cuBLASLt: no algorithm for %lld rows, in %lld, out %lld, dtype %d",
                               (long long)a.rows, (long long)a.in, (long long)a.out, (int)a.dtype);
    return STEER_OK;
}

/* ---- Timing --------------------------------------------------------------------------------------------------------- */

/* What the runs need beside the product's own: a place for y, other memory that sends the weight out of the cache, two events. */
struct bench {
    void *y = nullptr, *other = nullptr;
    size_t other_bytes;
    cudaEvent_t start = nullptr, stop = nullptr;
    bench(const steer_cuda_device *device, const steer_linear &a)
        : other_bytes(2 * (size_t)device->l2_bytes) {
        const size_t y_bytes = (size_t)a.rows * (size_t)a.y_stride * (a.y_dtype == STEER_F32 ? 4 : 2);
        if (cudaMalloc(&y, y_bytes) != cudaSuccess || cudaMalloc(&other, other_bytes) != cudaSuccess ||
            cudaEventCreate(&start) != cudaSuccess || cudaEventCreate(&stop) != cudaSuccess ||
            cudaMemset(y, 0, y_bytes) != cudaSuccess)
            cudaGetLastError();
        else
            ready = true;
    }
    bench(const bench &) = delete;
    ~bench() {
        cudaFree(y);
        cudaFree(other);
        if (start) cudaEventDestroy(start);
        if (stop) cudaEventDestroy(stop);
    }
    bool ready = false;
};

/* The time of one run in milliseconds; infinite if the library refuses. */
float time_of(steer_cuda_device *device, steer_cuda_linears *linears, const steer_linear &a, steer_product &p,
              const bench &at, void *workspace, const cublasLtMatmulAlgo_t *algorithm) {
    const float one = 1.0f, add = steer_cuda_puts_bias(a) ? 1.0f : 0.0f;
    const cudaStream_t stream = steer_cuda_stream(device);
    float took;
    cudaMemsetAsync(at.other, 0, at.other_bytes, stream);
    cudaEventRecord(at.start, stream);
    if (cublasLtMatmul(linears->blas, &p.operation, &one, a.weight, &p.weight, a.x, &p.x, &add, at.y, &p.y,
                       at.y, &p.y, algorithm, workspace, STEER_BLAS_WORKSPACE_BYTES,
                       stream) != CUBLAS_STATUS_SUCCESS)
        return INFINITY;
    cudaEventRecord(at.stop, stream);
    const bool done = cudaEventSynchronize(at.stop) == cudaSuccess &&
                      cudaEventElapsedTime(&took, at.start, at.stop) == cudaSuccess;
    return done ? took : INFINITY;
}

/* The offer whose best run is the fastest, run in turn as the clock of the device changes; the first one if they cannot be timed. */
int fastest(steer_cuda_device *device, steer_cuda_linears *linears, const steer_linear &a, void *workspace,
            int count, const cublasLtMatmulHeuristicResult_t *found) {
    const bench at(device, a);
    steer_product p;
    float least[OFFERS];
    if (count < 2 || !at.ready || steer_cuda_describe(&p, a, a.rows) != STEER_OK) return 0;
    for (int run = 0; run < RUNS; run++) {
        for (int i = 0; i < count; i++) {
            const float took = time_of(device, linears, a, p, at, workspace, &found[i].algo);
            if (run <= 1 || took < least[i]) least[i] = took; /* the first run loads code */
        }
    }
    int best = 0;
    for (int i = 1; i < count; i++)
        if (least[i] < (best ? least[best] : least[0] * WORTH)) best = i;
    return best;
}

/* ---- What is kept --------------------------------------------------------------------------------------------------- */

/* What an entry on disk is stored under: the choice holds for one version of the library on one kind of GPU. */
struct disk_key {
    char what[24], device[128];
    uint64_t version;
    int64_t multiprocessors;
    steer_product_key product;
};

/* Whether the library still takes what was stored. */
bool read_disk(const disk_key &key, steer_cuda_linears *linears, const steer_linear &a,
               cublasLtMatmulAlgo_t *out) {
    steer_product p;
    cublasLtMatmulHeuristicResult_t result;
    return steer_cuda_host->cache_get(out, sizeof *out, &key, sizeof key) &&
           steer_cuda_describe(&p, a, a.rows) == STEER_OK &&
           cublasLtMatmulAlgoCheck(linears->blas, &p.operation, &p.weight, &p.x, &p.y, &p.y, out, &result) ==
               CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= STEER_BLAS_WORKSPACE_BYTES;
}

/* *lasts: 0 if it was chosen without a look at its time, as nothing can be timed while a graph is captured. */
int choose(int *lasts, steer_cuda_device *device, steer_cuda_linears *linears, const steer_linear &a,
           const steer_product_key &key, void *workspace, cublasLtMatmulAlgo_t *out) {
    disk_key where = {};
    snprintf(where.what, sizeof where.what, "cuBLASLt algorithm 1");
    snprintf(where.device, sizeof where.device, "%s", device->name);
    where.version = cublasLtGetVersion();
    where.multiprocessors = device->multiprocessors;
    where.product = key;
    *lasts = 1;
    if (!a.reproducible && read_disk(where, linears, a, out)) return STEER_OK;
    cublasLtMatmulHeuristicResult_t found[OFFERS] = {};
    int count = 0, best = 0;
    STEER_CUDA_CHECK(ask(&count, found, linears, a, key));
    *lasts = a.reproducible || !steer_cuda_is_capturing(device);
    if (*lasts && !a.reproducible) {
        best = fastest(device, linears, a, workspace, count, found);
        steer_cuda_host->cache_put(&found[best].algo, sizeof found[best].algo, &where, sizeof where);
    }
    *out = found[best].algo;
    return STEER_OK;
}

} // namespace

int steer_cuda_algorithm(steer_cuda_device *device, steer_cuda_linears *linears, const steer_linear &a,
                         void *workspace, cublasLtMatmulAlgo_t *out) {
    uint32_t alignment = alignment_of(a.x);
    for (const void *data : {a.weight, static_cast<const void *>(a.y)}) {
        if (alignment_of(data) < alignment) alignment = alignment_of(data);
    }
    const steer_product_key key = {a.reproducible ? (int64_t)REPRODUCIBLE_ROWS
                                                  : steer_step_of(a.rows < LEAST_ROWS ? LEAST_ROWS : a.rows),
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
    int lasts;
    STEER_CUDA_CHECK(choose(&lasts, device, linears, a, key, workspace, out));
    if (lasts && linears->algorithms < STEER_BLAS_ALGORITHMS) {
        linears->known[linears->algorithms].key = key;
        linears->known[linears->algorithms++].algorithm = *out;
    }
    return STEER_OK;
}
