/* fuzz_weights.c: mutated safetensors, GGUF and index files must open and be read, or fail with an error of the library's file codes. */
#include "fuzzing.h"

#include "core/status.h"
#include "file/weights.h"

static void mutate(fuzz_input *in) {
    static const char *const words[] = {
        "[",   "]",     "{",         "}",   "\"",           "-1",  "9007199254740993",
        "F64", "\\u12", "[[[[[[[[[", ",",   "data_offsets", "1e9", "\377\377\377\377",
        "F4",  "",      "\0\0\0",    "null"};
    static const uint64_t edges[] = {0, 1, 2, 9, 31, 127, 255, 1u << 31, UINT32_MAX, 1ull << 62, UINT64_MAX};
    const size_t head = any(2) && in->size > 200 ? 200 : in->size; /* most lengths are at the start */
    const size_t at = any(head + 1);
    const uint64_t edge = edges[any(sizeof edges / sizeof *edges)];
    const char *word = words[any(sizeof words / sizeof *words)];
    const uint8_t byte = (uint8_t)any(256);
    switch (any(6)) {
    case 0:
        if (at < in->size) in->bytes[at] ^= (uint8_t)(1u << any(8));
        break;
    case 1:
        splice(in, at, 1, &byte, 1);
        break;
    case 2:
        splice(in, at, any(2) ? 8 : 4, &edge, any(2) ? 8 : 4);
        break;
    case 3:
        splice(in, at, any(4), word, strlen(word));
        break;
    case 4:
        splice(in, at, any(32), "", 0);
        break;
    default:
        if (any(8) == 0) in->size = at;
    }
}

/* Reads every element of every tensor; the status of opening. */
static int read_all(const char *path) {
    steer_weights *weights = NULL;
    float out[256];
    steer_enter("fuzz");
    const int status = steer_weights_open(&weights, path);
    for (int32_t i = 0; status == STEER_OK && i < weights->count; i++) {
        const steer_weight *weight = &weights->weight[i];
        const int64_t numel = steer_weight_numel(weight);
        CHECK(steer_weights_find(weights, weight->name) == weight);
        for (int64_t at = 0; at < numel; at += 256)
            (void)steer_weight_read_f32(weight, at, numel - at < 256 ? numel - at : 256, out);
    }
    if (status == STEER_OK && weights->gguf)
        for (int64_t i = 0; i < weights->gguf->value_count; i++)
            for (int64_t j = 0; j < weights->gguf->values[i].count; j++)
                (void)steer_gguf_element(&weights->gguf->values[i], j);
    steer_weights_close(weights);
    return status;
}

int main(int argc, char **argv) {
    static fuzz_input seeds[4], in;
    const char index[] = "{\"weight_map\":{\"F32\":\"a.safetensors\",\"u\":\"b.safetensors\"}}";
    const char small[] = "\x50\0\0\0\0\0\0\0{\"u\":{\"dtype\":\"U8\",\"shape\":[2,1],\"data_offsets\":[0,2]},"
                         "\"__metadata__\":{\"a\":\"b\"}}    ab";
    CHECK(fuzz_load(&seeds[0], "tests/fixtures/files/blocks.gguf"));
    CHECK(fuzz_load(&seeds[1], "tests/fixtures/files/blocks.safetensors"));
    seeds[2].size = sizeof small - 1, memcpy(seeds[2].bytes, small, sizeof small - 1);
    seeds[3].size = sizeof index - 1, memcpy(seeds[3].bytes, index, sizeof index - 1);
    seeds[2].bytes[0] = (uint8_t)(sizeof small - 1 - 8 - 2);
    fuzz_begin(argc, argv, "fuzz_weights");
    files_put("a.safetensors", seeds[1].bytes, seeds[1].size);
    CHECK_OK(read_all(files_put("b.safetensors", seeds[2].bytes, seeds[2].size)));
    long count = 0, opened = 0;
    for (; fuzz_goes_on(count); count++) {
        const uint64_t kind = any(4);
        in = seeds[kind];
        for (uint64_t n = 1 + any(4); n > 0; n--) mutate(&in);
        const char *path = files_put(kind == 3 ? "model.safetensors.index.json" : "x.bin", in.bytes, in.size);
        const int status = read_all(kind == 3 ? files_folder : path);
        opened += status == STEER_OK;
        if (status != STEER_OK && status != STEER_E_FORMAT && status != STEER_E_UNSUPPORTED &&
            status != STEER_E_NOT_FOUND) {
            CHECK(!"an error of another code");
            fprintf(stderr, "%s: %s\n", steer_status_name(status), steer_error_message());
        }
    }
    return fuzz_finish("fuzz_weights", count, opened);
}
