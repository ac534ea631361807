/* tokenizer.h: a tokenizer: added tokens, normaliser, splitter, model, what goes around a text, and the decoder. */
#ifndef STEER_TEXT_TOKENIZER_H
#define STEER_TEXT_TOKENIZER_H

#include "core/refs.h"
#include "steer_model.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/splitter.h"
#include "text/unigram.h"

#include <pthread.h>

enum { STEER_ROLES = 4 }; /* bos, eos, unk, pad */

enum steer_token_kind {
    STEER_TOKEN_SPECIAL = 1,
    STEER_TOKEN_SKIPPED = 2, /* when special tokens are to be left out */
    STEER_TOKEN_OTHER = 4,   /* decodes to another text than its own */
};

struct steer_tokenizer {
    steer_refs refs;
    steer_vocab vocab;
    uint8_t *kinds; /* by id: steer_token_kind */
    steer_added added;
    steer_normalizer normalizer;
    steer_splitter splitter;
    int is_unigram;
    steer_bpe bpe;
    steer_unigram unigram;
    steer_ids before, after; /* what the special mode puts around a text */
    steer_decoder decoder;
    int32_t roles[STEER_ROLES]; /* -1: none */
    int complete;               /* the roles are known, no other file is asked */
    pthread_mutex_t lock;       /* of `spare` */
    struct steer_encoder *spare;
};

/* An empty one, with one reference. */
int steer_tokenizer_new(steer_tokenizer **out);
/* Reads a folder's or file's tokenizer.json, and the tokenizer_config.json beside it if there is one. */
int steer_tokenizer_read(steer_tokenizer *tokenizer, const char *path);
/* Call when all is set. */
int steer_tokenizer_close(steer_tokenizer *tokenizer);
void steer_tokenizer_drop(steer_tokenizer *tokenizer);

/* Appends the ids of a text. FORMAT names the offset of a byte that is not UTF-8. */
int steer_tokenizer_ids(steer_tokenizer *tokenizer, steer_ids *ids, const char *text, size_t size,
                        int special);
/* Feeds a token to a decoder's run; INVALID_ARGUMENT if there is no such id. */
int steer_tokenizer_feed(const steer_tokenizer *tokenizer, steer_decoder_run *run, int32_t id,
                         int skip_special);

/* The role that a name ("bos") means, -1: none. */
int steer_tokenizer_role(const char *name);

#endif
