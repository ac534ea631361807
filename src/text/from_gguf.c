/* from_gguf.c: a tokenizer from the metadata of a GGUF file: byte-level BPE ("gpt2"), or BPE by scores ("llama"). What
 * tokenizer.json would say of patterns is a name there (tokenizer.ggml.pre); the rules are those of llama.cpp. */
#include "text/from_gguf.h"

#include "file/gguf.h"
#include "text/utf8.h"

#include <stdio.h>

enum {
    NORMAL = 1,
    UNKNOWN = 2,
    CONTROL = 3,
    USER_DEFINED = 4,
    UNUSED = 5,
    BYTE = 6
}; /* tokenizer.ggml.token_type */

/* ---- Patterns by name ------------------------------------------------------------------------------------------- */

#define GPT2               "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define CONTRACTION        "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST               "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORDS_AND(numbers) CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers REST
#define UPPER              "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER              "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BEFORE             "[^\\r\\n\\p{L}\\p{N}]?"
#define MARKS              "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"

typedef struct rule {
    const char *names;              /* parted by spaces */
    const char *regexes[3];         /* each cuts what the one before left */
    int ignore_merges, nfc, begins; /* begins: with bos, unless the file says otherwise */
} rule;

static const rule rules[] = {
    {"llama-bpe llama3 llama-v3 falcon3 pixtral", {WORDS_AND("\\p{N}{1,3}")}, 1, 0, 1},
    {"dbrx smaug-bpe chatglm-bpe glm4", {WORDS_AND("\\p{N}{1,3}")}, 0, 0, 0},
    {"qwen2 deepseek-r1-qwen", {WORDS_AND("\\p{N}")}, 0, 1, 0},
    {"stablelm2", {WORDS_AND("\\p{N}")}, 0, 1, 0},
    {"gpt-2 phi-2 mpt olmo jais", {GPT2}, 0, 0, 0},
    {"smollm starcoder refact command-r codeshell exaone", {"\\p{N}", GPT2}, 0, 0, 0},
    {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+"}, 0, 0, 0},
    {"gpt-4o llama4",
     {BEFORE UPPER "*" LOWER "+" CONTRACTION "?|" BEFORE UPPER "+" LOWER "*" CONTRACTION "?|\\p{N}{1,3}"
                   "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     1,
     0,
     0},
    {"deepseek-v3",
     {"\\p{N}{1,3}", "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+",
      MARKS "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+"
            "|\\s+(?!\\S)|\\s+"},
     0,
     0,
     1},
};

static const rule *find_rule(steer_gguf_text name) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        for (const char *p = rules[i].names; *p;) {
            size_t size = strcspn(p, " ");
            if (size == name.size && memcmp(p, name.text, size) == 0) return &rules[i];
            p += size + (p[size] == ' ');
        }
    }
    return NULL;
}

/* ---- The vocabulary --------------------------------------------------------------------------------------------- */

static int is_utf8(steer_gguf_text text) {
    const char *p = text.text, *end = p + text.size;
    while (p < end) {
        int step = steer_utf8_scan(p, end);
        if (step <= 0) return 0;
        p += step;
    }
    return 1;
}

static int read_array(const steer_gguf_value **out, const steer_gguf *gguf, const char *key, int texts,
                      int64_t count) {
    const steer_gguf_value *value = steer_gguf_get(gguf, key);
    if (!value || value->type != STEER_GGUF_ARRAY ||
        (texts ? value->element != STEER_GGUF_STRING
               : value->element == STEER_GGUF_STRING || value->element == STEER_GGUF_ARRAY))
        return STEER_FAIL(STEER_E_FORMAT, "%s: %s, expected a list of %s", key,
                          value ? "is something else" : "missing", texts ? "texts" : "numbers");
    if (count >= 0 && value->count != count)
        return STEER_FAIL(STEER_E_FORMAT, "%s: has %lld elements, expected one for each of %lld tokens", key,
                          (long long)value->count, (long long)count);
    *out = value;
    return STEER_OK;
}

static int type_of(const steer_gguf_value *types, int64_t id) {
    return types ? (int)steer_gguf_element(types, id) : NORMAL;
}

/* Tokens that are looked for in the text are not the model's business. */
static int read_token(steer_tokenizer *t, int32_t id, steer_gguf_text text, int type) {
    if (!is_utf8(text)) return STEER_FAIL(STEER_E_FORMAT, "the text is not UTF-8");
    STEER_TRY(steer_vocab_add(&t->vocab, id, text.text, text.size));
    if (text.size == 0 || (type != UNKNOWN && type != CONTROL && type != USER_DEFINED)) return STEER_OK;
    const steer_added_token token = {.id = id, .special = type != USER_DEFINED};
    return steer_added_add(&t->added, &t->vocab, &token, text.text, text.size);
}

static int read_tokens(steer_tokenizer *t, const steer_gguf *gguf, const steer_gguf_value **types) {
    const steer_gguf_value *tokens = NULL;
    STEER_TRY(read_array(&tokens, gguf, "tokenizer.ggml.tokens", 1, -1));
    if (tokens->count == 0 || tokens->count >= INT32_MAX)
        return STEER_FAIL(STEER_E_FORMAT, "tokenizer.ggml.tokens: has %lld elements, expected at least one",
                          (long long)tokens->count);
    *types = NULL;
    if (steer_gguf_get(gguf, "tokenizer.ggml.token_type"))
        STEER_TRY(read_array(types, gguf, "tokenizer.ggml.token_type", 0, tokens->count));
    STEER_TRY(steer_vocab_reserve(&t->vocab, (size_t)tokens->count));
    for (int64_t id = 0; id < tokens->count; id++) {
        int status = read_token(t, (int32_t)id, tokens->texts[id], type_of(*types, id));
        if (status != STEER_OK)
            return steer_fail_prefix(status, "tokenizer.ggml.tokens[%lld]", (long long)id);
    }
    return STEER_OK;
}

/* ---- Byte-level BPE --------------------------------------------------------------------------------------------- */

static int read_merges(steer_tokenizer *t, const steer_gguf *gguf) {
    const steer_gguf_value *merges = NULL;
    STEER_TRY(read_array(&merges, gguf, "tokenizer.ggml.merges", 1, -1));
    if (merges->count > UINT32_MAX - 1) return STEER_FAIL(STEER_E_FORMAT, "tokenizer.ggml.merges: too many");
    STEER_TRY(steer_pairs_reserve(&t->bpe.merges, (size_t)merges->count));
    for (int64_t i = 0; i < merges->count; i++) {
        const steer_gguf_text merge = merges->texts[i];
        /* A space that is not the first character parts the two. */
        const char *space = merge.size > 1 ? memchr(merge.text + 1, ' ', merge.size - 1) : NULL;
        size_t left = space ? (size_t)(space - merge.text) : 0;
        int status =
            space ? steer_bpe_merge(&t->bpe, (uint32_t)i, merge.text, left, space + 1, merge.size - left - 1)
                  : STEER_FAIL(STEER_E_FORMAT, "expected two texts parted by a space");
        if (status != STEER_OK) return steer_fail_prefix(status, "tokenizer.ggml.merges[%lld]", (long long)i);
    }
    return STEER_OK;
}

static int read_gpt2(steer_tokenizer *t, const steer_gguf *gguf, int *begins) {
    steer_gguf_text name = {"default", strlen("default")};
    steer_gguf_string(gguf, "tokenizer.ggml.pre", &name);
    const rule *known = find_rule(name);
    if (!known)
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "tokenizer.ggml.pre: the patterns named \"%.*s\" are not known here",
                          (int)(name.size < 60 ? name.size : 60), name.text);
    *begins = known->begins;
    t->bpe.vocab = &t->vocab;
    t->bpe.unknown = -1;
    t->bpe.ignore_merges = known->ignore_merges;
    STEER_TRY(read_merges(t, gguf));
    if (known->nfc) STEER_TRY(steer_normalizer_form(&t->normalizer, STEER_NFC));
    for (int i = 0; i < 3 && known->regexes[i]; i++)
        STEER_TRY(steer_splitter_add_regex(&t->splitter, known->regexes[i]));
    if (strcmp(known->names, "default") == 0)
        STEER_TRY(steer_splitter_add_regex(&t->splitter, "[0-9][0-9][0-9]"));
    STEER_TRY(steer_splitter_add_bytes(&t->splitter));
    return steer_decoder_bytes(&t->decoder);
}

/* ---- BPE by scores ---------------------------------------------------------------------------------------------- */

typedef struct scored {
    double score;
    int32_t id;
} scored;

static int higher_first(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Any two tokens that make a third one merge; the rank follows from its score. */
static int add_splits(steer_tokenizer *t, int32_t id, uint32_t rank) {
    size_t size = 0;
    const char *text = steer_vocab_text(&t->vocab, id, &size);
    for (size_t at = size ? steer_utf8_size(text[0]) : 0; at < size; at += steer_utf8_size(text[at])) {
        if (steer_vocab_find(&t->vocab, text, at) < 0 ||
            steer_vocab_find(&t->vocab, text + at, size - at) < 0)
            continue;
        STEER_TRY(steer_bpe_merge(&t->bpe, rank, text, at, text + at, size - at));
    }
    return STEER_OK;
}

static int merge_by_score(steer_tokenizer *t, const steer_gguf_value *scores, const steer_gguf_value *types) {
    scored *order = malloc((size_t)scores->count * sizeof *order);
    if (!order) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory for scores");
    size_t count = 0;
    for (int64_t id = 0; id < scores->count; id++) {
        int type = type_of(types, id);
        double score = steer_gguf_element(scores, id);
        if (score != score) score = -1e30;
        if (type == NORMAL || type == USER_DEFINED || type == UNUSED)
            order[count++] = (scored){score, (int32_t)id};
    }
    qsort(order, count, sizeof *order, higher_first);
    int status = STEER_OK;
    uint32_t rank = 0;
    for (size_t i = 0; i < count && status == STEER_OK; i++) {
        rank +=
            i > 0 && order[i].score != order[i - 1].score; /* among equal ones the leftmost merges first */
        status = add_splits(t, order[i].id, rank);
    }
    free(order);
    return status;
}

static int read_llama(steer_tokenizer *t, const steer_gguf *gguf, const steer_gguf_value *types,
                      int *begins) {
    const steer_gguf_value *scores = NULL;
    int64_t id, prefix = 1;
    *begins = 1;
    STEER_TRY(read_array(&scores, gguf, "tokenizer.ggml.scores", 0, t->vocab.size));
    steer_gguf_integer(gguf, "tokenizer.ggml.add_space_prefix", &prefix);
    t->bpe.vocab = &t->vocab;
    t->bpe.byte_fallback = t->bpe.fuse_unknown = 1;
    t->bpe.unknown =
        steer_gguf_integer(gguf, "tokenizer.ggml.unknown_token_id", &id) && id >= 0 && id < t->vocab.size
            ? (int32_t)id
            : -1;
    STEER_TRY(merge_by_score(t, scores, types));
    if (prefix) STEER_TRY(steer_normalizer_prepend(&t->normalizer, "\xe2\x96\x81"));
    STEER_TRY(steer_normalizer_replace(&t->normalizer, " ", "\xe2\x96\x81"));
    return steer_decoder_marks(&t->decoder, prefix != 0);
}

/* ---- Roles ------------------------------------------------------------------------------------------------------ */

static int read_roles(steer_tokenizer *t, const steer_gguf *gguf, int begins) {
    static const char *const names[STEER_ROLES] = {"bos", "eos", "unknown", "padding"};
    for (int i = 0; i < STEER_ROLES; i++) {
        char key[64];
        int64_t id;
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", names[i]);
        if (!steer_gguf_integer(gguf, key, &id)) continue;
        if (id < 0 || id >= t->vocab.size)
            return STEER_FAIL(STEER_E_FORMAT, "%s: is %lld, expected an id below %d", key, (long long)id,
                              t->vocab.size);
        t->roles[i] = (int32_t)id;
    }
    int64_t before = begins, after = 0;
    steer_gguf_integer(gguf, "tokenizer.ggml.add_bos_token", &before);
    steer_gguf_integer(gguf, "tokenizer.ggml.add_eos_token", &after);
    if (before && t->roles[0] >= 0) STEER_TRY(steer_ids_add(&t->before, t->roles[0]));
    return after && t->roles[1] >= 0 ? steer_ids_add(&t->after, t->roles[1]) : STEER_OK;
}

static int read_all(steer_tokenizer *t, const steer_gguf *gguf) {
    steer_gguf_text model;
    const steer_gguf_value *types = NULL;
    int begins = 0;
    if (!steer_gguf_string(gguf, "tokenizer.ggml.model", &model))
        return STEER_FAIL(STEER_E_NOT_FOUND, "there is no tokenizer in it: tokenizer.ggml.model is missing");
    STEER_TRY(read_tokens(t, gguf, &types));
    if (steer_gguf_is(model, "gpt2")) {
        STEER_TRY(read_gpt2(t, gguf, &begins));
    } else if (steer_gguf_is(model, "llama")) {
        STEER_TRY(read_llama(t, gguf, types, &begins));
    } else {
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "tokenizer.ggml.model: \"%.*s\" is not supported, gpt2 and llama are",
                          (int)(model.size < 60 ? model.size : 60), model.text);
    }
    t->complete = 1;
    STEER_TRY(read_roles(t, gguf, begins));
    return steer_tokenizer_close(t);
}

int steer_tokenizer_read_gguf(steer_tokenizer *tokenizer, const steer_map *map) {
    steer_gguf *gguf;
    STEER_TRY(steer_gguf_read(&gguf, map));
    int status = read_all(tokenizer, gguf);
    if (status != STEER_OK) steer_fail_prefix(status, "%.500s", map->path);
    steer_gguf_free(gguf);
    return status;
}
