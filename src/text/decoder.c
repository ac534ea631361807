/* decoder.c: a decoder is a list of steps; each takes tokens and gives tokens, and holds back what it cannot know yet. */
#include "text/decoder.h"

#include "text/alphabet.h"

#include <stdio.h>

enum { REPLACE, BYTE_TOKENS, FUSE, STRIP, METASPACE, BYTES, WORD_PIECE, SUFFIX };

static int feed(steer_decoder_run *run, int index, const char *text, size_t size);

/* ---- Steps ----------------------------------------------------------------------------------------------------- */

static int replace(steer_decoder_run *run, int index, const char *text, size_t size) {
    const steer_decoder_step *step = &run->decoder->steps[index];
    steer_bytes *work = &run->steps[index].work, *spare = &run->steps[index].held;
    work->size = 0;
    STEER_TRY(steer_pattern_replace(work, step->pattern, run->matcher, spare, text, size, &step->text));
    return feed(run, index + 1, work->data, work->size);
}

/* The bytes held: a text if they are UTF-8, else one U+FFFD each. */
static int give_byte_tokens(steer_decoder_run *run, int index) {
    steer_bytes *held = &run->steps[index].held;
    const char *p = held->data, *end = p + held->size;
    if (held->size == 0) return STEER_OK;
    for (int step; p < end; p += step)
        if ((step = steer_utf8_scan(p, end)) <= 0) break;
    if (p == end) {
        STEER_TRY(feed(run, index + 1, held->data, held->size));
    } else {
        for (size_t i = 0; i < held->size; i++) STEER_TRY(feed(run, index + 1, STEER_UTF8_REPLACEMENT, 3));
    }
    held->size = 0;
    return STEER_OK;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

static int byte_tokens(steer_decoder_run *run, int index, const char *text, size_t size) {
    if (size == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>') {
        int high = hex_digit(text[3]), low = hex_digit(text[4]);
        char byte = (char)(high * 16 + low);
        if (high >= 0 && low >= 0) return steer_bytes_add(&run->steps[index].held, &byte, 1);
    }
    STEER_TRY(give_byte_tokens(run, index));
    return feed(run, index + 1, text, size);
}

/* Gives the characters of the held bytes, U+FFFD for what is none; the beginning of one stays unless all must go. */
static int give_characters(steer_decoder_run *run, int index, int all) {
    steer_bytes *held = &run->steps[index].held, *work = &run->steps[index].work;
    const char *p = held->data, *end = p + held->size;
    work->size = 0;
    while (p < end) {
        int step = steer_utf8_scan(p, end);
        if (step == 0 && !all) break;
        STEER_TRY(step > 0 ? steer_bytes_add(work, p, (size_t)step)
                           : steer_bytes_add(work, STEER_UTF8_REPLACEMENT, 3));
        p += step > 0 ? step : step == 0 ? end - p : -step;
    }
    held->size = (size_t)(end - p);
    if (held->size > 0) memmove(held->data, p, held->size);
    return work->size > 0 || all ? feed(run, index + 1, work->data, work->size) : STEER_OK;
}

static int bytes(steer_decoder_run *run, int index, const char *text, size_t size) {
    int letters;
    steer_bytes *held = &run->steps[index].held;
    STEER_TRY(steer_alphabet_read(held, text, size, &letters));
    if (!letters) STEER_TRY(steer_bytes_add(held, text, size));
    return run->decoder->steps[index].whole ? STEER_OK : give_characters(run, index, 0);
}

static int fuse(steer_decoder_run *run, int index, const char *text, size_t size) {
    if (run->decoder->steps[index].whole) return steer_bytes_add(&run->steps[index].held, text, size);
    return size > 0 ? feed(run, index + 1, text, size) : STEER_OK;
}

static int strip(steer_decoder_run *run, int index, const char *text, size_t size) {
    const steer_decoder_step *step = &run->decoder->steps[index];
    size_t length = step->text.size, *cut = &run->steps[index].count;
    const char *end = text + size;
    if (!step->fused) *cut = 0;
    for (; *cut < (size_t)step->start; ++*cut) {
        if ((size_t)(end - text) < length || memcmp(text, step->text.data, length) != 0) break;
        text += length;
    }
    if (step->fused && text < end) *cut = (size_t)step->start; /* another character: no more is cut */
    for (int i = 0; i < step->stop; i++) {
        if ((size_t)(end - text) < length || memcmp(end - length, step->text.data, length) != 0) break;
        end -= length;
    }
    return feed(run, index + 1, text, (size_t)(end - text));
}

static int metaspace(steer_decoder_run *run, int index, const char *text, size_t size) {
    const steer_decoder_step *step = &run->decoder->steps[index];
    steer_bytes *work = &run->steps[index].work;
    int drops = run->steps[index].count++ == 0 && step->flag;
    work->size = 0;
    for (const char *p = text, *end = text + size; p < end;) {
        size_t length = steer_utf8_size(*p);
        if (length != step->text.size || memcmp(p, step->text.data, length) != 0)
            STEER_TRY(steer_bytes_add(work, p, length));
        else if (!drops)
            STEER_TRY(steer_bytes_add(work, " ", 1));
        p += length;
    }
    return feed(run, index + 1, work->data, work->size);
}

static int has_at(const char *p, const char *end, const char *text, size_t size) {
    return (size_t)(end - p) >= size && memcmp(p, text, size) == 0;
}

/* Replaces, one rule after the other, in place: no rule makes a text longer. */
static void clean_up(steer_bytes *text) {
    static const char *const rules[][2] = {
        {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        size_t from = strlen(rules[i][0]), to = strlen(rules[i][1]);
        char *out = text->data;
        for (const char *p = text->data, *end = p + text->size; p < end;) {
            int found = has_at(p, end, rules[i][0], from);
            memmove(out, found ? rules[i][1] : p, found ? to : 1);
            out += found ? to : 1;
            p += found ? from : 1;
        }
        text->size = (size_t)(out - text->data);
    }
}

static int word_piece(steer_decoder_run *run, int index, const char *text, size_t size) {
    const steer_decoder_step *step = &run->decoder->steps[index];
    steer_bytes *work = &run->steps[index].work;
    const char *prefix = step->text.data;
    work->size = 0;
    if (run->steps[index].count++ > 0) {
        int goes_on = has_at(text, text + size, prefix, step->text.size);
        if (!goes_on) STEER_TRY(steer_bytes_add(work, " ", 1));
        text += goes_on ? step->text.size : 0;
        size -= goes_on ? step->text.size : 0;
    }
    STEER_TRY(steer_bytes_add(work, text, size));
    if (step->flag && work->size > 0) clean_up(work);
    return feed(run, index + 1, work->data, work->size);
}

/* The held token: what stood for the end of a word becomes a space, nothing at the end of the text. */
static int give_suffixed(steer_decoder_run *run, int index, const char *space) {
    const steer_bytes content = {.data = (char *)(uintptr_t)space, .size = strlen(space)};
    steer_bytes *work = &run->steps[index].work, *held = &run->steps[index].held;
    work->size = 0;
    STEER_TRY(steer_pattern_replace(work, run->decoder->steps[index].pattern, run->matcher, NULL, held->data,
                                    held->size, &content));
    held->size = 0;
    return feed(run, index + 1, work->data, work->size);
}

static int suffix(steer_decoder_run *run, int index, const char *text, size_t size) {
    if (run->steps[index].count++ > 0) STEER_TRY(give_suffixed(run, index, " "));
    return steer_bytes_add(&run->steps[index].held, text, size);
}

static int feed(steer_decoder_run *run, int index, const char *text, size_t size) {
    if (index == run->decoder->count) return steer_bytes_add(&run->out, text, size);
    switch (run->decoder->steps[index].kind) {
    case REPLACE:
        return replace(run, index, text, size);
    case BYTE_TOKENS:
        return byte_tokens(run, index, text, size);
    case FUSE:
        return fuse(run, index, text, size);
    case STRIP:
        return strip(run, index, text, size);
    case METASPACE:
        return metaspace(run, index, text, size);
    case BYTES:
        return bytes(run, index, text, size);
    case WORD_PIECE:
        return word_piece(run, index, text, size);
    default:
        return suffix(run, index, text, size);
    }
}

/* ---- Texts ----------------------------------------------------------------------------------------------------- */

int steer_decoder_feed(steer_decoder_run *run, const char *token, size_t size) {
    if (run->decoder->spaces && run->steps[STEER_DECODER_STEPS].count++ > 0)
        STEER_TRY(steer_bytes_add(&run->out, " ", 1));
    return feed(run, 0, token, size);
}

static int finish_step(steer_decoder_run *run, int index) {
    steer_bytes *held = &run->steps[index].held;
    switch (run->decoder->steps[index].kind) {
    case BYTE_TOKENS:
        return give_byte_tokens(run, index);
    case BYTES:
        return give_characters(run, index, 1);
    case FUSE:
        return held->size > 0 ? feed(run, index + 1, held->data, held->size) : STEER_OK;
    case SUFFIX:
        return run->steps[index].count > 0 ? give_suffixed(run, index, "") : STEER_OK;
    default:
        return STEER_OK;
    }
}

int steer_decoder_finish(steer_decoder_run *run) {
    for (int i = 0; i < run->decoder->count; i++) STEER_TRY(finish_step(run, i));
    return STEER_OK;
}

void steer_decoder_reset(steer_decoder_run *run) {
    for (int i = 0; i <= STEER_DECODER_STEPS; i++) {
        run->steps[i].count = 0;
        run->steps[i].held.size = 0;
    }
    run->out.size = 0;
}

void steer_decoder_run_free(steer_decoder_run *run) {
    for (int i = 0; i <= STEER_DECODER_STEPS; i++) {
        steer_bytes_free(&run->steps[i].held);
        steer_bytes_free(&run->steps[i].work);
    }
    steer_bytes_free(&run->out);
    steer_matcher_free(run->matcher);
    *run = (steer_decoder_run){0};
}

/* ---- Reading --------------------------------------------------------------------------------------------------- */

static int add_step(steer_decoder_step **out, steer_decoder *decoder, int kind) {
    if (decoder->count == STEER_DECODER_STEPS)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "decoder: more than %d steps", STEER_DECODER_STEPS);
    *out = &decoder->steps[decoder->count++];
    **out = (steer_decoder_step){.kind = kind};
    return STEER_OK;
}

static int read_count(int *out, const steer_field *object, const char *key) {
    steer_field field = steer_field_get(object, key);
    return steer_field_id(out, &field);
}

static int read_members(steer_decoder_step *step, const steer_field *field) {
    static const char *const texts[] = {[REPLACE] = "content",
                                        [STRIP] = "content",
                                        [METASPACE] = "replacement",
                                        [WORD_PIECE] = "prefix",
                                        [SUFFIX] = "suffix"};
    const steer_json *text = NULL;
    if (step->kind < (int)(sizeof texts / sizeof *texts) && texts[step->kind]) {
        STEER_TRY(steer_field_text(&text, field, texts[step->kind]));
        STEER_TRY(steer_bytes_add(&step->text, text->text, text->size));
    }
    int ignored;
    switch (step->kind) {
    case REPLACE:
        return steer_pattern_read(&step->pattern, field);
    case STRIP:
        if (text->size == 0 || text->size != steer_utf8_size(text->text[0]))
            return STEER_FAIL(STEER_E_FORMAT, "%s.content: expected one character", field->where);
        STEER_TRY(read_count(&step->start, field, "start"));
        return read_count(&step->stop, field, "stop");
    case METASPACE: {
        steer_field scheme = steer_field_get(field, "prepend_scheme");
        int adds;
        STEER_TRY(steer_field_flag(&ignored, field, "split", 1));
        STEER_TRY(steer_field_flag(&adds, field, "add_prefix_space", 1));
        step->flag = adds && !steer_json_is_text(scheme.json, "never");
        return STEER_OK;
    }
    case WORD_PIECE:
        return steer_field_flag(&step->flag, field, "cleanup", 1);
    case SUFFIX:
        return steer_pattern_literal(&step->pattern, text->text, text->size);
    default:
        return STEER_OK;
    }
}

static int read_one(steer_decoder *decoder, const steer_field *field);

static int read_sequence(steer_decoder *decoder, const steer_field *field) {
    steer_field list = steer_field_get(field, "decoders");
    STEER_TRY(steer_field_array(&list));
    size_t index = 0;
    for (const steer_json *item = list.json->first; item; item = item->next) {
        steer_field one = steer_field_at(&list, item, index++);
        STEER_TRY(read_one(decoder, &one));
    }
    return STEER_OK;
}

static int read_one(steer_decoder *decoder, const steer_field *field) {
    static const struct {
        const char *type, *known;
        int kind;
    } types[] = {{"ByteLevel", "type add_prefix_space trim_offsets use_regex", BYTES},
                 {"Replace", "type pattern content", REPLACE},
                 {"ByteFallback", "type", BYTE_TOKENS},
                 {"Fuse", "type", FUSE},
                 {"Strip", "type content start stop", STRIP},
                 {"Metaspace", "type replacement str_rep prepend_scheme add_prefix_space split", METASPACE},
                 {"WordPiece", "type prefix cleanup", WORD_PIECE},
                 {"BPEDecoder", "type suffix", SUFFIX},
                 {"Sequence", "type decoders", -1}};
    const steer_json *type;
    STEER_TRY(steer_field_text(&type, field, "type"));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!steer_json_is_text(type, types[i].type)) continue;
        STEER_TRY(steer_field_object(field, types[i].known));
        if (types[i].kind < 0) return read_sequence(decoder, field);
        steer_decoder_step *step = NULL;
        STEER_TRY(add_step(&step, decoder, types[i].kind));
        return read_members(step, field);
    }
    return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: the type %.*s is not supported", field->where,
                      (int)(type->size < 60 ? type->size : 60), type->text);
}

/* Says of each step whether one token in parts comes to it, and where a text must be had whole. */
static void close_steps(steer_decoder *decoder) {
    int fused = 0;
    for (int i = 0; i < decoder->count; i++) {
        steer_decoder_step *step = &decoder->steps[i];
        step->fused = fused;
        fused |= step->kind == FUSE || step->kind == BYTES;
        for (int j = i + 1; j < decoder->count; j++)
            step->whole |= decoder->steps[j].kind != STRIP || decoder->steps[j].stop > 0;
    }
}

int steer_decoder_read(steer_decoder *decoder, const steer_field *field) {
    decoder->spaces = steer_field_is_null(field);
    if (decoder->spaces) return STEER_OK;
    STEER_TRY(read_one(decoder, field));
    close_steps(decoder);
    return STEER_OK;
}

int steer_decoder_bytes(steer_decoder *decoder) {
    steer_decoder_step *step = NULL;
    return add_step(&step, decoder, BYTES);
}

int steer_decoder_marks(steer_decoder *decoder, int start) {
    static const char mark[] = "\xe2\x96\x81";
    steer_decoder_step *step = NULL;
    STEER_TRY(add_step(&step, decoder, REPLACE));
    STEER_TRY(steer_pattern_literal(&step->pattern, mark, strlen(mark)));
    STEER_TRY(steer_bytes_add(&step->text, " ", 1));
    STEER_TRY(add_step(&step, decoder, BYTE_TOKENS));
    STEER_TRY(add_step(&step, decoder, FUSE));
    STEER_TRY(add_step(&step, decoder, STRIP));
    STEER_TRY(steer_bytes_add(&step->text, " ", 1));
    step->start = start;
    close_steps(decoder);
    return STEER_OK;
}

void steer_decoder_free(steer_decoder *decoder) {
    for (int i = 0; i < decoder->count; i++) {
        steer_pattern_free(decoder->steps[i].pattern);
        steer_bytes_free(&decoder->steps[i].text);
    }
    decoder->count = 0;
}
