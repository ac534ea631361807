/* vector.h: a steering vector on the host: an immutable f32 copy, scaled by a power of two, with its content hash. */
#ifndef STEER_STEERING_VECTOR_H
#define STEER_STEERING_VECTOR_H

#include "core/hash.h"
#include "core/refs.h"
#include "core/status.h"

typedef struct steer_vector {
    steer_refs refs;
    int64_t length;
    int32_t exponent; /* the user's vector is m * 2^exponent */
    double norm;      /* of m, in f64 */
    steer_hash hash;  /* of length and m */
    float m[]; /* greatest magnitude in [0.5, 1), so that no dot of it overflows, or all 0; padded as backends
                  want it */
} steer_vector;

/* From a one-dimensional float tensor; `name` is the argument for messages ("vector", "gate_vector"). */
int steer_vector_from_tensor(steer_vector **out, steer_tensor *tensor, const char *name);
/* INVALID_ARGUMENT for a vector of zeros. */
int steer_vector_check_direction(const steer_vector *vector, const char *name);
/* From f64 values that are finite and not all zero. */
int steer_vector_from_f64(steer_vector **out, const double *values, int64_t length);
steer_vector *steer_vector_retain(steer_vector *vector);
void steer_vector_release(steer_vector *vector);
int steer_vector_equal(const steer_vector *a, const steer_vector *b);
/* a.m . b.m in f64. */
double steer_vector_dot(const steer_vector *a, const steer_vector *b);

#endif
