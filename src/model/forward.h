/* forward.h: one step of a model over rows of tokens: embeds them, runs the layers, steers at the sites, yields logits. */
#ifndef STEER_MODEL_FORWARD_H
#define STEER_MODEL_FORWARD_H

#include "model/model.h"

/* Buffers of a step of at most `rows` rows, of which at most `outputs` yield logits: device memory, made once. */
typedef struct steer_scratch {
    int64_t rows, outputs;
    void *x, *normed, *qkv, *mixed, *gate_up, *act, *y; /* [rows, ...] of the model's dtype */
    void *last;                                         /* [outputs, hidden] */
    float *logits;                                      /* [outputs, vocab] */
    void *work;                                         /* of attention and mixtures */
    void *memory;                                       /* that all of them lie in */
    size_t bytes;
} steer_scratch;

/* The KV cache: of layer l, keys[l] and values[l], [blocks, kv_heads, STEER_KV_BLOCK, head_dim]. */
typedef struct steer_cache {
    int32_t blocks;
    void **keys, **values; /* [layers] */
    void *memory;
    size_t bytes;
} steer_cache;

/* What happens where the residual stream x [rows, hidden] is at a site of a layer (0 for EMBED). */
typedef struct steer_sites {
    /* 1 if somebody steers there, and if somebody reads x there. */
    int (*steers)(void *context, int32_t layer, steer_site site);
    int (*reads)(void *context, int32_t layer, steer_site site);
    int (*steer)(void *context, int32_t layer, steer_site site, void *x);
    int (*read)(void *context, int32_t layer, steer_site site, void *x);
    /* The row table if all that steers there can be done with the addition before the site: programs of at most `most` vectors, of how
     * many in *vectors, or folded adds alone; else NULL. */
    const steer_row *(*folds)(void *context, int32_t layer, steer_site site, int32_t most, int32_t *vectors);
} steer_sites;

typedef struct steer_step {
    const steer_rows *rows;
    const steer_cache *cache;
    const steer_sites *sites; /* NULL: nobody looks at the residual stream */
    void *context;            /* of its functions */
    int stops;                /* 1: an interrupt ends it between layers; it can be run again */
    const float *states;   /* NULL; or states [any, hidden] with which the rows begin after layer `start` */
    const int32_t *origin; /* [rows] device memory, their rows of states */
    int32_t start;
    int64_t outputs;       /* rows that yield logits */
    const int32_t *output; /* [outputs] device memory, their indices; -1: padding */
} steer_step;

/* `sequences`: most in a step; `context`: most positions of one. */
int steer_scratch_create(steer_scratch *out, const steer_model *model, int64_t rows, int32_t sequences,
                         int64_t outputs, int64_t context);
void steer_scratch_free(steer_scratch *scratch, const steer_model *model);
/* Of the keys, or the values, of a layer in one block. */
size_t steer_cache_block_bytes(const steer_model *model, int32_t layer);
size_t steer_cache_bytes(const steer_model *model, int32_t blocks);
int steer_cache_create(steer_cache *out, const steer_model *model, int32_t blocks);
void steer_cache_free(steer_cache *cache, const steer_model *model);

/* Runs the step; logits (scaled and capped, f32) of `output` are in scratch->logits. Issues work and waits for nothing. */
int steer_forward(const steer_model *model, const steer_scratch *scratch, const steer_step *step);

#endif
