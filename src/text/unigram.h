/* unigram.h: the unigram model: of all ways to cut a word into tokens, the one with the greatest sum of scores. */
#ifndef STEER_TEXT_UNIGRAM_H
#define STEER_TEXT_UNIGRAM_H

#include "text/fields.h"
#include "text/vocab.h"

typedef struct steer_unigram {
    const steer_vocab *vocab;
    double *scores; /* by id */
    double unknown_score;
    steer_trie trie;
    int32_t unknown; /* -1: a character without a token is an error */
    int32_t fallback[256];
    int byte_fallback;
} steer_unigram;

/* What one thread needs. */
typedef struct steer_unigram_run {
    struct steer_unigram_node *nodes;
    size_t room;
    steer_ids cuts;
} steer_unigram_run;

/* Reads the model's fields; its vocabulary, a list of texts and scores, goes into `vocab`. */
int steer_unigram_read(steer_unigram *unigram, steer_vocab *vocab, const steer_field *model);
void steer_unigram_free(steer_unigram *unigram);

/* Appends the ids of a word. */
int steer_unigram_word(const steer_unigram *unigram, steer_unigram_run *run, steer_ids *ids, const char *text,
                       size_t size);
void steer_unigram_run_free(steer_unigram_run *run);

#endif
