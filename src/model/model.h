/* model.h: a language model in memory: what config.json and the tensors' names became. No family has a name from here on. */
#ifndef STEER_MODEL_MODEL_H
#define STEER_MODEL_MODEL_H

#include "backend/device.h"
#include "backend/model_ops.h"
#include "core/refs.h"
#include "core/status.h"
#include "steer_model.h"

/* A weight [out, in] of the model's dtype with its bias; weight NULL: there is none. */
typedef struct steer_dense {
    const void *weight;
    const void *bias; /* [out] of the same dtype; NULL: none */
    int64_t in, out;
} steer_dense;

/* cos and sin of a rotation: one format for every scaling rule. */
typedef struct steer_rope_table {
    const float *table; /* device memory, [near + context, rotary] as in steer_rope */
    int32_t rotary;
} steer_rope_table;

typedef struct steer_mlp {
    steer_activation act;
    int32_t glu;
    steer_dense up; /* [gate | up] rows with glu, else the one matrix */
    steer_dense down;
    int32_t experts, top_k; /* 0: no mixture */
    int32_t renormalize;
    const void *router, *experts_gate_up, *experts_down; /* as in steer_mixture */
    int64_t expert_size;
} steer_mlp;

/* One decoder layer:  x += m * attn_out(attention(attn_in(x)));  x += m * mlp_out(mlp(mlp_in(x))).
 * parallel: the second reads the x from before the first; with mlp_in NONE it shares attn_in's result. */
typedef struct steer_layer {
    steer_norm attn_in, attn_out, mlp_in, mlp_out;
    int32_t parallel;
    steer_dense qkv; /* rows q, k, v */
    steer_dense o;
    steer_norm q_norm, k_norm;
    int32_t
        norm_scope; /* of q_norm and k_norm: 0 none, 1 by head (one weight for all), 2 flat (over all heads), 3 by head with a weight for
                           each head */
    int32_t heads, kv_heads, head_dim;
    int32_t rope; /* index into ropes, -1: no rotation */
    int32_t interleaved;
    int32_t window;
    float scale, softcap;
    steer_mlp mlp;
} steer_layer;

enum { STEER_MAX_ROPES = 4, STEER_MAX_EOS = 16 };

struct steer_model {
    steer_refs refs;
    steer_device *device; /* retained */
    const steer_model_ops *ops;
    steer_dtype dtype;
    int64_t hidden, vocab, context;
    int32_t layers;
    steer_layer *layer;    /* [layers] */
    const void *embed;     /* [vocab, hidden] */
    const void *places;    /* learned positions [context, hidden], or NULL */
    float embed_scale;     /* 1: none; as rounded to the dtype where the model does that */
    steer_norm embed_norm; /* of the embedding, or NONE */
    float residual_multiplier;
    steer_norm norm;                  /* the last one */
    steer_dense head;                 /* its weight is `embed` where tied */
    float logit_scale, logit_softcap; /* 1, 0: none */
    /* Sequences of more than `near` tokens, those to generate included, turn by the tables' rows from `near` on, which are for
     * them (LongRoPE); 0: there are no others. */
    int64_t near;
    int32_t rope_count;
    steer_rope_table ropes[STEER_MAX_ROPES];
    int32_t bos, pad; /* -1: none */
    int32_t eos_count;
    int32_t eos[STEER_MAX_EOS]; /* ids that end a generation: generation_config.json's, else config.json's */
    int64_t qkv_most,
        mlp_most;  /* greatest of any layer: sizes of buffers; of an mlp what comes out of its activation */
    int64_t bytes; /* of weights on the device */
    void *memory;  /* of the device, where all of them lie */
    char *path, *config; /* as opened; the config's JSON text ("" for GGUF's: its metadata as JSON) */
    char family[32];     /* model_type: for people, nothing depends on it */
};

#endif
