/* block.h: an operation as a block of a program, in host memory, and programs made of such. */
#ifndef STEER_STEERING_BLOCK_H
#define STEER_STEERING_BLOCK_H

#include "steering/op.h"

/* A block apart from where its vectors lie. */
typedef struct steer_block {
    steer_block_image head; /* `_at` from the start of `data` */
    size_t size;            /* of data, a multiple of 16 */
    char *data;             /* zeros where addresses belong */
    int32_t vector_count;
    steer_vector **vectors; /* reads, those of comparisons, writes: the operation's */
} steer_block;

/* INVALID_ARGUMENT if a number that the block consists of is beyond f32. */
int steer_block_create(steer_block **out, const steer_op *op);
void steer_block_free(steer_block *block);

/* The blocks of operations, one after the other, with all they read and write. */
typedef struct steer_blocks {
    size_t size;
    char *image; /* steer_blocks_image and all behind it, zeros where addresses belong */
    int32_t vector_count;
    steer_vector **vectors; /* in the order of the addresses, retained; NULL on failure */
} steer_blocks;

/* *out is NULL if the operations do nothing. */
int steer_blocks_create(steer_blocks **out, int32_t count, steer_op *const *ops);
void steer_blocks_free(steer_blocks *blocks);
/* 1 if some operation has a condition. */
int steer_blocks_are_conditional(const steer_blocks *blocks);
/* The STEER_BLOCKS_* that it is. */
int32_t steer_blocks_demand(const steer_blocks *blocks);
/* What the entry of a short program says, whose image is at `address` of the device. */
steer_block_short steer_blocks_short(const steer_blocks *blocks, uint64_t address);
/* 1 if some reads or writes notes. */
int steer_blocks_note(const steer_blocks *blocks);
steer_hash steer_blocks_hash(const steer_blocks *blocks);
int steer_blocks_equal(const steer_blocks *a, const steer_blocks *b);
/* Puts address i of the image where it belongs, into `image`, a copy of blocks->image. */
void steer_blocks_set_address(char *image, const steer_blocks *blocks, int32_t i, uint64_t address);

#endif
