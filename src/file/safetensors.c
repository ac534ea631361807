/* safetensors.c: the header of a safetensors file: its tensors' dtypes, shapes and places. */
#include "file/store.h"

#include <string.h>

enum { HEADER_MOST = 100000000 }; /* bytes: the format's own limit */

static int bad(const steer_map *map, steer_gguf_text name, const char *what) {
    return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: %s", map->path, STEER_QUOTE(name.text, name.size),
                      what);
}

static int take_shape(steer_weight *weight, const steer_map *map, const steer_json *shape,
                      steer_gguf_text name) {
    if (!shape || shape->type != STEER_JSON_ARRAY) return bad(map, name, "shape: expected a list of numbers");
    if (shape->count > STEER_MAX_DIMS)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: tensor %s: %u dimensions, at most %d are supported",
                          map->path, STEER_QUOTE(name.text, name.size), shape->count, STEER_MAX_DIMS);
    for (const steer_json *dim = shape->first; dim; dim = dim->next) {
        int64_t *size = &weight->shape[weight->ndim++];
        if (!steer_json_integer(dim, size) || *size < 0)
            return bad(map, name, "shape: expected integers from 0 up");
    }
    return STEER_OK;
}

static int take_format(steer_weight *weight, const steer_map *map, const steer_json *dtype,
                       steer_gguf_text name) {
    if (!dtype || dtype->type != STEER_JSON_STRING)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: dtype: expected a string, got %s", map->path,
                          STEER_QUOTE(name.text, name.size), steer_json_what(dtype));
    for (int i = 0; i < STEER_FORMAT_COUNT; i++) {
        const steer_format_traits *traits = &steer_format_table[i];
        if (!traits->safetensors || !steer_json_is_text(dtype, traits->safetensors)) continue;
        weight->format = (steer_format)i;
        return STEER_OK;
    }
    return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: dtype %s is not known", map->path,
                      STEER_QUOTE(name.text, name.size), STEER_QUOTE(dtype->text, dtype->size));
}

static int take_offsets(int64_t range[2], const steer_map *map, const steer_json *offsets,
                        steer_gguf_text name) {
    if (!offsets || offsets->type != STEER_JSON_ARRAY || offsets->count != 2 ||
        !steer_json_integer(offsets->first, &range[0]) ||
        !steer_json_integer(offsets->first->next, &range[1]) || range[0] < 0 || range[1] < range[0])
        return bad(map, name, "data_offsets: expected a begin and an end");
    return STEER_OK;
}

/* One entry of the header; adds its bytes to *covered. */
static int add_entry(steer_weights *weights, const steer_map *map, const steer_json *entry, int64_t start,
                     int64_t *covered) {
    const steer_gguf_text name = {entry->key, entry->key_size};
    steer_weight weight = {.ndim = 0};
    int64_t range[2];
    if (entry->type != STEER_JSON_OBJECT) return bad(map, name, "expected an object");
    STEER_TRY(take_format(&weight, map, steer_json_get(entry, "dtype"), name));
    STEER_TRY(take_shape(&weight, map, steer_json_get(entry, "shape"), name));
    STEER_TRY(take_offsets(range, map, steer_json_get(entry, "data_offsets"), name));
    if (range[1] > map->size - start)
        return STEER_FAIL(STEER_E_FORMAT,
                          "%s: tensor %s: it ends at byte %lld, the file has %lld: it is cut short",
                          map->path, STEER_QUOTE(name.text, name.size), (long long)(start + range[1]),
                          (long long)map->size);
    STEER_TRY(steer_weights_add(weights, map, weight, name, start + range[0]));
    const int64_t bytes = weights->weight[weights->count - 1].bytes;
    if (range[1] - range[0] != bytes)
        return STEER_FAIL(STEER_E_FORMAT, "%s: tensor %s: data_offsets say %lld bytes, its shape needs %lld",
                          map->path, STEER_QUOTE(name.text, name.size), (long long)(range[1] - range[0]),
                          (long long)bytes);
    *covered += bytes;
    return STEER_OK;
}

/* The tensors must cover the data: no overlaps, no holes, nothing left over. */
static int check_cover(const steer_weights *weights, const steer_map *map, int32_t first, int64_t start,
                       int64_t covered) {
    STEER_TRY(steer_weights_check_overlap(weights, first));
    if (covered != map->size - start)
        return STEER_FAIL(STEER_E_FORMAT, "%s: the tensors take %lld bytes of data, the file has %lld",
                          map->path, (long long)covered, (long long)(map->size - start));
    return STEER_OK;
}

static int read_entries(steer_weights *weights, const steer_map *map, const steer_json *header,
                        int64_t start) {
    const int32_t first = weights->count;
    int64_t covered = 0;
    if (header->type != STEER_JSON_OBJECT)
        return STEER_FAIL(STEER_E_FORMAT, "%s: the header is %s, expected an object", map->path,
                          steer_json_what(header));
    STEER_TRY(steer_weights_reserve(weights, header->count, map->path));
    for (const steer_json *entry = header->first; entry; entry = entry->next)
        if (entry->key_size != 12 || memcmp(entry->key, "__metadata__", 12) != 0)
            STEER_TRY(add_entry(weights, map, entry, start, &covered));
    return check_cover(weights, map, first, start, covered);
}

int steer_weights_read_safetensors(steer_weights *weights, const steer_map *map) {
    uint64_t size;
    if (map->size < 8)
        return STEER_FAIL(STEER_E_FORMAT, "%s: %lld bytes, too few for a safetensors file", map->path,
                          (long long)map->size);
    memcpy(&size, map->data, 8);
    if (size > HEADER_MOST || map->size == 8 || map->data[8] != '{')
        return STEER_FAIL(STEER_E_FORMAT, "%s: not a safetensors file: no header begins it", map->path);
    if (size > (uint64_t)map->size - 8)
        return STEER_FAIL(STEER_E_FORMAT, "%s: a header of %llu bytes, the file has %lld: it is cut short",
                          map->path, (unsigned long long)size, (long long)map->size);
    steer_json_tree tree;
    STEER_TRY(steer_json_parse(&tree, (const char *)map->data + 8, (size_t)size, map->path));
    const int status = read_entries(weights, map, tree.root, 8 + (int64_t)size);
    steer_json_free(&tree);
    return status;
}
