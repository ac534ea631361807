/* dlpack.c: tensors to and from other libraries through DLPack. */
#include "tensor/dlpack.h"
#include "backend/device.h"
#include "tensor/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const dl_dtype dtypes[STEER_DTYPE_COUNT] = {
    [STEER_F32] = {DL_FLOAT, 32, 1}, [STEER_F16] = {DL_FLOAT, 16, 1}, [STEER_BF16] = {DL_BFLOAT, 16, 1},
    [STEER_I32] = {DL_INT, 32, 1},   [STEER_I64] = {DL_INT, 64, 1},   [STEER_U8] = {DL_UINT, 8, 1},
};

static int import_dtype(steer_dtype *out, dl_dtype from) {
    for (int32_t i = 0; i < STEER_DTYPE_COUNT; i++)
        if (dtypes[i].code == from.code && dtypes[i].bits == from.bits && dtypes[i].lanes == from.lanes) {
            *out = (steer_dtype)i;
            return STEER_OK;
        }
    return STEER_FAIL(
        STEER_E_DTYPE_MISMATCH,
        "managed: type code %u with %u bits and %u lanes, expected f32, f16, bf16, i32, i64 or u8", from.code,
        from.bits, from.lanes);
}

static int import_device(steer_device **out, dl_device from) {
    char id[16] = "cpu";
    if (from.type != DL_CPU && from.type != DL_CUDA)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "managed: device type %d, expected 1 (CPU) or 2 (CUDA)",
                          from.type);
    if (from.type == DL_CUDA && (from.id < 0 || from.id > 9999))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "managed: device %d, expected 0 or more", from.id);
    if (from.type == DL_CUDA) snprintf(id, sizeof id, "cuda:%d", from.id);
    return steer_device_find(out, id);
}

static void delete_import(void *owner) {
    dl_managed *managed = owner;
    if (managed->deleter) managed->deleter(managed);
}

int steer_tensor_import(steer_tensor **out, dl_managed *managed) {
    const dl_tensor *from = &managed->tensor;
    steer_dtype dtype;
    steer_device *device;
    steer_tensor *tensor;
    STEER_TRY(import_dtype(&dtype, from->dtype));
    STEER_TRY(import_device(&device, from->device));
    void *data = from->data ? (char *)from->data + from->byte_offset : NULL;
    STEER_TRY(
        steer_tensor_adopt(&tensor, device, dtype, from->ndim, from->shape, from->strides, data, NULL, NULL));
    tensor->storage->release = delete_import; /* from here on the deleter is ours to call */
    tensor->storage->owner = managed;
    *out = tensor;
    return STEER_OK;
}

typedef struct exported {
    dl_managed managed; /* first: the deleter is given its address */
    int64_t shape[STEER_MAX_DIMS];
    int64_t strides[STEER_MAX_DIMS];
} exported;

static void delete_export(dl_managed *self) {
    steer_tensor_release(self->context);
    free(self);
}

int steer_tensor_export(dl_managed **out, steer_tensor *tensor) {
    const steer_view *view = &tensor->view;
    const steer_device *device = steer_tensor_on(tensor);
    exported *result = calloc(1, sizeof *result);
    if (!result)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "DLPack tensor: %zu bytes of host memory", sizeof *result);
    memcpy(result->shape, view->shape, sizeof result->shape);
    memcpy(result->strides, view->stride, sizeof result->strides);
    const char *index = strchr(device->id, ':');
    result->managed.tensor = (dl_tensor){
        .data = view->data,
        .device = {steer_device_is_cpu(device) ? DL_CPU : DL_CUDA, index ? atoi(index + 1) : 0},
        .ndim = view->ndim,
        .dtype = dtypes[view->dtype],
        .shape = result->shape,
        .strides = result->strides,
    };
    result->managed.context = steer_tensor_retain(tensor);
    result->managed.deleter = delete_export;
    *out = &result->managed;
    return STEER_OK;
}
