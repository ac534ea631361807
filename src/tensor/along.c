/* along.c: reductions, normalize and softmax along a dimension: every tensor becomes [outer, n, inner]. */
#include "backend/device.h"
#include "tensor/compute.h"
#include "tensor/dtype.h"

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
    if (op == STEER_ARGMAX && to != STEER_I64)
        return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "dst: has dtype %s, expected i64 for argmax",
                          steer_dtype_name(to));
    if (op != STEER_ARGMAX && to != src->view.dtype && to != STEER_F32)
        return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "dst: has dtype %s, expected %s like src, or f32",
                          steer_dtype_name(to), steer_dtype_name(src->view.dtype));
    for (int32_t d = 0; dim >= 0 && d < src->view.ndim; d++)
        if (d != dim) shape[ndim++] = src->view.shape[d];
    STEER_TRY(steer_compute_check_shape(dst, ndim, shape));
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
                          op == STEER_MEAN  ? "mean"
                          : op == STEER_MIN ? "minimum"
                                            : "maximum");
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
    int64_t shape[3];
    STEER_TRY(steer_compute_check_device(src, "src", dst));
    STEER_TRY(steer_compute_check_float(dst, "dst"));
    STEER_TRY(steer_compute_check_dtype(src, "src", dst));
    STEER_TRY(check_dim(&src->view, dim));
    STEER_TRY(steer_compute_check_shape(dst, src->view.ndim, src->view.shape));
    STEER_TRY(steer_view_check_writable(&dst->view, "dst"));
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    split_shape(shape, &src->view, dim);
    steer_tensor *apart = NULL, *from = NULL, *to = NULL;
    steer_view in, out;
    int status = steer_compute_detach(&apart, dst, src, 1);
    if (status == STEER_OK) status = reshaped(&from, &in, apart, 3, shape);
    if (status == STEER_OK) status = result_view(&to, &out, dst, 3, shape);
    if (status == STEER_OK)
        status = (op == STEER_NORMALIZE ? device->backend->normalize
                                        : device->backend->softmax)(device->state, &out, &in);
    if (status == STEER_OK && to != dst) status = steer_tensor_assign(dst, to);
    steer_tensor_release(apart);
    steer_tensor_release(from);
    steer_tensor_release(to);
    return status;
}
