/* decoder.h: turns tokens back into text, one after the other, giving out only what later tokens cannot change. */
#ifndef STEER_TEXT_DECODER_H
#define STEER_TEXT_DECODER_H

#include "text/pattern.h"

enum { STEER_DECODER_STEPS = 16 };

typedef struct steer_decoder_step {
    int kind;
    steer_pattern *pattern; /* REPLACE */
    steer_bytes text;       /* REPLACE, WORD_PIECE, SUFFIX, METASPACE, STRIP */
    int start, stop;        /* STRIP: characters at most */
    int flag;               /* METASPACE: the first token may lose its mark; WORD_PIECE: clean-up */
    int fused;              /* what comes is one token in parts */
    int whole;              /* FUSE, BYTES: what follows needs all of it at once */
} steer_decoder_step;

typedef struct steer_decoder {
    steer_decoder_step steps[STEER_DECODER_STEPS];
    int count;
    int spaces; /* no decoder: spaces between tokens */
} steer_decoder;

/* Reads what the JSON says; null: tokens with spaces between them. */
int steer_decoder_read(steer_decoder *decoder, const steer_field *field);
/* The decoders that GGUF files imply: of byte-level vocabularies, of those with marks and byte tokens. */
int steer_decoder_bytes(steer_decoder *decoder);
int steer_decoder_marks(steer_decoder *decoder, int strip);
void steer_decoder_free(steer_decoder *decoder);

/* A text that is being decoded. */
typedef struct steer_decoder_run {
    const steer_decoder *decoder;
    steer_matcher *matcher;
    struct {
        size_t count;     /* tokens so far; STRIP in a fused text: characters cut */
        steer_bytes held; /* what is not final */
        steer_bytes work;
    } steps[STEER_DECODER_STEPS + 1];
    steer_bytes out;
} steer_decoder_run;

int steer_decoder_feed(steer_decoder_run *run, const char *token, size_t size);
int steer_decoder_finish(steer_decoder_run *run);
/* Begins anew, keeping memory; `out` is emptied. */
void steer_decoder_reset(steer_decoder_run *run);
void steer_decoder_run_free(steer_decoder_run *run);

#endif
