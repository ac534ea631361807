/* test_tokenizer.c: tokenizers: what files are refused, bad text, long words, streams, threads. */
#include "check.h"

#include "steer_model.h"

#include <pthread.h>
#include <unistd.h>

static char path[] = "/tmp/steer_tokenizer_XXXXXX";

static void write_file(const char *text) {
    FILE *file = fopen(path, "wb");
    CHECK(file && fputs(text, file) >= 0);
    if (file) fclose(file);
}

static steer_tokenizer *open_text(const char *text) {
    steer_tokenizer *tokenizer = NULL;
    write_file(text);
    CHECK_OK(steer_tokenizer_open(&tokenizer, path));
    return tokenizer;
}

/* ---- Files that are refused ------------------------------------------------------------------------------------ */

#define BPE(more)                                                                                            \
    "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]" more  \
    "}"
#define SPLIT(regex)                                                                                         \
    "\"pre_tokenizer\": {\"type\": \"Split\", \"behavior\": \"Isolated\", \"pattern\": {\"Regex\": \"" regex \
    "\"}}"
#define ADDED(fields) "{" BPE("") ", \"added_tokens\": [{" fields "}]}"

static void test_refused(void) {
    static const struct {
        const char *text;
        int code;
        const char *message;
    } cases[] = {
        {"", STEER_E_FORMAT, "not JSON"},
        {"[]", STEER_E_FORMAT, "the file: is an array, expected an object"},
        {"{}", STEER_E_FORMAT, "model: is missing, expected an object"},
        {"{" BPE("") ", \"colour\": 1}", STEER_E_UNSUPPORTED, "unknown field \"colour\""},
        {"{" BPE(", \"speed\": 1") "}", STEER_E_UNSUPPORTED, "model: unknown field \"speed\""},
        {"{" BPE(", \"dropout\": 0.1") "}", STEER_E_UNSUPPORTED, "model.dropout: expected null"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {}}}", STEER_E_UNSUPPORTED, "type WordPiece"},
        {"{\"model\": {\"vocab\": {}}}", STEER_E_FORMAT, "model.type: is missing"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}", STEER_E_FORMAT,
         "model.vocab: \"b\": id 0 belongs to \"a\""},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}", STEER_E_FORMAT,
         "expected an id"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": \"x\"}, \"merges\": []}}", STEER_E_FORMAT,
         "is a string"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 2000000000}, \"merges\": []}}", STEER_E_FORMAT,
         "fewer gaps"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a q\"]}}", STEER_E_FORMAT,
         "model.merges[0]: \"q\" is not in the vocabulary"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a a\"]}}", STEER_E_FORMAT,
         "model.merges[0]: \"aa\" is not in the vocabulary"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"aa\"]}}", STEER_E_FORMAT,
         "one space"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [[\"a\"]]}}", STEER_E_FORMAT,
         "one space"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}}", STEER_E_FORMAT,
         "model.merges: is missing"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", STEER_E_FORMAT, "model.vocab: is empty"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", NaN]]}}", STEER_E_FORMAT,
         "score is not finite"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 0], [\"a\", 1]]}}", STEER_E_FORMAT,
         "has the ids 0 and 1"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 0]], \"unk_id\": 1}}", STEER_E_FORMAT,
         "unk_id: is 1"},
        {ADDED("\"content\": \"x\""), STEER_E_FORMAT, "added_tokens[0].id: is missing"},
        {ADDED("\"id\": 1.5, \"content\": \"x\""), STEER_E_FORMAT, "added_tokens[0].id: is another number"},
        {ADDED("\"id\": 2, \"content\": \"x\""), STEER_E_FORMAT, "id 2 belongs to \"ab\""},
        {ADDED("\"id\": 3, \"content\": \"ab\""), STEER_E_FORMAT,
         "has the id 3 here and 2 in the vocabulary"},
        {ADDED("\"id\": 3, \"content\": \"\""), STEER_E_FORMAT, "content: is empty"},
        {ADDED("\"id\": 3, \"content\": \"x\", \"special\": 1"), STEER_E_FORMAT, "expected true or false"},
        {"{" BPE("") ", \"normalizer\": {\"type\": \"Precompiled\"}}", STEER_E_UNSUPPORTED,
         "normalizer: the type Precompiled"},
        {"{" BPE("") ", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Nmt\"}]}}",
         STEER_E_UNSUPPORTED, "normalizer.normalizers[0]: the type Nmt"},
        {"{" BPE("") ", \"decoder\": {\"type\": \"CTC\"}}", STEER_E_UNSUPPORTED, "decoder: the type CTC"},
        {"{" BPE("") ", \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": "
                     "[{\"SpecialToken\": {\"id\": \"x\"}}]}}",
         STEER_E_FORMAT, "special_tokens: has no \"x\""},
        {"{" BPE("") ", \"post_processor\": {\"type\": \"RobertaProcessing\", \"cls\": [\"a\", 9], \"sep\": "
                     "[\"a\", 0]}}",
         STEER_E_FORMAT, "post_processor.cls: no token has the id 9"},
        {"{" BPE("") ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"x\"}, "
                     "\"behavior\": \"No\"}}",
         STEER_E_FORMAT, "behavior: expected Isolated"},
        {"{" BPE("") ", " SPLIT("(") "}", STEER_E_UNSUPPORTED, "pre_tokenizer.pattern: the expression"},
        {"{" BPE("") ", " SPLIT("[a&&b]") "}", STEER_E_UNSUPPORTED, "&& within a class"},
        {"{" BPE("") ", " SPLIT("\\\\p{Klingon}") "}", STEER_E_UNSUPPORTED, "cannot be read"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        steer_tokenizer *tokenizer = NULL;
        write_file(cases[i].text);
        CHECK_FAILS(steer_tokenizer_open(&tokenizer, path), cases[i].code, cases[i].message);
        CHECK(!tokenizer && (strstr(steer_error_message(), path) || !*cases[i].text));
    }
    steer_tokenizer *tokenizer = NULL;
    CHECK_FAILS(steer_tokenizer_open(&tokenizer, "/nonexistent"), STEER_E_NOT_FOUND, "/nonexistent");
    CHECK_FAILS(steer_tokenizer_open(&tokenizer, "/tmp"), STEER_E_NOT_FOUND, "/tmp/tokenizer.json");
    CHECK_FAILS(steer_tokenizer_open(&tokenizer, NULL), STEER_E_INVALID_ARGUMENT, "path");
}

/* ---- Texts ------------------------------------------------------------------------------------------------------ */

static int64_t encode(steer_tokenizer *tokenizer, const char *text, int32_t *ids, int64_t room) {
    int64_t count = -1;
    CHECK_OK(steer_tokenizer_encode(&count, tokenizer, text, strlen(text), 0, ids, room));
    return count;
}

static void test_texts(void) {
    steer_tokenizer *t =
        open_text("{" BPE("") ", \"added_tokens\": [{\"id\": 9, \"content\": \"<x>\", \"special\": true}]}");
    int32_t ids[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
    int64_t count;
    size_t size = 9;
    char text[8];
    const char *piece;
    CHECK(steer_tokenizer_vocab(t) == 10);
    CHECK(encode(t, "", ids, 8) == 0);
    CHECK(encode(t, "aab<x>", ids, 2) == 3 && ids[0] == 0 && ids[1] == 2 && ids[2] == -1);
    CHECK(encode(t, "aab<x>", NULL, 0) == 3);
    CHECK(encode(t, "q?", ids, 8) == 0); /* no unk_token: what is unknown is left out */
    CHECK_FAILS(steer_tokenizer_encode(&count, t, "ab\xc3(", 4, 0, ids, 8), STEER_E_FORMAT,
                "byte 2 (0xC3) is not UTF-8");
    CHECK_FAILS(steer_tokenizer_encode(&count, t, "abcdefgh\xed\xa0\x80", 11, 0, ids, 8), STEER_E_FORMAT,
                "byte 8");
    CHECK_FAILS(steer_tokenizer_encode(&count, t, NULL, 1, 0, ids, 8), STEER_E_INVALID_ARGUMENT, "text");
    CHECK_FAILS(steer_tokenizer_encode(&count, t, "a", 1, 0, ids, -1), STEER_E_INVALID_ARGUMENT, "room");
    ids[0] = 2, ids[1] = 5, ids[2] = 9; /* 5 is unused */
    CHECK_OK(steer_tokenizer_decode(&size, t, ids, 3, 0, text, 4));
    CHECK(size == 6 && memcmp(text, "ab <", 4) == 0);
    CHECK_OK(steer_tokenizer_decode(&size, t, ids, 3, 1, NULL, 0));
    CHECK(size == 2);
    CHECK_OK(steer_tokenizer_decode(&size, t, NULL, 0, 0, NULL, 0));
    CHECK(size == 0);
    ids[1] = 10;
    CHECK_FAILS(steer_tokenizer_decode(&size, t, ids, 3, 0, text, 4), STEER_E_INVALID_ARGUMENT,
                "ids[1]: 10, expected 0 to 9");
    CHECK_OK(steer_tokenizer_token(&piece, &size, t, 9));
    CHECK(size == 3 && memcmp(piece, "<x>", 3) == 0 && steer_tokenizer_id(t, "<x>", 3) == 9);
    CHECK_OK(steer_tokenizer_token(&piece, &size, t, 5));
    CHECK(!piece && size == 0);
    CHECK_FAILS(steer_tokenizer_token(&piece, &size, t, -1), STEER_E_INVALID_ARGUMENT, "id: -1");
    CHECK(steer_tokenizer_id(t, "abc", 3) == -1 && steer_tokenizer_is_special(t, 9) &&
          !steer_tokenizer_is_special(t, 0));
    CHECK(steer_tokenizer_named(t, "bos") == -1 && steer_tokenizer_named(t, "x") == -1);
    steer_tokenizer_release(t);
}

/* Words of any length take time that grows with it, not with its square: 2 MB of them end before the test's time. */
static void test_long_words(void) {
    steer_tokenizer *t =
        open_text("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"aa\": 2, \"aaaa\": 3}, "
                  "\"merges\": [\"a a\", \"aa aa\"]}}");
    enum { SIZE = 2000003 };
    char *text = malloc(SIZE);
    int64_t count = 0;
    memset(text, 'a', SIZE);
    int32_t *ids = malloc(SIZE * sizeof *ids);
    CHECK_OK(steer_tokenizer_encode(&count, t, text, SIZE, 0, ids, SIZE));
    CHECK(count == SIZE / 4 + 2 && ids[0] == 3 && ids[count - 2] == 2 && ids[count - 1] == 0);
    for (int i = 0; i < 200; i++) { /* the scan and the heap agree */
        int64_t whole;
        int size = 20 + i % 30;
        for (int j = 0; j < size; j++) text[j] = "aaab"[(unsigned)(i * 7 + j * j * 13) % 4];
        CHECK_OK(steer_tokenizer_encode(&whole, t, text, (size_t)size, 0, ids, SIZE));
        int64_t at = 0;
        for (int j = 0; j < size;) { /* the longest merges of each run of a, from the left */
            int run = 0;
            while (j + run < size && text[j + run] == 'a') run++;
            for (int part = 4, left = run, id = 3; part >= 1; part /= 2, id = id == 3 ? 2 : 0)
                for (; left >= part; left -= part) CHECK(ids[at++] == id);
            j += run;
            if (j < size) {
                CHECK(ids[at++] == 1);
                j++;
            }
        }
        CHECK(at == whole);
    }
    free(text);
    free(ids);
    steer_tokenizer_release(t);
}

static void test_steps(void) {
    steer_tokenizer *t = open_text("{" BPE("") ", " SPLIT("(a+)+[bc]") "}");
    char text[5001];
    int64_t count;
    memset(text, 'a', 5000);
    CHECK_FAILS(steer_tokenizer_encode(&count, t, text, 5000, 0, NULL, 0), STEER_E_UNSUPPORTED,
                "too many steps");
    CHECK_OK(steer_tokenizer_encode(&count, t, "aab", 3, 0, NULL, 0));
    steer_tokenizer_release(t);
}

/* ---- Streams and threads ---------------------------------------------------------------------------------------- */

/* The text that a push gives. */
static const char *push(steer_text_stream *stream, int32_t id) {
    static char copy[64];
    const char *text;
    size_t size = 0;
    CHECK_OK(id < 0 ? steer_text_stream_finish(&text, &size, stream)
                    : steer_text_stream_push(&text, &size, stream, id));
    memcpy(copy, text, size);
    copy[size] = 0;
    return copy;
}

static void test_streams(void) {
    /* byte-level: the letters of the bytes f0 9f 98 80, an emoji */
    steer_tokenizer *t = open_text(
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"\xc3\xb0\": 0, \"\xc5\x81\": 1, \"\xc4\xba\": 2, "
        "\"\xc4\xa2\": 3, \"a\": 4}, \"merges\": []}, \"decoder\": {\"type\": \"ByteLevel\"}}");
    steer_text_stream *stream = NULL;
    CHECK_OK(steer_text_stream_create(&stream, t, 0));
    steer_tokenizer_release(t); /* the stream keeps it */
    CHECK(!*push(stream, 0) && !*push(stream, 1) && !*push(stream, 2));
    CHECK(strcmp(push(stream, 3), "\xf0\x9f\x98\x80") == 0 && strcmp(push(stream, 4), "a") == 0 &&
          !*push(stream, -1));
    CHECK(!*push(stream, 0) && strcmp(push(stream, 4), "\xef\xbf\xbd"
                                                       "a") == 0);
    CHECK(!*push(stream, 0) && strcmp(push(stream, -1), "\xef\xbf\xbd") == 0);
    const char *text;
    size_t size;
    CHECK_FAILS(steer_text_stream_push(&text, &size, stream, 5), STEER_E_INVALID_ARGUMENT,
                "5, expected 0 to 4");
    steer_text_stream_release(stream);
    /* byte tokens: a run of them is certain once it ends */
    t = open_text("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"<0xC3>\": 0, \"<0xA9>\": 1, \"a\": 2}, "
                  "\"merges\": []}, "
                  "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"ByteFallback\"}, "
                  "{\"type\": \"Fuse\"}, "
                  "{\"type\": \"Strip\", \"content\": \"a\", \"start\": 1, \"stop\": 0}]}}");
    CHECK_OK(steer_text_stream_create(&stream, t, 0));
    CHECK(!*push(stream, 2) && !*push(stream, 0) && !*push(stream, 1) &&
          strcmp(push(stream, 2), "\xc3\xa9"
                                  "a") == 0);
    CHECK(!*push(stream, 0) && strcmp(push(stream, -1), "\xef\xbf\xbd") == 0);
    steer_text_stream_release(stream);
    steer_tokenizer_release(t);
}

typedef struct work {
    steer_tokenizer *tokenizer;
    int64_t sum;
} work;

static void *encode_often(void *argument) {
    work *w = argument;
    int32_t ids[64];
    for (int i = 0; i < 2000; i++) {
        char text[64];
        int64_t count = 0;
        snprintf(text, sizeof text, "The number %d, and the \xc3\xa9t\xc3\xa9 of %d", i * 37, i);
        CHECK_OK(steer_tokenizer_encode(&count, w->tokenizer, text, strlen(text), 0, ids, 64));
        for (int64_t j = 0; j < count && j < 64; j++)
            w->sum = (int64_t)((uint64_t)w->sum * 31 + (uint64_t)ids[j]);
    }
    return NULL;
}

static void test_threads(void) {
    work works[4] = {{0}};
    pthread_t threads[4];
    CHECK_OK(steer_tokenizer_open(&works[0].tokenizer, "tests/fixtures/text/synthetic/bl-qwen-nfc"));
    for (int i = 0; i < 4; i++) {
        works[i].tokenizer = works[0].tokenizer;
        CHECK(pthread_create(&threads[i], NULL, encode_often, &works[i]) == 0);
    }
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK(works[0].sum != 0 && works[1].sum == works[0].sum && works[2].sum == works[0].sum &&
          works[3].sum == works[0].sum);
    steer_tokenizer_release(works[0].tokenizer);
}

int main(void) {
    int file = mkstemp(path);
    CHECK(file >= 0);
    close(file);
    test_refused();
    test_texts();
    test_long_words();
    test_steps();
    test_streams();
    test_threads();
    unlink(path);
    return check_result();
}
