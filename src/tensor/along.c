/* along.c: reductions, cumulative sums, normalize, softmax, sorting and gathering along a dimension: every tensor becomes
 * [outer, n, inner]. */
#include "backend/device.h"
#include "tensor/compute.h"
#include "tensor/dtype.h"

#include <inttypes.h>
#include <string.h>

/* [outer, n, inner] around `dim` of a view; dim -1 is everything. */
static void split_shape(int64_t shape[3], const steer_view *view, int32_t dim) {
    shape[0] = shape[1] = shape[2] = 1;
    for (int32_t d = 0; d < view->ndim; d++)
        shape[dim < 0 || d == dim ? 1 : d < dim ? 0 : 2] *= view->shape[d];
}

static int check_dim(const steer_view *view, int32_t dim) {
    if (dim >= -1 && dim < view->ndim) return STEER_OK;
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "dim: %d is out of range for a tensor of %d dimensions", dim,
                      view->ndim);
}

/* `tensor` itself or a contiguous copy, retained, with its view of that shape. */
static int reshaped(steer_tensor **out, steer_view *view, steer_tensor *tensor, int32_t ndim,
                    const int64_t *shape) {
    if (steer_view_reshape(view, &tensor->view, ndim, shape)) {
        *out = steer_tensor_retain(tensor);
        return STEER_OK;
    }
    STEER_TRY(steer_tensor_clone(out, tensor));
    steer_view_reshape(view, &(*out)->view, ndim, shape);
    return STEER_OK;
}

/* Where to write a result of that shape: dst if it can be seen so, else a new tensor to be copied to dst. */
static int result_view(steer_tensor **out, steer_view *view, steer_tensor *dst, int32_t ndim,
                       const int64_t *shape) {
    if (steer_view_reshape(view, &dst->view, ndim, shape)) {
        *out = steer_tensor_retain(dst);
        return STEER_OK;
    }
    STEER_TRY(steer_tensor_make(out, steer_tensor_on(dst), dst->view.dtype, dst->view.ndim, dst->view.shape));
    steer_view_reshape(view, &(*out)->view, ndim, shape);
    return STEER_OK;
}

static int check_reduce(const steer_tensor *dst, const steer_tensor *src, steer_reduce op, int32_t dim) {
    int64_t shape[STEER_MAX_DIMS];
    int32_t ndim = 0;
    steer_dtype to = dst->view.dtype;
    STEER_TRY(steer_compute_check_device(src, "src", dst));
    STEER_TRY(check_dim(&src->view, dim));
    int finds = op == STEER_ARGMAX || op == STEER_ARGMIN;
    if (finds && to != STEER_I64)
        return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "dst: has dtype %s, expected i64 for an index",
                          steer_dtype_name(to));
    if (!finds && to != src->view.dtype && to != STEER_F32)
        return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "dst: has dtype %s, expected %s like src, or f32",
                          steer_dtype_name(to), steer_dtype_name(src->view.dtype));
    for (int32_t d = 0; dim >= 0 && d < src->view.ndim; d++)
        if (d != dim) shape[ndim++] = src->view.shape[d];
    STEER_TRY(steer_compute_check_shape(dst, "dst", ndim, shape));
    return steer_view_check_writable(&dst->view, "dst");
}

int steer_compute_reduce(steer_tensor *dst, steer_tensor *src, steer_reduce op, int32_t dim) {
    steer_device *device = steer_tensor_on(dst);
    int64_t shape[3];
    STEER_TRY(check_reduce(dst, src, op, dim));
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    split_shape(shape, &src->view, dim);
    if (shape[1] == 0 && op != STEER_SUM && op != STEER_NORM)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "src: has no elements to take the %s of",
                          op == STEER_MEAN                        ? "mean"
                          : op == STEER_MAX || op == STEER_ARGMAX ? "maximum"
                          : op == STEER_MIN || op == STEER_ARGMIN ? "minimum"
                                                                  : "variance");
    if (shape[1] == 0) return steer_compute_fill(dst, 0.0);
    const int64_t kept[2] = {shape[0], shape[2]};
    steer_tensor *apart = NULL, *from = NULL, *to = NULL;
    steer_view in, out;
    int status = steer_compute_detach(&apart, dst, src, 0);
    if (status == STEER_OK) status = reshaped(&from, &in, apart, 3, shape);
    if (status == STEER_OK) status = result_view(&to, &out, dst, 2, kept);
    if (status == STEER_OK) status = device->backend->reduce(device->state, &out, &in, op);
    if (status == STEER_OK && to != dst) status = steer_tensor_assign(dst, to);
    steer_tensor_release(apart);
    steer_tensor_release(from);
    steer_tensor_release(to);
    return status;
}

int steer_compute_along(steer_tensor *dst, steer_tensor *src, steer_along op, int32_t dim) {
    steer_device *device = steer_tensor_on(dst);
    const steer_backend *backend = device->backend;
    int64_t shape[3];
    STEER_TRY(steer_compute_check_device(src, "src", dst));
    if (op != STEER_CUMSUM) STEER_TRY(steer_compute_check_float(dst, "dst"));
    STEER_TRY(steer_compute_check_dtype(src, "src", dst));
    STEER_TRY(check_dim(&src->view, dim));
    STEER_TRY(steer_compute_check_shape(dst, "dst", src->view.ndim, src->view.shape));
    STEER_TRY(steer_view_check_writable(&dst->view, "dst"));
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    split_shape(shape, &src->view, dim);
    steer_tensor *apart = NULL, *from = NULL, *to = NULL;
    steer_view in, out;
    int status = steer_compute_detach(&apart, dst, src, 1);
    if (status == STEER_OK) status = reshaped(&from, &in, apart, 3, shape);
    if (status == STEER_OK) status = result_view(&to, &out, dst, 3, shape);
    if (status == STEER_OK)
        status = (op == STEER_NORMALIZE ? backend->normalize
                  : op == STEER_SOFTMAX ? backend->softmax
                                        : backend->cumsum)(device->state, &out, &in);
    if (status == STEER_OK && to != dst) status = steer_tensor_assign(dst, to);
    steer_tensor_release(apart);
    steer_tensor_release(from);
    steer_tensor_release(to);
    return status;
}

/* ---- Sorting --------------------------------------------------------------------------------------------------- */

/* A view with `dim` exchanged with the last dimension. */
static int turned(steer_tensor **out, steer_tensor *tensor, int32_t dim) {
    steer_view view = tensor->view;
    int32_t last = view.ndim - 1;
    view.shape[dim] = tensor->view.shape[last];
    view.stride[dim] = tensor->view.stride[last];
    view.shape[last] = tensor->view.shape[dim];
    view.stride[last] = tensor->view.stride[dim];
    return steer_tensor_view(out, tensor, &view);
}

/* Where a backend writes a sorted result: turned, contiguous, to be copied to *back afterwards. */
static int turned_result(steer_tensor **out, steer_tensor **back, steer_tensor *tensor, int32_t dim) {
    STEER_TRY(turned(back, tensor, dim));
    return steer_compute_result(out, *back);
}

static steer_view as_rows(const steer_tensor *tensor, int64_t rows, int64_t n) {
    steer_view view = tensor->view;
    const int64_t shape[2] = {rows, n};
    steer_view_set_contiguous(&view, 2, shape);
    return view;
}

static int check_sort(const steer_tensor *values, const steer_tensor *indices, const steer_tensor *src) {
    STEER_TRY(steer_compute_check_device(src, "src", values));
    STEER_TRY(steer_compute_check_device(indices, "indices", values));
    STEER_TRY(steer_compute_check_dtype(src, "src", values));
    if (indices->view.dtype != STEER_I64)
        return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "indices: has dtype %s, expected i64",
                          steer_dtype_name(indices->view.dtype));
    STEER_TRY(steer_compute_check_shape(values, "values", src->view.ndim, src->view.shape));
    STEER_TRY(steer_compute_check_shape(indices, "indices", src->view.ndim, src->view.shape));
    STEER_TRY(steer_view_check_writable(&values->view, "values"));
    STEER_TRY(steer_view_check_writable(&indices->view, "indices"));
    if (steer_view_overlap(&values->view, &indices->view))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "indices: shares memory with values, expected its own");
    return STEER_OK;
}

int steer_compute_sort(steer_tensor *values, steer_tensor *indices, steer_tensor *src, int32_t dim,
                       int32_t descending) {
    steer_device *device = steer_tensor_on(values);
    enum { APART, FROM, TURNED, SORTED, PLACES, VALUES, INDICES, COUNT };
    steer_tensor *t[COUNT] = {NULL};
    STEER_TRY(check_sort(values, indices, src));
    if (steer_view_numel(&src->view) == 0) return STEER_OK;
    int64_t n = src->view.shape[dim], rows = steer_view_numel(&src->view) / n;
    int status = steer_compute_detach(&t[APART], values, src, 0);
    if (status == STEER_OK && steer_view_overlap(&indices->view, &t[APART]->view)) {
        steer_tensor_release(t[APART]);
        t[APART] = NULL;
        status = steer_tensor_clone(&t[APART], src);
    }
    if (status == STEER_OK) status = turned(&t[TURNED], t[APART], dim);
    if (status == STEER_OK) status = steer_tensor_contiguous(&t[FROM], t[TURNED]);
    if (status == STEER_OK) status = turned_result(&t[SORTED], &t[VALUES], values, dim);
    if (status == STEER_OK) status = turned_result(&t[PLACES], &t[INDICES], indices, dim);
    if (status == STEER_OK) {
        steer_view to = as_rows(t[SORTED], rows, n), places = as_rows(t[PLACES], rows, n),
                   from = as_rows(t[FROM], rows, n);
        status = device->backend->sort(device->state, &to, &places, &from, descending);
    }
    if (status == STEER_OK && t[SORTED] != t[VALUES]) status = steer_tensor_assign(t[VALUES], t[SORTED]);
    if (status == STEER_OK && t[PLACES] != t[INDICES]) status = steer_tensor_assign(t[INDICES], t[PLACES]);
    for (int k = 0; k < COUNT; k++) steer_tensor_release(t[k]);
    return status;
}

/* ---- Gathering ------------------------------------------------------------------------------------------------- */

/* The least (op MIN) or greatest index of a tensor that has some. */
static int extreme(double *out, steer_tensor *index, steer_reduce op) {
    steer_tensor *result;
    STEER_TRY(steer_tensor_make(&result, steer_tensor_on(index), index->view.dtype, 0, NULL));
    int status = steer_compute_reduce(result, index, op, -1);
    if (status == STEER_OK) status = steer_compute_get(out, result, NULL);
    steer_tensor_release(result);
    return status;
}

static int check_indices(steer_tensor *index, int64_t n, int64_t base) {
    double least = 0, most = 0;
    if (steer_view_numel(&index->view) == 0) return STEER_OK;
    STEER_TRY(extreme(&least, index, STEER_MIN));
    STEER_TRY(extreme(&most, index, STEER_MAX));
    if (least >= (double)base && most < (double)(base + n)) return STEER_OK;
    double wrong = least < (double)base ? least : most;
    if (n == 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "index: has %.0f, but src has no elements along dim",
                          wrong);
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                      "index: has %.0f, expected %" PRId64 " to %" PRId64 " for a dimension of size %" PRId64,
                      wrong, base, base + n - 1, n);
}

static int check_gather(const steer_tensor *dst, const steer_tensor *src, const steer_tensor *index,
                        int32_t dim) {
    int64_t shape[STEER_MAX_DIMS];
    STEER_TRY(steer_compute_check_device(src, "src", dst));
    STEER_TRY(steer_compute_check_device(index, "index", dst));
    STEER_TRY(steer_compute_check_dtype(src, "src", dst));
    if (index->view.dtype != STEER_I32 && index->view.dtype != STEER_I64)
        return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "index: has dtype %s, expected i64 or i32%s",
                          steer_dtype_name(index->view.dtype),
                          index->view.dtype == STEER_U8 ? "; where takes masks" : "");
    memcpy(shape, src->view.shape, sizeof shape);
    if (index->view.ndim == 1)
        shape[dim] = index->view.shape[0];
    else if (dim < index->view.ndim)
        shape[dim] = index->view.shape[dim];
    STEER_TRY(steer_compute_check_shape(dst, "dst", src->view.ndim, shape));
    if (index->view.ndim != 1) STEER_TRY(steer_compute_check_shape(index, "index", src->view.ndim, shape));
    return steer_view_check_writable(&dst->view, "dst");
}

int steer_compute_gather(steer_tensor *dst, steer_tensor *src, steer_tensor *index, int32_t dim,
                         int64_t base) {
    steer_device *device = steer_tensor_on(dst);
    enum { APART, LIST, FROM, WHICH, TO, COUNT };
    steer_tensor *t[COUNT] = {NULL};
    steer_view in, at, out;
    int64_t lines[3], kept[3];
    STEER_TRY(check_gather(dst, src, index, dim));
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    STEER_TRY(check_indices(index, src->view.shape[dim], base));
    split_shape(lines, &src->view, dim);
    split_shape(kept, &dst->view, dim);
    int status = steer_compute_detach(&t[APART], dst, src, 0);
    if (status == STEER_OK) status = steer_compute_detach(&t[LIST], dst, index, 0);
    if (status == STEER_OK) status = reshaped(&t[FROM], &in, t[APART], 3, lines);
    if (status == STEER_OK && index->view.ndim == 1) { /* the same for every line */
        at = (steer_view){t[LIST]->view.data, index->view.dtype, 3, {kept[0], kept[1], kept[2]}, {0}};
        at.stride[1] = t[LIST]->view.stride[0];
    } else if (status == STEER_OK) {
        status = reshaped(&t[WHICH], &at, t[LIST], 3, kept);
    }
    if (status == STEER_OK) status = result_view(&t[TO], &out, dst, 3, kept);
    if (status == STEER_OK) status = device->backend->take(device->state, &out, &in, &at, base);
    if (status == STEER_OK && t[TO] != dst) status = steer_tensor_assign(dst, t[TO]);
    for (int k = 0; k < COUNT; k++) steer_tensor_release(t[k]);
    return status;
}
