/* layout.c: finds a tensor for every pointer of the record and checks it. */
#include "model/layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct steer_binder {
    steer_layout *layout;
    steer_model *model;
    const steer_config *config;
    const steer_weights
        *weights;     /* NULL: there are none, and every tensor that is asked for is taken as there */
    const char *path; /* for messages */
    const char *prefix;
    int is_gguf;
} steer_binder;

/* A tensor's name in the making, and what it must be. */
typedef struct steer_wanted {
    char name[160];
    int32_t ndim;
    int64_t shape[3];
} steer_wanted;

/* ---- Names ------------------------------------------------------------------------------------------------------- */

/* What a role is called in this file; NULL: the model has none. */
static const char *role_name(const steer_binder *binder, steer_role role) {
    const steer_names family = binder->config->family->names;
    const int is_stacked = role == STEER_ROLE_EXPERTS_GATE || role == STEER_ROLE_EXPERTS_UP;
    if (!binder->is_gguf) return family[role];
    const int has = family[is_stacked ? STEER_ROLE_ROUTER : role] != NULL;
    /* llama.cpp may have put one matrix in the place of several. */
    const int fused = (role == STEER_ROLE_QKV && family[STEER_ROLE_Q]);
    return has || fused ? steer_gguf_names[role] : NULL;
}

static steer_wanted want(const steer_binder *binder, int32_t layer, steer_role role, int32_t expert,
                         const char *end) {
    steer_wanted out = {.ndim = 0};
    char part[96], whole[96] = "";
    const char *name = role_name(binder, role), *layers = role_name(binder, STEER_ROLE_LAYER);
    snprintf(part, sizeof part, name ? name : "", expert);
    if (layer >= 0) snprintf(whole, sizeof whole, layers, layer);
    snprintf(out.name, sizeof out.name, "%s%s%s%s", binder->prefix, whole, part, end);
    return out;
}

static steer_wanted shaped(steer_wanted out, int32_t ndim, int64_t a, int64_t b, int64_t c) {
    out.ndim = ndim;
    out.shape[0] = a;
    out.shape[1] = b;
    out.shape[2] = c;
    return out;
}

static steer_weight *find(const steer_binder *binder, const steer_wanted *wanted) {
    return binder->weights ? steer_weights_find(binder->weights, wanted->name) : NULL;
}

static const char *shape_text(char *buffer, size_t size, const steer_wanted *wanted) {
    size_t at = (size_t)snprintf(buffer, size, "[");
    for (int32_t i = 0; i < wanted->ndim; i++)
        at += (size_t)snprintf(buffer + at, size - at, "%s%lld", i ? ", " : "", (long long)wanted->shape[i]);
    snprintf(buffer + at, size - at, "]");
    return buffer;
}

/* The tensor, which must be there, of the shape and with weights. */
static int need(const steer_binder *binder, const steer_wanted *wanted, steer_weight **out) {
    char expected[80], found[160];
    steer_weight *weight = find(binder, wanted);
    *out = weight;
    if (!binder->weights) return STEER_OK;
    shape_text(expected, sizeof expected, wanted);
    if (!weight)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: missing, expected %s", binder->path, wanted->name,
                          expected);
    int same = weight->ndim == wanted->ndim;
    for (int32_t i = 0; same && i < weight->ndim; i++) same = weight->shape[i] == wanted->shape[i];
    if (!same)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: shape %s, expected %s", weight->file, wanted->name,
                          steer_weight_shape_text(found, sizeof found, weight), expected);
    const steer_format_traits *format = &steer_format_table[weight->format];
    if (!format->widen || weight->format == STEER_FORMAT_F64)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: tensor %s: dtype %s, expected F32, F16 or BF16%s",
                          weight->file, wanted->name, format->name,
                          binder->is_gguf ? " or blocks of them" : "");
    if (weight->shape[weight->ndim - 1] % format->block != 0)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: rows of %lld elements in blocks of %d",
                          weight->file, wanted->name, (long long)weight->shape[weight->ndim - 1],
                          format->block);
    weight->used = 1;
    return STEER_OK;
}

/* ---- Targets ----------------------------------------------------------------------------------------------------- */

static int grow(void **array, int32_t count, int32_t *room, size_t size) {
    if (count < *room) return STEER_OK;
    const int32_t more = *room ? 2 * *room : 256;
    void *bigger = realloc(*array, (size_t)more * size);
    if (!bigger)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "model: no host memory for the list of its tensors");
    *array = bigger;
    *room = more;
    return STEER_OK;
}

static int add_target(steer_binder *binder, const void **pointer, steer_dtype dtype, int64_t rows,
                      int64_t width, steer_target **out) {
    enum { ALIGN = 256 };
    steer_layout *layout = binder->layout;
    STEER_TRY(
        grow((void **)&layout->targets, layout->target_count, &layout->target_room, sizeof(steer_target)));
    steer_target *target = &layout->targets[layout->target_count++];
    *target = (steer_target){.pointer = pointer,
                             .offset = layout->bytes,
                             .dtype = dtype,
                             .rows = rows,
                             .width = width,
                             .first_piece = layout->piece_count};
    layout->bytes += ((size_t)(rows * width) * steer_dtype_size(dtype) + ALIGN - 1) / ALIGN * ALIGN;
    if (out) *out = target;
    return STEER_OK;
}

static steer_target *last_target(const steer_binder *binder) {
    return &binder->layout->targets[binder->layout->target_count - 1];
}

/* Rows of a tensor for the target made last. */
static int add_piece(steer_binder *binder, const steer_weight *from, int64_t first, int64_t rows,
                     int64_t at) {
    steer_layout *layout = binder->layout;
    STEER_TRY(grow((void **)&layout->pieces, layout->piece_count, &layout->piece_room, sizeof(steer_piece)));
    layout->pieces[layout->piece_count++] = (steer_piece){from, first, rows, at};
    last_target(binder)->pieces++;
    return STEER_OK;
}

/* Part of a target: all rows of one tensor, [rows, width], or [rows] for a bias (width 0). */
static int add_whole(steer_binder *binder, steer_wanted wanted, int64_t rows, int64_t width, int64_t at) {
    steer_weight *weight;
    const int transposed = width && last_target(binder)->transposed;
    wanted = transposed ? shaped(wanted, 2, width, rows, 0) : shaped(wanted, width ? 2 : 1, rows, width, 0);
    STEER_TRY(need(binder, &wanted, &weight));
    return add_piece(binder, weight, 0, rows, at);
}

/* ---- Norms ------------------------------------------------------------------------------------------------------- */

static int bind_vector(steer_binder *binder, const float **pointer, steer_wanted wanted, int64_t size,
                       int one_plus) {
    steer_target *target;
    STEER_TRY(add_target(binder, (const void **)pointer, STEER_F32, size, 1, &target));
    target->one_plus = one_plus;
    return add_whole(binder, wanted, size, 0, 0);
}

static int bind_norm(steer_binder *binder, steer_norm *norm, int32_t layer, steer_role role, int64_t size) {
    const steer_family *family = binder->config->family;
    const int one_plus = family->traits & STEER_TRAIT_ONE_PLUS && !binder->is_gguf;
    if (norm->kind == STEER_NORM_NONE || family->traits & STEER_TRAIT_NO_WEIGHT) return STEER_OK;
    STEER_TRY(bind_vector(binder, &norm->weight, want(binder, layer, role, 0, ".weight"), size, one_plus));
    last_target(binder)->is_norm = 1;
    if (!(family->bias & STEER_BIAS_NORM)) return STEER_OK;
    return bind_vector(binder, &norm->bias, want(binder, layer, role, 0, ".bias"), size, 0);
}

/* A norm with a weight for each head: one tensor [heads, size], or one for each head. */
static int bind_head_norms(steer_binder *binder, steer_norm *norm, int32_t layer, steer_role role,
                           int64_t heads, int64_t size) {
    steer_wanted whole = want(binder, layer, role, 0, ".weight");
    steer_weight *weight;
    STEER_TRY(add_target(binder, (const void **)&norm->weight, STEER_F32, heads, size, NULL));
    last_target(binder)->is_norm = 1;
    if (find(binder, &whole)) return add_whole(binder, whole, heads, size, 0);
    for (int64_t head = 0; head < heads; head++) {
        char end[40];
        snprintf(end, sizeof end, ".norms.%lld.weight", (long long)head);
        const steer_wanted one = shaped(want(binder, layer, role, 0, end), 1, size, 0, 0);
        STEER_TRY(need(binder, &one, &weight));
        STEER_TRY(add_piece(binder, weight, 0, 1, head));
    }
    return STEER_OK;
}

static int bind_qk_norms(steer_binder *binder, steer_layer *layer, int32_t i) {
    const int64_t heads = layer->heads, kv_heads = layer->kv_heads, dim = layer->head_dim;
    if (layer->norm_scope == 3) {
        STEER_TRY(bind_head_norms(binder, &layer->q_norm, i, STEER_ROLE_Q_NORM, heads, dim));
        return bind_head_norms(binder, &layer->k_norm, i, STEER_ROLE_K_NORM, kv_heads, dim);
    }
    const int flat = layer->norm_scope == 2;
    STEER_TRY(bind_norm(binder, &layer->q_norm, i, STEER_ROLE_Q_NORM, flat ? heads * dim : dim));
    return bind_norm(binder, &layer->k_norm, i, STEER_ROLE_K_NORM, flat ? kv_heads * dim : dim);
}

/* ---- Matrices ---------------------------------------------------------------------------------------------------- */

/* 1 if linear layers of this kind have biases: config.json says so, in a GGUF file they are there or not. */
static int has_bias(const steer_binder *binder, int32_t layer, steer_role role, int bit) {
    const steer_wanted bias = want(binder, layer, role, 0, ".bias");
    if (binder->is_gguf) return role_name(binder, role) && find(binder, &bias);
    return (binder->config->fields.bias & bit) != 0;
}

static int start_dense(steer_binder *binder, steer_dense *dense, int64_t out, int64_t in) {
    steer_target *target;
    dense->in = in;
    dense->out = out;
    STEER_TRY(add_target(binder, &dense->weight, binder->model->dtype, out, in, &target));
    target->transposed = binder->config->family->traits & STEER_TRAIT_TRANSPOSED && !binder->is_gguf;
    return STEER_OK;
}

static int bind_bias(steer_binder *binder, steer_dense *dense, steer_wanted wanted) {
    STEER_TRY(add_target(binder, &dense->bias, binder->model->dtype, dense->out, 1, NULL));
    return add_whole(binder, wanted, dense->out, 0, 0);
}

static int bind_dense(steer_binder *binder, steer_dense *dense, int32_t layer, steer_role role, int64_t out,
                      int64_t in, int bias) {
    STEER_TRY(start_dense(binder, dense, out, in));
    STEER_TRY(add_whole(binder, want(binder, layer, role, 0, ".weight"), out, in, 0));
    if (!has_bias(binder, layer, role, bias)) return STEER_OK;
    return bind_bias(binder, dense, want(binder, layer, role, 0, ".bias"));
}

/* One matrix from those of several roles, one below the other. */
static int stack(steer_binder *binder, int32_t layer, const char *end, int64_t width, const steer_role *roles,
                 const int64_t *rows, int count) {
    int64_t at = 0;
    for (int i = 0; i < count; at += rows[i++])
        STEER_TRY(add_whole(binder, want(binder, layer, roles[i], 0, end), rows[i], width, at));
    return STEER_OK;
}

static int bind_stacked(steer_binder *binder, steer_dense *dense, int32_t layer, int64_t in,
                        const steer_role *roles, const int64_t *rows, int count, int bias) {
    int64_t out = 0;
    for (int i = 0; i < count; i++) out += rows[i];
    STEER_TRY(start_dense(binder, dense, out, in));
    STEER_TRY(stack(binder, layer, ".weight", in, roles, rows, count));
    if (!has_bias(binder, layer, roles[0], bias)) return STEER_OK;
    STEER_TRY(add_target(binder, &dense->bias, binder->model->dtype, out, 1, NULL));
    return stack(binder, layer, ".bias", 0, roles, rows, count);
}

/* q, k, v of one head after another, [heads, 3, head_dim]: sorted. */
static int sort_heads(steer_binder *binder, const steer_layer *layer, steer_wanted wanted, int64_t width) {
    const int64_t dim = layer->head_dim, heads = layer->heads;
    steer_weight *weight;
    wanted = shaped(wanted, width ? 2 : 1, 3 * heads * dim, width, 0);
    STEER_TRY(need(binder, &wanted, &weight));
    for (int64_t i = 0; i < 3 * heads; i++)
        STEER_TRY(add_piece(binder, weight, (i % heads * 3 + i / heads) * dim, dim, i * dim));
    return STEER_OK;
}

static int bind_by_head(steer_binder *binder, steer_layer *layer, int32_t i, int64_t in) {
    const int64_t out = 3 * (int64_t)layer->heads * layer->head_dim;
    STEER_TRY(start_dense(binder, &layer->qkv, out, in));
    STEER_TRY(sort_heads(binder, layer, want(binder, i, STEER_ROLE_QKV, 0, ".weight"), in));
    if (!has_bias(binder, i, STEER_ROLE_QKV, STEER_BIAS_QKV)) return STEER_OK;
    STEER_TRY(add_target(binder, &layer->qkv.bias, binder->model->dtype, out, 1, NULL));
    return sort_heads(binder, layer, want(binder, i, STEER_ROLE_QKV, 0, ".bias"), 0);
}

static int bind_attention(steer_binder *binder, steer_layer *layer, int32_t i) {
    static const steer_role roles[3] = {STEER_ROLE_Q, STEER_ROLE_K, STEER_ROLE_V};
    const int64_t q = (int64_t)layer->heads * layer->head_dim,
                  kv = (int64_t)layer->kv_heads * layer->head_dim;
    const int64_t rows[3] = {q, kv, kv}, in = binder->model->hidden;
    const steer_family *family = binder->config->family;
    const steer_wanted fused = want(binder, i, STEER_ROLE_QKV, 0, ".weight");
    const int is_one =
        role_name(binder, STEER_ROLE_QKV) && (!family->names[STEER_ROLE_Q] || find(binder, &fused));
    if (is_one && family->traits & STEER_TRAIT_BY_HEAD && !binder->is_gguf)
        STEER_TRY(bind_by_head(binder, layer, i, in));
    else if (is_one)
        STEER_TRY(bind_dense(binder, &layer->qkv, i, STEER_ROLE_QKV, q + 2 * kv, in, STEER_BIAS_QKV));
    else
        STEER_TRY(bind_stacked(binder, &layer->qkv, i, in, roles, rows, 3, STEER_BIAS_QKV));
    STEER_TRY(bind_dense(binder, &layer->o, i, STEER_ROLE_O, in, q, STEER_BIAS_O));
    return layer->norm_scope ? bind_qk_norms(binder, layer, i) : STEER_OK;
}

static int bind_mlp(steer_binder *binder, steer_mlp *mlp, int32_t i) {
    static const steer_role roles[2] = {STEER_ROLE_GATE, STEER_ROLE_UP};
    const int64_t in = binder->model->hidden, size = binder->config->fields.mlp_size;
    const int64_t rows[2] = {size, size};
    if (mlp->glu && binder->config->family->names[STEER_ROLE_GATE_UP])
        STEER_TRY(bind_dense(binder, &mlp->up, i, STEER_ROLE_GATE_UP, 2 * size, in, STEER_BIAS_MLP));
    else if (mlp->glu)
        STEER_TRY(bind_stacked(binder, &mlp->up, i, in, roles, rows, 2, STEER_BIAS_MLP));
    else
        STEER_TRY(bind_dense(binder, &mlp->up, i, STEER_ROLE_UP, size, in, STEER_BIAS_MLP));
    return bind_dense(binder, &mlp->down, i, STEER_ROLE_DOWN, in, size, STEER_BIAS_MLP);
}

/* ---- Mixtures ---------------------------------------------------------------------------------------------------- */

/* Rows of every expert, [rows, width] each, from one tensor of all or one for each, to every `step`-th row from `at` on. */
static int add_experts(steer_binder *binder, int32_t layer, steer_role all, steer_role each, int64_t experts,
                       int64_t rows, int64_t width, int64_t step, int64_t at) {
    const char *const ends[2] = {".weight", ""}; /* transformers' parameters of all experts have no ending */
    steer_weight *weight;
    for (int i = 0; i < 2 && role_name(binder, all); i++) {
        const steer_wanted one = shaped(want(binder, layer, all, 0, ends[i]), 3, experts, rows, width);
        if (!find(binder, &one)) continue;
        STEER_TRY(need(binder, &one, &weight));
        for (int64_t e = 0; e < experts; e++)
            STEER_TRY(add_piece(binder, weight, e * rows, rows, e * step + at));
        return STEER_OK;
    }
    for (int64_t e = 0; e < experts; e++) {
        const steer_wanted one = shaped(want(binder, layer, each, (int32_t)e, ".weight"), 2, rows, width, 0);
        STEER_TRY(need(binder, &one, &weight));
        STEER_TRY(add_piece(binder, weight, 0, rows, e * step + at));
    }
    return STEER_OK;
}

static int bind_mixture(steer_binder *binder, steer_mlp *mlp, int32_t i) {
    const steer_dtype dtype = binder->model->dtype;
    const int64_t experts = mlp->experts, size = mlp->expert_size, in = binder->model->hidden;
    const steer_wanted both = want(binder, i, STEER_ROLE_EXPERTS_GATE_UP, 0, ""),
                       named = want(binder, i, STEER_ROLE_EXPERTS_GATE_UP, 0, ".weight");
    STEER_TRY(add_target(binder, &mlp->router, dtype, experts, in, NULL));
    STEER_TRY(add_whole(binder, want(binder, i, STEER_ROLE_ROUTER, 0, ".weight"), experts, in, 0));
    STEER_TRY(add_target(binder, &mlp->experts_gate_up, dtype, experts * 2 * size, in, NULL));
    if (find(binder, &both) || find(binder, &named))
        STEER_TRY(add_experts(binder, i, STEER_ROLE_EXPERTS_GATE_UP, STEER_ROLE_EXPERT_GATE, experts,
                              2 * size, in, 2 * size, 0));
    else {
        STEER_TRY(add_experts(binder, i, STEER_ROLE_EXPERTS_GATE, STEER_ROLE_EXPERT_GATE, experts, size, in,
                              2 * size, 0));
        STEER_TRY(add_experts(binder, i, STEER_ROLE_EXPERTS_UP, STEER_ROLE_EXPERT_UP, experts, size, in,
                              2 * size, size));
    }
    STEER_TRY(add_target(binder, &mlp->experts_down, dtype, experts * in, size, NULL));
    return add_experts(binder, i, STEER_ROLE_EXPERTS_DOWN, STEER_ROLE_EXPERT_DOWN, experts, in, size, in, 0);
}

/* ---- The whole --------------------------------------------------------------------------------------------------- */

static int bind_layer(steer_binder *binder, int32_t i) {
    steer_layer *layer = &binder->model->layer[i];
    const int64_t hidden = binder->model->hidden;
    STEER_TRY(bind_norm(binder, &layer->attn_in, i, STEER_ROLE_ATTN_IN, hidden));
    STEER_TRY(bind_attention(binder, layer, i));
    STEER_TRY(bind_norm(binder, &layer->attn_out, i, STEER_ROLE_ATTN_OUT, hidden));
    STEER_TRY(bind_norm(binder, &layer->mlp_in, i, STEER_ROLE_MLP_IN, hidden));
    STEER_TRY(layer->mlp.experts ? bind_mixture(binder, &layer->mlp, i) : bind_mlp(binder, &layer->mlp, i));
    return bind_norm(binder, &layer->mlp_out, i, STEER_ROLE_MLP_OUT, hidden);
}

/* What stands before the names of the base model's tensors in this file. */
static int find_prefix(steer_binder *binder) {
    static const char *const prefixes[] = {
        "model.",         "", "transformer.", "gpt_neox.", "language_model.model.", "model.language_model.",
        "language_model."};
    const int most = binder->is_gguf ? 2 : sizeof prefixes / sizeof *prefixes;
    for (int i = binder->is_gguf; i < most; i++) {
        binder->prefix = prefixes[i];
        const steer_wanted embed = want(binder, -1, STEER_ROLE_EMBED, 0, ".weight");
        if (find(binder, &embed) || !binder->weights) return STEER_OK;
    }
    binder->prefix = "";
    const steer_wanted embed = want(binder, -1, STEER_ROLE_EMBED, 0, ".weight");
    return STEER_FAIL(
        STEER_E_FORMAT,
        "%s: tensor %s: missing (with \"model.\" and other beginnings too), expected [%lld, %lld]",
        binder->path, embed.name, (long long)binder->model->vocab, (long long)binder->model->hidden);
}

/* The name of the head's weight: it stands beside the base model, or in it. */
static steer_wanted head_of(steer_binder *binder, const char *end) {
    const char *const beside[] = {"", "language_model.", binder->prefix}, *prefix = binder->prefix;
    steer_wanted name = {.ndim = 0};
    for (size_t i = 0; i < 3; i++) {
        binder->prefix = beside[i];
        name = want(binder, -1, STEER_ROLE_HEAD, 0, end);
        if (find(binder, &name)) break;
    }
    if (!find(binder, &name)) {
        binder->prefix = "";
        name = want(binder, -1, STEER_ROLE_HEAD, 0, end);
    }
    binder->prefix = prefix;
    return name;
}

/* Tied to the embedding, unless the file has a head that differs from it. */
static int bind_head(steer_binder *binder) {
    steer_model *model = binder->model;
    const steer_wanted table = want(binder, -1, STEER_ROLE_EMBED, 0, ".weight"),
                       head = head_of(binder, ".weight");
    const steer_weight *embed = find(binder, &table);
    steer_weight *own = find(binder, &head);
    const int tied = binder->is_gguf ? !own : binder->config->fields.tied;
    if (own && tied && own->format == embed->format && own->bytes == embed->bytes &&
        memcmp(own->data, embed->data, (size_t)own->bytes) == 0) {
        own->used = 1;
        own = NULL;
    }
    model->head.in = model->hidden;
    model->head.out = model->vocab;
    if (own || !tied) {
        STEER_TRY(add_target(binder, &model->head.weight, model->dtype, model->vocab, model->hidden, NULL));
        STEER_TRY(add_whole(binder, head, model->vocab, model->hidden, 0));
    }
    if (!(binder->config->fields.bias & STEER_BIAS_HEAD)) return STEER_OK;
    return bind_bias(binder, &model->head, head_of(binder, ".bias"));
}

static int bind_base(steer_binder *binder) {
    steer_model *model = binder->model;
    STEER_TRY(add_target(binder, &model->embed, model->dtype, model->vocab, model->hidden, NULL));
    STEER_TRY(
        add_whole(binder, want(binder, -1, STEER_ROLE_EMBED, 0, ".weight"), model->vocab, model->hidden, 0));
    if (role_name(binder, STEER_ROLE_PLACES)) {
        STEER_TRY(add_target(binder, &model->places, model->dtype, model->context, model->hidden, NULL));
        STEER_TRY(add_whole(binder, want(binder, -1, STEER_ROLE_PLACES, 0, ".weight"), model->context,
                            model->hidden, 0));
    }
    STEER_TRY(bind_norm(binder, &model->norm, -1, STEER_ROLE_NORM, model->hidden));
    return bind_head(binder);
}

static int bind_ropes(steer_binder *binder) {
    for (int32_t i = 0; i < binder->model->rope_count; i++) {
        steer_rope_table *rope = &binder->model->ropes[i];
        steer_target *target;
        STEER_TRY(add_target(binder, (const void **)&rope->table, STEER_F32,
                             binder->model->near + binder->model->context, rope->rotary, &target));
        target->rope = i;
    }
    return STEER_OK;
}

static int refuse_unused(const steer_binder *binder) {
    char shape[160];
    for (int32_t i = 0; binder->weights && i < binder->weights->count; i++) {
        const steer_weight *weight = &binder->weights->weight[i];
        if (weight->used ||
            steer_tensor_is_harmless(weight->name, binder->config->text != binder->config->root))
            continue;
        return STEER_FAIL(
            STEER_E_UNSUPPORTED,
            "%s: tensor %s: shape %s, a tensor that this version does not use for model_type \"%s\"",
            weight->file, weight->name, steer_weight_shape_text(shape, sizeof shape, weight),
            binder->config->family->type);
    }
    return STEER_OK;
}

int steer_layout_build(steer_layout *out, steer_model *model, steer_config *config, steer_weights *weights,
                       const char *path) {
    steer_binder binder = {.layout = out,
                           .model = model,
                           .config = config,
                           .weights = weights,
                           .path = path,
                           .is_gguf = weights && weights->gguf};
    STEER_TRY(find_prefix(&binder));
    STEER_TRY(bind_base(&binder));
    STEER_TRY(bind_ropes(&binder));
    for (int32_t i = 0; i < model->layers; i++) STEER_TRY(bind_layer(&binder, i));
    return refuse_unused(&binder);
}

void steer_layout_free(steer_layout *layout) {
    free(layout->targets);
    free(layout->pieces);
    memset(layout, 0, sizeof *layout);
}
