/* measure.cu: what times are measured with: events, graphs, and the two reference kernels.
 *
 * R0 does nothing. R1 is the yardstick for every kernel that works in place: x[i] = x[i] + 0 over the whole buffer. */
#include "cuda.cuh"

enum { STREAM_THREADS = 512 };

static __global__ void empty_kernel() {}

/* Adds zero to the one f32, or the two f16 or bf16, of a word. */
template <typename E> __device__ __forceinline__ uint32_t plus_zero(uint32_t word);
template <> __device__ __forceinline__ uint32_t plus_zero<float>(uint32_t word) {
    return __float_as_uint(__fadd_rn(__uint_as_float(word), 0.0f));
}
template <> __device__ __forceinline__ uint32_t plus_zero<steer_f16>(uint32_t word) {
    __half2 sum = __hadd2(reinterpret_cast<__half2 &>(word), __float2half2_rn(0.0f));
    return reinterpret_cast<uint32_t &>(sum);
}
template <> __device__ __forceinline__ uint32_t plus_zero<steer_bf16>(uint32_t word) {
    __nv_bfloat162 sum = __hadd2(reinterpret_cast<__nv_bfloat162 &>(word), __float2bfloat162_rn(0.0f));
    return reinterpret_cast<uint32_t &>(sum);
}

/* A block's loads are all issued before its first store. `head` and `tail` bytes at the ends are not whole packs; the
 * first block does them element by element. */
template <typename E, int PACKS>
static __global__ void __launch_bounds__(STREAM_THREADS)
    stream_kernel(char *data, int64_t packs, int head, int tail) {
    using pack = steer_pack<uint32_t, 4>; /* words, because packs of half2 are not loaded in one piece */
    pack *body = reinterpret_cast<pack *>(data + head);
    int64_t first = (int64_t)blockIdx.x * (STREAM_THREADS * PACKS) + threadIdx.x;
    pack kept[PACKS];
#pragma unroll
    for (int i = 0; i < PACKS; i++) {
        if (first + i * STREAM_THREADS < packs) kept[i] = body[first + i * STREAM_THREADS];
    }
#pragma unroll
    for (int i = 0; i < PACKS; i++) {
#pragma unroll
        for (uint32_t &word : kept[i].at) word = plus_zero<E>(word);
        if (first + i * STREAM_THREADS < packs) body[first + i * STREAM_THREADS] = kept[i];
    }
    if (blockIdx.x == 0 && threadIdx.x < (head + tail) / sizeof(E)) {
        int64_t at = (int64_t)threadIdx.x * sizeof(E);
        E *x = reinterpret_cast<E *>(data + (at < head ? at : at + packs * 16));
        *x = steer_from_f32<E>(steer_to_f32(*x) + 0.0f);
    }
}

template <typename E> static int stream(steer_cuda_device *device, char *data, size_t bytes) {
    size_t head = (16 - (uintptr_t)data % 16) % 16;
    if (head > bytes) head = bytes;
    int64_t packs = (int64_t)((bytes - head) / 16);
    int tail = (int)((bytes - head) % 16);
    /* The fastest of the geometries tried: two packs a thread where that makes one wave, else one. */
    int64_t threads = (int64_t)device->multiprocessors * device->threads_per_multiprocessor;
    int each = packs > threads && packs <= 2 * threads ? 2 : 1;
    int64_t blocks = (packs + STREAM_THREADS * each - 1) / (STREAM_THREADS * each);
    auto kernel = each == 1 ? stream_kernel<E, 1> : stream_kernel<E, 2>;
    kernel<<<(unsigned)(blocks > 0 ? blocks : 1), STREAM_THREADS, 0, steer_cuda_stream(device)>>>(
        data, packs, (int)head, tail);
    STEER_CUDA_LAUNCHED("the stream reference");
    return STEER_OK;
}

int steer_cuda_reference(void *handle, void *data, size_t bytes, steer_dtype dtype, steer_reference kind) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    if (kind == STEER_REFERENCE_EMPTY) {
        empty_kernel<<<1, 32, 0, steer_cuda_stream(device)>>>();
        STEER_CUDA_LAUNCHED("the empty reference");
        return STEER_OK;
    }
    if (kind != STEER_REFERENCE_STREAM)
        return STEER_CUDA_FAIL(STEER_E_INVALID_ARGUMENT, "kind: %d is not a reference", (int)kind);
    if (bytes == 0) return STEER_OK;
    char *at = static_cast<char *>(data);
    if (dtype == STEER_F32) return stream<float>(device, at, bytes);
    if (dtype == STEER_F16) return stream<steer_f16>(device, at, bytes);
    if (dtype == STEER_BF16) return stream<steer_bf16>(device, at, bytes);
    return STEER_CUDA_FAIL(STEER_E_DTYPE_MISMATCH, "tensor: the stream reference takes f32, f16 or bf16");
}

/* ---- Events -------------------------------------------------------------------------------------------------- */

int steer_cuda_event_create(void *handle, void **out) {
    cudaEvent_t event;
    STEER_CUDA_CHECK(steer_cuda_enter(static_cast<steer_cuda_device *>(handle)));
    STEER_CUDA_TRY(cudaEventCreate(&event));
    *out = event;
    return STEER_OK;
}

void steer_cuda_event_release(void *handle, void *event) {
    if (!event || steer_cuda_enter(static_cast<steer_cuda_device *>(handle)) != STEER_OK) return;
    const steer_cuda_relaxed relaxed; /* collected as garbage during a capture */
    if (cudaEventDestroy(static_cast<cudaEvent_t>(event)) != cudaSuccess) cudaGetLastError();
}

/* A recorded event of a graph has no time of its own, so recording under capture is refused. */
int steer_cuda_event_record(void *handle, void *event) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_CHECK(steer_cuda_refuse_capture(device, "recording an event"));
    STEER_CUDA_TRY(cudaEventRecord(static_cast<cudaEvent_t>(event), steer_cuda_stream(device)));
    return STEER_OK;
}

int steer_cuda_event_wait(void *handle, void *event) {
    STEER_CUDA_CHECK(steer_cuda_enter(static_cast<steer_cuda_device *>(handle)));
    STEER_CUDA_TRY(cudaEventSynchronize(static_cast<cudaEvent_t>(event)));
    return STEER_OK;
}

int steer_cuda_event_order(void *handle, void *event) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_TRY(cudaStreamWaitEvent(steer_cuda_stream(device), static_cast<cudaEvent_t>(event), 0));
    return STEER_OK;
}

int steer_cuda_event_elapsed(void *handle, double *seconds, void *start, void *stop) {
    float ms;
    STEER_CUDA_CHECK(steer_cuda_enter(static_cast<steer_cuda_device *>(handle)));
    STEER_CUDA_TRY(cudaEventSynchronize(static_cast<cudaEvent_t>(stop)));
    cudaError_t error =
        cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(start), static_cast<cudaEvent_t>(stop));
    if (error == cudaErrorInvalidResourceHandle) {
        cudaGetLastError();
        return STEER_CUDA_FAIL(STEER_E_INVALID_ARGUMENT, "start, stop: one was not recorded");
    }
    STEER_CUDA_TRY(error);
    *seconds = (double)ms * 1e-3;
    return STEER_OK;
}

/* ---- Graphs -------------------------------------------------------------------------------------------------- */

/* Capture goes to a stream of its own, so that other threads' work on the device's stream stays out of the graph. */
int steer_cuda_graph_begin(void *handle) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_CHECK(steer_cuda_refuse_capture(device, "beginning a graph"));
    /* Memory that is released during the capture may still be in use by what came before it. */
    STEER_CUDA_CHECK(steer_cuda_order(device, device->stream, steer_cuda_stream(device)));
    cudaStream_t stream;
    STEER_CUDA_TRY(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    cudaError_t error = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess) {
        cudaStreamDestroy(stream);
        STEER_CUDA_TRY(error);
    }
    steer_cuda_chosen(device)->capture = stream;
    return STEER_OK;
}

int steer_cuda_graph_end(void *handle, void **out, int32_t *nodes) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    steer_cuda_choice *choice = steer_cuda_chosen(device);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    if (!choice->capture)
        return STEER_CUDA_FAIL(STEER_E_INVALID_ARGUMENT, "device: this thread captures no graph on it");
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t made = nullptr;
    cudaError_t error = cudaStreamEndCapture(choice->capture, &graph);
    cudaStreamDestroy(choice->capture);
    choice->capture = nullptr;
    STEER_CUDA_TRY(error);
    size_t count = 0;
    error = cudaGraphGetNodes(graph, nullptr, &count);
    if (error == cudaSuccess) error = cudaGraphInstantiate(&made, graph, 0);
    cudaGraphDestroy(graph);
    STEER_CUDA_TRY(error);
    *nodes = (int32_t)count;
    *out = made;
    return STEER_OK;
}

int steer_cuda_graph_launch(void *handle, void *graph) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_TRY(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), steer_cuda_stream(device)));
    return STEER_OK;
}

void steer_cuda_graph_release(void *handle, void *graph) {
    if (!graph || steer_cuda_enter(static_cast<steer_cuda_device *>(handle)) != STEER_OK) return;
    const steer_cuda_relaxed relaxed; /* collected as garbage during a capture */
    if (cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)) != cudaSuccess) cudaGetLastError();
}
