/* view.c: shapes and strides. */
#include "tensor/tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *steer_shape_text(char *buffer, size_t size, int32_t ndim, const int64_t *shape) {
    size_t used = 0;
    for (int32_t d = 0; d < ndim && used < size; d++) {
        int n = snprintf(buffer + used, size - used, "%s%" PRId64, d ? ", " : "[", shape[d]);
        used += n > 0 ? (size_t)n : 0;
    }
    if (used < size) snprintf(buffer + used, size - used, "%s", ndim > 0 ? "]" : "[]");
    return buffer;
}

int steer_shape_check(int64_t *numel, steer_dtype dtype, int32_t ndim, const int64_t *shape) {
    char text[128];
    int64_t bytes = (int64_t)steer_dtype_size(dtype), total = 1;
    if (ndim < 0 || ndim > STEER_MAX_DIMS)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "ndim: %d, expected 0 to %d", ndim, STEER_MAX_DIMS);
    if (ndim > 0) STEER_REQUIRE(shape);
    for (int32_t d = 0; d < ndim; d++) {
        if (shape[d] < 0)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "shape: dimension " STEER_INDEX " is %" PRId64 ", expected 0 or more", d,
                              shape[d]);
        /* The other dimensions of an empty tensor must be addressable too: strides are made of them. */
        if (__builtin_mul_overflow(bytes, shape[d] ? shape[d] : 1, &bytes))
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "shape: %s of %s is more than can be addressed",
                              steer_shape_text(text, sizeof text, ndim, shape), steer_dtype_name(dtype));
        total *= shape[d];
    }
    *numel = total;
    return STEER_OK;
}

int steer_view_check_index(const steer_view *view, int32_t dim, int64_t index) {
    const long long size = view->shape[dim];
    if (index >= 0 && index < size) return STEER_OK;
    if (size == 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "index: " STEER_INDEX64 " is out of range, dimension " STEER_INDEX
                          " has no elements",
                          (long long)index, dim);
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                      "index: " STEER_INDEX64 " is out of range, expected " STEER_INDEX64 " to " STEER_INDEX64
                      " for dimension " STEER_INDEX,
                      (long long)index, 0LL, size - 1, dim);
}

int64_t steer_view_numel(const steer_view *view) {
    int64_t numel = 1;
    for (int32_t d = 0; d < view->ndim; d++) numel *= view->shape[d];
    return numel;
}

int steer_view_is_contiguous(const steer_view *view) {
    int64_t expected = 1;
    if (steer_view_numel(view) == 0) return 1;
    for (int32_t d = view->ndim - 1; d >= 0; d--) {
        if (view->shape[d] != 1 && view->stride[d] != expected) return 0;
        expected *= view->shape[d];
    }
    return 1;
}

void steer_view_set_contiguous(steer_view *view, int32_t ndim, const int64_t *shape) {
    int64_t stride = 1;
    view->ndim = ndim;
    for (int32_t d = ndim - 1; d >= 0; d--) {
        view->shape[d] = shape[d];
        view->stride[d] = stride;
        stride *= shape[d] ? shape[d] : 1;
    }
}

/* Walks both shapes from the last dimension. A run of old dimensions that lie together in memory must be made up of
 * whole new dimensions. */
int steer_view_reshape(steer_view *out, const steer_view *in, int32_t ndim, const int64_t *shape) {
    steer_view result = {.data = in->data, .dtype = in->dtype};
    steer_view_set_contiguous(&result, ndim, shape);
    if (in->ndim == 0 || steer_view_is_contiguous(in)) {
        *out = result;
        return 1;
    }
    int64_t old_run = 1, new_run = 1, step = in->stride[in->ndim - 1];
    int32_t next = ndim - 1;
    for (int32_t d = in->ndim - 1; d >= 0; d--) {
        old_run *= in->shape[d];
        if (d > 0 && (in->shape[d - 1] == 1 || in->stride[d - 1] == old_run * step)) continue;
        for (; next >= 0 && (new_run < old_run || shape[next] == 1); next--) {
            result.stride[next] = new_run * step;
            new_run *= shape[next];
        }
        if (new_run != old_run) return 0;
        if (d > 0) step = in->stride[d - 1];
        old_run = new_run = 1;
    }
    *out = result;
    return 1;
}

int steer_view_broadcast(steer_view *out, const steer_view *in, int32_t ndim, const int64_t *shape,
                         const char *name) {
    steer_view result = {.data = in->data, .dtype = in->dtype, .ndim = ndim};
    int32_t added = ndim - in->ndim;
    int fits = added >= 0;
    for (int32_t d = 0; fits && d < ndim; d++) {
        int64_t size = d < added ? 1 : in->shape[d - added];
        result.shape[d] = shape[d];
        result.stride[d] = size == 1 ? 0 : in->stride[d - added];
        fits = size == 1 || size == shape[d];
    }
    if (!fits) {
        char from[128], to[128];
        return STEER_FAIL(STEER_E_SHAPE_MISMATCH, "%s: shape %s does not broadcast to %s", name,
                          steer_shape_text(from, sizeof from, in->ndim, in->shape),
                          steer_shape_text(to, sizeof to, ndim, shape));
    }
    *out = result;
    return STEER_OK;
}

int steer_view_same(const steer_view *a, const steer_view *b) {
    if (a->data != b->data || a->dtype != b->dtype || a->ndim != b->ndim) return 0;
    for (int32_t d = 0; d < a->ndim; d++)
        if (a->shape[d] != b->shape[d] || (a->shape[d] != 1 && a->stride[d] != b->stride[d])) return 0;
    return 1;
}

/* Bytes from the first element to behind the last. */
static uintptr_t extent(const steer_view *view) {
    int64_t last = 0;
    if (steer_view_numel(view) == 0) return 0;
    for (int32_t d = 0; d < view->ndim; d++) last += (view->shape[d] - 1) * view->stride[d];
    return (uintptr_t)(last + 1) * steer_dtype_size(view->dtype);
}

int steer_view_overlap(const steer_view *a, const steer_view *b) {
    uintptr_t from_a = (uintptr_t)a->data, from_b = (uintptr_t)b->data;
    return from_a < from_b + extent(b) && from_b < from_a + extent(a);
}

int steer_view_check_writable(const steer_view *view, const char *name) {
    if (steer_view_is_contiguous(view)) return STEER_OK;
    int64_t reach = 0; /* furthest element that the dimensions of smaller strides reach */
    int done[STEER_MAX_DIMS] = {0};
    for (int32_t count = 0; count < view->ndim; count++) {
        int32_t least = -1;
        for (int32_t d = 0; d < view->ndim; d++)
            if (!done[d] && (least < 0 || view->stride[d] < view->stride[least])) least = d;
        done[least] = 1;
        if (view->shape[least] == 1) continue;
        if (view->stride[least] <= reach)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "%s: its strides let elements share memory (dimension " STEER_INDEX
                              " has stride %" PRId64 "), so it cannot be written",
                              name, least, view->stride[least]);
        reach += (view->shape[least] - 1) * view->stride[least];
    }
    return STEER_OK;
}
