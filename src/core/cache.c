/* cache.c: a folder of files named by their keys, each written whole, checked when read, and removed when room is short. */
#include "core/cache.h"
#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ABANDONED_SECONDS = 3600 }; /* a temporary file of a writer that died */

/* What an entry begins with. */
typedef struct entry_head {
    char magic[8];
    steer_hash key;
    uint64_t size; /* of the data that follow */
    steer_hash sum;
} entry_head;

static const char magic[8] = "STEERKC1";

/* ---- Where, and how much -------------------------------------------------------------------------------------- */

static int bound(int64_t *out) {
    const char *text = getenv("STEER_CACHE_BYTES");
    *out = (int64_t)256 << 20;
    if (!text || !*text) return STEER_OK;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || *end || value < 0 || text[0] == ' ')
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "STEER_CACHE_BYTES: \"%.64s\", expected a number of bytes", text);
    *out = value;
    return STEER_OK;
}

int steer_cache_check(void) {
    int64_t bytes;
    return bound(&bytes);
}

/* A variable that does not hold an absolute path counts as not set. */
static int folder(char out[PATH_MAX]) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = 0;
    if (cache && cache[0] == '/')
        length = snprintf(out, PATH_MAX, "%s/steer", cache);
    else if (home && home[0] == '/')
        length = snprintf(out, PATH_MAX, "%s/.cache/steer", home);
    else
        return STEER_FAIL(STEER_E_NOT_FOUND, "cache: neither XDG_CACHE_HOME nor HOME is set");
    return length < PATH_MAX ? STEER_OK : STEER_FAIL(STEER_E_IO, "cache: the path of its folder is too long");
}

static int entry_path(char out[PATH_MAX], steer_hash key) {
    char where[PATH_MAX];
    STEER_TRY(folder(where));
    int length = snprintf(out, PATH_MAX, "%s/%016" PRIx64 "%016" PRIx64 ".entry", where, key.hi, key.lo);
    return length < PATH_MAX ? STEER_OK : STEER_FAIL(STEER_E_IO, "cache: the path of its folder is too long");
}

/* Makes the folder of a path and what it lies in; a failure shows when the file is made. */
static void make_folders(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
}

/* ---- Reading -------------------------------------------------------------------------------------------------- */

/* The data of a mapped file if they are what was stored under the key. */
static int check_entry(const void **data, size_t *size, const steer_map *map, steer_hash key) {
    entry_head head;
    if (map->size < (int64_t)sizeof head) return 0;
    memcpy(&head, map->data, sizeof head);
    *data = map->data + sizeof head;
    *size = (size_t)map->size - sizeof head;
    return memcmp(head.magic, magic, sizeof magic) == 0 && steer_hash_equal(head.key, key) &&
           head.size == *size &&
           steer_hash_equal(head.sum, steer_hash_bytes((steer_hash){0, 0}, *data, *size));
}

int steer_cache_get(void **out, size_t *size, steer_hash key) {
    char path[PATH_MAX];
    int64_t bytes;
    const void *data;
    STEER_TRY(bound(&bytes));
    if (bytes == 0) return STEER_FAIL(STEER_E_NOT_FOUND, "STEER_CACHE_BYTES is 0: nothing is cached");
    STEER_TRY(entry_path(path, key));
    steer_map *map;
    int status = steer_map_file(&map, path);
    if (status != STEER_OK) return status == STEER_E_OUT_OF_MEMORY ? status : STEER_E_NOT_FOUND;
    if (!check_entry(&data, size, map, key)) {
        unlink(path);
        status = STEER_FAIL(STEER_E_NOT_FOUND, "%.700s: is damaged", path);
    } else if (!(*out = malloc(*size ? *size : 1))) {
        status = STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%.700s: no memory to read it", path);
    } else {
        memcpy(*out, data, *size);
        utimensat(AT_FDCWD, path, NULL, 0); /* used now */
    }
    steer_map_drop(map);
    return status;
}

/* ---- Making room ---------------------------------------------------------------------------------------------- */

typedef struct found {
    struct timespec used;
    int64_t bytes;
    char name[80];
} found;

static int compare_use(const void *a, const void *b) {
    const found *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    return (x->used.tv_nsec > y->used.tv_nsec) - (x->used.tv_nsec < y->used.tv_nsec);
}

/* Notes a file of ours; removes a temporary one that was left behind. */
static int look_at(found *out, int fd, const char *name) {
    struct stat st;
    size_t length = strlen(name);
    int entry = length > 6 && length < sizeof out->name && !strcmp(name + length - 6, ".entry");
    int temporary = !strncmp(name, ".steer-", 7);
    if (!(entry || temporary) || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
        return 0;
    if (temporary) {
        if (time(NULL) - st.st_mtime > ABANDONED_SECONDS) unlinkat(fd, name, 0);
        return 0;
    }
    *out = (found){st.st_mtim, st.st_size, ""};
    memcpy(out->name, name, length + 1);
    return 1;
}

/* Removes what was not used for longest until the entries are within `bytes`. Another process may do so too. */
static void make_room(const char *where, int64_t bytes) {
    DIR *entries = opendir(where);
    if (!entries) return;
    found *all = NULL;
    size_t count = 0, capacity = 0;
    int64_t total = 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (count == capacity) {
            found *more = realloc(all, (capacity = capacity * 2 + 64) * sizeof *all);
            if (!more) break;
            all = more;
        }
        if (look_at(&all[count], dirfd(entries), entry->d_name)) total += all[count++].bytes;
    }
    if (count) qsort(all, count, sizeof *all, compare_use);
    for (size_t i = 0; i < count && total > bytes; i++) {
        unlinkat(dirfd(entries), all[i].name, 0);
        total -= all[i].bytes;
    }
    free(all);
    closedir(entries);
}

/* ---- Writing -------------------------------------------------------------------------------------------------- */

int steer_cache_put(steer_hash key, const void *data, size_t size) {
    char path[PATH_MAX];
    int64_t bytes;
    entry_head head = {.key = key, .size = size, .sum = steer_hash_bytes((steer_hash){0, 0}, data, size)};
    memcpy(head.magic, magic, sizeof magic);
    STEER_TRY(bound(&bytes));
    if ((uint64_t)bytes < size + sizeof head)
        return STEER_FAIL(STEER_E_IO, "STEER_CACHE_BYTES: %lld bytes have no room for an entry of %zu",
                          (long long)bytes, size + sizeof head);
    STEER_TRY(entry_path(path, key));
    make_folders(path);
    steer_file *file;
    STEER_TRY(steer_file_begin(&file, path));
    int status = steer_file_append(file, &head, sizeof head);
    if (status == STEER_OK) status = steer_file_append(file, data, size);
    if (status == STEER_OK) status = steer_file_publish(file);
    steer_file_free(file);
    STEER_TRY(status);
    *strrchr(path, '/') = '\0';
    make_room(path, bytes);
    return STEER_OK;
}
