/* dlpack.h: the DLPack 0.8 structures, an ABI shared with other libraries (https://github.com/dmlc/dlpack). */
#ifndef STEER_TENSOR_DLPACK_H
#define STEER_TENSOR_DLPACK_H

#include "steer.h"

enum { DL_CPU = 1, DL_CUDA = 2 };                              /* DLDeviceType */
enum { DL_INT = 0, DL_UINT = 1, DL_FLOAT = 2, DL_BFLOAT = 4 }; /* DLDataTypeCode */

typedef struct dl_device {
    int32_t type;
    int32_t id;
} dl_device;

typedef struct dl_dtype {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
} dl_dtype;

typedef struct dl_tensor {
    void *data;
    dl_device device;
    int32_t ndim;
    dl_dtype dtype;
    int64_t *shape;
    int64_t *strides; /* in elements; NULL: contiguous */
    uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed {
    dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *self); /* may be NULL */
} dl_managed;

int steer_tensor_import(steer_tensor **out, dl_managed *managed);
int steer_tensor_export(dl_managed **out, steer_tensor *tensor);

#endif
