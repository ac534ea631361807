/* tokenizer_read.c: reads tokenizer.json, and from tokenizer_config.json which tokens begin and end a text. */
#include "text/from_gguf.h"

#include <stdio.h>
#include <sys/stat.h>

/* ---- The vocabulary --------------------------------------------------------------------------------------------- */

static int read_vocab(steer_vocab *vocab, const steer_field *model) {
    steer_field map = steer_field_get(model, "vocab");
    if (!map.json || map.json->type != STEER_JSON_OBJECT) return steer_field_wrong(&map, "an object");
    STEER_TRY(steer_vocab_reserve(vocab, map.json->count));
    STEER_TRY(steer_bytes_reserve(&vocab->texts, (size_t)map.json->count * 8));
    for (const steer_json *token = map.json->first; token; token = token->next) {
        int64_t id;
        if (!steer_json_integer(token, &id) || id < 0 || id >= INT32_MAX)
            return STEER_FAIL(STEER_E_FORMAT, "%s: \"%.*s\" is %s, expected an id from 0", map.where,
                              (int)(token->key_size < 60 ? token->key_size : 60), token->key,
                              steer_json_what(token));
        int status = steer_vocab_add(vocab, (int32_t)id, token->key, token->key_size);
        if (status != STEER_OK) return steer_fail_prefix(status, "%s", map.where);
    }
    return STEER_OK;
}

static int read_model(steer_tokenizer *t, const steer_field *model) {
    if (!model->json || model->json->type != STEER_JSON_OBJECT) return steer_field_wrong(model, "an object");
    const steer_json *type = steer_json_get(model->json, "type");
    int untyped = !type && steer_json_get(model->json, "merges"); /* as older files are */
    if (steer_json_is_text(type, "BPE") || untyped) {
        STEER_TRY(read_vocab(&t->vocab, model));
        return steer_bpe_read(&t->bpe, &t->vocab, model);
    }
    t->is_unigram = 1;
    if (steer_json_is_text(type, "Unigram")) return steer_unigram_read(&t->unigram, &t->vocab, model);
    if (!type || type->type != STEER_JSON_STRING)
        return STEER_FAIL(STEER_E_FORMAT, "%s.type: is %s, expected a string", model->where,
                          steer_json_what(type));
    return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: the type %.*s is not supported, BPE and Unigram are",
                      model->where, (int)(type->size < 60 ? type->size : 60), type->text);
}

/* ---- What goes around a text ------------------------------------------------------------------------------------ */

static int check_known(const steer_tokenizer *t, int32_t id, const char *where) {
    size_t size;
    if (steer_vocab_text(&t->vocab, id, &size)) return STEER_OK;
    return STEER_FAIL(STEER_E_FORMAT, "%s: no token has the id %d", where, id);
}

/* The ids that a template's special token stands for. */
static int put_special(steer_tokenizer *t, steer_ids *out, const steer_field *processor,
                       const steer_json *name) {
    steer_field map = steer_field_get(processor, "special_tokens");
    const steer_json *entry = map.json && map.json->type == STEER_JSON_OBJECT ? map.json->first : NULL;
    while (entry && !(entry->key_size == name->size && memcmp(entry->key, name->text, name->size) == 0))
        entry = entry->next;
    if (!entry)
        return STEER_FAIL(STEER_E_FORMAT, "%s: has no \"%.*s\", which the template names", map.where,
                          (int)(name->size < 60 ? name->size : 60), name->text);
    steer_field special = {.json = entry}, ids;
    snprintf(special.where, sizeof special.where, "%.60s[\"%.*s\"]", map.where,
             (int)(name->size < 40 ? name->size : 40), name->text);
    STEER_TRY(steer_field_object(&special, "id ids tokens"));
    ids = steer_field_get(&special, "ids");
    STEER_TRY(steer_field_array(&ids));
    for (const steer_json *item = ids.json->first; item; item = item->next) {
        steer_field one = {.json = item};
        int32_t id;
        memcpy(one.where, ids.where, sizeof one.where);
        STEER_TRY(steer_field_id(&id, &one));
        STEER_TRY(check_known(t, id, ids.where));
        STEER_TRY(steer_ids_add(out, id));
    }
    return STEER_OK;
}

/* The template of one text: special tokens around one A. */
static int read_template(steer_tokenizer *t, const steer_field *processor) {
    steer_field list = steer_field_get(processor, "single");
    STEER_TRY(steer_field_array(&list));
    size_t index = 0, texts = 0;
    for (const steer_json *item = list.json->first; item; item = item->next) {
        steer_field one = steer_field_at(&list, item, index++);
        STEER_TRY(steer_field_object(&one, "SpecialToken Sequence"));
        steer_field special = steer_field_get(&one, "SpecialToken"),
                    sequence = steer_field_get(&one, "Sequence");
        const steer_json *name;
        STEER_TRY(steer_field_text(&name, sequence.json ? &sequence : &special, "id"));
        if (!sequence.json)
            STEER_TRY(put_special(t, texts ? &t->after : &t->before, processor, name));
        else if (!steer_json_is_text(name, "A"))
            return STEER_FAIL(STEER_E_FORMAT, "%s: expected the sequence A", one.where);
        texts += sequence.json != NULL;
    }
    if (texts == 1) return STEER_OK;
    return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: has the text %zu times, expected once", list.where, texts);
}

/* ["</s>", 2] */
static int read_named(steer_tokenizer *t, steer_ids *out, const steer_field *processor, const char *key) {
    steer_field pair = steer_field_get(processor, key);
    STEER_TRY(steer_field_array(&pair));
    if (pair.json->count != 2) return STEER_FAIL(STEER_E_FORMAT, "%s: expected a text and an id", pair.where);
    steer_field one = steer_field_at(&pair, pair.json->first->next, 1);
    int32_t id;
    STEER_TRY(steer_field_id(&id, &one));
    STEER_TRY(check_known(t, id, pair.where));
    return steer_ids_add(out, id);
}

static int read_processor(steer_tokenizer *t, const steer_field *field) {
    static const struct {
        const char *type, *known;
    } types[] = {{"ByteLevel", "type add_prefix_space trim_offsets use_regex"}, /* of offsets, not of ids */
                 {"TemplateProcessing", "type single pair special_tokens"},
                 {"RobertaProcessing", "type sep cls trim_offsets add_prefix_space"},
                 {"BertProcessing", "type sep cls"},
                 {"Sequence", "type processors"}};
    if (steer_field_is_null(field)) return STEER_OK;
    const steer_json *type;
    size_t kind = 0, index = 0;
    STEER_TRY(steer_field_text(&type, field, "type"));
    while (kind < 5 && !steer_json_is_text(type, types[kind].type)) kind++;
    if (kind == 5)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: the type %.*s is not supported", field->where,
                          (int)(type->size < 60 ? type->size : 60), type->text);
    STEER_TRY(steer_field_object(field, types[kind].known));
    if (kind > 0 && kind < 4 && t->before.size + t->after.size > 0)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "%s: a second one that puts tokens around a text",
                          field->where);
    if (kind == 1) return read_template(t, field);
    if (kind == 2 || kind == 3) {
        STEER_TRY(read_named(t, &t->before, field, "cls"));
        return read_named(t, &t->after, field, "sep");
    }
    if (kind == 0) return STEER_OK;
    steer_field list = steer_field_get(field, "processors");
    STEER_TRY(steer_field_array(&list));
    for (const steer_json *item = list.json->first; item; item = item->next) {
        steer_field one = steer_field_at(&list, item, index++);
        STEER_TRY(read_processor(t, &one));
    }
    return STEER_OK;
}

/* ---- The files -------------------------------------------------------------------------------------------------- */

/* Truncation and padding are for batches of texts, which there are none of here. */
static int read_root(steer_tokenizer *t, const steer_json *json) {
    steer_field root = {.json = json}, model, added, part;
    snprintf(root.where, sizeof root.where, "%s", "the file");
    STEER_TRY(steer_field_object(&root, "version truncation padding added_tokens normalizer pre_tokenizer "
                                        "post_processor decoder model"));
    root.where[0] = 0;
    model = steer_field_get(&root, "model");
    added = steer_field_get(&root, "added_tokens");
    STEER_TRY(read_model(t, &model));
    STEER_TRY(steer_added_read(&t->added, &t->vocab, &added));
    part = steer_field_get(&root, "normalizer");
    STEER_TRY(steer_normalizer_read(&t->normalizer, &part));
    part = steer_field_get(&root, "pre_tokenizer");
    STEER_TRY(steer_splitter_read(&t->splitter, &part));
    part = steer_field_get(&root, "post_processor");
    STEER_TRY(read_processor(t, &part));
    part = steer_field_get(&root, "decoder");
    STEER_TRY(steer_decoder_read(&t->decoder, &part));
    return steer_tokenizer_close(t);
}

int steer_tokenizer_role(const char *name) {
    static const char *const names[STEER_ROLES] = {"bos", "eos", "unk", "pad"};
    for (int i = 0; i < STEER_ROLES; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

/* "bos_token": a text, or an object whose "content" is one. */
static int read_config(steer_tokenizer *t, const steer_json *json) {
    static const char *const keys[STEER_ROLES] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    for (int i = 0; i < STEER_ROLES; i++) {
        const steer_json *token = steer_json_get(json, keys[i]);
        if (token && token->type == STEER_JSON_OBJECT) token = steer_json_get(token, "content");
        if (!token || token->type != STEER_JSON_STRING) continue;
        t->roles[i] = steer_added_find(&t->added, token->text, token->size);
        if (t->roles[i] < 0) t->roles[i] = steer_vocab_find(&t->vocab, token->text, token->size);
    }
    return STEER_OK;
}

static int read_json(steer_tokenizer *t, const steer_map *map,
                     int (*read)(steer_tokenizer *, const steer_json *)) {
    steer_json_tree tree;
    STEER_TRY(steer_json_parse(&tree, (const char *)map->data, (size_t)map->size, map->path));
    int status = read(t, tree.root);
    if (status != STEER_OK) steer_fail_prefix(status, "%.500s", map->path);
    steer_json_free(&tree);
    return status;
}

static int read_main(steer_tokenizer *t, const steer_map *map) {
    if (map->size >= 4 && memcmp(map->data, "GGUF", 4) == 0) return steer_tokenizer_read_gguf(t, map);
    return read_json(t, map, read_root);
}

static int read_beside(steer_tokenizer *t, const steer_map *map) { return read_json(t, map, read_config); }

static int read_file(steer_tokenizer *t, const char *path,
                     int (*read)(steer_tokenizer *, const steer_map *)) {
    steer_map *map = NULL;
    STEER_TRY(steer_map_file(&map, path));
    int status = read(t, map);
    steer_map_drop(map);
    return status;
}

int steer_tokenizer_read(steer_tokenizer *tokenizer, const char *path) {
    static const char name[] = "tokenizer.json", config[] = "tokenizer_config.json";
    struct stat st;
    size_t size = strlen(path);
    char *full = malloc(size + sizeof config + 1);
    if (!full) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "path: no host memory for its name");
    memcpy(full, path, size + 1);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) sprintf(full + size, "/%s", name);
    int status = read_file(tokenizer, full, read_main);
    if (status == STEER_OK && !tokenizer->complete) { /* a .gguf file says it all */
        char *slash = strrchr(full, '/');
        strcpy(slash ? slash + 1 : full, config);
        if (stat(full, &st) == 0) status = read_file(tokenizer, full, read_beside);
    }
    free(full);
    return status;
}
