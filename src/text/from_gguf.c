/* from_gguf.c: writes a GGUF file's tokenizer as a tokenizer.json, so that one reader makes all of them. The names of
 * tokenizer.ggml.pre and what they mean are llama.cpp's (llama-vocab.cpp). */
#include "text/from_gguf.h"

#include <stdio.h>

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|"
#define REST         "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(regex)                                                                                         \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define BYTES(use_regex)                                                                                     \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" use_regex "}"
#define SEQUENCE(a, b) "{\"type\":\"Sequence\",\"pretokenizers\":[" a "," b "]}"
#define DIGITS         "{\"type\":\"Digits\",\"individual_digits\":true}"

/* How text is split, by the value of tokenizer.ggml.pre. */
static const struct {
    const char *names; /* between spaces */
    const char *normalizer, *splitter;
    int ignore_merges;
} kinds[] = {
    {" gpt-2 phi-2 olmo jina-v2-de mpt ", "null", BYTES("true"), 0},
    {" smollm starcoder refact command-r codeshell ", "null", SEQUENCE(DIGITS, BYTES("true")), 0},
    {" llama-bpe llama3 llama-v3 ", "null",
     SEQUENCE(SPLIT(CONTRACTIONS "\\\\p{N}{1,3}" REST), BYTES("false")), 1},
    {" dbrx smaug-bpe ", "null", SEQUENCE(SPLIT(CONTRACTIONS "\\\\p{N}{1,3}" REST), BYTES("false")), 0},
    {" qwen2 deepseek-r1-qwen ", "{\"type\":\"NFC\"}",
     SEQUENCE(SPLIT(CONTRACTIONS "\\\\p{N}" REST), BYTES("false")), 0},
    {" stablelm2 ", "null", SEQUENCE(SPLIT(CONTRACTIONS "\\\\p{N}" REST), BYTES("false")), 0},
};

enum { CONTROL = 3, USER_DEFINED = 4 }; /* values of tokenizer.ggml.token_type */

static int put(steer_bytes *out, const char *text) { return steer_bytes_add(out, text, strlen(text)); }

static int quote(steer_bytes *out, steer_gguf_text text) {
    STEER_TRY(put(out, "\""));
    for (size_t i = 0; i < text.size; i++) {
        const unsigned char c = (unsigned char)text.text[i];
        char escaped[8];
        if (c == '"' || c == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", c);
        else if (c < 0x20)
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
        else
            snprintf(escaped, sizeof escaped, "%c", c);
        STEER_TRY(put(out, escaped));
    }
    return put(out, "\"");
}

static int put_number(steer_bytes *out, int64_t number) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)number);
    return put(out, text);
}

static int wrong(const steer_gguf *gguf, const char *key, const char *expected) {
    return STEER_FAIL(STEER_E_FORMAT, "%s: %s: expected %s", gguf->name, key, expected);
}

static int texts_of(const steer_gguf_value **out, const steer_gguf *gguf, const char *key) {
    *out = steer_gguf_get(gguf, key);
    if (!*out || !(*out)->texts) return wrong(gguf, key, "a list of strings");
    return STEER_OK;
}

static int put_added(steer_bytes *out, const steer_gguf_value *tokens, const steer_gguf_value *types) {
    int first = 1;
    STEER_TRY(put(out, ",\"added_tokens\":["));
    for (int64_t i = 0; types && i < tokens->count; i++) {
        const int type = (int)steer_gguf_element(types, i);
        if (type != CONTROL && type != USER_DEFINED) continue;
        STEER_TRY(put(out, first ? "{\"id\":" : ",{\"id\":"));
        first = 0;
        STEER_TRY(put_number(out, i));
        STEER_TRY(put(out, ",\"content\":"));
        STEER_TRY(quote(out, tokens->texts[i]));
        STEER_TRY(put(
            out,
            ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":"));
        STEER_TRY(put(out, type == CONTROL ? "true}" : "false}"));
    }
    return put(out, "]");
}

int32_t steer_gguf_token_id(const steer_gguf *gguf, const char *role) {
    char key[64];
    int64_t id;
    snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", role);
    return steer_gguf_integer(gguf, key, &id) && id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
}

/* The token that begins a text goes around it where the file says so. */
static int put_processor(steer_bytes *out, const steer_gguf *gguf, const steer_gguf_value *tokens) {
    int64_t adds = 0;
    const int32_t bos = steer_gguf_token_id(gguf, "bos");
    steer_gguf_integer(gguf, "tokenizer.ggml.add_bos_token", &adds);
    if (!adds) return put(out, ",\"post_processor\":null");
    if (bos < 0 || bos >= tokens->count) return wrong(gguf, "tokenizer.ggml.bos_token_id", "a token's id");
    STEER_TRY(put(
        out, ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"));
    STEER_TRY(quote(out, tokens->texts[bos]));
    STEER_TRY(put(
        out,
        ",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{"));
    STEER_TRY(quote(out, tokens->texts[bos]));
    STEER_TRY(put(out, ":{\"id\":"));
    STEER_TRY(quote(out, tokens->texts[bos]));
    STEER_TRY(put(out, ",\"ids\":["));
    STEER_TRY(put_number(out, bos));
    STEER_TRY(put(out, "],\"tokens\":["));
    STEER_TRY(quote(out, tokens->texts[bos]));
    return put(out, "]}}}");
}

static int put_model(steer_bytes *out, const steer_gguf_value *tokens, const steer_gguf_value *merges,
                     int ignore_merges) {
    STEER_TRY(put(out, "{\"model\":{\"type\":\"BPE\",\"ignore_merges\":"));
    STEER_TRY(put(out, ignore_merges ? "true,\"vocab\":{" : "false,\"vocab\":{"));
    for (int64_t i = 0; i < tokens->count; i++) {
        if (i) STEER_TRY(put(out, ","));
        STEER_TRY(quote(out, tokens->texts[i]));
        STEER_TRY(put(out, ":"));
        STEER_TRY(put_number(out, i));
    }
    STEER_TRY(put(out, "},\"merges\":["));
    for (int64_t i = 0; i < merges->count; i++) {
        if (i) STEER_TRY(put(out, ","));
        STEER_TRY(quote(out, merges->texts[i]));
    }
    return put(out, "]}");
}

static int find_kind(int *out, const steer_gguf *gguf) {
    steer_gguf_text pre = {"", 0};
    char name[64];
    if (!steer_gguf_string(gguf, "tokenizer.ggml.pre", &pre)) pre = (steer_gguf_text){"gpt-2", 5};
    snprintf(name, sizeof name, " %.*s ", (int)(pre.size < 60 ? pre.size : 60), pre.text);
    for (int i = 0; i < (int)(sizeof kinds / sizeof *kinds); i++) {
        if (!strstr(kinds[i].names, name)) continue;
        *out = i;
        return STEER_OK;
    }
    return STEER_FAIL(
        STEER_E_UNSUPPORTED,
        "%s: tokenizer.ggml.pre:%sis not known: put the model's tokenizer.json beside it and open that",
        gguf->name, name);
}

int steer_gguf_tokenizer_json(steer_bytes *out, const steer_gguf *gguf) {
    steer_gguf_text model;
    const steer_gguf_value *tokens, *merges, *types = steer_gguf_get(gguf, "tokenizer.ggml.token_type");
    int kind;
    if (!steer_gguf_string(gguf, "tokenizer.ggml.model", &model))
        return STEER_FAIL(STEER_E_NOT_FOUND, "%s: it holds no tokenizer (tokenizer.ggml.model)", gguf->name);
    if (!steer_gguf_is(model, "gpt2"))
        return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: tokenizer.ggml.model: %.*s, expected gpt2", gguf->name,
                          (int)(model.size < 60 ? model.size : 60), model.text);
    STEER_TRY(find_kind(&kind, gguf));
    STEER_TRY(texts_of(&tokens, gguf, "tokenizer.ggml.tokens"));
    STEER_TRY(texts_of(&merges, gguf, "tokenizer.ggml.merges"));
    if (types && (types->type != STEER_GGUF_ARRAY || types->texts || types->count != tokens->count))
        return wrong(gguf, "tokenizer.ggml.token_type", "as many numbers as there are tokens");
    STEER_TRY(put_model(out, tokens, merges, kinds[kind].ignore_merges));
    STEER_TRY(put_added(out, tokens, types));
    STEER_TRY(put_processor(out, gguf, tokens));
    STEER_TRY(put(out, ",\"normalizer\":"));
    STEER_TRY(put(out, kinds[kind].normalizer));
    STEER_TRY(put(out, ",\"pre_tokenizer\":"));
    STEER_TRY(put(out, kinds[kind].splitter));
    return put(out, ",\"decoder\":" BYTES("true") "}");
}
