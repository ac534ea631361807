/* module.h: opens the CUDA module in tests that need no device, and finds what it exports for them. */
#ifndef STEER_TESTS_MODULE_H
#define STEER_TESTS_MODULE_H

#include "backend/backend.h"
#include "check.h"

#include <dlfcn.h>
#include <stdarg.h>

static int record(int code, const char *file, int line, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s:%d: %s\n", file, line, text);
    return code;
}

/* 1 if the module is open and the function `name` was found, whose address goes to `out`. */
static int open_module(const char *path, const char *name, void *out) {
    static const steer_host host = {.abi = STEER_BACKEND_ABI, .fail = record};
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        fprintf(stderr, "%s\n", dlerror());
        return 0;
    }
    void *entry = dlsym(module, STEER_BACKEND_ENTRY), *trial = dlsym(module, name);
    steer_backend_entry_fn open_backend;
    memcpy(&open_backend, &entry, sizeof entry);
    memcpy(out, &trial, sizeof trial);
    return entry && trial && open_backend(&host) != NULL;
}

#endif
