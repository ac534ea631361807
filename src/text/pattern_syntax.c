/* pattern_syntax.c: what Oniguruma's Ruby syntax means, in PCRE2's. Most of an expression is the same in both; classes,
 * some escapes and repeated intervals are not, and what PCRE2 would read otherwise is refused. */
#include "text/pattern.h"

#include <stdio.h>

typedef struct reader {
    const char *at, *end;
    steer_bytes *out;
    size_t atom; /* where in `out` the last thing begins that a repetition repeats */
    size_t groups[100];
    int depth, in_class;
} reader;

/* Escapes: what stands for them by themselves and within a class; NULL: refused there. */
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
static const struct {
    char letter;
    const char *alone, *in_class;
} escapes[] = {
    {'s', "\\s", "\\s"}, /* U+180E apart, which stand-ins take out of it */
    {'S', "\\S", "\\S"},
    {'w', "[" WORD "]", WORD},
    {'W', "[^" WORD "]", NULL},
    {'b', "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))", "\\b"},
    {'B', "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))", NULL},
    {'h', "[0-9A-Fa-f]", "0-9A-Fa-f"},
    {'H', "[^0-9A-Fa-f]", NULL},
    {'v', "\\x{b}", "\\x{b}"},
    {'d', "\\d", "\\d"},
    {'D', "\\D", "\\D"},
};

static int unsupported(const char *what, const char *at, const char *end) {
    return STEER_FAIL(STEER_E_UNSUPPORTED, "the expression has %s, which is not supported, near \"%.*s\"",
                      what, (int)(end - at < 30 ? end - at : 30), at);
}

static int put(reader *r, const char *text) { return steer_bytes_add(r->out, text, strlen(text)); }

static int copy(reader *r, size_t size) {
    STEER_TRY(steer_bytes_add(r->out, r->at, size));
    r->at += size;
    return STEER_OK;
}

/* \p{Han} means the script; PCRE2 reads it as the script's extensions. Two letters are a category. */
static int put_property(reader *r) {
    const char *close = memchr(r->at, '}', (size_t)(r->end - r->at));
    if (r->at + 2 >= r->end || r->at[2] != '{' || !close) return unsupported("\\p without {}", r->at, r->end);
    const char *name = r->at + 3;
    size_t size = (size_t)(close - name);
    int negated = size > 0 && *name == '^', is_script = size - (size_t)negated > 2;
    static const char *const others[] = {"Any",       "Alphabetic",  "Lowercase",
                                         "Uppercase", "White_Space", "Emoji"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strlen(others[i]) == size - (size_t)negated &&
            memcmp(name + negated, others[i], strlen(others[i])) == 0)
            is_script = 0;
    STEER_TRY(copy(r, 3 + (size_t)negated));
    if (is_script) STEER_TRY(put(r, "sc:"));
    return copy(r, (size_t)(close - r->at) + 1);
}

static int put_escape(reader *r) {
    if (r->end - r->at < 2) return unsupported("\\ at its end", r->at, r->end);
    char letter = r->at[1];
    if (letter == 'p' || letter == 'P') return put_property(r);
    if (letter == 'u') { /* \uHHHH */
        char code[16];
        if (r->end - r->at < 6) return unsupported("\\u without four digits", r->at, r->end);
        snprintf(code, sizeof code, "\\x{%.4s}", r->at + 2);
        r->at += 6;
        return put(r, code);
    }
    if (letter == 'x' && r->end - r->at > 2 && r->at[2] == '{') {
        const char *close = memchr(r->at, '}', (size_t)(r->end - r->at));
        return close ? copy(r, (size_t)(close - r->at) + 1) : unsupported("\\x{ without }", r->at, r->end);
    }
    if (strchr("QECNoXRKgkG", letter)) return unsupported("an escape", r->at, r->end);
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        if (escapes[i].letter != letter) continue;
        const char *text = r->in_class ? escapes[i].in_class : escapes[i].alone;
        if (!text) return unsupported("a negated escape in a class", r->at, r->end);
        r->at += 2;
        return put(r, text);
    }
    return copy(r, 2);
}

/* [...] as it stands, escapes apart; classes within classes and && mean something else to Oniguruma. */
static int put_class(reader *r) {
    STEER_TRY(copy(r, 1));
    if (r->at < r->end && *r->at == '^') STEER_TRY(copy(r, 1));
    if (r->at < r->end && *r->at == ']') return unsupported("] first in a class", r->at, r->end);
    r->in_class = 1;
    while (r->at < r->end && *r->at != ']') {
        if (*r->at == '[') return unsupported("[ within a class", r->at, r->end);
        if (r->end - r->at > 1 && r->at[0] == '&' && r->at[1] == '&')
            return unsupported("&& within a class", r->at, r->end);
        STEER_TRY(*r->at == '\\' ? put_escape(r) : copy(r, 1));
    }
    r->in_class = 0;
    if (r->at == r->end) return unsupported("a class without its end", r->at, r->end);
    return copy(r, 1);
}

/* What follows "(?": options mean other things; (?m) is what PCRE2 calls (?s). */
static int put_group(reader *r) {
    if (r->depth == (int)(sizeof r->groups / sizeof *r->groups))
        return unsupported("deep groups", r->at, r->end);
    r->groups[r->depth++] = r->out->size;
    STEER_TRY(copy(r, 1));
    if (r->at == r->end || *r->at != '?') return STEER_OK;
    STEER_TRY(copy(r, 1));
    while (r->at < r->end && strchr("imx-", *r->at)) {
        if (*r->at == 'x') return unsupported("the option x", r->at, r->end);
        if (*r->at == 'm') {
            STEER_TRY(put(r, "s"));
            r->at++;
        } else {
            STEER_TRY(copy(r, 1));
        }
    }
    if (r->at == r->end || !strchr(":=!><)", *r->at)) return unsupported("a kind of group", r->at, r->end);
    if (*r->at == ')') { /* (?i): within an expression it takes in the alternatives behind it */
        if (r->groups[--r->depth] != 0) return unsupported("options that begin within it", r->at, r->end);
        return copy(r, 1);
    }
    if (*r->at == '<' && r->end - r->at > 1 && !strchr("=!", r->at[1]))
        return unsupported("a name", r->at, r->end);
    return STEER_OK;
}

/* {n,m}: a + or a ? behind it repeats the whole, where PCRE2 would read another kind of the interval. */
static int put_interval(reader *r) {
    const char *close = memchr(r->at, '}', (size_t)(r->end - r->at));
    size_t size = close ? (size_t)(close - r->at) + 1 : 0;
    int digits = 0, commas = 0;
    for (size_t i = 1; i + 1 < size; i++) {
        digits += r->at[i] >= '0' && r->at[i] <= '9';
        commas += r->at[i] == ',';
    }
    if (!close || !digits || commas > 1 || digits + commas + 2 != (int)size)
        return unsupported("{ that is no interval", r->at, r->end);
    char next = r->at + size < r->end ? r->at[size] : 0;
    int wraps = next == '+' || (next == '?' && !commas);
    if (r->at[1] == ',') { /* {,m} is {0,m} */
        r->at += 1;
        size -= 1;
        STEER_TRY(put(r, "{0"));
    }
    STEER_TRY(copy(r, size));
    if (!wraps) return STEER_OK;
    size_t end = r->out->size;
    STEER_TRY(put(r, "   )"));
    memmove(r->out->data + r->atom + 3, r->out->data + r->atom, end - r->atom);
    memcpy(r->out->data + r->atom, "(?:", 3);
    return copy(r, 1);
}

static int put_atom(reader *r) {
    size_t start = r->out->size;
    switch (*r->at) {
    case '\\':
        STEER_TRY(put_escape(r));
        break;
    case '[':
        STEER_TRY(put_class(r));
        break;
    case '(':
        return put_group(r);
    case ')':
        if (r->depth == 0) return unsupported(") without (", r->at, r->end);
        start = r->groups[--r->depth];
        STEER_TRY(copy(r, 1));
        break;
    case '{':
        return put_interval(r);
    case '*':
    case '+':
    case '?':
        return copy(r, 1);
    default: { /* a whole character */
        unsigned char c = (unsigned char)*r->at;
        size_t size = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        STEER_TRY(copy(r, size));
    }
    }
    r->atom = start;
    return STEER_OK;
}

int steer_pattern_translate(steer_bytes *out, const char *regex, size_t size) {
    reader r = {.at = regex, .end = regex + size, .out = out, .atom = out->size};
    if (memchr(regex, 0, size)) return unsupported("a zero byte", regex, regex + size);
    while (r.at < r.end) STEER_TRY(put_atom(&r));
    return STEER_OK;
}
