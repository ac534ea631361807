/* unicode.c: normal forms and case through utf8proc; what newer or older tables say otherwise than those that
 * tokenizers were trained with stands in tables here. */
#include "text/unicode.h"

#include "text/utf8.h"

#include <utf8proc.h>

typedef struct range {
    uint32_t first, last;
} range;

/* Index of the range that holds c among sorted ranges of `width` bytes that begin with a `range`; -1: none. */
static int find_range(const void *ranges, size_t count, size_t width, uint32_t c) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const range *r = (const range *)(const void *)((const char *)ranges + middle * width);
        if (c < r->first)
            high = middle;
        else if (c > r->last)
            low = middle + 1;
        else
            return (int)middle;
    }
    return -1;
}

/* ---- Normal forms ---------------------------------------------------------------------------------------------- */

/* The reference normalises with the tables of Unicode 9. These ranges hold the marks and the characters with a
 * decomposition that came later: they stay as they are, and in their place. */
static const range newer[] = {
    {0x7fd, 0x7fd},     {0x897, 0x8d3},     {0x9fe, 0x9fe},     {0xafa, 0xaff},     {0xb55, 0xb55},
    {0xc04, 0xc3c},     {0xcf3, 0xd00},     {0xd3b, 0xd3c},     {0xd81, 0xd81},     {0xeba, 0xeba},
    {0xece, 0xece},     {0x1715, 0x1715},   {0x180f, 0x180f},   {0x1abf, 0x1ace},   {0x1cf7, 0x1cf7},
    {0x1df6, 0x1dfa},   {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},   {0xa82c, 0xa82c},   {0xa8ff, 0xa8ff},
    {0xab69, 0xab69},   {0x10781, 0x107ba}, {0x10d24, 0x10d6d}, {0x10eab, 0x10f85}, {0x11070, 0x11074},
    {0x110c2, 0x110c2}, {0x11145, 0x11146}, {0x111c9, 0x111c9}, {0x111ce, 0x111cf}, {0x11241, 0x11241},
    {0x1133b, 0x1133b}, {0x113b8, 0x113e2}, {0x1145e, 0x1145e}, {0x1182c, 0x1183a}, {0x11930, 0x11943},
    {0x119d1, 0x11a99}, {0x11d31, 0x11d97}, {0x11ef3, 0x11f5a}, {0x13440, 0x13455}, {0x1611e, 0x1612f},
    {0x16f4f, 0x16f4f}, {0x16f7f, 0x16f87}, {0x16fe4, 0x16ff1}, {0x1cf00, 0x1cf46}, {0x1e08f, 0x1e08f},
    {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ef}, {0x1e4ec, 0x1e4ef}, {0x1e5ee, 0x1e5ef}, {0x1f16c, 0x1f16c},
    {0x1fbf0, 0x1fbf9}};

static int is_newer(uint32_t c) {
    return c >= newer[0].first && find_range(newer, sizeof newer / sizeof *newer, sizeof *newer, c) >= 0;
}

static int combining_class(int32_t c) {
    if (c < 0x300 || is_newer((uint32_t)c)) return 0;
    return utf8proc_get_property(c)->combining_class;
}

/* Puts a run of marks into the order of their classes; equal ones keep theirs. Counting, as a run may be long. */
static void order_run(int32_t *run, int32_t *spare, size_t count) {
    size_t starts[257] = {0};
    for (size_t i = 0; i < count; i++) starts[combining_class(run[i]) + 1]++;
    for (int i = 0; i < 256; i++) starts[i + 1] += starts[i];
    for (size_t i = 0; i < count; i++) spare[starts[combining_class(run[i])]++] = run[i];
    memcpy(run, spare, count * sizeof *run);
}

static void order_marks(int32_t *text, int32_t *spare, size_t size) {
    for (size_t i = 0; i < size;) {
        size_t start = i;
        int sorted = 1, last = 0, class;
        while (i < size && (class = combining_class(text[i])) != 0) {
            sorted &= class >= last;
            last = class;
            i++;
        }
        if (!sorted) order_run(text + start, spare, i - start);
        i += i == start;
    }
}

/* The decomposition of a text in code points. */
static int decompose(steer_ids *out, const char *text, size_t size, steer_form form) {
    utf8proc_option_t options =
        UTF8PROC_DECOMPOSE | (form == STEER_NFKC || form == STEER_NFKD ? UTF8PROC_COMPAT : 0);
    for (const char *p = text; p < text + size; p += steer_utf8_size(*p)) {
        uint32_t c = steer_utf8_get(p);
        utf8proc_int32_t parts[32];
        int boundary = 0;
        utf8proc_ssize_t count =
            c < 0x80 || is_newer(c) ? 1 : utf8proc_decompose_char((int32_t)c, parts, 32, options, &boundary);
        if (count == 1 && (c < 0x80 || is_newer(c))) parts[0] = (int32_t)c;
        if (count < 1 || count > 32)
            return STEER_FAIL(STEER_E_UNSUPPORTED, "text: U+%04X has no decomposition that utf8proc knows",
                              c);
        STEER_TRY(steer_ids_append(out, parts, (size_t)count));
    }
    return STEER_OK;
}

static int write_normal(steer_bytes *out, steer_ids *points, steer_form form) {
    size_t size = points->size;
    if (points->room < 2 * size) /* the second half is scratch for the order */
        STEER_TRY(steer_grow(&points->data, &points->room, 2 * size, sizeof(int32_t)));
    order_marks(points->data, points->data + size, size);
    utf8proc_ssize_t count = (utf8proc_ssize_t)size;
    if (form == STEER_NFC || form == STEER_NFKC)
        count = utf8proc_normalize_utf32(points->data, count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    STEER_TRY(steer_bytes_reserve(out, (size_t)count * 4));
    for (utf8proc_ssize_t i = 0; i < count; i++)
        out->size += steer_utf8_put(out->data + out->size, (uint32_t)points->data[i]);
    return STEER_OK;
}

/* The end of the ASCII that begins at p. */
static const char *ascii_end(const char *p, const char *end) {
    for (uint64_t eight; end - p >= 8 && (memcpy(&eight, p, 8), !(eight & 0x8080808080808080u)); p += 8) {
    }
    while (p < end && *p >= 0) p++;
    return p;
}

/* ASCII stays as it is in every form, but for its last character, to which marks behind it may belong. */
int steer_unicode_normalize(steer_bytes *out, const char *text, size_t size, steer_form form) {
    const char *p = text, *end = text + size;
    steer_ids points = {0};
    int status = STEER_OK;
    while (p < end && status == STEER_OK) {
        const char *other = ascii_end(p, end), *next = other;
        const char *begin = other > p && other < end ? other - 1 : other;
        while (next < end && *next < 0) next += steer_utf8_size(*next);
        status = steer_bytes_add(out, p, (size_t)(begin - p));
        points.size = 0;
        if (status == STEER_OK && begin < next)
            status = decompose(&points, begin, (size_t)(next - begin), form);
        if (status == STEER_OK && begin < next) status = write_normal(out, &points, form);
        p = next;
    }
    steer_ids_free(&points);
    return status;
}

/* ---- Case and marks -------------------------------------------------------------------------------------------- */

/* Lower case of letters that came after utf8proc's tables; U+0130 has two characters. */
static const struct {
    range upper;
    uint32_t lower; /* of the first */
} late_lower[] = {{{0x1c89, 0x1c89}, 0x1c8a}, {{0xa7cb, 0xa7cb}, 0x264}, {{0xa7cc, 0xa7cc}, 0xa7cd},
                  {{0xa7da, 0xa7da}, 0xa7db}, {{0xa7dc, 0xa7dc}, 0x19b}, {{0x10d50, 0x10d65}, 0x10d70}};

static size_t put_lower(char *out, uint32_t c) {
    if (c == 0x130) {
        memcpy(out, "i\xcc\x87", 3);
        return 3;
    }
    int i = find_range(late_lower, sizeof late_lower / sizeof *late_lower, sizeof *late_lower, c);
    if (i >= 0) return steer_utf8_put(out, late_lower[i].lower + (c - late_lower[i].upper.first));
    return steer_utf8_put(out, (uint32_t)utf8proc_tolower((int32_t)c));
}

int steer_unicode_lower(steer_bytes *out, const char *text, size_t size) {
    for (const char *p = text; p < text + size; p += steer_utf8_size(*p)) {
        STEER_TRY(steer_bytes_reserve(out, 4));
        if (*p >= 0)
            out->data[out->size++] = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
        else
            out->size += put_lower(out->data + out->size, steer_utf8_get(p));
    }
    return STEER_OK;
}

static int is_mark(uint32_t c) {
    if (c < 0x300 || is_newer(c)) return 0;
    utf8proc_category_t category = utf8proc_category((int32_t)c);
    return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
           category == UTF8PROC_CATEGORY_ME;
}

int steer_unicode_strip_marks(steer_bytes *out, const char *text, size_t size) {
    for (const char *p = text; p < text + size;) {
        size_t step = steer_utf8_size(*p);
        if (!is_mark(steer_utf8_get(p))) STEER_TRY(steer_bytes_add(out, p, step));
        p += step;
    }
    return STEER_OK;
}

/* ---- Classes --------------------------------------------------------------------------------------------------- */

int steer_unicode_is_space(uint32_t c) {
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

enum category { CF, LU, LL, LT, LM, LO, M, ND, N, P, S, CATEGORY_COUNT };

/* Assigned after Unicode 14, whose tables the oldest PCRE2 in use has; and U+180E, which its \s holds. */
static const struct {
    range range;
    enum category category;
} late[] = {
    {{0x897, 0x897}, M},      {{0xcf3, 0xcf3}, M},      {{0xece, 0xece}, M},      {{0x180e, 0x180e}, CF},
    {{0x1b4e, 0x1b4f}, P},    {{0x1b7f, 0x1b7f}, P},    {{0x1c89, 0x1c89}, LU},   {{0x1c8a, 0x1c8a}, LL},
    {{0x2427, 0x2429}, S},    {{0x2ffc, 0x2fff}, S},    {{0x31e4, 0x31e5}, S},    {{0x31ef, 0x31ef}, S},
    {{0xa7cb, 0xa7cc}, LU},   {{0xa7cd, 0xa7cd}, LL},   {{0xa7da, 0xa7da}, LU},   {{0xa7db, 0xa7db}, LL},
    {{0xa7dc, 0xa7dc}, LU},   {{0x105c0, 0x105f3}, LO}, {{0x10d40, 0x10d49}, ND}, {{0x10d4a, 0x10d4d}, LO},
    {{0x10d4e, 0x10d4e}, LM}, {{0x10d4f, 0x10d4f}, LO}, {{0x10d50, 0x10d65}, LU}, {{0x10d69, 0x10d6d}, M},
    {{0x10d6e, 0x10d6e}, P},  {{0x10d6f, 0x10d6f}, LM}, {{0x10d70, 0x10d85}, LL}, {{0x10d8e, 0x10d8f}, S},
    {{0x10ec2, 0x10ec4}, LO}, {{0x10efc, 0x10eff}, M},  {{0x1123f, 0x11240}, LO}, {{0x11241, 0x11241}, M},
    {{0x11380, 0x11389}, LO}, {{0x1138b, 0x1138b}, LO}, {{0x1138e, 0x1138e}, LO}, {{0x11390, 0x113b5}, LO},
    {{0x113b7, 0x113b7}, LO}, {{0x113b8, 0x113c0}, M},  {{0x113c2, 0x113c2}, M},  {{0x113c5, 0x113c5}, M},
    {{0x113c7, 0x113ca}, M},  {{0x113cc, 0x113d0}, M},  {{0x113d1, 0x113d1}, LO}, {{0x113d2, 0x113d2}, M},
    {{0x113d3, 0x113d3}, LO}, {{0x113d4, 0x113d5}, P},  {{0x113d7, 0x113d8}, P},  {{0x113e1, 0x113e2}, M},
    {{0x116d0, 0x116e3}, ND}, {{0x11b00, 0x11b09}, P},  {{0x11bc0, 0x11be0}, LO}, {{0x11be1, 0x11be1}, P},
    {{0x11bf0, 0x11bf9}, ND}, {{0x11f00, 0x11f01}, M},  {{0x11f02, 0x11f02}, LO}, {{0x11f03, 0x11f03}, M},
    {{0x11f04, 0x11f10}, LO}, {{0x11f12, 0x11f33}, LO}, {{0x11f34, 0x11f3a}, M},  {{0x11f3e, 0x11f42}, M},
    {{0x11f43, 0x11f4f}, P},  {{0x11f50, 0x11f59}, ND}, {{0x11f5a, 0x11f5a}, M},  {{0x1342f, 0x1342f}, LO},
    {{0x13440, 0x13440}, M},  {{0x13441, 0x13446}, LO}, {{0x13447, 0x13455}, M},  {{0x13460, 0x143fa}, LO},
    {{0x16100, 0x1611d}, LO}, {{0x1611e, 0x1612f}, M},  {{0x16130, 0x16139}, ND}, {{0x16d40, 0x16d42}, LM},
    {{0x16d43, 0x16d6a}, LO}, {{0x16d6b, 0x16d6c}, LM}, {{0x16d6d, 0x16d6f}, P},  {{0x16d70, 0x16d79}, ND},
    {{0x18cff, 0x18cff}, LO}, {{0x1b132, 0x1b132}, LO}, {{0x1b155, 0x1b155}, LO}, {{0x1cc00, 0x1ccef}, S},
    {{0x1ccf0, 0x1ccf9}, ND}, {{0x1cd00, 0x1ceb3}, S},  {{0x1d2c0, 0x1d2d3}, N},  {{0x1df25, 0x1df2a}, LL},
    {{0x1e030, 0x1e06d}, LM}, {{0x1e08f, 0x1e08f}, M},  {{0x1e4d0, 0x1e4ea}, LO}, {{0x1e4eb, 0x1e4eb}, LM},
    {{0x1e4ec, 0x1e4ef}, M},  {{0x1e4f0, 0x1e4f9}, ND}, {{0x1e5d0, 0x1e5ed}, LO}, {{0x1e5ee, 0x1e5ef}, M},
    {{0x1e5f0, 0x1e5f0}, LO}, {{0x1e5f1, 0x1e5fa}, ND}, {{0x1e5ff, 0x1e5ff}, P},  {{0x1f6dc, 0x1f6dc}, S},
    {{0x1f774, 0x1f776}, S},  {{0x1f77b, 0x1f77f}, S},  {{0x1f7d9, 0x1f7d9}, S},  {{0x1f8b2, 0x1f8bb}, S},
    {{0x1f8c0, 0x1f8c1}, S},  {{0x1fa75, 0x1fa77}, S},  {{0x1fa87, 0x1fa89}, S},  {{0x1fa8f, 0x1fa8f}, S},
    {{0x1faad, 0x1faaf}, S},  {{0x1fabb, 0x1fabf}, S},  {{0x1fac6, 0x1fac6}, S},  {{0x1face, 0x1facf}, S},
    {{0x1fada, 0x1fadc}, S},  {{0x1fadf, 0x1fadf}, S},  {{0x1fae8, 0x1fae9}, S},  {{0x1faf7, 0x1faf8}, S},
    {{0x1fbcb, 0x1fbef}, S},  {{0x2b739, 0x2b739}, LO}, {{0x2ebf0, 0x2ee5d}, LO}, {{0x31350, 0x323af}, LO}};

/* Older characters of each category: three bytes long, four bytes long. */
static const char *const stand_ins[CATEGORY_COUNT][2] = {
    [CF] = {"\u200b", "\U000e0001"}, [LU] = {"\u1e00", "\U00010400"}, [LL] = {"\u1e01", "\U00010428"},
    [LT] = {"\u1f88", NULL},         [LM] = {"\u1d2c", "\U00016b40"}, [LO] = {"\u0e01", "\U00010000"},
    [M] = {"\u0e31", "\U0001d165"},  [ND] = {"\u0e50", "\U000104a0"}, [N] = {"\u2160", "\U00010107"},
    [P] = {"\u2020", "\U00010100"},  [S] = {"\u2200", "\U0001d100"},
};

static int find_late(uint32_t c) {
    return c < late[0].range.first ? -1 : find_range(late, sizeof late / sizeof *late, sizeof *late, c);
}

int steer_unicode_is_late(uint32_t c) { return find_late(c) >= 0; }

int steer_unicode_stand_ins(steer_bytes *out, const char *text, size_t size) {
    STEER_TRY(steer_bytes_add(out, text, size));
    char *at = out->data + out->size - size, *end = out->data + out->size;
    while (at < end) {
        size_t step = steer_utf8_size(*at);
        int i = step < 3 ? -1 : find_late(steer_utf8_get(at));
        if (i >= 0) memcpy(at, stand_ins[late[i].category][step - 3], step);
        at += step;
    }
    return STEER_OK;
}

int steer_unicode_is_word(uint32_t c) {
    if (c < 0x80)
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    if (c == 0x200c || c == 0x200d) return 1;
    int i = find_late(c);
    if (i >= 0) return late[i].category >= LU && late[i].category <= ND;
    switch (utf8proc_category((int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return 1;
    default: /* letters in circles and squares are Alphabetic symbols */
        return (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
               (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
    }
}
