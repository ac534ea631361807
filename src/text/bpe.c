/* bpe.c: turns words into tokens by merges. Short words by a scan for the lowest rank, long ones with a heap, so that the
 * time never grows with the square of a length; words seen before come from a cache. */
#include "text/bpe.h"

#include "core/interrupt.h"
#include "text/alphabet.h"

enum {
    SHORT = 32, /* symbols up to which a scan is faster */
    CACHE_WORDS = 1 << 14,
    CACHE_BYTES = 30,
    CACHE_IDS = 8,
    POLL = 1 << 16, /* merges between two looks at the interrupt flag */
};

typedef struct steer_bpe_word {
    uint8_t size, count; /* size 0: free */
    char text[CACHE_BYTES];
    int32_t ids[CACHE_IDS];
} steer_bpe_word_entry;

typedef struct steer_bpe_entry {
    uint32_t rank, at, id;
} entry;

static const char mark[] = "\xe2\x96\x81";
enum { MARK = 3 };

/* ---- From characters to symbols --------------------------------------------------------------------------------- */

typedef struct starter { /* the state over a word: unknown characters may fuse */
    const steer_bpe *bpe;
    steer_ids *symbols;
    int pending;
} starter;

static int flush_unknown(starter *s) {
    if (!s->pending) return STEER_OK;
    s->pending = 0;
    return steer_ids_add(s->symbols, s->bpe->unknown);
}

/* The tokens of all bytes of a text, if there are such; *done says so. */
static int put_bytes(starter *s, const char *text, size_t size, int *done) {
    *done = 0;
    if (!s->bpe->byte_fallback) return STEER_OK;
    for (size_t i = 0; i < size; i++)
        if (s->bpe->fallback[(unsigned char)text[i]] < 0) return STEER_OK;
    *done = 1;
    for (size_t i = 0; i < size; i++)
        STEER_TRY(steer_ids_add(s->symbols, s->bpe->fallback[(unsigned char)text[i]]));
    return STEER_OK; /* an unknown that is pending comes after them: so does the reference */
}

static int put_character(starter *s, const char *text, size_t size) {
    int32_t id = steer_vocab_find(s->bpe->vocab, text, size);
    if (id >= 0) {
        STEER_TRY(flush_unknown(s));
        return steer_ids_add(s->symbols, id);
    }
    int done;
    STEER_TRY(put_bytes(s, text, size, &done));
    if (done || s->bpe->unknown == -1) return STEER_OK;
    if (s->bpe->unknown == -2)
        return STEER_FAIL(STEER_E_FORMAT,
                          "text: \"%.*s\" is unknown, and the unk_token is not in the vocabulary", (int)size,
                          text);
    if (!s->bpe->fuse_unknown) STEER_TRY(flush_unknown(s));
    s->pending = 1;
    return STEER_OK;
}

static int put_characters(const steer_bpe *bpe, steer_bpe_run *run, const char *text, size_t size) {
    starter s = {.bpe = bpe, .symbols = &run->symbols};
    for (size_t at = 0, step; at < size; at += step) {
        step = steer_utf8_size(text[at]);
        int last = at + step == size;
        const steer_bytes *prefix = at > 0 ? &bpe->prefix : &(steer_bytes){0};
        const steer_bytes *suffix = last ? &bpe->suffix : &(steer_bytes){0};
        if (prefix->size + suffix->size == 0) {
            STEER_TRY(put_character(&s, text + at, step));
            continue;
        }
        run->affixed.size = 0;
        STEER_TRY(steer_bytes_add(&run->affixed, prefix->data, prefix->size));
        STEER_TRY(steer_bytes_add(&run->affixed, text + at, step));
        STEER_TRY(steer_bytes_add(&run->affixed, suffix->data, suffix->size));
        STEER_TRY(put_character(&s, run->affixed.data, run->affixed.size));
    }
    return flush_unknown(&s);
}

/* ---- Merging ---------------------------------------------------------------------------------------------------- */

static const steer_pair no_merge = {0, 0, 0xffffffff, 0xffffffff};

static const steer_pair *find_merge(const steer_bpe *bpe, int32_t left, int32_t right) {
    const steer_pair *pair = steer_pairs_find(&bpe->merges, (uint32_t)left, (uint32_t)right);
    return pair ? pair : &no_merge;
}

/* Returns how many symbols are left. */
static size_t merge_short(const steer_bpe *bpe, int32_t *symbols, size_t count) {
    uint32_t ranks[SHORT], ids[SHORT]; /* of the pair that begins at a symbol */
    for (size_t i = 0; i + 1 < count; i++) {
        const steer_pair *pair = find_merge(bpe, symbols[i], symbols[i + 1]);
        ranks[i] = pair->rank;
        ids[i] = pair->id;
    }
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == 0xffffffff) break;
        symbols[best] = (int32_t)ids[best];
        count--;
        for (size_t i = best + 1; i < count; i++) {
            symbols[i] = symbols[i + 1];
            ranks[i] = ranks[i + 1];
            ids[i] = ids[i + 1];
        }
        for (size_t i = best > 0 ? best - 1 : 0; i <= best && i + 1 < count; i++) {
            const steer_pair *pair = find_merge(bpe, symbols[i], symbols[i + 1]);
            ranks[i] = pair->rank;
            ids[i] = pair->id;
        }
    }
    return count;
}

static int entry_before(entry a, entry b) { return a.rank != b.rank ? a.rank < b.rank : a.at < b.at; }

static int heap_push(steer_bpe_run *run, entry added) {
    if (run->heap_size == run->heap_room)
        STEER_TRY(steer_grow(&run->heap, &run->heap_room, run->heap_size + 1, sizeof *run->heap));
    size_t i = run->heap_size++;
    for (; i > 0 && entry_before(added, run->heap[(i - 1) / 2]); i = (i - 1) / 2)
        run->heap[i] = run->heap[(i - 1) / 2];
    run->heap[i] = added;
    return STEER_OK;
}

static entry heap_pop(steer_bpe_run *run) {
    entry top = run->heap[0], last = run->heap[--run->heap_size];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < run->heap_size) {
        if (child + 1 < run->heap_size && entry_before(run->heap[child + 1], run->heap[child])) child++;
        if (!entry_before(run->heap[child], last)) break;
        run->heap[i] = run->heap[child];
        i = child;
    }
    run->heap[i] = last;
    return top;
}

/* Queues the merge of the symbols at `at` and `next`. */
static int queue(const steer_bpe *bpe, steer_bpe_run *run, int32_t at, int32_t next) {
    const steer_pair *pair = find_merge(bpe, run->symbols.data[at], run->symbols.data[next]);
    if (pair == &no_merge) return STEER_OK;
    return heap_push(run, (entry){pair->rank, (uint32_t)at, pair->id});
}

static int link_symbols(const steer_bpe *bpe, steer_bpe_run *run) {
    int32_t count = (int32_t)run->symbols.size;
    run->previous.size = run->next.size = run->heap_size = 0;
    for (int32_t i = 0; i < count; i++) {
        STEER_TRY(steer_ids_add(&run->previous, i - 1));
        STEER_TRY(steer_ids_add(&run->next, i + 1 < count ? i + 1 : -1));
        if (i + 1 < count) STEER_TRY(queue(bpe, run, i, i + 1));
    }
    return STEER_OK;
}

static int merge_at(const steer_bpe *bpe, steer_bpe_run *run, entry top) {
    int32_t *symbols = run->symbols.data, *next = run->next.data, *previous = run->previous.data;
    int32_t at = (int32_t)top.at, right = next[at];
    /* An entry whose symbols have merged otherwise by now is stale. */
    if (symbols[at] < 0 || right < 0 || find_merge(bpe, symbols[at], symbols[right])->id != top.id)
        return STEER_OK;
    symbols[at] = (int32_t)top.id;
    symbols[right] = -1;
    next[at] = next[right];
    if (next[at] >= 0) previous[next[at]] = at;
    if (previous[at] >= 0) STEER_TRY(queue(bpe, run, previous[at], at));
    return next[at] >= 0 ? queue(bpe, run, at, next[at]) : STEER_OK;
}

static int merge_long(const steer_bpe *bpe, steer_bpe_run *run) {
    STEER_TRY(link_symbols(bpe, run));
    for (uint32_t done = 1; run->heap_size > 0; done++) {
        STEER_TRY(merge_at(bpe, run, heap_pop(run)));
        if (done % POLL == 0 && steer_interrupt_take()) return STEER_FAIL(STEER_E_INTERRUPTED, "interrupted");
    }
    size_t count = 0;
    for (int32_t at = 0; at >= 0; at = run->next.data[at]) run->symbols.data[count++] = run->symbols.data[at];
    run->symbols.size = count;
    return STEER_OK;
}

/* ---- Words ------------------------------------------------------------------------------------------------------ */

static int tokenize(const steer_bpe *bpe, steer_bpe_run *run, steer_ids *ids, const char *text, size_t size) {
    if (bpe->bytes && (bpe->ignore_merges || !bpe->plain)) {
        run->spelled.size = 0;
        STEER_TRY(steer_alphabet_spell(&run->spelled, text, size));
    }
    const char *letters = bpe->bytes ? run->spelled.data : text;
    size_t letters_size = bpe->bytes ? run->spelled.size : size;
    if (bpe->ignore_merges) {
        int32_t whole = steer_vocab_find(bpe->vocab, letters, letters_size);
        if (whole >= 0) return steer_ids_add(ids, whole);
    }
    steer_ids *symbols = &run->symbols;
    symbols->size = 0;
    if (bpe->bytes && bpe->plain) {
        if (size > symbols->room)
            STEER_TRY(steer_grow(&symbols->data, &symbols->room, size, sizeof(int32_t)));
        for (size_t i = 0; i < size; i++) symbols->data[i] = bpe->byte_ids[(unsigned char)text[i]];
        symbols->size = size;
    } else {
        STEER_TRY(put_characters(bpe, run, letters, letters_size));
    }
    if (symbols->size <= SHORT)
        symbols->size = merge_short(bpe, symbols->data, symbols->size);
    else
        STEER_TRY(merge_long(bpe, run));
    return steer_ids_append(ids, symbols->data, symbols->size);
}

static size_t hash_word(const char *text, size_t size) {
    uint64_t words[4] = {0};
    memcpy(words, text, size);
    uint64_t hash = (words[0] ^ size) * 0x9e3779b97f4a7c15u;
    if (size > 8) hash = (hash ^ hash >> 32 ^ words[1]) * 0xff51afd7ed558ccdu;
    if (size > 16) hash = (hash ^ hash >> 32 ^ words[2]) * 0xc4ceb9fe1a85ec53u;
    if (size > 24) hash = (hash ^ hash >> 32 ^ words[3]) * 0x9e3779b97f4a7c15u;
    return (size_t)(hash >> 40) & (CACHE_WORDS - 1);
}

static int cached_word(const steer_bpe *bpe, steer_bpe_run *run, steer_ids *ids, const char *text,
                       size_t size) {
    if (size > CACHE_BYTES) return tokenize(bpe, run, ids, text, size);
    if (!run->cache && !(run->cache = calloc(CACHE_WORDS, sizeof *run->cache)))
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "no host memory for a cache of words");
    steer_bpe_word_entry *word = &run->cache[hash_word(text, size)];
    if (word->size == size && memcmp(word->text, text, size) == 0)
        return steer_ids_append(ids, word->ids, word->count);
    size_t before = ids->size;
    STEER_TRY(tokenize(bpe, run, ids, text, size));
    if (ids->size - before > CACHE_IDS) return STEER_OK;
    word->size = (uint8_t)size;
    word->count = (uint8_t)(ids->size - before);
    memcpy(word->text, text, size);
    if (word->count > 0) memcpy(word->ids, ids->data + before, word->count * sizeof *word->ids);
    return STEER_OK;
}

static const char *skip_marks(const char *p, const char *end) {
    while (end - p >= MARK && memcmp(p, mark, MARK) == 0) p += MARK;
    return p;
}

/* The end of the part that begins at p: where the next run of marks begins that no merge joins to what stands before it. */
static const char *part_end(const steer_bpe *bpe, const char *p, const char *end) {
    const char *at = skip_marks(p, end);
    while (at < end && (at = memchr(at, mark[0], (size_t)(end - at)))) {
        const char *behind = skip_marks(at, end);
        if (behind > at && !bpe->joint[(unsigned char)at[-1]]) return at;
        at = behind > at ? behind : at + 1;
    }
    return end;
}

int steer_bpe_word(const steer_bpe *bpe, steer_bpe_run *run, steer_ids *ids, const char *text, size_t size) {
    if (!bpe->cuts) return cached_word(bpe, run, ids, text, size);
    for (const char *p = text, *end = text + size; p < end;) {
        const char *stop = part_end(bpe, p, end);
        STEER_TRY(cached_word(bpe, run, ids, p, (size_t)(stop - p)));
        p = stop;
    }
    return STEER_OK;
}

void steer_bpe_run_free(steer_bpe_run *run) {
    steer_ids_free(&run->symbols);
    steer_ids_free(&run->previous);
    steer_ids_free(&run->next);
    steer_bytes_free(&run->spelled);
    steer_bytes_free(&run->affixed);
    free(run->heap);
    free(run->cache);
    *run = (steer_bpe_run){0};
}
