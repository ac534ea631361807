/* test_text.c: the classes of every character, expressions of another syntax, normal forms. */
#include "check.h"

#include "core/file.h"
#include "core/json.h"
#include "core/status.h"
#include "text/pattern.h"
#include "text/unicode.h"
#include "text/utf8.h"

static int matches(const steer_pattern *pattern, steer_matcher *matcher, steer_bytes *spare, uint32_t c) {
    char text[4];
    size_t size = steer_utf8_put(text, c);
    spare->size = 0;
    if (steer_unicode_stand_ins(spare, text, size) != STEER_OK) return -1;
    steer_find find = steer_find_begin(pattern, matcher, spare->data, size);
    return steer_find_next(&find) == STEER_OK ? find.found : -1;
}

/* Every class of the engine that the patterns were written for, for every character. */
static void test_classes(void) {
    steer_map *map = NULL;
    steer_json_tree tree = {0};
    steer_matcher *matcher = NULL;
    steer_bytes spare = {0};
    CHECK_OK(steer_map_file(&map, "tests/fixtures/text/unicode/classes.json"));
    CHECK_OK(steer_json_parse(&tree, (const char *)map->data, (size_t)map->size, "classes.json"));
    CHECK_OK(steer_matcher_create(&matcher));
    int classes = 0;
    for (const steer_json *class = tree.root->first; class; class = class->next, classes++) {
        steer_pattern *pattern = NULL;
        CHECK_OK(steer_pattern_regex(&pattern, class->key, class->key_size));
        const steer_json *range = class->first;
        int wrong = 0;
        for (uint32_t c = 1; c < 0x110000; c++) {
            if (c == 0xd800) c = 0xe000;
            while (range && range->first->next->number < c) range = range->next;
            int expected = range && range->first->number <= c;
            if (matches(pattern, matcher, &spare, c) == expected) continue;
            if (!wrong++) fprintf(stderr, "%.*s: U+%04X\n", (int)class->key_size, class->key, c);
        }
        CHECK(wrong == 0);
        steer_pattern_free(pattern);
    }
    CHECK(classes >= 13);
    steer_bytes_free(&spare);
    steer_matcher_free(matcher);
    steer_json_free(&tree);
    steer_map_drop(map);
}

/* Expressions that the two syntaxes read differently; the match of each in a text. */
static void test_expressions(void) {
    static const char *const cases[][3] = {
        {"a{2}+", "aaaaa", "aaaa"}, /* a repeated interval, not a possessive one */
        {"a{,2}", "aaa", "aa"},
        {"x{2}?y", "y", "y"},
        {"(ab){1,2}+c", "abababc", "abababc"},
        {"^b$", "a\nb\nc", "b"},
        {"(?m:a.c)", "a\nc", "a\nc"},
        {"(?i:'s)", "'\xc5\xbf", "'\xc5\xbf"},
        {"\\h+", "xyz0aF", "0aF"},
        {"\\v", "\n\v", "\v"},
        {"\\u00e9", "e\xc3\xa9", "\xc3\xa9"},
        {"\\bfoo\\b", "afoo foo", "foo"},
        {"[\\w]+", "-\xe2\x92\xb6-", "\xe2\x92\xb6"},
        {"\\p{Han}", "\xe3\x80\x81\xe4\xb8\x80", "\xe4\xb8\x80"},
        {"\\p{^L}", "ab1", "1"},
        {"[^\\s]", "\xe1\xa0\x8e", "\xe1\xa0\x8e"},
        {"\\x{62}|c", "abc", "b"},
    };
    static const char *const refused[] = {"[[a]]", "[a&&b]", "(?<n>a)", "a(?i)b", "\\Qa\\E", "(?x:a)",
                                          "\\pL",  "a{x}",   "(",       ")",      "[a",      "\\"};
    steer_matcher *matcher = NULL;
    CHECK_OK(steer_matcher_create(&matcher));
    steer_bytes subject = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        steer_pattern *pattern = NULL;
        CHECK_OK(steer_pattern_regex(&pattern, cases[i][0], strlen(cases[i][0])));
        if (!pattern) continue;
        subject.size = 0;
        CHECK_OK(steer_unicode_stand_ins(&subject, cases[i][1], strlen(cases[i][1])));
        steer_find find = steer_find_begin(pattern, matcher, subject.data, subject.size);
        CHECK_OK(steer_find_next(&find));
        int found = find.found && find.end - find.start == strlen(cases[i][2]) &&
                    memcmp(cases[i][1] + find.start, cases[i][2], find.end - find.start) == 0;
        if (!found) fprintf(stderr, "%s in \"%s\"\n", cases[i][0], cases[i][1]);
        CHECK(found);
        steer_pattern_free(pattern);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        steer_pattern *pattern = NULL;
        CHECK_FAILS(steer_pattern_regex(&pattern, refused[i], strlen(refused[i])), STEER_E_UNSUPPORTED,
                    "the expression");
    }
    steer_bytes_free(&subject);
    steer_matcher_free(matcher);
}

/* A long run of marks is ordered in time that grows with it, and stably. */
static void test_marks(void) {
    enum { PAIRS = 300000 };
    steer_bytes text = {0}, out = {0};
    CHECK_OK(steer_bytes_reserve(&text, 1 + 4 * PAIRS));
    text.data[text.size++] = 'e';
    for (int i = 0; i < PAIRS; i++, text.size += 4)
        memcpy(text.data + text.size, "\xcc\x81\xcc\xa3", 4); /* class 230, class 220 */
    CHECK_OK(steer_unicode_normalize(&out, text.data, text.size, STEER_NFC));
    CHECK(out.size == text.size && memcmp(out.data, "\xe1\xba\xb9\xcc\xa3", 5) == 0);
    CHECK(out.size > 2 && memcmp(out.data + out.size - 2, "\xcc\x81", 2) == 0);
    steer_bytes_free(&text);
    steer_bytes_free(&out);
}

int main(void) {
    steer_enter("tokenizer_open");
    test_classes();
    test_expressions();
    test_marks();
    return check_result();
}
