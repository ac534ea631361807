/* vocab.c: open-addressing tables of texts, of pairs and of prefixes; built once, then only read. */
#include "text/vocab.h"

#include <stdio.h>

enum { GAP = 1 << 16 }; /* unused ids that a vocabulary may have besides as many as it has tokens */

typedef struct steer_vocab_slot {
    uint32_t tag;      /* of the text's hash */
    int32_t id;        /* -1: free */
    steer_piece piece; /* pieces[id], to be at hand */
} steer_vocab_slot;

/* The power of two that keeps `count` entries at most half full. */
static size_t table_room(size_t count) {
    size_t room = 16;
    while (room < count * 2) room *= 2;
    return room;
}

/* ---- Texts and ids --------------------------------------------------------------------------------------------- */

static uint64_t hash_text(const char *text, size_t size) {
    uint64_t hash = size * 0x9e3779b97f4a7c15u;
    for (; size >= 8; text += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    uint64_t word = 0;
    if (size > 0) memcpy(&word, text, size);
    hash = (hash ^ word) * 0xc4ceb9fe1a85ec53u;
    return hash ^ hash >> 29;
}

int steer_vocab_set(steer_vocab *vocab, int32_t id, const char *text, size_t size) {
    if (id < 0 || id >= vocab->limit)
        return STEER_FAIL(STEER_E_FORMAT, "\"%.*s\": id %d, expected fewer gaps: ids below %lld",
                          (int)(size < 60 ? size : 60), text, id, (long long)vocab->limit);
    if ((size_t)id >= vocab->room) {
        size_t old = vocab->room;
        STEER_TRY(steer_grow(&vocab->pieces, &vocab->room, (size_t)id + 1, sizeof *vocab->pieces));
        for (size_t i = old; i < vocab->room; i++) vocab->pieces[i] = (steer_piece){0, STEER_NO_PIECE};
    }
    steer_piece *piece = &vocab->pieces[id];
    if (piece->size != STEER_NO_PIECE)
        return STEER_FAIL(STEER_E_FORMAT, "\"%.*s\": id %d belongs to \"%.*s\" already",
                          (int)(size < 60 ? size : 60), text, id, (int)(piece->size < 60 ? piece->size : 60),
                          vocab->texts.data + piece->start);
    if (vocab->texts.size + size >= STEER_NO_PIECE)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "the tokens' texts have 4 GiB or more");
    *piece = (steer_piece){(uint32_t)vocab->texts.size, (uint32_t)size};
    STEER_TRY(steer_bytes_add(&vocab->texts, text, size));
    if (id >= vocab->size) vocab->size = id + 1;
    return STEER_OK;
}

int steer_vocab_reserve(steer_vocab *vocab, size_t count) {
    size_t room = table_room(count);
    if (vocab->limit < (int64_t)count * 2 + GAP) vocab->limit = (int64_t)count * 2 + GAP;
    if (vocab->slots && room <= vocab->mask + 1) return STEER_OK;
    steer_vocab_slot *slots = malloc(room * sizeof *slots), *old = vocab->slots;
    if (!slots) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory for a table of %zu tokens", count);
    for (size_t i = 0; i < room; i++) slots[i].id = -1;
    size_t old_room = old ? vocab->mask + 1 : 0;
    vocab->slots = slots;
    vocab->mask = room - 1;
    for (size_t i = 0; i < old_room; i++) {
        if (old[i].id < 0) continue;
        size_t at = hash_text(vocab->texts.data + old[i].piece.start, old[i].piece.size) & vocab->mask;
        while (slots[at].id >= 0) at = (at + 1) & vocab->mask;
        slots[at] = old[i];
    }
    free(old);
    return STEER_OK;
}

/* The slot that holds a text, or the free one where it would go. */
static steer_vocab_slot *find_slot(const steer_vocab *vocab, const char *text, size_t size, uint32_t *tag) {
    uint64_t hash = hash_text(text, size);
    *tag = (uint32_t)(hash >> 32);
    for (size_t i = hash & vocab->mask;; i = (i + 1) & vocab->mask) {
        steer_vocab_slot *slot = &vocab->slots[i];
        if (slot->id < 0) return slot;
        if (slot->tag != *tag) continue;
        if (slot->piece.size == size && memcmp(vocab->texts.data + slot->piece.start, text, size) == 0)
            return slot;
    }
}

int steer_vocab_add(steer_vocab *vocab, int32_t id, const char *text, size_t size) {
    uint32_t tag;
    if (!vocab->slots || (vocab->used + 1) * 2 > vocab->mask + 1)
        STEER_TRY(steer_vocab_reserve(vocab, vocab->used * 2 + 2));
    steer_vocab_slot *slot = find_slot(vocab, text, size, &tag);
    if (slot->id >= 0)
        return STEER_FAIL(STEER_E_FORMAT, "\"%.*s\": has the ids %d and %d, expected one",
                          (int)(size < 60 ? size : 60), text, slot->id, id);
    STEER_TRY(steer_vocab_set(vocab, id, text, size));
    *slot = (steer_vocab_slot){tag, id, vocab->pieces[id]};
    vocab->used++;
    return STEER_OK;
}

int32_t steer_vocab_find(const steer_vocab *vocab, const char *text, size_t size) {
    uint32_t tag;
    return vocab->slots ? find_slot(vocab, text, size, &tag)->id : -1;
}

void steer_vocab_prefetch(const steer_vocab *vocab, const char *text, size_t size) {
    if (vocab->slots) __builtin_prefetch(&vocab->slots[hash_text(text, size) & vocab->mask]);
}

void steer_vocab_free(steer_vocab *vocab) {
    steer_bytes_free(&vocab->texts);
    free(vocab->pieces);
    free(vocab->slots);
    *vocab = (steer_vocab){0};
}

/* ---- Pairs ----------------------------------------------------------------------------------------------------- */

static steer_pair *find_pair(const steer_pairs *pairs, uint32_t left, uint32_t right) {
    size_t i = steer_pair_hash(left, right) & pairs->mask;
    while (pairs->slots[i].left != 0xffffffff &&
           (pairs->slots[i].left != left || pairs->slots[i].right != right))
        i = (i + 1) & pairs->mask;
    return &pairs->slots[i];
}

int steer_pairs_reserve(steer_pairs *pairs, size_t count) {
    size_t room = table_room(count);
    if (pairs->slots && room <= pairs->mask + 1) return STEER_OK;
    steer_pair *slots = malloc(room * sizeof *slots), *old = pairs->slots;
    if (!slots) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory for a table of %zu pairs", count);
    memset(slots, 0xff, room * sizeof *slots);
    size_t old_room = old ? pairs->mask + 1 : 0;
    pairs->slots = slots;
    pairs->mask = room - 1;
    for (size_t i = 0; i < old_room; i++)
        if (old[i].left != 0xffffffff) *find_pair(pairs, old[i].left, old[i].right) = old[i];
    free(old);
    return STEER_OK;
}

steer_pair *steer_pairs_put(steer_pairs *pairs, uint32_t left, uint32_t right) {
    if (!pairs->slots || (pairs->used + 1) * 2 > pairs->mask + 1)
        if (steer_pairs_reserve(pairs, pairs->used * 2 + 2) != STEER_OK) return NULL;
    steer_pair *slot = find_pair(pairs, left, right);
    if (slot->left == 0xffffffff) {
        *slot = (steer_pair){left, right, 0xffffffff, 0xffffffff};
        pairs->used++;
    }
    return slot;
}

/* ---- Prefixes -------------------------------------------------------------------------------------------------- */

int steer_trie_add(steer_trie *trie, const char *text, size_t size, int32_t value) {
    if (trie->values.size == 0) STEER_TRY(steer_ids_add(&trie->values, -1));
    uint32_t node = 0;
    trie->begins[(unsigned char)text[0]] = 1;
    for (size_t i = 0; i < size; i++) {
        steer_pair *edge = steer_pairs_put(&trie->edges, node, (unsigned char)text[i]);
        if (!edge) return STEER_E_OUT_OF_MEMORY;
        if (edge->id == 0xffffffff) {
            edge->id = (uint32_t)trie->values.size;
            STEER_TRY(steer_ids_add(&trie->values, -1));
        }
        node = edge->id;
    }
    if (trie->values.data[node] < 0) trie->values.data[node] = value;
    return STEER_OK;
}

int32_t steer_trie_longest(const steer_trie *trie, const char *p, const char *end, size_t *length) {
    int32_t best = -1;
    uint32_t node = 0;
    for (const char *at = p; at < end;) {
        node = steer_trie_step(trie, node, *at++);
        if (node == UINT32_MAX) break;
        if (trie->values.data[node] < 0) continue;
        best = trie->values.data[node];
        *length = (size_t)(at - p);
    }
    return best;
}

void steer_trie_free(steer_trie *trie) {
    free(trie->edges.slots);
    steer_ids_free(&trie->values);
    *trie = (steer_trie){0};
}
