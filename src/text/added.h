/* added.h: tokens that are looked for in the text itself, before the model sees what lies between them. */
#ifndef STEER_TEXT_ADDED_H
#define STEER_TEXT_ADDED_H

#include "text/normalizer.h"
#include "text/vocab.h"

typedef struct steer_added_token {
    int32_t id;
    uint8_t single_word, left, right, normalized, special;
    uint32_t size;
    size_t start;         /* of its text in the list's texts */
    uint32_t normal_size; /* of what the normaliser makes of it, which is found and decoded in its place */
    size_t normal_start;
} steer_added_token;

typedef struct steer_added {
    steer_added_token *tokens;
    size_t count, room;
    steer_bytes texts;
    steer_trie raw, normalized; /* to indices of tokens: those found before, and after the normaliser */
} steer_added;

/* Adds one; FORMAT if its text or id contradicts another token's. A token outside the vocabulary gets its text there. */
int steer_added_add(steer_added *added, steer_vocab *vocab, const steer_added_token *token, const char *text,
                    size_t size);
/* Reads the list of tokenizer.json. */
int steer_added_read(steer_added *added, steer_vocab *vocab, const steer_field *list);
/* Call when all are there. */
int steer_added_close(steer_added *added, const steer_normalizer *normalizer);
void steer_added_free(steer_added *added);

/* The id of a text among the added tokens, -1 if it is none. */
int32_t steer_added_find(const steer_added *added, const char *text, size_t size);

/* What an id decodes to: the normalised text of an added token. NULL if this is the token's own text. */
const char *steer_added_normal(const steer_added *added, int32_t id, size_t *size);

/* What the tokens of one trie leave of a text, in order; `token` NULL: a piece between them, which may be empty. */
typedef int steer_added_function(void *receiver, const steer_added_token *token, const char *text,
                                 size_t size, int first);
int steer_added_split(const steer_added *added, const steer_trie *trie, const char *text, size_t size,
                      int first, steer_added_function *function, void *receiver);

#endif
