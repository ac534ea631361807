/* cuda.cuh: what every kernel file shares: the device state, error reporting, streams, scratch memory. */
#ifndef STEER_KERNELS_CUDA_CUH
#define STEER_KERNELS_CUDA_CUH

#include "backend/backend.h"
#include "element.cuh"

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <mutex>

/* ---- The device ---------------------------------------------------------------------------------------- */

enum { STEER_CUDA_MAX_DEVICES = 64, STEER_CUDA_STAGES = 8, STEER_CUDA_STAGE_BYTES = 512 * 1024 };

/* Pinned memory that uploads pass through, so that the caller's memory is his again at once. */
struct steer_cuda_stage {
    char *data;
    size_t used;
    cudaStream_t stream; /* the only stream that has copies from here in flight */
    cudaEvent_t done;    /* after the last of them; next_stage says when it is recorded */
};

/* An open GPU. Its numbers never change after open. */
struct steer_cuda_device {
    int index;
    int multiprocessors;
    int threads_per_multiprocessor;
    int shared_bytes; /* most shared memory that a block may ask for (opt-in) */
    int l2_bytes;
    int compute_major;
    int compute_minor;
    int clock_khz;
    int driver;
    size_t total_bytes;
    char name[128];

    cudaStream_t stream; /* the device's own; all memory is allocated and released on it */
    cudaStream_t beside; /* for little work that others need not wait for: of the least priority */
    cudaMemPool_t pool;

    std::mutex order_lock;
    cudaEvent_t order; /* makes one stream wait for another; under order_lock */

    std::mutex stage_lock;
    steer_cuda_stage stage[STEER_CUDA_STAGES];
    int current_stage;

    std::mutex blas_lock;
    cublasHandle_t blas; /* made at the first product; under blas_lock */

    struct steer_cuda_linears *linears; /* of model/linear.cu, made at its first product; under blas_lock */
};

/* What a thread has chosen on one device. */
struct steer_cuda_choice {
    cudaStream_t caller;  /* stream of the caller; NULL: the device's own */
    cudaStream_t capture; /* private stream of the graph being captured; NULL: none */
    bool beside;          /* something is on the device's stream of that name that was not waited for */
};

/* The calling thread's choice and current stream on the device. */
steer_cuda_choice *steer_cuda_chosen(steer_cuda_device *device);
cudaStream_t steer_cuda_stream(steer_cuda_device *device);
/* Makes later work on `after` wait for what is on `before` now. */
int steer_cuda_order(steer_cuda_device *device, cudaStream_t after, cudaStream_t before);
/* Makes the device current on this thread: the first line of every vtable function that touches CUDA. */
int steer_cuda_enter(steer_cuda_device *device);
/* Lets a kernel use all the shared memory there is: before its launch with more than 48 KB of it. */
int steer_cuda_allow_most(const void *kernel, const steer_cuda_device *device);
/* UNSUPPORTED if the current stream is being captured into a graph; `what` begins the message. */
int steer_cuda_refuse_capture(steer_cuda_device *device, const char *what);

/* While there is one, a capture in this thread forbids nothing: for calls that have nothing to do with what is captured. */
struct steer_cuda_relaxed {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    steer_cuda_relaxed() { cudaThreadExchangeStreamCaptureMode(&mode); }
    steer_cuda_relaxed(const steer_cuda_relaxed &) = delete;
    ~steer_cuda_relaxed() { cudaThreadExchangeStreamCaptureMode(&mode); }
};

/* Temporary memory of one operation, ordered on the current stream; a graph that is being captured gets its
 * own. */
int steer_cuda_scratch_get(steer_cuda_device *device, void **out, size_t bytes);
void steer_cuda_scratch_put(steer_cuda_device *device, void *data);

struct steer_cuda_scratch {
    steer_cuda_device *device;
    void *data = nullptr;
    explicit steer_cuda_scratch(steer_cuda_device *d) : device(d) {}
    steer_cuda_scratch(const steer_cuda_scratch &) = delete;
    ~steer_cuda_scratch() {
        if (data) steer_cuda_scratch_put(device, data);
    }
    int get(size_t bytes) { return steer_cuda_scratch_get(device, &data, bytes); }
};

/* ---- Errors -------------------------------------------------------------------------------------------- */

extern const steer_host *steer_cuda_host;

/* Records a failure and returns `code`. */
#define STEER_CUDA_FAIL(code, ...) steer_cuda_host->fail((code), __FILE__, __LINE__, __VA_ARGS__)

/* Records a CUDA error: `what` up to its first parenthesis, then CUDA's text. */
int steer_cuda_fail(cudaError_t error, const char *what, const char *file, int line);

/* Returns from the function if a CUDA call failed. */
#define STEER_CUDA_TRY(expr)                                                                                 \
    do {                                                                                                     \
        cudaError_t steer_cuda_error = (expr);                                                               \
        if (steer_cuda_error != cudaSuccess)                                                                 \
            return steer_cuda_fail(steer_cuda_error, #expr, __FILE__, __LINE__);                             \
    } while (0)

/* Returns from the function if the kernel launch before it was refused. */
#define STEER_CUDA_LAUNCHED(kernel)                                                                          \
    do {                                                                                                     \
        cudaError_t steer_cuda_error = cudaGetLastError();                                                   \
        if (steer_cuda_error != cudaSuccess)                                                                 \
            return steer_cuda_fail(steer_cuda_error, "launch of " kernel, __FILE__, __LINE__);               \
    } while (0)

/* Returns from the function if a function of ours failed. */
#define STEER_CUDA_CHECK(call)                                                                               \
    do {                                                                                                     \
        int steer_cuda_status = (call);                                                                      \
        if (steer_cuda_status != STEER_OK) return steer_cuda_status;                                         \
    } while (0)

/* ---- The vtable's functions, by file ------------------------------------------------------------------- */

/* device.cu */
int32_t steer_cuda_probe(char *detail, size_t size);
int steer_cuda_open(void **device, int32_t index);
void steer_cuda_close(void *device);
int steer_cuda_describe(void *device, steer_device_info *out);
int steer_cuda_synchronize(void *device);
int steer_cuda_set_stream(void *device, void *stream);
int steer_cuda_is_capturing(void *device);
/* memory.cu */
int steer_cuda_allocate(void *device, void **out, size_t bytes);
void steer_cuda_release(void *device, void *data);
int steer_cuda_free_bytes(void *device, int64_t *out);
int steer_cuda_upload(void *device, void *dst, const void *src, size_t bytes);
int steer_cuda_pinned_allocate(void *device, void **out, size_t bytes);
void steer_cuda_pinned_release(void *device, void *data);
int steer_cuda_send(void *device, void *dst, const void *src, size_t bytes);
int steer_cuda_receive(void *device, void *dst, const void *src, size_t bytes, void *event);
int steer_cuda_download(void *device, void *dst, const void *src, size_t bytes);
/* elementwise.cu */
int steer_cuda_copy(void *device, const steer_view *dst, const steer_view *src);
int steer_cuda_fill(void *device, const steer_view *dst, double value);
int steer_cuda_arange(void *device, const steer_view *dst, double start, double step);
int steer_cuda_take(void *device, const steer_view *dst, const steer_view *src, const steer_view *index,
                    int64_t base);
/* arithmetic.cu */
int steer_cuda_unary(void *device, const steer_view *dst, const steer_view *a, steer_unary op);
int steer_cuda_binary(void *device, const steer_view *dst, const steer_view *a, const steer_view *b,
                      steer_binary op, double alpha);
int steer_cuda_scalar(void *device, const steer_view *dst, const steer_view *a, steer_binary op,
                      double value);
int steer_cuda_where(void *device, const steer_view *dst, const steer_view *mask, const steer_view *a,
                     const steer_view *b);
/* random.cu */
int steer_cuda_random(void *device, const steer_view *dst, steer_random kind, uint64_t seed);
/* reduce.cu */
int steer_cuda_reduce(void *device, const steer_view *dst, const steer_view *src, steer_reduce op);
int steer_cuda_normalize(void *device, const steer_view *dst, const steer_view *src);
int steer_cuda_softmax(void *device, const steer_view *dst, const steer_view *src);
/* scan.cu */
int steer_cuda_cumsum(void *device, const steer_view *dst, const steer_view *src);
/* sort.cu */
int steer_cuda_sort(void *device, const steer_view *values, const steer_view *indices, const steer_view *src,
                    int32_t descending);
/* matmul.cu */
int steer_cuda_matmul(void *device, const steer_view *dst, const steer_view *a, const steer_view *b);
/* steer.cu */
int steer_cuda_steer(void *device, const steer_launch *launch);
int steer_cuda_name_kernels(void *device, char *text, size_t size, const steer_launch *launch);
/* jit.cu */
int steer_cuda_kernel_ready(void *device, int own);
int steer_cuda_kernel_text(void *device, char **out, const steer_launch *launch, const steer_shape *shape);
int steer_cuda_kernel_build(void *device, void **code, size_t *size, const char *text, int (*stop)(void *),
                            void *context);
int steer_cuda_kernel_load(void *device, void **out, const steer_launch *launch, const steer_shape *shape,
                           const void *code, size_t size);
int steer_cuda_kernel_launch(void *device, void *kernel, const steer_launch *launch, int *served);
/* measure.cu */
int steer_cuda_reference(void *device, void *data, size_t bytes, steer_dtype dtype, steer_reference kind);
int steer_cuda_event_create(void *device, void **out);
void steer_cuda_event_release(void *device, void *event);
int steer_cuda_event_record(void *device, void *event);
int steer_cuda_event_wait(void *device, void *event);
int steer_cuda_event_order(void *device, void *event);
int steer_cuda_event_elapsed(void *device, double *seconds, void *start, void *stop);
int steer_cuda_graph_begin(void *device);
int steer_cuda_graph_end(void *device, void **out, int32_t *nodes);
int steer_cuda_graph_launch(void *device, void *graph);
void steer_cuda_graph_release(void *device, void *graph);
/* model/embed.cu */
int steer_cuda_embed(void *device, const steer_embed *args);
int steer_cuda_gather(void *device, const steer_gather *args);
/* model/norm.cu */
int steer_cuda_residual(void *device, const steer_residual *args);
int32_t steer_cuda_steers(void *device, steer_dtype dtype, int64_t hidden);
int steer_cuda_norm_parts(void *device, const steer_norm_parts *args);
/* model/linear.cu */
int steer_cuda_linear(void *device, const steer_linear *args);
int steer_cuda_fuses(void *device, const steer_linear *args);
void steer_cuda_linear_close(steer_cuda_device *device); /* frees what linear() keeps */
/* model/rope.cu */
int steer_cuda_rope(void *device, const steer_rope *args);
/* model/attention.cu */
size_t steer_cuda_attention_work(void *device, const steer_attention *args);
int steer_cuda_attention(void *device, const steer_attention *args);
/* model/activate.cu */
int steer_cuda_activate(void *device, const steer_activate *args);
/* model/logits.cu */
int steer_cuda_logits(void *device, const steer_logits *args);
int steer_cuda_logprob(void *device, const steer_logprob *args);
/* model/divergence.cu */
int steer_cuda_divergence(void *device, const steer_divergence *args);
/* model/sample.cu */
size_t steer_cuda_sample_work(void *device, const steer_sample *args);
int steer_cuda_sample(void *device, const steer_sample *args);
/* model/mixture.cu */
size_t steer_cuda_mixture_work(void *device, const steer_mixture *args);
int steer_cuda_mixture(void *device, const steer_mixture *args);
/* model/accumulate.cu */
int steer_cuda_accumulate(void *device, const steer_accumulate *args);
int steer_cuda_join(void *device);
/* model/changed.cu */
int steer_cuda_changed(void *device, const steer_changed *args);

/* model/notes.cu */
int steer_cuda_notes(void *device, const steer_notes *args);

#endif
