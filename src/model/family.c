/* family.c: the table of families and of their tensors' names. */
#include "model/family.h"

#include <stdio.h>
#include <string.h>

/* ---- Names of tensors -------------------------------------------------------------------------------------------- */

#define ROLE(role) [STEER_ROLE_##role]
#define BASE                                                                                                 \
    ROLE(EMBED) = "embed_tokens", ROLE(NORM) = "norm", ROLE(HEAD) = "lm_head", ROLE(LAYER) = "layers.%d."
#define PRE_NORMS  ROLE(ATTN_IN) = "input_layernorm", ROLE(MLP_IN) = "post_attention_layernorm"
#define POST_NORMS ROLE(ATTN_OUT) = "post_attention_layernorm", ROLE(MLP_OUT) = "post_feedforward_layernorm"
#define QKV        ROLE(Q) = "self_attn.q_proj", ROLE(K) = "self_attn.k_proj", ROLE(V) = "self_attn.v_proj"
#define ATTENTION  QKV, ROLE(O) = "self_attn.o_proj"
#define QK_NORMS   ROLE(Q_NORM) = "self_attn.q_norm", ROLE(K_NORM) = "self_attn.k_norm"
#define GLU        ROLE(GATE) = "mlp.gate_proj", ROLE(UP) = "mlp.up_proj", ROLE(DOWN) = "mlp.down_proj"
#define EXPERTS                                                                                              \
    ROLE(ROUTER) = "mlp.gate", ROLE(EXPERT_GATE) = "mlp.experts.%d.gate_proj",                               \
    ROLE(EXPERT_UP) = "mlp.experts.%d.up_proj", ROLE(EXPERT_DOWN) = "mlp.experts.%d.down_proj",              \
    ROLE(EXPERTS_GATE_UP) = "mlp.experts.gate_up_proj", ROLE(EXPERTS_DOWN) = "mlp.experts.down_proj"

#define NAMES(name) static const char *const name[STEER_ROLE_COUNT]

NAMES(plain_names) = {BASE, PRE_NORMS, ATTENTION, GLU};
NAMES(qk_names) = {BASE, PRE_NORMS, ATTENTION, QK_NORMS, GLU};
NAMES(sandwich_names) = {BASE,
                         ATTENTION,
                         GLU,
                         POST_NORMS,
                         ROLE(ATTN_IN) = "input_layernorm",
                         ROLE(MLP_IN) = "pre_feedforward_layernorm"};
NAMES(sandwich_qk_names) = {BASE,
                            ATTENTION,
                            QK_NORMS,
                            GLU,
                            POST_NORMS,
                            ROLE(ATTN_IN) = "input_layernorm",
                            ROLE(MLP_IN) = "pre_feedforward_layernorm"};
NAMES(post_names) = {BASE, POST_NORMS, ATTENTION, QK_NORMS, GLU};
NAMES(one_norm_names) = {BASE, ATTENTION, QK_NORMS, GLU, ROLE(ATTN_IN) = "input_layernorm"};
NAMES(moe_names) = {BASE, PRE_NORMS, ATTENTION, QK_NORMS, GLU, EXPERTS};
NAMES(mixtral_names) = {BASE,
                        PRE_NORMS,
                        ATTENTION,
                        ROLE(ROUTER) = "block_sparse_moe.gate",
                        ROLE(EXPERT_GATE) = "block_sparse_moe.experts.%d.w1",
                        ROLE(EXPERT_UP) = "block_sparse_moe.experts.%d.w3",
                        ROLE(EXPERT_DOWN) = "block_sparse_moe.experts.%d.w2",
                        ROLE(EXPERTS_GATE_UP) = "mlp.experts.gate_up_proj",
                        ROLE(EXPERTS_DOWN) = "mlp.experts.down_proj"};
NAMES(phi3_names) = {BASE,
                     PRE_NORMS,
                     ROLE(QKV) = "self_attn.qkv_proj",
                     ROLE(O) = "self_attn.o_proj",
                     ROLE(GATE_UP) = "mlp.gate_up_proj",
                     ROLE(DOWN) = "mlp.down_proj"};
NAMES(starcoder2_names) = {BASE, PRE_NORMS, ATTENTION, ROLE(UP) = "mlp.c_fc", ROLE(DOWN) = "mlp.c_proj"};
NAMES(stablelm_names) = {BASE,
                         PRE_NORMS,
                         ATTENTION,
                         GLU,
                         ROLE(Q_NORM) = "self_attn.q_layernorm",
                         ROLE(K_NORM) = "self_attn.k_layernorm"};
NAMES(phi_names) = {ROLE(EMBED) = "embed_tokens",
                    ROLE(NORM) = "final_layernorm",
                    ROLE(HEAD) = "lm_head",
                    ROLE(LAYER) = "layers.%d.",
                    QKV,
                    ROLE(ATTN_IN) = "input_layernorm",
                    ROLE(O) = "self_attn.dense",
                    ROLE(Q_NORM) = "self_attn.q_layernorm",
                    ROLE(K_NORM) = "self_attn.k_layernorm",
                    ROLE(UP) = "mlp.fc1",
                    ROLE(DOWN) = "mlp.fc2"};
NAMES(neox_names) = {ROLE(EMBED) = "embed_in",
                     ROLE(NORM) = "final_layer_norm",
                     ROLE(HEAD) = "embed_out",
                     ROLE(LAYER) = "layers.%d.",
                     PRE_NORMS,
                     ROLE(QKV) = "attention.query_key_value",
                     ROLE(O) = "attention.dense",
                     ROLE(UP) = "mlp.dense_h_to_4h",
                     ROLE(DOWN) = "mlp.dense_4h_to_h"};
NAMES(gpt2_names) = {ROLE(EMBED) = "wte",    ROLE(PLACES) = "wpe",      ROLE(NORM) = "ln_f",
                     ROLE(HEAD) = "lm_head", ROLE(LAYER) = "h.%d.",     ROLE(ATTN_IN) = "ln_1",
                     ROLE(MLP_IN) = "ln_2",  ROLE(QKV) = "attn.c_attn", ROLE(O) = "attn.c_proj",
                     ROLE(UP) = "mlp.c_fc",  ROLE(DOWN) = "mlp.c_proj"};

const char *const steer_gguf_names[STEER_ROLE_COUNT] = {ROLE(EMBED) = "token_embd",
                                                        ROLE(PLACES) = "position_embd",
                                                        ROLE(NORM) = "output_norm",
                                                        ROLE(HEAD) = "output",
                                                        ROLE(LAYER) = "blk.%d.",
                                                        ROLE(ATTN_IN) = "attn_norm",
                                                        ROLE(ATTN_OUT) = "post_attention_norm",
                                                        ROLE(MLP_IN) = "ffn_norm",
                                                        ROLE(MLP_OUT) = "post_ffw_norm",
                                                        ROLE(Q) = "attn_q",
                                                        ROLE(K) = "attn_k",
                                                        ROLE(V) = "attn_v",
                                                        ROLE(QKV) = "attn_qkv",
                                                        ROLE(O) = "attn_output",
                                                        ROLE(Q_NORM) = "attn_q_norm",
                                                        ROLE(K_NORM) = "attn_k_norm",
                                                        ROLE(GATE) = "ffn_gate",
                                                        ROLE(UP) = "ffn_up",
                                                        ROLE(GATE_UP) = "ffn_up",
                                                        ROLE(DOWN) = "ffn_down",
                                                        ROLE(ROUTER) = "ffn_gate_inp",
                                                        ROLE(EXPERT_GATE) = "ffn_gate.%d",
                                                        ROLE(EXPERT_UP) = "ffn_up.%d",
                                                        ROLE(EXPERT_DOWN) = "ffn_down.%d",
                                                        ROLE(EXPERTS_GATE) = "ffn_gate_exps",
                                                        ROLE(EXPERTS_UP) = "ffn_up_exps",
                                                        ROLE(EXPERTS_GATE_UP) = "ffn_gate_up_exps",
                                                        ROLE(EXPERTS_DOWN) = "ffn_down_exps"};

/* Endings of names of tensors that hold no weights of the text model: masks, rotation tables. */
static const char *const harmless_ends[] = {"rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias",
                                            ".attention.bias", ".attention.masked_bias"};
/* Beginnings of names of tensors of other parts of a model that the text model lies in. */
static const char *const other_parts[] = {"vision_tower.", "multi_modal_projector.", "model.vision_tower.",
                                          "model.multi_modal_projector."};

int steer_tensor_is_harmless(const char *name, int nested) {
    const size_t size = strlen(name);
    for (size_t i = 0; i < sizeof harmless_ends / sizeof *harmless_ends; i++) {
        const size_t end = strlen(harmless_ends[i]);
        if (size >= end && strcmp(name + size - end, harmless_ends[i]) == 0) return 1;
    }
    for (size_t i = 0; nested && i < sizeof other_parts / sizeof *other_parts; i++)
        if (strncmp(name, other_parts[i], strlen(other_parts[i])) == 0) return 1;
    return 0;
}

/* ---- Families ---------------------------------------------------------------------------------------------------- */

#define COMMON                                                                                               \
    "'model_type':'?','dtype':null,'torch_dtype':null,'bos_token_id':null,'eos_token_id':null,"              \
    "'pad_token_id':null,'layer_types':null,"
#define SIZES                                                                                                \
    COMMON "'vocab_size':'?','hidden_size':'?','intermediate_size':'?','num_hidden_layers':'?',"             \
           "'num_attention_heads':'?','max_position_embeddings':'?',"
#define ROTATED   "'rope_scaling':null,'rope_parameters':null,"
#define ROPE      ROTATED "'rope_theta':10000,"
#define SILU      "'hidden_act':'silu',"
#define GQA       "'num_key_value_heads':null,'head_dim':null,"
#define UNTIED    "'tie_word_embeddings':false,"
#define TIED      "'tie_word_embeddings':true,"
#define RMS       "'rms_norm_eps':1e-6,"
#define RMS5      "'rms_norm_eps':1e-5,"
#define LAYERNORM "'layer_norm_eps':1e-5,"
#define BIASED(x) "'attention_bias':" #x ","
#define QWEN_WINDOW                                                                                          \
    "'use_sliding_window':false,'sliding_window':4096,'max_window_layers':28,'head_dim':null,"               \
    "'num_key_value_heads':null,"
#define GEMMA_TAIL                                                                                           \
    BIASED(false)                                                                                            \
    RMS TIED "'query_pre_attn_scalar':256,'sliding_window':4096,'hidden_activation':'gelu_pytorch_tanh',"

static const steer_family families[] = {
    {.type = "llama",
     .names = plain_names,
     .gguf = "llama",
     .gguf_interleaved = 1,
     .norm = STEER_NORM_RMS,
     .fields = SIZES ROPE SILU GQA UNTIED RMS BIASED(false) "'mlp_bias':false"},
    {.type = "mistral",
     .names = plain_names,
     .norm = STEER_NORM_RMS,
     .fields = SIZES ROPE SILU UNTIED RMS "'num_key_value_heads':8,'head_dim':null,'sliding_window':4096"},
    {.type = "qwen2",
     .names = plain_names,
     .gguf = "qwen2",
     .norm = STEER_NORM_RMS,
     .bias = STEER_BIAS_QKV,
     .traits = STEER_TRAIT_LAYER_TYPES,
     .fields = SIZES ROPE SILU UNTIED RMS QWEN_WINDOW "'use_mrope':null"},
    {.type = "qwen3",
     .names = qk_names,
     .gguf = "qwen3",
     .norm = STEER_NORM_RMS,
     .norm_scope = 1,
     .traits = STEER_TRAIT_LAYER_TYPES,
     .fields = SIZES ROPE SILU UNTIED RMS BIASED(
         false) "'use_sliding_window':false,'sliding_window':4096,'max_window_layers':28,"
                "'num_key_value_heads':32,'head_dim':128"},
    {.type = "gemma",
     .names = plain_names,
     .gguf = "gemma",
     .norm = STEER_NORM_RMS32,
     .traits = STEER_TRAIT_ONE_PLUS | STEER_TRAIT_ROOT_SCALE,
     .fields = SIZES ROPE TIED RMS BIASED(false) "'hidden_act':'gelu_pytorch_tanh','hidden_activation':null,"
                                                 "'num_key_value_heads':16,'head_dim':256"},
    {.type = "gemma2",
     .names = sandwich_names,
     .gguf = "gemma2",
     .gguf_wide_layers = 46,
     .norm = STEER_NORM_RMS32,
     .traits = STEER_TRAIT_ONE_PLUS | STEER_TRAIT_ROOT_SCALE | STEER_TRAIT_LAYER_TYPES,
     .fields = SIZES ROPE GEMMA_TAIL
     "'num_key_value_heads':4,'head_dim':256,'hidden_act':null,"
     "'sliding_window_pattern':2,'final_logit_softcapping':30,'attn_logit_softcapping':50"},
    {.type = "gemma3_text",
     .names = sandwich_qk_names,
     .gguf = "gemma3",
     .gguf_wide_layers = 62,
     .norm = STEER_NORM_RMS32,
     .norm_scope = 1,
     .traits = STEER_TRAIT_ONE_PLUS | STEER_TRAIT_ROOT_SCALE | STEER_TRAIT_LAYER_TYPES,
     .fields = COMMON ROTATED GEMMA_TAIL
     "'vocab_size':262208,'hidden_size':2304,'intermediate_size':9216,'num_hidden_layers':26,"
     "'num_attention_heads':8,'max_position_embeddings':131072,'num_key_value_heads':4,'head_dim':256,"
     "'rope_theta':1000000,'rope_local_base_freq':10000,'sliding_window_pattern':6,"
     "'final_logit_softcapping':null,'attn_logit_softcapping':null"},
    {.type = "gemma3", .nested = "gemma3_text"},
    {.type = "phi3",
     .names = phi3_names,
     .gguf = "phi3",
     .norm = STEER_NORM_RMS,
     .fields = SIZES ROPE SILU GQA UNTIED RMS5 "'sliding_window':null,'partial_rotary_factor':1,"
                                               "'original_max_position_embeddings':4096"},
    {.type = "olmo",
     .names = plain_names,
     .norm = STEER_NORM_LAYER,
     .traits = STEER_TRAIT_NO_WEIGHT,
     .fields = SIZES ROPE SILU GQA UNTIED LAYERNORM BIASED(false) "'clip_qkv':null"},
    {.type = "olmo2",
     .names = post_names,
     .gguf = "olmo2",
     .norm = STEER_NORM_RMS32,
     .norm_scope = 2,
     .fields = SIZES ROPE SILU GQA UNTIED RMS5 BIASED(false)},
    {.type = "olmo3",
     .names = post_names,
     .norm = STEER_NORM_RMS32,
     .norm_scope = 2,
     .traits = STEER_TRAIT_LAYER_TYPES,
     .fields =
         SIZES ROTATED SILU GQA UNTIED RMS5 BIASED(false) "'rope_theta':500000,'rope_local_base_freq':null,'"
                                                          "sliding_window':4096,'sliding_window_pattern':4"},
    {.type = "smollm3",
     .names = plain_names,
     .gguf = "smollm3",
     .gguf_interleaved = 1,
     .norm = STEER_NORM_RMS,
     .traits = STEER_TRAIT_LAYER_TYPES,
     .fields = SIZES ROTATED SILU TIED RMS BIASED(
         false) "'rope_theta':2000000,'mlp_bias':false,'num_key_value_heads':4,'head_dim':null,"
                "'use_sliding_window':false,'sliding_window':null,'max_window_layers':28,"
                "'no_rope_layers':null,'no_rope_layer_interval':4"},
    {.type = "granite",
     .names = plain_names,
     .gguf = "granite",
     .gguf_interleaved = 1,
     .norm = STEER_NORM_RMS,
     .fields = SIZES ROPE SILU GQA UNTIED RMS BIASED(
         false) "'mlp_bias':false,'embedding_multiplier':1,'logits_scaling':1,'residual_multiplier':1,"
                "'attention_multiplier':1"},
    {.type = "starcoder2",
     .names = starcoder2_names,
     .gguf = "starcoder2",
     .norm = STEER_NORM_LAYER,
     .bias = STEER_BIAS_NORM,
     .fields = SIZES ROPE TIED "'hidden_act':'gelu_pytorch_tanh','norm_epsilon':1e-5,'use_bias':true,"
                               "'num_key_value_heads':2,'head_dim':null,'sliding_window':null"},
    {.type = "stablelm",
     .names = stablelm_names,
     .gguf = "stablelm",
     .norm = STEER_NORM_LAYER,
     .norm_scope = 3,
     .bias = STEER_BIAS_NORM,
     .traits = STEER_TRAIT_SHARED_NORM,
     .fields = SIZES ROPE SILU UNTIED LAYERNORM "'num_key_value_heads':32,'partial_rotary_factor':0.25,"
                                                "'use_qkv_bias':false,'qk_layernorm':false,"
                                                "'use_parallel_residual':false"},
    {.type = "cohere",
     .names = one_norm_names,
     .gguf = "command-r",
     .gguf_interleaved = 1,
     .norm = STEER_NORM_LAYER,
     .norm_scope = 3,
     .traits = STEER_TRAIT_INTERLEAVED | STEER_TRAIT_PARALLEL | STEER_TRAIT_SHARED_NORM,
     .fields = SIZES ROTATED SILU GQA TIED LAYERNORM BIASED(
         false) "'rope_theta':500000,'logit_scale':0.0625,'use_qk_norm':false"},
    {.type = "cohere2",
     .names = one_norm_names,
     .gguf = "cohere2",
     .gguf_interleaved = 1,
     .norm = STEER_NORM_LAYER,
     .traits = STEER_TRAIT_INTERLEAVED | STEER_TRAIT_PARALLEL | STEER_TRAIT_SHARED_NORM |
               STEER_TRAIT_LAYER_TYPES | STEER_TRAIT_ROPE_IS_LOCAL,
     .fields = SIZES ROPE SILU GQA TIED LAYERNORM BIASED(
         false) "'logit_scale':0.0625,'sliding_window':4096,'sliding_window_pattern':4"},
    {.type = "gpt2",
     .names = gpt2_names,
     .gguf = "gpt2",
     .norm = STEER_NORM_LAYER,
     .bias = STEER_BIAS_QKV | STEER_BIAS_O | STEER_BIAS_MLP | STEER_BIAS_NORM,
     .traits = STEER_TRAIT_TRANSPOSED,
     .fields = COMMON TIED "'vocab_size':'?','n_embd':'?','n_layer':'?','n_head':'?','n_positions':'?',"
                           "'n_inner':null,'activation_function':'gelu_new','layer_norm_epsilon':1e-5,"
                           "'scale_attn_weights':true,'scale_attn_by_inverse_layer_idx':false"},
    {.type = "gpt_neox",
     .names = neox_names,
     .gguf = "gptneox",
     .norm = STEER_NORM_LAYER,
     .bias = STEER_BIAS_MLP | STEER_BIAS_NORM,
     .traits = STEER_TRAIT_BY_HEAD,
     .fields = SIZES ROPE UNTIED LAYERNORM BIASED(
         true) "'hidden_act':'gelu','rotary_pct':0.25,'rotary_emb_base':10000,"
               "'use_parallel_residual':true"},
    {.type = "phi",
     .names = phi_names,
     .gguf = "phi2",
     .norm = STEER_NORM_LAYER,
     .norm_scope = 1,
     .bias = STEER_BIAS_QKV | STEER_BIAS_O | STEER_BIAS_MLP | STEER_BIAS_HEAD | STEER_BIAS_NORM,
     .traits = STEER_TRAIT_PARALLEL | STEER_TRAIT_SHARED_NORM,
     .fields = SIZES ROPE GQA UNTIED LAYERNORM "'hidden_act':'gelu_new','partial_rotary_factor':0.5,"
                                               "'qk_layernorm':false"},
    {.type = "mixtral",
     .names = mixtral_names,
     .gguf = "llama",
     .gguf_interleaved = 1,
     .norm = STEER_NORM_RMS,
     .fields = SIZES ROTATED SILU UNTIED RMS5 "'rope_theta':1000000,'num_key_value_heads':8,'head_dim':null,"
                                              "'sliding_window':null,'num_local_experts':8,"
                                              "'num_experts_per_tok':2,'norm_topk_prob':true"},
    {.type = "qwen3_moe",
     .names = moe_names,
     .gguf = "qwen3moe",
     .gguf_renormalizes = 1,
     .norm = STEER_NORM_RMS,
     .norm_scope = 1,
     .fields = SIZES ROPE SILU UNTIED RMS BIASED(
         false) "'num_key_value_heads':4,'head_dim':null,'use_sliding_window':false,'sliding_window':4096,"
                "'max_window_layers':28,'num_local_experts':null,'num_experts':128,'num_experts_per_tok':8,"
                "'norm_topk_prob':false,'moe_intermediate_size':768,'decoder_sparse_step':1,"
                "'mlp_only_layers':null"},
    {.type = "olmoe",
     .names = moe_names,
     .gguf = "olmoe",
     .norm = STEER_NORM_RMS,
     .norm_scope = 2,
     .fields = SIZES ROPE SILU GQA UNTIED RMS5 BIASED(
         false) "'clip_qkv':null,'num_local_experts':null,'num_experts':64,'num_experts_per_tok':8,"
                "'norm_topk_prob':false"},
};

enum { FAMILIES = sizeof families / sizeof *families };

const steer_family *steer_family_find(const char *type, size_t size) {
    for (int i = 0; i < FAMILIES; i++)
        if (strlen(families[i].type) == size && memcmp(families[i].type, type, size) == 0)
            return &families[i];
    return NULL;
}

int steer_family_reads(const steer_family *family, const char *field) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "'%s':", field);
    return strstr(family->fields, quoted) != NULL;
}

const steer_family *steer_family_find_gguf(const char *architecture, size_t size, int experts) {
    for (int i = 0; i < FAMILIES; i++) {
        const char *gguf = families[i].gguf;
        if (gguf && strlen(gguf) == size && memcmp(gguf, architecture, size) == 0 &&
            (families[i].names[STEER_ROLE_ROUTER] != NULL) == experts)
            return &families[i];
    }
    return NULL;
}

void steer_family_list(char *out, size_t size, int gguf) {
    size_t at = 0;
    *out = 0;
    for (int i = 0; i < FAMILIES && at < size; i++) {
        const char *name = gguf ? families[i].gguf : families[i].type;
        int before = 0;
        for (int j = 0; gguf && name && j < i; j++)
            before |= families[j].gguf && strcmp(families[j].gguf, name) == 0;
        if (name && !before) at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", name);
    }
}
