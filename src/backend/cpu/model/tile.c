/* tile.c: the products of a few rows with a few rows of a weight, each widened once for all.
 *
 * A sum runs in 8 lanes, which are then added as a tree, whatever rows and columns are computed beside it: so its bits depend on its
 * own row and column alone. Machines that multiply and add in one instruction round once where others round twice.
 *
 * Functions are made twice: for any machine, and "wide", with AVX2 and FMA. Those leave nothing about registers to the compiler. */
#include "backend/cpu/model/row.h"

/* Not under the sanitizer, with which this would take GCC half a minute. */
#if defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#pragma GCC optimize("O3,fp-contract=fast,no-tree-slp-vectorize")
#endif

enum {
    LANES = STEER_TILE_LANES,
    STEP = STEER_TILE_STEP,
    COLUMNS = STEER_TILE_COLUMNS,
    MOST = 4, /* rows or columns at a time */
    FETCHES = STEER_TILE_FETCHES,
    STRETCH = 1536, /* elements of a few columns, at most, that stay in the nearest cache for all rows */
    ANY = 0,        /* machines */
    WIDE = 1
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

static const words ODD = {0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u,
                          0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u};

/* One half of STEP elements as f32: of 16 bits those with even places, then those with odd ones, which are the low and the high
 * halves of words; of f32 the first, then the last. `odd`: ODD. */
INLINE void load(lanes *out, steer_dtype dtype, const char *from, int half, const words *odd) {
    words w;
    memcpy(&w, dtype == STEER_F32 ? from + half * (int)sizeof w : from, sizeof w);
    if (dtype == STEER_F32) {
        *out = (lanes)w;
    } else if (dtype == STEER_BF16) {
        *out = (lanes)(half ? w & *odd : w << 16);
    } else {
        w = half ? w >> 16 : w & 0xffffu;
        widen_f16(out, &w);
    }
}

/* As load() of f32. Volatile, or compilers load it once for each product: loads are what the loops run out of. */
INLINE void load_once(lanes *out, const char *from, int half) {
    *out = *(const volatile loose *)(from + half * (int)sizeof *out);
}

/* sum += a * b. Wide: in place, or compilers put the sum into a register of a or b and lose others for it. */
INLINE void add_product(lanes *sum, const lanes *a, const lanes *b, int machine) {
#ifdef STEER_CPU_WIDE_ALONE
    if (machine == WIDE) {
        __asm__("vfmadd231ps %2, %1, %0" : "+x"(*sum) : "x"(*a), "x"(*b));
        return;
    }
#endif
    *sum += *a * *b;
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

/* Steps between fetches: one row waits for its weight, more for their products, which looking for what to fetch would hold up. */
INLINE int steps_between(int rows) { return rows < 3 ? 1 : 8; }

/* How far what is next has come to the cache while a tile is multiplied: as much of it as this is of the tile, from FETCHES places at
 * once, as the memory is faster that way. */
typedef struct fetch {
    const char *at, *goal, *end; /* of the first place */
    int64_t apart, pace;         /* bytes between places; of each at a time */
} fetch;

static fetch fetch_next(const steer_tile *t) {
    return (fetch){t->next, t->next, t->part ? t->next + t->part : t->next, t->apart, 0};
}

/* While tiles of `rows` times `columns` are multiplied. */
INLINE void fetch_with(fetch *next, const steer_tile *t, int rows, int columns) {
    const int64_t all = t->rows * t->columns * t->in;
    next->pace = (t->part * rows * columns * steps_between(rows) * STEP + all - 1) / all;
}

INLINE void fetch_some(fetch *next) {
    next->goal = next->end - next->goal < next->pace ? next->end : next->goal + next->pace;
    for (; next->at < next->goal; next->at += 64)
        for (int64_t k = 0; k < FETCHES; k++) __builtin_prefetch(next->at + k * next->apart, 0, 2);
}

/* sum[r][c] += x[r] * w[c] of STEP elements; rows of x and of w lie `x_stride` and `w_stride` bytes apart. */
INLINE void step(lanes sum[MOST][MOST], steer_dtype dtype, int machine, int rows, int columns, const char *x,
                 int64_t x_stride, const char *w, int64_t w_stride) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        lanes wide[MOST], own;
        words odd;
        if (half && dtype == STEER_BF16)
            odd = *(const volatile words *)&ODD; /* leaves its register at once */
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) load(&wide[c], dtype, w + c * w_stride, half, &odd);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            load_once(&own, x + r * x_stride, half);
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++) add_product(&sum[r][c], &own, &wide[c], machine);
        }
    }
}

/* Adds the products of the elements first .. last; `kept` are the sums of those before, if there are any. */
INLINE void tile(const steer_tile *t, fetch *to, steer_dtype dtype, int machine, int rows, int columns,
                 int64_t row, int64_t column, int64_t first, int64_t last) {
    const int64_t size = dtype == STEER_F32 ? 4 : 2, whole = last / STEP * STEP, w_stride = t->in * size;
    const int64_t x_stride = t->x_stride * (int64_t)sizeof *t->x;
    const char *x = (const char *)(t->x + row * t->x_stride), *w = (const char *)t->w + column * w_stride;
    lanes sum[MOST][MOST], *kept = (lanes *)t->sums + row * COLUMNS + column;
    fetch next = *to;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) sum[r][c] = first ? kept[r * COLUMNS + c] : (lanes){0};
    const int64_t run = steps_between(rows) * STEP;
    for (int64_t i = first, stop; i < whole;) {
        fetch_some(&next);
        for (stop = whole - i < run ? whole : i + run; i < stop; i += STEP)
            step(sum, dtype, machine, rows, columns, x + i * 4, x_stride, w + i * size, w_stride);
    }
    *to = next;
    if (whole < last) { /* the last elements of the weight, and zeros, as those of x are padded with */
        char tail[MOST][STEP * 4] = {{0}};
        for (int c = 0; c < columns; c++)
            memcpy(tail[c], w + c * w_stride + whole * size, (size_t)((last - whole) * size));
        step(sum, dtype, machine, rows, columns, x + whole * 4, x_stride, tail[0], sizeof tail[0]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) kept[r * COLUMNS + c] = sum[r][c];
}

/* The finished products. */
INLINE void finish(const steer_tile *t) {
    for (int64_t row = 0; row < t->rows; row++) {
        float all[COLUMNS], *to = t->product + row * t->product_stride;
        for (int64_t c = 0; c < COLUMNS; c += 4) total(all + c, (lanes *)t->sums + row * COLUMNS + c);
        if (t->columns == COLUMNS)
            memcpy(to, all, sizeof all);
        else
            memcpy(to, all, (size_t)t->columns * sizeof *all);
    }
}

/* Products of `rows` rows from `row` on, `columns` columns at a time. */
#define TAKE(dtype, machine, height, width)                                                                  \
    fetch_with(&next, t, height, width);                                                                     \
    for (c = 0; c + width <= t->columns; c += width)                                                         \
        tile(t, &next, dtype, machine, height, width, row, c, first, last);                                  \
    for (; c < t->columns; c++) tile(t, &next, dtype, machine, height, 1, row, c, first, last)

/* Rows by fours, then three, two or one; columns so that sums and operands fit 16 registers. */
#define TILE_FUNCTION(name, dtype, machine, width)                                                           \
    static void name(const steer_tile *t) {                                                                  \
        const int64_t cuts = t->rows < MOST ? 1 : (t->in + STRETCH - 1) / STRETCH;                           \
        const int64_t most = (t->in + cuts * STEP - 1) / (cuts * STEP) * STEP;                               \
        fetch next = fetch_next(t);                                                                          \
        for (int64_t first = 0; first < t->in; first += most) {                                              \
            const int64_t last = t->in - first < most ? t->in : first + most;                                \
            int64_t row = 0, c;                                                                              \
            for (; row + 4 <= t->rows; row += 4) {                                                           \
                TAKE(dtype, machine, 4, width);                                                              \
            }                                                                                                \
            for (; row + 3 <= t->rows; row += 3) {                                                           \
                TAKE(dtype, machine, 3, width);                                                              \
            }                                                                                                \
            for (; row + 2 <= t->rows; row += 2) {                                                           \
                TAKE(dtype, machine, 2, 4);                                                                  \
            }                                                                                                \
            for (; row < t->rows; row++) {                                                                   \
                TAKE(dtype, machine, 1, 4);                                                                  \
            }                                                                                                \
        }                                                                                                    \
        finish(t);                                                                                           \
    }
TILE_FUNCTION(tiles_f32, STEER_F32, ANY, 3)
TILE_FUNCTION(tiles_f16, STEER_F16, ANY, 2)
TILE_FUNCTION(tiles_bf16, STEER_BF16, ANY, 3)
#ifdef STEER_CPU_WIDE_ALONE
STEER_CPU_WIDE_ALONE TILE_FUNCTION(wide_f32, STEER_F32, WIDE, 3) STEER_CPU_WIDE_ALONE
    TILE_FUNCTION(wide_f16, STEER_F16, WIDE, 2) STEER_CPU_WIDE_ALONE
    TILE_FUNCTION(wide_bf16, STEER_BF16, WIDE, 3)
#endif

/* to[i] = n elements in f32, as load() orders them, with zeros up to a multiple of STEP. */
#define ARRANGE_FUNCTION(name, dtype)                                                                        \
    STEER_CPU_WIDE static void arrange_##name(float *to, const char *from, int64_t n) {                      \
        const int64_t size = dtype == STEER_F32 ? 4 : 2, whole = n / STEP * STEP;                            \
        lanes part;                                                                                          \
        for (int64_t i = 0; i < whole; i += STEP)                                                            \
            for (int half = 0; half < 2; half++) {                                                           \
                load(&part, dtype, from + i * size, half, &ODD);                                             \
                memcpy(to + i + half * LANES, &part, sizeof part);                                           \
            }                                                                                                \
        if (whole == n) return;                                                                              \
        char last[STEP * 4] = {0};                                                                           \
        memcpy(last, from + whole * size, (size_t)((n - whole) * size));                                     \
        for (int half = 0; half < 2; half++) {                                                               \
            load(&part, dtype, last, half, &ODD);                                                            \
            memcpy(to + whole + half * LANES, &part, sizeof part);                                           \
        }                                                                                                    \
    }
        ARRANGE_FUNCTION(f32, STEER_F32) ARRANGE_FUNCTION(f16, STEER_F16) ARRANGE_FUNCTION(bf16, STEER_BF16)

            void steer_tile_arrange(float *to, steer_dtype dtype, const void *row, int64_t n) {
    static void (*const arrange[])(float *, const char *, int64_t) = {arrange_f32, arrange_f16, arrange_bf16};
    arrange[dtype](to, row, n);
}

size_t steer_tile_room(int64_t rows) {
    return (size_t)(COLUMNS * rows * LANES) * sizeof(float); /* a multiple of 64 */
}

void steer_tile_multiply(const steer_tile *t, steer_dtype dtype) {
    static void (*const tiles[])(const steer_tile *) = {tiles_f32, tiles_f16, tiles_bf16};
#ifdef STEER_CPU_WIDE_ALONE
    static void (*const wide[])(const steer_tile *) = {wide_f32, wide_f16, wide_bf16};
    if (__builtin_cpu_supports("x86-64-v3")) {
        wide[dtype](t);
        return;
    }
#endif
    tiles[dtype](t);
}
