/* family.h: what the kinds of models differ in, as a table: tensor names, norms, fields of config.json and their defaults.
 * This is the only place that knows families by name. */
#ifndef STEER_MODEL_FAMILY_H
#define STEER_MODEL_FAMILY_H

#include "backend/model_ops.h"

#include <stddef.h>

/* Tensors by role. A name ends with ".weight" or ".bias" in the file. */
typedef enum steer_role {
    STEER_ROLE_EMBED,
    STEER_ROLE_PLACES, /* learned positions */
    STEER_ROLE_NORM,   /* the last one */
    STEER_ROLE_HEAD,
    STEER_ROLE_LAYER, /* what the names of a layer's tensors begin with, "%d" is its number */
    STEER_ROLE_ATTN_IN,
    STEER_ROLE_ATTN_OUT,
    STEER_ROLE_MLP_IN,
    STEER_ROLE_MLP_OUT,
    STEER_ROLE_Q,
    STEER_ROLE_K,
    STEER_ROLE_V,
    STEER_ROLE_QKV, /* one matrix in the place of three */
    STEER_ROLE_O,
    STEER_ROLE_Q_NORM,
    STEER_ROLE_K_NORM,
    STEER_ROLE_GATE,
    STEER_ROLE_UP,
    STEER_ROLE_GATE_UP, /* one matrix in the place of two */
    STEER_ROLE_DOWN,
    STEER_ROLE_ROUTER,
    STEER_ROLE_EXPERT_GATE, /* "%d" is the expert's number */
    STEER_ROLE_EXPERT_UP,
    STEER_ROLE_EXPERT_DOWN,
    STEER_ROLE_EXPERTS_GATE, /* of all experts in one tensor */
    STEER_ROLE_EXPERTS_UP,
    STEER_ROLE_EXPERTS_GATE_UP,
    STEER_ROLE_EXPERTS_DOWN,
    STEER_ROLE_COUNT
} steer_role;

typedef const char *const *steer_names; /* [STEER_ROLE_COUNT]; NULL: the family has no such tensor */

/* Where linear layers have biases. */
enum {
    STEER_BIAS_QKV = 1,
    STEER_BIAS_O = 2,
    STEER_BIAS_MLP = 4,
    STEER_BIAS_HEAD = 8,
    STEER_BIAS_NORM = 16 /* every LayerNorm */
};

/* What else a family does. */
enum {
    STEER_TRAIT_ONE_PLUS = 1,       /* norms multiply by 1 + weight */
    STEER_TRAIT_NO_WEIGHT = 2,      /* norms have no weights */
    STEER_TRAIT_ROOT_SCALE = 4,     /* embeddings are multiplied by sqrt(hidden), rounded to the dtype */
    STEER_TRAIT_TRANSPOSED = 8,     /* matrices of layers lie as [in, out] */
    STEER_TRAIT_BY_HEAD = 16,       /* the rows of qkv are q, k, v of one head after another */
    STEER_TRAIT_INTERLEAVED = 32,   /* rotation pairs are (2i, 2i + 1) */
    STEER_TRAIT_PARALLEL = 64,      /* always; else as use_parallel_residual says */
    STEER_TRAIT_SHARED_NORM = 128,  /* parallel blocks share attn_in */
    STEER_TRAIT_LAYER_TYPES = 256,  /* layer_types says which layers have the window; else all have it */
    STEER_TRAIT_ROPE_IS_LOCAL = 512 /* only layers with a window rotate */
};

typedef struct steer_family {
    const char *type; /* model_type */
    const char
        *nested; /* model_type of its text_config, where the model is inside one; nothing else matters then */
    steer_names names;
    const char *gguf; /* general.architecture, or NULL */
    /* Of GGUF files: q and k rows are permuted, so that rotation pairs are (2i, 2i + 1); weights of chosen experts sum to 1; layers of
     * the one size whose scores are scaled by hidden / heads in the place of head_dim. */
    int gguf_interleaved, gguf_renormalizes, gguf_wide_layers;
    steer_norm_kind norm;
    int32_t
        norm_scope; /* of q and k norms, as in steer_layer; with a field that switches them, where it is on */
    int bias, traits;
    /* Fields of its config.json that are read, with what a missing one stands for ("?": it must be there): JSON with ' for ". */
    const char *fields;
} steer_family;

/* The family of a model_type; NULL: unknown. */
const steer_family *steer_family_find(const char *type, size_t size);
/* 1 if `field` is among its fields. */
int steer_family_reads(const steer_family *family, const char *field);
/* The family of a GGUF architecture, with experts or without; NULL: unknown. */
const steer_family *steer_family_find_gguf(const char *architecture, size_t size, int experts);
/* Their names for messages, "a, b, c"; cut to fit. */
void steer_family_list(char *out, size_t size, int gguf);

/* Names that llama.cpp gives to the tensors of every family; the family's own table says which of them it has. */
extern const char *const steer_gguf_names[STEER_ROLE_COUNT];

/* 1 if a tensor of this name may lie unused in a checkpoint. `nested`: of a model inside a larger one. */
int steer_tensor_is_harmless(const char *name, int nested);

#endif
