/* weights.c: the list of tensors, filled from mapped files. */
#include "file/store.h"

#include "core/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static uint64_t name_key(const char *name) {
    return steer_hash_bytes((steer_hash){0}, name, strlen(name)).lo;
}

int steer_weights_no_memory(const char *path) {
    return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%s: no host memory for its list of tensors", path);
}

steer_quoted steer_quote(const char *text, size_t size) {
    steer_quoted out;
    char *at = out.text;
    size_t i = 0;
    for (*at++ = '"'; i < size && at - out.text < 60; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c < 32 || c == 127 || c == '"' || c == '\\')
            at += sprintf(at, "\\%u", c);
        else
            *at++ = (char)c;
    }
    strcpy(at, i < size ? "...\"" : "\"");
    return out;
}

/* ---- The list -------------------------------------------------------------------------------------------------- */

steer_weight *steer_weights_find(const steer_weights *weights, const char *name) {
    const uint64_t key = name_key(name);
    steer_node *node = steer_table_find(&weights->table, key);
    for (; node; node = steer_table_next(node->next, key))
        if (strcmp(STEER_OWNER(node, steer_weight)->name, name) == 0) return STEER_OWNER(node, steer_weight);
    return NULL;
}

int64_t steer_weight_numel(const steer_weight *weight) {
    int64_t numel = 1;
    for (int32_t i = 0; i < weight->ndim; i++) numel *= weight->shape[i];
    return numel;
}

const char *steer_weight_shape_text(char *buffer, size_t size, const steer_weight *weight) {
    size_t used = (size_t)snprintf(buffer, size, "[");
    for (int32_t i = 0; i < weight->ndim && used < size; i++)
        used +=
            (size_t)snprintf(buffer + used, size - used, i ? ", %lld" : "%lld", (long long)weight->shape[i]);
    if (used < size) snprintf(buffer + used, size - used, "]");
    return buffer;
}

/* Bytes that a tensor's shape takes in its format. GGUF's blocks lie within rows; others only fill whole bytes. */
static int count_bytes(steer_weight *weight, const char *name) {
    const steer_format_traits *traits = &steer_format_table[weight->format];
    int64_t numel = 1, extent = 16; /* room for any format's bytes, dimensions of 0 left out */
    for (int32_t i = 0; i < weight->ndim; i++) {
        const int64_t size = weight->shape[i];
        if (__builtin_mul_overflow(extent, size > 0 ? size : 1, &extent)) {
            char shape[256];
            return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: shape %s is too large", weight->file, name,
                              steer_weight_shape_text(shape, sizeof shape, weight));
        }
        numel *= size;
    }
    const int64_t row = weight->ndim > 0 && traits->gguf >= 0 ? weight->shape[weight->ndim - 1] : numel;
    if (row % traits->block != 0)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: rows of %lld elements, %s has blocks of %d",
                          weight->file, name, (long long)row, traits->name, traits->block);
    weight->bytes = numel / traits->block * traits->bytes;
    return STEER_OK;
}

/* A tensor that is known under this name makes it one too many. */
static int put(steer_weights *weights, const steer_weight *weight) {
    const steer_weight *other = steer_weights_find(weights, weight->name);
    if (other)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: it is there twice, also in %s", weight->file,
                          STEER_QUOTE(weight->name, strlen(weight->name)), other->file);
    if (!steer_table_reserve(&weights->table)) return steer_weights_no_memory(weight->file);
    steer_weight *at = &weights->weight[weights->count++];
    *at = *weight;
    steer_table_add(&weights->table, &at->node, name_key(at->name));
    return STEER_OK;
}

int steer_weights_add(steer_weights *weights, const steer_map *map, steer_weight weight, steer_gguf_text name,
                      int64_t offset) {
    const steer_quoted quoted = steer_quote(name.text, name.size);
    weight.file = map->path;
    STEER_TRY(count_bytes(&weight, quoted.text));
    if (name.size > STEER_NAME_MOST || memchr(name.text, 0, name.size))
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: a name of %zu bytes, expected at most %d without 0",
                          map->path, quoted.text, name.size, STEER_NAME_MOST);
    if (offset > map->size || weight.bytes > map->size - offset)
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: tensor %s: its %lld bytes at offset %lld reach past the end of the file at "
                          "%lld: it is cut short",
                          map->path, quoted.text, (long long)weight.bytes, (long long)offset,
                          (long long)map->size);
    weight.data = map->data + offset;
    char *copy = malloc(name.size + 1);
    if (!copy) return steer_weights_no_memory(map->path);
    memcpy(copy, name.text, name.size);
    copy[name.size] = 0;
    weight.name = copy;
    const int status = put(weights, &weight);
    if (status != STEER_OK) free(copy);
    return status;
}

/* The list may move, so the table is made anew. */
int steer_weights_reserve(steer_weights *weights, int64_t more, const char *path) {
    if (more > INT32_MAX / 2 - weights->count) return steer_weights_no_memory(path);
    const int32_t room = weights->count + (int32_t)more;
    steer_weight *list = realloc(weights->weight, ((size_t)room + 1) * sizeof *list);
    if (!list) return steer_weights_no_memory(path);
    weights->weight = list;
    steer_table_free(&weights->table);
    for (int32_t i = 0; i < weights->count; i++) {
        if (!steer_table_reserve(&weights->table)) return steer_weights_no_memory(path);
        steer_table_add(&weights->table, &list[i].node, name_key(list[i].name));
    }
    return STEER_OK;
}

static int compare_places(const void *a, const void *b) {
    const steer_weight *x = *(const steer_weight *const *)a, *y = *(const steer_weight *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

int steer_weights_check_overlap(const steer_weights *weights, int32_t first) {
    size_t count = 0;
    const steer_weight **order = malloc(((size_t)(weights->count - first) + 1) * sizeof *order);
    if (!order) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory to check a list of tensors");
    for (int32_t i = first; i < weights->count; i++)
        if (weights->weight[i].bytes > 0) order[count++] = &weights->weight[i];
    qsort(order, count, sizeof *order, compare_places);
    int status = STEER_OK;
    for (size_t i = 1; i < count && status == STEER_OK; i++)
        if (order[i]->data < order[i - 1]->data + order[i - 1]->bytes)
            status = STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: its data overlap those of %s", order[i]->file,
                                STEER_QUOTE(order[i]->name, strlen(order[i]->name)),
                                STEER_QUOTE(order[i - 1]->name, strlen(order[i - 1]->name)));
    free(order);
    return status;
}

/* ---- Files ----------------------------------------------------------------------------------------------------- */

static int starts_with(const steer_map *map, int64_t at, const char *word) {
    const size_t size = strlen(word);
    return map->size - at >= (int64_t)size && strncasecmp((const char *)map->data + at, word, size) == 0;
}

/* Names what people have in place of a file of weights. */
static int check_content(const steer_map *map) {
    if (map->size == 0) return STEER_FAIL(STEER_E_FORMAT, "%s: the file is empty", map->path);
    if (starts_with(map, 0, "version https://git-lfs"))
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: is a Git LFS pointer, not the file itself; fetch the file with: git lfs pull",
                          map->path);
    int64_t at = starts_with(map, 0, "\xef\xbb\xbf") ? 3 : 0;
    while (at < map->size && map->data[at] && strchr(" \t\r\n", map->data[at])) at++;
    if (starts_with(map, at, "<!doctype") || starts_with(map, at, "<html"))
        return STEER_FAIL(STEER_E_FORMAT, "%s: is a web page, not the file itself; download the raw file",
                          map->path);
    if (starts_with(map, 0, "PK\3\4") || (map->data[0] == 0x80 && map->size > 1 && map->data[1] < 6))
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "%s: looks like a pickle (PyTorch); convert the model to safetensors", map->path);
    return STEER_OK;
}

int steer_weights_map(steer_weights *weights, steer_map **out, const char *path) {
    steer_map **maps = realloc(weights->maps, ((size_t)weights->map_count + 1) * sizeof *maps);
    if (!maps) return steer_weights_no_memory(path);
    weights->maps = maps;
    STEER_TRY(steer_map_file(out, path));
    weights->maps[weights->map_count++] = *out;
    return check_content(*out);
}

/* ---- GGUF ------------------------------------------------------------------------------------------------------ */

static int add_gguf_tensor(steer_weights *weights, const steer_map *map, const steer_gguf_tensor *tensor) {
    steer_weight weight = {.ndim = tensor->ndim};
    int format = 0;
    while (format < STEER_FORMAT_COUNT && steer_format_table[format].gguf != (int32_t)tensor->type) format++;
    if (format == STEER_FORMAT_COUNT || steer_format_table[format].gguf < 0)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: tensor %s: ggml type %u is not known", map->path,
                          STEER_QUOTE(tensor->name.text, tensor->name.size), tensor->type);
    weight.format = (steer_format)format;
    for (int32_t i = 0; i < tensor->ndim; i++) weight.shape[i] = tensor->dims[tensor->ndim - 1 - i];
    return steer_weights_add(weights, map, weight, tensor->name, tensor->offset);
}

static int read_gguf(steer_weights *weights, const steer_map *map) {
    int64_t parts = 1;
    STEER_TRY(steer_gguf_read(&weights->gguf, map));
    if (steer_gguf_integer(weights->gguf, "split.count", &parts) && parts > 1)
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "%s: split.count: it is one of %lld parts; join them with llama-gguf-split --merge",
                          map->path, (long long)parts);
    STEER_TRY(steer_weights_reserve(weights, weights->gguf->tensor_count, map->path));
    for (int64_t i = 0; i < weights->gguf->tensor_count; i++)
        STEER_TRY(add_gguf_tensor(weights, map, &weights->gguf->tensors[i]));
    return steer_weights_check_overlap(weights, 0);
}

/* ---- Opening --------------------------------------------------------------------------------------------------- */

/* What a file is, its content says: names are changed too often. */
static int read_file(steer_weights *weights, const char *path) {
    steer_map *map;
    STEER_TRY(steer_weights_map(weights, &map, path));
    return starts_with(map, 0, "GGUF") ? read_gguf(weights, map)
                                       : steer_weights_read_safetensors(weights, map);
}

static int read_path(steer_weights *weights, const char *path) {
    struct stat info;
    if (stat(path, &info) != 0)
        return STEER_FAIL(errno == ENOENT || errno == ENOTDIR ? STEER_E_NOT_FOUND : STEER_E_IO, "%s: %s",
                          path, strerror(errno));
    return S_ISDIR(info.st_mode) ? steer_weights_read_folder(weights, path) : read_file(weights, path);
}

int steer_weights_open(steer_weights **out, const char *path) {
    steer_weights *weights = calloc(1, sizeof *weights);
    if (!weights) return steer_weights_no_memory(path);
    const int status = read_path(weights, path);
    if (status != STEER_OK) {
        steer_weights_close(weights);
        return status;
    }
    *out = weights;
    return STEER_OK;
}

void steer_weights_close(steer_weights *weights) {
    if (!weights) return;
    steer_gguf_free(weights->gguf);
    for (int32_t i = 0; i < weights->count; i++) free((char *)(uintptr_t)weights->weight[i].name);
    for (int32_t i = 0; i < weights->map_count; i++) steer_map_drop(weights->maps[i]);
    steer_table_free(&weights->table);
    free(weights->weight);
    free(weights->maps);
    free(weights);
}
