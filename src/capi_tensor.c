/* capi_tensor.c: the exported functions of tensors: check handles and enums, then call. */
#include "core/status.h"
#include "tensor/compute.h"
#include "tensor/dlpack.h"
#include "tensor/dtype.h"

#include <inttypes.h>
#include <math.h>

static int check_dtype(steer_dtype dtype) {
    if (steer_dtype_is_known(dtype)) return STEER_OK;
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "dtype: %d, expected 0 to %d", (int)dtype,
                      STEER_DTYPE_COUNT - 1);
}

static int check_enum(const char *name, int value, int last) {
    if (value >= 0 && value <= last) return STEER_OK;
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: %d, expected 0 to %d", name, value, last);
}

static int check_dim(const char *name, const steer_tensor *tensor, int32_t dim) {
    if (dim >= 0 && dim < tensor->view.ndim) return STEER_OK;
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: %d is out of range for a tensor of %d dimensions", name,
                      dim, tensor->view.ndim);
}

/* ---- Making and releasing -------------------------------------------------------------------------------------- */

int steer_tensor_create(steer_tensor **out, steer_device *device, steer_dtype dtype, int32_t ndim,
                        const int64_t *shape) {
    STEER_ENTER("tensor_create");
    STEER_REQUIRE(out);
    STEER_REQUIRE(device);
    STEER_TRY(check_dtype(dtype));
    return steer_tensor_make(out, device, dtype, ndim, shape);
}

int steer_tensor_wrap(steer_tensor **out, steer_device *device, steer_dtype dtype, int32_t ndim,
                      const int64_t *shape, const int64_t *strides, void *data) {
    STEER_ENTER("tensor_wrap");
    STEER_REQUIRE(out);
    STEER_REQUIRE(device);
    STEER_TRY(check_dtype(dtype));
    return steer_tensor_adopt(out, device, dtype, ndim, shape, strides, data, NULL, NULL);
}

int steer_tensor_from_dlpack(steer_tensor **out, void *managed) {
    STEER_ENTER("tensor_from_dlpack");
    STEER_REQUIRE(out);
    STEER_REQUIRE(managed);
    return steer_tensor_import(out, managed);
}

int steer_tensor_to_dlpack(void **out, steer_tensor *tensor) {
    STEER_ENTER("tensor_to_dlpack");
    STEER_REQUIRE(out);
    STEER_REQUIRE(tensor);
    dl_managed *managed;
    STEER_TRY(steer_tensor_export(&managed, tensor));
    *out = managed;
    return STEER_OK;
}

/* ---- Accessors ------------------------------------------------------------------------------------------------- */

int32_t steer_tensor_ndim(const steer_tensor *tensor) { return tensor ? tensor->view.ndim : 0; }

int64_t steer_tensor_size(const steer_tensor *tensor, int32_t dim) {
    return tensor && dim >= 0 && dim < tensor->view.ndim ? tensor->view.shape[dim] : -1;
}

int64_t steer_tensor_stride(const steer_tensor *tensor, int32_t dim) {
    return tensor && dim >= 0 && dim < tensor->view.ndim ? tensor->view.stride[dim] : 0;
}

int64_t steer_tensor_numel(const steer_tensor *tensor) {
    return tensor ? steer_view_numel(&tensor->view) : 0;
}
steer_dtype steer_tensor_dtype(const steer_tensor *tensor) {
    return tensor ? tensor->view.dtype : STEER_DTYPE_COUNT;
}
steer_device *steer_tensor_device(const steer_tensor *tensor) {
    return tensor ? steer_tensor_on(tensor) : NULL;
}
void *steer_tensor_data(const steer_tensor *tensor) { return tensor ? tensor->view.data : NULL; }
int32_t steer_tensor_is_contiguous(const steer_tensor *tensor) {
    return tensor && steer_view_is_contiguous(&tensor->view);
}

/* ---- Views ----------------------------------------------------------------------------------------------------- */

/* Moves a view's first element by `count` along dimension `dim`. */
static void advance(steer_view *view, int32_t dim, int64_t count) {
    if (view->data)
        view->data = (char *)view->data + count * view->stride[dim] * (int64_t)steer_dtype_size(view->dtype);
}

int steer_tensor_narrow(steer_tensor **out, steer_tensor *tensor, int32_t dim, int64_t start,
                        int64_t length) {
    STEER_ENTER("tensor_narrow");
    STEER_REQUIRE(out);
    STEER_REQUIRE(tensor);
    STEER_TRY(check_dim("dim", tensor, dim));
    steer_view view = tensor->view;
    int64_t size = view.shape[dim];
    if (start < 0 || start > size)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "start: " STEER_INDEX64 " is out of range, expected " STEER_INDEX64
                          " to " STEER_INDEX64,
                          (long long)start, 0LL, (long long)size);
    if (length < 0 || length > size - start)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "length: %" PRId64 " from " STEER_INDEX64 " on, expected 0 to %" PRId64, length,
                          (long long)start, size - start);
    if (length > 0) advance(&view, dim, start);
    view.shape[dim] = length;
    return steer_tensor_view(out, tensor, &view);
}

int steer_tensor_select(steer_tensor **out, steer_tensor *tensor, int32_t dim, int64_t index) {
    STEER_ENTER("tensor_select");
    STEER_REQUIRE(out);
    STEER_REQUIRE(tensor);
    STEER_TRY(check_dim("dim", tensor, dim));
    steer_view view = tensor->view;
    STEER_TRY(steer_view_check_index(&view, dim, index));
    advance(&view, dim, index);
    view.ndim--;
    for (int32_t d = dim; d < view.ndim; d++) {
        view.shape[d] = view.shape[d + 1];
        view.stride[d] = view.stride[d + 1];
    }
    return steer_tensor_view(out, tensor, &view);
}

int steer_tensor_transpose(steer_tensor **out, steer_tensor *tensor, int32_t dim0, int32_t dim1) {
    STEER_ENTER("tensor_transpose");
    STEER_REQUIRE(out);
    STEER_REQUIRE(tensor);
    STEER_TRY(check_dim("dim0", tensor, dim0));
    STEER_TRY(check_dim("dim1", tensor, dim1));
    const steer_view *from = &tensor->view;
    steer_view view = *from;
    view.shape[dim0] = from->shape[dim1];
    view.stride[dim0] = from->stride[dim1];
    view.shape[dim1] = from->shape[dim0];
    view.stride[dim1] = from->stride[dim0];
    return steer_tensor_view(out, tensor, &view);
}

/* Copies a shape and works out its dimension of -1 from the number of elements. */
static int complete_shape(int64_t *full, const steer_view *from, int32_t ndim, const int64_t *shape) {
    int64_t numel = steer_view_numel(from), known = 1, total;
    int32_t open = -1;
    char text[128], old[128];
    if (ndim < 0 || ndim > STEER_MAX_DIMS)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "ndim: %d, expected 0 to %d", ndim, STEER_MAX_DIMS);
    if (ndim > 0) STEER_REQUIRE(shape);
    for (int32_t d = 0; d < ndim; d++) {
        full[d] = shape[d];
        if (shape[d] != -1) continue;
        if (open >= 0)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "shape: dimensions " STEER_INDEX " and " STEER_INDEX
                              " are -1, expected one at most",
                              open, d);
        open = d;
        full[d] = 1;
    }
    STEER_TRY(steer_shape_check(&known, from->dtype, ndim, full));
    if (open >= 0 && known > 0) full[open] = numel / known;
    total = open >= 0 ? known * full[open] : known;
    if (total == numel && (open < 0 || known > 0)) return STEER_OK;
    return STEER_FAIL(STEER_E_SHAPE_MISMATCH, "shape: %s does not hold the %" PRId64 " elements of %s",
                      steer_shape_text(text, sizeof text, ndim, shape), numel,
                      steer_shape_text(old, sizeof old, from->ndim, from->shape));
}

int steer_tensor_reshape(steer_tensor **out, steer_tensor *tensor, int32_t ndim, const int64_t *shape) {
    STEER_ENTER("tensor_reshape");
    STEER_REQUIRE(out);
    STEER_REQUIRE(tensor);
    int64_t full[STEER_MAX_DIMS];
    steer_view view;
    STEER_TRY(complete_shape(full, &tensor->view, ndim, shape));
    if (!steer_view_reshape(&view, &tensor->view, ndim, full))
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "shape: the tensor's strides allow no such view, expected a contiguous tensor");
    return steer_tensor_view(out, tensor, &view);
}

/* ---- Operations ------------------------------------------------------------------------------------------------ */

int steer_tensor_copy(steer_tensor *dst, steer_tensor *src) {
    STEER_ENTER("tensor_copy");
    STEER_REQUIRE(dst);
    STEER_REQUIRE(src);
    return steer_tensor_assign(dst, src);
}

int steer_tensor_fill(steer_tensor *dst, double value) {
    STEER_ENTER("tensor_fill");
    STEER_REQUIRE(dst);
    return steer_compute_fill(dst, value);
}

int steer_tensor_arange(steer_tensor *dst, double start, double step) {
    STEER_ENTER("tensor_arange");
    STEER_REQUIRE(dst);
    return steer_compute_arange(dst, start, step);
}

int steer_tensor_random(steer_tensor *dst, steer_random kind, uint64_t seed) {
    STEER_ENTER("tensor_random");
    STEER_REQUIRE(dst);
    STEER_TRY(check_enum("kind", (int)kind, STEER_NORMAL));
    return steer_compute_random(dst, kind, seed);
}

int steer_tensor_unary(steer_tensor *dst, steer_tensor *a, steer_unary op) {
    STEER_ENTER("tensor_unary");
    STEER_REQUIRE(dst);
    STEER_REQUIRE(a);
    STEER_TRY(check_enum("op", (int)op, STEER_ACOS));
    return steer_compute_unary(dst, a, op);
}

int steer_tensor_binary(steer_tensor *dst, steer_tensor *a, steer_tensor *b, steer_binary op, double alpha) {
    STEER_ENTER("tensor_binary");
    STEER_REQUIRE(dst);
    STEER_REQUIRE(a);
    STEER_REQUIRE(b);
    STEER_TRY(check_enum("op", (int)op, STEER_GE));
    return steer_compute_binary(dst, a, b, op, alpha);
}

int steer_tensor_scalar(steer_tensor *dst, steer_tensor *a, steer_binary op, double value) {
    STEER_ENTER("tensor_scalar");
    STEER_REQUIRE(dst);
    STEER_REQUIRE(a);
    STEER_TRY(check_enum("op", (int)op, STEER_GE));
    return steer_compute_scalar(dst, a, op, value);
}

int steer_tensor_where(steer_tensor *dst, steer_tensor *mask, steer_tensor *a, steer_tensor *b) {
    STEER_ENTER("tensor_where");
    STEER_REQUIRE(dst);
    STEER_REQUIRE(mask);
    STEER_REQUIRE(a);
    STEER_REQUIRE(b);
    return steer_compute_where(dst, mask, a, b);
}

int steer_tensor_reduce(steer_tensor *dst, steer_tensor *src, steer_reduce op, int32_t dim) {
    STEER_ENTER("tensor_reduce");
    STEER_REQUIRE(dst);
    STEER_REQUIRE(src);
    STEER_TRY(check_enum("op", (int)op, STEER_ARGMIN));
    return steer_compute_reduce(dst, src, op, dim);
}

int steer_tensor_normalize(steer_tensor *dst, steer_tensor *src, int32_t dim) {
    STEER_ENTER("tensor_normalize");
    STEER_REQUIRE(dst);
    STEER_REQUIRE(src);
    return steer_compute_along(dst, src, STEER_NORMALIZE, dim);
}

int steer_tensor_softmax(steer_tensor *dst, steer_tensor *src, int32_t dim) {
    STEER_ENTER("tensor_softmax");
    STEER_REQUIRE(dst);
    STEER_REQUIRE(src);
    return steer_compute_along(dst, src, STEER_SOFTMAX, dim);
}

int steer_tensor_cumsum(steer_tensor *dst, steer_tensor *src, int32_t dim) {
    STEER_ENTER("tensor_cumsum");
    STEER_REQUIRE(dst);
    STEER_REQUIRE(src);
    STEER_TRY(check_dim("dim", src, dim));
    return steer_compute_along(dst, src, STEER_CUMSUM, dim);
}

int steer_tensor_sort(steer_tensor *values, steer_tensor *indices, steer_tensor *src, int32_t dim,
                      int32_t descending) {
    STEER_ENTER("tensor_sort");
    STEER_REQUIRE(values);
    STEER_REQUIRE(indices);
    STEER_REQUIRE(src);
    STEER_TRY(check_dim("dim", src, dim));
    return steer_compute_sort(values, indices, src, dim, descending);
}

int steer_tensor_gather(steer_tensor *dst, steer_tensor *src, steer_tensor *index, int32_t dim,
                        int64_t base) {
    STEER_ENTER("tensor_gather");
    STEER_REQUIRE(dst);
    STEER_REQUIRE(src);
    STEER_REQUIRE(index);
    STEER_TRY(check_dim("dim", src, dim));
    return steer_compute_gather(dst, src, index, dim, base);
}

int steer_tensor_matmul(steer_tensor *dst, steer_tensor *a, steer_tensor *b) {
    STEER_ENTER("tensor_matmul");
    STEER_REQUIRE(dst);
    STEER_REQUIRE(a);
    STEER_REQUIRE(b);
    return steer_compute_matmul(dst, a, b);
}

int steer_tensor_get(double *out, steer_tensor *tensor, const int64_t *index) {
    STEER_ENTER("tensor_get");
    STEER_REQUIRE(out);
    STEER_REQUIRE(tensor);
    if (tensor->view.ndim > 0) STEER_REQUIRE(index);
    STEER_TRY(steer_compute_get(out, tensor, index));
    if (*out != *out) *out = NAN; /* LuaJIT takes a NaN of other bits for a pointer */
    return STEER_OK;
}

int steer_tensor_set(steer_tensor *tensor, const int64_t *index, double value) {
    STEER_ENTER("tensor_set");
    STEER_REQUIRE(tensor);
    if (tensor->view.ndim > 0) STEER_REQUIRE(index);
    return steer_compute_set(tensor, index, value);
}
