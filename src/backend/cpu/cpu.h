/* cpu.h: the entries of the CPU backend, and how they walk strided elements. */
#ifndef STEER_BACKEND_CPU_H
#define STEER_BACKEND_CPU_H

#include "backend/backend.h"

enum {
    STEER_CPU_BLOCK = 512,          /* elements converted and worked on at a time */
    STEER_CPU_VIEWS = 4,            /* most operands of a walk */
    STEER_CPU_PARALLEL = 32 * 1024, /* elements from which threads pay */
    STEER_CPU_SHARED = 4 * 1024     /* elements from which a team does, which is there already (team.h) */
};

/* A block of elements in the type they are worked on: f32 for floats, i64 for integers. */
typedef union steer_cpu_block {
    float f[STEER_CPU_BLOCK];
    int64_t i[STEER_CPU_BLOCK];
} steer_cpu_block;

/* Reads n <= STEER_CPU_BLOCK elements, `stride` elements apart, into a block, and back. Storing a float block rounds to
 * nearest even; storing an integer block keeps the low bits. */
void steer_cpu_load(steer_cpu_block *block, steer_dtype dtype, const void *data, int64_t stride, int64_t n);
void steer_cpu_store(const steer_cpu_block *block, steer_dtype dtype, void *data, int64_t stride, int64_t n);

/* Up to four views of one shape, cut into pieces of at most STEER_CPU_BLOCK elements of a row. */
typedef struct steer_cpu_walk {
    int32_t ndim;
    int32_t views;
    int64_t pieces;
    int64_t row_pieces; /* pieces of a row */
    int64_t shape[STEER_MAX_DIMS];
    const steer_view *view[STEER_CPU_VIEWS];
    int64_t stride[STEER_CPU_VIEWS][STEER_MAX_DIMS];
} steer_cpu_walk;

typedef struct steer_cpu_piece {
    char *data[STEER_CPU_VIEWS];
    int64_t stride[STEER_CPU_VIEWS];
    int64_t n;
    int64_t start; /* row-major index of the first element */
} steer_cpu_piece;

/* Merges dimensions that lie together in every view; those after the first may be NULL. */
void steer_cpu_walk_begin(steer_cpu_walk *walk, const steer_view *a, const steer_view *b, const steer_view *c,
                          const steer_view *d);
static inline int steer_cpu_walk_is_large(const steer_cpu_walk *walk) {
    return walk->pieces * STEER_CPU_BLOCK >= STEER_CPU_PARALLEL;
}
steer_cpu_piece steer_cpu_walk_at(const steer_cpu_walk *walk, int64_t piece);

/* elementwise.c */
int steer_cpu_copy(void *device, const steer_view *dst, const steer_view *src);
int steer_cpu_fill(void *device, const steer_view *dst, double value);
int steer_cpu_arange(void *device, const steer_view *dst, double start, double step);
int steer_cpu_random(void *device, const steer_view *dst, steer_random kind, uint64_t seed);
/* arithmetic.c */
int steer_cpu_unary(void *device, const steer_view *dst, const steer_view *a, steer_unary op);
int steer_cpu_binary(void *device, const steer_view *dst, const steer_view *a, const steer_view *b,
                     steer_binary op, double alpha);
int steer_cpu_scalar(void *device, const steer_view *dst, const steer_view *a, steer_binary op, double value);
int steer_cpu_where(void *device, const steer_view *dst, const steer_view *mask, const steer_view *a,
                    const steer_view *b);
/* reduce.c */
int steer_cpu_reduce(void *device, const steer_view *dst, const steer_view *src, steer_reduce op);
int steer_cpu_normalize(void *device, const steer_view *dst, const steer_view *src);
int steer_cpu_softmax(void *device, const steer_view *dst, const steer_view *src);
int steer_cpu_cumsum(void *device, const steer_view *dst, const steer_view *src);
/* order.c */
int steer_cpu_sort(void *device, const steer_view *values, const steer_view *indices, const steer_view *src,
                   int32_t descending);
int steer_cpu_take(void *device, const steer_view *dst, const steer_view *src, const steer_view *index,
                   int64_t base);
/* matmul.c */
int steer_cpu_matmul(void *device, const steer_view *dst, const steer_view *a, const steer_view *b);
/* steer.c */
int steer_cpu_steer(void *device, const steer_launch *launch);
/* steer_exact.c: steers h, a finite row as f32, by the program of an entry that sees `seen`: h, or h + residual. */
void steer_cpu_steer_exactly(float *h, const float *seen, const steer_entry *entry, int64_t n);
/* steer_block.c: steers a row of `dtype` by the program of blocks at `image`; r: its residual, or NULL; notes: its word. */
void steer_cpu_steer_blocks(void *h, const void *r, uint64_t image, uint64_t *notes, steer_dtype dtype,
                            int64_t n);

/* model/model.c */
extern const steer_model_ops steer_cpu_model_ops;

#endif
