/* bytes.h: buffers that grow: bytes of text, and ids. */
#ifndef STEER_TEXT_BYTES_H
#define STEER_TEXT_BYTES_H

#include "core/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct steer_bytes {
    char *data;
    size_t size, room;
} steer_bytes;

typedef struct steer_ids {
    int32_t *data;
    size_t size, room;
} steer_ids;

/* Makes room for `wanted` elements of `width` bytes in all, at least doubling; OUT_OF_MEMORY. */
int steer_grow(void *data, size_t *room, size_t wanted, size_t width);

static inline int steer_bytes_reserve(steer_bytes *bytes, size_t more) {
    if (more <= bytes->room - bytes->size) return STEER_OK;
    return steer_grow(&bytes->data, &bytes->room, bytes->size + more, 1);
}

static inline int steer_bytes_add(steer_bytes *bytes, const char *data, size_t size) {
    STEER_TRY(steer_bytes_reserve(bytes, size));
    if (size > 0) memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
    return STEER_OK;
}

static inline void steer_bytes_free(steer_bytes *bytes) {
    free(bytes->data);
    *bytes = (steer_bytes){0};
}

static inline int steer_ids_add(steer_ids *ids, int32_t id) {
    if (ids->size == ids->room) STEER_TRY(steer_grow(&ids->data, &ids->room, ids->size + 1, sizeof id));
    ids->data[ids->size++] = id;
    return STEER_OK;
}

static inline int steer_ids_append(steer_ids *ids, const int32_t *data, size_t size) {
    if (size > ids->room - ids->size)
        STEER_TRY(steer_grow(&ids->data, &ids->room, ids->size + size, sizeof *data));
    if (size > 0) memcpy(ids->data + ids->size, data, size * sizeof *data);
    ids->size += size;
    return STEER_OK;
}

static inline void steer_ids_free(steer_ids *ids) {
    free(ids->data);
    *ids = (steer_ids){0};
}

#endif
