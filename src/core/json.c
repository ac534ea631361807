/* json.c: a JSON reader (RFC 8259) for files of tens of megabytes: one pass, text kept where it lies unless it has escapes. */
#include "core/json.h"

#include "core/hash.h"
#include "core/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 20, SMALL_OBJECT = 16 };

typedef struct steer_json_chunk {
    struct steer_json_chunk *older;
    size_t used, size;
    _Alignas(16) char data[];
} steer_json_chunk;

typedef struct reader {
    steer_json_tree tree;
    const char *name, *start, *at, *end;
    int depth;
} reader;

static void *take(reader *r, size_t size) {
    steer_json_chunk *chunk = r->tree.chunks;
    size = (size + 15) & ~(size_t)15;
    if (!chunk || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;
        chunk = malloc(sizeof *chunk + room);
        if (!chunk) return NULL;
        *chunk = (steer_json_chunk){.older = r->tree.chunks, .size = room};
        r->tree.chunks = chunk;
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += size;
    return memory;
}

static int line_of(const reader *r) {
    int line = 1;
    for (const char *p = r->start; p < r->at && p < r->end; p++) line += *p == '\n';
    return line;
}

static int bad(const reader *r, const char *what) {
    return STEER_FAIL(STEER_E_FORMAT, "%s: line %d: not JSON: %s", r->name, line_of(r), what);
}

static int no_memory(const reader *r) {
    return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%s: no host memory for its JSON", r->name);
}

static void skip_space(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) r->at++;
}

static int take_word(reader *r, const char *word) {
    size_t size = strlen(word);
    if ((size_t)(r->end - r->at) < size || memcmp(r->at, word, size) != 0) return 0;
    r->at += size;
    return 1;
}

/* ---- Text ------------------------------------------------------------------------------------------------------ */

static int hex4(const char *p, unsigned *out) {
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        int c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return 0;
        value = value * 16 + (unsigned)digit;
    }
    *out = value;
    return 1;
}

static char *put_utf8(char *out, unsigned c) {
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 63));
        *out++ = (char)(0x80 | (c & 63));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 63));
        *out++ = (char)(0x80 | (c >> 6 & 63));
        *out++ = (char)(0x80 | (c & 63));
    }
    return out;
}

/* \uXXXX at p, with its second half if it is the first of a pair; NULL if it is none. A half alone becomes U+FFFD. */
static const char *take_unicode(const char *p, const char *end, char **out) {
    unsigned c, low;
    if (end - p < 6 || !hex4(p + 2, &c)) return NULL;
    p += 6;
    if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' && hex4(p + 2, &low) &&
        low >= 0xdc00 && low < 0xe000) {
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        p += 6;
    }
    if (c >= 0xd800 && c < 0xe000) c = 0xfffd;
    *out = put_utf8(*out, c);
    return p;
}

/* Copies text with escapes from `from` up to the closing quote at `to`. */
static int unescape(reader *r, const char *from, const char *to, const char **text, size_t *size) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char *copy = take(r, (size_t)(to - from)), *out = copy;
    if (!copy) return no_memory(r);
    while (from < to) {
        const char *escape = memchr(from, '\\', (size_t)(to - from));
        size_t plain = (size_t)((escape ? escape : to) - from);
        memcpy(out, from, plain);
        out += plain;
        from += plain;
        if (!escape) break;
        const char *name = from + 1 < to && from[1] ? strchr(names, from[1]) : NULL;
        if (name) {
            *out++ = values[name - names];
            from += 2;
        } else if (from + 1 < to && from[1] == 'u') {
            from = take_unicode(from, to, &out);
            if (!from) return bad(r, "\\u is followed by four hexadecimal digits");
        } else {
            return bad(r, "unknown escape in a string");
        }
    }
    *text = copy;
    *size = (size_t)(out - copy);
    return STEER_OK;
}

/* Length of the UTF-8 sequence at p, 0 if there is none. */
static int utf8_length(const unsigned char *p, const unsigned char *end) {
    int n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (!n || end - p < n) return 0;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static int take_text(reader *r, const char **text, size_t *size) {
    const char *from = ++r->at, *p = from;
    int escaped = 0;
    for (;; p++) {
        if (p >= r->end) return bad(r, "a string without its closing quote");
        unsigned char c = (unsigned char)*p;
        if (c == '"') break;
        if (c == '\\') {
            escaped = 1;
            if (++p >= r->end) return bad(r, "a string without its closing quote");
        } else if (c < 0x20) {
            r->at = p;
            return bad(r, "a control character in a string");
        } else if (c >= 0x80) {
            int n = utf8_length((const unsigned char *)p, (const unsigned char *)r->end);
            r->at = p;
            if (!n) return bad(r, "a string is not UTF-8");
            p += n - 1;
        }
    }
    r->at = p + 1;
    if (escaped) return unescape(r, from, p, text, size);
    *text = from;
    *size = (size_t)(p - from);
    return STEER_OK;
}

/* ---- Numbers --------------------------------------------------------------------------------------------------- */

static const char *skip_digits(const char *p, const char *end) {
    while (p < end && *p >= '0' && *p <= '9') p++;
    return p;
}

static int take_number(reader *r, steer_json *out) {
    const char *start = r->at, *p = start, *digits;
    p += *p == '-';
    digits = p;
    p = skip_digits(p, r->end);
    if (p == digits || (*digits == '0' && p - digits > 1)) return bad(r, "expected a value");
    if (p < r->end && *p == '.') {
        digits = ++p;
        if ((p = skip_digits(p, r->end)) == digits) return bad(r, "a number ends after its point");
    }
    if (p < r->end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < r->end && (*p == '+' || *p == '-')) p++;
        digits = p;
        if ((p = skip_digits(p, r->end)) == digits) return bad(r, "a number ends after its exponent's e");
    }
    char copy[64];
    size_t size = (size_t)(p - start);
    out->type = STEER_JSON_NUMBER;
    out->spell = start;
    out->size = size;
    r->at = p;
    if (*start != '-' && digits == start && size <= 15) { /* a whole number, which a double holds */
        int64_t whole = 0;
        for (; start < p; start++) whole = whole * 10 + (*start - '0');
        out->number = (double)whole;
        return STEER_OK;
    }
    if (size >= sizeof copy) return bad(r, "a number of more than 63 characters");
    memcpy(copy, start, size);
    copy[size] = 0;
    out->number = strtod(copy, NULL); /* LC_NUMERIC stays "C" in the programs that load this library */
    return STEER_OK;
}

static int take_special(reader *r, steer_json *out) {
    static const struct {
        const char *word;
        steer_json_type type;
        double number;
    } words[] = {{"null", STEER_JSON_NULL, 0},
                 {"true", STEER_JSON_TRUE, 0},
                 {"false", STEER_JSON_FALSE, 0},
                 {"NaN", STEER_JSON_NUMBER, NAN},
                 {"Infinity", STEER_JSON_NUMBER, INFINITY},
                 {"-Infinity", STEER_JSON_NUMBER, -INFINITY}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *start = r->at;
        if (!take_word(r, words[i].word)) continue;
        out->type = words[i].type;
        if (out->type == STEER_JSON_NUMBER) {
            out->number = words[i].number;
            out->spell = start;
            out->size = strlen(words[i].word);
        }
        return STEER_OK;
    }
    return take_number(r, out);
}

/* ---- Arrays and objects ---------------------------------------------------------------------------------------- */

static int take_value(reader *r, steer_json *out);

static int same_key(const steer_json *a, const char *key, size_t size) {
    return a->key_size == size && memcmp(a->key, key, size) == 0;
}

static uint64_t hash_key(const steer_json *a) {
    return steer_hash_bytes((steer_hash){0, 0}, a->key, a->key_size).lo;
}

/* Refuses a key that stands twice: readers would differ about which one counts. */
static int check_keys(reader *r, const steer_json *object) {
    if (object->count <= SMALL_OBJECT) {
        for (const steer_json *a = object->first; a; a = a->next)
            for (const steer_json *b = a->next; b; b = b->next)
                if (same_key(a, b->key, b->key_size)) return bad(r, "an object has a key twice");
        return STEER_OK;
    }
    size_t mask = 64;
    while (mask < (size_t)object->count * 2) mask *= 2;
    const steer_json **table = calloc(mask--, sizeof *table);
    if (!table) return no_memory(r);
    int twice = 0;
    for (const steer_json *a = object->first; a && !twice; a = a->next) {
        size_t i = hash_key(a) & mask;
        while (table[i] && !(twice = same_key(table[i], a->key, a->key_size))) i = (i + 1) & mask;
        table[i] = a;
    }
    free(table);
    return twice ? bad(r, "an object has a key twice") : STEER_OK;
}

static int take_key(reader *r, steer_json *member) {
    if (r->at >= r->end || *r->at != '"') return bad(r, "expected a key in quotes");
    STEER_TRY(take_text(r, &member->key, &member->key_size));
    skip_space(r);
    if (r->at >= r->end || *r->at != ':') return bad(r, "expected : after a key");
    r->at++;
    skip_space(r);
    return STEER_OK;
}

static int take_list(reader *r, steer_json *out, int is_object) {
    const char close = is_object ? '}' : ']';
    steer_json **link = &out->first;
    out->type = is_object ? STEER_JSON_OBJECT : STEER_JSON_ARRAY;
    r->at++;
    skip_space(r);
    if (r->at < r->end && *r->at == close) {
        r->at++;
        return STEER_OK;
    }
    for (;;) {
        steer_json *value = take(r, sizeof *value);
        if (!value) return no_memory(r);
        memset(value, 0, sizeof *value);
        skip_space(r);
        if (is_object) STEER_TRY(take_key(r, value));
        STEER_TRY(take_value(r, value));
        if (out->count == UINT32_MAX) return bad(r, "too many values");
        out->count++;
        *link = value;
        link = &value->next;
        skip_space(r);
        if (r->at >= r->end) return bad(r, "it ends within a list or an object");
        char c = *r->at;
        if (c != ',' && c != close) return bad(r, is_object ? "expected , or }" : "expected , or ]");
        r->at++;
        if (c == close) return STEER_OK;
    }
}

static int take_value(reader *r, steer_json *out) {
    if (r->at >= r->end) return bad(r, "it ends where a value is expected");
    char c = *r->at;
    if (c == '"') {
        out->type = STEER_JSON_STRING;
        return take_text(r, &out->text, &out->size);
    }
    if (c != '{' && c != '[') return take_special(r, out);
    if (r->depth == STEER_JSON_DEPTH) return bad(r, "nested too deeply");
    r->depth++;
    STEER_TRY(take_list(r, out, c == '{'));
    r->depth--;
    return c == '{' ? check_keys(r, out) : STEER_OK;
}

static int take_document(reader *r) {
    r->tree.root = take(r, sizeof *r->tree.root);
    if (!r->tree.root) return no_memory(r);
    memset(r->tree.root, 0, sizeof *r->tree.root);
    skip_space(r);
    STEER_TRY(take_value(r, r->tree.root));
    skip_space(r);
    return r->at == r->end ? STEER_OK : bad(r, "something follows the value");
}

int steer_json_parse(steer_json_tree *out, const char *text, size_t size, const char *name) {
    reader r = {.name = name, .start = text, .at = text, .end = text + size};
    int status = take_document(&r);
    if (status != STEER_OK) {
        steer_json_free(&r.tree);
        return status;
    }
    *out = r.tree;
    return STEER_OK;
}

void steer_json_free(steer_json_tree *tree) {
    while (tree->chunks) {
        steer_json_chunk *older = tree->chunks->older;
        free(tree->chunks);
        tree->chunks = older;
    }
    tree->root = NULL;
}

/* ---- Reading the tree ------------------------------------------------------------------------------------------ */

const steer_json *steer_json_get(const steer_json *object, const char *key) {
    if (!object || object->type != STEER_JSON_OBJECT) return NULL;
    size_t size = strlen(key);
    const steer_json *member = object->first;
    while (member && !same_key(member, key, size)) member = member->next;
    return member;
}

int steer_json_is_text(const steer_json *value, const char *text) {
    return value && value->type == STEER_JSON_STRING && value->size == strlen(text) &&
           memcmp(value->text, text, value->size) == 0;
}

int steer_json_integer(const steer_json *value, int64_t *out) {
    if (!value || value->type != STEER_JSON_NUMBER || !(fabs(value->number) <= 9007199254740992.0)) return 0;
    if (floor(value->number) != value->number) return 0;
    *out = (int64_t)value->number;
    return 1;
}

const char *steer_json_what(const steer_json *value) {
    static const char *const names[] = {"null",     "false",    "true",     "a number",
                                        "a string", "an array", "an object"};
    return value ? names[value->type] : "missing";
}
