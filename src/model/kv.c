/* kv.c: the pool of KV blocks: reference counts, contents by hash, and the order in which contents are given up. */
#include "model/kv.h"

#include "core/status.h"

#include <stdlib.h>
#include <string.h>

enum { NONE = -1 };

int steer_kv_create(steer_kv *out, int32_t blocks) {
    *out = (steer_kv){.count = blocks, .available = blocks, .free = NONE, .oldest = NONE, .newest = NONE};
    out->blocks = calloc((size_t)blocks, sizeof *out->blocks);
    if (!out->blocks)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "session: no host memory for %d blocks", blocks);
    for (int32_t i = blocks - 1; i >= 0; i--) {
        out->blocks[i].newer = out->free;
        out->free = i;
    }
    return STEER_OK;
}

void steer_kv_free(steer_kv *kv) {
    steer_table_free(&kv->contents);
    free(kv->blocks);
    *kv = (steer_kv){0};
}

steer_hash steer_kv_content(steer_hash before, steer_hash spec, const int32_t *tokens) {
    before = steer_hash_bytes(before, &spec, sizeof spec);
    return steer_hash_bytes(before, tokens, STEER_KV_BLOCK * sizeof *tokens);
}

int steer_kv_promise(steer_kv *kv, int32_t count) {
    if (count > kv->available) return 0;
    kv->available -= count;
    return 1;
}

void steer_kv_give_back(steer_kv *kv, int32_t promised) { kv->available += promised; }

/* ---- Kept blocks ----------------------------------------------------------------------------------------------- */

static void unlink_kept(steer_kv *kv, int32_t at) {
    steer_kv_block *block = &kv->blocks[at];
    if (block->older != NONE)
        kv->blocks[block->older].newer = block->newer;
    else
        kv->oldest = block->newer;
    if (block->newer != NONE)
        kv->blocks[block->newer].older = block->older;
    else
        kv->newest = block->older;
}

static void link_kept(steer_kv *kv, int32_t at) {
    steer_kv_block *block = &kv->blocks[at];
    block->older = kv->newest;
    block->newer = NONE;
    if (kv->newest != NONE)
        kv->blocks[kv->newest].newer = at;
    else
        kv->oldest = at;
    kv->newest = at;
}

static void forget(steer_kv *kv, steer_kv_block *block) {
    steer_table_remove(&kv->contents, &block->node);
    block->known = 0;
}

int32_t steer_kv_take(steer_kv *kv) {
    int32_t at = kv->free;
    if (at != NONE) {
        kv->free = kv->blocks[at].newer;
    } else {
        at = kv->oldest; /* there is one, or the promise would not have been made */
        unlink_kept(kv, at);
        forget(kv, &kv->blocks[at]);
        kv->evictions++;
    }
    kv->blocks[at].users = 1;
    return at;
}

void steer_kv_release(steer_kv *kv, int32_t at) {
    steer_kv_block *block = &kv->blocks[at];
    if (--block->users > 0) return;
    kv->available++;
    if (block->known) {
        link_kept(kv, at);
        return;
    }
    block->newer = kv->free;
    kv->free = at;
}

/* ---- Contents -------------------------------------------------------------------------------------------------- */

static steer_kv_block *look_up(const steer_kv *kv, steer_hash content, const int32_t *tokens) {
    steer_node *node = steer_table_find(&kv->contents, content.lo);
    for (; node; node = steer_table_next(node->next, content.lo)) {
        steer_kv_block *block = STEER_OWNER(node, steer_kv_block);
        if (steer_hash_equal(block->content, content) &&
            memcmp(block->tokens, tokens, sizeof block->tokens) == 0)
            return block;
    }
    return NULL;
}

int steer_kv_has(const steer_kv *kv, steer_hash content, const int32_t *tokens) {
    return look_up(kv, content, tokens) != NULL;
}

int32_t steer_kv_find(steer_kv *kv, steer_hash content, const int32_t *tokens) {
    steer_kv_block *block = look_up(kv, content, tokens);
    if (!block) return NONE;
    int32_t at = (int32_t)(block - kv->blocks);
    if (block->users++ == 0)
        unlink_kept(kv, at);
    else
        kv->available++; /* it was in use: the promised block is not needed */
    kv->hits++;
    return at;
}

void steer_kv_publish(steer_kv *kv, int32_t at, steer_hash content, const int32_t *tokens) {
    steer_kv_block *block = &kv->blocks[at];
    if (block->known || look_up(kv, content, tokens)) return;
    if (!steer_table_reserve(&kv->contents)) return; /* nothing is lost but the sharing */
    block->content = content;
    memcpy(block->tokens, tokens, sizeof block->tokens);
    block->known = 1;
    steer_table_add(&kv->contents, &block->node, content.lo);
}
