/* head.c: what follows the last layer: logits of hidden states, of a step's or of any given ones. */
#include "model/head.h"

#include "tensor/tensor.h"

static int check(const steer_model *model, const steer_tensor *hidden) {
    const steer_view *view = &hidden->view;
    char shape[200];
    if (view->ndim != 2 || view->shape[0] < 1 || view->shape[1] != model->hidden)
        return STEER_FAIL(STEER_E_SHAPE_MISMATCH, "hidden: %s, expected [n, %lld]",
                          steer_shape_text(shape, sizeof shape, view->ndim, view->shape),
                          (long long)model->hidden);
    if (view->dtype != STEER_F32 && view->dtype != STEER_F16 && view->dtype != STEER_BF16)
        return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "hidden: %s, expected f32, f16 or bf16",
                          steer_dtype_name(view->dtype));
    if (steer_tensor_on(hidden) != model->device)
        return STEER_FAIL(STEER_E_DEVICE_MISMATCH, "hidden: on %s, but the model is on %s",
                          steer_device_id(steer_tensor_on(hidden)), steer_device_id(model->device));
    return STEER_OK;
}

int steer_head(const steer_model *model, void *rows, int64_t n, float *logits, int reproducible) {
    const steer_norm_parts norm = {.rows = n,
                                   .stride = model->hidden,
                                   .parts = 1,
                                   .size = model->hidden,
                                   .dtype = model->dtype,
                                   .x = rows,
                                   .norm = model->norm};
    steer_linear head = {.rows = n,
                         .in = model->hidden,
                         .out = model->vocab,
                         .dtype = model->dtype,
                         .x = rows,
                         .x_stride = model->hidden,
                         .weight = model->head.weight,
                         .bias = model->head.bias,
                         .y = logits,
                         .y_dtype = STEER_F32,
                         .y_stride = model->vocab,
                         .norm = model->norm,
                         .reproducible = reproducible};
    const steer_logits scale = {.count = n,
                                .vocab = model->vocab,
                                .logits = logits,
                                .scale = model->logit_scale,
                                .softcap = model->logit_softcap};
    const steer_model_ops *ops = model->ops;
    void *device = model->device->state;
    if (reproducible || !ops->fuses || !ops->fuses(device, &head)) {
        head.norm.kind = STEER_NORM_NONE;
        if (norm.norm.kind) STEER_TRY(ops->norm_parts(device, &norm));
    }
    STEER_TRY(ops->linear(device, &head));
    return scale.scale != 1 || scale.softcap > 0 ? ops->logits(device, &scale) : STEER_OK;
}

int steer_model_logits(steer_tensor **out, steer_model *model, steer_tensor *hidden) {
    STEER_ENTER("model_logits");
    STEER_REQUIRE(out);
    STEER_REQUIRE(model);
    STEER_REQUIRE(hidden);
    STEER_TRY(check(model, hidden));
    const int64_t n = hidden->view.shape[0], shape[2] = {n, model->vocab};
    steer_tensor *rows, *logits = NULL;
    STEER_TRY(steer_tensor_make(&rows, model->device, model->dtype, 2, hidden->view.shape));
    int status = steer_tensor_assign(rows, hidden);
    if (status == STEER_OK) status = steer_tensor_make(&logits, model->device, STEER_F32, 2, shape);
    if (status == STEER_OK) status = steer_head(model, rows->view.data, n, logits->view.data, 0);
    steer_tensor_release(rows);
    if (status != STEER_OK) {
        steer_tensor_release(logits);
        return status;
    }
    *out = logits;
    return STEER_OK;
}
