/* capture.c: captures: which layers and groups they hold, and how rows are added to them. */
#include "model/capture.h"

#include "tensor/tensor.h"

#include <stdlib.h>
#include <string.h>

static int check(const steer_model *model, const steer_capture_desc *desc) {
    if ((unsigned)desc->site >= STEER_SITE_COUNT)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "site: %d, expected a steer_site", (int)desc->site);
    if (desc->groups < 1)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "groups: %d, expected 1 or more", desc->groups);
    if (desc->layer_count < 1)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "layers: none, expected 1 or more");
    STEER_REQUIRE(desc->layers);
    const int32_t most = desc->site == STEER_SITE_EMBED ? 1 : model->layers;
    for (int32_t i = 0; i < desc->layer_count; i++) {
        const int32_t layer = desc->layers[i];
        if (layer < 0 || layer >= most)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "layers[" STEER_INDEX "]: %d, expected 0 to %d", i,
                              layer, most - 1);
        if (i > 0 && layer <= desc->layers[i - 1])
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "layers[" STEER_INDEX "]: %d after %d, expected ascending layers", i, layer,
                              desc->layers[i - 1]);
        if (desc->site == STEER_SITE_ATTENTION && model->layer[layer].parallel)
            return STEER_FAIL(STEER_E_UNSUPPORTED,
                              "layers[" STEER_INDEX
                              "]: the attention and mlp of layer %d run in parallel, no "
                              "state lies between them",
                              i, layer);
    }
    return STEER_OK;
}

static int make_sums(steer_capture *capture, int32_t squares) {
    const int64_t shape[3] = {capture->groups, capture->layer_count, capture->model->hidden};
    steer_device *device = capture->model->device;
    for (int i = 0; i < 1 + !!squares; i++) {
        STEER_TRY(steer_tensor_make(&capture->sums[i], device, STEER_F32, 3, shape));
        STEER_TRY(device->backend->fill(device->state, &capture->sums[i]->view, 0));
    }
    return STEER_OK;
}

int steer_capture_create(steer_capture **out, steer_model *model, const steer_capture_desc *desc) {
    STEER_ENTER("capture_create");
    STEER_REQUIRE(out);
    STEER_REQUIRE(model);
    STEER_REQUIRE_STRUCT(desc);
    STEER_TRY(check(model, desc));
    steer_capture *capture = calloc(1, sizeof *capture);
    if (!capture) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "capture: no host memory");
    steer_refs_init(&capture->refs);
    capture->model = steer_model_retain(model);
    capture->site = desc->site;
    capture->groups = desc->groups;
    capture->layer_count = desc->layer_count;
    capture->layers = malloc((size_t)desc->layer_count * sizeof *capture->layers);
    capture->counts = calloc((size_t)desc->groups, sizeof *capture->counts);
    capture->here = calloc((size_t)desc->groups, sizeof *capture->here);
    int status =
        capture->layers && capture->counts && capture->here
            ? make_sums(capture, desc->squares)
            : STEER_FAIL(STEER_E_OUT_OF_MEMORY, "capture: no host memory for %d groups", desc->groups);
    if (status != STEER_OK) {
        steer_capture_release(capture);
        return status;
    }
    memcpy(capture->layers, desc->layers, (size_t)desc->layer_count * sizeof *capture->layers);
    *out = capture;
    return STEER_OK;
}

void steer_capture_release(steer_capture *capture) {
    if (!capture || !steer_refs_drop(&capture->refs)) return;
    steer_tensor_release(capture->sums[0]);
    steer_tensor_release(capture->sums[1]);
    steer_model_release(capture->model);
    free(capture->layers);
    free(capture->counts);
    free(capture->here);
    free(capture);
}

int steer_capture_tensor(steer_tensor **out, steer_capture *capture, int32_t squares) {
    STEER_ENTER("capture_tensor");
    STEER_REQUIRE(out);
    STEER_REQUIRE(capture);
    steer_tensor *tensor = capture->sums[!!squares];
    if (!tensor) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "squares: the capture was made without them");
    *out = steer_tensor_retain(tensor);
    return STEER_OK;
}

const int64_t *steer_capture_counts(const steer_capture *capture) { return capture ? capture->counts : NULL; }

int32_t steer_capture_place(const steer_capture *capture, int32_t layer, steer_site site) {
    if (site != capture->site) return -1;
    for (int32_t i = 0; i < capture->layer_count; i++)
        if (capture->layers[i] == layer) return i;
    return -1;
}

int steer_capture_add(const steer_capture *capture, int32_t place, const void *x, steer_accumulate args) {
    const steer_model *model = capture->model;
    float *squares = capture->sums[1] ? capture->sums[1]->view.data : NULL;
    args.hidden = model->hidden;
    args.dtype = model->dtype;
    args.x = x;
    args.sum = (float *)capture->sums[0]->view.data + place * model->hidden;
    args.squares = squares ? squares + place * model->hidden : NULL;
    args.sum_stride = capture->layer_count * model->hidden;
    return model->ops->accumulate(model->device->state, &args);
}
