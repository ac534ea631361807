/* test_gguf.c: GGUF headers: metadata of every type, tensors' places, and what is refused. */
#include "files.h"

#include "core/status.h"
#include "file/weights.h"

/* ---- A file in the making ------------------------------------------------------------------------------------- */

static struct {
    uint8_t bytes[1 << 16];
    size_t size;
} made;

static void put(const void *data, size_t size) {
    CHECK(made.size + size <= sizeof made.bytes);
    memcpy(made.bytes + made.size, data, size);
    made.size += size;
}
static void put_int(uint64_t value, size_t bytes) { put(&value, bytes); }
static void put_text(const char *text) {
    put_int(strlen(text), 8);
    put(text, strlen(text));
}
static void begin(uint32_t version, uint64_t tensors, uint64_t values) {
    made.size = 0;
    put("GGUF", 4);
    put_int(version, 4);
    put_int(tensors, 8);
    put_int(values, 8);
}
static void put_key(const char *key, uint32_t type) {
    put_text(key);
    put_int(type, 4);
}
static void put_tensor(const char *name, uint64_t length, uint32_t type, uint64_t offset) {
    put_text(name);
    put_int(1, 4);
    put_int(length, 8);
    put_int(type, 4);
    put_int(offset, 8);
}
static void put_data(size_t size) {
    while (made.size % 32) put_int(0, 1);
    for (size_t i = 0; i < size; i++) put_int(i, 1);
}

static int opens(void) {
    steer_weights *weights = NULL;
    steer_enter("test");
    const int status = steer_weights_open(&weights, files_put("x.gguf", made.bytes, made.size));
    steer_weights_close(weights);
    return status;
}

/* ---- Tests ------------------------------------------------------------------------------------------------------ */

/* What the Python package gguf wrote. */
static void test_values(void) {
    steer_weights *weights = NULL;
    CHECK_OK(steer_weights_open(&weights, "tests/fixtures/files/blocks.gguf"));
    if (!weights) return;
    const steer_gguf *gguf = weights->gguf;
    int64_t integer = 0;
    double number = 0;
    steer_gguf_text text;
    CHECK(steer_gguf_integer(gguf, "llama.block_count", &integer) && integer == 3);
    CHECK(steer_gguf_integer(gguf, "big", &integer) && integer == 1LL << 40);
    CHECK(steer_gguf_integer(gguf, "small", &integer) && integer == -5);
    CHECK(steer_gguf_integer(gguf, "flag", &integer) && integer == 1);
    CHECK(steer_gguf_number(gguf, "llama.rope.freq_base", &number) && number == 10000);
    CHECK(steer_gguf_number(gguf, "double", &number) && number == 0.1);
    CHECK(!steer_gguf_integer(gguf, "double", &integer) && !steer_gguf_number(gguf, "text", &number));
    CHECK(steer_gguf_string(gguf, "general.architecture", &text) && steer_gguf_is(text, "llama"));
    CHECK(steer_gguf_string(gguf, "text", &text) && steer_gguf_is(text, "a\"b"));
    CHECK(!steer_gguf_string(gguf, "big", &text) && !steer_gguf_string(gguf, "none", &text));
    const steer_gguf_value *tokens = steer_gguf_get(gguf, "tokenizer.ggml.tokens");
    CHECK(tokens && tokens->element == STEER_GGUF_STRING && tokens->count == 3);
    CHECK(tokens && steer_gguf_is(tokens->texts[1], "\xc3\xa9") && tokens->texts[2].size == 0);
    const steer_gguf_value *scores = steer_gguf_get(gguf, "tokenizer.ggml.scores");
    CHECK(scores && scores->count == 3 && steer_gguf_element(scores, 1) == -1);
    const steer_gguf_value *list = steer_gguf_get(gguf, "list");
    CHECK(list && list->count == 3 && steer_gguf_element(list, 1) == -2);
    CHECK(!steer_gguf_get(gguf, "none"));
    steer_weights_close(weights);
}

static void test_accepted(void) {
    for (uint32_t version = 2; version <= 3; version++) {
        begin(version, 2, 2);
        put_key("nested", STEER_GGUF_ARRAY);
        put_int(STEER_GGUF_ARRAY, 4), put_int(2, 8);
        put_int(STEER_GGUF_STRING, 4), put_int(1, 8), put_text("s");
        put_int(STEER_GGUF_U16, 4), put_int(2, 8), put_int(0, 4);
        put_key("general.alignment", STEER_GGUF_U32), put_int(32, 4);
        put_tensor("b", 8, 0, 32);
        put_tensor("a", 32, 20 /* IQ4_NL */, 0);
        put_data(64);
        CHECK_OK(opens());
    }
    begin(3, 2, 0);
    put_tensor("b", 8, 0, 32);
    put_tensor("a", 32, 20, 0);
    put_data(64);
    steer_weights *weights = NULL;
    CHECK_OK(steer_weights_open(&weights, files_put("y.gguf", made.bytes, made.size)));
    float out[32];
    steer_enter("test");
    CHECK(weights && steer_weights_find(weights, "b")->data[0] == 32);
    CHECK_FAILS(steer_weight_read_f32(steer_weights_find(weights, "a"), 0, 32, out), STEER_E_UNSUPPORTED,
                "tensor a: dtype IQ4_NL, expected F32");
    steer_weights_close(weights);
}

static void test_refused_headers(void) {
    begin(9, 0, 0);
    CHECK_FAILS(opens(), STEER_E_UNSUPPORTED, "GGUF version 9");
    begin(3u << 24, 0, 0);
    CHECK_FAILS(opens(), STEER_E_UNSUPPORTED, "big-endian");
    begin(3, 1u << 20, 0);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "1048576 tensors and 0 values do not fit");
    begin(3, 0, UINT64_MAX);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "do not fit");
    begin(3, 0, 0);
    for (made.size = 4; made.size < 24; made.size++) CHECK_FAILS(opens(), STEER_E_FORMAT, "cut short");
    begin(3, 0, 1);
    put_int(1ull << 60, 8), put_int(0, 8);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "cut short: a key at byte 32");
    begin(3, 0, 1);
    put_key("k\n", 13), put_int(0, 8);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "metadata \"k\\10\": a type that is not known");
    begin(3, 0, 1);
    put_key("k", STEER_GGUF_BOOL), put_int(2, 1);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "metadata \"k\": a bool that is not 0 or 1");
    begin(3, 0, 1);
    put_key("k", STEER_GGUF_ARRAY), put_int(STEER_GGUF_U8, 4), put_int(1ull << 61, 8);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "an array");
    begin(3, 0, 1);
    put_key("k", STEER_GGUF_ARRAY);
    for (int i = 0; i < 20; i++) put_int(STEER_GGUF_ARRAY, 4), put_int(1, 8);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "nested too deep");
    begin(3, 0, 2);
    for (int i = 0; i < 2; i++) put_key("k", STEER_GGUF_BOOL), put_int(1, 1);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "metadata \"k\": it is there twice");
    begin(3, 0, 1);
    put_key("general.alignment", STEER_GGUF_U32), put_int(3, 4);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "general.alignment: expected a power of two");
    begin(3, 0, 1);
    put_key("split.count", STEER_GGUF_U16), put_int(2, 2);
    CHECK_FAILS(opens(), STEER_E_UNSUPPORTED, "split.count: it is one of 2 parts");
}

static void test_refused_tensors(void) {
    static const struct {
        uint64_t length, offset;
        uint32_t type;
        int code;
        const char *text;
    } cases[] = {
        {8, 0, 77, STEER_E_UNSUPPORTED, "tensor \"t\": ggml type 77 is not known"},
        {8, 0, UINT32_MAX, STEER_E_UNSUPPORTED, "is not known"},
        {17, 0, 0, STEER_E_FORMAT, "its 68 bytes at offset 64 reach past the end of the file at 128"},
        {16, 1ull << 40, 0, STEER_E_FORMAT, "an offset outside of the file"},
        {16, 32, 0, STEER_E_FORMAT, "reach past the end"},
        {8, 4, 0, STEER_E_FORMAT, "an offset that is not aligned: 4"},
        {1ull << 62, 0, 0, STEER_E_FORMAT, "a dimension that is too large: 4611686018427387904"},
        {33, 0, 8, STEER_E_FORMAT, "rows of 33 elements, Q8_0 has blocks of 32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin(3, 1, 0);
        put_tensor("t", cases[i].length, cases[i].type, cases[i].offset);
        put_data(64);
        CHECK_FAILS(opens(), cases[i].code, cases[i].text);
    }
    begin(3, 1, 0);
    put_text("t"), put_int(5, 4), put_int(0, 8), put_int(0, 8), put_int(0, 8);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "tensor \"t\": more than 4 dimensions: 5");
    begin(3, 1, 0);
    put_text("t"), put_int(0, 4), put_int(8, 4), put_int(0, 8); /* a scalar of blocks */
    put_data(64);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "rows of 1 elements, Q8_0");
    begin(3, 1, 0);
    put_text("t"), put_int(4, 4);
    for (int i = 0; i < 4; i++) put_int(INT32_MAX, 8);
    put_int(0, 4), put_int(0, 8);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "is too large");
    begin(3, 2, 0);
    put_tensor("s", 16, 0, 0), put_tensor("t", 4, 0, 32);
    put_data(64);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "tensor \"t\": its data overlap those of \"s\"");
    begin(3, 2, 0);
    put_tensor("t", 8, 0, 0), put_tensor("t", 8, 0, 32);
    put_data(64);
    CHECK_FAILS(opens(), STEER_E_FORMAT, "tensor \"t\": it is there twice");
}

int main(void) {
    files_begin();
    test_values();
    test_accepted();
    test_refused_headers();
    test_refused_tensors();
    files_end();
    return check_result();
}
