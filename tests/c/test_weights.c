/* test_weights.c: the store of weights over safetensors, shards and GGUF: values, folders, and what it refuses. */
#include "files.h"

#include "core/status.h"
#include "file/weights.h"
#include "tensor/dtype.h"

/* A safetensors file of this header and `size` bytes of data, which count up. */
static const char *put_tensors(const char *name, const char *header, size_t size) {
    static uint8_t bytes[8192];
    const uint64_t length = strlen(header);
    CHECK(8 + length + size <= sizeof bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < size; i++) bytes[8 + length + i] = (uint8_t)i;
    return files_put(name, bytes, 8 + length + size);
}

static int opens(const char *path) {
    steer_weights *weights = NULL;
    steer_enter("test");
    const int status = steer_weights_open(&weights, path);
    steer_weights_close(weights);
    return status;
}

static void test_safetensors(void) {
    steer_weights *weights = NULL;
    CHECK_OK(steer_weights_open(
        &weights, put_tensors("a.safetensors",
                              "{\"__metadata__\":{\"format\":\"pt\"},"
                              "\"x.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                              "\"e\":{\"dtype\":\"BF16\",\"shape\":[0,3],\"data_offsets\":[24,24]},"
                              "\"u\":{\"dtype\":\"F4\",\"shape\":[2,3],\"data_offsets\":[24,27]},"
                              "\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[27,35]}}",
                              35)));
    CHECK(weights->count == 4 && !weights->gguf && !steer_weights_find(weights, "x"));
    steer_weight *x = steer_weights_find(weights, "x.weight");
    CHECK(x && x->format == STEER_FORMAT_F32 && x->ndim == 2 && x->shape[0] == 2 && x->shape[1] == 3);
    CHECK(x && x->bytes == 24 && x->data[5] == 5 && !x->used && strstr(x->file, "a.safetensors"));
    const steer_weight *s = steer_weights_find(weights, "s");
    CHECK(s && s->ndim == 0 && steer_weight_numel(s) == 1 && s->data[0] == 27);
    char text[32];
    CHECK(x && strcmp(steer_weight_shape_text(text, sizeof text, x), "[2, 3]") == 0);
    CHECK(steer_weight_numel(steer_weights_find(weights, "e")) == 0);
    float out[6];
    steer_enter("test");
    CHECK_FAILS(steer_weight_read_f32(s, 0, 1, out), STEER_E_UNSUPPORTED, "tensor s: dtype I64");
    CHECK_FAILS(steer_weight_read_f32(x, 1, 6, out), STEER_E_INVALID_ARGUMENT, "elements 1 to 7 of 6");
    CHECK_FAILS(steer_weight_read_f32(x, -1, 1, out), STEER_E_INVALID_ARGUMENT, "elements -1");
    CHECK_FAILS(steer_weight_convert(steer_weights_find(weights, "u"), 0, 2, STEER_F32, out, &(int){1}),
                STEER_E_UNSUPPORTED, "dtype F4");
    CHECK_FAILS(steer_weight_convert(x, 0, 6, STEER_I32, out, &(int){1}), STEER_E_INVALID_ARGUMENT, "dtype");
    steer_weights_close(weights);
}

/* Blocks of every format, with what the Python package gguf makes of them. */
static void test_blocks(void) {
    steer_weights *blocks = NULL, *golden = NULL;
    CHECK_OK(steer_weights_open(&blocks, "tests/fixtures/files/blocks.gguf"));
    CHECK_OK(steer_weights_open(&golden, "tests/fixtures/files/blocks.safetensors"));
    if (!blocks || !golden) return;
    CHECK(blocks->count == 11 && blocks->gguf && golden->count == 11);
    for (int32_t i = 0; i < golden->count; i++) {
        const steer_weight *want = &golden->weight[i], *weight = steer_weights_find(blocks, want->name);
        float got[1024], expected[1024];
        uint16_t half[1024];
        int finite = 1, same = 1;
        CHECK(weight && weight->ndim == 2 && weight->shape[0] == 2 && weight->shape[1] == 512);
        CHECK(weight && strcmp(steer_format_table[weight->format].name, want->name) == 0);
        memcpy(expected, want->data, sizeof expected);
        CHECK_OK(steer_weight_read_f32(weight, 0, 1024, got));
        check_report(memcmp(got, expected, sizeof got) == 0, __FILE__, __LINE__, "blocks as f32", want->name);
        CHECK_OK(steer_weight_read_f32(weight, 512, 256, got));
        CHECK(memcmp(got, expected + 512, 256 * sizeof *got) == 0);
        CHECK_OK(steer_weight_convert(weight, 0, 1024, STEER_F16, half, &finite));
        for (int j = 0; j < 1024; j++) same &= half[j] == steer_f32_to_f16(expected[j]);
        CHECK_OK(steer_weight_convert(weight, 0, 1024, STEER_BF16, half, &finite));
        for (int j = 0; j < 1024; j++) same &= half[j] == steer_f32_to_bf16(expected[j]);
        CHECK(same && finite);
    }
    steer_weights_close(blocks);
    steer_weights_close(golden);
}

/* Elements of 16 bits keep their bits in their own dtype, wherever they lie; each that is not finite is seen. */
static void test_halves(void) {
    const struct {
        steer_format format;
        steer_dtype dtype;
        uint16_t exponent;
    } kinds[] = {{STEER_FORMAT_BF16, STEER_BF16, 0x7f80}, {STEER_FORMAT_F16, STEER_F16, 0x7c00}};
    enum { N = 1 << 16 };
    uint8_t *bytes = malloc(2 * N + 1);
    uint16_t *out = malloc(2 * N);
    for (int i = 0; i < N; i++) memcpy(bytes + 1 + 2 * i, &(uint16_t){(uint16_t)i}, 2);
    for (int k = 0; k < 2; k++) {
        const steer_weight weight = {
            .name = "w", .file = "f", .format = kinds[k].format, .ndim = 1, .shape = {N}, .data = bytes + 1};
        int right = 1, finite = 1;
        for (int i = 0; i < N; i += 16) { /* 16 neighbours share their exponent's bits */
            finite = 1;
            CHECK_OK(steer_weight_convert(&weight, i, 16, kinds[k].dtype, out, &finite));
            right &= finite == ((i & kinds[k].exponent) != kinds[k].exponent);
        }
        CHECK(right);
        CHECK_OK(steer_weight_convert(&weight, 0, N, kinds[k].dtype, out, &finite));
        CHECK(!finite && memcmp(out, bytes + 1, 2 * N) == 0);
    }
    free(out);
    free(bytes);
}

/* Many elements, in pieces on threads; NaN and infinity are seen. */
static void test_convert(void) {
    enum { N = 200001 };
    const char header[] = "{\"d\":{\"dtype\":\"F64\",\"shape\":[200001],\"data_offsets\":[0,1600008]}}    ";
    const size_t length = sizeof header - 1;
    char *bytes = malloc(8 + length + 8 * N);
    memcpy(bytes, &(uint64_t){length}, 8);
    memcpy(bytes + 8, header, length);
    for (int i = 0; i < N; i++) {
        const double value = i == N - 1 ? NAN : (i - 1000) * 0.1;
        memcpy(bytes + 8 + length + 8 * (size_t)i, &value, 8);
    }
    steer_weights *weights = NULL;
    CHECK_OK(steer_weights_open(&weights, files_put("d.safetensors", bytes, 8 + length + 8 * N)));
    float *out = malloc(N * sizeof *out);
    const steer_weight *d = steer_weights_find(weights, "d");
    int finite = 1, same = 1;
    CHECK_OK(steer_weight_convert(d, 0, N - 1, STEER_F32, out, &finite));
    for (int i = 0; i < N - 1; i++) same &= out[i] == (float)((i - 1000) * 0.1);
    CHECK(same && finite);
    CHECK_OK(steer_weight_convert(d, 0, N, STEER_F32, out, &finite));
    CHECK(!finite && isnan(out[N - 1]));
    free(out);
    free(bytes);
    steer_weights_close(weights);
}

#define ONE(name, from) "\"" name "\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" from "}"

static void test_refused_files(void) {
    static const struct {
        const char *header;
        size_t data;
        int code;
        const char *text;
    } cases[] = {
        {"{" ONE("a", "[0,2]") "}", 1, STEER_E_FORMAT, "tensor \"a\": it ends at byte"},
        {"{" ONE("a", "[0,2]") "}", 3, STEER_E_FORMAT, "the tensors take 2 bytes of data, the file has 3"},
        {"{" ONE("a", "[0,2]") "," ONE("b", "[1,3]") "}", 3, STEER_E_FORMAT,
         "tensor \"b\": its data overlap those of \"a\""},
        {"{" ONE("a", "[0,2]") "," ONE("b", "[3,5]") "}", 5, STEER_E_FORMAT, "take 4 bytes of data"},
        {"{" ONE("a", "[0,3]") "}", 3, STEER_E_FORMAT, "data_offsets say 3 bytes, its shape needs 2"},
        {"{" ONE("a", "[2,0]") "}", 3, STEER_E_FORMAT, "a begin and an end"},
        {"{" ONE("a", "[0,2,3]") "}", 3, STEER_E_FORMAT, "a begin and an end"},
        {"{" ONE("a\\n", "[0,9]") "}", 3, STEER_E_FORMAT, "tensor \"a\\10\""},
        {"{" ONE("a", "[0,2]") "," ONE("a", "[2,4]") "}", 4, STEER_E_FORMAT, "a key twice"},
        {"{\"a\":1}", 0, STEER_E_FORMAT, "expected an object"},
        {"{\"a\":{}}", 0, STEER_E_FORMAT, "dtype: expected a string, got missing"},
        {"{\"a\":{\"dtype\":\"F31\"}}", 0, STEER_E_FORMAT, "dtype \"F31\" is not known"},
        {"{\"a\":{\"dtype\":\"U8\"}}", 0, STEER_E_FORMAT, "shape: expected a list"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1]}}", 0, STEER_E_FORMAT, "shape: expected integers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.5]}}", 0, STEER_E_FORMAT, "shape: expected integers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[99,99]}}", 0, STEER_E_FORMAT, "cut short"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
         STEER_E_FORMAT, "shape [4294967296, 4294967296] is too large"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
         STEER_E_UNSUPPORTED, "9 dimensions, at most 8"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, STEER_E_FORMAT, "blocks of 2"},
        {"{", 0, STEER_E_FORMAT, "not JSON"},
        {"[]", 0, STEER_E_FORMAT, "not a safetensors file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = put_tensors("x.safetensors", cases[i].header, cases[i].data);
        CHECK_FAILS(opens(path), cases[i].code, cases[i].text);
        CHECK(strstr(steer_error_message(), "x.safetensors") != NULL);
    }
}

static void test_refused_contents(void) {
    static const struct {
        const char *bytes;
        size_t size;
        int code;
        const char *text;
    } cases[] = {
        {"", 0, STEER_E_FORMAT, "the file is empty"},
        {"abc", 3, STEER_E_FORMAT, "too few for a safetensors file"},
        {"\377\377\377\377\377\377\377\377{", 9, STEER_E_FORMAT, "not a safetensors file"},
        {"\11\0\0\0\0\0\0\0{", 9, STEER_E_FORMAT, "a header of 9 bytes, the file has 9: it is cut short"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", 63, STEER_E_FORMAT,
         "is a Git LFS pointer"},
        {"\n <!DOCTYPE html><html>", 23, STEER_E_FORMAT, "is a web page"},
        {"<HTML><body>", 12, STEER_E_FORMAT, "is a web page"},
        {"PK\3\4aaaaaaaaaa", 14, STEER_E_UNSUPPORTED, "looks like a pickle"},
        {"\x80\2}q\0.", 6, STEER_E_UNSUPPORTED, "looks like a pickle"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = files_put("x.safetensors", cases[i].bytes, cases[i].size);
        CHECK_FAILS(opens(path), cases[i].code, cases[i].text);
    }
    CHECK_FAILS(opens(files_path("none")), STEER_E_NOT_FOUND, "none: No such file");
}

static void test_folders(void) {
    files_empty();
    CHECK_FAILS(opens(files_folder), STEER_E_NOT_FOUND, "no model.safetensors");
    files_put("x.gguf", "", 0);
    CHECK_FAILS(opens(files_folder), STEER_E_NOT_FOUND, "open its .gguf file by name");
    files_put("pytorch_model.bin", "", 0);
    files_empty();
    files_put("pytorch_model.bin", "", 0);
    CHECK_FAILS(opens(files_folder), STEER_E_UNSUPPORTED, "convert it to safetensors");
    put_tensors("other.safetensors", "{" ONE("a", "[0,2]") "}", 2);
    CHECK_OK(opens(files_folder));
    put_tensors("second.safetensors", "{" ONE("b", "[0,2]") "}", 2);
    CHECK_FAILS(opens(files_folder), STEER_E_NOT_FOUND, "2 *.safetensors without");
    put_tensors("model.safetensors", "{" ONE("c", "[0,2]") "}", 2);
    CHECK_OK(opens(files_folder));
}

static int opens_index(const char *text) {
    files_put("model.safetensors.index.json", text, strlen(text));
    return opens(files_folder);
}

static void test_shards(void) {
    files_empty();
    put_tensors("1.safetensors", "{" ONE("a", "[0,2]") "," ONE("b", "[2,4]") "}", 4);
    put_tensors("2.safetensors", "{" ONE("c", "[0,2]") "}", 2);
    put_tensors("3.safetensors", "{" ONE("c", "[0,2]") "}", 2);
    files_put("lfs.safetensors", "version https://git-lfs.github.com/spec/v1", 42);
    CHECK_OK(opens_index("{\"metadata\":{},\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\","
                         "\"c\":\"2.safetensors\"}}"));
    CHECK_FAILS(opens_index("{\"weight_map\":{\"a\":\"1.safetensors\",\"z\":\"4.safetensors\"}}"),
                STEER_E_NOT_FOUND, "tensor \"z\": there is no ");
    CHECK_FAILS(opens_index("{\"weight_map\":{\"a\":\"1.safetensors\",\"z\":\"2.safetensors\"}}"),
                STEER_E_FORMAT, "tensor \"z\" is not in \"2.safetensors\"");
    CHECK_FAILS(opens_index("{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}"),
                STEER_E_FORMAT, "tensor \"a\" is not in \"2.safetensors\", it is in ");
    CHECK_FAILS(opens_index("{\"weight_map\":{\"a\":\"2.safetensors\",\"c\":\"3.safetensors\"}}"),
                STEER_E_FORMAT, "tensor \"c\": it is there twice, also in ");
    CHECK_FAILS(opens_index("{\"weight_map\":{\"a\":\"../1.safetensors\"}}"), STEER_E_FORMAT,
                "the name of a file beside it");
    CHECK_FAILS(opens_index("{\"weight_map\":{\"a\":5}}"), STEER_E_FORMAT, "the name of a file beside it");
    CHECK_FAILS(opens_index("{\"weight_map\":[]}"), STEER_E_FORMAT, "expected an object, got an array");
    CHECK_FAILS(opens_index("{}"), STEER_E_FORMAT, "weight_map: expected an object, got missing");
    CHECK_FAILS(opens_index("{\"weight_map\":{\"a\":\"lfs.safetensors\"}}"), STEER_E_FORMAT,
                "lfs.safetensors: is a Git LFS pointer");
    CHECK_FAILS(opens_index("version https://git-lfs.github.com/spec/v1"), STEER_E_FORMAT,
                "index.json: is a Git LFS pointer");
    CHECK_FAILS(opens_index("{"), STEER_E_FORMAT, "index.json: line 1: not JSON");
}

int main(void) {
    files_begin();
    test_safetensors();
    test_blocks();
    test_halves();
    test_convert();
    test_refused_files();
    test_refused_contents();
    test_folders();
    test_shards();
    files_end();
    return check_result();
}
