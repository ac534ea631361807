/* tensor.c: storages, tensors over them, and views. */
#include "tensor/tensor.h"
#include "backend/device.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t steer_dtype_size(steer_dtype dtype) {
    static const uint8_t sizes[] = {4, 2, 2, 4, 8, 1};
    return (unsigned)dtype < STEER_DTYPE_COUNT ? sizes[dtype] : 0;
}

const char *steer_dtype_name(steer_dtype dtype) {
    static const char *const names[] = {"f32", "f16", "bf16", "i32", "i64", "u8"};
    return (unsigned)dtype < STEER_DTYPE_COUNT ? names[dtype] : "?";
}

/* Drops a reference; the last one gives the memory back. */
static void storage_release(steer_storage *storage) {
    if (!steer_refs_drop(&storage->refs)) return;
    if (storage->release)
        storage->release(storage->owner);
    else if (storage->bytes)
        steer_device_deallocate(storage->device, storage->data, storage->bytes);
    steer_device_release(storage->device);
    free(storage);
}

/* A tensor with a new storage that holds nothing yet. */
static int tensor_begin(steer_tensor **out, steer_device *device, steer_dtype dtype) {
    steer_tensor *tensor = calloc(1, sizeof *tensor);
    steer_storage *storage = calloc(1, sizeof *storage);
    if (!tensor || !storage) {
        free(tensor);
        free(storage);
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "tensor: %zu bytes of host memory",
                          sizeof *tensor + sizeof *storage);
    }
    steer_refs_init(&tensor->refs);
    steer_refs_init(&storage->refs);
    storage->device = steer_device_retain(device);
    tensor->storage = storage;
    tensor->view.dtype = dtype;
    *out = tensor;
    return STEER_OK;
}

int steer_tensor_make(steer_tensor **out, steer_device *device, steer_dtype dtype, int32_t ndim,
                      const int64_t *shape) {
    int64_t numel;
    steer_tensor *tensor;
    char text[96], what[128];
    STEER_TRY(steer_shape_check(&numel, dtype, ndim, shape));
    STEER_TRY(tensor_begin(&tensor, device, dtype));
    steer_view_set_contiguous(&tensor->view, ndim, shape);
    size_t bytes = (size_t)numel * steer_dtype_size(dtype);
    if (bytes > 0) {
        snprintf(what, sizeof what, "tensor %s of %s", steer_shape_text(text, sizeof text, ndim, shape),
                 steer_dtype_name(dtype));
        int status = steer_device_allocate(device, &tensor->storage->data, bytes, what);
        if (status != STEER_OK) {
            steer_tensor_release(tensor);
            return status;
        }
        tensor->storage->bytes = bytes;
    }
    tensor->view.data = tensor->storage->data;
    *out = tensor;
    return STEER_OK;
}

/* Strides of foreign memory: none negative, every element addressable. */
static int check_strides(int64_t numel, steer_dtype dtype, int32_t ndim, const int64_t *shape,
                         const int64_t *strides) {
    int64_t bytes = (int64_t)steer_dtype_size(dtype), last = 0, reach;
    for (int32_t d = 0; d < ndim; d++) {
        if (strides[d] < 0)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "strides: dimension " STEER_INDEX " has %" PRId64 ", expected 0 or more", d,
                              strides[d]);
        if (numel == 0) continue;
        if (__builtin_mul_overflow(shape[d] - 1, strides[d], &reach) ||
            __builtin_add_overflow(last, reach, &last) || last > INT64_MAX / bytes - 1)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "strides: dimension " STEER_INDEX " reaches further than can be addressed", d);
    }
    return STEER_OK;
}

static int check_foreign(int64_t *numel, steer_dtype dtype, int32_t ndim, const int64_t *shape,
                         const int64_t *strides, const void *data) {
    STEER_TRY(steer_shape_check(numel, dtype, ndim, shape));
    if (strides) STEER_TRY(check_strides(*numel, dtype, ndim, shape, strides));
    if (*numel == 0) return STEER_OK;
    STEER_REQUIRE(data);
    if ((uintptr_t)data % steer_dtype_size(dtype) != 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "data: address %p is not aligned to %s (%zu bytes)", data,
                          steer_dtype_name(dtype), steer_dtype_size(dtype));
    return STEER_OK;
}

int steer_tensor_adopt(steer_tensor **out, steer_device *device, steer_dtype dtype, int32_t ndim,
                       const int64_t *shape, const int64_t *strides, void *data, void (*release)(void *),
                       void *owner) {
    int64_t numel;
    steer_tensor *tensor;
    int status = check_foreign(&numel, dtype, ndim, shape, strides, data);
    if (status == STEER_OK) status = tensor_begin(&tensor, device, dtype);
    if (status != STEER_OK) {
        if (release) release(owner);
        return status;
    }
    steer_view_set_contiguous(&tensor->view, ndim, shape);
    if (strides && ndim > 0) memcpy(tensor->view.stride, strides, (size_t)ndim * sizeof *strides);
    tensor->storage->data = tensor->view.data = data;
    tensor->storage->release = release;
    tensor->storage->owner = owner;
    *out = tensor;
    return STEER_OK;
}

steer_tensor *steer_tensor_retain(steer_tensor *tensor) {
    if (tensor) steer_refs_add(&tensor->refs);
    return tensor;
}

void steer_tensor_release(steer_tensor *tensor) {
    if (!tensor || !steer_refs_drop(&tensor->refs)) return;
    storage_release(tensor->storage);
    free(tensor);
}

int steer_tensor_view(steer_tensor **out, steer_tensor *tensor, const steer_view *view) {
    steer_tensor *result = calloc(1, sizeof *result);
    if (!result) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "view: %zu bytes of host memory", sizeof *result);
    steer_refs_init(&result->refs);
    steer_refs_add(&tensor->storage->refs);
    result->storage = tensor->storage;
    result->view = *view;
    *out = result;
    return STEER_OK;
}

int steer_tensor_clone(steer_tensor **out, steer_tensor *tensor) {
    steer_tensor *copy;
    const steer_view *view = &tensor->view;
    STEER_TRY(steer_tensor_make(&copy, steer_tensor_on(tensor), view->dtype, view->ndim, view->shape));
    int status = steer_tensor_assign(copy, tensor);
    if (status == STEER_OK)
        *out = copy;
    else
        steer_tensor_release(copy);
    return status;
}

int steer_tensor_contiguous(steer_tensor **out, steer_tensor *tensor) {
    if (!steer_view_is_contiguous(&tensor->view)) return steer_tensor_clone(out, tensor);
    *out = steer_tensor_retain(tensor);
    return STEER_OK;
}
