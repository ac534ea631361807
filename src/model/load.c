/* load.c: loads a model step by step: reads its config, asks for memory once, converts and uploads tensors piece by piece, or draws
 * random ones. */
#include "model/gguf_config.h"
#include "model/layout.h"
#include "tensor/dtype.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct steer_loader {
    steer_model *model;
    steer_weights *weights; /* NULL: they are drawn */
    uint64_t seed;
    steer_map *map; /* of config.json */
    char *config_name;
    steer_config config;
    steer_layout layout;
    int32_t target, piece; /* where loading stands: piece of the target, its row */
    int64_t row;
    size_t done;
    /* For devices that need it: room for a step twice, so that one is read while the other is on its way. */
    char *staging;
    int is_pinned, half;
};

enum { STEP = 32 << 20 }; /* bytes that a step loads, about */

/* ---- Config ------------------------------------------------------------------------------------------------------ */

static int join(char **out, const char *path, const char *end) {
    const size_t size = strlen(path) + strlen(end) + 1;
    *out = malloc(size);
    if (!*out) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "model: no host memory for a path");
    snprintf(*out, size, "%s%s", path, end);
    return STEER_OK;
}

/* The text of config.json, kept by the model. */
static int read_config_text(steer_loader *loader, const char *name) {
    steer_model *model = loader->model;
    STEER_TRY(steer_map_file(&loader->map, name));
    const size_t size = (size_t)loader->map->size;
    model->config = malloc(size + 1);
    if (!model->config) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "model: no host memory for its config");
    if (size) memcpy(model->config, loader->map->data, size);
    model->config[size] = 0;
    return STEER_OK;
}

static int is_gguf(const steer_loader *loader) { return loader->weights && loader->weights->gguf; }

/* A folder's config.json, or what stands for it in a GGUF file. */
static int read_config(steer_loader *loader) {
    steer_model *model = loader->model;
    if (is_gguf(loader)) {
        STEER_TRY(join(&loader->config_name, model->path, ": its metadata as config.json"));
        STEER_TRY(steer_gguf_config(&model->config, loader->weights));
    } else {
        STEER_TRY(join(&loader->config_name, model->path, "/config.json"));
        STEER_TRY(read_config_text(loader, loader->config_name));
    }
    const size_t size = loader->map ? (size_t)loader->map->size : strlen(model->config);
    return steer_config_read(&loader->config, model->config, size, loader->config_name);
}

/* Ids that begin, fill and end texts: generation_config.json's, else the config's. */
static int read_ids(steer_model *model, const steer_json *root, const steer_json *bos, const steer_json *eos,
                    const steer_json *pad, const char *name) {
    int32_t count;
    const steer_json *said[3] = {steer_json_get(root, "bos_token_id"), steer_json_get(root, "pad_token_id"),
                                 steer_json_get(root, "eos_token_id")};
    STEER_TRY(steer_fields_ids(&count, &model->bos, 1, said[0] ? said[0] : bos, name, "bos_token_id"));
    STEER_TRY(steer_fields_ids(&count, &model->pad, 1, said[1] ? said[1] : pad, name, "pad_token_id"));
    STEER_TRY(steer_fields_ids(&model->eos_count, model->eos, STEER_MAX_EOS, said[2] ? said[2] : eos, name,
                               "eos_token_id"));
    /* No token has an id beyond the vocabulary: such a text would begin with nothing, or never end. */
    if (model->bos >= model->vocab)
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: bos_token_id: %d, expected an id below %lld, the vocabulary's size", name,
                          model->bos, (long long)model->vocab);
    for (int32_t i = 0; i < model->eos_count; i++)
        if (model->eos[i] >= model->vocab)
            return STEER_FAIL(STEER_E_FORMAT,
                              "%s: eos_token_id: %d, expected an id below %lld, the vocabulary's size", name,
                              model->eos[i], (long long)model->vocab);
    return STEER_OK;
}

static int read_generation(steer_model *model, const steer_config *config) {
    const steer_fields *fields = &config->fields;
    char *name;
    steer_map *map = NULL;
    steer_json_tree tree = {NULL, NULL};
    STEER_TRY(join(&name, model->path, "/generation_config.json"));
    int status = steer_map_file(&map, name);
    if (status == STEER_E_NOT_FOUND) status = STEER_OK;
    if (status == STEER_OK && map)
        status = steer_json_parse(&tree, (const char *)map->data, (size_t)map->size, name);
    if (status == STEER_OK)
        status = read_ids(model, tree.root, fields->bos, fields->eos, fields->pad, map ? name : config->name);
    steer_json_free(&tree);
    if (map) steer_map_drop(map);
    free(name);
    return status;
}

/* ---- The record -------------------------------------------------------------------------------------------------- */

/* Of GGUF files the device says: blocks are widened, and only GPUs are fast with 16 bits. */
static steer_dtype choose_dtype(const steer_loader *loader, int32_t asked) {
    const steer_weights *weights = loader->weights;
    if (asked >= 0) return (steer_dtype)asked;
    if (is_gguf(loader)) return steer_device_is_cpu(loader->model->device) ? STEER_F32 : STEER_BF16;
    if ((int)loader->config.dtype >= 0) return loader->config.dtype;
    const steer_format first = weights && weights->count ? weights->weight[0].format : STEER_FORMAT_F32;
    return first == STEER_FORMAT_F16 ? STEER_F16 : first == STEER_FORMAT_BF16 ? STEER_BF16 : STEER_F32;
}

static float rounded(steer_dtype dtype, double value) {
    char element[4];
    steer_element_store(dtype, element, value);
    return (float)steer_element_load(dtype, element);
}

static void fill_record(steer_model *model, steer_config *config) {
    const steer_fields *fields = &config->fields;
    const steer_family *family = config->family;
    model->hidden = fields->hidden;
    model->vocab = fields->vocab;
    model->context = fields->context;
    model->layers = (int32_t)fields->layers;
    model->layer = config->layer;
    config->layer = NULL;
    model->embed_scale = family->traits & STEER_TRAIT_ROOT_SCALE
                             ? rounded(model->dtype, sqrt((double)fields->hidden))
                             : (float)fields->embed_multiplier;
    model->residual_multiplier = (float)fields->residual_multiplier;
    model->norm = (steer_norm){.kind = family->norm, .eps = (float)fields->eps};
    model->logit_scale = (float)(fields->logit_scale / fields->logits_divisor);
    model->logit_softcap = (float)fields->logit_softcap;
    model->rope_count = config->rope_count;
    for (int32_t i = 0; i < config->rope_count; i++) {
        model->ropes[i].rotary = config->ropes[i].rotary;
        if (config->ropes[i].near) model->near = config->ropes[i].near;
    }
    model->qkv_most = (fields->heads + 2 * fields->kv_heads) * fields->head_dim;
    model->mlp_most = fields->mlp_size;
    snprintf(model->family, sizeof model->family, "%s", family->type);
}

/* ---- Making one -------------------------------------------------------------------------------------------------- */

static int check_memory(const steer_model *model, size_t bytes) {
    int64_t available = 0;
    if (model->device->backend->free_bytes(model->device->state, &available) != STEER_OK) return STEER_OK;
    if (bytes <= (size_t)available) return STEER_OK;
    return STEER_FAIL(STEER_E_OUT_OF_MEMORY,
                      "model %s: its weights need %.2f GiB as %s on %s, %.2f GiB are free", model->path,
                      (double)bytes / (1 << 30), steer_dtype_name(model->dtype), model->device->id,
                      (double)available / (1 << 30));
}

static int take_memory(steer_loader *loader) {
    steer_model *model = loader->model;
    const size_t bytes = loader->layout.bytes;
    STEER_TRY(check_memory(model, bytes));
    STEER_TRY(steer_device_allocate(model->device, &model->memory, bytes, "weights of the model"));
    model->bytes = (int64_t)bytes;
    if (steer_device_is_cpu(model->device)) return STEER_OK;
    const steer_backend *backend = model->device->backend;
    void *pinned = NULL;
    loader->is_pinned =
        backend->send && backend->pinned_allocate(model->device->state, &pinned, 2 * STEP) == STEER_OK;
    loader->staging = loader->is_pinned ? pinned : malloc(2 * STEP);
    if (!loader->staging) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "model: no host memory to load through");
    return STEER_OK;
}

/* Random weights need a config alone; of a GGUF file it is the metadata, and which tensors there are. */
static int open_weights(steer_loader *loader, const steer_model_desc *desc) {
    const char *path = loader->model->path;
    struct stat info;
    if (desc->random && stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return STEER_OK;
    STEER_TRY(steer_weights_open(&loader->weights, path));
    if (desc->random && !loader->weights->gguf)
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "%s: random weights: expected a folder with a config.json or a GGUF file", path);
    return STEER_OK;
}

static int open_all(steer_loader *loader, const steer_model_desc *desc) {
    steer_model *model = loader->model;
    STEER_TRY(open_weights(loader, desc));
    loader->seed = desc->seed;
    STEER_TRY(read_config(loader));
    model->dtype = choose_dtype(loader, desc->dtype);
    fill_record(model, &loader->config);
    if (is_gguf(loader)) {
        const steer_fields *fields = &loader->config.fields;
        for (int32_t i = 0; i < model->layers; i++)
            model->layer[i].interleaved = loader->config.family->gguf_interleaved;
        STEER_TRY(read_ids(model, NULL, fields->bos, fields->eos, fields->pad, model->path));
    } else {
        STEER_TRY(read_generation(model, &loader->config));
    }
    STEER_TRY(steer_layout_build(&loader->layout, model, &loader->config, loader->weights, model->path));
    if (desc->random) { /* they are drawn */
        steer_weights_close(loader->weights);
        loader->weights = NULL;
    }
    return take_memory(loader);
}

static int check_desc(const steer_model_desc *desc) {
    if (desc->dtype < -1 || desc->dtype > STEER_BF16)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "dtype: %d, expected F32, F16, BF16 or -1", desc->dtype);
    STEER_REQUIRE(desc->device);
    if (desc->random != 0 && desc->random != 1)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "random: %d, expected 0 or 1", desc->random);
    if (!desc->device->backend->model)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "device: %s runs no models", desc->device->id);
    return STEER_OK;
}

int steer_loader_create(steer_loader **out, const char *path, const steer_model_desc *desc) {
    STEER_ENTER("loader_create");
    STEER_REQUIRE(out);
    STEER_REQUIRE(path);
    STEER_REQUIRE_STRUCT(desc);
    STEER_TRY(check_desc(desc));
    steer_loader *loader = calloc(1, sizeof *loader);
    steer_model *model = calloc(1, sizeof *model);
    if (loader) loader->model = model;
    if (model) {
        steer_refs_init(&model->refs);
        model->device = steer_device_retain(desc->device);
        model->ops = desc->device->backend->model;
        model->bos = model->pad = -1;
        model->path = strdup(path);
    }
    int status = loader && model && model->path ? open_all(loader, desc)
                                                : STEER_FAIL(STEER_E_OUT_OF_MEMORY, "model: no host memory");
    if (status != STEER_OK) {
        if (!loader) steer_model_release(model);
        steer_loader_release(loader);
        return status;
    }
    *out = loader;
    return STEER_OK;
}

/* Waits for what is on its way out of it. */
static int free_staging(steer_loader *loader) {
    if (!loader->staging) return STEER_OK;
    const steer_device *device = loader->model->device;
    const int status = device->backend->synchronize(device->state);
    if (loader->is_pinned)
        device->backend->pinned_release(device->state, loader->staging);
    else
        free(loader->staging);
    loader->staging = NULL;
    return status;
}

void steer_loader_release(steer_loader *loader) {
    if (!loader) return;
    steer_layout_free(&loader->layout);
    steer_config_free(&loader->config);
    if (loader->map) steer_map_drop(loader->map);
    steer_weights_close(loader->weights);
    (void)free_staging(loader);
    steer_model_release(loader->model);
    free(loader->config_name);
    free(loader);
}

/* ---- Loading ----------------------------------------------------------------------------------------------------- */

static int not_finite(const steer_weight *weight) {
    return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: holds NaN or infinite values, expected finite ones",
                      weight->file, weight->name);
}

/* Where the next bytes for `to` are made. */
static void *place_of(const steer_loader *loader, void *to) {
    return loader->staging ? loader->staging + (size_t)loader->half * STEP : to;
}

static int put(steer_loader *loader, void *to, const void *from, size_t bytes) {
    const steer_device *device = loader->model->device;
    if (to == from) return STEER_OK;
    if (!loader->is_pinned || from != place_of(loader, to))
        return device->backend->upload(device->state, to, from, bytes);
    STEER_TRY(device->backend->synchronize(device->state)); /* the other half has arrived */
    STEER_TRY(device->backend->send(device->state, to, from, bytes));
    loader->half ^= 1;
    return STEER_OK;
}

/* Some rows of a piece, as many as a step loads; *bytes of them. */
static int load_rows(steer_loader *loader, const steer_target *target, const steer_piece *piece,
                     size_t *bytes) {
    const size_t row_bytes = (size_t)target->width * steer_dtype_size(target->dtype);
    int64_t rows = (int64_t)(STEP / row_bytes);
    int finite = 1;
    if (rows > piece->rows - loader->row) rows = piece->rows - loader->row;
    char *to = (char *)loader->model->memory + target->offset + (size_t)(piece->at + loader->row) * row_bytes;
    void *at = place_of(loader, to);
    STEER_TRY(steer_weight_convert(piece->from, (piece->first + loader->row) * target->width,
                                   rows * target->width, target->dtype, at, &finite));
    if (!finite) return not_finite(piece->from);
    for (int64_t i = 0; target->one_plus && i < rows; i++) ((float *)at)[i] += 1;
    *bytes = (size_t)rows * row_bytes;
    loader->row += rows;
    return put(loader, to, at, *bytes);
}

/* A matrix that lies as [width, rows]. */
static int load_transposed(steer_loader *loader, const steer_target *target, const steer_piece *piece,
                           size_t *bytes) {
    const size_t element = steer_dtype_size(target->dtype);
    const int64_t rows = target->rows, width = target->width;
    int finite = 1;
    *bytes = (size_t)(rows * width) * element;
    char *read = malloc(*bytes), *turned = malloc(*bytes);
    int status = read && turned
                     ? STEER_OK
                     : STEER_FAIL(STEER_E_OUT_OF_MEMORY, "model: no host memory to transpose tensor %s",
                                  piece->from->name);
    if (status == STEER_OK)
        status = steer_weight_convert(piece->from, 0, rows * width, target->dtype, read, &finite);
    if (status == STEER_OK && !finite) status = not_finite(piece->from);
    if (status == STEER_OK) {
        for (int64_t r = 0; r < rows; r++)
            for (int64_t w = 0; w < width; w++)
                memcpy(turned + (size_t)(r * width + w) * element, read + (size_t)(w * rows + r) * element,
                       element);
        status = put(loader, (char *)loader->model->memory + target->offset, turned, *bytes);
    }
    free(read);
    free(turned);
    loader->row = rows;
    return status;
}

/* Some rows of a rotation's table: cos of all frequencies, then sin. */
static int load_table(steer_loader *loader, const steer_target *target, size_t *bytes) {
    const steer_frequencies *rope = &loader->config.ropes[target->rope];
    const int64_t half = rope->rotary / 2, start = loader->row, near = loader->model->near;
    const size_t row_bytes = (size_t)rope->rotary * sizeof(float);
    int64_t rows = (int64_t)(STEP / row_bytes);
    if (rows > target->rows - start) rows = target->rows - start;
    char *to = (char *)loader->model->memory + target->offset + (size_t)start * row_bytes;
    float *at = place_of(loader, to);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < half; j++) {
            const int64_t row = start + i, far = row >= near;
            const float angle = (float)(row - far * near) * rope->frequency[rope->near && far ? half + j : j];
            at[i * 2 * half + j] = cosf(angle) * rope->scale;
            at[i * 2 * half + half + j] = sinf(angle) * rope->scale;
        }
    *bytes = (size_t)rows * row_bytes;
    loader->row += rows;
    return put(loader, to, at, *bytes);
}

/* A number that differs for every seed, target and row (the finaliser of splitmix64: Steele, Lea, Flood, 2014). */
static uint64_t mixed(uint64_t seed, uint64_t target, uint64_t row) {
    uint64_t x = seed;
    const uint64_t words[2] = {target, row};
    for (int i = 0; i < 2; i++) {
        x += words[i] + 0x9e3779b97f4a7c15u;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        x ^= x >> 31;
    }
    return x;
}

/* Some rows of a target without a file: ones for a norm, else normal numbers. */
static int draw_rows(steer_loader *loader, const steer_target *target, size_t *bytes) {
    const double deviation = 0.02;
    const steer_model *model = loader->model;
    const steer_backend *backend = model->device->backend;
    const size_t row_bytes = (size_t)target->width * steer_dtype_size(target->dtype);
    int64_t rows = (int64_t)(STEP / row_bytes);
    if (rows < 1) rows = 1;
    if (rows > target->rows - loader->row) rows = target->rows - loader->row;
    const steer_view view = {.data = (char *)model->memory + target->offset + (size_t)loader->row * row_bytes,
                             .dtype = target->dtype,
                             .ndim = 1,
                             .shape = {rows * target->width},
                             .stride = {1}};
    const uint64_t seed = mixed(loader->seed, (uint64_t)loader->target, (uint64_t)loader->row);
    *bytes = (size_t)rows * row_bytes;
    loader->row += rows;
    if (target->is_norm) return backend->fill(model->device->state, &view, 1);
    STEER_TRY(backend->random(model->device->state, &view, STEER_NORMAL, seed));
    return backend->scalar(model->device->state, &view, &view, STEER_MUL, deviation);
}

/* Part of the target that is next, or its end. */
static int load_some(steer_loader *loader, size_t *bytes) {
    const steer_target *target = &loader->layout.targets[loader->target];
    *bytes = 0;
    if (target->pieces == 0 && loader->row < target->rows) return load_table(loader, target, bytes);
    if (!loader->weights && loader->row < target->rows) return draw_rows(loader, target, bytes);
    if (loader->weights && loader->piece < target->pieces) {
        const steer_piece *piece = &loader->layout.pieces[target->first_piece + loader->piece];
        STEER_TRY(target->transposed ? load_transposed(loader, target, piece, bytes)
                                     : load_rows(loader, target, piece, bytes));
        if (loader->row < piece->rows) return STEER_OK;
        loader->piece++;
        loader->row = 0;
    }
    if (loader->weights && loader->piece < target->pieces) return STEER_OK;
    *target->pointer = (char *)loader->model->memory + target->offset;
    loader->target++;
    loader->piece = 0;
    loader->row = 0;
    return STEER_OK;
}

int steer_loader_step(double *done, steer_loader *loader) {
    STEER_ENTER("loader_step");
    STEER_REQUIRE(done);
    STEER_REQUIRE(loader);
    for (size_t loaded = 0, bytes; loaded < STEP && loader->target < loader->layout.target_count;
         loaded += bytes) {
        STEER_TRY(load_some(loader, &bytes));
        loader->done += bytes;
    }
    const int finished = loader->target == loader->layout.target_count;
    *done = finished ? 1 : 0.999 * (double)loader->done / (double)loader->layout.bytes;
    return STEER_OK;
}

int steer_loader_finish(steer_model **out, steer_loader *loader) {
    STEER_ENTER("loader_finish");
    STEER_REQUIRE(out);
    STEER_REQUIRE(loader);
    if (!loader->model || loader->target < loader->layout.target_count)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "loader: not everything is loaded, expected steps until 1");
    steer_model *model = loader->model;
    if (!model->head.weight) model->head.weight = model->embed;
    STEER_TRY(free_staging(loader));
    STEER_TRY(model->device->backend->synchronize(model->device->state));
    loader->model = NULL;
    *out = model;
    return STEER_OK;
}
