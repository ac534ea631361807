/* folder.c: which files of a folder hold a model's tensors: one safetensors file, or shards and their index. */
#include "file/store.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *join(const char *folder, const char *name, size_t size) {
    const size_t length = strlen(folder);
    char *path = malloc(length + size + 2);
    if (!path) return NULL;
    memcpy(path, folder, length);
    path[length] = '/';
    memcpy(path + length + 1, name, size);
    path[length + 1 + size] = 0;
    return path;
}

static int is_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

static int ends_with(const char *text, const char *end) {
    const size_t size = strlen(text), tail = strlen(end);
    return size >= tail && strcmp(text + size - tail, end) == 0;
}

static int read_one(steer_weights *weights, const char *path) {
    steer_map *map;
    STEER_TRY(steer_weights_map(weights, &map, path));
    return steer_weights_read_safetensors(weights, map);
}

static int is_mapped(const steer_weights *weights, const char *path) {
    for (int32_t i = 0; i < weights->map_count; i++)
        if (strcmp(weights->maps[i]->path, path) == 0) return 1;
    return 0;
}

/* Reads the file that one entry of weight_map names, unless an entry before it did. */
static int read_entry(steer_weights *weights, const char *folder, const char *index,
                      const steer_json *entry) {
    if (entry->type != STEER_JSON_STRING || entry->size == 0 || memchr(entry->text, '/', entry->size) ||
        memchr(entry->text, 0, entry->size))
        return STEER_FAIL(STEER_E_FORMAT, "%s: weight_map: %s: expected the name of a file beside it", index,
                          STEER_QUOTE(entry->key, entry->key_size));
    char *path = join(folder, entry->text, entry->size);
    if (!path) return steer_weights_no_memory(index);
    int status = STEER_OK;
    if (!is_mapped(weights, path))
        status = is_file(path) ? read_one(weights, path)
                               : STEER_FAIL(STEER_E_NOT_FOUND, "%s: weight_map: tensor %s: there is no %s",
                                            index, STEER_QUOTE(entry->key, entry->key_size), path);
    free(path);
    return status;
}

/* The entry's tensor must lie in the file that it names. */
static int check_entry(const steer_weights *weights, const char *index, const steer_json *entry) {
    char name[STEER_NAME_MOST + 1] = "";
    if (entry->key_size < sizeof name) memcpy(name, entry->key, entry->key_size);
    const steer_weight *weight = steer_weights_find(weights, name);
    const char *slash = weight ? strrchr(weight->file, '/') : NULL;
    if (slash && steer_json_is_text(entry, slash + 1)) return STEER_OK;
    return STEER_FAIL(STEER_E_FORMAT, "%s: weight_map: tensor %s is not in %s%s%s", index,
                      STEER_QUOTE(entry->key, entry->key_size), STEER_QUOTE(entry->text, entry->size),
                      weight ? ", it is in " : "", weight ? weight->file : "");
}

static int read_shards(steer_weights *weights, const char *folder, const char *index, const steer_json *map) {
    if (!map || map->type != STEER_JSON_OBJECT)
        return STEER_FAIL(STEER_E_FORMAT, "%s: weight_map: expected an object, got %s", index,
                          steer_json_what(map));
    for (const steer_json *entry = map->first; entry; entry = entry->next)
        STEER_TRY(read_entry(weights, folder, index, entry));
    for (const steer_json *entry = map->first; entry; entry = entry->next)
        STEER_TRY(check_entry(weights, index, entry));
    return STEER_OK;
}

static int read_index(steer_weights *weights, const char *folder, const char *index) {
    steer_map *map;
    steer_json_tree tree;
    STEER_TRY(steer_weights_map(weights, &map, index));
    STEER_TRY(steer_json_parse(&tree, (const char *)map->data, (size_t)map->size, index));
    const int status = read_shards(weights, folder, index, steer_json_get(tree.root, "weight_map"));
    steer_json_free(&tree);
    return status;
}

/* Names what a folder without safetensors has instead. */
static int fail_none(const char *folder, int count, int gguf, int pickle) {
    if (count > 1)
        return STEER_FAIL(STEER_E_NOT_FOUND, "%s: %d *.safetensors without a model.safetensors.index.json",
                          folder, count);
    return STEER_FAIL(pickle ? STEER_E_UNSUPPORTED : STEER_E_NOT_FOUND,
                      "%s: no model.safetensors, no model.safetensors.index.json, no other *.safetensors%s",
                      folder,
                      gguf     ? "; open its .gguf file by name"
                      : pickle ? "; its *.bin is a pickle: convert it to safetensors"
                               : "");
}

/* The one *.safetensors of a folder, for the caller to free. */
static int only_file(char **out, const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir)
        return STEER_FAIL(errno == ENOENT ? STEER_E_NOT_FOUND : STEER_E_IO, "%s: %s", folder,
                          strerror(errno));
    int count = 0, gguf = 0, pickle = 0;
    char *path = NULL;
    for (struct dirent *entry; (entry = readdir(dir));) {
        gguf |= ends_with(entry->d_name, ".gguf");
        pickle |= ends_with(entry->d_name, ".bin");
        if (!ends_with(entry->d_name, ".safetensors")) continue;
        count++;
        free(path);
        path = join(folder, entry->d_name, strlen(entry->d_name));
    }
    closedir(dir);
    if (count == 1) {
        *out = path;
        return path ? STEER_OK : steer_weights_no_memory(folder);
    }
    free(path);
    return fail_none(folder, count, gguf, pickle);
}

int steer_weights_read_folder(steer_weights *weights, const char *folder) {
    static const char single[] = "model.safetensors", sharded[] = "model.safetensors.index.json";
    char *index = join(folder, sharded, sizeof sharded - 1), *file = join(folder, single, sizeof single - 1);
    int status = index && file ? STEER_OK : steer_weights_no_memory(folder);
    if (status == STEER_OK && is_file(index)) {
        status = read_index(weights, folder, index);
    } else if (status == STEER_OK) {
        if (!is_file(file)) {
            free(file);
            file = NULL;
            status = only_file(&file, folder);
        }
        if (status == STEER_OK) status = read_one(weights, file);
    }
    free(index);
    free(file);
    return status;
}
