/* steer.h: the public C interface of Steer, the only header a program includes.
 *
 * Conventions
 *   - A function that can fail returns STEER_OK (0) or a negative steer_status; out-parameters come first and are
 *     written only on success. Accessors that cannot fail return their value.
 *   - The message, operation and source position of the last failure on this thread are read with steer_error_*().
 *   - Handles are opaque. `create`, `open`, `retain` and the view functions give one reference, `release` drops one;
 *     releasing NULL does nothing. A child keeps its parent alive, so handles may be released in any order.
 *   - Descriptors are passed by pointer and begin with struct_size = sizeof(the descriptor).
 *   - Dimensions, rows, layers and devices count from 0 here. Shapes and strides are in elements.
 *   - Work on a GPU is ordered on the device's stream; only functions that hand values to the host wait for it.
 *   - Every call polls the interrupt flag (see steer_interrupt_install) and may return STEER_E_INTERRUPTED.
 *   - After fork() the child may go on with what lies on the CPU, on one thread; not with a GPU, nor while other threads of
 *     the parent were in a call.
 *   - Nothing here calls back, exits or aborts. Different threads may use different handles at the same time: two plans of
 *     one engine are different handles, a graph and its plan are one. Operations and specs do not change and may be
 *     used by several threads at once, and so may devices. Engines are locked where that is needed, applies never wait:
 *     what an engine puts on a GPU is ordered on the stream of the thread whose plan asked for it first, so threads
 *     that share an engine and not a stream have to order their streams after each update.
 *
 * LuaJIT reads this file too, through lua/steer/core/cdef.lua: enums, opaque structs, sized integers and no macros in
 * declarations. */
#ifndef STEER_H
#define STEER_H

#ifndef STEER_CDEF
#include <stddef.h>
#include <stdint.h>
#if defined(_WIN32)
#error "Steer supports POSIX systems"
#endif
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif
#endif

/* ---- Library ------------------------------------------------------------------------------------------------- */

enum {
    STEER_ABI_VERSION = 1,     /* raised when a declaration in this file changes incompatibly */
    STEER_MAX_DIMS = 8,        /* most dimensions of a tensor */
    STEER_MAX_HIDDEN = 32768,  /* largest hidden size of an engine */
    STEER_MAX_LAYERS = 1024,   /* layers are 0 .. STEER_MAX_LAYERS - 1 */
    STEER_MAX_OPS = 256,       /* most operations of one spec on one layer */
    STEER_MAX_REQUESTS = 65536 /* most requests in a plan */
};

typedef enum steer_status {
    STEER_OK = 0,
    STEER_E_INVALID_ARGUMENT = -1, /* a value that the call does not take */
    STEER_E_SHAPE_MISMATCH = -2,   /* shapes that do not go together */
    STEER_E_DTYPE_MISMATCH = -3,   /* element types that do not go together */
    STEER_E_DEVICE_MISMATCH = -4,  /* tensors on different devices */
    STEER_E_OUT_OF_MEMORY = -5,    /* host or device memory is used up */
    STEER_E_NOT_FOUND = -6,        /* no such file or device */
    STEER_E_IO = -7,               /* the operating system refused a read or write */
    STEER_E_FORMAT = -8,           /* a file is not what it says it is */
    STEER_E_UNSUPPORTED = -9,      /* valid, but not available here */
    STEER_E_CLOSED = -10,          /* the object was closed */
    STEER_E_INTERRUPTED = -11,     /* the user pressed Ctrl-C */
    STEER_E_NO_EFFECT = -12,       /* a strict plan would steer nothing */
    STEER_E_DEVICE = -13           /* the device or its driver failed */
} steer_status;

/* STEER_ABI_VERSION of the loaded library. */
uint32_t steer_abi_version(void);
/* Version of the loaded library, such as "0.1.0". */
const char *steer_version(void);
/* sizeof a descriptor by its type name ("steer_op_desc"), 0 if unknown: lets a binding check its declarations. */
size_t steer_sizeof(const char *type);

/* Last failure on this thread. The strings live until the next failing call on this thread, the message until it is read anew. */
int steer_error_code(void);                          /* a steer_status */
const char *steer_error_op(void);                    /* the public operation, such as "tensor_create" */
const char *steer_error_message(void);               /* what was wrong and what was expected */
const char *steer_error_message_from(int32_t first); /* the same with indices counted from `first`, not 0 */
const char *steer_error_where(void);                 /* file:line in the library's source */
/* Name of a status: "invalid_argument", "shape_mismatch", ...; "unknown" for anything else. */
const char *steer_status_name(int status);

/* Makes SIGINT set the interrupt flag instead of ending the process. When exit_after_ms > 0, the process ends with status
 * 130 where no call has noticed the flag that long after the signal, and at a second signal within five seconds. Safe
 * to call again with another value. */
int steer_interrupt_install(uint32_t exit_after_ms);
/* Sets the flag, as the signal does. */
void steer_interrupt_raise(void);
/* 1 if the flag is set. */
int steer_interrupt_pending(void);
/* Clears the flag. A call that returns STEER_E_INTERRUPTED has cleared it already. */
void steer_interrupt_clear(void);

/* Monotonic time in seconds, for measuring wall time. */
double steer_clock(void);
/* Number of CPU threads that the CPU backend uses (OMP_NUM_THREADS, else all cores; at most 64, or eight a core). */
int32_t steer_cpu_threads(void);

/* ---- Devices ------------------------------------------------------------------------------------------------- */

typedef struct steer_device steer_device;

/* What was found on one backend, whether or not it has devices. */
typedef struct steer_backend_info {
    uint32_t struct_size;
    int32_t device_count;
    char name[16];    /* "cpu", "cuda" */
    char detail[240]; /* what was loaded and from where, or why there is no device */
} steer_backend_info;

typedef struct steer_device_info {
    uint32_t struct_size;
    int32_t compute_major; /* CUDA compute capability; 0 on the CPU */
    int32_t compute_minor;
    int32_t processors;  /* multiprocessors, or CPU threads */
    int64_t total_bytes; /* memory of the device */
    int64_t free_bytes;  /* free now, memory that the pool can give back counted as free */
    int64_t l2_bytes;    /* last-level cache */
    int32_t clock_khz;   /* highest processor clock; 0 if unknown */
    int32_t driver;      /* CUDA driver version as 1000 * major + 10 * minor; 0 on the CPU */
    char id[16];         /* "cpu", "cuda:0" */
    char name[128];
} steer_device_info;

typedef struct steer_memory_info {
    uint32_t struct_size;
    uint32_t reserved;
    int64_t live_bytes; /* held by tensors, engines and plans of this process on the device */
    int64_t peak_bytes; /* highest live_bytes so far */
    int64_t live_allocations;
    int64_t total_allocations;
} steer_memory_info;

/* Backends that this version knows, found here or not. */
int32_t steer_backend_count(void);
/* Says what was found on backend `index`. */
int steer_backend_describe(steer_backend_info *out, int32_t index);
/* Devices of all backends: the CPU first, then the GPUs. */
int32_t steer_device_count(void);
/* Says what device `index` is. */
int steer_device_describe(steer_device_info *out, int32_t index);

/* Opens "cpu" or "cuda:N"; NULL or "" means STEER_DEVICE, else the first GPU, else the CPU.
 * NOT_FOUND says why a device is missing. The same device gives the same handle. */
int steer_device_open(steer_device **out, const char *id);
steer_device *steer_device_retain(steer_device *device);
void steer_device_release(steer_device *device);
const char *steer_device_id(const steer_device *device); /* "cuda:0" */
/* Waits for all work on the device's stream. */
int steer_device_synchronize(steer_device *device);
/* Says what this process holds on the device. */
int steer_device_memory(steer_memory_info *out, steer_device *device);
/* Orders the calling thread's later work on this device on a caller's CUDA stream (a cudaStream_t); NULL returns to
 * the device's own stream. The caller orders his own work across the switch. UNSUPPORTED on the CPU. */
int steer_device_set_stream(steer_device *device, void *stream);
/* Test aid: makes the n-th allocation from now on this device fail (1 = the next); 0 turns it off. */
int steer_device_fail_allocation(steer_device *device, int64_t n);

/* ---- Tensors ------------------------------------------------------------------------------------------------- */

typedef struct steer_tensor steer_tensor;

typedef enum steer_dtype {
    STEER_F32 = 0,
    STEER_F16 = 1,
    STEER_BF16 = 2,
    STEER_I32 = 3,
    STEER_I64 = 4,
    STEER_U8 = 5,
    STEER_DTYPE_COUNT = 6
} steer_dtype;

typedef enum steer_unary {
    STEER_EXP = 0,
    STEER_LOG = 1,
    STEER_SQRT = 2,
    STEER_ABS = 3, /* the only one of integers */
    STEER_SIGMOID = 4,
    STEER_TANH = 5,
    STEER_ASIN = 6,
    STEER_ACOS = 7
} steer_unary;

typedef enum steer_binary {
    STEER_ADD = 0,
    STEER_SUB = 1,
    STEER_MUL = 2,
    STEER_DIV = 3,
    STEER_LOWER = 4, /* the lesser of both; NaN wins */
    STEER_UPPER = 5, /* the greater of both; NaN wins */
    STEER_POW = 6,   /* float dtypes only */
    STEER_EQ = 7,    /* comparisons, as the next five, which give 1 or 0; with NaN all but NE are 0 */
    STEER_NE = 8,
    STEER_LT = 9,
    STEER_LE = 10,
    STEER_GT = 11,
    STEER_GE = 12
} steer_binary;

typedef enum steer_reduce {
    STEER_SUM = 0,
    STEER_MEAN = 1,
    STEER_MAX = 2,
    STEER_MIN = 3,
    STEER_ARGMAX = 4, /* index from 0 of the first greatest element */
    STEER_NORM = 5,   /* Euclidean */
    STEER_VAR = 6,    /* of a sample: squared distances from the mean over n - 1; NaN of one element */
    STEER_STD = 7,    /* its root */
    STEER_POPULATION_VAR = 8, /* over n */
    STEER_POPULATION_STD = 9,
    STEER_ARGMIN = 10 /* index from 0 of the first least element */
} steer_reduce;

typedef enum steer_random { STEER_UNIFORM = 0, STEER_NORMAL = 1 } steer_random;

size_t steer_dtype_size(steer_dtype dtype);      /* bytes of an element; 0 if unknown */
const char *steer_dtype_name(steer_dtype dtype); /* "f32", ... ; "?" if unknown */

/* Makes an uninitialised contiguous tensor. ndim 0 is a scalar; a dimension may be 0. */
int steer_tensor_create(steer_tensor **out, steer_device *device, steer_dtype dtype, int32_t ndim,
                        const int64_t *shape);
/* Wraps memory that somebody else owns and keeps alive; strides NULL means contiguous, none may be negative. A tensor
 * whose strides let elements share memory can be read, not written. */
int steer_tensor_wrap(steer_tensor **out, steer_device *device, steer_dtype dtype, int32_t ndim,
                      const int64_t *shape, const int64_t *strides, void *data);
/* Takes over a DLManagedTensor of DLPack 0.8: its deleter runs at the last release; on failure it stays the caller's. */
int steer_tensor_from_dlpack(steer_tensor **out, void *managed);
/* Makes a DLManagedTensor, which keeps the tensor alive until its consumer calls the deleter. */
int steer_tensor_to_dlpack(void **out, steer_tensor *tensor);
steer_tensor *steer_tensor_retain(steer_tensor *tensor);
void steer_tensor_release(steer_tensor *tensor);

int32_t steer_tensor_ndim(const steer_tensor *tensor);                /* number of dimensions */
int64_t steer_tensor_size(const steer_tensor *tensor, int32_t dim);   /* -1 if dim is out of range */
int64_t steer_tensor_stride(const steer_tensor *tensor, int32_t dim); /* 0 if dim is out of range */
int64_t steer_tensor_numel(const steer_tensor *tensor);               /* number of elements */
steer_dtype steer_tensor_dtype(const steer_tensor *tensor);           /* type of its elements */
steer_device *steer_tensor_device(const steer_tensor *tensor);        /* borrowed */
void *steer_tensor_data(const steer_tensor *tensor);            /* device address of the first element */
int32_t steer_tensor_is_contiguous(const steer_tensor *tensor); /* 1: row-major without gaps */

/* Views share the storage of `tensor` and keep it alive. This one: `length` indices of dim from `start` on. */
int steer_tensor_narrow(steer_tensor **out, steer_tensor *tensor, int32_t dim, int64_t start, int64_t length);
/* A view without dim, at one index of it. */
int steer_tensor_select(steer_tensor **out, steer_tensor *tensor, int32_t dim, int64_t index);
/* A view with two dimensions exchanged. */
int steer_tensor_transpose(steer_tensor **out, steer_tensor *tensor, int32_t dim0, int32_t dim1);
/* Same elements, another shape; one dimension may be -1. UNSUPPORTED if the strides do not allow a view. */
int steer_tensor_reshape(steer_tensor **out, steer_tensor *tensor, int32_t ndim, const int64_t *shape);

/* dst = src, converting dtype, broadcasting, across devices; they may overlap. Floats round to nearest even; float to
 * integer truncates and saturates, NaN becomes 0; integer to integer keeps the low bits. Waits for the GPU only when
 * dst is on the CPU. */
int steer_tensor_copy(steer_tensor *dst, steer_tensor *src);
/* Every element = value, converted as by steer_tensor_copy; an integer dtype takes only integers. */
int steer_tensor_fill(steer_tensor *dst, double value);
/* dst[i] = start + i * step over a one-dimensional tensor. */
int steer_tensor_arange(steer_tensor *dst, double start, double step);
/* Philox-4x32-10 (Salmon et al. 2011), counter = element index in row-major order: a seed gives the same bits on every
 * device. UNIFORM is in [0, 1), NORMAL is standard normal (Box-Muller). Float dtypes only. */
int steer_tensor_random(steer_tensor *dst, steer_random kind, uint64_t seed);
/* dst = op(a), element by element, of a's shape and dtype. Floats compute in f32 and round once; integers take ABS only,
 * else DTYPE_MISMATCH. LOG and SQRT of negative numbers, ASIN and ACOS outside [-1, 1] are NaN. dst may be a, or overlap it. */
int steer_tensor_unary(steer_tensor *dst, steer_tensor *a, steer_unary op);
/* dst = a (op) alpha * b, with NumPy broadcasting to the shape of dst; one dtype, one device; dst of a comparison is u8,
 * whatever a and b are. dst may be a or b, or overlap them. Floats compute in f32; integers in 64 bits, wrapping, and
 * take only an integer for alpha, which is 1 from LOWER on. Integer DIV truncates, gives 0 for a divisor of 0, and
 * refuses alpha other than 1. */
int steer_tensor_binary(steer_tensor *dst, steer_tensor *a, steer_tensor *b, steer_binary op, double alpha);
/* dst = a (op) value, by the same rules; an integer DIV by a value of 0 is INVALID_ARGUMENT. */
int steer_tensor_scalar(steer_tensor *dst, steer_tensor *a, steer_binary op, double value);
/* dst = a where mask is not 0, else b, bit for bit; mask is u8, a and b of dst's dtype, all broadcast to its shape. */
int steer_tensor_where(steer_tensor *dst, steer_tensor *mask, steer_tensor *a, steer_tensor *b);
/* dst = reduction of src over dim, or over everything when dim is -1; dst has src's shape without dim (a scalar for
 * -1). Accumulates in f64 (integers in i64). dst: src's dtype, or f32; i64 for ARGMAX and ARGMIN. Of no elements all but
 * SUM and NORM are INVALID_ARGUMENT. NaN wins MAX, MIN, ARGMAX and ARGMIN. */
int steer_tensor_reduce(steer_tensor *dst, steer_tensor *src, steer_reduce op, int32_t dim);
/* dst = src / |src| along dim (-1: the whole); a zero norm is INVALID_ARGUMENT on the CPU and gives NaN on a GPU. */
int steer_tensor_normalize(steer_tensor *dst, steer_tensor *src, int32_t dim);
/* dst = softmax of src along dim (-1: the whole), of src's shape. Float dtypes only. */
int steer_tensor_softmax(steer_tensor *dst, steer_tensor *src, int32_t dim);
/* dst = sums of src's elements up to each along dim, of src's shape and dtype; accumulates as a reduction does. dst may
 * be src, or overlap it. */
int steer_tensor_cumsum(steer_tensor *dst, steer_tensor *src, int32_t dim);
/* values = src in ascending (or descending) order along dim, indices (i64) = where along dim, from 0, each was in src;
 * both of src's shape. Stable: equal elements keep their order. NaN counts as greater than everything, as in MAX. */
int steer_tensor_sort(steer_tensor *values, steer_tensor *indices, steer_tensor *src, int32_t dim,
                      int32_t descending);
/* dst[..., i, ...] = src[..., index[..., i, ...] - base, ...] along dim. index (i32 or i64) has dst's shape, or one
 * dimension: the same indices for every line; src has dst's shape in the other dimensions. An index outside src is
 * INVALID_ARGUMENT, for which the call waits for the GPU. */
int steer_tensor_gather(steer_tensor *dst, steer_tensor *src, steer_tensor *index, int32_t dim, int64_t base);
/* dst = a @ b for [m,k]@[k,n], [k]@[k,n], [m,k]@[k], [k]@[k] and batches [b,m,k]@[b,k,n]; float dtypes, all equal;
 * products accumulate in f32 (cuBLAS or CBLAS). */
int steer_tensor_matmul(steer_tensor *dst, steer_tensor *a, steer_tensor *b);
/* One element, index of ndim entries. Waits for the GPU. i64 beyond 2^53 rounds. */
int steer_tensor_get(double *out, steer_tensor *tensor, const int64_t *index);
/* Sets one element, as steer_tensor_fill does. */
int steer_tensor_set(steer_tensor *tensor, const int64_t *index, double value);

/* ---- Files --------------------------------------------------------------------------------------------------- */

typedef struct steer_map steer_map;   /* a file mapped for reading */
typedef struct steer_file steer_file; /* a file being written, invisible until it is committed */

/* Maps a file for reading. NOT_FOUND, IO; a folder is IO. A file that is shortened while it is mapped ends the process with
 * SIGBUS where its lost part is read; unless the program has a handler for it, a message on standard error names the file. */
int steer_map_open(steer_map **out, const char *path);
void steer_map_release(steer_map *map);
const uint8_t *steer_map_data(const steer_map *map); /* NULL for an empty file */
int64_t steer_map_size(const steer_map *map);        /* bytes */
/* A CPU tensor over the file's bytes from `offset`; private: writing to it does not change the file. Keeps the map
 * alive. FORMAT if it would reach past the end; an offset that is not aligned to the dtype is copied out. */
int steer_map_tensor(steer_tensor **out, steer_map *map, steer_dtype dtype, int32_t ndim,
                     const int64_t *shape, int64_t offset);
/* A CPU tensor of F32 made from the file's float64 numbers from `offset`, each rounded once, to nearest even. FORMAT as
 * above. */
int steer_map_doubles(steer_tensor **out, steer_map *map, int32_t ndim, const int64_t *shape, int64_t offset);
/* A map of what `size` bytes of raw deflate data (as zip files hold) at `offset` become; it keeps nothing of `map`.
 * FORMAT if that is not `raw_size` bytes whose CRC-32 is `crc`. */
int steer_map_inflate(steer_map **out, steer_map *map, int64_t offset, int64_t size, int64_t raw_size,
                      uint32_t crc);

/* Writes beside `path` under a temporary name. */
int steer_file_create(steer_file **out, const char *path);
/* Appends bytes. After an error, such as a full disk (IO), the file is gone and further writes are CLOSED. */
int steer_file_write(steer_file *file, const void *data, int64_t size);
/* Elements of a tensor in row-major order, little-endian, from any device. */
int steer_file_write_tensor(steer_file *file, steer_tensor *tensor);
/* Syncs and renames over `path`, keeping an old file's permission bits and the link that `path` may be. After an error
 * the file is gone and `path` is as it was; only if the folder cannot be synced is the new file there already. */
int steer_file_commit(steer_file *file);
/* Releases; what was not committed is removed. */
void steer_file_release(steer_file *file);

/* ---- Operations and specs ------------------------------------------------------------------------------------ */

typedef struct steer_op steer_op;
typedef struct steer_spec steer_spec;

/* h is a row of the hidden states, v the vector, p = h.v, and w is `write`, or v without one. The part of h is its
 * projection onto the span of several vectors. */
typedef enum steer_op_kind {
    STEER_OP_ADD = 0,        /* h + scale*v */
    STEER_OP_CAP = 1,        /* h + (clamp(p, min, max) - p)*w; several: the part's length is clamped */
    STEER_OP_ABLATE = 2,     /* h + (scale - 1)*p*w; several: the part is scaled */
    STEER_OP_SET = 3,        /* h + (target - p)*w */
    STEER_OP_MAP = 4,        /* h + (f(p) - p)*w, f piecewise linear through `points`, constant beyond */
    STEER_OP_ROTATE = 5,     /* the part in the plane of two turned by `degrees`, from first to second */
    STEER_OP_ANGLE = 6,      /* the part in that plane at `degrees` from the first (Vu and Nguyen 2025) */
    STEER_OP_TURN = 7,       /* h turned by `degrees` toward v, at most up to it; negative: away from it */
    STEER_OP_SAE = 8,        /* h + (clamp(scale*z, min, max) - z)*w, z = activation(h.v + bias) (SAEs) */
    STEER_OP_AFFINE = 9,     /* h + scale * U'(M (V h) + bias): V `vector`, M `matrix`, U `write`, by rows */
    STEER_OP_REPLACE = 10,   /* scale*v */
    STEER_OP_KEEP_NORM = 11, /* h with the norm that it had before the operations of its layer */
    STEER_OP_NOTE = 12, /* h; notes per token whether its condition holds, for conditions of later layers */
    STEER_OP_KIND_COUNT = 13
} steer_op_kind;

typedef enum steer_feature {
    STEER_FEATURE_LINEAR = 0,
    STEER_FEATURE_RELU = 1, /* x where x > threshold, else 0 (JumpReLU); threshold is 0 or more */
    STEER_FEATURE_COUNT = 2
} steer_feature;

typedef enum steer_phase { STEER_PROMPT = 0, STEER_GENERATION = 1 } steer_phase;

/* Selects tokens of a sequence. Positions count from 0; in a prompt negative ones count from its end. Windows are
 * half-open. Everything that selects adds up; nothing set selects every token. */
typedef struct steer_selector {
    uint32_t struct_size;
    int32_t prompt_all;     /* every prompt token */
    int32_t generation_all; /* every generated token */
    int32_t has_prompt_window;
    int32_t has_generation_window;
    int32_t prompt_position_count;
    int32_t generation_position_count;
    int32_t token_id_count;
    int64_t prompt_window[2];
    int64_t generation_window[2]; /* counted from the first generated token */
    const int64_t *prompt_positions;
    const int64_t *generation_positions; /* counted from the first generated token */
    const int64_t *token_ids;
} steer_selector;

typedef enum steer_gate {
    STEER_GATE_NONE = 0,
    STEER_GATE_ABOVE = 1, /* the operation applies where the gate's value is above the threshold */
    STEER_GATE_BELOW = 2
} steer_gate;

/* A comparison of a row, read after the operations before this one, with a vector; or, with `noted`, whether what note
 * noted - 1 says of the row's token, or of its prompt, holds (ABOVE) or not (BELOW). Tokens that nothing noted it of: not. */
typedef struct steer_condition {
    steer_tensor *vector; /* one-dimensional */
    double threshold;
    steer_gate gate;
    int32_t cosine; /* compare the cosine of h and the vector instead of their dot product */
    int32_t noted;  /* 0: compare with the vector */
    int32_t reserved;
} steer_condition;

/* Notes from STEER_PROMPT_NOTES on are of whole prompts. A NOTE of such a number acts on the last token of a prompt alone: what it
 * finds there is the prompt's verdict, which that token's later operations see and, on every layer, all tokens after it. An
 * operation whose condition reads one acts from that token on: before it nothing is decided (conditional activation steering, Lee
 * et al. 2025, with the last token's state in place of the mean of the prompt's). Sessions keep verdicts; plans know them of the
 * rows of their batch. */
enum { STEER_MAX_CONDITIONS = 6, STEER_MAX_RANK = 64, STEER_MAX_NOTES = 64, STEER_PROMPT_NOTES = 32 };

/* Tensors are float ones on any device, whose values are copied. A kind ignores what is not said to be its own. */
typedef struct steer_op_desc {
    uint32_t struct_size;
    steer_op_kind kind;
    steer_tensor *vector; /* v: [hidden]; of kinds that take several also [n, hidden], n to STEER_MAX_RANK */
    double scale;         /* ADD, ABLATE, SAE, AFFINE, REPLACE */
    double min;           /* CAP, SAE; -INFINITY for none */
    double max;           /* CAP, SAE; +INFINITY for none */
    int32_t normalize;    /* divide v by its norm (in f64) first; several become orthonormal in any case, but
                             those of SAE and AFFINE stay as they are */
    steer_gate gate;      /* condition per token, read after the operations before this one */
    steer_tensor *gate_vector;
    double gate_threshold;
    int32_t gate_cosine; /* compare the cosine of h and the gate vector instead of their dot product */
    int32_t side;        /* ABLATE of one vector: 1 only where p > 0, -1 only where p < 0, 0 everywhere */
    const steer_selector *where;   /* NULL: every token */
    const steer_selector *exclude; /* NULL: none */
    steer_tensor *write; /* w, taken as it is: CAP, ABLATE, SET, MAP of one vector; SAE; AFFINE [k, hidden] */
    steer_tensor *matrix;     /* AFFINE: [k, n]; NULL: the identity */
    steer_tensor *bias;       /* AFFINE: [k], SAE: [n]; NULL: zeros */
    double target;            /* SET */
    double degrees;           /* ROTATE, ANGLE; TURN: -180 to 180 */
    double threshold;         /* SAE with RELU */
    steer_feature activation; /* SAE */
    int32_t point_count;      /* MAP: 1 to STEER_MAX_RANK */
    const double *points;     /* x and y of each, x ascending */
    /* Without a gate: the operation applies where bit b of `truth` is set, b the sum of 2^i over the conditions i
     * that hold; 0 conditions: everywhere. */
    int32_t condition_count;
    int32_t note; /* NOTE: which one, 0 to STEER_MAX_NOTES - 1; it needs a condition */
    uint64_t truth;
    const steer_condition *conditions;
} steer_op_desc;

/* Checks and copies: NaN, infinite or not one-dimensional vectors, missing or crossed bounds are INVALID_ARGUMENT, and so
 * are vectors of zeros, but for an ADD that does not normalise: it does nothing. Waits for the GPU if a vector lies there. */
int steer_op_create(steer_op **out, const steer_op_desc *desc);
steer_op *steer_op_retain(steer_op *op);
void steer_op_release(steer_op *op);

/* An immutable spec: operation i acts on layers[i]; operations of one layer act in the order given. All vectors must
 * have one length. count may be 0: the empty spec steers nothing. Keeps the operations. */
int steer_spec_create(steer_spec **out, int32_t count, const int32_t *layers, steer_op *const *ops);
steer_spec *steer_spec_retain(steer_spec *spec);
void steer_spec_release(steer_spec *spec);
int64_t steer_spec_hidden(const steer_spec *spec); /* length of its vectors; 0 if empty */

/* ---- Engine and plan ----------------------------------------------------------------------------------------- */

typedef struct steer_engine steer_engine;
typedef struct steer_plan steer_plan;

/* How applies are made faster at the cost of compiling first; the bits of the results are the same in every mode. A
 * plan that inherits is as its engine, an engine as the environment's STEER_COMPILE says: 0, 1, default or
 * reduce-overhead. Without it there are no specialised kernels, and graphs of plans are captured. */
typedef enum steer_compile {
    STEER_COMPILE_INHERIT = 0,
    STEER_COMPILE_OFF = 1,     /* no specialised kernels; graphs of plans run their applies one by one */
    STEER_COMPILE_DEFAULT = 2, /* kernels specialised for a plan's programs where they are faster; graphs */
    STEER_COMPILE_REDUCE_OVERHEAD = 3 /* no specialised kernels; graphs of plans are captured */
} steer_compile;

typedef struct steer_engine_desc {
    uint32_t struct_size;
    steer_dtype dtype; /* of the hidden states: F32, F16 or BF16 */
    int64_t hidden;    /* 1 .. STEER_MAX_HIDDEN */
    steer_device *device;
    int64_t vector_bytes;  /* budget of the vector bank on the device; 0 means 1 GiB */
    steer_compile compile; /* of its plans; DEFAULT is UNSUPPORTED where nothing can be compiled */
    int32_t
        compile_background; /* 1: on a thread while ordinary kernels serve; 0, -1: before a plan is back */
} steer_engine_desc;

typedef struct steer_engine_stats {
    uint32_t struct_size;
    int32_t live_plans;
    int64_t vectors; /* in the bank */
    int64_t vector_bytes;
    int64_t vector_budget;
    int64_t vector_hits; /* vectors asked for that were there already */
    int64_t vector_misses;
    int64_t vector_evictions;
    int64_t programs;     /* distinct compiled programs alive */
    int64_t program_hits; /* programs asked for that were there already */
    int64_t plans;        /* plans made */
    int64_t updates;      /* plan updates, the first one included */
    int64_t applies;
    int64_t launches_uniform;
    int64_t launches_mixed;
    int64_t launches_loop;
    int64_t applies_none;      /* applies that had nothing to do and launched nothing */
    int64_t launches_graph;    /* replays of graphs of plans; their applies are not counted one by one */
    int64_t launches_compiled; /* launches of specialised kernels, replays not counted */
    int64_t compiles;          /* specialised kernels built */
    int64_t memory_hits;       /* specialised kernels found in this process */
    int64_t disk_hits;         /* specialised kernels found in the disk cache */
    int64_t failures;          /* specialised kernels that could not be built: the ordinary ones serve */
} steer_engine_stats;

/* Makes an engine, which keeps the device. INVALID_ARGUMENT names the field at fault. */
int steer_engine_create(steer_engine **out, const steer_engine_desc *desc);
void steer_engine_release(steer_engine *engine);
/* Says what the engine has done and holds. */
int steer_engine_get_stats(steer_engine_stats *out, steer_engine *engine);

typedef struct steer_request {
    steer_spec *spec; /* NULL: unsteered */
    int64_t tokens;   /* rows of this request in the batch, 0 or more */
    int64_t position; /* position in the sequence of its first row */
    int64_t
        prompt_tokens; /* length of the prompt; -1 if unknown. Its rows lie in it, generated ones behind it */
    const int64_t *token_ids; /* `tokens` entries, or NULL */
    steer_phase phase;
    int32_t reserved;
} steer_request;

typedef enum steer_path {
    STEER_PATH_AUTO = 0,
    STEER_PATH_UNIFORM = 1, /* one program on every row: one launch, nothing per row to look up */
    STEER_PATH_MIXED = 2,   /* any programs in one launch */
    STEER_PATH_LOOP = 3,    /* one launch per request: the slow path, kept as baseline and check */
    STEER_PATH_NONE = 4     /* no row is steered: no launch (reported, never asked for) */
} steer_path;

typedef struct steer_plan_desc {
    uint32_t struct_size;
    steer_path path;
    int64_t rows;   /* padded rows of the hidden states; 0: the sum of the requests' tokens */
    int32_t strict; /* a spec that steers no row is NO_EFFECT */
    int32_t request_count;
    const steer_request *requests;
    steer_compile compile;
    int32_t compile_background; /* as in steer_engine_desc; 0: as the engine says */
} steer_plan_desc;

/* Where the specialised kernel of a layer stands. */
typedef enum steer_compile_state {
    STEER_COMPILE_STATE_OFF = 0, /* the mode is off */
    STEER_COMPILE_STATE_NONE = 1,
    STEER_COMPILE_STATE_COMPILING = 2,
    STEER_COMPILE_STATE_READY = 3,      /* it serves the layer */
    STEER_COMPILE_STATE_NOT_CHOSEN = 4, /* measured and not enough faster: the ordinary kernel serves */
    STEER_COMPILE_STATE_FAILED = 5
} steer_compile_state;

typedef enum steer_compile_source {
    STEER_COMPILE_SOURCE_NONE = 0,
    STEER_COMPILE_SOURCE_COMPILED = 1, /* built for this plan */
    STEER_COMPILE_SOURCE_MEMORY = 2,   /* this process had it */
    STEER_COMPILE_SOURCE_DISK = 3      /* the disk cache had it */
} steer_compile_source;

typedef struct steer_explain {
    uint32_t struct_size;
    steer_path path;
    int64_t rows;         /* rows of the plan, padding included */
    int64_t steered_rows; /* rows that a program of this layer covers */
    int32_t programs;     /* distinct programs on this layer */
    int32_t ops;          /* operations on this layer after folding, over the distinct programs */
    int32_t max_ops;      /* most projecting operations of one program */
    int32_t groups;       /* runs of neighbouring rows with the same program: see steer_plan_group */
    int32_t launches;     /* launches of one apply */
    int32_t idle_specs;   /* specs that steer no row on any layer: see steer_plan_idle_spec */
    int64_t bytes;        /* least device memory traffic of one apply */
    double expected_us;   /* bytes at the measured stream bandwidth of a GPU; 0 if not measured */
    char why[160];        /* reason for the path */
    char kernels[200]; /* what serves an apply, one a launch, and why; "" where the device has one for all */
    steer_compile compile; /* mode of the plan, never INHERIT */
    steer_compile_state compile_state;
    steer_compile_source compile_source;
    int32_t reserved;
    double compile_ms;  /* what it cost to have the specialised kernel; 0 without one */
    double ordinary_us; /* of one apply with the ordinary kernel, measured; 0 if not */
    double compiled_us; /* of one apply with the specialised kernel, measured; 0 if not */
    int64_t pays_back;  /* applies until compiling has paid back; 0: never, or nothing was compiled */
    char compile_why[160];
} steer_explain;

typedef struct steer_group {
    uint32_t struct_size;
    int32_t program; /* its number in the engine */
    int64_t start;   /* first row */
    int64_t rows;
    int32_t request;     /* request of the first row */
    int32_t adds;        /* 1 if the program adds a (folded) vector */
    int32_t projections; /* projecting or conditional operations left after folding */
    int32_t source_ops;  /* operations of the spec on this layer before folding */
} steer_group;

/* Resolves a batch once: rows lie in the order of the requests, padding after them. */
int steer_plan_create(steer_plan **out, steer_engine *engine, const steer_plan_desc *desc);
void steer_plan_release(steer_plan *plan);
/* Replaces the batch. The rows of the new batch may not exceed the plan's rows. On error the plan is as it was. */
int steer_plan_update(steer_plan *plan, int32_t request_count, const steer_request *requests);
/* Steers hidden [rows, hidden] in place. With residual, of the same shape, the operations see hidden + residual and
 * their update goes to hidden. Allocates nothing, waits for nothing. */
int steer_plan_apply(steer_plan *plan, int32_t layer, steer_tensor *hidden, steer_tensor *residual);
/* 1 if the batch in force steers rows, but every apply of it so far was of a layer on which it steers none: layers that
 * are counted otherwise than the specs count them. */
int32_t steer_plan_is_missed(const steer_plan *plan);
/* Says what applying the plan to a layer does, and why so. */
int steer_plan_explain(steer_explain *out, steer_plan *plan, int32_t layer);
/* Run `index` of the layer's rows, index < steer_explain.groups. */
int steer_plan_group(steer_group *out, steer_plan *plan, int32_t layer, int32_t index);
/* Request index whose spec steers nothing, for index < steer_explain.idle_specs. */
int steer_plan_idle_spec(int32_t *out, steer_plan *plan, int32_t index);

/* Applies of one plan to several layers, captured once and replayed as one launch. */
typedef struct steer_plan_graph steer_plan_graph;

typedef struct steer_plan_graph_stats {
    uint32_t struct_size;
    int32_t captured; /* 0: launches run the applies one by one, `why` says for what reason */
    int32_t layers;   /* applies of a launch */
    int32_t nodes;    /* of the captured graph; 0 if not captured */
    int64_t rows;     /* captured rows of each apply; a batch of more is captured anew */
    int64_t launches;
    int64_t captures;   /* the first one included */
    int64_t recaptures; /* at launches after an update that left what was captured */
    char why[160];      /* reason for the last recapture, or for captured == 0; else "" */
} steer_plan_graph_stats;

/* Makes a graph of steer_plan_apply(plan, layers[i], hiddens[i], residuals[i]) for i in 0 .. count - 1, in that order.
 * `residuals` may be NULL (no apply has one), and so may entries of it. It keeps the plan and the tensors, whose memory
 * is what a launch steers. On a device without graphs, and where the plan's mode is OFF, launches run the applies one
 * by one. INVALID_ARGUMENT for a count below 1; UNSUPPORTED while the thread's stream is being captured. */
int steer_plan_graph_create(steer_plan_graph **out, steer_plan *plan, int32_t count, const int32_t *layers,
                            steer_tensor *const *hiddens, steer_tensor *const *residuals);
/* Steers with the batch that the plan has now. Allocates nothing and waits for nothing, unless an update left what was
 * captured (more rows, or programs that the captured kernels cannot run): then it captures anew first, which a failure
 * leaves to the next launch. In a capture begun by somebody else the applies go into that one by one. */
int steer_plan_graph_launch(steer_plan_graph *graph);
/* Says what is captured and what was launched; waits for nothing. */
int steer_plan_graph_get_stats(steer_plan_graph_stats *out, steer_plan_graph *graph);
/* What a launch of it still does on the device is not cut short. */
void steer_plan_graph_release(steer_plan_graph *graph);

/* ---- Measuring ----------------------------------------------------------------------------------------------- */

typedef struct steer_event steer_event; /* a point on the device's stream */
typedef struct steer_graph steer_graph; /* captured launches, replayed as one */

/* References that a time is compared with. */
typedef enum steer_reference {
    STEER_REFERENCE_EMPTY = 0, /* R0: a kernel that does nothing; on the CPU an empty parallel region */
    STEER_REFERENCE_STREAM = 1 /* R1: every element loaded, + 0, stored in place */
} steer_reference;

/* Makes an event; it is at no point yet. */
int steer_event_create(steer_event **out, steer_device *device);
void steer_event_release(steer_event *event);
/* Puts the event behind the work that this thread has issued to the device so far. */
int steer_event_record(steer_event *event);
/* Seconds from `start` to `stop`, waiting for `stop`. */
int steer_event_elapsed(double *out, steer_event *start, steer_event *stop);
/* Captures this thread's later work on the device instead of running it. UNSUPPORTED on the CPU. */
int steer_graph_begin(steer_device *device);
/* Ends the capture. */
int steer_graph_end(steer_graph **out, steer_device *device);
/* Issues the captured work. */
int steer_graph_launch(steer_graph *graph);
void steer_graph_release(steer_graph *graph);
/* Runs a reference once over a contiguous float tensor. */
int steer_reference_run(steer_tensor *tensor, steer_reference kind);

#ifndef STEER_CDEF
#ifdef __cplusplus
}
#endif
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#endif

#endif
