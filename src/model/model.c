/* model.c: the life of a loaded model, and what it says of itself. */
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

steer_model *steer_model_retain(steer_model *model) {
    if (model) steer_refs_add(&model->refs);
    return model;
}

void steer_model_release(steer_model *model) {
    if (!model || !steer_refs_drop(&model->refs)) return;
    steer_device_deallocate(model->device, model->memory, (size_t)model->bytes);
    steer_device_release(model->device);
    free(model->layer);
    free(model->path);
    free(model->config);
    free(model);
}

int steer_model_describe(steer_model_info *out, const steer_model *model) {
    STEER_ENTER("model_describe");
    STEER_REQUIRE_STRUCT(out);
    STEER_REQUIRE(model);
    const steer_layer *layer = model->layer;
    out->dtype = model->dtype;
    out->layers = model->layers;
    out->heads = layer->heads;
    out->kv_heads = layer->kv_heads;
    out->head_dim = layer->head_dim;
    out->hidden = model->hidden;
    out->vocab = model->vocab;
    out->context = model->context;
    out->bytes = model->bytes;
    out->token_bytes = 0;
    for (int32_t i = 0; i < model->layers; i++)
        out->token_bytes +=
            2 * (int64_t)layer[i].kv_heads * layer[i].head_dim * steer_dtype_size(model->dtype);
    out->bos = model->bos;
    out->pad = model->pad;
    out->eos_count = model->eos_count;
    memcpy(out->eos, model->eos, sizeof out->eos);
    memcpy(out->family, model->family, sizeof out->family);
    return STEER_OK;
}

const char *steer_model_config(const steer_model *model) { return model ? model->config : ""; }

const char *steer_model_path(const steer_model *model) { return model ? model->path : ""; }

steer_device *steer_model_device(const steer_model *model) { return model ? model->device : NULL; }
