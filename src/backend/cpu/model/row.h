/* row.h: rows of a float dtype as f32 and back, and what the files of the decoder's operations on the CPU share. */
#ifndef STEER_BACKEND_CPU_MODEL_ROW_H
#define STEER_BACKEND_CPU_MODEL_ROW_H

#include "backend/cpu/cpu.h"
#include "backend/cpu/team.h"
#include "core/status.h"
#include "tensor/dtype.h"

#include <stdlib.h>
#include <string.h>

/* The compiler's own choice of wide vectors where the machine has them; not under sanitizers, which cannot run the resolver. */
#if defined(__x86_64__) && __GNUC__ >= 12 && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&        \
    !defined(__SANITIZE_THREAD__)
#define STEER_CPU_WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define STEER_CPU_WIDE_ALONE                                                                                 \
    __attribute__((target("arch=x86-64-v3"))) /* of a function that is chosen by hand */
#else
#define STEER_CPU_WIDE
#endif

static inline const void *steer_row_at(const void *data, steer_dtype dtype, int64_t element) {
    return (const char *)data + element * (int64_t)steer_dtype_size(dtype);
}
static inline void *steer_row_into(void *data, steer_dtype dtype, int64_t element) {
    return (char *)data + element * (int64_t)steer_dtype_size(dtype);
}

/* exp(x) within 2 ulp, without branches, so that loops become vector instructions: 2^n * exp(r) with |r| <= ln(2) / 2, by the
 * series of exp(r). 0 below -87, infinity above 88. */
static inline float steer_exp(float x) {
    const float low = x < -87.0f ? -87.0f : x, at = low > 88.5f ? 88.5f : low;
    const float shifted = at * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the sum's last bits are n */
    const float n = shifted - 12582912.0f;
    const float r = (at - n * 0.693145752f) - n * 1.42860677e-6f;
    float sum = 1.0f / 5040;
    sum = sum * r + 1.0f / 720;
    sum = sum * r + 1.0f / 120;
    sum = sum * r + 1.0f / 24;
    sum = sum * r + 1.0f / 6;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    const float power = steer_bits_float((steer_float_bits(shifted) << 23) + 0x3f800000u);
    return x < -87.0f ? 0.0f : sum * power;
}

/* out[i] = row[i], n elements. (row.c) */
void steer_row_load(float *out, steer_dtype dtype, const void *row, int64_t n);
/* row[i] = x[i], rounded to nearest even. */
void steer_row_store(steer_dtype dtype, void *row, const float *x, int64_t n);
/* x[i] rounded to the dtype. */
void steer_row_round(steer_dtype dtype, float *x, int64_t n);

/* product[r, c] = x[r] . w[c], row-major. (tile.c) */
typedef struct steer_tile {
    const float *x; /* rows as steer_tile_arrange() leaves them */
    int64_t x_stride, rows;
    const void *w;       /* [columns, in] of a dtype */
    int64_t columns, in; /* columns: at most STEER_TILE_COLUMNS */
    const char *
        next; /* fetched meanwhile: `part` bytes from each of STEER_TILE_FETCHES places, `apart` bytes between them */
    int64_t part, apart; /* part 0: nothing is */
    float *product;
    int64_t product_stride;
    float *sums; /* to work in: steer_tile_room() bytes, aligned to 64 */
} steer_tile;
enum { STEER_TILE_STEP = 16, STEER_TILE_COLUMNS = 12, STEER_TILE_LANES = 8, STEER_TILE_FETCHES = 4 };
size_t steer_tile_room(int64_t rows);
void steer_tile_multiply(const steer_tile *t, steer_dtype dtype);
/* A row in f32, in the order in which tiles take its elements, with zeros up to a multiple of STEER_TILE_STEP. */
void steer_tile_arrange(float *to, steer_dtype dtype, const void *row, int64_t n);
/* x = act(x), times `up` unless it is NULL. (activate.c) */
void steer_row_activate(steer_activation act, float *x, const float *up, int64_t n);
/* log softmax of a row at one place: NaN if any is. (logits.c) */
float steer_row_logprob(const float *x, int64_t n, int64_t at);
/* The greatest of a row that is not NaN, -INFINITY if there is none. (logits.c) */
float steer_row_greatest(const float *x, int64_t n);
/* Calls f(args, row, memory) for all rows, which threads share where `shared`: `memory` is the thread's own, of so many floats.
 * OUT_OF_MEMORY names `what`. */
int steer_row_each(const char *what, void (*f)(const void *args, int64_t row, float *memory),
                   const void *args, int64_t count, int64_t floats, int shared);
/* In place, one row of f32 (norm.c); rounds as the kind says. */
void steer_row_norm(const steer_norm *norm, const float *weight, const float *bias, steer_dtype dtype,
                    float *x, int64_t n);

int steer_cpu_embed(void *device, const steer_embed *args);
int steer_cpu_gather(void *device, const steer_gather *args);
int steer_cpu_accumulate(void *device, const steer_accumulate *args);
int steer_cpu_changed(void *device, const steer_changed *args);
int steer_cpu_notes(void *device, const steer_notes *args);
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
int steer_cpu_divergence(void *device, const steer_divergence *args);

static inline int steer_cpu_no_memory(const char *what, size_t bytes) {
    return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%s: %zu bytes of host memory", what, bytes);
}

#endif
