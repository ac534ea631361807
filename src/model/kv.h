/* kv.h: who owns which block of the KV cache, and which full blocks hold what, so that equal beginnings are computed once. */
#ifndef STEER_MODEL_KV_H
#define STEER_MODEL_KV_H

#include "backend/model_ops.h"
#include "core/hash.h"
#include "core/table.h"

/* A block: in use by `users` sequences; while nobody uses it, free (no content) or kept (a known content that may be asked for). */
typedef struct steer_kv_block {
    steer_node node;                /* in the table of contents, by content.lo, if `known` */
    steer_hash content;             /* of all tokens up to its end and of what steered them */
    int32_t tokens[STEER_KV_BLOCK]; /* its own, to confirm */
    int32_t users;
    int32_t known;
    int32_t older, newer; /* among the kept, or the next of the free in `newer`; -1: none */
} steer_kv_block;

typedef struct steer_kv {
    int32_t count;
    int32_t available;      /* blocks that are free or kept, less those that are promised */
    int32_t free;           /* first of the free */
    int32_t oldest, newest; /* kept ones by the time of their last use */
    steer_table contents;
    steer_kv_block *blocks;
    int64_t hits, evictions; /* blocks found by their content; contents given up */
} steer_kv;

int steer_kv_create(steer_kv *out, int32_t blocks);
void steer_kv_free(steer_kv *kv);

/* Content of the block that continues `before` ({0, 0} at the start) with 16 tokens under `spec`, a hash of what steers them. */
steer_hash steer_kv_content(steer_hash before, steer_hash spec, const int32_t *tokens);

/* Promises `count` blocks to a sequence: later takes cannot fail. 0 if there are not so many. */
int steer_kv_promise(steer_kv *kv, int32_t count);
/* Takes one of the promised blocks, giving up the content that was not used for longest where none is free. */
int32_t steer_kv_take(steer_kv *kv);
/* The block of a content with one more user, -1 if there is none. Needs a promise of one block, which it uses up. */
int32_t steer_kv_find(steer_kv *kv, steer_hash content, const int32_t *tokens);
/* 1 if the content is there; changes nothing. */
int steer_kv_has(const steer_kv *kv, steer_hash content, const int32_t *tokens);
/* Says what a full block in use holds, unless another one is known to hold the same. */
void steer_kv_publish(steer_kv *kv, int32_t block, steer_hash content, const int32_t *tokens);
/* One user less; `promised` blocks that were never taken go back with it. */
void steer_kv_release(steer_kv *kv, int32_t block);
void steer_kv_give_back(steer_kv *kv, int32_t promised);

#endif
