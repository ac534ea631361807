/* gguf.h: the header of a GGUF file (versions 2 and 3, little-endian): metadata by key and where tensors lie. */
#ifndef STEER_FILE_GGUF_H
#define STEER_FILE_GGUF_H

#include "core/file.h"
#include "steer.h"

typedef enum steer_gguf_type {
    STEER_GGUF_U8 = 0,
    STEER_GGUF_I8 = 1,
    STEER_GGUF_U16 = 2,
    STEER_GGUF_I16 = 3,
    STEER_GGUF_U32 = 4,
    STEER_GGUF_I32 = 5,
    STEER_GGUF_F32 = 6,
    STEER_GGUF_BOOL = 7,
    STEER_GGUF_STRING = 8,
    STEER_GGUF_ARRAY = 9,
    STEER_GGUF_U64 = 10,
    STEER_GGUF_I64 = 11,
    STEER_GGUF_F64 = 12,
    STEER_GGUF_TYPES = 13
} steer_gguf_type;

/* Text that lies in the file, not ended by 0. */
typedef struct steer_gguf_text {
    const char *text;
    size_t size;
} steer_gguf_text;

typedef struct steer_gguf_value {
    steer_gguf_text key;
    steer_gguf_type type;
    steer_gguf_type element; /* of an ARRAY */
    int64_t count;           /* of an ARRAY, else 1 */
    const uint8_t *data;     /* the value, or the array's first element */
    steer_gguf_text *texts;  /* [count] of an array of STRING */
} steer_gguf_value;

typedef struct steer_gguf_tensor {
    steer_gguf_text name;
    int32_t ndim;
    int64_t dims[4]; /* as in the file: the first one varies fastest */
    uint32_t type;   /* ggml's number */
    int64_t offset;  /* in the file */
} steer_gguf_tensor;

typedef struct steer_gguf {
    const char *name; /* the file, for messages; borrowed */
    int64_t value_count, tensor_count;
    steer_gguf_value *values;
    steer_gguf_tensor *tensors;
} steer_gguf;

/* Reads the header of a mapped file, which must outlive it. FORMAT says what is wrong and where. */
int steer_gguf_read(steer_gguf **out, const steer_map *map);
void steer_gguf_free(steer_gguf *gguf);

/* The value of a key, NULL if there is none. */
const steer_gguf_value *steer_gguf_get(const steer_gguf *gguf, const char *key);
/* 1 if the key has an integer (or a bool), which *out is then; 0 if there is no such key or it is no integer. */
int steer_gguf_integer(const steer_gguf *gguf, const char *key, int64_t *out);
/* The same for a number of any type. */
int steer_gguf_number(const steer_gguf *gguf, const char *key, double *out);
int steer_gguf_string(const steer_gguf *gguf, const char *key, steer_gguf_text *out);
/* Element `index` of an array of numbers (or of a number alone, index 0). */
double steer_gguf_element(const steer_gguf_value *value, int64_t index);
int steer_gguf_is(steer_gguf_text text, const char *word);

#endif
