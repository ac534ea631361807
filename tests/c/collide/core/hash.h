/* hash.h: in place of src/core/hash.h, a content hash that is the same for everything: only the bytes tell contents
 * apart then. */
#ifndef STEER_TEST_COLLIDE_HASH_H
#define STEER_TEST_COLLIDE_HASH_H

#define steer_hash_bytes steer_hash_bytes_of_content
#include "../../../../src/core/hash.h"
#undef steer_hash_bytes

static inline steer_hash steer_hash_bytes(steer_hash hash, const void *data, size_t size) {
    return (steer_hash){1, 2};
}

#endif
