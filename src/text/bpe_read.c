/* bpe_read.c: builds a BPE model from its JSON fields, or merge by merge. */
#include "text/alphabet.h"
#include "text/bpe.h"

#include <stdio.h>

enum {
    JOINED = 256, /* bytes of a merge's text that need no memory of their own */
    AHEAD = 8,    /* merges whose memory is asked for before they are read */
};

static const char mark[] = "\xe2\x96\x81";
enum { MARK = 3 };

/* ---- Merges ----------------------------------------------------------------------------------------------------- */

/* Notes the bytes before marks that follow another character in a merge's text. */
static void note_joints(steer_bpe *bpe, const char *text, size_t size) {
    int after_other = 0;
    for (const char *p = text; p < text + size; p += steer_utf8_size(*p)) {
        int is_mark = size - (size_t)(p - text) >= MARK && memcmp(p, mark, MARK) == 0;
        if (is_mark && after_other) bpe->joint[(unsigned char)p[-1]] = 1;
        after_other = !is_mark;
    }
}

static int not_known(const char *text, size_t size) {
    return STEER_FAIL(STEER_E_FORMAT, "\"%.*s\" is not in the vocabulary", (int)(size < 80 ? size : 80),
                      text);
}

static int add_merge(steer_bpe *bpe, uint32_t rank, int32_t left, int32_t right, const char *whole,
                     size_t size) {
    int32_t id = steer_vocab_find(bpe->vocab, whole, size);
    if (id < 0) return not_known(whole, size);
    steer_pair *pair = steer_pairs_put(&bpe->merges, (uint32_t)left, (uint32_t)right);
    if (!pair) return STEER_E_OUT_OF_MEMORY;
    pair->rank = rank; /* of a merge that stands twice the later one counts */
    pair->id = (uint32_t)id;
    bpe->merges_unknown |= left == bpe->unknown || right == bpe->unknown;
    note_joints(bpe, whole, size);
    return STEER_OK;
}

int steer_bpe_merge(steer_bpe *bpe, uint32_t rank, const char *left, size_t left_size, const char *right,
                    size_t right_size) {
    int32_t a = steer_vocab_find(bpe->vocab, left, left_size),
            b = steer_vocab_find(bpe->vocab, right, right_size);
    if (a < 0) return not_known(left, left_size);
    if (b < 0) return not_known(right, right_size);
    size_t skip = bpe->prefix.size;
    if (skip > right_size)
        return STEER_FAIL(STEER_E_FORMAT, "\"%.*s\" is shorter than the continuing_subword_prefix",
                          (int)(right_size < 80 ? right_size : 80), right);
    char small[JOINED], *whole = small;
    size_t size = left_size + right_size - skip;
    if (size > sizeof small && !(whole = malloc(size)))
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory for a merge of %zu bytes", size);
    memcpy(whole, left, left_size);
    memcpy(whole + left_size, right + skip, right_size - skip);
    int status = add_merge(bpe, rank, a, b, whole, size);
    if (whole != small) free(whole);
    return status;
}

typedef struct parts {
    const char *left, *right;
    size_t left_size, right_size;
} parts;

/* "a b", or ["a", "b"]. */
static int read_parts(parts *out, const steer_json *merge) {
    if (merge->type == STEER_JSON_ARRAY && merge->count == 2 && merge->first->type == STEER_JSON_STRING &&
        merge->first->next->type == STEER_JSON_STRING) {
        const steer_json *left = merge->first, *right = left->next;
        *out = (parts){left->text, right->text, left->size, right->size};
        return STEER_OK;
    }
    const char *space = merge->type == STEER_JSON_STRING ? memchr(merge->text, ' ', merge->size) : NULL;
    size_t left = space ? (size_t)(space - merge->text) : 0;
    if (!space || memchr(space + 1, ' ', merge->size - left - 1))
        return STEER_FAIL(STEER_E_FORMAT, "expected two texts in a list or parted by one space");
    *out = (parts){merge->text, space + 1, left, merge->size - left - 1};
    return STEER_OK;
}

/* Asks for the memory that the merge will look at, which is all over the table. */
static void prefetch_merge(const steer_bpe *bpe, const steer_json *merge) {
    parts p;
    char whole[JOINED];
    if (!merge || read_parts(&p, merge) != STEER_OK || p.left_size + p.right_size > sizeof whole) return;
    if (p.right_size < bpe->prefix.size) return;
    memcpy(whole, p.left, p.left_size);
    memcpy(whole + p.left_size, p.right + bpe->prefix.size, p.right_size - bpe->prefix.size);
    steer_vocab_prefetch(bpe->vocab, p.left, p.left_size);
    steer_vocab_prefetch(bpe->vocab, p.right, p.right_size);
    steer_vocab_prefetch(bpe->vocab, whole, p.left_size + p.right_size - bpe->prefix.size);
}

static int read_merge(steer_bpe *bpe, uint32_t rank, const steer_json *merge) {
    parts p;
    STEER_TRY(read_parts(&p, merge));
    return steer_bpe_merge(bpe, rank, p.left, p.left_size, p.right, p.right_size);
}

static int read_merges(steer_bpe *bpe, const steer_field *model) {
    steer_field merges = steer_field_get(model, "merges");
    STEER_TRY(steer_field_array(&merges));
    STEER_TRY(steer_pairs_reserve(&bpe->merges, merges.json->count));
    uint32_t rank = 0;
    const steer_json *ahead = merges.json->first;
    for (int i = 0; i < AHEAD && ahead; i++) ahead = ahead->next;
    for (const steer_json *merge = merges.json->first; merge; merge = merge->next, rank++) {
        prefetch_merge(bpe, ahead);
        if (ahead) ahead = ahead->next;
        int status = read_merge(bpe, rank, merge);
        if (status != STEER_OK) return steer_fail_prefix(status, "%s[%u]", merges.where, rank);
    }
    return STEER_OK;
}

/* ---- Fields ----------------------------------------------------------------------------------------------------- */

/* A text that may be null, as "" is. */
static int read_affix(steer_bytes *out, const steer_field *model, const char *key) {
    steer_field field = steer_field_get(model, key);
    const steer_json *text;
    if (steer_field_is_null(&field)) return STEER_OK;
    STEER_TRY(steer_field_text(&text, model, key));
    return steer_bytes_add(out, text->text, text->size);
}

static int read_unknown(steer_bpe *bpe, const steer_field *model) {
    steer_field field = steer_field_get(model, "unk_token");
    const steer_json *text;
    bpe->unknown = -1;
    if (steer_field_is_null(&field)) return STEER_OK;
    STEER_TRY(steer_field_text(&text, model, "unk_token"));
    bpe->unknown = steer_vocab_find(bpe->vocab, text->text, text->size);
    if (bpe->unknown < 0) bpe->unknown = -2;
    return STEER_OK;
}

int steer_bpe_read(steer_bpe *bpe, const steer_vocab *vocab, const steer_field *model) {
    STEER_TRY(steer_field_object(model, "type dropout unk_token continuing_subword_prefix end_of_word_suffix "
                                        "fuse_unk byte_fallback ignore_merges vocab merges"));
    steer_field dropout = steer_field_get(model, "dropout");
    if (!steer_field_is_null(&dropout) &&
        !(dropout.json->type == STEER_JSON_NUMBER && dropout.json->number == 0))
        return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: expected null: tokens here do not depend on chance",
                          dropout.where);
    bpe->vocab = vocab;
    STEER_TRY(steer_field_flag(&bpe->byte_fallback, model, "byte_fallback", 0));
    STEER_TRY(steer_field_flag(&bpe->fuse_unknown, model, "fuse_unk", 0));
    STEER_TRY(steer_field_flag(&bpe->ignore_merges, model, "ignore_merges", 0));
    STEER_TRY(read_affix(&bpe->prefix, model, "continuing_subword_prefix"));
    STEER_TRY(read_affix(&bpe->suffix, model, "end_of_word_suffix"));
    STEER_TRY(read_unknown(bpe, model));
    return read_merges(bpe, model);
}

/* ---- What follows from the rest --------------------------------------------------------------------------------- */

void steer_find_byte_tokens(int32_t ids[256], const steer_vocab *vocab) {
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        ids[byte] = steer_vocab_find(vocab, text, 6);
    }
}

int steer_bpe_close(steer_bpe *bpe, int bytes) {
    bpe->bytes = bytes;
    bpe->plain = bpe->prefix.size + bpe->suffix.size == 0;
    for (int byte = 0; byte < 256; byte++) {
        char letter[4];
        size_t size = steer_utf8_put(letter, steer_alphabet_letter((unsigned char)byte));
        bpe->byte_ids[byte] = steer_vocab_find(bpe->vocab, letter, size);
        bpe->plain &= bpe->byte_ids[byte] >= 0;
    }
    steer_find_byte_tokens(bpe->fallback, bpe->vocab);
    bpe->cuts = !bpe->merges_unknown && !bytes && !bpe->ignore_merges &&
                bpe->prefix.size + bpe->suffix.size == 0 && steer_vocab_find(bpe->vocab, mark, MARK) >= 0;
    return STEER_OK;
}

void steer_bpe_free(steer_bpe *bpe) {
    free(bpe->merges.slots);
    steer_bytes_free(&bpe->prefix);
    steer_bytes_free(&bpe->suffix);
    *bpe = (steer_bpe){0};
}
