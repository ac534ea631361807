/* backend.h: what a device backend provides. The CPU backend is built in; others are modules loaded at run time that
 * export `steer_backend_entry`. Kernels know this header and their own toolkit, nothing else of the library.
 *
 * Calls come validated: shapes agree, dtypes are allowed, pointers are device addresses of this backend. A function
 * returns a steer_status and reports failures through steer_host.fail. Work is ordered on the calling thread's
 * current stream. */
#ifndef STEER_BACKEND_H
#define STEER_BACKEND_H

#include "steer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { STEER_BACKEND_ABI = 2 };

/* Where the elements of a tensor are. Strides in elements, 0 for a broadcast dimension. */
typedef struct steer_view {
    void *data;
    steer_dtype dtype;
    int32_t ndim;
    int64_t shape[STEER_MAX_DIMS];
    int64_t stride[STEER_MAX_DIMS];
} steer_view;

/* ---- Steering: the device image of compiled programs ---------------------------------------------------------
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
    float reserved[4];
} steer_op_image;

/* A program in device memory: this header, `vectors` addresses (u64, padded to 16 bytes), `ops` steer_op_image, and
 * the Gram matrix m_i.m_j (f32, [vectors][vectors]). */
typedef struct steer_program_image {
    int32_t vectors; /* vectors whose dot with h is needed; those that are also added to h come first */
    int32_t updated; /* how many of them are added to h */
    int32_t ops;
    int32_t norm; /* 1 if a cosine needs h.h */
} steer_program_image;

/* Where its parts are, for host and kernels alike. */
#ifdef __CUDACC__
#define STEER_IMAGE_FN static inline __host__ __device__
#else
#define STEER_IMAGE_FN static inline
#endif
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

/* What one layer of a compiled spec does; 64 bytes, in device memory. A program of at most one unconditional
 * projecting operation is here whole, so a row costs one look-up before its vectors. */
typedef struct steer_entry {
    uint64_t u;     /* folded adds: h += u_coef * u; 0: none */
    uint64_t m;     /* the one projecting operation's vector, when vectors == 1 */
    uint64_t image; /* steer_program_image, when vectors > 1 or the operation is conditional; else 0 */
    float u_coef;
    int32_t vectors; /* 0: no projecting operation. u == 0 and vectors == 0: unsteered */
    float inv;       /* of the one operation, as in steer_op_image */
    float bias;
    float gain;
    float lo;
    float hi;
    int32_t program; /* number of the program in its engine, for explaining */
    float reserved[2];
} steer_entry;

/* Where a row's entries are: layer L of the row has entry `entries + (L - first) * 64` if first <= L < first + count.
 * count 0: the row is not steered. 16 bytes, in device memory, one per row. */
typedef struct steer_row {
    uint64_t entries;
    uint16_t first;
    uint16_t count;
    uint32_t reserved;
} steer_row;

/* One launch over rows of the hidden states. */
typedef struct steer_launch {
    void *hidden;          /* [rows, hidden_size], in place */
    const void *residual;  /* NULL, or: the program sees hidden + residual, its update goes to hidden */
    int64_t hidden_stride; /* elements between rows */
    int64_t residual_stride;
    int64_t hidden_size;
    int64_t rows;
    steer_dtype dtype;
    int32_t layer;
    const steer_entry *uniform; /* host copy of the entry of every row, or NULL: see `table` */
    const steer_row *table;     /* device memory, `rows` records */
    int32_t
        max_vectors; /* most vectors of a program that any row has on this layer, at least 2 for one with an
                                   image; -1: rows may have any program (a graph is being captured) */
    int64_t max_image_bytes;  /* largest image of those programs */
    int32_t both;             /* 1 if one of those programs has folded adds and a projecting operation */
    int32_t norm;             /* 1 if one of those programs has a cosine */
    int32_t rows_per_program; /* about how many neighbours share a program: chooses the geometry only */
} steer_launch;

/* ---- The vtable ---------------------------------------------------------------------------------------------- */

/* What the library gives a module. */
typedef struct steer_host {
    uint32_t abi;
    int (*fail)(int code, const char *file, int line, const char *format, ...);
} steer_host;

/* `device` below is what open() made. Entries marked (optional) may be NULL: UNSUPPORTED. */
typedef struct steer_backend {
    uint32_t abi;
    const char *name; /* device ids are "name" or "name:index" */

    /* Counts devices and says in `detail` what was found or why there is none. Never fails. */
    int32_t (*probe)(char *detail, size_t size);
    int (*open)(void **device, int32_t index);
    void (*close)(void *device);
    int (*describe)(void *device, steer_device_info *out); /* all but struct_size and id */

    /* Memory, aligned to at least 64 bytes. allocate: OUT_OF_MEMORY without a message; release never waits. */
    int (*allocate)(void *device, void **out, size_t bytes);
    void (*release)(void *device, void *data);
    int (*free_bytes)(void *device, int64_t *out);
    int (*upload)(void *device, void *dst, const void *src, size_t bytes);   /* src is reusable on return */
    int (*download)(void *device, void *dst, const void *src, size_t bytes); /* waits */
    int (*synchronize)(void *device);
    int (*set_stream)(void *device, void *stream); /* (optional) */
    int (*is_capturing)(void *device);             /* (optional) 1 while a graph is being captured */

    /* Tensor operations, as documented in steer.h. Views may be strided; operands are broadcast to dst's shape. */
    int (*copy)(void *device, const steer_view *dst, const steer_view *src);
    int (*fill)(void *device, const steer_view *dst, double value);
    int (*arange)(void *device, const steer_view *dst, double start, double step);
    int (*random)(void *device, const steer_view *dst, steer_random kind, uint64_t seed);
    int (*binary)(void *device, const steer_view *dst, const steer_view *a, const steer_view *b,
                  steer_binary op, double alpha);
    int (*scalar)(void *device, const steer_view *dst, const steer_view *a, steer_binary op, double value);
    /* src is [outer, n, inner] with any strides, dst [outer, inner]: the middle dimension is reduced. */
    int (*reduce)(void *device, const steer_view *dst, const steer_view *src, steer_reduce op);
    /* src and dst are [outer, n, inner]; along the middle dimension. */
    int (*normalize)(void *device, const steer_view *dst, const steer_view *src);
    int (*softmax)(void *device, const steer_view *dst, const steer_view *src);
    /* dst [b,m,n] = a [b,m,k] @ b [b,k,n], float dtypes, all equal; dst contiguous; a batch stride may be 0. a and b
     * have stride 1 in one of their last two dimensions. */
    int (*matmul)(void *device, const steer_view *dst, const steer_view *a, const steer_view *b);

    int (*steer)(void *device, const steer_launch *launch);

    /* Measuring. */
    int (*reference)(void *device, void *data, size_t bytes, steer_dtype dtype, steer_reference kind);
    int (*event_create)(void *device, void **out);
    void (*event_release)(void *device, void *event);
    int (*event_record)(void *device, void *event);
    int (*event_elapsed)(void *device, double *seconds, void *start, void *stop);
    int (*graph_begin)(void *device);                           /* (optional, with the next three) */
    int (*graph_end)(void *device, void **out, int32_t *nodes); /* nodes: how many the graph has */
    int (*graph_launch)(void *device, void *graph);
    void (*graph_release)(void *device, void *graph);
} steer_backend;

/* A module's entry point: NULL if host->abi is not the one it was built for. */
typedef const steer_backend *(*steer_backend_entry_fn)(const steer_host *host);
#define STEER_BACKEND_ENTRY "steer_backend_entry"

/* The built-in backend. */
const steer_backend *steer_backend_cpu(void);

#ifdef __cplusplus
}
#endif
#endif
