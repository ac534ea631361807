/* device.c: opens devices once per process and accounts their memory. */
#include "backend/device.h"
#include "backend/registry.h"
#include "core/status.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static steer_device *opened[STEER_BACKEND_COUNT][STEER_MAX_DEVICES]; /* by slot and index; under `lock` */

static int make_device(steer_device **out, const steer_backend_slot *slot, int32_t index) {
    steer_device *device = calloc(1, sizeof *device);
    if (!device) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "device: %zu bytes of host memory", sizeof *device);
    device->backend = slot->backend;
    steer_refs_init(&device->refs);
    if (slot->backend == steer_backend_cpu())
        snprintf(device->id, sizeof device->id, "%s", slot->name);
    else
        snprintf(device->id, sizeof device->id, "%.8s:%u", slot->name, (unsigned)index % STEER_MAX_DEVICES);
    int status = slot->backend->open(&device->state, index);
    if (status != STEER_OK) {
        steer_fail_prefix(status, "%s", device->id);
        free(device);
        return status;
    }
    *out = device;
    return STEER_OK;
}

int steer_device_get(steer_device **out, int32_t slot_index, int32_t index) {
    const steer_backend_slot *slot = steer_registry_at(slot_index);
    if (index >= slot->devices && slot->devices > 0)
        return STEER_FAIL(STEER_E_NOT_FOUND, "%s:%d: this machine has %d %s device%s", slot->name, index,
                          slot->devices, slot->name, slot->devices == 1 ? "" : "s");
    if (index >= slot->devices)
        return STEER_FAIL(STEER_E_NOT_FOUND, "%s:%d: %s", slot->name, index, slot->detail);
    int status = STEER_OK;
    pthread_mutex_lock(&lock);
    steer_device **place = &opened[slot_index][index];
    if (!*place) status = make_device(place, slot, index);
    if (status == STEER_OK) *out = *place;
    pthread_mutex_unlock(&lock);
    return status;
}

/* Splits "name" or "name:index"; the CPU has one device and takes no index. */
static int parse_id(const char *id, int32_t *slot, int32_t *index) {
    size_t length = strcspn(id, ":");
    for (int32_t i = 0; i < STEER_BACKEND_COUNT; i++) {
        const char *name = steer_registry_at(i)->name;
        if (strlen(name) != length || memcmp(name, id, length) != 0) continue;
        const char *digits = id + length + 1;
        *slot = i;
        *index = 0;
        if (i == 0 || !id[length]) return i > 0 || !id[length];
        size_t count = strspn(digits, "0123456789");
        if (count == 0 || count > 4 || digits[count] || (count > 1 && *digits == '0')) return 0;
        *index = atoi(digits);
        return 1;
    }
    return 0;
}

int steer_device_find(steer_device **out, const char *id) {
    const char *variable = getenv("STEER_DEVICE");
    int from_environment = (!id || !*id) && variable && *variable;
    if (from_environment) id = variable;
    int32_t slot = 0, index = 0;
    if (!id || !*id) {
        for (int32_t i = STEER_BACKEND_COUNT - 1; i > 0; i--)
            if (steer_registry_at(i)->devices > 0) slot = i;
        return steer_device_get(out, slot, 0);
    }
    const char *argument = from_environment ? "STEER_DEVICE" : "id";
    if (!parse_id(id, &slot, &index))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "%s: \"%.64s\" names no device, expected \"cpu\" or \"cuda:N\"", argument, id);
    int status = steer_device_get(out, slot, index);
    return status != STEER_OK && from_environment ? steer_fail_prefix(status, "STEER_DEVICE") : status;
}

/* Counts down the injected failure; 1 when it is this allocation's turn. */
static int must_fail(steer_device *device) {
    return atomic_load_explicit(&device->fail_in, memory_order_relaxed) > 0 &&
           atomic_fetch_sub(&device->fail_in, 1) == 1;
}

static void count_allocation(steer_device *device, int64_t bytes) {
    int_fast64_t live = atomic_fetch_add(&device->live_bytes, bytes) + bytes;
    int_fast64_t peak = atomic_load(&device->peak_bytes);
    while (live > peak && !atomic_compare_exchange_weak(&device->peak_bytes, &peak, live)) continue;
    atomic_fetch_add(&device->live_allocations, 1);
    atomic_fetch_add(&device->total_allocations, 1);
}

int steer_device_allocate(steer_device *device, void **out, size_t bytes, const char *what) {
    if (bytes > INT64_MAX)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: %zu bytes are more than can be addressed", what,
                          bytes);
    void *data = NULL;
    int status =
        must_fail(device) ? STEER_E_OUT_OF_MEMORY : device->backend->allocate(device->state, &data, bytes);
    if (status == STEER_E_OUT_OF_MEMORY) {
        int64_t available = 0;
        if (device->backend->free_bytes(device->state, &available) != STEER_OK) available = 0;
        return STEER_FAIL(status, "%s: %zu bytes were asked for on %s, %" PRId64 " are free", what, bytes,
                          device->id, available);
    }
    if (status != STEER_OK) return steer_fail_prefix(status, "%s", what);
    count_allocation(device, (int64_t)bytes);
    *out = data;
    return STEER_OK;
}

void steer_device_deallocate(steer_device *device, void *data, size_t bytes) {
    if (!data) return;
    device->backend->release(device->state, data);
    atomic_fetch_sub(&device->live_bytes, (int64_t)bytes);
    atomic_fetch_sub(&device->live_allocations, 1);
}
