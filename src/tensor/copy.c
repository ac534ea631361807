/* copy.c: dst = src between dtypes, shapes and devices, and single elements. */
#include "backend/device.h"
#include "tensor/dtype.h"
#include "tensor/compute.h"

#include <stdlib.h>

enum { STAGE_BYTES = 16 << 20 }; /* host memory between two GPUs */

int steer_compute_detach(steer_tensor **out, const steer_tensor *dst, steer_tensor *operand,
                         int same_is_safe) {
    int apart =
        steer_tensor_on(dst) != steer_tensor_on(operand) || !steer_view_overlap(&dst->view, &operand->view);
    if (!apart && !(same_is_safe && steer_view_same(&dst->view, &operand->view)))
        return steer_tensor_clone(out, operand);
    *out = steer_tensor_retain(operand);
    return STEER_OK;
}

static int copy_here(steer_tensor *dst, steer_tensor *src) {
    steer_device *device = steer_tensor_on(dst);
    steer_tensor *from;
    steer_view view;
    if (steer_view_same(&dst->view, &src->view)) return STEER_OK;
    STEER_TRY(steer_compute_detach(&from, dst, src, 0));
    int status = steer_view_broadcast(&view, &from->view, dst->view.ndim, dst->view.shape, "src");
    if (status == STEER_OK) status = device->backend->copy(device->state, &dst->view, &view);
    steer_tensor_release(from);
    return status;
}

/* Bytes between two devices, one of which may be the CPU. */
static int move_bytes(steer_device *to, void *dst, steer_device *from, const void *src, size_t bytes) {
    if (steer_device_is_cpu(from)) return to->backend->upload(to->state, dst, src, bytes);
    if (steer_device_is_cpu(to)) return from->backend->download(from->state, dst, src, bytes);
    size_t stage = bytes < STAGE_BYTES ? bytes : STAGE_BYTES;
    void *host = malloc(stage);
    if (!host) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "copy: %zu bytes of host memory", stage);
    int status = STEER_OK;
    for (size_t done = 0; done < bytes && status == STEER_OK; done += stage) {
        size_t n = bytes - done < stage ? bytes - done : stage;
        status = from->backend->download(from->state, host, (const char *)src + done, n);
        if (status == STEER_OK) status = to->backend->upload(to->state, (char *)dst + done, host, n);
    }
    free(host);
    return status;
}

/* The elements of src on its own device, contiguous, in the dtype that crosses with fewer bytes. */
static int pack(steer_tensor **out, steer_tensor *src, steer_dtype wanted) {
    const steer_view *view = &src->view;
    if (steer_dtype_size(wanted) >= steer_dtype_size(view->dtype)) return steer_tensor_contiguous(out, src);
    STEER_TRY(steer_tensor_make(out, steer_tensor_on(src), wanted, view->ndim, view->shape));
    int status = copy_here(*out, src);
    if (status != STEER_OK) steer_tensor_release(*out);
    return status;
}

static int copy_across(steer_tensor *dst, steer_tensor *src) {
    steer_tensor *packed, *landed = NULL;
    steer_device *to = steer_tensor_on(dst);
    STEER_TRY(pack(&packed, src, dst->view.dtype));
    const steer_view *view = &packed->view;
    int status = STEER_OK;
    int direct = view->dtype == dst->view.dtype && steer_view_is_contiguous(&dst->view) &&
                 steer_view_numel(view) == steer_view_numel(&dst->view);
    if (!direct) status = steer_tensor_make(&landed, to, view->dtype, view->ndim, view->shape);
    if (status == STEER_OK)
        status = move_bytes(to, (landed ? landed : dst)->view.data, steer_tensor_on(packed), view->data,
                            (size_t)steer_view_numel(view) * steer_dtype_size(view->dtype));
    if (status == STEER_OK && landed) status = copy_here(dst, landed);
    steer_tensor_release(landed);
    steer_tensor_release(packed);
    return status;
}

int steer_tensor_assign(steer_tensor *dst, steer_tensor *src) {
    steer_view ignored;
    STEER_TRY(steer_view_broadcast(&ignored, &src->view, dst->view.ndim, dst->view.shape, "src"));
    STEER_TRY(steer_view_check_writable(&dst->view, "dst"));
    if (steer_view_numel(&dst->view) == 0) return STEER_OK;
    return steer_tensor_on(dst) == steer_tensor_on(src) ? copy_here(dst, src) : copy_across(dst, src);
}

static int element_at(void **out, const steer_view *view, const int64_t *index) {
    int64_t offset = 0;
    for (int32_t d = 0; d < view->ndim; d++) {
        STEER_TRY(steer_view_check_index(view, d, index[d]));
        offset += index[d] * view->stride[d];
    }
    *out = (char *)view->data + offset * (int64_t)steer_dtype_size(view->dtype);
    return STEER_OK;
}

int steer_compute_get(double *out, steer_tensor *tensor, const int64_t *index) {
    steer_device *device = steer_tensor_on(tensor);
    steer_dtype dtype = tensor->view.dtype;
    void *place;
    int64_t element = 0;
    STEER_TRY(element_at(&place, &tensor->view, index));
    STEER_TRY(device->backend->download(device->state, &element, place, steer_dtype_size(dtype)));
    *out = steer_element_load(dtype, &element);
    return STEER_OK;
}

int steer_compute_set(steer_tensor *tensor, const int64_t *index, double value) {
    steer_device *device = steer_tensor_on(tensor);
    steer_dtype dtype = tensor->view.dtype;
    void *place;
    int64_t element = 0;
    STEER_TRY(element_at(&place, &tensor->view, index));
    steer_element_store(dtype, &element, value);
    return device->backend->upload(device->state, place, &element, steer_dtype_size(dtype));
}
