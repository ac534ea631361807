/* splitter.h: cuts a normalised text into the words that the model turns into tokens one by one. */
#ifndef STEER_TEXT_SPLITTER_H
#define STEER_TEXT_SPLITTER_H

#include "text/pattern.h"

enum { STEER_SPLITTER_STEPS = 32 };

typedef enum steer_cut { /* what becomes of the matches of a pattern, as tokenizer files call it */
                         STEER_CUT_ISOLATED,
                         STEER_CUT_REMOVED,
                         STEER_CUT_PREVIOUS,
                         STEER_CUT_NEXT,
                         STEER_CUT_CONTIGUOUS
} steer_cut;

typedef struct steer_splitter_step {
    int kind;
    steer_pattern *pattern; /* CUT */
    steer_cut cut;
    int invert;     /* what lies between the matches counts as matches */
    int only_first; /* EDIT: the prefix goes before the first piece of the text alone */
    int spaces;     /* EDIT: spaces become `mark` */
    char mark[5];   /* EDIT: what a piece must begin with, unless `bare` */
    int bare;       /* EDIT: no prefix */
} steer_splitter_step;

typedef struct steer_splitter {
    steer_splitter_step steps[STEER_SPLITTER_STEPS];
    int count;
    int bytes; /* words are bytes, each of which has a letter in the vocabulary */
} steer_splitter;

/* Adds what the JSON says, nothing for null. */
int steer_splitter_read(steer_splitter *splitter, const steer_field *field);
/* Adds a cut at the matches of an expression, which are words of their own. */
int steer_splitter_add_regex(steer_splitter *splitter, const char *regex);
/* Adds that words are spelt in the letters of their bytes. */
int steer_splitter_add_bytes(steer_splitter *splitter);
/* Call after the last step was added. */
int steer_splitter_close(steer_splitter *splitter);
void steer_splitter_free(steer_splitter *splitter);

typedef int steer_word_function(void *receiver, const char *text, size_t size);

/* What one run needs: a buffer a step. */
typedef struct steer_splitter_run {
    const steer_splitter *splitter;
    steer_matcher *matcher;
    steer_bytes *buffers; /* STEER_SPLITTER_STEPS */
    int late;             /* the text has characters that patterns see through stand-ins */
    steer_word_function *word;
    void *receiver;
} steer_splitter_run;

/* Cuts a piece that is not empty; `first`: the text begins with it. */
int steer_splitter_cut(const steer_splitter_run *run, const char *text, size_t size, int first);

#endif
