/* bank.h: the vectors of an engine in device memory, one copy of each, within a byte budget. */
#ifndef STEER_STEERING_BANK_H
#define STEER_STEERING_BANK_H

#include "backend/device.h"
#include "core/table.h"
#include "steering/vector.h"

/* A resident vector. While nobody uses it, it waits in the bank's list for its next user or its eviction. */
typedef struct steer_resident {
    steer_node node; /* in the bank's table, by content hash */
    steer_vector *vector;
    void *data; /* device address of vector->m */
    size_t bytes;
    int64_t users;
    struct steer_resident *older, *newer; /* among the unused */
} steer_resident;

typedef struct steer_bank {
    steer_device *device;
    steer_table table;
    steer_resident *oldest, *newest; /* unused vectors by the time of their last use */
    int64_t budget;
    int64_t bytes;
    int64_t hits, misses, evictions;
} steer_bank;

/* The resident copy of a vector, with one more user; uploads it if it is new. OUT_OF_MEMORY if the budget is full of
 * vectors in use. */
int steer_bank_acquire(steer_resident **out, steer_bank *bank, steer_vector *vector);
void steer_bank_release(steer_bank *bank, steer_resident *resident);
/* Frees everything; no vector may be in use. */
void steer_bank_free(steer_bank *bank);

#endif
