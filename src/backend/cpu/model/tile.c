/* tile.c: the products of a few rows with a few rows of a weight, each widened once for all.
 *
 * A sum runs in 8 lanes, which are then added as a tree, whatever rows and columns are computed beside it: so its bits depend on its
 * own row and column alone. Machines that multiply and add in one instruction round once where others round twice. */
#include "backend/cpu/model/row.h"

/* Not under the sanitizer, with which this would take GCC half a minute. */
#if defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#pragma GCC optimize("O3,fp-contract=fast,no-tree-slp-vectorize")
#endif

enum {
    LANES = STEER_TILE_LANES,
    STEP = STEER_TILE_STEP,
    COLUMNS = STEER_TILE_COLUMNS,
    MOST = 4,     /* rows or columns at a time */
    FETCHES = 4,  /* places that are fetched from at once */
    STRETCH = 512 /* elements of a few columns that stay in the nearest cache for all rows */
};

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

/* As load() of f32. Volatile, or compilers load it once for each product: loads are what the loops run out of. */
INLINE void load_once(lanes *out, const char *from, int half) {
    *out = *(const volatile loose *)(from + half * (int)sizeof *out);
}

/* The sums of the lanes of four: ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)). */
INLINE void total(float *out, const lanes *sum) {
    typedef float four __attribute__((vector_size(16)));
    four part[4], pair[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        four high;
        memcpy(&part[i], &sum[i], sizeof high);
        memcpy(&high, (const char *)&sum[i] + sizeof high, sizeof high);
        part[i] += high;
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        const four a = part[2 * i], b = part[2 * i + 1];
        pair[i] = (four){a[0], a[1], b[0], b[1]} + (four){a[2], a[3], b[2], b[3]};
    }
    const four a = pair[0], b = pair[1],
               all = (four){a[0], a[2], b[0], b[2]} + (four){a[1], a[3], b[1], b[3]};
    memcpy(out, &all, sizeof all);
}

/* How far the columns behind a tile's, which are next, have come to the cache while it is computed: as much of them as this is of
 * the tile, from FETCHES places at once, as the memory is faster that way. */
typedef struct fetch {
    const char *at, *goal;
    int64_t part, each, pace; /* bytes between places; of each for a row, a column and a step; for a step */
} fetch;

static fetch fetch_next(const steer_tile *t, int64_t size) {
    const int64_t part = t->columns * t->in * size / FETCHES;
    const int64_t each = t->next ? (STEP * size + FETCHES * t->rows - 1) / (FETCHES * t->rows) : 0;
    return (fetch){t->next, t->next, part, each, 0};
}

INLINE void fetch_some(fetch *next) {
    for (next->goal += next->pace; next->at < next->goal; next->at += 64)
        for (int64_t k = 0; k < FETCHES; k++) __builtin_prefetch(next->at + k * next->part, 0, 2);
}

/* sum[r][c] += x[r] * w[c] of STEP elements; rows of x and of w lie `x_stride` and `w_stride` bytes apart. */
INLINE void step(lanes sum[MOST][MOST], steer_dtype dtype, int rows, int columns, const char *x,
                 int64_t x_stride, const char *w, int64_t w_stride) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        lanes wide[MOST], own;
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) load(&wide[c], dtype, w + c * w_stride, half);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            load_once(&own, x + r * x_stride, half);
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++) sum[r][c] += own * wide[c];
        }
    }
}

/* Adds the products of the elements first .. last; `kept` are the sums of those before, if there are any. */
INLINE void tile(const steer_tile *t, fetch *to, steer_dtype dtype, int rows, int columns, int64_t row,
                 int64_t column, int64_t first, int64_t last) {
    const int64_t size = dtype == STEER_F32 ? 4 : 2, whole = last / STEP * STEP, w_stride = t->in * size;
    const int64_t x_stride = t->x_stride * (int64_t)sizeof *t->x;
    const char *x = (const char *)(t->x + row * t->x_stride), *w = (const char *)t->w + column * w_stride;
    lanes sum[MOST][MOST], *kept = (lanes *)t->sums + row * COLUMNS + column;
    fetch next = *to;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) sum[r][c] = first ? kept[r * COLUMNS + c] : (lanes){0};
    for (int64_t i = first; i < whole; i += STEP) {
        fetch_some(&next);
        step(sum, dtype, rows, columns, x + i * 4, x_stride, w + i * size, w_stride);
    }
    *to = next;
    if (whole < last) { /* the last elements of the weight, and zeros, as those of x are padded with */
        char tail[MOST][STEP * 4] = {{0}};
        for (int c = 0; c < columns; c++)
            memcpy(tail[c], w + c * w_stride + whole * size, (size_t)((last - whole) * size));
        step(sum, dtype, rows, columns, x + whole * 4, x_stride, tail[0], sizeof tail[0]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) kept[r * COLUMNS + c] = sum[r][c];
}

/* Rows by fours, then two, then one; columns so that sums and operands fit 16 registers. */
#define TILE_FUNCTION(name, dtype)                                                                           \
    STEER_CPU_WIDE static void tiles_##name(const steer_tile *t) {                                           \
        const int64_t most = t->rows >= MOST ? STRETCH : t->in;                                              \
        fetch next = fetch_next(t, dtype == STEER_F32 ? 4 : 2);                                              \
        for (int64_t first = 0; first < t->in; first += most) {                                              \
            const int64_t last = t->in - first < most ? t->in : first + most;                                \
            int64_t row = 0, c;                                                                              \
            for (; row + 4 <= t->rows; row += 4) {                                                           \
                next.pace = 8 * next.each;                                                                   \
                for (c = 0; c + 2 <= t->columns; c += 2) tile(t, &next, dtype, 4, 2, row, c, first, last);   \
                for (; c < t->columns; c++) tile(t, &next, dtype, 4, 1, row, c, first, last);                \
            }                                                                                                \
            for (; row + 2 <= t->rows; row += 2) {                                                           \
                next.pace = 8 * next.each;                                                                   \
                for (c = 0; c + 4 <= t->columns; c += 4) tile(t, &next, dtype, 2, 4, row, c, first, last);   \
                for (; c < t->columns; c++) tile(t, &next, dtype, 2, 1, row, c, first, last);                \
            }                                                                                                \
            for (; row < t->rows; row++) {                                                                   \
                next.pace = 4 * next.each;                                                                   \
                for (c = 0; c + 4 <= t->columns; c += 4) tile(t, &next, dtype, 1, 4, row, c, first, last);   \
                for (; c < t->columns; c++) tile(t, &next, dtype, 1, 1, row, c, first, last);                \
            }                                                                                                \
        }                                                                                                    \
        for (int64_t row = 0; row < t->rows; row++) {                                                        \
            float all[COLUMNS];                                                                              \
            for (int64_t c = 0; c < COLUMNS; c += 4) total(all + c, (lanes *)t->sums + row * COLUMNS + c);   \
            memcpy(t->product + row * t->product_stride, all, (size_t)t->columns * sizeof *all);             \
        }                                                                                                    \
    }
TILE_FUNCTION(f32, STEER_F32)
TILE_FUNCTION(f16, STEER_F16)
TILE_FUNCTION(bf16, STEER_BF16)

/* to[i] = n elements in f32, as load() orders them, with zeros up to a multiple of STEP. */
#define ARRANGE_FUNCTION(name, dtype)                                                                        \
    STEER_CPU_WIDE static void arrange_##name(float *to, const char *from, int64_t n) {                      \
        const int64_t size = dtype == STEER_F32 ? 4 : 2, whole = n / STEP * STEP;                            \
        lanes part;                                                                                          \
        for (int64_t i = 0; i < whole; i += STEP)                                                            \
            for (int half = 0; half < 2; half++) {                                                           \
                load(&part, dtype, from + i * size, half);                                                   \
                memcpy(to + i + half * LANES, &part, sizeof part);                                           \
            }                                                                                                \
        if (whole == n) return;                                                                              \
        char last[STEP * 4] = {0};                                                                           \
        memcpy(last, from + whole * size, (size_t)((n - whole) * size));                                     \
        for (int half = 0; half < 2; half++) {                                                               \
            load(&part, dtype, last, half);                                                                  \
            memcpy(to + whole + half * LANES, &part, sizeof part);                                           \
        }                                                                                                    \
    }
ARRANGE_FUNCTION(f32, STEER_F32)
ARRANGE_FUNCTION(f16, STEER_F16)
ARRANGE_FUNCTION(bf16, STEER_BF16)

void steer_tile_arrange(float *to, steer_dtype dtype, const void *row, int64_t n) {
    static void (*const arrange[])(float *, const char *, int64_t) = {arrange_f32, arrange_f16, arrange_bf16};
    arrange[dtype](to, row, n);
}

size_t steer_tile_room(int64_t rows) {
    return (size_t)(COLUMNS * rows * LANES) * sizeof(float); /* a multiple of 64 */
}

void steer_tile_multiply(const steer_tile *t, steer_dtype dtype) {
    static void (*const tiles[])(const steer_tile *) = {tiles_f32, tiles_f16, tiles_bf16};
    tiles[dtype](t);
}
