/* pair.h: the same tensor on the CPU and on the device under test, for comparing what the two make of it. */
#ifndef STEER_TEST_PAIR_H
#define STEER_TEST_PAIR_H

#include "check.h"
#include "tensor/dtype.h"

static steer_device *cpu, *gpu; /* gpu: STEER_TEST_DEVICE, else cuda:0 */

typedef struct pair {
    steer_tensor *host;
    steer_tensor *device;
} pair;

#define SHAPE(...)                                                                                           \
    (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]) { __VA_ARGS__ }

/* Opens both devices; 77 if the one under test is not there, 0 if all is well. */
static inline int pair_open(void) {
    const char *id = getenv("STEER_TEST_DEVICE");
    if (!id || !*id) id = "cuda:0";
    int status = steer_device_open(&gpu, id);
    if (status == STEER_E_NOT_FOUND) {
        printf("skipped: no CUDA device: %s\n", steer_error_message());
        return 77;
    }
    CHECK_OK(status);
    CHECK_OK(steer_device_open(&cpu, "cpu"));
    return check_failures ? 1 : 0;
}

static inline int pair_is_cpu(void) { return gpu == cpu; }

static inline int is_float(steer_dtype dtype) { return dtype <= STEER_BF16; }

/* A repeatable stream of 64-bit numbers (splitmix64). */
static inline uint64_t next_number(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline pair pair_empty(steer_dtype dtype, int32_t ndim, const int64_t *shape) {
    pair p = {NULL, NULL};
    CHECK_OK(steer_tensor_create(&p.host, cpu, dtype, ndim, shape));
    CHECK_OK(steer_tensor_create(&p.device, gpu, dtype, ndim, shape));
    return p;
}

/* Floats in (-4, 4) in steps of 1/64 (so that equal ones occur), integers in -1000 .. 1000, bytes in 0 .. 255. */
static inline pair pair_random(steer_dtype dtype, int32_t ndim, const int64_t *shape, uint64_t seed) {
    pair p = pair_empty(dtype, ndim, shape);
    char *data = steer_tensor_data(p.host);
    size_t size = steer_dtype_size(dtype);
    for (int64_t i = 0; i < steer_tensor_numel(p.host); i++) {
        int64_t number = (int64_t)(next_number(&seed) >> 32);
        double value = is_float(dtype)     ? (double)(number % 511 - 255) / 64.0
                       : dtype == STEER_U8 ? (double)(number % 256)
                                           : (double)(number % 2001 - 1000);
        steer_element_store(dtype, data + (size_t)i * size, value);
    }
    CHECK_OK(steer_tensor_copy(p.device, p.host));
    return p;
}

static inline void pair_release(pair p) {
    steer_tensor_release(p.host);
    steer_tensor_release(p.device);
}

/* Views of both; the pair that they come from is released. */
static inline pair pair_transpose(pair p, int32_t dim0, int32_t dim1) {
    pair out = {NULL, NULL};
    CHECK_OK(steer_tensor_transpose(&out.host, p.host, dim0, dim1));
    CHECK_OK(steer_tensor_transpose(&out.device, p.device, dim0, dim1));
    pair_release(p);
    return out;
}

static inline pair pair_narrow(pair p, int32_t dim, int64_t start, int64_t length) {
    pair out = {NULL, NULL};
    CHECK_OK(steer_tensor_narrow(&out.host, p.host, dim, start, length));
    CHECK_OK(steer_tensor_narrow(&out.device, p.device, dim, start, length));
    pair_release(p);
    return out;
}

/* A contiguous copy of any tensor on the CPU. */
static inline steer_tensor *on_host(steer_tensor *tensor) {
    int64_t shape[STEER_MAX_DIMS];
    steer_tensor *out = NULL;
    for (int32_t d = 0; d < steer_tensor_ndim(tensor); d++) shape[d] = steer_tensor_size(tensor, d);
    CHECK_OK(steer_tensor_create(&out, cpu, steer_tensor_dtype(tensor), steer_tensor_ndim(tensor), shape));
    CHECK_OK(steer_tensor_copy(out, tensor));
    return out;
}

/* One rounding of a dtype, relative to the value. */
static inline double unit(steer_dtype dtype) {
    return dtype == STEER_F32 ? 0x1p-23 : dtype == STEER_F16 ? 0x1p-10 : dtype == STEER_BF16 ? 0x1p-7 : 0.0;
}

/* Every element of the device's tensor is the host's: NaN where that is NaN, else within `relative` of it plus
 * `absolute`. Both 0: the same bits. */
static inline void pair_compare(pair p, double relative, double absolute, const char *file, int line,
                                const char *what) {
    char more[300] = "";
    int same = 1, exact = relative == 0.0 && absolute == 0.0;
    steer_tensor *want = on_host(p.host), *got = on_host(p.device);
    steer_dtype dtype = steer_tensor_dtype(want);
    size_t size = steer_dtype_size(dtype);
    for (int64_t i = 0; same && i < steer_tensor_numel(want); i++) {
        const char *x = (const char *)steer_tensor_data(want) + (size_t)i * size;
        const char *y = (const char *)steer_tensor_data(got) + (size_t)i * size;
        double expected = steer_element_load(dtype, x), value = steer_element_load(dtype, y);
        if (memcmp(x, y, size) == 0 || (isnan(expected) && isnan(value))) continue;
        same = !exact && isfinite(expected) && fabs(value - expected) <= relative * fabs(expected) + absolute;
        if (!same)
            snprintf(more, sizeof more, "%s: element %lld of %lld (%s) is %.9g, expected %.9g", what,
                     (long long)i, (long long)steer_tensor_numel(want), steer_dtype_name(dtype), value,
                     expected);
    }
    check_report(same, file, line, "the device's result is the CPU's", more);
    steer_tensor_release(want);
    steer_tensor_release(got);
}

#define SAME_BITS(p, what) pair_compare((p), 0.0, 0.0, __FILE__, __LINE__, (what))
#define CLOSE(p, relative, absolute, what)                                                                   \
    pair_compare((p), (relative), (absolute), __FILE__, __LINE__, (what))

/* Runs a call for the host tensors and for the device's: BOTH(steer_tensor_fill(OF(a), 1.0)). */
#define BOTH(call)                                                                                           \
    do {                                                                                                     \
        int side = 0;                                                                                        \
        CHECK_OK(call);                                                                                      \
        side = 1;                                                                                            \
        CHECK_OK(call);                                                                                      \
    } while (0)
#define OF(p) (side ? (p).device : (p).host)

#endif
