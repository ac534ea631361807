/* device.h: an open device: its backend, its accounting, and memory from it. */
#ifndef STEER_BACKEND_DEVICE_H
#define STEER_BACKEND_DEVICE_H

#include "backend/backend.h"
#include "core/refs.h"

/* Devices live for the whole process once opened: finalizers may run in any order and at any time. The reference
 * count only tells leaks to tests. */
struct steer_device {
    const steer_backend *backend;
    void *state; /* the backend's */
    char id[16];
    steer_refs refs;
    atomic_int_fast64_t live_bytes;
    atomic_int_fast64_t peak_bytes;
    atomic_int_fast64_t live_allocations;
    atomic_int_fast64_t total_allocations;
    atomic_int_fast64_t fail_in; /* test aid: allocations until one fails; 0: never */
    _Atomic double bandwidth;    /* measured in-place stream, bytes/s; 0: not yet */
};

static inline int steer_device_is_cpu(const steer_device *device) {
    return device->id[0] == 'c' && device->id[1] == 'p';
}

/* 1 while the calling thread's stream is being captured into a graph. */
static inline int steer_device_is_capturing(const steer_device *device) {
    return device->backend->is_capturing && device->backend->is_capturing(device->state);
}

/* The device of a backend slot (registry.h), opened at the first call. Borrowed: devices live on. */
int steer_device_get(steer_device **out, int32_t slot, int32_t index);
/* What steer_device_open does, without a reference. */
int steer_device_find(steer_device **out, const char *id);

/* Device memory, counted. `what` names it in the OUT_OF_MEMORY message, which says how much was asked and is free. */
int steer_device_allocate(steer_device *device, void **out, size_t bytes, const char *what);
void steer_device_deallocate(steer_device *device, void *data, size_t bytes);

#endif
