/* added.c: finds added tokens: at each place the longest one, from left to right. */
#include "text/added.h"

#include "text/unicode.h"
#include "text/utf8.h"

#include <stdio.h>

/* ---- The list -------------------------------------------------------------------------------------------------- */

int32_t steer_added_find(const steer_added *added, const char *text, size_t size) {
    for (size_t i = 0; i < added->count; i++) {
        const steer_added_token *token = &added->tokens[i];
        if (token->size == size && memcmp(added->texts.data + token->start, text, size) == 0)
            return token->id;
    }
    return -1;
}

static int check_id(const steer_vocab *vocab, int32_t id, const char *text, size_t size) {
    int32_t known = steer_vocab_find(vocab, text, size);
    if (known >= 0 && known != id)
        return STEER_FAIL(STEER_E_FORMAT, "\"%.*s\" has the id %d here and %d in the vocabulary",
                          (int)(size < 60 ? size : 60), text, id, known);
    return STEER_OK;
}

int steer_added_add(steer_added *added, steer_vocab *vocab, const steer_added_token *token, const char *text,
                    size_t size) {
    if (size == 0) return STEER_FAIL(STEER_E_FORMAT, "content: is empty, expected a text");
    STEER_TRY(check_id(vocab, token->id, text, size));
    if (steer_vocab_find(vocab, text, size) < 0) STEER_TRY(steer_vocab_set(vocab, token->id, text, size));
    if (added->count == added->room)
        STEER_TRY(steer_grow(&added->tokens, &added->room, added->count + 1, sizeof *added->tokens));
    steer_added_token *copy = &added->tokens[added->count];
    *copy = *token;
    copy->start = added->texts.size;
    copy->size = (uint32_t)size;
    STEER_TRY(steer_bytes_add(&added->texts, text, size));
    added->count++;
    return STEER_OK;
}

static int read_token(steer_added *added, steer_vocab *vocab, const steer_field *item) {
    STEER_TRY(steer_field_object(item, "id content single_word lstrip rstrip normalized special"));
    static const char *const names[] = {"single_word", "lstrip", "rstrip", "normalized", "special"};
    int flags[5];
    steer_added_token token = {0};
    const steer_json *text;
    steer_field id = steer_field_get(item, "id");
    STEER_TRY(steer_field_id(&token.id, &id));
    STEER_TRY(steer_field_text(&text, item, "content"));
    for (int i = 0; i < 5; i++) STEER_TRY(steer_field_flag(&flags[i], item, names[i], 0));
    token.single_word = (uint8_t)flags[0];
    token.left = (uint8_t)flags[1];
    token.right = (uint8_t)flags[2];
    token.normalized = (uint8_t)flags[3];
    token.special = (uint8_t)flags[4];
    int status = steer_added_add(added, vocab, &token, text->text, text->size);
    return status == STEER_OK ? status : steer_fail_prefix(status, "%s", item->where);
}

int steer_added_read(steer_added *added, steer_vocab *vocab, const steer_field *list) {
    if (steer_field_is_null(list)) return STEER_OK;
    STEER_TRY(steer_field_array(list));
    vocab->limit += 2 * (int64_t)list->json->count;
    size_t index = 0;
    for (const steer_json *item = list->json->first; item; item = item->next) {
        steer_field one = steer_field_at(list, item, index++);
        STEER_TRY(read_token(added, vocab, &one));
    }
    return STEER_OK;
}

/* Adds a token to its trie, as the normaliser leaves it. */
static int add_to_trie(steer_added *added, size_t index, const steer_normalizer *normalizer,
                       steer_matcher *matcher, steer_bytes buffers[3]) {
    steer_added_token *token = &added->tokens[index];
    const char *text = added->texts.data + token->start;
    size_t size = token->size;
    token->normal_start = token->start;
    token->normal_size = token->size;
    if (!token->normalized) return steer_trie_add(&added->raw, text, size, (int32_t)index);
    STEER_TRY(steer_normalizer_run(normalizer, matcher, 1, buffers, &text, &size, text));
    if (size > 0) STEER_TRY(steer_trie_add(&added->normalized, text, size, (int32_t)index));
    if (size == token->size && memcmp(text, added->texts.data + token->start, size) == 0) return STEER_OK;
    token->normal_start = added->texts.size;
    token->normal_size = (uint32_t)size;
    return steer_bytes_add(&added->texts, text, size);
}

const char *steer_added_normal(const steer_added *added, int32_t id, size_t *size) {
    for (size_t i = 0; i < added->count; i++) {
        const steer_added_token *token = &added->tokens[i];
        if (token->id != id || token->normal_start == token->start) continue;
        *size = token->normal_size;
        return added->texts.data + token->normal_start;
    }
    return NULL;
}

int steer_added_close(steer_added *added, const steer_normalizer *normalizer) {
    steer_bytes buffers[3] = {{0}};
    steer_matcher *matcher;
    STEER_TRY(steer_matcher_create(&matcher));
    int status = STEER_OK;
    for (int special = 1; special >= 0; special--) /* where two become equal, special tokens come first */
        for (size_t i = 0; i < added->count && status == STEER_OK; i++)
            if (added->tokens[i].special == special)
                status = add_to_trie(added, i, normalizer, matcher, buffers);
    for (int i = 0; i < 3; i++) steer_bytes_free(&buffers[i]);
    steer_matcher_free(matcher);
    return status;
}

void steer_added_free(steer_added *added) {
    free(added->tokens);
    steer_bytes_free(&added->texts);
    steer_trie_free(&added->raw);
    steer_trie_free(&added->normalized);
    *added = (steer_added){0};
}

/* ---- Splitting ------------------------------------------------------------------------------------------------- */

/* The beginning of the character before p. */
static const char *back(const char *p) {
    do p--;
    while (((unsigned char)*p & 0xc0) == 0x80);
    return p;
}

static int stands_alone(const char *text, const char *end, const char *from, const char *to) {
    return (from == text || !steer_unicode_is_word(steer_utf8_get(back(from)))) &&
           (to == end || !steer_unicode_is_word(steer_utf8_get(to)));
}

int steer_added_split(const steer_added *added, const steer_trie *trie, const char *text, size_t size,
                      int first, steer_added_function *function, void *receiver) {
    const char *end = text + size, *done = text;
    for (const char *p = text; p < end;) {
        size_t length = 0;
        int32_t index = trie->begins[(unsigned char)*p] ? steer_trie_longest(trie, p, end, &length) : -1;
        if (index < 0) {
            p++;
            continue;
        }
        const steer_added_token *token = &added->tokens[index];
        const char *from = p, *to = p + length;
        p = to; /* what is not to be taken is passed over, too */
        if (token->single_word && !stands_alone(text, end, from, to)) continue;
        while (token->left && from > done && steer_unicode_is_space(steer_utf8_get(back(from))))
            from = back(from);
        while (token->right && to < end && steer_unicode_is_space(steer_utf8_get(to)))
            to += steer_utf8_size(*to);
        if (done < from)
            STEER_TRY(function(receiver, NULL, done, (size_t)(from - done), first && done == text));
        STEER_TRY(function(receiver, token, from, (size_t)(to - from), 0));
        done = to;
    }
    return done < end ? function(receiver, NULL, done, (size_t)(end - done), first && done == text)
                      : STEER_OK;
}
