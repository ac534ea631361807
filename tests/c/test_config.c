/* test_config.c: configs and weights that cannot be, one change each: every refusal names file, field or tensor, and what was expected. */
#include "files.h"

#include "model/config.h"

#define MODELS   "tests/fixtures/models/"
#define VARIANTS "tests/fixtures/variants/"

/* The first `from` in a fixture's config becomes `to`; NULL: what is read then. */
typedef struct change {
    const char *model, *from, *to;
    int code;
    const char *message;
} change;

enum { BAD = STEER_E_FORMAT, NOT_HERE = STEER_E_UNSUPPORTED };

static const change configs[] = {
    /* values */
    {"llama", "\"hidden_size\": 32", "\"hidden_size\": -32", BAD,
     "hidden_size: -32, expected a whole number from 1"},
    {"llama", "\"hidden_size\": 32", "\"hidden_size\": 1e30", BAD,
     "hidden_size: 1e30, expected a whole number"},
    {"llama", "\"hidden_size\": 32", "\"hidden_size\": 32.5", BAD, "hidden_size: 32.5"},
    {"llama", "\"hidden_size\": 32", "\"hidden_size\": \"32\"", BAD,
     "hidden_size: \"32\", expected a whole number"},
    {"llama", "\"hidden_size\": 32", "\"hidden_size\": null", BAD, "hidden_size: null"},
    {"llama", "\"hidden_size\": 32,", "", BAD, "hidden_size: missing"},
    {"llama", "\"hidden_size\": 32", "\"hidden_size\": [32]", BAD, "hidden_size: an array"},
    {"llama", "\"vocab_size\": 96", "\"vocab_size\": 0", BAD, "vocab_size: 0"},
    {"llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 99999999999", BAD, "num_hidden_layers"},
    {"llama", "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": NaN", BAD,
     "rms_norm_eps: NaN, expected a number"},
    {"llama", "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": -1", BAD, "rms_norm_eps: -1"},
    {"llama", "\"attention_bias\": false", "\"attention_bias\": 1", BAD,
     "attention_bias: 1, expected true or false"},
    {"llama", "\"silu\"", "\"mish\"", NOT_HERE, "hidden_act: \"mish\", expected one of silu"},
    {"llama", "\"silu\"", "7", BAD, "hidden_act: 7"},
    {"llama", "\"bfloat16\"", "\"int4\"", NOT_HERE, "dtype: expected float32"},
    {"granite", "\"logits_scaling\": 4.0", "\"logits_scaling\": 0", BAD, "logits_scaling: 0"},
    {"gemma2", "\"attn_logit_softcapping\": 50.0", "\"attn_logit_softcapping\": -50", BAD,
     "attn_logit_softcapping"},
    {"gemma2", "\"query_pre_attn_scalar\": 20", "\"query_pre_attn_scalar\": 0", BAD, "query_pre_attn_scalar"},
    /* contradictions */
    {"llama", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", BAD,
     "expected a divisor of the 4 heads"},
    {"llama", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 8", BAD, "num_key_value_heads: 8"},
    {"llama", "\"head_dim\": 8", "\"head_dim\": 7", BAD,
     "head_dim: 7, of which 7 dimensions are rotated, expected an even"},
    {"olmo2", "\"num_attention_heads\": 4", "\"num_attention_heads\": 6", BAD,
     "expected a multiple of the 6 heads"},
    {"gemma2", "\"full_attention\",", "", BAD, "layer_types: expected a list of 4 entries"},
    {"gemma2", "\"full_attention\",", "\"chunked_attention\",", NOT_HERE,
     "layer_types[1]: expected \"full_attention\""},
    {"gemma2", "\"sliding_window\": 8", "\"sliding_window\": null", BAD,
     "layer_types[0]: sliding_attention, but there is no"},
    {"gemma2", "\"sliding_window\": 8", "\"sliding_window\": 0", BAD, "sliding_window: 0"},
    {"mistral", "\"vocab_size\"", "\"layer_types\": [\"full_attention\", \"full_attention\"], \"vocab_size\"",
     NOT_HERE, "all layers of model_type \"mistral\" have the window"},
    {"smollm3", "\"no_rope_layers\": [", "\"no_rope_layers\": [1,", BAD,
     "no_rope_layers: expected a list of 4"},
    {"smollm3", "\"no_rope_layers\": [\n    1", "\"no_rope_layers\": [\n    2", BAD,
     "no_rope_layers[0]: expected 1"},
    {"mixtral", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 7", BAD, "at most the 6 experts"},
    {"mixtral", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": null", BAD,
     "num_experts_per_tok: 0, expected 1 or more, at most the 6 experts"},
    {"gemma3_text", "\"max_position_embeddings\": 256", "\"max_position_embeddings\": null", BAD,
     "max_position_embeddings: null, expected a number"},
    {"gemma3_text", "\"num_attention_heads\": 4", "\"num_attention_heads\": null", BAD,
     "num_attention_heads: null, expected a number"},
    {"qwen3_moe", "\"num_local_experts\": 8", "\"num_local_experts\": 8, \"num_experts\": 6", BAD,
     "but num_experts is 6, expected equal numbers"},
    {"qwen3_moe", "\"mlp_only_layers\": [\n    1", "\"mlp_only_layers\": [\n    2", BAD,
     "mlp_only_layers: expected layers from"},
    {"qwen3_moe", "\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 0", BAD, "decoder_sparse_step: 0"},
    /* rotations */
    {"llama", "\"rope_theta\": 10000.0", "\"rope_theta\": 0", BAD,
     "rope_parameters.rope_theta: expected a number"},
    {"llama", "\"rope_theta\": 10000.0", "\"rope_theta\": 1e30", BAD, "rope_parameters.rope_theta"},
    {"llama", "\"rope_type\": \"default\"", "\"rope_type\": \"spiral\"", NOT_HERE,
     "rope_type: \"spiral\", expected one of default"},
    {"llama", "\"rope_type\": \"default\"", "\"rope_type\": 5", BAD, "rope_type: expected one of"},
    {"llama", "\"rope_type\": \"default\"", "\"rope_type\": \"linear\"", BAD,
     "rope_parameters.factor: missing"},
    {"llama", "\"rope_type\": \"default\"", "\"rope_type\": \"default\", \"mrope_section\": [1]", NOT_HERE,
     "rope_parameters.mrope_section"},
    {"llama", "\"rope_type\": \"default\"", "\"rope_type\": \"default\", \"factor\": 4", NOT_HERE,
     "rope_parameters.factor"},
    {"llama", "\"rope_type\": \"default\"", "\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5",
     NOT_HERE, "partial_rotary_factor: 0.5, expected 1"},
    {"llama", "\"vocab_size\"", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"vocab_size\"",
     BAD, "rope_scaling and rope_parameters are both there"},
    {"llama3_rope", "\"high_freq_factor\": 4.0", "\"high_freq_factor\": 0.5", BAD,
     "expected more than low_freq_factor"},
    {"llama3_rope", "\"high_freq_factor\": 4.0", "\"high_freq_factor\": 1.0000000001", BAD,
     "expected more than low_freq_factor"},
    {"../variants/phi3_long", "\"original_max_position_embeddings\": 64",
     "\"original_max_position_embeddings\": 1", BAD, "cos and sin would be multiplied by inf"},
    {"llama3_rope", "\"factor\": 8.0", "\"factor\": 0.5", BAD,
     "rope_parameters.factor: expected a number from 1"},
    {"phi", "\"partial_rotary_factor\": 0.5,\n    \"rope", "\"partial_rotary_factor\": 0.1,\n    \"rope", BAD,
     "0 dimensions are rotated"},
    {"gemma3_text", "\"full_attention\": {", "\"wide_attention\": {", NOT_HERE,
     "rope_parameters.wide_attention"},
    {"gemma3_text", "\"sliding_attention\": {", "\"sliding_attention\": 3, \"x\": {", NOT_HERE,
     "rope_parameters.x"},
    {"../variants/phi3_long", "\"short_factor\": [", "\"short_factor\": [1.0,", BAD,
     "short_factor: expected a list of 3"},
    {"../variants/phi3_long", "\"long_factor\": [\n      2.0", "\"long_factor\": [\n      0.0", BAD,
     "long_factor[0]"},
    /* what nobody knows */
    {"llama", "\"use_cache\"", "\"logit_scale\": 0.5, \"use_cache\"", NOT_HERE,
     "logit_scale: 0.5, a field that this version does not know for model_type \"llama\""},
    {"llama", "\"use_cache\"", "\"quantization_config\": {\"bits\": 4}, \"use_cache\"", NOT_HERE,
     "quantization_config"},
    {"llama", "\"use_cache\"", "\"sliding_window\": 7, \"use_cache\"", NOT_HERE, "sliding_window: 7"},
    {"olmoe", "\"clip_qkv\": null", "\"clip_qkv\": 8.0", NOT_HERE, "clip_qkv: 8.0"},
    {"gemma3_text", "\"use_bidirectional_attention\": false", "\"use_bidirectional_attention\": true",
     NOT_HERE, "use_bidirectional_attention: true"},
    {"llama", "\"llama\"", "\"lama\"", NOT_HERE, "model_type: \"lama\", expected one of llama, mistral"},
    {"llama", "\"model_type\": \"llama\"", "\"model_type\": 3", BAD,
     "model_type: a number, expected a string"},
    {"llama", "\"model_type\": \"llama\",", "", BAD, "model_type: missing"},
    {"llama", "\"model_type\": \"llama\"", "\"model_type\": \"gemma3\"", BAD, "text_config: missing"},
    {"../variants/nested_gemma3", "\"vision_config\"", "\"audio_config\"", NOT_HERE, "audio_config"},
    {"../variants/nested_gemma3", "\"vocab_size\"", "\"vocabulary\": 3, \"vocab_size\"", NOT_HERE,
     "text_config.vocabulary: 3"},
    {"llama", "{", "[", BAD, "config.json"},
    {"llama", "\"vocab_size\": 96", "\"vocab_size\": 96, \"vocab_size\": 96", BAD, "a key twice"},
    {"llama", "96\n}", "96", BAD, "config.json"},
    /* these change nothing */
    {"llama", "\"use_cache\"",
     "\"sliding_window\": null, \"some_feature\": false, \"list\": [], \"use_cache\"", STEER_OK, ""},
    {"llama", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": null", STEER_OK, ""},
    {"llama", "\"head_dim\": 8", "\"head_dim\": null", STEER_OK, ""},
    {"qwen3_moe", "\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": null", STEER_OK, ""},
    {"llama", "\"rope_theta\": 10000.0,", "", STEER_OK, ""},
    {"gemma2", "\"full_attention\",", "\"full_attention\" ,", STEER_OK, ""},
};

/* ---- Changing files ---------------------------------------------------------------------------------------------- */

static char text[1 << 20], changed[1 << 20];

static size_t load_file(const char *folder, const char *name) {
    char path[400];
    snprintf(path, sizeof path, MODELS "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    const size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) fclose(file);
    text[size] = 0;
    CHECK(size > 0);
    return size;
}

/* The first `from` in `text` becomes `to`, in `changed`; the new size, 0 if there is no `from`. */
static size_t replace(size_t size, const char *from, const char *to) {
    const size_t cut = strlen(from), put = strlen(to);
    for (size_t at = 0; at + cut <= size; at++) {
        if (memcmp(text + at, from, cut) != 0) continue;
        memcpy(changed, text, at);
        memcpy(changed + at, to, put);
        memcpy(changed + at + put, text + at + cut, size - at - cut);
        return size - cut + put;
    }
    return 0;
}

static void check_message(const char *what, int status, int code, const char *message) {
    char report[900];
    snprintf(report, sizeof report, "%s: gave %s \"%s\", expected %s with \"%s\"", what,
             steer_status_name(status), status ? steer_error_message() : "", steer_status_name(code),
             message);
    check_report(status == code && (status == STEER_OK || strstr(steer_error_message(), message)), __FILE__,
                 __LINE__, "", report);
}

/* ---- Configs ----------------------------------------------------------------------------------------------------- */

static void test_configs(void) {
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        const change *row = &configs[i];
        steer_config config;
        const size_t size = replace(load_file(row->model, "config.json"), row->from, row->to);
        check_report(size > 0, __FILE__, __LINE__, row->from, "is not in the fixture");
        steer_enter("config");
        const int status = steer_config_read(&config, changed, size, "x/config.json");
        check_message(row->to, status, row->code, row->message);
        if (status != STEER_OK) CHECK(strstr(steer_error_message(), "x/config.json") != NULL);
        if (status == STEER_OK) steer_config_free(&config);
    }
}

/* Every field of every family has a row, and the list of families is whole. */
static void test_families(void) {
    static const char *const types[] = {
        "llama",    "mistral", "qwen2",   "qwen3",     "gemma",      "gemma2",   "gemma3",
        "phi3",     "olmo2",   "smollm3", "granite",   "starcoder2", "cohere",   "gpt2",
        "gpt_neox", "phi",     "mixtral", "qwen3_moe", "olmoe",      "stablelm", "gemma3_text"};
    char list[512];
    steer_family_list(list, sizeof list, 0);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        CHECK(steer_family_find(types[i], strlen(types[i])) != NULL);
        CHECK(strstr(list, types[i]) != NULL);
    }
    CHECK(steer_family_find("llam", 4) == NULL && steer_family_find("llamas", 6) == NULL);
    CHECK(steer_family_find_gguf("llama", 5, 0) == steer_family_find("llama", 5));
    CHECK(steer_family_find_gguf("llama", 5, 1) == steer_family_find("mixtral", 7));
    CHECK(steer_family_find_gguf("qwen2", 5, 1) == NULL);
}

/* ---- Weights ----------------------------------------------------------------------------------------------------- */

/* A change in a file's bytes of the same length; data: written over the tensor data's start in the place of a change. */
typedef struct damage {
    const char *model, *file, *from, *to;
    int code;
    const char *message;
} damage;

static const damage weights[] = {
    {"llama", "model.safetensors", "model.norm.weight", "model.nurm.weight", BAD,
     "tensor model.norm.weight: missing, expected [32]"},
    {"llama", "model.safetensors", "\"lm_head.weight\"", "\"lm_head.wait__\"", BAD,
     "tensor lm_head.weight: missing, expected [96, 32]"},
    {"llama", "model.safetensors", "model.embed_tokens", "model.embed_token_", BAD,
     "embed_tokens.weight: missing"},
    {"llama", "model.safetensors", "\"shape\":[40,32]", "\"shape\":[32,40]", BAD,
     "tensor model.layers.0.mlp.gate_proj.weight: shape [32, 40], expected [40, 32]"},
    {"llama", "model.safetensors", "\"lm_head.weight\":{\"dtype\":\"BF16\"",
     "\"lm_head.weight\":{\"dtype\":\"I16\" ", NOT_HERE,
     "tensor lm_head.weight: dtype I16, expected F32, F16 or BF16"},
    {"llama", "model.safetensors", "layers.1.self_attn.k_proj", "layers.1.self_attn.k_prog", BAD,
     "layers.1.self_attn.k_proj.weight: missing"},
    {"llama", "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", NOT_HERE,
     "tensor model.layers.1.input_layernorm.weight: shape [32], a tensor that this version does not use"},
    {"llama", "config.json", "\"attention_bias\": false", "\"attention_bias\": true ", BAD,
     "q_proj.bias: missing"},
    {"qwen2", "config.json", "\"model_type\": \"qwen2\"", "\"model_type\": \"qwen3\"", BAD, "tensor"},
    {"llama", "config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true ", STEER_OK,
     ""},
    {"mixtral", "model.safetensors", "experts.3.w2", "experts.9.w2", BAD, "experts.3.w2.weight: missing"},
    {"gpt2", "model.safetensors", "\"shape\":[32,96]", "\"shape\":[96,32]", BAD,
     "c_attn.weight: shape [96, 32], expected [32, 96]"},
    {"llama", "generation_config.json", "\"eos_token_id\": 2", "\"eos_token_id\": 1.5", BAD,
     "generation_config.json: eos_token_id"},
    {"llama", "generation_config.json", "\"eos_token_id\": 2", "\"eos_token_id\": [2, 999]", BAD,
     "generation_config.json: eos_token_id: 999, expected an id below"},
    {"llama", "generation_config.json", "{", "[", BAD, "generation_config.json"},
};

static steer_device *device;

/* Loads the folder of files. */
static int load_model(const char *path, int32_t dtype) {
    const steer_model_desc desc = {.struct_size = sizeof desc, .dtype = dtype, .device = device};
    steer_loader *loader;
    steer_model *model;
    double done = 0;
    STEER_TRY(steer_loader_create(&loader, path, &desc));
    int status = STEER_OK;
    while (status == STEER_OK && done < 1) status = steer_loader_step(&done, loader);
    if (status == STEER_OK) status = steer_loader_finish(&model, loader);
    if (status == STEER_OK) steer_model_release(model);
    steer_loader_release(loader);
    return status;
}

/* Copies a fixture into the folder of files. */
static void put_model(const char *model) {
    static const char *const names[] = {"config.json", "generation_config.json", "model.safetensors"};
    for (size_t i = 0; i < 3; i++) {
        const size_t size = load_file(model, names[i]);
        files_put(names[i], text, size);
    }
}

static void test_weights(void) {
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        const damage *row = &weights[i];
        put_model(row->model);
        const size_t size = replace(load_file(row->model, row->file), row->from, row->to);
        check_report(size > 0, __FILE__, __LINE__, row->from, "is not in the fixture");
        files_put(row->file, changed, size);
        check_message(row->to, load_model(files_folder, -1), row->code, row->message);
    }
}

/* NaN and infinity in a tensor's data, for each dtype that it may be loaded as. */
static void test_not_finite(void) {
    for (int32_t dtype = -1; dtype <= STEER_BF16; dtype++)
        for (int infinite = 0; infinite < 2; infinite++) {
            const uint16_t value = infinite ? 0x7f80 : 0x7fc1;
            put_model("llama");
            const size_t size = load_file("llama", "model.safetensors");
            memcpy(text + size - 2, &value, 2); /* of the last tensor in the file */
            files_put("model.safetensors", text, size);
            check_message("NaN", load_model(files_folder, dtype), BAD,
                          "tensor model.norm.weight: holds NaN or infinite values");
        }
}

static void test_folders(void) {
    CHECK_FAILS(load_model(files_path("absent"), -1), STEER_E_NOT_FOUND, "absent");
    files_empty();
    CHECK_FAILS(load_model(files_folder, -1), STEER_E_NOT_FOUND, files_folder);
    put_model("llama");
    unlink(files_path("config.json"));
    CHECK_FAILS(load_model(files_folder, -1), STEER_E_NOT_FOUND, "config.json");
    put_model("llama");
    unlink(files_path("generation_config.json"));
    CHECK_OK(load_model(files_folder, -1));
    CHECK_FAILS(load_model(files_folder, STEER_I32), STEER_E_INVALID_ARGUMENT, "dtype");
    put_model("llama");
    const size_t size = load_file("llama", "model.safetensors");
    files_put("model.safetensors", text, size - 1);
    CHECK_FAILS(load_model(files_folder, -1), BAD, "model.safetensors");
    put_model("llama");
    files_put("config.json", "", 0);
    CHECK_FAILS(load_model(files_folder, -1), BAD, "config.json");
}

/* A model that there is no room for says both numbers, and takes nothing. */
static void test_memory(void) {
    steer_memory_info before, after;
    put_model("llama");
    memset(&before, 0, sizeof before);
    before.struct_size = sizeof before;
    after = before;
    CHECK_OK(steer_device_memory(&before, device));
    CHECK_OK(steer_device_fail_allocation(device, 1));
    CHECK_FAILS(load_model(files_folder, -1), STEER_E_OUT_OF_MEMORY, "are free");
    CHECK_OK(load_model(files_folder, -1));
    CHECK_OK(steer_device_memory(&after, device));
    CHECK(before.live_bytes == after.live_bytes);
}

int main(void) {
    CHECK_OK(steer_device_open(&device, "cpu"));
    files_begin();
    test_configs();
    test_families();
    test_weights();
    test_not_finite();
    test_folders();
    test_memory();
    files_end();
    steer_device_release(device);
    return check_result();
}
