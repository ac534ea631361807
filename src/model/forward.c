/* forward.c: how a token travels: embedding, then per layer attention and mlp with their norms around the residual stream, then
 * logits of the rows that are asked for. What differs between families stands in the records of model.h. */
#include "model/forward.h"

#include "core/interrupt.h"
#include "model/head.h"

#include <stdlib.h>
#include <string.h>

/* What the functions below work on. */
typedef struct run {
    const steer_model *model;
    const steer_model_ops *ops;
    void *device;
    const steer_scratch *scratch;
    const steer_step *step;
    int64_t rows;
    int fused; /* norms are taken, activations made and sums added by the products beside them */
} run;

static void *element(void *data, steer_dtype dtype, int64_t index) {
    return (char *)data + index * (int64_t)steer_dtype_size(dtype);
}

/* ---- The residual stream --------------------------------------------------------------------------------------- */

/* Programs that are run with the addition; table NULL: none. */
typedef struct folded {
    const steer_row *table;
    int32_t layer, vectors;
} folded;

/* Waits for sums that were captured of the stream. */
static int join(const run *r) { return r->ops->join ? r->ops->join(r->device) : STEER_OK; }

/* x += y with a norm of y before it, then what is folded into it, then `next` of x into scratch->normed; `ahead` is what is
 * folded into the addition after it. y NULL: there is none, or it was added. */
static int add(const run *r, const void *y, steer_norm post, steer_norm next, folded programs, folded ahead) {
    steer_residual args = {.rows = r->rows,
                           .hidden = r->model->hidden,
                           .dtype = r->model->dtype,
                           .x = r->scratch->x,
                           .y = y,
                           .post = post,
                           .multiplier = r->model->residual_multiplier,
                           .next = next,
                           .out = r->scratch->normed,
                           .table = programs.table,
                           .layer = programs.layer,
                           .vectors = programs.vectors,
                           .ahead = ahead.table,
                           .ahead_layer = ahead.layer};
    if (r->fused) args.next.kind = STEER_NORM_NONE;
    STEER_TRY(join(r)); /* the stream is written */
    return y || programs.table || args.next.kind ? r->ops->residual(r->device, &args) : STEER_OK;
}

/* The programs at a steered site if they can be: adds alone always, others where products do not take the norm themselves. */
static folded fold(const run *r, int32_t layer, steer_site site) {
    const steer_sites *sites = r->step->sites;
    folded programs = {.layer = layer};
    if (!r->ops->steers) return programs;
    const int32_t most = r->fused ? 0 : r->ops->steers(r->device, r->model->dtype, r->model->hidden);
    programs.table = sites->folds(r->step->context, layer, site, most, &programs.vectors);
    return programs;
}

/* What is folded into the addition at the end of the layer, where that lies far enough ahead to be asked for. */
static folded fold_ahead(const run *r, int32_t layer) {
    const int steers = !r->fused && r->step->sites->steers(r->step->context, layer, STEER_SITE_LAYER);
    return steers ? fold(r, layer, STEER_SITE_LAYER) : (folded){0};
}

/* The same with a site between the sum and the next norm: one launch where nothing happens there, or what does can be folded. */
static int add_at(const run *r, int32_t layer, steer_site site, const void *y, steer_norm post,
                  steer_norm next) {
    const steer_sites *sites = r->step->sites;
    void *context = r->step->context;
    const folded none = {0};
    if (!sites) return add(r, y, post, next, none, none);
    const int steers = sites->steers(context, layer, site), reads = sites->reads(context, layer, site);
    const folded programs = steers ? fold(r, layer, site) : none,
                 ahead = site == STEER_SITE_ATTENTION ? fold_ahead(r, layer) : none;
    if (!steers || programs.table) {
        STEER_TRY(add(r, y, post, next, programs, ahead));
    } else {
        STEER_TRY(add(r, y, post, (steer_norm){0}, none, none));
        STEER_TRY(sites->steer(context, layer, site, r->scratch->x));
        STEER_TRY(add(r, NULL, (steer_norm){0}, next, none, none));
    }
    return reads ? sites->read(context, layer, site, r->scratch->x) : STEER_OK;
}

static steer_linear linear_of(const run *r, const steer_dense *dense, const void *x, void *y) {
    return (steer_linear){.rows = r->rows,
                          .in = dense->in,
                          .out = dense->out,
                          .dtype = r->model->dtype,
                          .x = x,
                          .x_stride = dense->in,
                          .weight = dense->weight,
                          .bias = dense->bias,
                          .y = y,
                          .y_dtype = r->model->dtype,
                          .y_stride = dense->out,
                          .reproducible = r->step->rows->reproducible};
}

/* y of the normed residual stream: which is in scratch->normed, unless the product takes the norm itself. */
static int linear_in(const run *r, const steer_dense *dense, steer_norm norm, void *y) {
    const int stands = r->fused || !norm.kind;
    steer_linear args = linear_of(r, dense, stands ? r->scratch->x : r->scratch->normed, y);
    if (r->fused) args.norm = norm;
    return r->ops->linear(r->device, &args);
}

/* The product that ends a part of a layer: *y is what is to be added to the stream, NULL if that is done. */
static int linear_out(const run *r, const steer_dense *dense, const void *x, steer_norm post, void **y) {
    steer_linear args = linear_of(r, dense, x, r->scratch->y);
    const int adds = r->fused && !post.kind;
    if (adds) {
        STEER_TRY(join(r));
        args.stream = r->scratch->x;
        args.multiplier = r->model->residual_multiplier;
    }
    *y = adds ? NULL : r->scratch->y;
    return r->ops->linear(r->device, &args);
}

/* Whether the products of a step's rows take norms, make activations and add to the stream. */
static int fuses(const run *r) {
    const steer_model *model = r->model;
    if (!r->ops->fuses || r->step->rows->reproducible) return 0;
    for (int32_t l = 0; l < model->layers; l++) {
        const steer_layer *layer = &model->layer[l];
        const steer_dense *dense[] = {&layer->qkv, &layer->o, &layer->mlp.up, &layer->mlp.down};
        for (int i = 0; i < 4; i++) {
            steer_linear args = linear_of(r, dense[i], r->scratch->x, r->scratch->x);
            if (i % 2 == 0) args.norm = i ? layer->mlp_in : layer->attn_in;
            args.glu = i == 2 && layer->mlp.glu;
            if (dense[i]->weight && !r->ops->fuses(r->device, &args)) return 0;
        }
    }
    return 1;
}

/* ---- Attention ------------------------------------------------------------------------------------------------- */

/* Norms of q or k that are not those of the rotation: over all heads, or with a weight for each head. */
static int norm_heads(const run *r, const steer_layer *layer, steer_norm norm, int32_t first, int32_t heads) {
    if (!norm.kind || layer->norm_scope < 2) return STEER_OK;
    const int64_t size = (int64_t)heads * layer->head_dim, width = layer->heads + 2 * layer->kv_heads;
    const int flat = layer->norm_scope == 2;
    const steer_norm_parts args = {
        .rows = r->rows,
        .stride = width * layer->head_dim,
        .parts = flat ? 1 : heads,
        .size = flat ? size : layer->head_dim,
        .dtype = r->model->dtype,
        .x = element(r->scratch->qkv, r->model->dtype, (int64_t)first * layer->head_dim),
        .norm = norm,
        .distinct = !flat};
    return r->ops->norm_parts(r->device, &args);
}

static int attention(const run *r, int32_t l, void **y) {
    const steer_model *model = r->model;
    const steer_layer *layer = &model->layer[l];
    const steer_norm none = {0};
    STEER_TRY(linear_in(r, &layer->qkv, layer->attn_in, r->scratch->qkv));
    STEER_TRY(norm_heads(r, layer, layer->q_norm, 0, layer->heads));
    STEER_TRY(norm_heads(r, layer, layer->k_norm, layer->heads, layer->kv_heads));
    const steer_rope_table *table = layer->rope >= 0 ? &model->ropes[layer->rope] : NULL;
    const steer_rope rope = {.rows = r->step->rows,
                             .dtype = model->dtype,
                             .heads = layer->heads,
                             .kv_heads = layer->kv_heads,
                             .head_dim = layer->head_dim,
                             .qkv = r->scratch->qkv,
                             .q_norm = layer->norm_scope == 1 ? layer->q_norm : none,
                             .k_norm = layer->norm_scope == 1 ? layer->k_norm : none,
                             .table = table ? table->table : NULL,
                             .rotary = table ? table->rotary : 0,
                             .interleaved = layer->interleaved,
                             .keys = r->step->cache->keys[l],
                             .values = r->step->cache->values[l]};
    const steer_attention args = {.rows = r->step->rows,
                                  .dtype = model->dtype,
                                  .heads = layer->heads,
                                  .kv_heads = layer->kv_heads,
                                  .head_dim = layer->head_dim,
                                  .qkv = r->scratch->qkv,
                                  .keys = rope.keys,
                                  .values = rope.values,
                                  .scale = layer->scale,
                                  .softcap = layer->softcap,
                                  .window = layer->window,
                                  .out = r->scratch->mixed,
                                  .work = r->scratch->work,
                                  .rope = &rope};
    STEER_TRY(r->ops->attention(r->device, &args));
    return linear_out(r, &layer->o, r->scratch->mixed, layer->attn_out, y);
}

/* ---- MLP ------------------------------------------------------------------------------------------------------- */

static int mixture(const run *r, const steer_mlp *mlp, steer_norm norm) {
    if (r->fused && norm.kind) {
        const steer_residual args = {.rows = r->rows,
                                     .hidden = r->model->hidden,
                                     .dtype = r->model->dtype,
                                     .x = r->scratch->x,
                                     .next = norm,
                                     .out = r->scratch->normed};
        STEER_TRY(r->ops->residual(r->device, &args));
    }
    const steer_mixture args = {.rows = r->rows,
                                .hidden = r->model->hidden,
                                .size = mlp->expert_size,
                                .dtype = r->model->dtype,
                                .act = mlp->act,
                                .experts = mlp->experts,
                                .top_k = mlp->top_k,
                                .renormalize = mlp->renormalize,
                                .reproducible = r->step->rows->reproducible,
                                .x = norm.kind ? r->scratch->normed : r->scratch->x,
                                .router = mlp->router,
                                .gate_up = mlp->experts_gate_up,
                                .down = mlp->experts_down,
                                .y = r->scratch->y,
                                .work = r->scratch->work};
    return r->ops->mixture(r->device, &args);
}

/* act(gate) * up, or act(x), of the normed stream, into scratch->act. */
static int mlp_in(const run *r, const steer_mlp *mlp, steer_norm norm) {
    if (r->fused && mlp->glu) {
        steer_linear args = linear_of(r, &mlp->up, r->scratch->x, r->scratch->act);
        args.norm = norm;
        args.glu = 1;
        args.act = mlp->act;
        args.y_stride = mlp->down.in;
        return r->ops->linear(r->device, &args);
    }
    STEER_TRY(linear_in(r, &mlp->up, norm, r->scratch->gate_up));
    const steer_activate args = {.rows = r->rows,
                                 .size = mlp->down.in,
                                 .dtype = r->model->dtype,
                                 .act = mlp->act,
                                 .glu = mlp->glu,
                                 .x = r->scratch->gate_up,
                                 .out = r->scratch->act};
    return r->ops->activate(r->device, &args);
}

/* ---- A layer --------------------------------------------------------------------------------------------------- */

/* Attention and mlp one after the other. */
static int run_in_turn(const run *r, int32_t l, void **y) {
    const steer_layer *layer = &r->model->layer[l];
    STEER_TRY(attention(r, l, y));
    STEER_TRY(add_at(r, l, STEER_SITE_ATTENTION, *y, layer->attn_out, layer->mlp_in));
    *y = r->scratch->y;
    if (layer->mlp.experts) return mixture(r, &layer->mlp, layer->mlp_in);
    STEER_TRY(mlp_in(r, &layer->mlp, layer->mlp_in));
    return linear_out(r, &layer->mlp.down, r->scratch->act, layer->mlp_out, y);
}

/* Both of the stream as it was before them; without a norm of its own the mlp shares that of the attention. */
static int run_in_parallel(const run *r, int32_t l, void **y) {
    const steer_layer *layer = &r->model->layer[l];
    const steer_norm none = {0}, norm = layer->mlp_in.kind ? layer->mlp_in : layer->attn_in;
    void *mixed = r->scratch->y;
    if (r->fused) {
        STEER_TRY(mlp_in(r, &layer->mlp, norm));
        STEER_TRY(attention(r, l, &mixed));
    } else {
        STEER_TRY(attention(r, l, &mixed));
        STEER_TRY(add(r, NULL, none, layer->mlp_in, (folded){0}, (folded){0}));
        STEER_TRY(mlp_in(r, &layer->mlp, norm));
    }
    STEER_TRY(add(r, mixed, layer->attn_out, none, (folded){0}, (folded){0}));
    return linear_out(r, &layer->mlp.down, r->scratch->act, layer->mlp_out, y);
}

/* The norm that the next layer takes of the stream; NONE after the last one. */
static steer_norm norm_after(const run *r, int32_t l) {
    return l + 1 < r->model->layers ? r->model->layer[l + 1].attn_in : (steer_norm){0};
}

/* At its start scratch->normed holds attn_in of x, where there is such a norm and nothing is fused; at its end that of the next
 * layer. */
static int run_layer(const run *r, int32_t l) {
    const steer_layer *layer = &r->model->layer[l];
    void *y;
    STEER_TRY(layer->parallel ? run_in_parallel(r, l, &y) : run_in_turn(r, l, &y));
    return add_at(r, l, STEER_SITE_LAYER, y, layer->mlp_out, norm_after(r, l));
}

/* In place of the embedding and the layers up to `start`: the stream after that layer, as it was kept. */
static int resume(const run *r) {
    const int32_t start = r->step->start;
    const steer_gather gather = {.count = r->rows,
                                 .hidden = r->model->hidden,
                                 .dtype = STEER_F32,
                                 .x = r->step->states,
                                 .index = r->step->origin,
                                 .out = r->scratch->x,
                                 .out_dtype = r->model->dtype};
    STEER_TRY(r->ops->gather(r->device, &gather));
    return add_at(r, start, STEER_SITE_LAYER, NULL, (steer_norm){0}, norm_after(r, start));
}

static int embed(const run *r) {
    const steer_model *model = r->model;
    const steer_embed args = {.rows = r->step->rows,
                              .dtype = model->dtype,
                              .hidden = model->hidden,
                              .table = model->embed,
                              .places = model->places,
                              .scale = model->embed_scale,
                              .out = r->scratch->x};
    STEER_TRY(r->ops->embed(r->device, &args));
    if (model->embed_norm.kind) {
        const steer_norm_parts norm = {.rows = r->rows,
                                       .stride = model->hidden,
                                       .parts = 1,
                                       .size = model->hidden,
                                       .dtype = model->dtype,
                                       .x = r->scratch->x,
                                       .norm = model->embed_norm};
        STEER_TRY(r->ops->norm_parts(r->device, &norm));
    }
    return add_at(r, 0, STEER_SITE_EMBED, NULL, (steer_norm){0}, model->layer[0].attn_in);
}

static int logits(const run *r) {
    const steer_model *model = r->model;
    const steer_gather gather = {.count = r->step->outputs,
                                 .hidden = model->hidden,
                                 .dtype = model->dtype,
                                 .x = r->scratch->x,
                                 .index = r->step->output,
                                 .out = r->scratch->last,
                                 .out_dtype = model->dtype};
    STEER_TRY(r->ops->gather(r->device, &gather));
    return steer_head(model, r->scratch->last, gather.count, r->scratch->logits, r->step->rows->reproducible);
}

static int run_step(const run *r) {
    const steer_step *step = r->step;
    STEER_TRY(step->states ? resume(r) : embed(r));
    for (int32_t l = step->states ? step->start + 1 : 0; l < r->model->layers; l++) {
        if (step->stops && steer_interrupt_take()) return STEER_FAIL(STEER_E_INTERRUPTED, "interrupted");
        STEER_TRY(run_layer(r, l));
    }
    return step->outputs ? logits(r) : STEER_OK;
}

int steer_forward(const steer_model *model, const steer_scratch *scratch, const steer_step *step) {
    run r = {model, model->ops, model->device->state, scratch, step, step->rows->rows, 0};
    r.fused = fuses(&r);
    const int status = run_step(&r);
    STEER_TRY(join(&r)); /* whatever became of it: its memory is somebody else's from now on */
    return status;
}

/* ---- Buffers --------------------------------------------------------------------------------------------------- */

/* Bytes that attention and mixtures work in, for steps of at most so many rows of so many sequences. */
static size_t work_bytes(const steer_model *model, int64_t rows, int32_t sequences, int64_t context) {
    const steer_rows most = {
        .rows = rows, .sequences = sequences, .most_rows = rows, .most_context = context};
    size_t bytes = 64;
    for (int32_t l = 0; l < model->layers; l++) {
        const steer_layer *layer = &model->layer[l];
        const steer_attention attention_args = {.rows = &most,
                                                .dtype = model->dtype,
                                                .heads = layer->heads,
                                                .kv_heads = layer->kv_heads,
                                                .head_dim = layer->head_dim,
                                                .window = layer->window};
        const steer_mixture mixture_args = {.rows = rows,
                                            .hidden = model->hidden,
                                            .size = layer->mlp.expert_size,
                                            .dtype = model->dtype,
                                            .experts = layer->mlp.experts,
                                            .top_k = layer->mlp.top_k};
        size_t need = model->ops->attention_work(model->device->state, &attention_args);
        if (need > bytes) bytes = need;
        need = layer->mlp.experts ? model->ops->mixture_work(model->device->state, &mixture_args) : 0;
        if (need > bytes) bytes = need;
    }
    return bytes;
}

int steer_scratch_create(steer_scratch *out, const steer_model *model, int64_t rows, int32_t sequences,
                         int64_t outputs, int64_t context) {
    const size_t size = steer_dtype_size(model->dtype), n = (size_t)rows,
                 hidden = n * (size_t)model->hidden * size;
    *out = (steer_scratch){.rows = rows, .outputs = outputs};
    struct {
        void **at;
        size_t bytes;
    } parts[] = {{&out->x, hidden},
                 {&out->normed, hidden},
                 {&out->y, hidden},
                 {&out->qkv, n * (size_t)model->qkv_most * size},
                 {&out->mixed, n * (size_t)model->qkv_most * size},
                 {&out->gate_up, 2 * n * (size_t)model->mlp_most * size},
                 {&out->act, n * (size_t)model->mlp_most * size},
                 {&out->last, (size_t)outputs * (size_t)model->hidden * size},
                 {(void **)&out->logits, (size_t)outputs * (size_t)model->vocab * sizeof(float)},
                 {&out->work, work_bytes(model, rows, sequences, context)}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        out->bytes += parts[i].bytes = (parts[i].bytes + 255) & ~(size_t)255;
    STEER_TRY(steer_device_allocate(model->device, &out->memory, out->bytes, "buffers of a step"));
    char *at = out->memory;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; at += parts[i++].bytes) *parts[i].at = at;
    return STEER_OK;
}

void steer_scratch_free(steer_scratch *scratch, const steer_model *model) {
    if (scratch->memory) steer_device_deallocate(model->device, scratch->memory, scratch->bytes);
    *scratch = (steer_scratch){0};
}

size_t steer_cache_block_bytes(const steer_model *model, int32_t layer) {
    const steer_layer *l = &model->layer[layer];
    return STEER_KV_BLOCK * (size_t)l->kv_heads * (size_t)l->head_dim * steer_dtype_size(model->dtype);
}

/* Bytes of the keys, or the values, of one layer. */
static size_t side_bytes(const steer_model *model, int32_t layer, int32_t blocks) {
    return ((size_t)blocks * steer_cache_block_bytes(model, layer) + 255) & ~(size_t)255;
}

size_t steer_cache_bytes(const steer_model *model, int32_t blocks) {
    size_t bytes = 0;
    for (int32_t l = 0; l < model->layers; l++) bytes += 2 * side_bytes(model, l, blocks);
    return bytes;
}

int steer_cache_create(steer_cache *out, const steer_model *model, int32_t blocks) {
    *out = (steer_cache){.blocks = blocks, .bytes = steer_cache_bytes(model, blocks)};
    out->keys = malloc(2 * (size_t)model->layers * sizeof *out->keys);
    if (!out->keys)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "KV cache: no host memory for %d layers", model->layers);
    out->values = out->keys + model->layers;
    STEER_TRY(steer_device_allocate(model->device, &out->memory, out->bytes, "KV cache"));
    char *at = out->memory;
    for (int32_t l = 0; l < model->layers; l++) {
        out->keys[l] = at;
        out->values[l] = at += side_bytes(model, l, blocks);
        at += side_bytes(model, l, blocks);
    }
    return STEER_OK;
}

void steer_cache_free(steer_cache *cache, const steer_model *model) {
    if (cache->memory) steer_device_deallocate(model->device, cache->memory, cache->bytes);
    free(cache->keys);
    *cache = (steer_cache){0};
}
