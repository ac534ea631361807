/* fuzz_config.c: mutated configs of models, as JSON and as GGUF metadata, must give a record that can be run, or fail with an error that
 * names the file. What loads with a fixture's weights must run. */
#include "fuzzing.h"

#include "model/config.h"

#include <sys/stat.h>

enum { SEEDS_MOST = 80, PATH_MOST = 300 };

typedef struct seed {
    char folder[PATH_MOST]; /* of the fixture */
    int is_gguf;
    fuzz_input in;
} seed;

static seed *seeds[SEEDS_MOST];
static int seed_count, config_count; /* configs first */
static steer_device *device;

/* ---- Seeds ------------------------------------------------------------------------------------------------------- */

static void add_seeds(const char *folder, const char *file, int is_gguf) {
    DIR *dir = opendir(folder);
    CHECK(dir != NULL);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[2 * PATH_MOST];
        seed *one = malloc(sizeof *one);
        CHECK(one && seed_count < SEEDS_MOST);
        one->is_gguf = is_gguf;
        snprintf(one->folder, sizeof one->folder, "%s/%.200s", folder, entry->d_name);
        snprintf(path, sizeof path, "%s/%s", one->folder, file);
        if (entry->d_name[0] != '.' && fuzz_load(&one->in, path))
            seeds[seed_count++] = one;
        else
            free(one);
    }
    if (dir) closedir(dir);
}

/* ---- Mutations of JSON ------------------------------------------------------------------------------------------- */

static const char *const values[] = {"0",
                                     "-1",
                                     "1",
                                     "2",
                                     "3",
                                     "7",
                                     "64",
                                     "0.5",
                                     "1.5",
                                     "-0.0",
                                     "1e-300",
                                     "1e300",
                                     "1e-6",
                                     "1e12",
                                     "16777216",
                                     "16777217",
                                     "2147483648",
                                     "4294967296",
                                     "1e15",
                                     "1e400",
                                     "NaN",
                                     "Infinity",
                                     "-Infinity",
                                     "9007199254740993",
                                     "null",
                                     "true",
                                     "false",
                                     "\"\"",
                                     "\"7\"",
                                     "\"default\"",
                                     "\"linear\"",
                                     "\"yarn\"",
                                     "\"llama3\"",
                                     "\"gelu\"",
                                     "\"longrope\"",
                                     "\"full_attention\"",
                                     "[]",
                                     "{}",
                                     "[1]",
                                     "[null]",
                                     "[[]]",
                                     "\"sliding_attention\"",
                                     "\"gpt2\"",
                                     "\"phi3\"",
                                     "\"gemma3\"",
                                     "\"olmoe\"",
                                     "{\"a\": 1}",
                                     "18446744073709551616",
                                     "1.0000000001"};

/* A byte after which a value begins, from a random place on; 0: there is none. */
static size_t value_at(const fuzz_input *in, const char *before) {
    const size_t from = any(in->size);
    for (size_t i = 0; i < in->size; i++) {
        const size_t at = (from + i) % in->size;
        if (in->bytes[at] && strchr(before, in->bytes[at])) return at + 1;
    }
    return 0;
}

/* Bytes of the value that begins at `at`, nested ones with it. */
static size_t value_size(const fuzz_input *in, size_t at) {
    int depth = 0;
    size_t i = at;
    for (; i < in->size; i++) {
        const uint8_t byte = in->bytes[i];
        if (depth == 0 && (byte == ',' || byte == '}' || byte == ']')) break;
        depth += (byte == '[' || byte == '{') - (byte == ']' || byte == '}');
    }
    return i - at;
}

/* A member of an object, `"key": value`, from its quote on; its size. */
static size_t member_at(const fuzz_input *in, size_t *at) {
    size_t value = value_at(in, ":"), start = value;
    int quotes = 0;
    while (start > 0 && quotes < 2) quotes += in->bytes[--start] == '"';
    *at = start;
    return value ? value - start + value_size(in, value) : 0;
}

static void mutate_json(fuzz_input *in) {
    const fuzz_input *other = &seeds[any((uint64_t)config_count)]->in;
    const char *value = values[any(sizeof values / sizeof *values)];
    size_t at, from, size;
    char text[64];
    switch (any(12)) {
    case 0: /* a value of another config, or of another field of this one */
        from = value_at(other, ":[");
        if ((at = value_at(in, any(8) ? ":[" : ",")))
            splice(in, at, value_size(in, at), other->bytes + from, value_size(other, from));
        break;
    case 1: /* a member of another config */
        if ((size = member_at(other, &from)) && (at = value_at(in, "{"))) {
            splice(in, at, 0, ",", 1);
            splice(in, at, 0, other->bytes + from, size);
        }
        break;
    case 2: /* a member less */
        if ((size = member_at(in, &at)) && in->bytes[at + size] == ',') splice(in, at, size + 1, "", 0);
        break;
    case 3: /* a number that is somewhat off */
        if ((at = value_at(in, any(8) ? ":[" : ",")) && value_size(in, at) < 30) {
            snprintf(text, sizeof text, "%.17g",
                     strtod((const char *)in->bytes + at, NULL) * (double)any(5) / 2 + (double)any(3) - 1);
            splice(in, at, value_size(in, at), text, strlen(text));
        }
        break;
    case 4:
        at = any(in->size);
        text[0] = (char)any(256);
        splice(in, at, any(3), text, any(2));
        break;
    default:
        if ((at = value_at(in, any(8) ? ":[" : ",")))
            splice(in, at, value_size(in, at), value, strlen(value));
    }
}

/* ---- Mutations of metadata --------------------------------------------------------------------------------------- */

/* Another value for a key of the architecture: bytes after a key's name are its type and its value. */
static void mutate_gguf(fuzz_input *in) {
    static const uint64_t edges[] = {0,          1,          2,          3,          7,         0xff,
                                     0x7fc00000, 0x7f800000, 0xff800000, UINT32_MAX, 1ull << 40};
    static const char *const keys[] = {
        "embedding_length",    "context_length", "block_count",  "head_count",
        "head_count_kv",       "key_length",     "value_length", "dimension_count",
        "freq_base",           "rms_epsilon",    "expert_count", "expert_used_count",
        "feed_forward_length", "sliding_window", "logit_scale",  "token_id",
        "scaling.type",        "factor",         "softcapping",  "vocab_size",
        "layer_norm_epsilon"};
    const char *key = keys[any(sizeof keys / sizeof *keys)];
    const uint64_t edge = edges[any(sizeof edges / sizeof *edges)];
    const size_t length = strlen(key);
    size_t at = 1 + any(2000);
    for (size_t i = 0; i + length + 12 < in->size && i < 4000; i++)
        if (!memcmp(in->bytes + i, key, length)) at = i + length;
    switch (any(4)) {
    case 0: /* its type */
        in->bytes[at] = (uint8_t)any(14);
        break;
    case 1:
        in->bytes[at + 4 + any(4)] ^= (uint8_t)(1u << any(8));
        break;
    case 2: /* its name */
        in->bytes[at - 1] ^= 1;
        break;
    default:
        memcpy(in->bytes + at + 4, &edge, 4);
    }
}

/* ---- What must hold ---------------------------------------------------------------------------------------------- */

static int is_size(int64_t value) { return value >= 1 && value <= 1 << 27; }

static void check_layer(const steer_config *config, const steer_layer *layer) {
    const steer_mlp *mlp = &layer->mlp;
    CHECK(layer->heads >= 1 && layer->kv_heads >= 1 && layer->heads % layer->kv_heads == 0);
    CHECK(layer->head_dim >= 1 && layer->window >= 0);
    CHECK(layer->rope >= -1 && layer->rope < config->rope_count);
    CHECK(isfinite(layer->scale) && isfinite(layer->softcap) && layer->softcap >= 0);
    CHECK(isfinite(layer->attn_in.eps) && layer->attn_in.eps >= 0);
    CHECK(mlp->experts == 0 || (mlp->top_k >= 1 && mlp->top_k <= mlp->experts && is_size(mlp->expert_size)));
}

static void check_record(const steer_config *config) {
    const steer_fields *fields = &config->fields;
    CHECK(is_size(fields->vocab) && is_size(fields->hidden) && is_size(fields->context));
    CHECK(is_size(fields->mlp_size) && fields->layers >= 1 && fields->layers <= 4096);
    CHECK(isfinite(fields->logit_scale / fields->logits_divisor) && isfinite(fields->embed_multiplier));
    for (int32_t i = 0; i < config->rope_count; i++) {
        const steer_frequencies *rope = &config->ropes[i];
        CHECK(rope->rotary >= 2 && rope->rotary % 2 == 0 && rope->rotary <= fields->head_dim);
        CHECK(isfinite(rope->scale) && rope->scale > 0);
        for (int32_t k = 0; k < rope->rotary / 2; k++)
            CHECK(isfinite(rope->frequency[k]) && rope->frequency[k] >= 0);
    }
    for (int32_t i = 0; i < fields->layers; i++) check_layer(config, &config->layer[i]);
}

/* A refusal has one of the codes of files, and names the file. */
static int check_status(int status, const char *file) {
    if (status == STEER_OK) return 1;
    const int known =
        status == STEER_E_FORMAT || status == STEER_E_UNSUPPORTED || status == STEER_E_OUT_OF_MEMORY;
    if (known && strstr(steer_error_message(), file)) return 0;
    check_report(0, __FILE__, __LINE__, steer_status_name(status), steer_error_message());
    return 0;
}

/* ---- Running ----------------------------------------------------------------------------------------------------- */

/* Whether tables of positions are small enough for a run here. */
static int is_small(const steer_config *config) {
    return config->fields.context * config->fields.head_dim < 1 << 17;
}

static int run(steer_model *model) {
    const steer_session_desc session_desc = {
        .struct_size = sizeof session_desc, .sequences = 1, .tokens = 32};
    const int32_t ids[] = {1, 2, 0, 2, 1};
    const steer_sequence_desc desc = {.struct_size = sizeof desc,
                                      .ignore_eos = 1,
                                      .count = 5,
                                      .tokens = ids,
                                      .prompt_tokens = -1,
                                      .max_tokens = 2,
                                      .top_p = 1,
                                      .repetition_penalty = 1,
                                      .logprobs_from = -1,
                                      .logits_from = -1,
                                      .from = -1};
    steer_session *session;
    int32_t id, running = 1;
    STEER_TRY(steer_session_create(&session, model, &session_desc));
    int status = steer_session_add(&id, session, &desc);
    if (status == STEER_E_INVALID_ARGUMENT) { /* a vocabulary or a context smaller than these tokens */
        steer_session_release(session);
        return STEER_OK;
    }
    while (status == STEER_OK && running > 0) status = steer_session_step(&running, session);
    steer_session_release(session);
    return status;
}

/* Loads a model and runs it; whether it was taken. */
static int load_and_run(const char *path, const char *file) {
    const steer_model_desc desc = {.struct_size = sizeof desc, .dtype = -1, .device = device};
    steer_loader *loader;
    steer_model *model = NULL;
    double done = 0;
    if (!check_status(steer_loader_create(&loader, path, &desc), file)) return 0;
    int status = STEER_OK;
    while (status == STEER_OK && done < 1) status = steer_loader_step(&done, loader);
    if (status == STEER_OK) status = steer_loader_finish(&model, loader);
    steer_loader_release(loader);
    if (!check_status(status, file)) return 0;
    CHECK_OK(run(model));
    steer_model_release(model);
    return 1;
}

/* The config alone, then, should it be possible, with the fixture's weights. */
static int try_config(const seed *from, fuzz_input *in) {
    char weights[2 * PATH_MOST], *absolute;
    steer_config config;
    files_put("config.json", in->bytes, in->size);
    steer_enter("config");
    const int status = steer_config_read(&config, (const char *)in->bytes, in->size, "x/config.json");
    if (!check_status(status, "x/config.json")) return 0;
    const int small = is_small(&config);
    check_record(&config);
    steer_config_free(&config);
    snprintf(weights, sizeof weights, "%s/model.safetensors", from->folder);
    if (!small || !(absolute = realpath(weights, NULL))) return 1;
    unlink(files_path("model.safetensors"));
    CHECK(symlink(absolute, files_path("model.safetensors")) == 0);
    free(absolute);
    load_and_run(files_folder, files_folder);
    return 1;
}

int main(int argc, char **argv) {
    static fuzz_input in;
    CHECK_OK(steer_device_open(&device, "cpu"));
    add_seeds("tests/fixtures/models", "config.json", 0);
    add_seeds("tests/fixtures/variants", "config.json", 0);
    config_count = seed_count;
    add_seeds("tests/fixtures/gguf", "model.gguf", 1);
    CHECK(config_count > 20 && seed_count > config_count);
    fuzz_begin(argc, argv, "fuzz_config");
    long count = 0, taken = 0;
    for (; fuzz_goes_on(count); count++) {
        const seed *from = seeds[count < seed_count ? (uint64_t)count : any((uint64_t)seed_count)];
        in = from->in;
        for (uint64_t n = count < seed_count ? 0 : 1 + any(3); n > 0; n--) /* first as they are */
            (from->is_gguf ? mutate_gguf : mutate_json)(&in);
        const int ok = from->is_gguf ? load_and_run(files_put("x.gguf", in.bytes, in.size), "x.gguf")
                                     : try_config(from, &in);
        if (count < seed_count) check_report(ok, __FILE__, __LINE__, from->folder, "is refused");
        taken += ok;
    }
    for (int i = 0; i < seed_count; i++) free(seeds[i]);
    steer_device_release(device);
    return fuzz_finish("fuzz_config", count, taken);
}
