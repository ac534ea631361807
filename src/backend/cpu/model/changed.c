/* changed.c: which rows are no more what they were, by digests of their bits. */
#include "backend/cpu/model/row.h"
#include "backend/random.h"

static uint64_t digest_32(const uint32_t *row, int64_t n) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += steer_mix((uint64_t)i << 32 | row[i]);
    return sum;
}

static uint64_t digest_16(const uint16_t *row, int64_t n) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += steer_mix((uint64_t)i << 32 | row[i]);
    return sum;
}

int steer_cpu_changed(void *device, const steer_changed *args) {
    (void)device;
    for (int64_t row = 0; row < args->rows; row++) {
        const void *x = steer_row_at(args->x, args->dtype, row * args->hidden);
        const uint64_t now =
            args->dtype == STEER_F32 ? digest_32(x, args->hidden) : digest_16(x, args->hidden);
        if (args->out)
            args->out[row] = now != args->before[row];
        else
            args->before[row] = now;
    }
    return STEER_OK;
}
