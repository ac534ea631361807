/* registry.c: finds and loads the backends, once per process. */
#define _GNU_SOURCE /* dladdr */
#include "backend/registry.h"
#include "core/cache.h"
#include "core/interrupt.h"
#include "core/status.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 1024 };

static steer_backend_slot slots[STEER_BACKEND_COUNT] = {{.name = "cpu"}, {.name = "cuda"}};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static steer_hash key_of(const void *key, size_t size) {
    return steer_hash_bytes((steer_hash){0, 0}, key, size);
}

static int cache_get(void *out, size_t size, const void *key, size_t key_size) {
    void *data = NULL;
    size_t found;
    if (steer_cache_get(&data, &found, key_of(key, key_size)) != STEER_OK) return 0;
    if (found == size) memcpy(out, data, size);
    free(data);
    return found == size;
}

static void cache_put(const void *data, size_t size, const void *key, size_t key_size) {
    if (steer_cache_put(key_of(key, key_size), data, size) == STEER_E_INTERRUPTED)
        steer_interrupt_raise(); /* meant for the caller's next call */
}

static const steer_host host = {
    .abi = STEER_BACKEND_ABI, .fail = steer_fail, .cache_get = cache_get, .cache_put = cache_put};

/* Writes "<dir>/steer_<name>.so" to `path`; 1 if that file exists. */
static int module_in(char *path, const char *dir, size_t dir_length, const char *name) {
    int n = snprintf(path, PATH_SIZE, "%.*s/steer_%s.so", (int)dir_length, dir, name);
    return dir_length > 0 && n > 0 && n < PATH_SIZE && access(path, F_OK) == 0;
}

/* The directory "steer" beside this library; 0 if unknown. */
static int own_directory(char *dir) {
    Dl_info info;
    static const char anchor; /* an address inside this library */
    if (!dladdr(&anchor, &info) || !info.dli_fname) return 0;
    const char *slash = strrchr(info.dli_fname, '/');
    int length = slash ? (int)(slash - info.dli_fname) : 1;
    int n = snprintf(dir, PATH_SIZE, "%.*s/steer", length, slash ? info.dli_fname : ".");
    return n > 0 && n < PATH_SIZE;
}

/* Looks in the directories of STEER_BACKEND_PATH, beside the library, then where it was to be installed. */
static int find_module(char *path, const char *name, char *detail, size_t size) {
    char own[PATH_SIZE] = "";
    const char *list = getenv("STEER_BACKEND_PATH");
    for (const char *dir = list ? list : ""; *dir;) {
        size_t length = strcspn(dir, ":");
        if (module_in(path, dir, length, name)) return 1;
        dir += length + (dir[length] == ':');
    }
    if (own_directory(own) && module_in(path, own, strlen(own), name)) return 1;
    if (module_in(path, STEER_MODULE_DIR, strlen(STEER_MODULE_DIR), name)) return 1;
    snprintf(detail, size, "no module steer_%s.so in: %s%s%s%s%s", name, list ? list : "",
             list && *list ? ", " : "", own, *own ? ", " : "", STEER_MODULE_DIR);
    return 0;
}

static const steer_backend *load_module(const char *name, char *detail, size_t size) {
    char path[PATH_SIZE];
    if (!find_module(path, name, detail, size)) return NULL;
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        const char *text = dlerror();
        snprintf(detail, size, "%s", text ? text : "dlopen failed");
        return NULL;
    }
    void *symbol = dlsym(module, STEER_BACKEND_ENTRY);
    steer_backend_entry_fn entry;
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from an object to a function pointer */
    const steer_backend *backend = entry ? entry(&host) : NULL;
    if (!backend || backend->abi != STEER_BACKEND_ABI) {
        snprintf(detail, size, "%.180s: %s", path,
                 entry ? "built for another version of Steer" : "not a backend module");
        dlclose(module);
        return NULL;
    }
    snprintf(detail, size, "%.200s", path);
    return backend;
}

static void load_all(void) {
    slots[0].backend = steer_backend_cpu();
    for (int32_t i = 0; i < STEER_BACKEND_COUNT; i++) {
        steer_backend_slot *slot = &slots[i];
        char from[sizeof slot->detail] = "";
        if (!slot->backend) slot->backend = load_module(slot->name, from, sizeof from);
        if (slot->backend) slot->devices = slot->backend->probe(slot->detail, sizeof slot->detail);
        if (slot->devices > STEER_MAX_DEVICES) slot->devices = STEER_MAX_DEVICES;
        if (slot->devices < 0) slot->devices = 0;
        size_t used = strlen(slot->detail);
        snprintf(slot->detail + used, sizeof slot->detail - used, "%s%.239s", used && *from ? "; " : "",
                 from);
    }
}

const steer_backend_slot *steer_registry_at(int32_t index) {
    pthread_once(&once, load_all);
    return &slots[index];
}
