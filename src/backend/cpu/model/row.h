/* row.h: rows of a float dtype as f32 and back, and what the files of the decoder's operations on the CPU share. */
#ifndef STEER_BACKEND_CPU_MODEL_ROW_H
#define STEER_BACKEND_CPU_MODEL_ROW_H

#include "backend/cpu/cpu.h"
#include "core/status.h"
#include "tensor/dtype.h"

#include <stdlib.h>
#include <string.h>

/* The compiler's own choice of wide vectors where the machine has them; not under sanitizers, which cannot run the resolver. */
#if defined(__x86_64__) && __GNUC__ >= 12 && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&        \
    !defined(__SANITIZE_THREAD__)
#define STEER_CPU_WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define STEER_CPU_WIDE
#endif

static inline const void *steer_row_at(const void *data, steer_dtype dtype, int64_t element) {
    return (const char *)data + element * (int64_t)steer_dtype_size(dtype);
}
static inline void *steer_row_into(void *data, steer_dtype dtype, int64_t element) {
    return (char *)data + element * (int64_t)steer_dtype_size(dtype);
}

/* out[i] = row[i], n elements. (row.c) */
void steer_row_load(float *out, steer_dtype dtype, const void *row, int64_t n);
/* row[i] = x[i], rounded to nearest even. */
void steer_row_store(steer_dtype dtype, void *row, const float *x, int64_t n);
/* x[i] rounded to the dtype. */
void steer_row_round(steer_dtype dtype, float *x, int64_t n);
/* Sum of a[i] * b[i] in a fixed order: 16 lanes, added as a tree. */
float steer_row_dot(const float *a, const float *b, int64_t n);

/* The activation of x. (mlp.c) */
float steer_act(steer_activation act, float x);
/* In place, one row of f32 (norm.c); rounds as the kind says. */
void steer_row_norm(const steer_norm *norm, const float *weight, const float *bias, steer_dtype dtype,
                    float *x, int64_t n);

int steer_cpu_embed(void *device, const steer_embed *args);
int steer_cpu_gather(void *device, const steer_gather *args);
int steer_cpu_accumulate(void *device, const steer_accumulate *args);
int steer_cpu_residual(void *device, const steer_residual *args);
int steer_cpu_norm_parts(void *device, const steer_norm_parts *args);
int steer_cpu_linear(void *device, const steer_linear *args);
int steer_cpu_rope(void *device, const steer_rope *args);
size_t steer_cpu_attention_work(void *device, const steer_attention *args);
int steer_cpu_attention(void *device, const steer_attention *args);
int steer_cpu_activate(void *device, const steer_activate *args);
size_t steer_cpu_mixture_work(void *device, const steer_mixture *args);
int steer_cpu_mixture(void *device, const steer_mixture *args);
int steer_cpu_logits(void *device, const steer_logits *args);
size_t steer_cpu_sample_work(void *device, const steer_sample *args);
int steer_cpu_sample(void *device, const steer_sample *args);
int steer_cpu_logprob(void *device, const steer_logprob *args);

static inline int steer_cpu_no_memory(const char *what, size_t bytes) {
    return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%s: %zu bytes of host memory", what, bytes);
}

#endif
