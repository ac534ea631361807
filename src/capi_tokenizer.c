/* capi_tokenizer.c: the exported functions for tokenizers. */
#include "text/tokenizer.h"

struct steer_text_stream {
    steer_tokenizer *tokenizer;
    int skip_special;
    steer_decoder_run run;
};

/* ---- Tokenizers ------------------------------------------------------------------------------------------------- */

int steer_tokenizer_open(steer_tokenizer **out, const char *path) {
    STEER_ENTER("tokenizer_open");
    STEER_REQUIRE(out);
    STEER_REQUIRE(path);
    steer_tokenizer *tokenizer;
    STEER_TRY(steer_tokenizer_new(&tokenizer));
    int status = steer_tokenizer_read(tokenizer, path);
    if (status != STEER_OK) {
        steer_tokenizer_drop(tokenizer);
        return status;
    }
    *out = tokenizer;
    return STEER_OK;
}

steer_tokenizer *steer_tokenizer_retain(steer_tokenizer *tokenizer) {
    if (tokenizer) steer_refs_add(&tokenizer->refs);
    return tokenizer;
}

void steer_tokenizer_release(steer_tokenizer *tokenizer) { steer_tokenizer_drop(tokenizer); }

int32_t steer_tokenizer_vocab(const steer_tokenizer *tokenizer) {
    return tokenizer ? tokenizer->vocab.size : 0;
}

int steer_tokenizer_encode(int64_t *count, steer_tokenizer *tokenizer, const char *text, size_t size,
                           int32_t special, int32_t *ids, int64_t room) {
    STEER_ENTER("tokenizer_encode");
    STEER_REQUIRE(count);
    STEER_REQUIRE(tokenizer);
    if (size > 0) STEER_REQUIRE(text);
    if (room < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "room: %lld, expected 0 or more", (long long)room);
    if (room > 0) STEER_REQUIRE(ids);
    steer_ids all = {0};
    int status = steer_tokenizer_ids(tokenizer, &all, size > 0 ? text : "", size, special != 0);
    if (status == STEER_OK) {
        *count = (int64_t)all.size;
        size_t written = *count < room ? all.size : (size_t)room;
        if (written > 0) memcpy(ids, all.data, written * sizeof *ids);
    }
    steer_ids_free(&all);
    return status;
}

static int decode(steer_decoder_run *run, const steer_tokenizer *tokenizer, const int32_t *ids, int64_t count,
                  int skip_special) {
    STEER_TRY(steer_matcher_create(&run->matcher));
    run->decoder = &tokenizer->decoder;
    for (int64_t i = 0; i < count; i++) {
        int status = steer_tokenizer_feed(tokenizer, run, ids[i], skip_special);
        if (status != STEER_OK) return steer_fail_at(status, i);
    }
    return steer_decoder_finish(run);
}

int steer_tokenizer_decode(size_t *size, steer_tokenizer *tokenizer, const int32_t *ids, int64_t count,
                           int32_t skip_special, char *text, size_t room) {
    STEER_ENTER("tokenizer_decode");
    STEER_REQUIRE(size);
    STEER_REQUIRE(tokenizer);
    if (count < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "count: %lld, expected 0 or more", (long long)count);
    if (count > 0) STEER_REQUIRE(ids);
    if (room > 0) STEER_REQUIRE(text);
    steer_decoder_run run = {0};
    int status = decode(&run, tokenizer, ids, count, skip_special != 0);
    if (status == STEER_OK) {
        *size = run.out.size;
        size_t written = run.out.size < room ? run.out.size : room;
        if (written > 0) memcpy(text, run.out.data, written);
    }
    steer_decoder_run_free(&run);
    return status;
}

int steer_tokenizer_token(const char **text, size_t *size, const steer_tokenizer *tokenizer, int32_t id) {
    STEER_ENTER("tokenizer_token");
    STEER_REQUIRE(text);
    STEER_REQUIRE(size);
    STEER_REQUIRE(tokenizer);
    if (id < 0 || id >= tokenizer->vocab.size)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "id: %d, expected 0 to %d", id,
                          tokenizer->vocab.size - 1);
    *size = 0;
    *text = steer_vocab_text(&tokenizer->vocab, id, size);
    return STEER_OK;
}

int32_t steer_tokenizer_id(const steer_tokenizer *tokenizer, const char *text, size_t size) {
    if (!tokenizer || !text) return -1;
    int32_t id = steer_vocab_find(&tokenizer->vocab, text, size);
    return id >= 0 ? id : steer_added_find(&tokenizer->added, text, size);
}

int32_t steer_tokenizer_is_special(const steer_tokenizer *tokenizer, int32_t id) {
    return tokenizer && id >= 0 && id < tokenizer->vocab.size && tokenizer->kinds[id] & STEER_TOKEN_SPECIAL;
}

int32_t steer_tokenizer_named(const steer_tokenizer *tokenizer, const char *role) {
    int index = role ? steer_tokenizer_role(role) : -1;
    return tokenizer && index >= 0 ? tokenizer->roles[index] : -1;
}

/* ---- Streams ---------------------------------------------------------------------------------------------------- */

int steer_text_stream_create(steer_text_stream **out, steer_tokenizer *tokenizer, int32_t skip_special) {
    STEER_ENTER("text_stream_create");
    STEER_REQUIRE(out);
    STEER_REQUIRE(tokenizer);
    steer_text_stream *stream = calloc(1, sizeof *stream);
    if (!stream) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory for a stream of text");
    int status = steer_matcher_create(&stream->run.matcher);
    if (status != STEER_OK) {
        free(stream);
        return status;
    }
    stream->tokenizer = steer_tokenizer_retain(tokenizer);
    stream->run.decoder = &tokenizer->decoder;
    stream->skip_special = skip_special != 0;
    *out = stream;
    return STEER_OK;
}

int steer_text_stream_push(const char **text, size_t *size, steer_text_stream *stream, int32_t id) {
    STEER_ENTER("text_stream_push");
    STEER_REQUIRE(text);
    STEER_REQUIRE(size);
    STEER_REQUIRE(stream);
    stream->run.out.size = 0;
    STEER_TRY(steer_tokenizer_feed(stream->tokenizer, &stream->run, id, stream->skip_special));
    *text = stream->run.out.size ? stream->run.out.data : "";
    *size = stream->run.out.size;
    return STEER_OK;
}

int steer_text_stream_finish(const char **text, size_t *size, steer_text_stream *stream) {
    STEER_ENTER("text_stream_finish");
    STEER_REQUIRE(text);
    STEER_REQUIRE(size);
    STEER_REQUIRE(stream);
    stream->run.out.size = 0;
    STEER_TRY(steer_decoder_finish(&stream->run));
    size_t length = stream->run.out.size;
    steer_decoder_reset(&stream->run); /* the bytes stay where they are */
    *text = length ? stream->run.out.data : "";
    *size = length;
    return STEER_OK;
}

void steer_text_stream_release(steer_text_stream *stream) {
    if (!stream) return;
    steer_decoder_run_free(&stream->run);
    steer_tokenizer_drop(stream->tokenizer);
    free(stream);
}
