/* bytes.c: how buffers grow. */
#include "text/bytes.h"

int steer_grow(void *data, size_t *room, size_t wanted, size_t width) {
    size_t larger = *room < SIZE_MAX / 2 && *room * 2 > wanted ? *room * 2 : wanted;
    if (larger < 64) larger = 64;
    void *old, *memory = NULL;
    memcpy(&old, data, sizeof old); /* a pointer to any type */
    if (larger <= SIZE_MAX / 2 / width) memory = realloc(old, larger * width);
    if (!memory) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "text: no host memory for %zu bytes", larger);
    memcpy(data, &memory, sizeof memory);
    *room = larger;
    return STEER_OK;
}
