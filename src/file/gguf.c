/* gguf.c: reads GGUF headers: every length is checked against the file before it is used. */
#include "file/gguf.h"

#include "file/store.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MOST = 8 }; /* of arrays in arrays */

static const int type_bytes[STEER_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

typedef struct reader {
    const char *name;
    const uint8_t *data;
    int64_t at, size;
} reader;

static int cut(const reader *r, const char *what) {
    return STEER_FAIL(STEER_E_FORMAT, "%s: cut short: %s at byte %lld needs more than the file's %lld bytes",
                      r->name, what, (long long)r->at, (long long)r->size);
}

static int take(reader *r, void *out, int64_t bytes, const char *what) {
    if (bytes > r->size - r->at) return cut(r, what);
    memcpy(out, r->data + r->at, (size_t)bytes);
    r->at += bytes;
    return STEER_OK;
}

static int take_text(reader *r, steer_gguf_text *out, const char *what) {
    uint64_t size = 0;
    STEER_TRY(take(r, &size, 8, what));
    if (size > (uint64_t)(r->size - r->at)) return cut(r, what);
    *out = (steer_gguf_text){(const char *)r->data + r->at, (size_t)size};
    r->at += (int64_t)size;
    return STEER_OK;
}

static int bad_value(const steer_gguf_value *value, const reader *r, const char *what) {
    return STEER_FAIL(STEER_E_FORMAT, "%s: metadata %s: %s", r->name,
                      STEER_QUOTE(value->key.text, value->key.size), what);
}

static int take_array_head(reader *r, const steer_gguf_value *value, uint32_t *type, uint64_t *count) {
    STEER_TRY(take(r, type, 4, "the type of an array"));
    STEER_TRY(take(r, count, 8, "the length of an array"));
    if (*type >= STEER_GGUF_TYPES) return bad_value(value, r, "an array of a type that is not known");
    const uint64_t least = *type == STEER_GGUF_ARRAY    ? 12
                           : *type == STEER_GGUF_STRING ? 8
                                                        : type_bytes[*type];
    if (*count > (uint64_t)(r->size - r->at) / least) return cut(r, "an array");
    return STEER_OK;
}

/* Steps over the elements of an array: arrays in arrays hold nothing that a model needs. */
static int skip_elements(reader *r, const steer_gguf_value *value, uint32_t type, uint64_t count, int depth) {
    if (depth > DEPTH_MOST) return bad_value(value, r, "arrays nested too deep");
    if (type != STEER_GGUF_ARRAY && type != STEER_GGUF_STRING) {
        r->at += (int64_t)count * type_bytes[type];
        return STEER_OK;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint32_t inner_type = 0;
        uint64_t inner_count = 0;
        steer_gguf_text text;
        if (type == STEER_GGUF_STRING) {
            STEER_TRY(take_text(r, &text, "a string of an array"));
            continue;
        }
        STEER_TRY(take_array_head(r, value, &inner_type, &inner_count));
        STEER_TRY(skip_elements(r, value, inner_type, inner_count, depth + 1));
    }
    return STEER_OK;
}

static int take_array(reader *r, steer_gguf_value *value) {
    uint32_t type = 0;
    uint64_t count = 0;
    STEER_TRY(take_array_head(r, value, &type, &count));
    value->element = (steer_gguf_type)type;
    value->count = (int64_t)count;
    value->data = r->data + r->at;
    if (type != STEER_GGUF_STRING) return skip_elements(r, value, type, count, 1);
    value->texts = malloc((size_t)(count ? count : 1) * sizeof *value->texts);
    if (!value->texts)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%s: no host memory for its metadata", r->name);
    for (uint64_t i = 0; i < count; i++) STEER_TRY(take_text(r, &value->texts[i], "a string of an array"));
    return STEER_OK;
}

static int take_value(reader *r, steer_gguf_value *value) {
    uint32_t type = 0;
    STEER_TRY(take_text(r, &value->key, "a key"));
    STEER_TRY(take(r, &type, 4, "the type of a value"));
    if (type >= STEER_GGUF_TYPES) return bad_value(value, r, "a type that is not known, expected 0 to 12");
    value->type = (steer_gguf_type)type;
    value->count = 1;
    if (type == STEER_GGUF_ARRAY) return take_array(r, value);
    value->data = r->data + r->at;
    if (type == STEER_GGUF_STRING) {
        steer_gguf_text text;
        return take_text(r, &text, "a string");
    }
    if (type_bytes[type] > r->size - r->at) return cut(r, "a value");
    r->at += type_bytes[type];
    return type == STEER_GGUF_BOOL && *value->data > 1 ? bad_value(value, r, "a bool that is not 0 or 1")
                                                       : STEER_OK;
}

static int bad_tensor(const steer_gguf_tensor *tensor, const reader *r, const char *what, uint64_t number) {
    return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: %s: %llu", r->name,
                      STEER_QUOTE(tensor->name.text, tensor->name.size), what, (unsigned long long)number);
}

static int take_tensor(reader *r, steer_gguf_tensor *tensor) {
    uint32_t ndim = 0;
    uint64_t dim = 0, offset = 0;
    STEER_TRY(take_text(r, &tensor->name, "a tensor's name"));
    STEER_TRY(take(r, &ndim, 4, "a tensor's dimensions"));
    if (ndim > 4) return bad_tensor(tensor, r, "more than 4 dimensions", ndim);
    tensor->ndim = (int32_t)ndim;
    for (uint32_t i = 0; i < ndim; i++) {
        STEER_TRY(take(r, &dim, 8, "a tensor's dimensions"));
        if (dim > INT32_MAX) return bad_tensor(tensor, r, "a dimension that is too large", dim);
        tensor->dims[i] = (int64_t)dim;
    }
    STEER_TRY(take(r, &tensor->type, 4, "a tensor's type"));
    STEER_TRY(take(r, &offset, 8, "a tensor's offset"));
    if (offset > (uint64_t)r->size) return bad_tensor(tensor, r, "an offset outside of the file", offset);
    tensor->offset = (int64_t)offset;
    return STEER_OK;
}

/* Counts that the file cannot hold are refused before memory is taken for them. */
static int take_counts(reader *r, steer_gguf *gguf) {
    char magic[4];
    uint32_t version = 0;
    uint64_t tensors = 0, values = 0;
    STEER_TRY(take(r, magic, 4, "the magic number"));
    if (memcmp(magic, "GGUF", 4) != 0)
        return STEER_FAIL(STEER_E_FORMAT, "%s: it does not begin with GGUF: not a GGUF file", r->name);
    STEER_TRY(take(r, &version, 4, "the version"));
    if (version != 2 && version != 3)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: GGUF version %u%s, expected 2 or 3", r->name, version,
                          version > 0xffff ? " (a big-endian file)" : "");
    STEER_TRY(take(r, &tensors, 8, "the number of tensors"));
    STEER_TRY(take(r, &values, 8, "the number of values"));
    if (tensors > (uint64_t)r->size / 24 || values > (uint64_t)r->size / 13)
        return STEER_FAIL(STEER_E_FORMAT, "%s: %llu tensors and %llu values do not fit into %lld bytes",
                          r->name, (unsigned long long)tensors, (unsigned long long)values,
                          (long long)r->size);
    gguf->values = calloc((size_t)values + 1, sizeof *gguf->values);
    gguf->tensors = calloc((size_t)tensors + 1, sizeof *gguf->tensors);
    if (!gguf->values || !gguf->tensors)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%s: no host memory for its header", r->name);
    gguf->value_count = (int64_t)values;
    gguf->tensor_count = (int64_t)tensors;
    return STEER_OK;
}

static int compare_texts(const steer_gguf_text *x, const steer_gguf_text *y) {
    const size_t least = x->size < y->size ? x->size : y->size;
    const int order = memcmp(x->text, y->text, least);
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

static int compare_keys(const void *a, const void *b) {
    return compare_texts(&(*(const steer_gguf_value *const *)a)->key,
                         &(*(const steer_gguf_value *const *)b)->key);
}

static int check_keys(const reader *r, const steer_gguf *gguf) {
    const size_t count = (size_t)gguf->value_count;
    const steer_gguf_value **order = malloc((count + 1) * sizeof *order);
    if (!order) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%s: no host memory for its metadata", r->name);
    for (size_t i = 0; i < count; i++) order[i] = &gguf->values[i];
    qsort(order, count, sizeof *order, compare_keys);
    int status = STEER_OK;
    for (size_t i = 1; i < count && status == STEER_OK; i++)
        if (compare_keys(&order[i - 1], &order[i]) == 0) status = bad_value(order[i], r, "it is there twice");
    free(order);
    return status;
}

/* Offsets count from the first multiple of the alignment after the header. */
static int place_tensors(const reader *r, steer_gguf *gguf) {
    int64_t alignment = 32;
    if (steer_gguf_get(gguf, "general.alignment") &&
        !steer_gguf_integer(gguf, "general.alignment", &alignment))
        alignment = 0;
    if (alignment < 1 || alignment > 1 << 20 || (alignment & (alignment - 1)))
        return STEER_FAIL(STEER_E_FORMAT, "%s: general.alignment: expected a power of two up to %d", r->name,
                          1 << 20);
    const int64_t start = (r->at + alignment - 1) / alignment * alignment;
    for (int64_t i = 0; i < gguf->tensor_count; i++) {
        steer_gguf_tensor *tensor = &gguf->tensors[i];
        if (tensor->offset % alignment)
            return bad_tensor(tensor, r, "an offset that is not aligned", (uint64_t)tensor->offset);
        tensor->offset += start; /* still in range: whether the data fit is checked with their size */
    }
    return STEER_OK;
}

static int read_header(reader *r, steer_gguf *gguf) {
    STEER_TRY(take_counts(r, gguf));
    for (int64_t i = 0; i < gguf->value_count; i++) STEER_TRY(take_value(r, &gguf->values[i]));
    STEER_TRY(check_keys(r, gguf));
    for (int64_t i = 0; i < gguf->tensor_count; i++) STEER_TRY(take_tensor(r, &gguf->tensors[i]));
    return place_tensors(r, gguf);
}

int steer_gguf_read(steer_gguf **out, const steer_map *map) {
    reader r = {map->path, map->data, 0, map->size};
    steer_gguf *gguf = calloc(1, sizeof *gguf);
    if (!gguf) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%s: no host memory for its header", map->path);
    gguf->name = map->path;
    const int status = read_header(&r, gguf);
    if (status != STEER_OK) {
        steer_gguf_free(gguf);
        return status;
    }
    *out = gguf;
    return STEER_OK;
}

void steer_gguf_free(steer_gguf *gguf) {
    if (!gguf) return;
    for (int64_t i = 0; i < gguf->value_count; i++) free(gguf->values[i].texts);
    free(gguf->values);
    free(gguf->tensors);
    free(gguf);
}

/* ---- Values ---------------------------------------------------------------------------------------------------- */

int steer_gguf_is(steer_gguf_text text, const char *word) {
    return text.size == strlen(word) && memcmp(text.text, word, text.size) == 0;
}

const steer_gguf_value *steer_gguf_get(const steer_gguf *gguf, const char *key) {
    for (int64_t i = 0; i < gguf->value_count; i++)
        if (steer_gguf_is(gguf->values[i].key, key)) return &gguf->values[i];
    return NULL;
}

#define LOAD(type)                                                                                           \
    {                                                                                                        \
        type value;                                                                                          \
        memcpy(&value, at, sizeof value);                                                                    \
        return (double)value;                                                                                \
    }

static double load(steer_gguf_type type, const uint8_t *at) {
    switch (type) {
    case STEER_GGUF_U8:
        LOAD(uint8_t)
    case STEER_GGUF_I8:
        LOAD(int8_t)
    case STEER_GGUF_U16:
        LOAD(uint16_t)
    case STEER_GGUF_I16:
        LOAD(int16_t)
    case STEER_GGUF_U32:
        LOAD(uint32_t)
    case STEER_GGUF_I32:
        LOAD(int32_t)
    case STEER_GGUF_F32:
        LOAD(float)
    case STEER_GGUF_BOOL:
        return *at != 0;
    case STEER_GGUF_U64:
        LOAD(uint64_t)
    case STEER_GGUF_I64:
        LOAD(int64_t)
    case STEER_GGUF_F64:
        LOAD(double)
    default:
        return 0;
    }
}

double steer_gguf_element(const steer_gguf_value *value, int64_t index) {
    const steer_gguf_type type = value->type == STEER_GGUF_ARRAY ? value->element : value->type;
    return load(type, value->data + index * type_bytes[type]);
}

int steer_gguf_number(const steer_gguf *gguf, const char *key, double *out) {
    const steer_gguf_value *value = steer_gguf_get(gguf, key);
    if (!value || value->type == STEER_GGUF_STRING || value->type == STEER_GGUF_ARRAY) return 0;
    *out = steer_gguf_element(value, 0);
    return 1;
}

int steer_gguf_integer(const steer_gguf *gguf, const char *key, int64_t *out) {
    double number;
    const steer_gguf_value *value = steer_gguf_get(gguf, key);
    if (!value || value->type == STEER_GGUF_F32 || value->type == STEER_GGUF_F64) return 0;
    if (!steer_gguf_number(gguf, key, &number) || number > 9e15 || number < -9e15) return 0;
    *out = (int64_t)number;
    return 1;
}

int steer_gguf_string(const steer_gguf *gguf, const char *key, steer_gguf_text *out) {
    const steer_gguf_value *value = steer_gguf_get(gguf, key);
    if (!value || value->type != STEER_GGUF_STRING) return 0;
    uint64_t size = 0;
    memcpy(&size, value->data, 8);
    *out = (steer_gguf_text){(const char *)value->data + 8, (size_t)size};
    return 1;
}
