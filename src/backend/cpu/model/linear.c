/* linear.c: y = x @ weight^T + bias.
 *
 * Up to TILE_ROWS rows go through tiles of the weight (tile.c), which is read once for all of them, and a row's bits do not depend on
 * its neighbours. More go through CBLAS by blocks of the weight in f32; tiles serve them too without CBLAS, and where bits may not
 * depend on how many rows there are. */
#include "backend/cpu/model/row.h"

#include <limits.h>
#ifdef STEER_HAVE_CBLAS
#include <cblas.h>
#endif

enum { TILE_ROWS = 64, RUN = 4, RUN_BYTES = 96 << 10, BEHIND = 2, BLOCK_BYTES = 4 << 20 };

/* Rows of x in f32, `stride` elements apart. */
typedef struct widening {
    const steer_linear *args;
    float *x;
    int64_t stride;
    int for_tiles; /* 1: as tiles take them, 0: as they are */
} widening;

static void widen_each(void *context, steer_job *job, int32_t place) {
    const widening *w = context;
    for (int64_t row; (row = steer_job_next(job)) >= 0;) {
        const void *from = steer_row_at(w->args->x, w->args->dtype, row * w->args->x_stride);
        (w->for_tiles ? steer_tile_arrange : steer_row_load)(w->x + row * w->stride, w->args->dtype, from,
                                                             w->args->in);
    }
}

static float *widen_rows(const steer_linear *args, int64_t stride, int for_tiles) {
    const size_t bytes = (size_t)(args->rows * stride) * sizeof(float);
    widening w = {args, aligned_alloc(64, (bytes + 64) / 64 * 64), stride, for_tiles};
    if (w.x) steer_job_run(widen_each, &w, args->rows, args->rows * stride >= STEER_CPU_SHARED);
    return w.x;
}

enum { PIECE = 64 }; /* of a bias, widened */

/* Puts `count` products of a row from `column` on into y, with the bias. */
static void store(const steer_linear *args, int64_t row, int64_t column, float *product, int64_t count) {
    for (int64_t i = 0; args->bias && i < count; i += PIECE) {
        float bias[PIECE];
        const int64_t n = count - i < PIECE ? count - i : PIECE;
        steer_row_load(bias, args->dtype, steer_row_at(args->bias, args->dtype, column + i), n);
        for (int64_t j = 0; j < n; j++) product[i + j] += bias[j];
    }
    steer_row_store(args->y_dtype, steer_row_into(args->y, args->y_dtype, row * args->y_stride + column),
                    product, count);
}

/* What the threads of a product share. */
typedef struct shared {
    const steer_linear *args;
    const float *x;       /* as tiles take it */
    float *memory;        /* for each thread: what a tile works in, then products of a run */
    int64_t stride, each; /* elements of a row of x and of a thread's memory */
    int64_t tiles, run, single;
} shared;

/* Tiles that a thread takes together. */
typedef struct tiles {
    int64_t first, count;
} tiles;

/* Runs of `run` tiles are fetched faster than one tile. The first `single` pieces are one tile, as nothing has been fetched for
 * them, and so are the last, that all threads end together. */
static tiles piece_at(const shared *s, int64_t piece) {
    const int64_t within = s->tiles - 2 * s->single, runs = within > 0 ? (within + s->run - 1) / s->run : 0;
    if (piece < s->single || within <= 0) return (tiles){piece, piece < s->tiles};
    if (piece >= s->single + runs) return (tiles){within + piece - runs, 1};
    const int64_t done = (piece - s->single) * s->run, left = within - done;
    return (tiles){s->single + done, left < s->run ? left : s->run};
}

static int64_t pieces_of(const shared *s) {
    const int64_t within = s->tiles - 2 * s->single;
    return within > 0 ? 2 * s->single + (within + s->run - 1) / s->run : s->tiles;
}

/* Products of a run, stored together. `next`: what this thread takes after it. */
static void take_run(const shared *s, steer_tile *tile, tiles now, tiles next) {
    const steer_linear *args = s->args;
    const int64_t column = now.first * STEER_TILE_COLUMNS;
    const int64_t bytes = STEER_TILE_COLUMNS * args->in * (int64_t)steer_dtype_size(args->dtype);
    const char *after = (const char *)args->weight + next.first * bytes;
    float *products = tile->product;
    int64_t done = 0;
    tile->apart = next.count * bytes / STEER_TILE_FETCHES;
    tile->part = tile->apart / now.count;
    for (int64_t i = 0; i < now.count; i++, done += tile->columns) {
        const int64_t left = args->out - column - done;
        tile->columns = left < STEER_TILE_COLUMNS ? left : STEER_TILE_COLUMNS;
        tile->w = (const char *)args->weight + (now.first + i) * bytes;
        tile->next = after + i * tile->part;
        tile->product = products + done;
        steer_tile_multiply(tile, args->dtype);
    }
    tile->product = products;
    for (int64_t row = 0; row < args->rows; row++)
        store(args, row, column, products + row * tile->product_stride, done);
}

/* A thread knows its next run while it is at one, so that the weight's rows come meanwhile; after the last, what lies behind the weight,
 * which mostly is that of the next product. */
static void take_runs(void *context, steer_job *job, int32_t place) {
    const shared *s = context;
    const size_t room = steer_tile_room(s->args->rows) / sizeof(float);
    float *sums = s->memory + place * s->each;
    steer_tile tile = {.x = s->x,
                       .x_stride = s->stride,
                       .rows = s->args->rows,
                       .in = s->args->in,
                       .sums = sums,
                       .product = sums + room,
                       .product_stride = s->run * STEER_TILE_COLUMNS};
    for (int64_t piece = steer_job_next(job), next; piece >= 0; piece = next) {
        next = steer_job_next(job);
        take_run(s, &tile, piece_at(s, piece),
                 next < 0 ? (tiles){s->tiles + BEHIND * place, BEHIND} : piece_at(s, next));
    }
}

static int by_tiles(const steer_linear *args) {
    const int64_t stride = (args->in + STEER_TILE_STEP - 1) / STEER_TILE_STEP * STEER_TILE_STEP;
    const int64_t bytes = STEER_TILE_COLUMNS * args->in * (int64_t)steer_dtype_size(args->dtype);
    const int64_t fit = RUN_BYTES / bytes, run = fit < RUN ? fit : RUN;
    shared s = {.args = args,
                .x = widen_rows(args, stride, 1),
                .stride = stride,
                .tiles = (args->out + STEER_TILE_COLUMNS - 1) / STEER_TILE_COLUMNS,
                .run = run > 1 ? run : 1,
                .single = 2 * steer_cpu_threads()};
    const int64_t pieces = pieces_of(&s), threads = steer_job_threads(pieces);
    s.each = (int64_t)(steer_tile_room(args->rows) / sizeof(float)) +
             (args->rows * s.run * STEER_TILE_COLUMNS + 15) / 16 * 16;
    s.memory = aligned_alloc(64, (size_t)(threads * s.each) * sizeof(float));
    const int failed = !s.x || !s.memory;
    if (!failed) steer_job_run(take_runs, &s, pieces, args->out * args->in >= STEER_CPU_PARALLEL);
    free((float *)s.x);
    free(s.memory);
    return failed ? steer_cpu_no_memory("linear",
                                        (size_t)(args->rows * stride + threads * s.each) * sizeof(float))
                  : STEER_OK;
}

#ifdef STEER_HAVE_CBLAS
/* Rows first .. first + count of the weight in f32: where they lie, or widened into `space`. */
static const float *widen_block(const steer_linear *args, int64_t first, int64_t count, float *space) {
    const void *from = steer_row_at(args->weight, args->dtype, first * args->in);
    if (args->dtype == STEER_F32) return from;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++)
        steer_row_load(space + i * args->in, args->dtype, steer_row_at(from, args->dtype, i * args->in),
                       args->in);
    return space;
}

static int by_blocks(const steer_linear *args) {
    const int64_t fit = BLOCK_BYTES / (args->in * (int64_t)sizeof(float)), block = fit < 64 ? 64 : fit;
    const size_t bytes = (size_t)(block * (args->in + args->rows)) * sizeof(float);
    float *space = malloc(bytes), *x = args->dtype == STEER_F32 ? NULL : widen_rows(args, args->in, 0);
    const int failed = !space || (args->dtype != STEER_F32 && !x);
    for (int64_t first = 0; first < args->out && !failed; first += block) {
        const int64_t count = args->out - first < block ? args->out - first : block;
        const float *w = widen_block(args, first, count, space);
        float *product = space + block * args->in;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)args->rows, (int)count, (int)args->in, 1.0f,
                    x ? x : args->x, (int)(x ? args->in : args->x_stride), w, (int)args->in, 0.0f, product,
                    (int)count);
#pragma omp parallel for schedule(static) if (args->rows * count >= STEER_CPU_PARALLEL)
        for (int64_t row = 0; row < args->rows; row++) store(args, row, first, product + row * count, count);
    }
    free(x);
    free(space);
    return failed ? steer_cpu_no_memory("linear", bytes) : STEER_OK;
}

int steer_cpu_linear(void *device, const steer_linear *args) {
    const int fits = args->rows <= INT_MAX && args->in <= INT_MAX && args->x_stride <= INT_MAX;
    return args->rows > TILE_ROWS && fits && !args->reproducible ? by_blocks(args) : by_tiles(args);
}
#else
int steer_cpu_linear(void *device, const steer_linear *args) { return by_tiles(args); }
#endif
