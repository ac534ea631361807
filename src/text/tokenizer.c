/* tokenizer.c: the way of a text through a tokenizer. Threads share what was read and take turns with what they write to. */
#include "text/tokenizer.h"

#include "text/unicode.h"
#include "text/utf8.h"

#include <limits.h>
#include <stdio.h>

/* What one thread writes to while it encodes; kept for the next one. */
typedef struct steer_encoder {
    struct steer_encoder *next;
    steer_matcher *matcher;
    steer_bytes normal[3], pieces[STEER_SPLITTER_STEPS];
    steer_bpe_run bpe;
    steer_unigram_run unigram;
} steer_encoder;

/* One text on its way. */
typedef struct job {
    const steer_tokenizer *tokenizer;
    steer_encoder *encoder;
    steer_ids *ids;
    int late;
} job;

/* ---- Encoders --------------------------------------------------------------------------------------------------- */

static void free_encoder(steer_encoder *encoder) {
    if (!encoder) return;
    steer_matcher_free(encoder->matcher);
    for (int i = 0; i < 3; i++) steer_bytes_free(&encoder->normal[i]);
    for (int i = 0; i < STEER_SPLITTER_STEPS; i++) steer_bytes_free(&encoder->pieces[i]);
    steer_bpe_run_free(&encoder->bpe);
    steer_unigram_run_free(&encoder->unigram);
    free(encoder);
}

static int take_encoder(steer_encoder **out, steer_tokenizer *tokenizer) {
    pthread_mutex_lock(&tokenizer->lock);
    steer_encoder *encoder = tokenizer->spare;
    if (encoder) tokenizer->spare = encoder->next;
    pthread_mutex_unlock(&tokenizer->lock);
    if (!encoder) {
        encoder = calloc(1, sizeof *encoder);
        if (!encoder) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory to encode a text");
        int status = steer_matcher_create(&encoder->matcher);
        if (status != STEER_OK) {
            free(encoder);
            return status;
        }
    }
    *out = encoder;
    return STEER_OK;
}

static void put_back(steer_tokenizer *tokenizer, steer_encoder *encoder) {
    pthread_mutex_lock(&tokenizer->lock);
    encoder->next = tokenizer->spare;
    tokenizer->spare = encoder;
    pthread_mutex_unlock(&tokenizer->lock);
}

/* ---- A text on its way ------------------------------------------------------------------------------------------ */

static int put_word(void *receiver, const char *text, size_t size) {
    const job *j = receiver;
    const steer_tokenizer *t = j->tokenizer;
    return t->is_unigram ? steer_unigram_word(&t->unigram, &j->encoder->unigram, j->ids, text, size)
                         : steer_bpe_word(&t->bpe, &j->encoder->bpe, j->ids, text, size);
}

/* A piece of normalised text between added tokens, or such a token. */
static int put_normal(void *receiver, const steer_added_token *token, const char *text, size_t size,
                      int first) {
    job *j = receiver;
    if (token) return steer_ids_add(j->ids, token->id);
    steer_splitter_run run = {.splitter = &j->tokenizer->splitter,
                              .matcher = j->encoder->matcher,
                              .buffers = j->encoder->pieces,
                              .late = j->late,
                              .word = put_word,
                              .receiver = j};
    return steer_splitter_cut(&run, text, size, first);
}

/* A piece of the text as it was given, or an added token found there. */
static int put_raw(void *receiver, const steer_added_token *token, const char *text, size_t size, int first) {
    job *j = receiver;
    const steer_tokenizer *t = j->tokenizer;
    if (token) return steer_ids_add(j->ids, token->id);
    STEER_TRY(steer_normalizer_run(&t->normalizer, j->encoder->matcher, j->late, j->encoder->normal, &text,
                                   &size, text));
    return steer_added_split(&t->added, &t->added.normalized, text, size, first, put_normal, j);
}

/* Checks that a text is UTF-8, and looks for characters that patterns see through stand-ins. */
static int check_text(const char *text, size_t size, int *late) {
    const char *p = text, *end = text + size;
    *late = 0;
    while (p < end) {
        uint64_t eight;
        if (end - p >= 8 && (memcpy(&eight, p, 8), !(eight & 0x8080808080808080u))) {
            p += 8;
            continue;
        }
        int step = steer_utf8_scan(p, end);
        if (step <= 0)
            return STEER_FAIL(STEER_E_FORMAT, "text: byte " STEER_INDEX64 " (0x%02X) is not UTF-8",
                              (long long)(p - text), (unsigned)(unsigned char)*p);
        if (step > 2 && !*late) *late = steer_unicode_is_late(steer_utf8_get(p));
        p += step;
    }
    return STEER_OK;
}

int steer_tokenizer_ids(steer_tokenizer *tokenizer, steer_ids *ids, const char *text, size_t size,
                        int special) {
    job j = {.tokenizer = tokenizer, .ids = ids};
    if (size > INT32_MAX / 4)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "size: %zu bytes, expected at most %d", size,
                          INT32_MAX / 4);
    STEER_TRY(check_text(text, size, &j.late));
    if (special) STEER_TRY(steer_ids_append(ids, tokenizer->before.data, tokenizer->before.size));
    STEER_TRY(take_encoder(&j.encoder, tokenizer));
    int status = steer_added_split(&tokenizer->added, &tokenizer->added.raw, text, size, 1, put_raw, &j);
    put_back(tokenizer, j.encoder);
    STEER_TRY(status);
    return special ? steer_ids_append(ids, tokenizer->after.data, tokenizer->after.size) : STEER_OK;
}

int steer_tokenizer_feed(const steer_tokenizer *tokenizer, steer_decoder_run *run, int32_t id,
                         int skip_special) {
    size_t size;
    if (id < 0 || id >= tokenizer->vocab.size)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "ids: %d, expected 0 to %d", id,
                          tokenizer->vocab.size - 1);
    const char *text = steer_vocab_text(&tokenizer->vocab, id, &size);
    if (!text || (skip_special && tokenizer->kinds[id] & STEER_TOKEN_SKIPPED))
        return STEER_OK; /* or unused */
    if (tokenizer->kinds[id] & STEER_TOKEN_OTHER) text = steer_added_normal(&tokenizer->added, id, &size);
    return steer_decoder_feed(run, text, size);
}

/* ---- The object ------------------------------------------------------------------------------------------------- */

int steer_tokenizer_new(steer_tokenizer **out) {
    steer_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory for a tokenizer");
    steer_refs_init(&tokenizer->refs);
    pthread_mutex_init(&tokenizer->lock, NULL);
    for (int i = 0; i < STEER_ROLES; i++) tokenizer->roles[i] = -1;
    *out = tokenizer;
    return STEER_OK;
}

int steer_tokenizer_close(steer_tokenizer *tokenizer) {
    STEER_TRY(steer_splitter_close(&tokenizer->splitter));
    if (!tokenizer->is_unigram) STEER_TRY(steer_bpe_close(&tokenizer->bpe, tokenizer->splitter.bytes));
    if (tokenizer->is_unigram && tokenizer->splitter.bytes)
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "pre_tokenizer: ByteLevel before a Unigram model is not supported");
    STEER_TRY(steer_added_close(&tokenizer->added, &tokenizer->normalizer));
    tokenizer->kinds = calloc((size_t)tokenizer->vocab.size + 1, 1);
    if (!tokenizer->kinds) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory for a tokenizer");
    for (size_t i = 0; i < tokenizer->added.count; i++) {
        const steer_added_token *token = &tokenizer->added.tokens[i];
        int other = token->normal_start != token->start;
        if (other) tokenizer->kinds[token->id] |= STEER_TOKEN_OTHER;
        if (token->special) tokenizer->kinds[token->id] |= STEER_TOKEN_SPECIAL;
        /* The reference knows special tokens by what they decode to, so that it does not leave those out. */
        if (token->special && !other) tokenizer->kinds[token->id] |= STEER_TOKEN_SKIPPED;
    }
    return STEER_OK;
}

void steer_tokenizer_drop(steer_tokenizer *tokenizer) {
    if (!tokenizer || !steer_refs_drop(&tokenizer->refs)) return;
    for (steer_encoder *encoder = tokenizer->spare, *next; encoder; encoder = next) {
        next = encoder->next;
        free_encoder(encoder);
    }
    pthread_mutex_destroy(&tokenizer->lock);
    steer_vocab_free(&tokenizer->vocab);
    free(tokenizer->kinds);
    steer_added_free(&tokenizer->added);
    steer_normalizer_free(&tokenizer->normalizer);
    steer_splitter_free(&tokenizer->splitter);
    steer_bpe_free(&tokenizer->bpe);
    steer_unigram_free(&tokenizer->unigram);
    steer_ids_free(&tokenizer->before);
    steer_ids_free(&tokenizer->after);
    steer_decoder_free(&tokenizer->decoder);
    free(tokenizer);
}
