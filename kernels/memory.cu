/* memory.cu: device memory from a stream-ordered pool, and the way of bytes between host and device.
 *
 * Tensors' memory is allocated and released on the device's own stream. Where a caller's stream is current, an event
 * orders the two: the caller's stream waits for an allocation, the own stream waits for the caller's work before a
 * release. So memory that one thread releases and another takes is free of the first one's work, and nothing waits on
 * the host. A thread that releases memory which other streams still use has to order them itself. */
#include "cuda.cuh"

#include <string.h>

static cudaError_t take(steer_cuda_device *device, void **out, size_t bytes) {
    cudaError_t error = cudaMallocFromPoolAsync(out, bytes ? bytes : 1, device->pool, device->stream);
    if (error != cudaErrorMemoryAllocation) return error;
    /* Releases in flight become free memory; the unused blocks of the pool and of graphs go back to the driver. */
    cudaGetLastError();
    if ((error = cudaStreamSynchronize(device->stream)) != cudaSuccess) return error;
    if ((error = cudaDeviceGraphMemTrim(device->index)) != cudaSuccess) return error;
    if ((error = cudaMemPoolTrimTo(device->pool, 0)) != cudaSuccess) return error;
    return cudaMallocFromPoolAsync(out, bytes ? bytes : 1, device->pool, device->stream);
}

int steer_cuda_allocate(void *handle, void **out, size_t bytes) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    void *data = nullptr;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_CHECK(steer_cuda_refuse_capture(device, "allocating memory"));
    if (bytes > device->total_bytes) return STEER_E_OUT_OF_MEMORY;
    cudaError_t error = take(device, &data, bytes);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return STEER_E_OUT_OF_MEMORY;
    }
    STEER_CUDA_TRY(error);
    int status = steer_cuda_order(device, steer_cuda_stream(device), device->stream);
    if (status != STEER_OK) {
        cudaFreeAsync(data, device->stream);
        return status;
    }
    *out = data;
    return STEER_OK;
}

/* Under capture there is nothing to wait for: captured work runs at the launch of its graph, whose memory the caller
 * keeps, and the work before the capture is ordered when the capture begins. */
void steer_cuda_release(void *handle, void *data) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (!data || steer_cuda_enter(device) != STEER_OK) return;
    if (!steer_cuda_is_capturing(device)) steer_cuda_order(device, device->stream, steer_cuda_stream(device));
    const steer_cuda_relaxed relaxed;
    if (cudaFreeAsync(data, device->stream) != cudaSuccess) cudaGetLastError();
}

int steer_cuda_free_bytes(void *handle, int64_t *out) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    size_t free_bytes, total;
    uint64_t reserved, used;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_TRY(cudaMemGetInfo(&free_bytes, &total));
    STEER_CUDA_TRY(cudaMemPoolGetAttribute(device->pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
    STEER_CUDA_TRY(cudaMemPoolGetAttribute(device->pool, cudaMemPoolAttrUsedMemCurrent, &used));
    *out = (int64_t)(free_bytes + (reserved > used ? reserved - used : 0));
    return STEER_OK;
}

int steer_cuda_scratch_get(steer_cuda_device *device, void **out, size_t bytes) {
    STEER_CUDA_TRY(cudaMallocFromPoolAsync(out, bytes ? bytes : 1, device->pool, steer_cuda_stream(device)));
    return STEER_OK;
}

void steer_cuda_scratch_put(steer_cuda_device *device, void *data) {
    if (cudaFreeAsync(data, steer_cuda_stream(device)) != cudaSuccess) cudaGetLastError();
}

/* ---- Between host and device --------------------------------------------------------------------------------- */

/* The stage that takes the next bytes for `stream`: the current one, or the next one once its copies are done.
 *
 * On the device's own stream the event of a stage is recorded once, when the stage is left. Until then a caller may
 * have destroyed his stream or begun to capture it, so there it is recorded after every copy. */
static int next_stage(steer_cuda_device *device, cudaStream_t stream, steer_cuda_stage **out) {
    steer_cuda_stage *stage = &device->stage[device->current_stage];
    if (stage->used == STEER_CUDA_STAGE_BYTES || (stage->used > 0 && stage->stream != stream)) {
        if (stage->stream == device->stream) STEER_CUDA_TRY(cudaEventRecord(stage->done, device->stream));
        int next = (device->current_stage + 1) % STEER_CUDA_STAGES;
        stage = &device->stage[next];
        STEER_CUDA_TRY(cudaEventSynchronize(stage->done));
        device->current_stage = next;
        stage->used = 0;
    }
    stage->stream = stream;
    *out = stage;
    return STEER_OK;
}

int steer_cuda_upload(void *handle, void *dst, const void *src, size_t bytes) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_CHECK(steer_cuda_refuse_capture(device, "copying to the device"));
    cudaStream_t stream = steer_cuda_stream(device);
    const char *from = static_cast<const char *>(src);
    char *to = static_cast<char *>(dst);
    std::lock_guard<std::mutex> hold(device->stage_lock);
    while (bytes > 0) {
        steer_cuda_stage *stage;
        STEER_CUDA_CHECK(next_stage(device, stream, &stage));
        size_t room = STEER_CUDA_STAGE_BYTES - stage->used;
        size_t part = bytes < room ? bytes : room;
        memcpy(stage->data + stage->used, from, part);
        STEER_CUDA_TRY(cudaMemcpyAsync(to, stage->data + stage->used, part, cudaMemcpyHostToDevice, stream));
        /* 64-byte steps keep the next piece aligned for the copy engine. */
        stage->used = (stage->used + part + 63) & ~(size_t)63;
        if (stream != device->stream) STEER_CUDA_TRY(cudaEventRecord(stage->done, stream));
        from += part;
        to += part;
        bytes -= part;
    }
    return STEER_OK;
}

int steer_cuda_pinned_allocate(void *handle, void **out, size_t bytes) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    const cudaError_t error = cudaHostAlloc(out, bytes, cudaHostAllocDefault);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return STEER_E_OUT_OF_MEMORY;
    }
    STEER_CUDA_TRY(error);
    return STEER_OK;
}

void steer_cuda_pinned_release(void *handle, void *data) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (!data || steer_cuda_enter(device) != STEER_OK) return;
    if (cudaFreeHost(data) != cudaSuccess) cudaGetLastError();
}

int steer_cuda_send(void *handle, void *dst, const void *src, size_t bytes) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_CHECK(steer_cuda_refuse_capture(device, "copying to the device"));
    STEER_CUDA_TRY(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, steer_cuda_stream(device)));
    return STEER_OK;
}

int steer_cuda_receive(void *handle, void *dst, const void *src, size_t bytes, void *event) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_CHECK(steer_cuda_refuse_capture(device, "copying to the host"));
    cudaStream_t stream = steer_cuda_stream(device);
    STEER_CUDA_TRY(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, stream));
    STEER_CUDA_TRY(cudaEventRecord(static_cast<cudaEvent_t>(event), stream));
    return STEER_OK;
}

int steer_cuda_download(void *handle, void *dst, const void *src, size_t bytes) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    if (bytes == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    STEER_CUDA_CHECK(steer_cuda_refuse_capture(device, "copying to the host"));
    cudaStream_t stream = steer_cuda_stream(device);
    STEER_CUDA_TRY(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, stream));
    STEER_CUDA_TRY(cudaStreamSynchronize(stream));
    return STEER_OK;
}
