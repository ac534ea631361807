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

/* The functions below are what the exported ones do, for use inside the library: they take checked handles and leave
 * the name of the running operation alone. Out-parameters are written on success only. */

/* A contiguous, uninitialised tensor. */
int steer_tensor_make(steer_tensor **out, steer_device *device, steer_dtype dtype, int32_t ndim,
                      const int64_t *shape);

/* A tensor over foreign memory; `release(owner)` is called once, when the last view goes or if this fails. */
int steer_tensor_adopt(steer_tensor **out, steer_device *device, steer_dtype dtype, int32_t ndim,
                       const int64_t *shape, const int64_t *strides, void *data, void (*release)(void *),
                       void *owner);

/* A contiguous tensor of the same elements, retained: `tensor` itself if it is one already. */
int steer_tensor_contiguous(steer_tensor **out, steer_tensor *tensor);
/* A contiguous copy with its own storage on the same device. */
int steer_tensor_clone(steer_tensor **out, steer_tensor *tensor);
/* dst = src, as steer_tensor_copy. */
int steer_tensor_assign(steer_tensor *dst, steer_tensor *src);

/* "[2048, 4096]" in `buffer`, for messages. */
const char *steer_shape_text(char *buffer, size_t size, int32_t ndim, const int64_t *shape);

/* Views and shapes (tensor.c, view.c). `name` names the argument in messages. */
int steer_tensor_view(steer_tensor **out, steer_tensor *tensor, const steer_view *view);
int64_t steer_view_numel(const steer_view *view);
/* INVALID_ARGUMENT unless dimension `dim` has such an index. */
int steer_view_check_index(const steer_view *view, int32_t dim, int64_t index);
int steer_view_is_contiguous(const steer_view *view);
void steer_view_set_contiguous(steer_view *view, int32_t ndim, const int64_t *shape);
/* The same elements in another shape of as many elements; 0 if the strides do not allow it. */
int steer_view_reshape(steer_view *out, const steer_view *in, int32_t ndim, const int64_t *shape);
/* `in` repeated to a shape, or SHAPE_MISMATCH. */
int steer_view_broadcast(steer_view *out, const steer_view *in, int32_t ndim, const int64_t *shape,
                         const char *name);
int steer_view_same(const steer_view *a, const steer_view *b);    /* element for element at one place */
int steer_view_overlap(const steer_view *a, const steer_view *b); /* may share memory; both on one device */
/* INVALID_ARGUMENT if two elements of `view` may share memory. */
int steer_view_check_writable(const steer_view *view, const char *name);
/* Elements of a shape; INVALID_ARGUMENT if it is none, or too large for memory. */
int steer_shape_check(int64_t *numel, steer_dtype dtype, int32_t ndim, const int64_t *shape);

#endif
