/* steer.c: applies compiled programs to rows of hidden states on the CPU: the readable reference of image.h.
 *
 * A row is widened to f32 once, all dots are taken, the coefficients follow from them, the row is updated and rounded
 * once. A program of one vector does the same arithmetic where the row lies, without a copy of it. Sums run in 32 fixed
 * lanes, so a row's bits depend on its values and its program alone, not on the number of threads or the width of the
 * machine's vectors. A row whose sums f32 cannot hold is steered in f64, see steer_exact.c. */
#include "backend/cpu/cpu.h"
#include "tensor/dtype.h"

#include <float.h>
#include <math.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif
/* Wider vectors where the machine has them and GCC, from 12 on, knows the names; the sanitizers cannot run the resolver.
 * A machine with them multiplies and adds in one instruction, and an older one emulates that for the same bits. */
#if defined(__x86_64__) && __GNUC__ >= 12 && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WIDE             __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define MUL_ADD(a, b, c) fmaf(a, b, c)
#else
#define WIDE
#ifdef FP_FAST_FMAF
#define MUL_ADD(a, b, c) fmaf(a, b, c)
#else
#define MUL_ADD(a, b, c) ((a) * (b) + (c))
#endif
#endif

enum { LANES = 32, MAX_VECTORS = 2 * STEER_MAX_OPS };

/* ---- Rows ---------------------------------------------------------------------------------------------------- */

static inline void fold(float *lanes, int half) {
    for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];
}
/* The sum of the lanes, as a tree. */
static inline float sum_lanes(float *lanes) {
    fold(lanes, 16);
    fold(lanes, 8);
    fold(lanes, 4);
    fold(lanes, 2);
    return lanes[0] + lanes[1];
}

/* What a row of a dtype can do: be widened, alone or with a residual added, be rounded, give its dot with a vector, and
 * have a vector added. */
#define ROW_FUNCTIONS(name, type, to_f32, from_f32)                                                          \
    WIDE static void load_##name(float *x, const void *row, int64_t n) {                                     \
        const type *h = row;                                                                                 \
        for (int64_t i = 0; i < n; i++) x[i] = to_f32(h[i]);                                                 \
    }                                                                                                        \
    WIDE static void load_sum_##name(float *x, const void *row, const void *residual, int64_t n) {           \
        const type *h = row, *r = residual;                                                                  \
        for (int64_t i = 0; i < n; i++) x[i] = to_f32(h[i]) + to_f32(r[i]);                                  \
    }                                                                                                        \
    WIDE static void store_##name(void *row, const float *x, int64_t n) {                                    \
        type *h = row;                                                                                       \
        for (int64_t i = 0; i < n; i++) h[i] = from_f32(x[i]);                                               \
    }                                                                                                        \
    WIDE static float dot_##name(const void *row, const float *m, int64_t n) {                               \
        const type *h = row;                                                                                 \
        float lanes[LANES] = {0};                                                                            \
        int64_t i = 0;                                                                                       \
        for (; i + LANES <= n; i += LANES)                                                                   \
            for (int l = 0; l < LANES; l++) lanes[l] = MUL_ADD(to_f32(h[i + l]), m[i + l], lanes[l]);        \
        for (int l = 0; i + l < n; l++) lanes[l] = MUL_ADD(to_f32(h[i + l]), m[i + l], lanes[l]);            \
        return sum_lanes(lanes);                                                                             \
    }                                                                                                        \
    WIDE static void add_##name(void *row, float coef, const float *restrict m, int64_t n) {                 \
        type *h = row;                                                                                       \
        for (int64_t i = 0; i < n; i++) h[i] = from_f32(MUL_ADD(coef, m[i], to_f32(h[i])));                  \
    }

#define SAME(x) (x)
ROW_FUNCTIONS(f32, float, SAME, SAME)
ROW_FUNCTIONS(f16, uint16_t, steer_f16_to_f32, steer_f32_to_f16)
ROW_FUNCTIONS(bf16, uint16_t, steer_bf16_to_f32, steer_f32_to_bf16)

typedef struct row_functions {
    void (*load)(float *x, const void *row, int64_t n);
    void (*load_sum)(float *x, const void *row, const void *residual, int64_t n);
    void (*store)(void *row, const float *x, int64_t n);
    float (*dot)(const void *row, const float *m, int64_t n);
    void (*add)(void *row, float coef, const float *m, int64_t n);
} row_functions;

static const row_functions row_table[STEER_DTYPE_COUNT] = {
    [STEER_F32] = {load_f32, load_sum_f32, store_f32, dot_f32, add_f32},
    [STEER_F16] = {load_f16, load_sum_f16, store_f16, dot_f16, add_f16},
    [STEER_BF16] = {load_bf16, load_sum_bf16, store_bf16, dot_bf16, add_bf16},
};

/* ---- Pairs of bf16 -------------------------------------------------------------------------------------------
 *
 * add_bf16 again, twice as fast: a word of two elements is widened and rounded with shifts and masks alone, where single
 * elements would have to be spread and packed. The vector is taken as its even and its odd elements for that. */

/* The even and odd elements of the vector that this thread split last in a launch. */
static _Thread_local struct {
    const float *of;
    float even[STEER_MAX_HIDDEN / 2], odd[STEER_MAX_HIDDEN / 2];
} halves;

WIDE static void split(const float *m, int64_t n) {
    if (halves.of == m) return;
    for (int64_t k = 0; k < n / 2; k++) {
        halves.even[k] = m[2 * k];
        halves.odd[k] = m[2 * k + 1];
    }
    if (n % 2) halves.even[n / 2] = m[n - 1];
    halves.of = m;
}

static inline uint32_t load_pair(const uint16_t *h) {
    uint32_t word;
    memcpy(&word, h, sizeof word);
    return word;
}
static inline float even_of(uint32_t word) { return steer_bits_float(word << 16); }
static inline float odd_of(uint32_t word) { return steer_bits_float(word & 0xffff0000u); }

/* The bits of a value that is no NaN, rounded to bf16 in the upper half. */
static inline uint32_t round_upper(float value) {
    uint32_t bits = steer_float_bits(value);
    return bits + 0x7fffu + ((bits >> 16) & 1u);
}

/* For finite rows and coefficients: their sum is no NaN. Arithmetic bounds it, so it fetches the next row meanwhile for
 * the dot, which memory bounds. */
WIDE static void add_pairs(uint16_t *restrict h, float coef, const float *restrict even,
                           const float *restrict odd, int64_t n) {
    enum { BLOCK = 128, LINE = 32 }; /* pairs; elements of a cache line */
    for (int64_t start = 0; start < n / 2; start += BLOCK) {
        int64_t end = start + BLOCK < n / 2 ? start + BLOCK : n / 2;
        for (int64_t i = 2 * start; i < 2 * end; i += LINE) __builtin_prefetch(h + n + i);
        for (int64_t k = start; k < end; k++) {
            uint32_t word = load_pair(h + 2 * k);
            uint32_t low = round_upper(MUL_ADD(coef, even[k], even_of(word)));
            uint32_t high = round_upper(MUL_ADD(coef, odd[k], odd_of(word)));
            word = low >> 16 | (high & 0xffff0000u);
            memcpy(h + 2 * k, &word, sizeof word);
        }
    }
    if (n % 2) h[n - 1] = steer_f32_to_bf16(MUL_ADD(coef, even[n / 2], steer_bf16_to_f32(h[n - 1])));
}

/* ---- Arithmetic ---------------------------------------------------------------------------------------------- */

static const float *vector_at(uint64_t address) { return (const float *)(uintptr_t)address; }

static float coefficient(float s, float gain, float offset, float lo, float hi) {
    return fminf(fmaxf(gain * s + offset, lo - s), hi - s);
}

static int gate_open(const steer_op_image *op, const float *p, float norm2) {
    if (op->gate < 0) return 1;
    float value = op->gate_inv * p[op->gate] + op->gate_bias;
    if (op->flags & STEER_OP_IMAGE_COSINE)
        value = norm2 > 0 ? value / sqrtf(norm2) : 0; /* of a zero row: 0 */
    return op->flags & STEER_OP_IMAGE_BELOW ? value < op->threshold : value > op->threshold;
}

/* Whether the square of a norm that was once `most` is too little of it, or too near an end of f32, to be divided by. */
static int norm_is_lost(float norm2, float most) {
    return !(norm2 > 0x1p-6f * most && norm2 > 0x1p-96f && norm2 <= FLT_MAX);
}

/* Runs the operations over the dots p, leaving in C what each vector is scaled by; 0 if a cosine asks for a norm that is
 * lost. */
static int solve(float *C, float *p, float norm2, const steer_program_image *image) {
    const char *base = (const char *)image;
    int32_t n = image->vectors;
    const steer_op_image *ops = (const steer_op_image *)(const void *)(base + steer_image_ops_at(n));
    const float *gram = (const float *)(const void *)(base + steer_image_gram_at(n, image->ops));
    float most = norm2;
    int held = 1;
    for (int32_t j = 0; j < n; j++) C[j] = 0;
    for (int32_t k = 0; k < image->ops; k++) {
        const steer_op_image *op = &ops[k];
        if (op->flags & STEER_OP_IMAGE_COSINE && norm_is_lost(norm2, most)) held = 0;
        if (!gate_open(op, p, norm2)) continue;
        float s = op->inv * p[op->dot] + op->bias;
        float c = coefficient(s, op->gain, op->offset, op->lo, op->hi) * op->inv;
        const float *row = gram + (size_t)op->dot * (size_t)n;
        norm2 += c * (2 * p[op->dot] + c * row[op->dot]);
        if (!(norm2 <= most)) most = norm2;
        C[op->dot] += c;
        for (int32_t j = 0; j < n; j++) p[j] += c * row[j];
    }
    return held;
}

static int all_finite(const float *x, int64_t n) {
    float sum = 0; /* of zeros */
    for (int64_t i = 0; i < n; i++) sum += 0 * x[i];
    return sum == 0;
}

static const steer_program_image *image_of(const steer_entry *entry) {
    return (const steer_program_image *)(uintptr_t)entry->image;
}

static const uint64_t *vectors_of(const steer_program_image *image) {
    return (const uint64_t *)(const void *)((const char *)image + steer_image_vectors_at());
}

/* What m is scaled by in a program that its entry states whole, from p = h.m. */
static float entry_coefficient(const steer_entry *entry, float p) {
    return coefficient(entry->inv * p + entry->bias, entry->gain, 0, entry->lo, entry->hi) * entry->inv;
}

/* What each vector of the program is scaled by, from the row x; 0 if f32 cannot say. */
static int find_coefficients(float *C, const float *x, const steer_entry *entry, int64_t n) {
    if (!entry->vectors) return 1;
    if (!entry->image) {
        C[0] = entry_coefficient(entry, dot_f32(x, vector_at(entry->m[0]), n));
        return isfinite(C[0]);
    }
    const steer_program_image *image = image_of(entry);
    const uint64_t *vectors = vectors_of(image);
    float p[MAX_VECTORS];
    for (int32_t j = 0; j < image->vectors; j++) p[j] = dot_f32(x, vector_at(vectors[j]), n);
    int finite = all_finite(p, image->vectors);
    int held = solve(C, p, image->norm ? dot_f32(x, x, n) : 0, image);
    return finite && held && all_finite(C, image->updated);
}

static void update(float *x, const float *C, const steer_entry *entry, int64_t n) {
    if (entry->u) add_f32(x, entry->u_coef, vector_at(entry->u), n);
    if (!entry->vectors) return;
    const uint64_t *vectors = entry->image ? vectors_of(image_of(entry)) : entry->m;
    for (int32_t j = 0; j < entry->updated; j++)
        if (C[j] != 0) add_f32(x, C[j], vector_at(vectors[j]), n);
}

/* ---- Launches ------------------------------------------------------------------------------------------------ */

static const steer_entry *entry_of(const steer_launch *launch, int64_t row) {
    if (launch->uniform) return launch->uniform;
    const steer_row *record = &launch->table[row];
    int32_t at = launch->layer - record->first;
    if (at < 0 || at >= record->count) return NULL;
    const steer_entry *entry = (const steer_entry *)(uintptr_t)record->entries + at;
    const int has_blocks = launch->blocks && steer_entry_blocks(entry);
    return entry->u || entry->vectors || has_blocks ? entry : NULL;
}

/* Steers a row whose sums f32 cannot hold; 0 if they cannot be held at all: it is not finite. */
static int steer_exactly(void *h, const void *r, const steer_entry *entry, steer_dtype dtype, int64_t n) {
    static _Thread_local float x[STEER_MAX_HIDDEN], sum[STEER_MAX_HIDDEN];
    const row_functions *functions = &row_table[dtype];
    functions->load(x, h, n);
    if (r) functions->load_sum(sum, h, r, n);
    if (!all_finite(r ? sum : x, n)) return 0;
    steer_cpu_steer_exactly(x, r ? sum : x, entry, n);
    functions->store(h, x, n);
    return 1;
}

/* A program of one vector, on a row where it lies. */
static void steer_one_vector(void *h, const steer_entry *entry, steer_dtype dtype, int64_t n) {
    const row_functions *functions = &row_table[dtype];
    if (entry->u) {
        functions->add(h, entry->u_coef, vector_at(entry->u), n);
        return;
    }
    const float *m = vector_at(entry->m[0]);
    float p = functions->dot(h, m, n), c = entry_coefficient(entry, p);
    if (c == 0) return;
    if (!(isfinite(p) && isfinite(c))) { /* a finite dot: the row is finite */
        if (!steer_exactly(h, NULL, entry, dtype, n)) functions->add(h, c, m, n);
    } else if (dtype == STEER_BF16) {
        split(m, n);
        add_pairs(h, c, halves.even, halves.odd, n);
    } else {
        functions->add(h, c, m, n);
    }
}

static void steer_row_at(const steer_launch *launch, int64_t row, size_t element) {
    static _Thread_local float x[STEER_MAX_HIDDEN];
    const steer_entry *entry = entry_of(launch, row);
    if (!entry) return;
    const row_functions *functions = &row_table[launch->dtype];
    char *h = (char *)launch->hidden + (size_t)row * (size_t)launch->hidden_stride * element;
    int64_t n = launch->hidden_size;
    if (steer_entry_blocks(entry)) {
        const char *r = launch->residual;
        if (r) r += (size_t)row * (size_t)launch->residual_stride * element;
        steer_cpu_steer_blocks(h, r, steer_entry_blocks(entry), launch->notes + row, launch->dtype, n);
        return;
    }
    if (!launch->residual && !entry->image && !(entry->u && entry->vectors)) {
        steer_one_vector(h, entry, launch->dtype, n);
        return;
    }
    float C[MAX_VECTORS];
    const char *r = NULL;
    if (launch->residual) { /* dots of the sum; the update goes to the delta alone, so nothing cancels */
        r = (const char *)launch->residual + (size_t)row * (size_t)launch->residual_stride * element;
        functions->load_sum(x, h, r, n);
    } else {
        functions->load(x, h, n);
    }
    if (!find_coefficients(C, x, entry, n) && steer_exactly(h, r, entry, launch->dtype, n)) return;
    if (r) functions->load(x, h, n);
    update(x, C, entry, n);
    functions->store(h, x, n);
}

int steer_cpu_steer(void *device, const steer_launch *launch) {
    (void)device;
    size_t element = steer_dtype_size(launch->dtype);
    int64_t rows = launch->rows;
#pragma omp parallel if (rows > 1 && rows * launch->hidden_size >= 32768)
    {
        halves.of = NULL; /* another vector may lie there since the launch before */
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; row++) steer_row_at(launch, row, element);
    }
    return STEER_OK;
}
