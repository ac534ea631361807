/* test_json.c: the JSON reader: values, text, numbers, and what it refuses. */
#include "check.h"

#include "core/json.h"
#include "core/status.h"

static steer_json_tree parse(const char *text) {
    steer_json_tree tree = {0};
    CHECK(steer_json_parse(&tree, text, strlen(text), "x.json") == STEER_OK);
    return tree;
}

static void test_values(void) {
    steer_json_tree tree = parse(
        " {\"a\": [1, -2.5e3, 0.1, true, false, null], \"b\": {\"c\": \"d\"}, \"\": 9007199254740991} ");
    const steer_json *a = steer_json_get(tree.root, "a");
    CHECK(tree.root->count == 3 && a && a->count == 6);
    const steer_json *v = a->first;
    CHECK(v->number == 1 && v->size == 1 && v->spell[0] == '1');
    v = v->next;
    CHECK(v->number == -2500);
    v = v->next;
    CHECK(v->number == 0.1);
    v = v->next;
    CHECK(v->type == STEER_JSON_TRUE && v->next->type == STEER_JSON_FALSE &&
          v->next->next->type == STEER_JSON_NULL);
    CHECK(steer_json_is_text(steer_json_get(steer_json_get(tree.root, "b"), "c"), "d"));
    int64_t integer = 0;
    CHECK(steer_json_integer(steer_json_get(tree.root, ""), &integer) && integer == 9007199254740991);
    CHECK(!steer_json_integer(a->first->next->next, &integer) && !steer_json_integer(a, &integer));
    CHECK(!steer_json_get(a, "a") && !steer_json_get(NULL, "a") && !steer_json_get(tree.root, "ab"));
    steer_json_free(&tree);
    CHECK(!tree.root && !tree.chunks);
}

static void test_text(void) {
    static const char *const cases[][2] = {
        {"\"a\\n\\t\\\"\\\\\\/\\b\\f\\r\"", "a\n\t\"\\/\b\f\r"},
        {"\"\\u00e9\\u20ac\"", "\xc3\xa9\xe2\x82\xac"},
        {"\"\\ud83d\\ude00x\"", "\xf0\x9f\x98\x80x"},
        {"\"\\ud83dx\"", "\xef\xbf\xbdx"},
        {"\"\xc3\xa9\\u0041\"", "\xc3\xa9"
                                "A"},
        {"\"\"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        steer_json_tree tree = parse(cases[i][0]);
        CHECK(steer_json_is_text(tree.root, cases[i][1]));
        steer_json_free(&tree);
    }
    steer_json_tree tree = parse("\"a\\u0000b\"");
    CHECK(tree.root->size == 3 && memcmp(tree.root->text, "a\0b", 3) == 0);
    steer_json_free(&tree);
}

static void test_refused(void) {
    static const char *const cases[][2] = {
        {"", "ends where"},
        {"{\"a\":1,}", "key in quotes"},
        {"[1,]", "expected a value"},
        {"[1 2]", "expected , or ]"},
        {"{\"a\" 1}", "expected :"},
        {"\"a", "closing quote"},
        {"\"\\x\"", "escape"},
        {"\"\\u12g4\"", "hexadecimal"},
        {"\"a\nb\"", "control character"},
        {"\"\xff\"", "UTF-8"},
        {"\"\xed\xa0\x80\"", "UTF-8"},
        {"01", "expected a value"},
        {"1.", "after its point"},
        {"1e", "exponent"},
        {"nul", "expected a value"},
        {"[", "it ends"},
        {"{\"a\":1,\"a\":2}", "twice"},
        {"1 2", "follows"},
        {"\n\n[,", "line 3"},
        {"\"\\", "closing quote"},
        {"\"\\u00\"", "hexadecimal"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        steer_json_tree tree = {0};
        CHECK_FAILS(steer_json_parse(&tree, cases[i][0], strlen(cases[i][0]), "x.json"), STEER_E_FORMAT,
                    cases[i][1]);
        CHECK(!tree.root && !tree.chunks);
    }
    char deep[600];
    memset(deep, '[', sizeof deep);
    steer_json_tree tree = {0};
    CHECK_FAILS(steer_json_parse(&tree, deep, sizeof deep, "x.json"), STEER_E_FORMAT, "deeply");
    char many[20 * 16 + 32] = "{", *at = many + 1;
    for (int i = 0; i < 20; i++) at += sprintf(at, "\"k%d\":%d,", i, i);
    strcpy(at, "\"k7\":0}");
    CHECK_FAILS(steer_json_parse(&tree, many, strlen(many), "x.json"), STEER_E_FORMAT, "twice");
}

int main(void) {
    steer_enter("json_parse");
    test_values();
    test_text();
    test_refused();
    return check_result();
}
