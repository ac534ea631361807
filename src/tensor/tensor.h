/* tensor.h: the tensor struct and what the rest of the library may do with one. */
#ifndef STEER_TENSOR_H
#define STEER_TENSOR_H

#include "backend/backend.h"
#include "core/refs.h"
#include "core/status.h"

/* A block of memory that tensors view. */
typedef struct steer_storage {
    steer_refs refs;
    steer_device *device; /* retained */
    void *data;
    size_t bytes;                 /* 0 for foreign memory */
    void (*release)(void *owner); /* foreign memory: told when the last view goes; may be NULL */
    void *owner;
} steer_storage;

struct steer_tensor {
    steer_refs refs;
    steer_storage *storage; /* retained */
    steer_view view;        /* where the elements are */
};

static inline steer_device *steer_tensor_on(const steer_tensor *tensor) { return tensor->storage->device; }

/* A tensor over foreign memory; `release(owner)` is called once, when the last view goes or if this fails. */
int steer_tensor_adopt(steer_tensor **out, steer_device *device, steer_dtype dtype, int32_t ndim,
                       const int64_t *shape, const int64_t *strides, void *data, void (*release)(void *),
                       void *owner);

/* A contiguous tensor of the same elements, retained: `tensor` itself if it is one already. */
int steer_tensor_contiguous(steer_tensor **out, steer_tensor *tensor);

/* "[2048, 4096]" in `buffer`, for messages. */
const char *steer_shape_text(char *buffer, size_t size, int32_t ndim, const int64_t *shape);

#endif
