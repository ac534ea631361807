/* compute.h: tensor operations on checked handles: shapes, dtypes and devices are validated here, backends compute. */
#ifndef STEER_TENSOR_COMPUTE_H
#define STEER_TENSOR_COMPUTE_H

#include "tensor/tensor.h"

/* `operand` retained if it may be read while dst is written: when it shares no memory with dst, or (same_is_safe) is
 * dst element for element. Else a copy of it. */
int steer_compute_detach(steer_tensor **out, const steer_tensor *dst, steer_tensor *operand,
                         int same_is_safe);

int steer_compute_get(double *out, steer_tensor *tensor, const int64_t *index);
int steer_compute_set(steer_tensor *tensor, const int64_t *index, double value);
int steer_compute_fill(steer_tensor *dst, double value);
int steer_compute_arange(steer_tensor *dst, double start, double step);
int steer_compute_random(steer_tensor *dst, steer_random kind, uint64_t seed);
int steer_compute_unary(steer_tensor *dst, steer_tensor *a, steer_unary op);
int steer_compute_binary(steer_tensor *dst, steer_tensor *a, steer_tensor *b, steer_binary op, double alpha);
int steer_compute_scalar(steer_tensor *dst, steer_tensor *a, steer_binary op, double value);
int steer_compute_where(steer_tensor *dst, steer_tensor *mask, steer_tensor *a, steer_tensor *b);
int steer_compute_reduce(steer_tensor *dst, steer_tensor *src, steer_reduce op, int32_t dim);
/* One of the backend's functions from [outer, n, inner] to the same shape. */
typedef enum steer_along { STEER_NORMALIZE, STEER_SOFTMAX, STEER_CUMSUM } steer_along;
int steer_compute_along(steer_tensor *dst, steer_tensor *src, steer_along op, int32_t dim);
int steer_compute_sort(steer_tensor *values, steer_tensor *indices, steer_tensor *src, int32_t dim,
                       int32_t descending);
int steer_compute_gather(steer_tensor *dst, steer_tensor *src, steer_tensor *index, int32_t dim,
                         int64_t base);
int steer_compute_matmul(steer_tensor *dst, steer_tensor *a, steer_tensor *b);

/* dst, retained, if it is contiguous, else a new tensor of its shape whose elements are to be copied to dst. */
int steer_compute_result(steer_tensor **out, steer_tensor *dst);

/* Messages name the argument: DEVICE_MISMATCH, DTYPE_MISMATCH, DTYPE_MISMATCH, SHAPE_MISMATCH. check_shape checks the
 * shape of a result. */
int steer_compute_check_device(const steer_tensor *tensor, const char *name, const steer_tensor *dst);
int steer_compute_check_dtype(const steer_tensor *tensor, const char *name, const steer_tensor *dst);
int steer_compute_check_float(const steer_tensor *tensor, const char *name);
int steer_compute_check_shape(const steer_tensor *dst, const char *name, int32_t ndim, const int64_t *shape);

#endif
