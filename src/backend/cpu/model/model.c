/* model.c: the decoder's operations of the CPU backend. */
#include "backend/cpu/model/row.h"

const steer_model_ops steer_cpu_model_ops = {
    .embed = steer_cpu_embed,
    .residual = steer_cpu_residual,
    .norm_parts = steer_cpu_norm_parts,
    .linear = steer_cpu_linear,
    .rope = steer_cpu_rope,
    .attention_work = steer_cpu_attention_work,
    .attention = steer_cpu_attention,
    .activate = steer_cpu_activate,
    .mixture_work = steer_cpu_mixture_work,
    .mixture = steer_cpu_mixture,
    .gather = steer_cpu_gather,
    .accumulate = steer_cpu_accumulate,
    .changed = steer_cpu_changed,
    .notes = steer_cpu_notes,
    .logits = steer_cpu_logits,
    .sample_work = steer_cpu_sample_work,
    .sample = steer_cpu_sample,
    .logprob = steer_cpu_logprob,
    .divergence = steer_cpu_divergence,
};
