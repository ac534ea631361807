/* vector.c: makes host vectors: checks values, scales, hashes. */
#include "steering/vector.h"

#include "backend/device.h"
#include "tensor/tensor.h"

#include <math.h>
#include <stdlib.h>

static int vector_allocate(steer_vector **out, int64_t length) {
    steer_vector *vector = calloc(1, sizeof *vector + (size_t)steer_vector_room(length) * sizeof *vector->m);
    if (!vector)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "vector: no host memory for %lld elements",
                          (long long)length);
    steer_refs_init(&vector->refs);
    vector->length = length;
    *out = vector;
    return STEER_OK;
}

/* Scales m by the power of two that brings its greatest magnitude into [0.5, 1), and derives the rest. */
static int vector_finish(steer_vector *vector, const char *name) {
    float greatest = 0;
    for (int64_t i = 0; i < vector->length; i++) {
        float magnitude = fabsf(vector->m[i]);
        if (!isfinite(magnitude))
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "%s: element " STEER_INDEX64 " is %s, expected finite numbers", name,
                              (long long)i, isnan(magnitude) ? "NaN" : "infinite");
        if (magnitude > greatest) greatest = magnitude;
    }
    int exponent; /* 0 for 0 */
    frexpf(greatest, &exponent);
    double square = 0;
    for (int64_t i = 0; i < vector->length; i++) {
        vector->m[i] = ldexpf(vector->m[i], -exponent);
        if (vector->m[i] == 0) vector->m[i] = 0; /* -0 and 0 hash alike */
        square += (double)vector->m[i] * (double)vector->m[i];
    }
    vector->exponent = exponent;
    vector->norm = sqrt(square);
    vector->hash =
        steer_hash_bytes((steer_hash){0, 0}, vector->m, (size_t)vector->length * sizeof *vector->m);
    return STEER_OK;
}

static int is_float(steer_dtype dtype) {
    return dtype == STEER_F32 || dtype == STEER_F16 || dtype == STEER_BF16;
}

/* Copies a tensor's values into `values` as f32. */
static int read_values(float *values, steer_tensor *tensor) {
    steer_device *cpu;
    STEER_TRY(steer_device_open(&cpu, "cpu"));
    steer_tensor *host;
    int status = steer_tensor_wrap(&host, cpu, STEER_F32, 1, tensor->view.shape, NULL, values);
    if (status == STEER_OK) {
        status = steer_tensor_copy(host, tensor);
        steer_tensor_release(host);
    }
    steer_device_release(cpu);
    return status;
}

int steer_vector_check_direction(const steer_vector *vector, const char *name) {
    if (vector->norm > 0) return STEER_OK;
    return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: all %lld elements are zero, expected a direction", name,
                      (long long)vector->length);
}

int steer_vector_from_tensor(steer_vector **out, steer_tensor *tensor, const char *name) {
    if (!tensor) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: is NULL, expected a tensor", name);
    const steer_view *view = &tensor->view;
    char text[128];
    if (view->ndim != 1)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: shape %s, expected one dimension", name,
                          steer_shape_text(text, sizeof text, view->ndim, view->shape));
    if (!is_float(view->dtype))
        return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "%s: %s elements, expected f32, f16 or bf16", name,
                          steer_dtype_name(view->dtype));
    if (view->shape[0] < 1 || view->shape[0] > STEER_MAX_HIDDEN)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: %lld elements, expected 1 to %d", name,
                          (long long)view->shape[0], STEER_MAX_HIDDEN);
    steer_vector *vector;
    STEER_TRY(vector_allocate(&vector, view->shape[0]));
    int status = read_values(vector->m, tensor);
    if (status == STEER_OK) status = vector_finish(vector, name);
    if (status != STEER_OK) {
        free(vector);
        return status;
    }
    *out = vector;
    return STEER_OK;
}

int steer_vector_from_f64(steer_vector **out, const double *values, int64_t length) {
    double greatest = 0;
    for (int64_t i = 0; i < length; i++) greatest = fmax(greatest, fabs(values[i]));
    int exponent;
    frexp(greatest, &exponent); /* scaled before it is rounded: an f64 sum may be out of the range of f32 */
    steer_vector *vector;
    STEER_TRY(vector_allocate(&vector, length));
    for (int64_t i = 0; i < length; i++) vector->m[i] = (float)ldexp(values[i], -exponent);
    int status = vector_finish(vector, "folded vector");
    if (status != STEER_OK) {
        free(vector);
        return status;
    }
    vector->exponent += exponent;
    *out = vector;
    return STEER_OK;
}

steer_vector *steer_vector_retain(steer_vector *vector) {
    if (vector) steer_refs_add(&vector->refs);
    return vector;
}

void steer_vector_release(steer_vector *vector) {
    if (vector && steer_refs_drop(&vector->refs)) free(vector);
}

int steer_vector_equal(const steer_vector *a, const steer_vector *b) {
    return a == b || (a->length == b->length && steer_hash_equal(a->hash, b->hash) &&
                      memcmp(a->m, b->m, (size_t)a->length * sizeof *a->m) == 0);
}

double steer_vector_dot(const steer_vector *a, const steer_vector *b) {
    double sum = 0;
    for (int64_t i = 0; i < a->length; i++) sum += (double)a->m[i] * (double)b->m[i];
    return sum;
}
