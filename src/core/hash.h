/* hash.h: a 128-bit content hash, for interning. Equal hashes are confirmed byte for byte by the caller. */
#ifndef STEER_CORE_HASH_H
#define STEER_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct steer_hash {
    uint64_t lo, hi;
} steer_hash;

static inline int steer_hash_equal(steer_hash a, steer_hash b) { return a.lo == b.lo && a.hi == b.hi; }

static inline uint64_t steer_hash_mix(uint64_t x) { /* the finaliser of splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Continues `hash` (start with {0, 0}) over `size` bytes. */
static inline steer_hash steer_hash_bytes(steer_hash hash, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + at, size - at < 8 ? size - at : 8);
        hash.lo = steer_hash_mix(hash.lo ^ word) + 0x9e3779b97f4a7c15u;
        hash.hi = (hash.hi ^ word) * 0xc2b2ae3d27d4eb4fu;
        hash.hi = (hash.hi << 31 | hash.hi >> 33) + 0x165667b19e3779f9u;
    }
    hash.lo ^= size;
    hash.hi = steer_hash_mix(hash.hi ^ size);
    return hash;
}

#endif
