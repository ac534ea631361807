/* golden.h: what a model computes, stored beside it (golden.safetensors), and a way to run the model over it in any chunks. */
#ifndef STEER_TEST_GOLDEN_H
#define STEER_TEST_GOLDEN_H

#include "check.h"

#include "file/weights.h"
#include "model/forward.h"

#include <dirent.h>
#include <sys/stat.h>

enum {
    SEQUENCES = 2,
    BLOCKS_EACH = 4,
    POSITIONS = BLOCKS_EACH * STEER_KV_BLOCK,
    PADDING = 2,
    MOST_LAYERS = 64
};
enum { MOST_ROWS = SEQUENCES * POSITIONS + PADDING };

typedef struct golden_file {
    steer_weights *file;
    int64_t length, vocab, hidden, steps; /* of the ids, and of the greedy continuation */
    const int64_t *ids, *greedy;          /* [2, length], [2, steps] */
    const float *logits, *margin, *last;  /* [2, length, vocab], [2, steps], [2, vocab] */
    const float *states[MOST_LAYERS];     /* [2, length, hidden] */
} golden_file;

static inline const void *golden_tensor(const golden_file *golden, const char *name) {
    const steer_weight *weight = steer_weights_find(golden->file, name);
    CHECK(weight != NULL);
    return weight ? weight->data : NULL;
}

static inline void golden_open(golden_file *out, const char *folder, int32_t layers) {
    char path[600], name[32];
    snprintf(path, sizeof path, "%s/golden.safetensors", folder);
    CHECK_OK(steer_weights_open(&out->file, path));
    out->length = steer_weights_find(out->file, "ids")->shape[1];
    out->steps = steer_weights_find(out->file, "greedy")->shape[1];
    out->vocab = steer_weights_find(out->file, "logits")->shape[2];
    out->hidden = steer_weights_find(out->file, "hidden.0")->shape[2];
    out->ids = golden_tensor(out, "ids");
    out->greedy = golden_tensor(out, "greedy");
    out->logits = golden_tensor(out, "logits");
    out->margin = golden_tensor(out, "margin");
    out->last = golden_tensor(out, "full_logits_last");
    for (int32_t i = 0; i < layers; i++) {
        snprintf(name, sizeof name, "hidden.%d", i);
        out->states[i] = golden_tensor(out, name);
    }
}

/* |a - b| / |b| */
static inline double golden_error(const float *a, const float *b, int64_t n) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(difference / (norm > 0 ? norm : 1));
}

/* ---- A model and the memory to run it in ------------------------------------------------------------------------- */

typedef struct model_runner {
    steer_model *model;
    steer_scratch scratch;
    steer_cache cache;
    int32_t *device, host[6 * MOST_ROWS + SEQUENCES * BLOCKS_EACH + 16];
    int64_t rows;  /* of the last step */
    float *logits; /* [rows, vocab] of the last step */
    float *states; /* [layers, rows, hidden] */
    int keep_states, fused;
    int apart; /* additions and norms are launched apart, as if somebody steered between them */
} model_runner;

static inline int load_model(steer_model **out, const char *path, steer_device *device, int32_t dtype) {
    const steer_model_desc desc = {.struct_size = sizeof desc, .dtype = dtype, .device = device};
    steer_loader *loader;
    double done = 0;
    STEER_TRY(steer_loader_create(&loader, path, &desc));
    int status = STEER_OK;
    while (status == STEER_OK && done < 1) status = steer_loader_step(&done, loader);
    if (status == STEER_OK) status = steer_loader_finish(out, loader);
    steer_loader_release(loader);
    return status;
}

static inline int runner_open(model_runner *out, const char *path, steer_device *device, int32_t dtype) {
    memset(out, 0, sizeof *out);
    STEER_TRY(load_model(&out->model, path, device, dtype));
    STEER_TRY(steer_scratch_create(&out->scratch, out->model, MOST_ROWS, MOST_ROWS, MOST_ROWS, POSITIONS));
    STEER_TRY(steer_cache_create(&out->cache, out->model, SEQUENCES * BLOCKS_EACH));
    STEER_TRY(steer_device_allocate(device, (void **)&out->device, sizeof out->host, "test"));
    out->logits = malloc((size_t)(MOST_ROWS * out->model->vocab) * 4);
    out->states = malloc((size_t)(out->model->layers * MOST_ROWS * out->model->hidden) * 4);
    return STEER_OK;
}

static inline void runner_close(model_runner *runner) {
    steer_device_deallocate(runner->model->device, runner->device, sizeof runner->host);
    steer_cache_free(&runner->cache, runner->model);
    steer_scratch_free(&runner->scratch, runner->model);
    steer_model_release(runner->model);
    free(runner->logits);
    free(runner->states);
}

static inline int runner_read(void *context, int32_t layer, steer_site site, void *x) {
    model_runner *runner = context;
    const steer_device *device = runner->model->device;
    const int64_t hidden = runner->model->hidden, n = runner->rows * hidden;
    if (site != STEER_SITE_LAYER) return STEER_OK;
    float *to = runner->states + layer * MOST_ROWS * hidden;
    STEER_TRY(
        device->backend->download(device->state, to, x, (size_t)n * steer_dtype_size(runner->model->dtype)));
    if (runner->model->dtype == STEER_F32) return STEER_OK;
    const uint16_t *narrow = (const uint16_t *)to; /* widened in place, from the end */
    for (int64_t i = n - 1; i >= 0; i--) {
        double wide = 0;
        if (runner->model->dtype == STEER_BF16) {
            const uint32_t bits = (uint32_t)narrow[i] << 16;
            float value;
            memcpy(&value, &bits, 4);
            wide = value;
        }
        to[i] = (float)wide;
    }
    return STEER_OK;
}

static inline int runner_reads(void *context, int32_t layer, steer_site site) {
    return ((model_runner *)context)->keep_states;
}
static inline int runner_steers(void *context, int32_t layer, steer_site site) {
    return ((model_runner *)context)->apart;
}
static inline int runner_steer(void *context, int32_t layer, steer_site site, void *x) { return STEER_OK; }
static inline const steer_row *runner_folds(void *context, int32_t layer, steer_site site, int32_t most,
                                            int32_t *vectors) {
    return NULL;
}

static const steer_sites runner_sites = {.steers = runner_steers,
                                         .reads = runner_reads,
                                         .steer = runner_steer,
                                         .read = runner_read,
                                         .folds = runner_folds};

/* Rows `count` of sequences from..to: ids [sequence * stride + start ...] at positions start.. of both; padding behind them. */
static inline int runner_step(model_runner *runner, int from, int to, const int32_t *ids, int64_t stride,
                              int64_t start, int64_t count) {
    const steer_device *device = runner->model->device;
    int32_t *host = runner->host, at = 0;
    enum { IDS, SEQUENCE, POSITION, SLOT, OUTPUT, LISTS };
    int32_t *first = host + LISTS * MOST_ROWS, *blocks = first + SEQUENCES + 1,
            *last = blocks + SEQUENCES * BLOCKS_EACH;
    for (int s = 0; s < SEQUENCES; s++) {
        first[s] = at;
        last[s] = 0;
        for (int b = 0; b < BLOCKS_EACH; b++)
            blocks[s * BLOCKS_EACH + b] = (BLOCKS_EACH - 1 - b) * SEQUENCES + s;
        for (int64_t i = 0; s >= from && s < to && i < count; i++, at++) {
            const int32_t p = (int32_t)(start + i);
            host[IDS * MOST_ROWS + at] = ids[s * stride + p];
            host[SEQUENCE * MOST_ROWS + at] = s;
            host[POSITION * MOST_ROWS + at] = p;
            host[SLOT * MOST_ROWS + at] =
                blocks[s * BLOCKS_EACH + p / STEER_KV_BLOCK] * STEER_KV_BLOCK + p % STEER_KV_BLOCK;
            host[OUTPUT * MOST_ROWS + at] = at;
        }
    }
    first[SEQUENCES] = at;
    for (int i = 0; i < PADDING; i++, at++)
        for (int list = 0; list < LISTS; list++) host[list * MOST_ROWS + at] = list == IDS ? 0 : -1;
    runner->rows = at;
    int32_t *d = runner->device;
    STEER_TRY(device->backend->upload(device->state, d, host, sizeof runner->host));
    const steer_rows rows = {.rows = at,
                             .ids = d,
                             .last = d + (last - host),
                             .sequence = d + SEQUENCE * MOST_ROWS,
                             .positions = d + POSITION * MOST_ROWS,
                             .slots = d + SLOT * MOST_ROWS,
                             .sequences = SEQUENCES,
                             .first = d + (first - host),
                             .blocks = d + (blocks - host),
                             .blocks_stride = BLOCKS_EACH,
                             .most_rows = count,
                             .most_context = start + count};
    const steer_step step = {.rows = &rows,
                             .start = -1,
                             .cache = &runner->cache,
                             .sites = runner->fused ? NULL : &runner_sites,
                             .context = runner,
                             .outputs = at,
                             .output = d + OUTPUT * MOST_ROWS};
    STEER_TRY(steer_forward(runner->model, &runner->scratch, &step));
    return device->backend->download(device->state, runner->logits, runner->scratch.logits,
                                     (size_t)(at * runner->model->vocab) * 4);
}

#endif
