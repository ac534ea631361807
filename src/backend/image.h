/* image.h: compiled programs in device memory, as the library writes them and kernels read them.
 *
 * Every operation acts on a stored vector m (f32, at a device address, scaled by a power of two into [0.5, 1) so that
 * nothing overflows). With P = h.m as the operations before it left h:
 *     s = inv * P + bias          what the formula calls p; bias is what folded adds before it contribute
 *     c = min(max(gain * s + offset, lo - s), hi - s)
 *     h += c * inv * m
 * CAP:    gain 0, offset 0, bounds min and max.   clamp(s, min, max) - s = clamp(0, min - s, max - s)
 * ABLATE: gain scale - 1, offset 0, bounds -inf and +inf.
 * ADD:    folded away into u; only a conditional ADD stays: gain 0, offset scale, bounds -inf and +inf.
 * P of a later operation follows from P of h and the Gram matrix, so one pass over h computes all dots at once. */
#ifndef STEER_BACKEND_IMAGE_H
#define STEER_BACKEND_IMAGE_H

#ifdef __CUDACC_RTC__ /* a kernel compiled at run time has no headers of C */
typedef int int32_t;
typedef unsigned uint32_t;
typedef unsigned short uint16_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <stddef.h>
#include <stdint.h>
#endif

/* For host and kernels alike. */
#ifdef __CUDACC__
#define STEER_IMAGE_FN static inline __host__ __device__
#else
#define STEER_IMAGE_FN static inline
#endif

enum { STEER_OP_IMAGE_COSINE = 1, STEER_OP_IMAGE_BELOW = 2 };

typedef struct steer_op_image {
    int32_t dot;    /* index of m among the program's vectors */
    int32_t gate;   /* index of the gate vector, -1: unconditional */
    uint32_t flags; /* STEER_OP_IMAGE_* of the gate */
    float inv;
    float bias;
    float gain;
    float offset;
    float lo;
    float hi;
    float gate_inv; /* gate value = gate_inv * (g.h) + gate_bias, over |h| for a cosine */
    float gate_bias;
    float threshold;
    float inv_rest; /* what f32 leaves of inv: for rows that are steered in f64 */
    float reserved[3];
} steer_op_image;

/* Stored vectors are 64-byte aligned and padded with zeros to a multiple of these elements. */
enum { STEER_VECTOR_STEP = 64 };
STEER_IMAGE_FN int64_t steer_vector_room(int64_t length) {
    return (length + STEER_VECTOR_STEP - 1) / STEER_VECTOR_STEP * STEER_VECTOR_STEP;
}

/* A program in device memory: this header, `vectors` addresses (u64, padded to 16 bytes), `ops` steer_op_image, and
 * the Gram matrix m_i.m_j (f32, [vectors][vectors]). */
typedef struct steer_program_image {
    int32_t vectors; /* vectors whose dot with h is needed; those that are also added to h come first */
    int32_t updated; /* how many of them are added to h */
    int32_t ops;
    int32_t norm; /* 1 if a cosine needs h.h */
} steer_program_image;

/* Where its parts are. */
STEER_IMAGE_FN size_t steer_image_vectors_at(void) { return sizeof(steer_program_image); }
STEER_IMAGE_FN size_t steer_image_ops_at(int32_t vectors) {
    return sizeof(steer_program_image) + (((size_t)vectors * 8 + 15) & ~(size_t)15);
}
STEER_IMAGE_FN size_t steer_image_gram_at(int32_t vectors, int32_t ops) {
    return steer_image_ops_at(vectors) + (size_t)ops * sizeof(steer_op_image);
}
STEER_IMAGE_FN size_t steer_image_size(int32_t vectors, int32_t ops) {
    return steer_image_gram_at(vectors, ops) + (size_t)vectors * (size_t)vectors * sizeof(float);
}

/* The same to the next multiple of 16 bytes, as kernels copy it. */
STEER_IMAGE_FN size_t steer_image_room(int32_t vectors, int32_t ops) {
    return (steer_image_size(vectors, ops) + 15) / 16 * 16;
}

/* What one layer of a compiled spec does; 128 bytes, in device memory. A program of at most one unconditional
 * projecting operation is here whole, and the vectors of short ones, so a row costs one look-up before its vectors. */
enum { STEER_ENTRY_VECTORS = 8 };
typedef struct steer_entry {
    uint64_t u;     /* folded adds: h += u_coef * u; 0: none */
    uint64_t image; /* steer_program_image, when vectors > 1 or the operation is conditional; else 0 */
    float u_coef;
    int32_t
        vectors; /* as the image has them. u == 0 and vectors == 0: unsteered, or m[0] says more: see block.h */
    int32_t updated;
    int32_t ops;
    int32_t norm;
    int32_t image_bytes; /* a multiple of 16 */
    float inv;           /* of the one operation where there is no image, as in steer_op_image */
    float bias;
    float gain;
    float lo;
    float hi;
    int32_t program;                 /* number of the program in its engine, for explaining */
    uint64_t m[STEER_ENTRY_VECTORS]; /* the first vectors; all of them are in the image */
} steer_entry;

/* Programs of at most so many vectors, without a cosine, are of one class, the others of another: kernels of 16-bit rows are of
 * one or the other, so that a program has one sum, in registers or on tensor cores, whatever is beside it. */
enum { STEER_REGISTER_VECTORS = 6 };
STEER_IMAGE_FN int steer_fits_registers(int32_t vectors, int32_t norm) {
    return vectors <= STEER_REGISTER_VECTORS && !norm;
}

/* Where a row's entries are: layer L of the row has entry `entries + (L - first) * 128` if first <= L < first + count.
 * count 0: the row is not steered. run: rows from this one on with the same entries, at least 1. 16 bytes, in device memory,
 * one per row. */
typedef struct steer_row {
    uint64_t entries;
    uint16_t first;
    uint16_t count;
    uint32_t run;
} steer_row;

/* Where runs with entries begin within tiles, not with them, in device memory: [k] says how many do where tiles have 2^k rows,
 * and from [STEER_INNER_AT] on stand the rows at which they do, those within the smallest tiles first. */
enum { STEER_INNER_TILES = 6, STEER_INNER_AT = 8 };
/* That k. */
STEER_IMAGE_FN int steer_inner_index(int tile_rows) {
    int k = 0;
    while (1 << k < tile_rows) k++;
    return k;
}

#endif
