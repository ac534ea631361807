/* values.h: tensors to and from arrays of doubles, for C tests. */
#ifndef STEER_TEST_VALUES_H
#define STEER_TEST_VALUES_H

#include "check.h"
#include "tensor/dtype.h"

static const char *const dtype_names[] = {"f32", "f16", "bf16", "i32", "i64", "u8"};

static inline steer_device *open_cpu(void) {
    static steer_device *cpu;
    if (!cpu) CHECK_OK(steer_device_open(&cpu, "cpu"));
    return cpu;
}

/* A contiguous tensor on `device` of the given values, rounded to dtype. */
static inline steer_tensor *tensor_of(steer_device *device, steer_dtype dtype, int32_t ndim,
                                      const int64_t *shape, const double *values) {
    steer_tensor *host = NULL, *out = NULL;
    CHECK_OK(steer_tensor_create(&host, open_cpu(), dtype, ndim, shape));
    char *data = steer_tensor_data(host);
    for (int64_t i = 0; i < steer_tensor_numel(host); i++)
        steer_element_store(dtype, data + i * (int64_t)steer_dtype_size(dtype), values[i]);
    CHECK_OK(steer_tensor_create(&out, device, dtype, ndim, shape));
    CHECK_OK(steer_tensor_copy(out, host));
    steer_tensor_release(host);
    return out;
}

/* The elements in row-major order; to be freed. */
static inline double *values_of(steer_tensor *tensor) {
    int64_t shape[STEER_MAX_DIMS], numel = steer_tensor_numel(tensor);
    steer_dtype dtype = steer_tensor_dtype(tensor);
    steer_tensor *host = NULL;
    for (int32_t d = 0; d < steer_tensor_ndim(tensor); d++) shape[d] = steer_tensor_size(tensor, d);
    CHECK_OK(steer_tensor_create(&host, open_cpu(), dtype, steer_tensor_ndim(tensor), shape));
    CHECK_OK(steer_tensor_copy(host, tensor));
    double *out = malloc((size_t)(numel + 1) * sizeof *out);
    const char *data = steer_tensor_data(host);
    for (int64_t i = 0; i < numel; i++)
        out[i] = steer_element_load(dtype, data + i * (int64_t)steer_dtype_size(dtype));
    steer_tensor_release(host);
    return out;
}

/* Largest relative error of one rounding to a dtype (0 for integers). */
static inline double rounding_of(steer_dtype dtype) {
    static const double table[] = {0x1p-24, 0x1p-11, 0x1p-8, 0, 0, 0};
    return table[dtype];
}

/* Small repeatable integers in [0, below). */
static inline int64_t test_number(uint64_t *state, int64_t below) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((*state >> 33) % (uint64_t)below);
}

/* Runs `test` on the device of STEER_TEST_DEVICE, by default the CPU. */
static inline void on_device(void (*test)(steer_device *device)) {
    const char *id = getenv("STEER_TEST_DEVICE");
    steer_device *device = NULL;
    int status = steer_device_open(&device, id && *id ? id : "cpu");
    CHECK_OK(status);
    if (status == STEER_OK) test(device);
    steer_device_release(device);
}

#endif
