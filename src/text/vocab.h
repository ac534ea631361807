/* vocab.h: tables of tokens: text -> id, id -> text, a pair of numbers -> a number, and prefixes of texts. */
#ifndef STEER_TEXT_VOCAB_H
#define STEER_TEXT_VOCAB_H

#include "text/bytes.h"

/* ---- Texts and ids --------------------------------------------------------------------------------------------- */

typedef struct steer_piece {
    uint32_t start, size; /* in `texts`; size STEER_NO_PIECE: no token has this id */
} steer_piece;

enum { STEER_NO_PIECE = 0xffffffff };

typedef struct steer_vocab {
    steer_bytes texts;
    steer_piece *pieces; /* by id */
    size_t room;
    int32_t size;  /* ids are 0 .. size - 1 */
    int64_t limit; /* and below this, which follows from how many texts there is room for */
    struct steer_vocab_slot *slots;
    size_t mask, used;
} steer_vocab;

/* Gives an id its text. FORMAT if the id has one, or if it is absurdly large. */
int steer_vocab_set(steer_vocab *vocab, int32_t id, const char *text, size_t size);
/* The same, and lets the text be found; FORMAT if the text has an id already. */
int steer_vocab_add(steer_vocab *vocab, int32_t id, const char *text, size_t size);
/* Makes room for `count` texts that can be found. */
int steer_vocab_reserve(steer_vocab *vocab, size_t count);
/* The id of a text, -1 if it has none. */
int32_t steer_vocab_find(const steer_vocab *vocab, const char *text, size_t size);
/* Asks for the memory where a text would be found. */
void steer_vocab_prefetch(const steer_vocab *vocab, const char *text, size_t size);
void steer_vocab_free(steer_vocab *vocab);

/* The text of an id, not ended by 0; NULL if it has none. */
static inline const char *steer_vocab_text(const steer_vocab *vocab, int32_t id, size_t *size) {
    if (id < 0 || id >= vocab->size || vocab->pieces[id].size == STEER_NO_PIECE) return NULL;
    *size = vocab->pieces[id].size;
    return vocab->texts.data + vocab->pieces[id].start;
}

/* ---- Pairs ----------------------------------------------------------------------------------------------------- */

typedef struct steer_pair {
    uint32_t left, right; /* left 0xffffffff: free */
    uint32_t rank, id;
} steer_pair;

typedef struct steer_pairs {
    steer_pair *slots;
    size_t mask, used;
} steer_pairs;

/* Makes room for `count` pairs in all. */
int steer_pairs_reserve(steer_pairs *pairs, size_t count);
/* The pair's slot, a new one with rank and id 0xffffffff if it has none yet; NULL when memory is out. */
steer_pair *steer_pairs_put(steer_pairs *pairs, uint32_t left, uint32_t right);

static inline size_t steer_pair_hash(uint32_t left, uint32_t right) {
    uint64_t key = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return (size_t)(key ^ key >> 32);
}

/* NULL if the pair is not there. */
static inline const steer_pair *steer_pairs_find(const steer_pairs *pairs, uint32_t left, uint32_t right) {
    if (!pairs->used) return NULL;
    for (size_t i = steer_pair_hash(left, right) & pairs->mask;; i = (i + 1) & pairs->mask) {
        const steer_pair *slot = &pairs->slots[i];
        if (slot->left == left && slot->right == right) return slot;
        if (slot->left == 0xffffffff) return NULL;
    }
}

/* ---- Prefixes -------------------------------------------------------------------------------------------------- */

/* A trie: its edges are pairs (node, byte) -> node; node 0 is the root. */
typedef struct steer_trie {
    steer_pairs edges;
    steer_ids values; /* by node, -1: no text ends here */
    uint8_t begins[256];
} steer_trie;

/* Adds a text that is not empty; one that is there keeps its value. */
int steer_trie_add(steer_trie *trie, const char *text, size_t size, int32_t value);
void steer_trie_free(steer_trie *trie);

/* The value of the longest text in the trie that the bytes at p begin with; -1 if there is none. *length is its size. */
int32_t steer_trie_longest(const steer_trie *trie, const char *p, const char *end, size_t *length);

/* One step from a node; UINT32_MAX if no text goes on so. */
static inline uint32_t steer_trie_step(const steer_trie *trie, uint32_t node, char byte) {
    const steer_pair *edge = steer_pairs_find(&trie->edges, node, (unsigned char)byte);
    return edge ? edge->id : UINT32_MAX;
}

#endif
