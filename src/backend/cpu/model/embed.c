/* embed.c: rows picked by index: token embeddings, outputs, and sums of rows by group. */
#include "backend/cpu/model/row.h"

int steer_cpu_embed(void *device, const steer_embed *args) {
    const steer_rows *rows = args->rows;
    const int64_t n = args->hidden;
    float *x = malloc(2 * (size_t)n * sizeof *x), *place = x + n;
    if (!x) return steer_cpu_no_memory("embed", 2 * (size_t)n * sizeof *x);
    for (int64_t row = 0; row < rows->rows; row++) {
        void *out = steer_row_into(args->out, args->dtype, row * n);
        if (rows->sequence[row] < 0) {
            memset(out, 0, (size_t)n * steer_dtype_size(args->dtype));
            continue;
        }
        const int32_t id = rows->ids[row] >= 0 ? rows->ids[row] : rows->last[rows->sequence[row]];
        steer_row_load(x, args->dtype, steer_row_at(args->table, args->dtype, id * n), n);
        for (int64_t i = 0; i < n; i++) x[i] *= args->scale;
        if (args->places) {
            steer_row_round(args->dtype, x, n);
            steer_row_load(place, args->dtype,
                           steer_row_at(args->places, args->dtype, rows->positions[row] * n), n);
            for (int64_t i = 0; i < n; i++) x[i] += place[i];
        }
        steer_row_store(args->dtype, out, x, n);
    }
    free(x);
    return STEER_OK;
}

int steer_cpu_gather(void *device, const steer_gather *args) {
    const int64_t n = args->hidden;
    float *x = malloc((size_t)n * sizeof *x);
    if (!x) return steer_cpu_no_memory("gather", (size_t)n * sizeof *x);
    for (int64_t i = 0; i < args->count; i++) {
        if (args->index[i] < 0)
            memset(x, 0, (size_t)n * sizeof *x);
        else
            steer_row_load(x, args->dtype, steer_row_at(args->x, args->dtype, args->index[i] * n), n);
        steer_row_store(args->out_dtype, steer_row_into(args->out, args->out_dtype, i * n), x, n);
    }
    free(x);
    return STEER_OK;
}

int steer_cpu_accumulate(void *device, const steer_accumulate *args) {
    const int64_t n = args->hidden;
    float *x = malloc((size_t)n * sizeof *x);
    if (!x) return steer_cpu_no_memory("accumulate", (size_t)n * sizeof *x);
    for (int64_t g = 0; g < args->count; g++) {
        float *sum = args->sum + args->group[g] * args->sum_stride;
        float *squares = args->squares ? args->squares + args->group[g] * args->sum_stride : NULL;
        for (int32_t k = args->first[g]; k < args->first[g + 1]; k++) {
            steer_row_load(x, args->dtype, steer_row_at(args->x, args->dtype, args->row[k] * n), n);
            for (int64_t i = 0; i < n; i++) sum[i] += x[i];
            for (int64_t i = 0; squares && i < n; i++) squares[i] += x[i] * x[i];
        }
    }
    free(x);
    return STEER_OK;
}
