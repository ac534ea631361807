/* row.c: rows of f32, f16 and bf16 widened and rounded; operations row by row, shared by threads. */
#include "backend/cpu/model/row.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

STEER_CPU_WIDE static void load_bf16(float *out, const uint16_t *row, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = steer_bf16_to_f32(row[i]);
}
STEER_CPU_WIDE static void load_f16(float *out, const uint16_t *row, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = steer_f16_to_f32(row[i]);
}
STEER_CPU_WIDE static void store_bf16(uint16_t *row, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) row[i] = steer_f32_to_bf16(x[i]);
}
STEER_CPU_WIDE static void store_f16(uint16_t *row, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) row[i] = steer_f32_to_f16(x[i]);
}

void steer_row_load(float *out, steer_dtype dtype, const void *row, int64_t n) {
    if (dtype == STEER_F32)
        memcpy(out, row, (size_t)n * sizeof *out);
    else if (dtype == STEER_BF16)
        load_bf16(out, row, n);
    else
        load_f16(out, row, n);
}

void steer_row_store(steer_dtype dtype, void *row, const float *x, int64_t n) {
    if (dtype == STEER_F32)
        memcpy(row, x, (size_t)n * sizeof *x);
    else if (dtype == STEER_BF16)
        store_bf16(row, x, n);
    else
        store_f16(row, x, n);
}

STEER_CPU_WIDE static void round_bf16(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = steer_bf16_to_f32(steer_f32_to_bf16(x[i]));
}
STEER_CPU_WIDE static void round_f16(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = steer_f16_to_f32(steer_f32_to_f16(x[i]));
}

void steer_row_round(steer_dtype dtype, float *x, int64_t n) {
    if (dtype == STEER_BF16) round_bf16(x, n);
    if (dtype == STEER_F16) round_f16(x, n);
}

/* ---- All rows ------------------------------------------------------------------------------------------------------ */

typedef struct rows {
    void (*f)(const void *args, int64_t row, float *memory);
    const void *args;
    int64_t floats;
    float *memory; /* of all threads */
} rows;

static void take_rows(void *context, steer_job *job, int32_t place) {
    const rows *all = context;
    for (int64_t row; (row = steer_job_next(job)) >= 0;)
        all->f(all->args, row, all->memory + place * all->floats);
}

int steer_row_each(const char *what, void (*f)(const void *args, int64_t row, float *memory),
                   const void *args, int64_t count, int64_t floats, int shared) {
    const size_t bytes = (size_t)(steer_job_threads(count) * floats) * sizeof(float);
    rows all = {f, args, floats, malloc(bytes)};
    if (!all.memory) return steer_cpu_no_memory(what, bytes);
    steer_job_run(take_rows, &all, count, shared);
    free(all.memory);
    return STEER_OK;
}
