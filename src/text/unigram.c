/* unigram.c: finds the best cut of a word by Viterbi's algorithm (Kudo 2018, "Subword regularization"). */
#include "text/unigram.h"

#include "text/bpe.h"
#include "text/utf8.h"

#include <math.h>

static const double unknown_penalty = 10; /* below the lowest score, as SentencePiece has it */

typedef struct steer_unigram_node { /* the best way to reach a byte */
    double score;
    int32_t id;
    int32_t from; /* -1: not reached */
} node;

/* ---- Reading --------------------------------------------------------------------------------------------------- */

static int read_token(steer_unigram *unigram, steer_vocab *vocab, int32_t id, const steer_field *item) {
    const steer_json *text =
        item->json->type == STEER_JSON_ARRAY && item->json->count == 2 ? item->json->first : NULL;
    if (!text || text->type != STEER_JSON_STRING || text->next->type != STEER_JSON_NUMBER)
        return STEER_FAIL(STEER_E_FORMAT, "%s: expected a list of a text and a score", item->where);
    if (!isfinite(text->next->number))
        return STEER_FAIL(STEER_E_FORMAT, "%s: the score is not finite", item->where);
    int status = steer_vocab_add(vocab, id, text->text, text->size);
    if (status != STEER_OK) return steer_fail_prefix(status, "%s", item->where);
    unigram->scores[id] = text->next->number;
    return text->size > 0 ? steer_trie_add(&unigram->trie, text->text, text->size, id) : STEER_OK;
}

static int read_vocab(steer_unigram *unigram, steer_vocab *vocab, const steer_field *model) {
    steer_field list = steer_field_get(model, "vocab");
    STEER_TRY(steer_field_array(&list));
    if (list.json->count == 0) return STEER_FAIL(STEER_E_FORMAT, "%s: is empty", list.where);
    STEER_TRY(steer_vocab_reserve(vocab, list.json->count));
    unigram->scores = malloc(list.json->count * sizeof *unigram->scores);
    if (!unigram->scores) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory for scores");
    int32_t id = 0;
    double least = INFINITY;
    for (const steer_json *item = list.json->first; item; item = item->next, id++) {
        steer_field field = steer_field_at(&list, item, (size_t)id);
        STEER_TRY(read_token(unigram, vocab, id, &field));
        least = fmin(least, unigram->scores[id]);
    }
    unigram->unknown_score = least - unknown_penalty;
    return STEER_OK;
}

int steer_unigram_read(steer_unigram *unigram, steer_vocab *vocab, const steer_field *model) {
    STEER_TRY(steer_field_object(model, "type vocab unk_id byte_fallback"));
    STEER_TRY(steer_field_flag(&unigram->byte_fallback, model, "byte_fallback", 0));
    STEER_TRY(read_vocab(unigram, vocab, model));
    steer_field unknown = steer_field_get(model, "unk_id");
    unigram->vocab = vocab;
    unigram->unknown = -1;
    if (!steer_field_is_null(&unknown)) {
        STEER_TRY(steer_field_id(&unigram->unknown, &unknown));
        if (unigram->unknown >= vocab->size)
            return STEER_FAIL(STEER_E_FORMAT, "%s: is %d, expected an id below %d", unknown.where,
                              unigram->unknown, vocab->size);
    }
    steer_find_byte_tokens(unigram->fallback, vocab);
    return STEER_OK;
}

void steer_unigram_free(steer_unigram *unigram) {
    free(unigram->scores);
    steer_trie_free(&unigram->trie);
    *unigram = (steer_unigram){0};
}

/* ---- The best way through a word ------------------------------------------------------------------------------- */

static void reach(node *target, double score, int32_t id, size_t from) {
    if (target->from >= 0 && !(score > target->score)) return;
    *target = (node){score, id, (int32_t)from};
}

static int walk(const steer_unigram *unigram, node *nodes, const char *text, size_t size) {
    for (size_t at = 0, step; at < size; at += step) {
        double score = nodes[at].score;
        step = steer_utf8_size(text[at]);
        int single = 0;
        uint32_t where = 0;
        for (size_t end = at; end < size;) {
            where = steer_trie_step(&unigram->trie, where, text[end++]);
            if (where == UINT32_MAX) break;
            int32_t id = unigram->trie.values.data[where];
            if (id < 0) continue;
            reach(&nodes[end], score + unigram->scores[id], id, at);
            single |= end - at == step;
        }
        if (single) continue;
        if (unigram->unknown < 0)
            return STEER_FAIL(STEER_E_FORMAT, "text: \"%.*s\" is unknown, and the model has no unk_id",
                              (int)step, text + at);
        reach(&nodes[at + step], score + unigram->unknown_score, unigram->unknown, at);
    }
    return STEER_OK;
}

/* The ids of one part of the word: a token, or unknown characters that were next to each other. */
static int put_part(const steer_unigram *unigram, steer_ids *ids, const char *text, size_t size) {
    int32_t id = steer_vocab_find(unigram->vocab, text, size);
    if (id >= 0) return steer_ids_add(ids, id);
    int has_bytes = unigram->byte_fallback;
    for (size_t i = 0; i < size && has_bytes; i++) has_bytes = unigram->fallback[(unsigned char)text[i]] >= 0;
    if (!has_bytes) return steer_ids_add(ids, unigram->unknown);
    for (size_t i = 0; i < size; i++)
        STEER_TRY(steer_ids_add(ids, unigram->fallback[(unsigned char)text[i]]));
    return STEER_OK;
}

/* Where the parts begin, from the last one to the first; neighbouring unknown characters are one part. */
static int find_cuts(const steer_unigram *unigram, steer_ids *cuts, const node *nodes, size_t size) {
    cuts->size = 0;
    int unknown = 0;
    for (int32_t at = (int32_t)size; at > 0; at = nodes[at].from) {
        int is_unknown = unigram->unknown >= 0 && nodes[at].id == unigram->unknown;
        if (unknown && is_unknown)
            cuts->data[cuts->size - 1] = nodes[at].from;
        else
            STEER_TRY(steer_ids_add(cuts, nodes[at].from));
        unknown = is_unknown;
    }
    return STEER_OK;
}

int steer_unigram_word(const steer_unigram *unigram, steer_unigram_run *run, steer_ids *ids, const char *text,
                       size_t size) {
    if (size + 1 > run->room) STEER_TRY(steer_grow(&run->nodes, &run->room, size + 1, sizeof *run->nodes));
    for (size_t i = 0; i <= size; i++) run->nodes[i] = (node){0, -1, -1};
    STEER_TRY(walk(unigram, run->nodes, text, size));
    STEER_TRY(find_cuts(unigram, &run->cuts, run->nodes, size));
    for (size_t i = run->cuts.size, end; i > 0; i--) {
        end = i > 1 ? (size_t)run->cuts.data[i - 2] : size;
        size_t start = (size_t)run->cuts.data[i - 1];
        STEER_TRY(put_part(unigram, ids, text + start, end - start));
    }
    return STEER_OK;
}

void steer_unigram_run_free(steer_unigram_run *run) {
    free(run->nodes);
    steer_ids_free(&run->cuts);
    *run = (steer_unigram_run){0};
}
