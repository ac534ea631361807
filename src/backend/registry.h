/* registry.h: the backends of this process: the built-in CPU and the modules that were found. */
#ifndef STEER_BACKEND_REGISTRY_H
#define STEER_BACKEND_REGISTRY_H

#include "backend/backend.h"

enum {
    STEER_BACKEND_COUNT = 2, /* backends that Steer knows */
    STEER_MAX_DEVICES = 64   /* most devices of one backend */
};

typedef struct steer_backend_slot {
    const char *name;
    const steer_backend *backend; /* NULL: the module could not be loaded */
    int32_t devices;
    char detail[240]; /* what was loaded and from where, or why there is no device */
} steer_backend_slot;

/* Slot `index` < STEER_BACKEND_COUNT. Slots are loaded at the first call and never change. Slot 0 is the CPU. */
const steer_backend_slot *steer_registry_at(int32_t index);

#endif
