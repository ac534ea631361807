/* backend.h: what a device backend provides. The CPU backend is built in; others are modules loaded at run time that
 * export `steer_backend_entry`. Kernels know this header and their own toolkit, nothing else of the library.
 *
 * Calls come validated: shapes agree, dtypes are allowed, pointers are device addresses of this backend. A function
 * returns a steer_status and reports failures through steer_host.fail. Work is ordered on the calling thread's
 * current stream. */
#ifndef STEER_BACKEND_H
#define STEER_BACKEND_H

#include "backend/block.h"
#include "backend/image.h"
#include "backend/model_ops.h"
#include "steer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { STEER_BACKEND_ABI = 15 };

/* Where the elements of a tensor are. Strides in elements, 0 for a broadcast dimension. */
typedef struct steer_view {
    void *data;
    steer_dtype dtype;
    int32_t ndim;
    int64_t shape[STEER_MAX_DIMS];
    int64_t stride[STEER_MAX_DIMS];
} steer_view;

/* ---- Steering ------------------------------------------------------------------------------------------------ */

/* What the programs of a class (STEER_REGISTER_VECTORS) need at most, of those that rows may have on a layer. */
typedef struct steer_needs {
    int32_t present;     /* 1 if some row may have one; else all is 0 */
    int32_t max_vectors; /* at least 2 for one with an image */
    int64_t max_image_bytes;
    int32_t both; /* 1 if one has folded adds and a projecting operation */
    int32_t norm; /* 1 if one has a cosine */
} steer_needs;

static inline void steer_needs_widen(steer_needs *needs, const steer_needs *with) {
    needs->present |= with->present;
    if (with->max_vectors > needs->max_vectors) needs->max_vectors = with->max_vectors;
    if (with->max_image_bytes > needs->max_image_bytes) needs->max_image_bytes = with->max_image_bytes;
    needs->both |= with->both;
    needs->norm |= with->norm;
}

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
    const steer_entry *uniform;            /* host copy of the entry of every row, or NULL: see `table` */
    const steer_row *table;                /* device memory, `rows` records */
    const uint32_t *inner;                 /* with the table, device memory: see STEER_INNER_AT */
    int32_t inner_runs[STEER_INNER_TILES]; /* what its first words are, now at least if `replayed` */
    int32_t replayed; /* with the table, 1: a graph is being captured, which is replayed with other ones */
    steer_needs few, many;    /* of programs without blocks */
    int32_t blocks;           /* STEER_BLOCKS_*: whether some row may have a program with blocks */
    int32_t rows_per_program; /* about how many neighbours share a program: chooses the geometry only */
    uint64_t *notes; /* device memory, a word for each row; read and written by programs with blocks */
} steer_launch;

/* Those of both classes: for kernels that serve either. */
static inline steer_needs steer_needs_of_all(const steer_launch *launch) {
    steer_needs needs = launch->few;
    steer_needs_widen(&needs, &launch->many);
    return needs;
}

/* What all programs of a launch have in common; -1 where they differ. A row without a program may be among the rows. */
enum { STEER_SHAPE_OPS = 8 }; /* programs of more have no specialised kernels */
typedef struct steer_shape {
    int32_t adds;  /* 1: each has folded adds, 0: none has */
    int32_t image; /* 1: each has an image, 0: none has */
    int32_t vectors;
    int32_t updated;
    int32_t ops; /* how many of `op` are filled in; -1: they differ */
    int32_t norm;
    int32_t values;                     /* 1: gain, offset, lo and hi of `op` are those of every program */
    steer_op_image op[STEER_SHAPE_OPS]; /* dot, gate, flags; of the values what is 0 or infinite */
} steer_shape;

/* ---- The vtable ---------------------------------------------------------------------------------------------- */

/* 1 if dst is u8, 1 or 0. */
static inline int steer_binary_compares(steer_binary op) {
    return op == STEER_EQ || op == STEER_NE || op == STEER_LT || op == STEER_LE || op == STEER_GT ||
           op == STEER_GE;
}
/* 1 if alpha may be another number than 1: alpha * b is computed. */
static inline int steer_binary_scales(steer_binary op) {
    return op == STEER_ADD || op == STEER_SUB || op == STEER_MUL || op == STEER_DIV;
}

/* What the library gives a module. */
typedef struct steer_host {
    uint32_t abi;
    int (*fail)(int code, const char *file, int line, const char *format, ...);
    /* What was found out once and holds for later processes: bytes of a known size under a key, in the disk cache. get: 1 if it is
     * there; put: what cannot be stored is found out again. */
    int (*cache_get)(void *out, size_t size, const void *key, size_t key_size);
    void (*cache_put)(const void *data, size_t size, const void *key, size_t key_size);
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
    int (*upload)(void *device, void *dst, const void *src, size_t bytes); /* src is reusable on return */
    /* (optional, together) Host memory that the device reads by itself, OUT_OF_MEMORY without a message; and a copy from it, whose
     * `src` is reusable after synchronize(). */
    int (*pinned_allocate)(void *device, void **out, size_t bytes);
    void (*pinned_release)(void *device, void *data);
    int (*send)(void *device, void *dst, const void *src, size_t bytes);
    /* (optional, together) A copy to such memory, after all work so far, and the event that it is there; the host waits for an event,
     * or the current stream does. */
    int (*receive)(void *device, void *dst, const void *src, size_t bytes, void *event);
    int (*event_wait)(void *device, void *event);
    int (*event_order)(void *device, void *event);
    int (*download)(void *device, void *dst, const void *src, size_t bytes); /* waits */
    int (*synchronize)(void *device);
    int (*set_stream)(void *device, void *stream); /* (optional) */
    int (*is_capturing)(void *device);             /* (optional) 1 while a graph is being captured */

    /* Tensor operations, as documented in steer.h. Views may be strided; operands are broadcast to dst's shape. */
    int (*copy)(void *device, const steer_view *dst, const steer_view *src);
    int (*fill)(void *device, const steer_view *dst, double value);
    int (*arange)(void *device, const steer_view *dst, double start, double step);
    int (*random)(void *device, const steer_view *dst, steer_random kind, uint64_t seed);
    int (*unary)(void *device, const steer_view *dst, const steer_view *a, steer_unary op);
    /* a and b have one dtype, which is dst's unless op compares: dst is u8 then. */
    int (*binary)(void *device, const steer_view *dst, const steer_view *a, const steer_view *b,
                  steer_binary op, double alpha);
    int (*scalar)(void *device, const steer_view *dst, const steer_view *a, steer_binary op, double value);
    int (*where)(void *device, const steer_view *dst, const steer_view *mask, const steer_view *a,
                 const steer_view *b);
    /* src is [outer, n, inner] with any strides, dst [outer, inner]: the middle dimension is reduced. */
    int (*reduce)(void *device, const steer_view *dst, const steer_view *src, steer_reduce op);
    /* src and dst are [outer, n, inner]; along the middle dimension. */
    int (*normalize)(void *device, const steer_view *dst, const steer_view *src);
    int (*softmax)(void *device, const steer_view *dst, const steer_view *src);
    int (*cumsum)(void *device, const steer_view *dst, const steer_view *src);
    /* All contiguous [rows, n]. */
    int (*sort)(void *device, const steer_view *values, const steer_view *indices, const steer_view *src,
                int32_t descending);
    /* dst and index are [outer, k, inner], src is [outer, n, inner], with any strides; indices count from base and lie
     * inside. */
    int (*take)(void *device, const steer_view *dst, const steer_view *src, const steer_view *index,
                int64_t base);
    /* dst [b,m,n] = a [b,m,k] @ b [b,k,n], float dtypes, all equal; dst contiguous; a batch stride may be 0. a and b
     * have stride 1 in one of their last two dimensions. */
    int (*matmul)(void *device, const steer_view *dst, const steer_view *a, const steer_view *b);

    int (*steer)(void *device, const steer_launch *launch);
    /* (optional) Names the kernels that steer() would launch, and why these; how many there are. */
    int (*name_kernels)(void *device, char *text, size_t size, const steer_launch *launch);

    /* Specialised steering kernels (optional, together): what steer() would launch for a launch like the given one,
     * with the launch's sizes and the shape of its programs baked in, and with the same bits. */
    /* Readies the compiler, on each thread that compiles; `own` is 1 on a thread of the library. UNSUPPORTED: none. */
    int (*kernel_ready)(void *device, int own);
    /* All that the code depends on, as a text that the caller frees; NULL: nothing is gained for such a launch. */
    int (*kernel_text)(void *device, char **out, const steer_launch *launch, const steer_shape *shape);
    /* Compiles a text to code that the caller frees. INTERRUPTED soon after `stop` returns 1. */
    int (*kernel_build)(void *device, void **code, size_t *size, const char *text, int (*stop)(void *),
                        void *context);
    /* Makes code ready to be launched; it stays so for the life of the process. */
    int (*kernel_load)(void *device, void **kernel, const steer_launch *launch, const steer_shape *shape,
                       const void *code, size_t size);
    /* Launches it if it serves the launch (*served 1): not where steer() would take another kernel than for the launch
     * that it was built for. */
    int (*kernel_launch)(void *device, void *kernel, const steer_launch *launch, int *served);

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

    const steer_model_ops *model; /* (optional) */
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
