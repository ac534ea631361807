/* weights.c: finds a model's weight files, maps them, and lists their tensors. */
#include "file/weights.h"

#include "core/hash.h"
#include "core/json.h"
#include "core/status.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static uint64_t name_key(const char *name) {
    return steer_hash_bytes((steer_hash){0}, name, strlen(name)).lo;
}

static int no_memory(const char *path) {
    return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%s: no host memory for its list of tensors", path);
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

/* Puts a tensor into the list, after its sizes were checked against the file's. `name` is copied. */
static int add(steer_weights *weights, steer_weight weight, steer_gguf_text name) {
    if (name.size > 255 || memchr(name.text, 0, name.size))
        return STEER_FAIL(STEER_E_FORMAT, "%s: a tensor's name of %zu bytes, expected at most 255 without 0",
                          weight.file, name.size);
    char *copy = malloc(name.size + 1);
    if (!copy) return no_memory(weight.file);
    memcpy(copy, name.text, name.size);
    copy[name.size] = 0;
    weight.name = copy;
    const steer_weight *other = steer_weights_find(weights, copy);
    if (other) {
        const int status =
            STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: it is in %s already", weight.file, copy, other->file);
        free(copy);
        return status;
    }
    if (!steer_table_reserve(&weights->table)) {
        free(copy);
        return no_memory(weight.file);
    }
    steer_weight *at = &weights->weight[weights->count++];
    *at = weight;
    steer_table_add(&weights->table, &at->node, name_key(copy));
    return STEER_OK;
}

/* Room for `more` tensors. The list may move, so the table is made anew. */
static int make_room(steer_weights *weights, int64_t more, const char *path) {
    if (more > INT32_MAX / 2 - weights->count) return no_memory(path);
    const int32_t room = weights->count + (int32_t)more;
    steer_weight *list = realloc(weights->weight, ((size_t)room + 1) * sizeof *list);
    if (!list) return no_memory(path);
    weights->weight = list;
    steer_table_free(&weights->table);
    for (int32_t i = 0; i < weights->count; i++) {
        if (!steer_table_reserve(&weights->table)) return no_memory(path);
        steer_table_add(&weights->table, &list[i].node, name_key(list[i].name));
    }
    return STEER_OK;
}

/* Bytes that a tensor's shape takes in its format. */
static int count_bytes(steer_weight *weight, steer_gguf_text name) {
    const steer_format_traits *traits = &steer_format_table[weight->format];
    int64_t numel = 1;
    for (int32_t i = 0; i < weight->ndim; i++)
        if (weight->shape[i] < 0 || __builtin_mul_overflow(numel, weight->shape[i], &numel) ||
            numel > INT64_MAX / 16)
            return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %.*s: its shape is too large", weight->file,
                              (int)name.size, name.text);
    if (weight->ndim > 0 && weight->shape[weight->ndim - 1] % traits->block != 0)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %.*s: rows of %lld elements, %s has blocks of %d",
                          weight->file, (int)name.size, name.text, (long long)weight->shape[weight->ndim - 1],
                          traits->name, traits->block);
    weight->bytes = numel / traits->block * traits->bytes;
    return STEER_OK;
}

/* ---- Files that are none --------------------------------------------------------------------------------------- */

/* Names what people have in place of a file: a pointer of Git LFS, a web page. */
static int check_not_text(const steer_map *map) {
    static const char lfs[] = "version https://git-lfs";
    const char *text = (const char *)map->data;
    const size_t size = (size_t)map->size;
    if (size >= sizeof lfs - 1 && memcmp(text, lfs, sizeof lfs - 1) == 0)
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: a pointer of Git LFS, not the file: fetch it with git lfs pull", map->path);
    size_t at = 0;
    while (at < size && strchr(" \t\r\n", text[at]) && text[at]) at++;
    if (size - at >= 5 &&
        (strncasecmp(text + at, "<!doc", 5) == 0 || strncasecmp(text + at, "<html", 5) == 0))
        return STEER_FAIL(STEER_E_FORMAT, "%s: a web page, not the file: download the file itself",
                          map->path);
    return STEER_OK;
}

static int open_map(steer_weights *weights, steer_map **out, const char *path) {
    steer_map **maps = realloc(weights->maps, ((size_t)weights->map_count + 1) * sizeof *maps);
    if (!maps) return no_memory(path);
    weights->maps = maps;
    STEER_TRY(steer_map_file(out, path));
    weights->maps[weights->map_count++] = *out;
    return check_not_text(*out);
}

/* ---- Safetensors ----------------------------------------------------------------------------------------------- */

static int take_shape(steer_weight *weight, const steer_json *shape, steer_gguf_text name) {
    if (!shape || shape->type != STEER_JSON_ARRAY || shape->count > STEER_MAX_DIMS)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %.*s: shape: expected a list of at most %d numbers",
                          weight->file, (int)name.size, name.text, STEER_MAX_DIMS);
    weight->ndim = 0;
    for (const steer_json *dim = shape->first; dim; dim = dim->next)
        if (!steer_json_integer(dim, &weight->shape[weight->ndim++]))
            return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %.*s: shape: expected whole numbers", weight->file,
                              (int)name.size, name.text);
    return STEER_OK;
}

static int take_format(steer_weight *weight, const steer_json *dtype, steer_gguf_text name) {
    for (int i = 0; i < STEER_FORMAT_COUNT; i++) {
        if (!steer_format_table[i].safetensors ||
            !steer_json_is_text(dtype, steer_format_table[i].safetensors))
            continue;
        weight->format = (steer_format)i;
        return STEER_OK;
    }
    if (dtype && dtype->type == STEER_JSON_STRING)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: tensor %.*s: dtype %.*s, expected F32, F16 or BF16",
                          weight->file, (int)name.size, name.text, (int)dtype->size, dtype->text);
    return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %.*s: dtype: expected a string, got %s", weight->file,
                      (int)name.size, name.text, steer_json_what(dtype));
}

static int add_safetensor(steer_weights *weights, const steer_map *map, const steer_json *entry,
                          int64_t start) {
    const steer_gguf_text name = {entry->key, entry->key_size};
    const steer_json *offsets = steer_json_get(entry, "data_offsets");
    steer_weight weight = {.file = map->path};
    int64_t from, to;
    STEER_TRY(take_format(&weight, steer_json_get(entry, "dtype"), name));
    STEER_TRY(take_shape(&weight, steer_json_get(entry, "shape"), name));
    STEER_TRY(count_bytes(&weight, name));
    if (!offsets || offsets->type != STEER_JSON_ARRAY || offsets->count != 2 ||
        !steer_json_integer(offsets->first, &from) || !steer_json_integer(offsets->first->next, &to) ||
        from < 0 || to < from)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %.*s: data_offsets: expected two ascending numbers",
                          map->path, (int)name.size, name.text);
    if (to > map->size - start)
        return STEER_FAIL(
            STEER_E_FORMAT, "%s: tensor %.*s: it ends at byte %lld, the file has %lld: it is cut short",
            map->path, (int)name.size, name.text, (long long)(start + to), (long long)map->size);
    if (to - from != weight.bytes)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %.*s: %lld bytes, its shape needs %lld", map->path,
                          (int)name.size, name.text, (long long)(to - from), (long long)weight.bytes);
    weight.data = map->data + start + from;
    return add(weights, weight, name);
}

enum { HEADER_MOST = 100 << 20 };

static int read_safetensors(steer_weights *weights, const char *path) {
    steer_map *map;
    uint64_t size;
    STEER_TRY(open_map(weights, &map, path));
    if (map->size < 8)
        return STEER_FAIL(STEER_E_FORMAT, "%s: %lld bytes, not a safetensors file", path,
                          (long long)map->size);
    memcpy(&size, map->data, 8);
    if (size > HEADER_MOST || size > (uint64_t)map->size - 8)
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: a header of %llu bytes, the file has %lld: it is cut short or no safetensors",
                          path, (unsigned long long)size, (long long)map->size);
    steer_json_tree tree;
    STEER_TRY(steer_json_parse(&tree, (const char *)map->data + 8, (size_t)size, path));
    int status = tree.root->type == STEER_JSON_OBJECT
                     ? make_room(weights, tree.root->count, path)
                     : STEER_FAIL(STEER_E_FORMAT, "%s: the header is %s, expected an object", path,
                                  steer_json_what(tree.root));
    for (const steer_json *entry = status == STEER_OK ? tree.root->first : NULL; entry && status == STEER_OK;
         entry = entry->next)
        if (!(entry->key_size == 12 && memcmp(entry->key, "__metadata__", 12) == 0))
            status = add_safetensor(weights, map, entry, 8 + (int64_t)size);
    steer_json_free(&tree);
    return status;
}

/* ---- GGUF ------------------------------------------------------------------------------------------------------ */

static int add_gguf_tensor(steer_weights *weights, const steer_map *map, const steer_gguf_tensor *tensor) {
    steer_weight weight = {.file = map->path, .ndim = tensor->ndim};
    int format = 0;
    while (format < STEER_FORMAT_COUNT && steer_format_table[format].gguf != (int32_t)tensor->type) format++;
    if (format == STEER_FORMAT_COUNT)
        return STEER_FAIL(
            STEER_E_UNSUPPORTED,
            "%s: tensor %.*s: ggml type %u, expected F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, "
            "Q5_K or Q6_K",
            map->path, (int)tensor->name.size, tensor->name.text, tensor->type);
    weight.format = (steer_format)format;
    for (int32_t i = 0; i < tensor->ndim; i++) weight.shape[i] = tensor->dims[tensor->ndim - 1 - i];
    STEER_TRY(count_bytes(&weight, tensor->name));
    if (weight.bytes > map->size - tensor->offset)
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: tensor %.*s: it ends at byte %lld, the file has %lld: it is cut short",
                          map->path, (int)tensor->name.size, tensor->name.text,
                          (long long)(tensor->offset + weight.bytes), (long long)map->size);
    weight.data = map->data + tensor->offset;
    return add(weights, weight, tensor->name);
}

static int read_gguf(steer_weights *weights, const char *path) {
    steer_map *map;
    STEER_TRY(open_map(weights, &map, path));
    STEER_TRY(steer_gguf_read(&weights->gguf, map));
    STEER_TRY(make_room(weights, weights->gguf->tensor_count, path));
    for (int64_t i = 0; i < weights->gguf->tensor_count; i++)
        STEER_TRY(add_gguf_tensor(weights, map, &weights->gguf->tensors[i]));
    return STEER_OK;
}

/* ---- Folders --------------------------------------------------------------------------------------------------- */

static char *join(const char *folder, const char *name, size_t size) {
    const size_t length = strlen(folder);
    char *path = malloc(length + size + 2);
    if (!path) return NULL;
    memcpy(path, folder, length);
    path[length] = '/';
    memcpy(path + length + 1, name, size);
    path[length + 1 + size] = 0;
    return path;
}

static int is_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

static int ends_with(const char *text, const char *end) {
    const size_t size = strlen(text), tail = strlen(end);
    return size >= tail && strcmp(text + size - tail, end) == 0;
}

/* Reads each shard that the index names, once, in the index's order. */
static int read_shards(steer_weights *weights, const char *folder, const char *index, const steer_json *map) {
    if (!map || map->type != STEER_JSON_OBJECT)
        return STEER_FAIL(STEER_E_FORMAT, "%s: weight_map: %s, expected an object", index,
                          steer_json_what(map));
    for (const steer_json *entry = map->first; entry; entry = entry->next) {
        if (entry->type != STEER_JSON_STRING || entry->size == 0 || memchr(entry->text, '/', entry->size) ||
            memchr(entry->text, 0, entry->size))
            return STEER_FAIL(STEER_E_FORMAT, "%s: weight_map: %.*s: expected the name of a file beside it",
                              index, (int)entry->key_size, entry->key);
        char *path = join(folder, entry->text, entry->size);
        if (!path) return no_memory(index);
        int known = 0, status = STEER_OK;
        for (int32_t i = 0; i < weights->map_count; i++) known |= strcmp(weights->maps[i]->path, path) == 0;
        if (!known && !is_file(path))
            status = STEER_FAIL(STEER_E_NOT_FOUND, "%s: weight_map: %.*s: there is no %s", index,
                                (int)entry->key_size, entry->key, path);
        else if (!known)
            status = read_safetensors(weights, path);
        free(path);
        STEER_TRY(status);
    }
    for (const steer_json *entry = map->first; entry; entry = entry->next) {
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)entry->key_size, entry->key);
        if (!steer_weights_find(weights, name))
            return STEER_FAIL(STEER_E_FORMAT, "%s: weight_map: tensor %s is not in %.*s", index, name,
                              (int)entry->size, entry->text);
    }
    return STEER_OK;
}

static int read_index(steer_weights *weights, const char *folder, const char *index) {
    steer_map *map;
    STEER_TRY(steer_map_file(&map, index));
    steer_json_tree tree;
    int status = steer_json_parse(&tree, (const char *)map->data, (size_t)map->size, index);
    if (status == STEER_OK) {
        status = read_shards(weights, folder, index, steer_json_get(tree.root, "weight_map"));
        steer_json_free(&tree);
    }
    steer_map_drop(map);
    return status;
}

/* The one *.safetensors of a folder, for the caller to free. */
static int only_file(char **out, const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir)
        return STEER_FAIL(errno == ENOENT ? STEER_E_NOT_FOUND : STEER_E_IO, "%s: %s", folder,
                          strerror(errno));
    int count = 0;
    char *path = NULL;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!ends_with(entry->d_name, ".safetensors")) continue;
        count++;
        free(path);
        path = join(folder, entry->d_name, strlen(entry->d_name));
    }
    closedir(dir);
    if (count == 1 && path) {
        *out = path;
        return STEER_OK;
    }
    free(path);
    return STEER_FAIL(
        STEER_E_NOT_FOUND,
        count ? "%s: %d *.safetensors without a model.safetensors.index.json"
              : "%s: no model.safetensors, no model.safetensors.index.json, no other *.safetensors",
        folder, count);
}

static int read_folder(steer_weights *weights, const char *folder) {
    static const char single[] = "model.safetensors", sharded[] = "model.safetensors.index.json";
    char *index = join(folder, sharded, sizeof sharded - 1), *file = join(folder, single, sizeof single - 1);
    int status = index && file ? STEER_OK : no_memory(folder);
    if (status == STEER_OK && is_file(index)) {
        status = read_index(weights, folder, index);
    } else if (status == STEER_OK) {
        if (!is_file(file)) {
            free(file);
            file = NULL;
            status = only_file(&file, folder);
        }
        if (status == STEER_OK) status = read_safetensors(weights, file);
    }
    free(index);
    free(file);
    return status;
}

/* ---- Opening --------------------------------------------------------------------------------------------------- */

static int read_path(steer_weights *weights, const char *path) {
    struct stat info;
    if (stat(path, &info) != 0)
        return STEER_FAIL(errno == ENOENT || errno == ENOTDIR ? STEER_E_NOT_FOUND : STEER_E_IO, "%s: %s",
                          path, strerror(errno));
    if (S_ISDIR(info.st_mode)) return read_folder(weights, path);
    return ends_with(path, ".gguf") ? read_gguf(weights, path) : read_safetensors(weights, path);
}

int steer_weights_open(steer_weights **out, const char *path) {
    steer_weights *weights = calloc(1, sizeof *weights);
    if (!weights) return no_memory(path);
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
