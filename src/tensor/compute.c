/* compute.c: fill, arange, random numbers, arithmetic and matrix products: checks, then the backend. */
#include "tensor/compute.h"
#include "backend/device.h"
#include "tensor/dtype.h"

#include <inttypes.h>
#include <math.h>

int steer_compute_check_device(const steer_tensor *tensor, const char *name, const steer_tensor *dst) {
    const steer_device *here = steer_tensor_on(tensor), *there = steer_tensor_on(dst);
    if (here == there) return STEER_OK;
    return STEER_FAIL(STEER_E_DEVICE_MISMATCH, "%s: is on %s, expected %s like the result", name, here->id,
                      there->id);
}

int steer_compute_check_dtype(const steer_tensor *tensor, const char *name, const steer_tensor *dst) {
    if (tensor->view.dtype == dst->view.dtype) return STEER_OK;
    return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "%s: has dtype %s, expected %s like the result", name,
                      steer_dtype_name(tensor->view.dtype), steer_dtype_name(dst->view.dtype));
}

int steer_compute_check_float(const steer_tensor *tensor, const char *name) {
    if (steer_dtype_is_float(tensor->view.dtype)) return STEER_OK;
    return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "%s: has dtype %s, expected f32, f16 or bf16", name,
                      steer_dtype_name(tensor->view.dtype));
}

int steer_compute_check_shape(const steer_tensor *dst, const char *name, int32_t ndim, const int64_t *shape) {
    char text[128], expected[128];
    int same = dst->view.ndim == ndim;
    for (int32_t d = 0; same && d < ndim; d++) same = dst->view.shape[d] == shape[d];
    if (same) return STEER_OK;
    return STEER_FAIL(STEER_E_SHAPE_MISMATCH, "%s: has shape %s, expected %s", name,
                      steer_shape_text(text, sizeof text, dst->view.ndim, dst->view.shape),
                      steer_shape_text(expected, sizeof expected, ndim, shape));
}

int steer_compute_result(steer_tensor **out, steer_tensor *dst) {
    if (!steer_view_is_contiguous(&dst->view))
        return steer_tensor_make(out, steer_tensor_on(dst), dst->view.dtype, dst->view.ndim, dst->view.shape);
    *out = steer_tensor_retain(dst);
    return STEER_OK;
}

int steer_compute_fill(steer_tensor *dst, double value) {
    steer_device *device = steer_tensor_on(dst);
    STEER_TRY(steer_view_check_writable(&dst->view, "dst"));
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    return device->backend->fill(device->state, &dst->view, value);
}

int steer_compute_arange(steer_tensor *dst, double start, double step) {
    steer_device *device = steer_tensor_on(dst);
    if (dst->view.ndim != 1)
        return STEER_FAIL(STEER_E_SHAPE_MISMATCH, "dst: has %d dimensions, expected 1", dst->view.ndim);
    STEER_TRY(steer_view_check_writable(&dst->view, "dst"));
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    return device->backend->arange(device->state, &dst->view, start, step);
}

int steer_compute_random(steer_tensor *dst, steer_random kind, uint64_t seed) {
    steer_device *device = steer_tensor_on(dst);
    STEER_TRY(steer_compute_check_float(dst, "dst"));
    STEER_TRY(steer_view_check_writable(&dst->view, "dst"));
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    return device->backend->random(device->state, &dst->view, kind, seed);
}

/* ---- Elementwise ---------------------------------------------------------------------------------------------- */

/* An operand on its way to a backend: broadcast to dst's shape, and kept apart from dst where they overlap. */
typedef struct taken {
    steer_tensor *tensor; /* retained */
    steer_view view;
} taken;

static void release_operands(taken *list, int count) {
    for (int i = 0; i < count; i++) steer_tensor_release(list[i].tensor);
}

/* Readies the operands of an operation, after their checks. They are to be released, also when this fails. */
static int take_operands(taken *list, int count, const steer_tensor *dst, steer_tensor *const *tensors) {
    for (int i = 0; i < count; i++) {
        STEER_TRY(steer_compute_detach(&list[i].tensor, dst, tensors[i], 1));
        STEER_TRY(
            steer_view_broadcast(&list[i].view, &list[i].tensor->view, dst->view.ndim, dst->view.shape, "a"));
    }
    return STEER_OK;
}

static int check_operand(const steer_tensor *operand, const char *name, const steer_tensor *dst) {
    steer_view ignored;
    STEER_TRY(steer_compute_check_device(operand, name, dst));
    return steer_view_broadcast(&ignored, &operand->view, dst->view.ndim, dst->view.shape, name);
}

static int check_u8(const steer_tensor *tensor, const char *name, const char *why) {
    if (tensor->view.dtype == STEER_U8) return STEER_OK;
    return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "%s: has dtype %s, expected u8, %s", name,
                      steer_dtype_name(tensor->view.dtype), why);
}

/* An integer tensor computes with integers only: anything else would be rounded unseen. */
static int check_whole(const steer_tensor *a, const char *name, double value) {
    if (steer_dtype_is_float(a->view.dtype)) return STEER_OK;
    if (value == trunc(value) && value >= -0x1p63 && value < 0x1p63) return STEER_OK;
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                      "%s: is %.17g, expected an integer of 64 bits for a tensor of %s", name, value,
                      steer_dtype_name(a->view.dtype));
}

/* dst and a of a (op) b or of a (op) value. */
static int check_left(const steer_tensor *dst, const steer_tensor *a, steer_binary op) {
    STEER_TRY(check_operand(a, "a", dst));
    if (op == STEER_POW) STEER_TRY(steer_compute_check_float(a, "a"));
    STEER_TRY(steer_binary_compares(op) ? check_u8(dst, "dst", "the dtype of comparisons")
                                        : steer_compute_check_dtype(a, "a", dst));
    return steer_view_check_writable(&dst->view, "dst");
}

int steer_compute_unary(steer_tensor *dst, steer_tensor *a, steer_unary op) {
    steer_device *device = steer_tensor_on(dst);
    taken x = {NULL};
    STEER_TRY(check_operand(a, "a", dst));
    STEER_TRY(steer_compute_check_dtype(a, "a", dst));
    if (op != STEER_ABS) STEER_TRY(steer_compute_check_float(a, "a"));
    STEER_TRY(steer_view_check_writable(&dst->view, "dst"));
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    int status = take_operands(&x, 1, dst, &a);
    if (status == STEER_OK) status = device->backend->unary(device->state, &dst->view, &x.view, op);
    release_operands(&x, 1);
    return status;
}

int steer_compute_binary(steer_tensor *dst, steer_tensor *a, steer_tensor *b, steer_binary op, double alpha) {
    steer_device *device = steer_tensor_on(dst);
    taken both[2] = {{NULL}};
    STEER_TRY(check_left(dst, a, op));
    STEER_TRY(check_operand(b, "b", dst));
    if (b->view.dtype != a->view.dtype)
        return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "b: has dtype %s, expected %s like a",
                          steer_dtype_name(b->view.dtype), steer_dtype_name(a->view.dtype));
    STEER_TRY(check_whole(a, "alpha", alpha));
    if (alpha != 1.0 &&
        (!steer_binary_scales(op) || (op == STEER_DIV && !steer_dtype_is_float(a->view.dtype))))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "alpha: is %.17g, expected 1 %s", alpha,
                          op == STEER_DIV ? "when integers are divided"
                                          : "unless something is added or multiplied");
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    steer_tensor *const tensors[] = {a, b};
    int status = take_operands(both, 2, dst, tensors);
    if (status == STEER_OK)
        status = device->backend->binary(device->state, &dst->view, &both[0].view, &both[1].view, op, alpha);
    release_operands(both, 2);
    return status;
}

int steer_compute_scalar(steer_tensor *dst, steer_tensor *a, steer_binary op, double value) {
    steer_device *device = steer_tensor_on(dst);
    taken x = {NULL};
    STEER_TRY(check_left(dst, a, op));
    STEER_TRY(check_whole(a, "value", value));
    if (op == STEER_DIV && value == 0.0 && !steer_dtype_is_float(dst->view.dtype))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "value: is 0, and integers cannot be divided by it");
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    int status = take_operands(&x, 1, dst, &a);
    if (status == STEER_OK) status = device->backend->scalar(device->state, &dst->view, &x.view, op, value);
    release_operands(&x, 1);
    return status;
}

int steer_compute_where(steer_tensor *dst, steer_tensor *mask, steer_tensor *a, steer_tensor *b) {
    steer_device *device = steer_tensor_on(dst);
    taken all[3] = {{NULL}};
    STEER_TRY(check_operand(mask, "mask", dst));
    STEER_TRY(check_u8(mask, "mask", "as comparisons give it"));
    STEER_TRY(check_operand(a, "a", dst));
    STEER_TRY(steer_compute_check_dtype(a, "a", dst));
    STEER_TRY(check_operand(b, "b", dst));
    STEER_TRY(steer_compute_check_dtype(b, "b", dst));
    STEER_TRY(steer_view_check_writable(&dst->view, "dst"));
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    steer_tensor *const tensors[] = {mask, a, b};
    int status = take_operands(all, 3, dst, tensors);
    if (status == STEER_OK)
        status = device->backend->where(device->state, &dst->view, &all[0].view, &all[1].view, &all[2].view);
    release_operands(all, 3);
    return status;
}

/* ---- Matrix products ------------------------------------------------------------------------------------------ */

/* A vector is a row on the left and a column on the right; a matrix is a batch of one. */
static void as_batch(steer_view *out, const steer_view *in, int left) {
    *out = *in;
    out->ndim = 3;
    int32_t added = 3 - in->ndim;
    for (int32_t d = 0; d < 3; d++) {
        int32_t from = d - added;
        if (in->ndim == 1) from = d == (left ? 2 : 1) ? 0 : -1;
        out->shape[d] = from < 0 ? 1 : in->shape[from];
        out->stride[d] = from < 0 ? 0 : in->stride[from];
    }
}

/* Gives a matrix one stride of 1 and the other large enough for BLAS; 0 if it has no such strides. A dimension of one
 * element takes any stride. */
static int settle_strides(steer_view *view) {
    int64_t rows = view->shape[1], columns = view->shape[2], row = view->stride[1], column = view->stride[2];
    if ((columns == 1 || column == 1) && (rows == 1 || row >= columns)) {
        view->stride[2] = 1;
        view->stride[1] = rows == 1 ? columns : row;
        return 1;
    }
    if ((rows == 1 || row == 1) && (columns == 1 || column >= rows)) {
        view->stride[1] = 1;
        view->stride[2] = columns == 1 ? rows : column;
        return 1;
    }
    return 0;
}

/* An operand as [batch, rows, columns] that a backend takes; *out is to be released. */
static int matrix_operand(steer_tensor **out, steer_view *view, const steer_tensor *dst,
                          steer_tensor *operand, int left) {
    STEER_TRY(steer_compute_detach(out, dst, operand, 0));
    as_batch(view, &(*out)->view, left);
    if (settle_strides(view)) return STEER_OK;
    steer_tensor *copy;
    int status = steer_tensor_clone(&copy, *out);
    steer_tensor_release(*out);
    *out = NULL;
    if (status != STEER_OK) return status;
    *out = copy;
    as_batch(view, &copy->view, left);
    settle_strides(view);
    return STEER_OK;
}

/* Writes the shape of a @ b to shape[0 .. *ndim). */
static int product_shape(int32_t *ndim, int64_t *shape, const steer_view *a, const steer_view *b) {
    char left[128], right[128];
    int batched = a->ndim == 3 && b->ndim == 3;
    int ranks = batched || (a->ndim >= 1 && a->ndim <= 2 && b->ndim >= 1 && b->ndim <= 2);
    if (!ranks || (batched && a->shape[0] != b->shape[0]) ||
        a->shape[a->ndim - 1] != b->shape[b->ndim == 1 ? 0 : b->ndim - 2])
        return STEER_FAIL(
            STEER_E_SHAPE_MISMATCH,
            "b: shape %s does not multiply with %s, expected [m,k]@[k,n], [k]@[k,n], [m,k]@[k], "
            "[k]@[k] or [b,m,k]@[b,k,n]",
            steer_shape_text(right, sizeof right, b->ndim, b->shape),
            steer_shape_text(left, sizeof left, a->ndim, a->shape));
    *ndim = 0;
    if (batched) shape[(*ndim)++] = a->shape[0];
    if (a->ndim > 1) shape[(*ndim)++] = a->shape[a->ndim - 2];
    if (b->ndim > 1) shape[(*ndim)++] = b->shape[b->ndim - 1];
    return STEER_OK;
}

static int check_product(const steer_tensor *dst, const steer_tensor *a, const steer_tensor *b) {
    int32_t ndim;
    int64_t shape[3];
    STEER_TRY(steer_compute_check_device(a, "a", dst));
    STEER_TRY(steer_compute_check_device(b, "b", dst));
    STEER_TRY(steer_compute_check_float(dst, "dst"));
    STEER_TRY(steer_compute_check_dtype(a, "a", dst));
    STEER_TRY(steer_compute_check_dtype(b, "b", dst));
    STEER_TRY(product_shape(&ndim, shape, &a->view, &b->view));
    STEER_TRY(steer_compute_check_shape(dst, "dst", ndim, shape));
    return steer_view_check_writable(&dst->view, "dst");
}

int steer_compute_matmul(steer_tensor *dst, steer_tensor *a, steer_tensor *b) {
    steer_device *device = steer_tensor_on(dst);
    STEER_TRY(check_product(dst, a, b));
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    if (a->view.shape[a->view.ndim - 1] == 0) return steer_compute_fill(dst, 0.0);
    steer_tensor *left = NULL, *right = NULL, *result = NULL;
    steer_view x, y, z;
    int status = matrix_operand(&left, &x, dst, a, 1);
    if (status == STEER_OK) status = matrix_operand(&right, &y, dst, b, 0);
    if (status == STEER_OK) status = steer_compute_result(&result, dst);
    if (status == STEER_OK) {
        const int64_t shape[3] = {x.shape[0], x.shape[1], y.shape[2]};
        z = result->view;
        steer_view_set_contiguous(&z, 3, shape);
        status = device->backend->matmul(device->state, &z, &x, &y);
    }
    if (status == STEER_OK && result != dst) status = steer_tensor_assign(dst, result);
    steer_tensor_release(left);
    steer_tensor_release(right);
    steer_tensor_release(result);
    return status;
}
