/* weights.h: the tensors of a model's files by name: safetensors, alone or in shards with an index, and GGUF. */
#ifndef STEER_FILE_WEIGHTS_H
#define STEER_FILE_WEIGHTS_H

#include "core/file.h"
#include "core/table.h"
#include "file/gguf.h"

/* How elements lie in a file: a row of the table in format.c. */
typedef enum steer_format {
    STEER_FORMAT_F32 = 0,
    STEER_FORMAT_F16,
    STEER_FORMAT_BF16,
    STEER_FORMAT_F64,
    STEER_FORMAT_I8,
    STEER_FORMAT_I16,
    STEER_FORMAT_I32,
    STEER_FORMAT_I64,
    STEER_FORMAT_U8,
    STEER_FORMAT_BOOL,
    STEER_FORMAT_Q4_0,
    STEER_FORMAT_Q4_1,
    STEER_FORMAT_Q5_0,
    STEER_FORMAT_Q5_1,
    STEER_FORMAT_Q8_0,
    STEER_FORMAT_Q4_K,
    STEER_FORMAT_Q5_K,
    STEER_FORMAT_Q6_K,
    /* Without weights: only their names and sizes are known. */
    STEER_FORMAT_Q8_1,
    STEER_FORMAT_Q2_K,
    STEER_FORMAT_Q3_K,
    STEER_FORMAT_Q8_K,
    STEER_FORMAT_IQ2_XXS,
    STEER_FORMAT_IQ2_XS,
    STEER_FORMAT_IQ3_XXS,
    STEER_FORMAT_IQ1_S,
    STEER_FORMAT_IQ4_NL,
    STEER_FORMAT_IQ3_S,
    STEER_FORMAT_IQ2_S,
    STEER_FORMAT_IQ4_XS,
    STEER_FORMAT_IQ1_M,
    STEER_FORMAT_TQ1_0,
    STEER_FORMAT_TQ2_0,
    STEER_FORMAT_MXFP4,
    STEER_FORMAT_NVFP4,
    STEER_FORMAT_Q1_0,
    STEER_FORMAT_U16,
    STEER_FORMAT_U32,
    STEER_FORMAT_U64,
    STEER_FORMAT_C64,
    STEER_FORMAT_F8_E4M3,
    STEER_FORMAT_F8_E5M2,
    STEER_FORMAT_F8_E8M0,
    STEER_FORMAT_F8_E4M3FNUZ,
    STEER_FORMAT_F8_E5M2FNUZ,
    STEER_FORMAT_F6_E2M3,
    STEER_FORMAT_F6_E3M2,
    STEER_FORMAT_F4,
    STEER_FORMAT_COUNT
} steer_format;

typedef struct steer_format_traits {
    const char *name;        /* as the file's kind writes it */
    int32_t block, bytes;    /* elements of a block, and its bytes */
    int32_t gguf;            /* its number in GGUF, -1: none */
    const char *safetensors; /* its name there, NULL: none */
    /* n elements (whole blocks) as f32; NULL: it holds no weights. */
    void (*widen)(float *out, const uint8_t *data, int64_t n);
} steer_format_traits;

extern const steer_format_traits steer_format_table[STEER_FORMAT_COUNT];

typedef struct steer_weight {
    steer_node node; /* in the store's table, by a hash of the name */
    const char *name;
    const char *file; /* for messages */
    steer_format format;
    int32_t ndim;
    int64_t shape[STEER_MAX_DIMS]; /* row-major: GGUF's dimensions turned round */
    const uint8_t *data;
    int64_t bytes;
    int used; /* for the caller to mark */
} steer_weight;

typedef struct steer_weights {
    steer_weight *weight; /* [count] in the files' order */
    int32_t count;
    steer_table table;
    steer_map **maps; /* [map_count] */
    int32_t map_count;
    steer_gguf *gguf; /* of a GGUF file, else NULL */
} steer_weights;

/* Opens a folder (model.safetensors.index.json and its shards, else model.safetensors, else its one *.safetensors), a .safetensors file
 * or a .gguf file. NOT_FOUND, IO; FORMAT and UNSUPPORTED name file and tensor. */
int steer_weights_open(steer_weights **out, const char *path);
void steer_weights_close(steer_weights *weights);

/* NULL if there is none. */
steer_weight *steer_weights_find(const steer_weights *weights, const char *name);
int64_t steer_weight_numel(const steer_weight *weight);
/* "[32, 64]" in `buffer`. */
const char *steer_weight_shape_text(char *buffer, size_t size, const steer_weight *weight);

/* Elements start .. start + n of the weight as f32; both are multiples of the format's block. UNSUPPORTED for formats without weights. */
int steer_weight_read_f32(const steer_weight *weight, int64_t start, int64_t n, float *out);
/* The same in F32, F16 or BF16, rounded to nearest even. *finite is set to 0 if an element is NaN or infinite. */
int steer_weight_convert(const steer_weight *weight, int64_t start, int64_t n, steer_dtype dtype, void *out,
                         int *finite);

#endif
