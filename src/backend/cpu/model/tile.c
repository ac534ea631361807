/* tile.c: the products of a few rows with a few rows of a weight, each widened once for all.
 *
 * A sum runs in 8 lanes, which are then added as a tree, whatever rows and columns are computed beside it: so its bits depend on its
 * own row and column alone. Machines that multiply and add in one instruction round once where others round twice. */
#include "backend/cpu/model/row.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3,fp-contract=fast")
#endif

enum { LANES = 8, STEP = STEER_TILE_STEP, MOST_ROWS = 4, MOST_COLUMNS = 4 };

typedef float lanes __attribute__((vector_size(LANES * 4)));
typedef float loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint32_t words __attribute__((vector_size(LANES * 4)));

#define INLINE static inline __attribute__((always_inline))

/* As steer_f16_to_f32, of the low 16 bits. */
INLINE void widen_f16(lanes *out, const words *h) {
    const words sign = (*h & 0x8000u) << 16, magnitude = (*h & 0x7fffu) << 13;
    const words finite = (words)((lanes)magnitude * 5.192296858534828e33f), special = magnitude + 0x70000000u;
    const words is_special = (words)(magnitude >= 0x0f800000u);
    *out = (lanes)(sign | (is_special & special) | (~is_special & finite));
}

/* One half of STEP elements as f32: of 16 bits those with even places, then those with odd ones, which are the low and the high
 * halves of words; of f32 the first, then the last. */
INLINE void load(lanes *out, steer_dtype dtype, const char *from, int half) {
    words w;
    memcpy(&w, dtype == STEER_F32 ? from + half * (int)sizeof w : from, sizeof w);
    if (dtype == STEER_F32) {
        *out = (lanes)w;
    } else if (dtype == STEER_BF16) {
        *out = (lanes)(half ? w & 0xffff0000u : w << 16);
    } else {
        w = half ? w >> 16 : w & 0xffffu;
        widen_f16(out, &w);
    }
}

/* sum[r][c] += x[r] * w[c] of STEP elements; rows of x and of w lie `x_stride` and `w_stride` bytes apart. */
INLINE void step(lanes sum[MOST_ROWS][MOST_COLUMNS], steer_dtype dtype, int rows, int columns, const char *x,
                 int64_t x_stride, const char *w, int64_t w_stride) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        lanes wide[MOST_COLUMNS];
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) load(&wide[c], dtype, w + c * w_stride, half);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            /* Volatile, or compilers load it once for each product: loads are what this loop runs out of. */
            const lanes own = *(const volatile loose *)(x + r * x_stride + half * (int)sizeof own);
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++) sum[r][c] += own * wide[c];
        }
    }
}

/* The lanes' sum: ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)). */
INLINE float total(const lanes *sum) {
    typedef float four __attribute__((vector_size(16)));
    four low, high;
    memcpy(&low, sum, sizeof low);
    memcpy(&high, (const char *)sum + sizeof low, sizeof high);
    low += high;
    return (low[0] + low[2]) + (low[1] + low[3]);
}

/* The products of `rows` rows and `columns` columns from (row, column) on. Meanwhile the columns behind t's, which are next, come to
 * the cache: as much of them as this is of t, from four places at once, as the memory is faster that way. */
INLINE void tile(const steer_tile *t, steer_dtype dtype, int rows, int columns, int64_t row, int64_t column) {
    const int64_t size = dtype == STEER_F32 ? 4 : 2, whole = t->in / STEP * STEP;
    const int64_t x_stride = t->x_stride * (int64_t)sizeof *t->x, w_stride = t->in * size;
    const char *x = (const char *)(t->x + row * t->x_stride), *w = (const char *)t->w + column * w_stride;
    const int64_t part = t->columns * w_stride / 4, pace = columns * STEP * size * rows / t->rows / 4;
    const int64_t done = (row * t->columns + column * rows) * w_stride / t->rows;
    uintptr_t fetched = (uintptr_t)t->w + (uintptr_t)(4 * part + done / 4), goal = fetched;
    lanes sum[MOST_ROWS][MOST_COLUMNS];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) sum[r][c] = (lanes){0};
    for (int64_t i = 0; i < whole; i += STEP) {
        for (goal += (uintptr_t)pace; fetched < goal; fetched += 64)
            for (int64_t k = 0; k < 4; k++) __builtin_prefetch((const char *)fetched + k * part, 0, 2);
        step(sum, dtype, rows, columns, x + i * 4, x_stride, w + i * size, w_stride);
    }
    if (whole < t->in) { /* the last elements of the weight, and zeros, as those of x are padded with */
        char last[MOST_COLUMNS][STEP * 4] = {{0}};
        for (int c = 0; c < columns; c++)
            memcpy(last[c], w + c * w_stride + whole * size, (size_t)((t->in - whole) * size));
        step(sum, dtype, rows, columns, x + whole * 4, x_stride, last[0], sizeof last[0]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) t->product[(row + r) * t->columns + column + c] = total(&sum[r][c]);
}

/* Rows by fours, then two, then one; columns so that sums and operands fit 16 registers. */
#define TILE_FUNCTION(name, dtype)                                                                           \
    STEER_CPU_WIDE static void tiles_##name(const steer_tile *t) {                                           \
        int64_t row = 0, column;                                                                             \
        for (; row + 4 <= t->rows; row += 4) {                                                               \
            for (column = 0; column + 2 <= t->columns; column += 2) tile(t, dtype, 4, 2, row, column);       \
            for (; column < t->columns; column++) tile(t, dtype, 4, 1, row, column);                         \
        }                                                                                                    \
        for (; row + 2 <= t->rows; row += 2) {                                                               \
            for (column = 0; column + 4 <= t->columns; column += 4) tile(t, dtype, 2, 4, row, column);       \
            for (; column < t->columns; column++) tile(t, dtype, 2, 1, row, column);                         \
        }                                                                                                    \
        for (; row < t->rows; row++) {                                                                       \
            for (column = 0; column + 4 <= t->columns; column += 4) tile(t, dtype, 1, 4, row, column);       \
            for (; column < t->columns; column++) tile(t, dtype, 1, 1, row, column);                         \
        }                                                                                                    \
    }
TILE_FUNCTION(f32, STEER_F32)
TILE_FUNCTION(f16, STEER_F16)
TILE_FUNCTION(bf16, STEER_BF16)

/* x as `load` orders elements. */
#define ARRANGE_FUNCTION(name, dtype)                                                                        \
    STEER_CPU_WIDE static void arrange_##name(float *to, const char *row, int64_t n) {                       \
        for (int64_t i = 0; i < n; i += STEP)                                                                \
            for (int half = 0; half < 2; half++) {                                                           \
                lanes part;                                                                                  \
                load(&part, dtype, row + i * 2, half);                                                       \
                memcpy(to + i + half * LANES, &part, sizeof part);                                           \
            }                                                                                                \
    }
ARRANGE_FUNCTION(f16, STEER_F16)
ARRANGE_FUNCTION(bf16, STEER_BF16)

void steer_tile_arrange(float *to, steer_dtype dtype, const void *row, int64_t n) {
    const int64_t size = (int64_t)steer_dtype_size(dtype), whole = n / STEP * STEP;
    char last[STEP * 4] = {0};
    void (*const arrange)(float *, const char *, int64_t) = dtype == STEER_F16 ? arrange_f16 : arrange_bf16;
    if (dtype == STEER_F32) {
        memcpy(to, row, (size_t)n * sizeof *to);
        for (int64_t i = n; i % STEP; i++) to[i] = 0;
        return;
    }
    arrange(to, row, whole);
    memcpy(last, (const char *)row + whole * size, (size_t)((n - whole) * size));
    if (whole < n) arrange(to + whole, last, STEP);
}

void steer_tile_multiply(const steer_tile *t, steer_dtype dtype) {
    if (dtype == STEER_F32)
        tiles_f32(t);
    else if (dtype == STEER_F16)
        tiles_f16(t);
    else
        tiles_bf16(t);
}
