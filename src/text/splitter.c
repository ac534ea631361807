/* splitter.c: a pre-tokeniser is a list of steps: cuts at the matches of a pattern, and edits of each piece. */
#include "text/splitter.h"

#include "text/alphabet.h"
#include "text/unicode.h"

#include <stdio.h>

enum { CUT, EDIT, SPELL };

static const char gpt2_words[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char punctuation[] = "[\\p{P}!-\\/:-@\\[-`{-~]";
static const char words[] =
    "[\\w\\x{200c}\\x{200d}]+|[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}\\s]+";

/* ---- Reading --------------------------------------------------------------------------------------------------- */

static int add_step(steer_splitter_step **out, steer_splitter *splitter, int kind) {
    if (splitter->count == STEER_SPLITTER_STEPS)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "pre_tokenizer: more than %d steps", STEER_SPLITTER_STEPS);
    *out = &splitter->steps[splitter->count++];
    **out = (steer_splitter_step){.kind = kind};
    return STEER_OK;
}

static int add_cut(steer_splitter *splitter, const char *regex, steer_cut cut, int invert) {
    steer_splitter_step *step = NULL;
    STEER_TRY(add_step(&step, splitter, CUT));
    step->cut = cut;
    step->invert = invert;
    return steer_pattern_regex(&step->pattern, regex, strlen(regex));
}

int steer_splitter_add_regex(steer_splitter *splitter, const char *regex) {
    return add_cut(splitter, regex, STEER_CUT_ISOLATED, 0);
}

int steer_splitter_add_bytes(steer_splitter *splitter) {
    steer_splitter_step *step = NULL;
    return add_step(&step, splitter, SPELL);
}

static int read_cut(steer_cut *out, const steer_field *field, int needed) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
    steer_field behavior = steer_field_get(field, "behavior");
    *out = STEER_CUT_ISOLATED;
    if (!needed && steer_field_is_null(&behavior)) return STEER_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *out = (steer_cut)i;
        if (steer_json_is_text(behavior.json, names[i])) return STEER_OK;
    }
    return STEER_FAIL(STEER_E_FORMAT,
                      "%s: expected Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous",
                      behavior.where);
}

static int read_split(steer_splitter *splitter, const steer_field *field) {
    steer_splitter_step *step = NULL;
    STEER_TRY(add_step(&step, splitter, CUT));
    STEER_TRY(read_cut(&step->cut, field, 1));
    STEER_TRY(steer_field_flag(&step->invert, field, "invert", 0));
    return steer_pattern_read(&step->pattern, field);
}

static int read_byte_level(steer_splitter *splitter, const steer_field *field) {
    int prefix, regex, trim;
    STEER_TRY(steer_field_flag(&prefix, field, "add_prefix_space", 1));
    STEER_TRY(steer_field_flag(&trim, field, "trim_offsets", 1)); /* of no consequence for ids */
    STEER_TRY(steer_field_flag(&regex, field, "use_regex", 1));
    steer_splitter_step *step = NULL;
    if (prefix) {
        STEER_TRY(add_step(&step, splitter, EDIT));
        strcpy(step->mark, " ");
    }
    if (regex) STEER_TRY(steer_splitter_add_regex(splitter, gpt2_words));
    return steer_splitter_add_bytes(splitter);
}

static int read_scheme(steer_splitter_step *step, const steer_field *field) {
    steer_field scheme = steer_field_get(field, "prepend_scheme"),
                add = steer_field_get(field, "add_prefix_space");
    int adds, never = steer_json_is_text(scheme.json, "never");
    STEER_TRY(steer_field_flag(&adds, field, "add_prefix_space", 1)); /* what older files say */
    step->only_first = steer_json_is_text(scheme.json, "first");
    if (!steer_field_is_null(&scheme) && !step->only_first && !never &&
        !steer_json_is_text(scheme.json, "always"))
        return STEER_FAIL(STEER_E_FORMAT, "%s: expected always, first or never", scheme.where);
    if (!adds && !steer_field_is_null(&scheme) && !never)
        return STEER_FAIL(STEER_E_FORMAT, "%s: is false, which contradicts prepend_scheme", add.where);
    step->bare = never || !adds;
    return STEER_OK;
}

static int read_metaspace(steer_splitter *splitter, const steer_field *field) {
    const steer_json *mark;
    steer_splitter_step *step = NULL;
    int split;
    STEER_TRY(steer_field_text(&mark, field, "replacement"));
    if (mark->size == 0 || mark->size != steer_utf8_size(mark->text[0]))
        return STEER_FAIL(STEER_E_FORMAT, "%s.replacement: expected one character", field->where);
    STEER_TRY(steer_field_flag(&split, field, "split", 1));
    STEER_TRY(add_step(&step, splitter, EDIT));
    step->spaces = 1;
    memcpy(step->mark, mark->text, mark->size);
    STEER_TRY(read_scheme(step, field));
    if (!split) return STEER_OK;
    STEER_TRY(add_step(&step, splitter, CUT));
    step->cut = STEER_CUT_NEXT;
    return steer_pattern_literal(&step->pattern, mark->text, mark->size);
}

static int read_digits(steer_splitter *splitter, const steer_field *field) {
    int single;
    STEER_TRY(steer_field_flag(&single, field, "individual_digits", 0));
    return add_cut(splitter, "\\p{N}", single ? STEER_CUT_ISOLATED : STEER_CUT_CONTIGUOUS, 0);
}

static int read_punctuation(steer_splitter *splitter, const steer_field *field) {
    steer_cut cut;
    STEER_TRY(read_cut(&cut, field, 0));
    return add_cut(splitter, punctuation, cut, 0);
}

static int read_whitespace(steer_splitter *splitter, const steer_field *field) {
    return add_cut(splitter, words, STEER_CUT_REMOVED, 1);
}

static int read_whitespace_split(steer_splitter *splitter, const steer_field *field) {
    return add_cut(splitter, "\\s", STEER_CUT_REMOVED, 0);
}

static int read_sequence(steer_splitter *splitter, const steer_field *field) {
    steer_field list = steer_field_get(field, "pretokenizers");
    STEER_TRY(steer_field_array(&list));
    size_t index = 0;
    for (const steer_json *item = list.json->first; item; item = item->next) {
        steer_field one = steer_field_at(&list, item, index++);
        STEER_TRY(steer_splitter_read(splitter, &one));
    }
    return STEER_OK;
}

int steer_splitter_read(steer_splitter *splitter, const steer_field *field) {
    static const struct {
        const char *type, *known;
        int (*read)(steer_splitter *splitter, const steer_field *field);
    } types[] = {
        {"Split", "type pattern behavior invert", read_split},
        {"ByteLevel", "type add_prefix_space trim_offsets use_regex", read_byte_level},
        {"Metaspace", "type replacement str_rep prepend_scheme add_prefix_space split", read_metaspace},
        {"Digits", "type individual_digits", read_digits},
        {"Punctuation", "type behavior", read_punctuation},
        {"Whitespace", "type", read_whitespace},
        {"WhitespaceSplit", "type", read_whitespace_split},
        {"Sequence", "type pretokenizers", read_sequence}};
    if (steer_field_is_null(field)) return STEER_OK;
    const steer_json *type;
    STEER_TRY(steer_field_text(&type, field, "type"));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!steer_json_is_text(type, types[i].type)) continue;
        STEER_TRY(steer_field_object(field, types[i].known));
        return types[i].read(splitter, field);
    }
    return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: the type %.*s is not supported", field->where,
                      (int)(type->size < 60 ? type->size : 60), type->text);
}

/* Spelling is left to the model where nothing follows it: it looks bytes up by themselves. */
int steer_splitter_close(steer_splitter *splitter) {
    if (splitter->count == 0 || splitter->steps[splitter->count - 1].kind != SPELL) return STEER_OK;
    splitter->count--;
    splitter->bytes = 1;
    return STEER_OK;
}

void steer_splitter_free(steer_splitter *splitter) {
    for (int i = 0; i < splitter->count; i++) steer_pattern_free(splitter->steps[i].pattern);
    splitter->count = 0;
}

/* ---- Running --------------------------------------------------------------------------------------------------- */

static int run_from(const steer_splitter_run *run, int index, const char *text, size_t size, int first);

static int starts_with(const char *text, size_t size, const char *mark) {
    size_t length = strlen(mark);
    return size >= length && memcmp(text, mark, length) == 0;
}

static int edit(const steer_splitter_run *run, int index, const char *text, size_t size, int first) {
    const steer_splitter_step *step = &run->splitter->steps[index];
    steer_bytes *out = &run->buffers[index];
    int begins = starts_with(text, size, step->mark) || (step->spaces && starts_with(text, size, " "));
    size_t length = strlen(step->mark);
    out->size = 0;
    if (!begins && !step->bare && (first || !step->only_first))
        STEER_TRY(steer_bytes_add(out, step->mark, length));
    for (const char *p = text, *end = text + size; p < end;) {
        const char *space = step->spaces ? memchr(p, ' ', (size_t)(end - p)) : NULL;
        STEER_TRY(steer_bytes_add(out, p, (size_t)((space ? space : end) - p)));
        if (space) STEER_TRY(steer_bytes_add(out, step->mark, length));
        p = space ? space + 1 : end;
    }
    return run_from(run, index + 1, out->data, out->size, first);
}

/* The pieces of one cut: the one that may still grow is held back. */
typedef struct cutter {
    const steer_splitter_run *run;
    int index, first;
    const char *text;
    size_t start, end;
    int held, was_match;
} cutter;

static int give(const cutter *c, size_t start, size_t end) {
    return run_from(c->run, c->index + 1, c->text + start, end - start, c->first && start == 0);
}

static int take(cutter *c, size_t start, size_t end, int is_match) {
    const steer_splitter_step *step = &c->run->splitter->steps[c->index];
    is_match ^= step->invert;
    if (step->cut == STEER_CUT_ISOLATED) return give(c, start, end);
    if (step->cut == STEER_CUT_REMOVED) return is_match ? STEER_OK : give(c, start, end);
    int grows = c->held && (step->cut == STEER_CUT_CONTIGUOUS ? is_match == c->was_match
                            : step->cut == STEER_CUT_PREVIOUS ? is_match && !c->was_match
                                                              : !is_match && c->was_match);
    if (!grows) {
        if (c->held) STEER_TRY(give(c, c->start, c->end));
        c->start = start;
    }
    c->end = end;
    c->held = 1;
    c->was_match = is_match;
    return STEER_OK;
}

static int cut(const steer_splitter_run *run, int index, const char *text, size_t size, int first) {
    cutter c = {.run = run, .index = index, .first = first, .text = text};
    const char *subject = text;
    if (run->late) {
        run->buffers[index].size = 0;
        STEER_TRY(steer_unicode_stand_ins(&run->buffers[index], text, size));
        subject = run->buffers[index].data;
    }
    size_t done = 0;
    steer_find find = steer_find_begin(run->splitter->steps[index].pattern, run->matcher, subject, size);
    for (;;) {
        STEER_TRY(steer_find_next(&find));
        if (!find.found) break;
        if (done != find.start) STEER_TRY(take(&c, done, find.start, 0));
        STEER_TRY(take(&c, find.start, find.end, 1));
        done = find.end;
    }
    if (done != size) STEER_TRY(take(&c, done, size, 0));
    return c.held ? give(&c, c.start, c.end) : STEER_OK;
}

static int spell(const steer_splitter_run *run, int index, const char *text, size_t size, int first) {
    steer_bytes *out = &run->buffers[index];
    out->size = 0;
    STEER_TRY(steer_alphabet_spell(out, text, size));
    return run_from(run, index + 1, out->data, out->size, first);
}

static int run_from(const steer_splitter_run *run, int index, const char *text, size_t size, int first) {
    if (size == 0) return STEER_OK;
    if (index == run->splitter->count) return run->word(run->receiver, text, size);
    switch (run->splitter->steps[index].kind) {
    case CUT:
        return cut(run, index, text, size, first);
    case EDIT:
        return edit(run, index, text, size, first);
    default:
        return spell(run, index, text, size, first);
    }
}

int steer_splitter_cut(const steer_splitter_run *run, const char *text, size_t size, int first) {
    return run_from(run, 0, text, size, first);
}
