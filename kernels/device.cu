/* device.cu: finding, opening and describing GPUs, their streams, and how CUDA's errors are reported. */
#include "cuda.cuh"

#include <new>
#include <stdio.h>
#include <string.h>

int steer_cuda_fail(cudaError_t error, const char *what, const char *file, int line) {
    cudaGetLastError(); /* an error that is reported here is not reported again by the next launch */
    int length = (int)strcspn(what, "(");
    int code = STEER_E_DEVICE;
    if (error == cudaErrorMemoryAllocation) code = STEER_E_OUT_OF_MEMORY;
    if (error >= cudaErrorStreamCaptureUnsupported && error <= cudaErrorStreamCaptureWrongThread)
        code = STEER_E_UNSUPPORTED;
    return steer_cuda_host->fail(code, file, line, "%.*s: %s", length, what, cudaGetErrorString(error));
}

/* ---- Streams ------------------------------------------------------------------------------------------------- */

static thread_local steer_cuda_choice choices[STEER_CUDA_MAX_DEVICES];

steer_cuda_choice *steer_cuda_chosen(steer_cuda_device *device) { return &choices[device->index]; }

cudaStream_t steer_cuda_stream(steer_cuda_device *device) {
    const steer_cuda_choice *choice = &choices[device->index];
    if (choice->capture) return choice->capture;
    return choice->caller ? choice->caller : device->stream;
}

int steer_cuda_enter(steer_cuda_device *device) {
    int now;
    /* Asked each time, not remembered: other CUDA libraries on this thread change it too. */
    if (cudaGetDevice(&now) == cudaSuccess && now == device->index) return STEER_OK;
    STEER_CUDA_TRY(cudaSetDevice(device->index));
    return STEER_OK;
}

int steer_cuda_order(steer_cuda_device *device, cudaStream_t after, cudaStream_t before) {
    if (after == before) return STEER_OK;
    std::lock_guard<std::mutex> hold(device->order_lock);
    STEER_CUDA_TRY(cudaEventRecord(device->order, before));
    STEER_CUDA_TRY(cudaStreamWaitEvent(after, device->order, 0));
    return STEER_OK;
}

int steer_cuda_is_capturing(void *handle) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (steer_cuda_enter(device) != STEER_OK) return 0;
    /* An error means the legacy stream while another stream is captured in global mode; work on it is refused too. */
    if (cudaStreamIsCapturing(steer_cuda_stream(device), &status) != cudaSuccess) {
        cudaGetLastError();
        return 1;
    }
    return status != cudaStreamCaptureStatusNone;
}

int steer_cuda_refuse_capture(steer_cuda_device *device, const char *what) {
    if (!steer_cuda_is_capturing(device)) return STEER_OK;
    return STEER_CUDA_FAIL(
        STEER_E_UNSUPPORTED,
        "%s: not possible while a graph is being captured on this stream; do it before or after", what);
}

int steer_cuda_set_stream(void *handle, void *stream) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    steer_cuda_choice *choice = steer_cuda_chosen(device);
    if (choice->capture)
        return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED,
                               "stream: cannot change while this thread captures a graph");
    choice->caller = static_cast<cudaStream_t>(stream);
    return STEER_OK;
}

int steer_cuda_synchronize(void *handle) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_CHECK(steer_cuda_refuse_capture(device, "synchronize"));
    STEER_CUDA_TRY(cudaStreamSynchronize(steer_cuda_stream(device)));
    return STEER_OK;
}

/* ---- Finding and opening ------------------------------------------------------------------------------------- */

int32_t steer_cuda_probe(char *detail, size_t size) {
    int runtime = 0, driver = 0, count = 0;
    cudaRuntimeGetVersion(&runtime);
    cudaDriverGetVersion(&driver);
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        cudaGetLastError();
        if (driver == 0)
            snprintf(detail, size, "CUDA %d.%d runtime: no CUDA driver is installed", runtime / 1000,
                     runtime % 1000 / 10);
        else
            snprintf(detail, size, "CUDA %d.%d runtime, driver %d.%d: %s", runtime / 1000,
                     runtime % 1000 / 10, driver / 1000, driver % 1000 / 10, cudaGetErrorString(error));
        return 0;
    }
    if (count > STEER_CUDA_MAX_DEVICES) count = STEER_CUDA_MAX_DEVICES;
    snprintf(detail, size, "CUDA %d.%d runtime, driver %d.%d, %d device%s", runtime / 1000,
             runtime % 1000 / 10, driver / 1000, driver % 1000 / 10, count, count == 1 ? "" : "s");
    return count;
}

/* Tells whether this build has code for the device. */
static __global__ void code_probe() {}

static int read_attributes(steer_cuda_device *device) {
    const struct {
        cudaDeviceAttr attribute;
        int *out;
    } table[] = {
        {cudaDevAttrMultiProcessorCount, &device->multiprocessors},
        {cudaDevAttrMaxThreadsPerMultiProcessor, &device->threads_per_multiprocessor},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, &device->shared_bytes},
        {cudaDevAttrL2CacheSize, &device->l2_bytes},
        {cudaDevAttrComputeCapabilityMajor, &device->compute_major},
        {cudaDevAttrComputeCapabilityMinor, &device->compute_minor},
        {cudaDevAttrClockRate, &device->clock_khz},
    };
    for (const auto &row : table)
        STEER_CUDA_TRY(cudaDeviceGetAttribute(row.out, row.attribute, device->index));
    STEER_CUDA_TRY(cudaDriverGetVersion(&device->driver));
    cudaDeviceProp properties;
    STEER_CUDA_TRY(cudaGetDeviceProperties(&properties, device->index));
    snprintf(device->name, sizeof device->name, "%.127s", properties.name);
    device->total_bytes = properties.totalGlobalMem;

    cudaFuncAttributes code;
    cudaError_t error = cudaFuncGetAttributes(&code, code_probe);
    if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
        cudaGetLastError();
        return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "this build has no code for compute capability %d.%d",
                               device->compute_major, device->compute_minor);
    }
    STEER_CUDA_TRY(error);
    return STEER_OK;
}

static int make_streams(steer_cuda_device *device) {
    int least, greatest;
    STEER_CUDA_TRY(cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking));
    STEER_CUDA_TRY(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    STEER_CUDA_TRY(cudaStreamCreateWithPriority(&device->beside, cudaStreamNonBlocking, least));
    STEER_CUDA_TRY(cudaEventCreateWithFlags(&device->order, cudaEventDisableTiming));
    return STEER_OK;
}

static int make_memory(steer_cuda_device *device) {
    cudaMemPoolProps properties;
    memset(&properties, 0, sizeof properties);
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device->index;
    STEER_CUDA_TRY(cudaMemPoolCreate(&device->pool, &properties));
    uint64_t keep = UINT64_MAX; /* memory stays in the pool; release never returns it to the driver */
    STEER_CUDA_TRY(cudaMemPoolSetAttribute(device->pool, cudaMemPoolAttrReleaseThreshold, &keep));

    void *pinned;
    STEER_CUDA_TRY(
        cudaHostAlloc(&pinned, (size_t)STEER_CUDA_STAGES * STEER_CUDA_STAGE_BYTES, cudaHostAllocDefault));
    for (int i = 0; i < STEER_CUDA_STAGES; i++) {
        device->stage[i].data = static_cast<char *>(pinned) + (size_t)i * STEER_CUDA_STAGE_BYTES;
        STEER_CUDA_TRY(cudaEventCreateWithFlags(&device->stage[i].done, cudaEventDisableTiming));
    }
    return STEER_OK;
}

static int open_device(steer_cuda_device *device) {
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_CHECK(read_attributes(device));
    STEER_CUDA_CHECK(make_streams(device));
    return make_memory(device);
}

int steer_cuda_open(void **out, int32_t index) {
    if (index < 0 || index >= STEER_CUDA_MAX_DEVICES)
        return STEER_CUDA_FAIL(STEER_E_NOT_FOUND, "there is no device %d", (int)index);
    auto *device = new (std::nothrow) steer_cuda_device();
    if (!device)
        return STEER_CUDA_FAIL(STEER_E_OUT_OF_MEMORY, "cuda:%d: no memory for the device's state",
                               (int)index);
    device->index = index;
    int status = open_device(device);
    if (status != STEER_OK) {
        steer_cuda_close(device);
        return status;
    }
    *out = device;
    return STEER_OK;
}

/* Errors are of no use here; what open() did not get to is NULL. */
void steer_cuda_close(void *handle) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (!device) return;
    cudaSetDevice(device->index);
    if (device->stream) cudaStreamSynchronize(device->stream);
    if (device->beside) cudaStreamSynchronize(device->beside);
    if (device->blas) cublasDestroy(device->blas);
    steer_cuda_linear_close(device);
    for (steer_cuda_stage &stage : device->stage) {
        if (stage.done) cudaEventDestroy(stage.done);
    }
    if (device->stage[0].data) cudaFreeHost(device->stage[0].data);
    if (device->pool) cudaMemPoolDestroy(device->pool);
    if (device->order) cudaEventDestroy(device->order);
    if (device->stream) cudaStreamDestroy(device->stream);
    if (device->beside) cudaStreamDestroy(device->beside);
    cudaGetLastError();
    delete device;
}

int steer_cuda_describe(void *handle, steer_device_info *out) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    int64_t free_bytes;
    STEER_CUDA_CHECK(steer_cuda_free_bytes(device, &free_bytes));
    out->compute_major = device->compute_major;
    out->compute_minor = device->compute_minor;
    out->processors = device->multiprocessors;
    out->total_bytes = (int64_t)device->total_bytes;
    out->free_bytes = free_bytes;
    out->l2_bytes = device->l2_bytes;
    out->clock_khz = device->clock_khz;
    out->driver = device->driver;
    snprintf(out->name, sizeof out->name, "%s", device->name);
    return STEER_OK;
}
