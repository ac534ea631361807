/* bpe.h: byte pair encoding: a word begins as characters (or bytes), and the pair of lowest rank merges until none is left. */
#ifndef STEER_TEXT_BPE_H
#define STEER_TEXT_BPE_H

#include "text/fields.h"
#include "text/vocab.h"

typedef struct steer_bpe {
    const steer_vocab *vocab;
    steer_pairs merges;    /* left and right id -> rank and the id of both */
    int32_t byte_ids[256]; /* of the letters of bytes, -1 where one is missing */
    int32_t fallback[256]; /* of "<0x00>" to "<0xFF>", -1 where one is missing */
    int32_t unknown;       /* -1: characters without a token are left out; -2: they are an error */
    int byte_fallback, fuse_unknown, ignore_merges;
    int bytes;                  /* words are bytes; their letters are in the vocabulary */
    int plain;                  /* all bytes have letters, and there are no affixes */
    int merges_unknown;         /* a merge has to do with the unknown token */
    int cuts;                   /* words can be cut at the beginning of a run of marks (U+2581) ... */
    uint8_t joint[256];         /* ... unless such a byte stands before it: a merge reaches over the two */
    steer_bytes prefix, suffix; /* of characters that do not begin the word; of its last one */
} steer_bpe;

/* What one thread needs. */
typedef struct steer_bpe_run {
    steer_ids symbols, previous, next;
    struct steer_bpe_entry *heap;
    size_t heap_size, heap_room;
    steer_bytes spelled, affixed;
    struct steer_bpe_word *cache; /* words seen before */
} steer_bpe_run;

/* Reads the model's fields and merges; the vocabulary is read already. */
int steer_bpe_read(steer_bpe *bpe, const steer_vocab *vocab, const steer_field *model);
/* Adds a merge; FORMAT if a part or the whole is not in the vocabulary. */
int steer_bpe_merge(steer_bpe *bpe, uint32_t rank, const char *left, size_t left_size, const char *right,
                    size_t right_size);
/* Call when all is set: makes the tables that follow from the rest. */
int steer_bpe_close(steer_bpe *bpe, int bytes);
void steer_bpe_free(steer_bpe *bpe);

/* Appends the ids of a word. */
int steer_bpe_word(const steer_bpe *bpe, steer_bpe_run *run, steer_ids *ids, const char *text, size_t size);
void steer_bpe_run_free(steer_bpe_run *run);

/* Fills the ids of "<0x00>" to "<0xFF>". */
void steer_find_byte_tokens(int32_t ids[256], const steer_vocab *vocab);

#endif
