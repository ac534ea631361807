/* capi.c: the exported functions of the library, its devices and measuring. */
#include "steer_model.h"
#include "backend/device.h"
#include "backend/registry.h"
#include "core/status.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Library -------------------------------------------------------------------------------------------------- */

uint32_t steer_abi_version(void) { return STEER_ABI_VERSION; }
const char *steer_version(void) { return STEER_VERSION; }

size_t steer_sizeof(const char *type) {
#define SIZED(name)                                                                                          \
    { #name, sizeof(name) }
    static const struct {
        const char *name;
        size_t size;
    } table[] = {
        SIZED(steer_backend_info),  SIZED(steer_device_info),   SIZED(steer_memory_info),
        SIZED(steer_selector),      SIZED(steer_op_desc),       SIZED(steer_engine_desc),
        SIZED(steer_engine_stats),  SIZED(steer_request),       SIZED(steer_plan_desc),
        SIZED(steer_explain),       SIZED(steer_group),         SIZED(steer_plan_graph_stats),
        SIZED(steer_model_desc),    SIZED(steer_model_info),    SIZED(steer_capture_desc),
        SIZED(steer_session_desc),  SIZED(steer_sequence_desc), SIZED(steer_sequence_status),
        SIZED(steer_session_stats),
    };
#undef SIZED
    for (size_t i = 0; type && i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, type) == 0) return table[i].size;
    return 0;
}

/* ---- Devices -------------------------------------------------------------------------------------------------- */

int32_t steer_backend_count(void) { return STEER_BACKEND_COUNT; }

int steer_backend_describe(steer_backend_info *out, int32_t index) {
    STEER_ENTER("backend_describe");
    STEER_REQUIRE_STRUCT(out);
    if (index < 0 || index >= STEER_BACKEND_COUNT)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "index: %d, expected 0 to %d", index,
                          STEER_BACKEND_COUNT - 1);
    const steer_backend_slot *slot = steer_registry_at(index);
    out->device_count = slot->devices;
    snprintf(out->name, sizeof out->name, "%s", slot->name);
    snprintf(out->detail, sizeof out->detail, "%s", slot->detail);
    return STEER_OK;
}

int32_t steer_device_count(void) {
    int32_t count = 0;
    for (int32_t i = 0; i < STEER_BACKEND_COUNT; i++) count += steer_registry_at(i)->devices;
    return count;
}

int steer_device_describe(steer_device_info *out, int32_t index) {
    STEER_ENTER("device_describe");
    STEER_REQUIRE_STRUCT(out);
    if (index < 0 || index >= steer_device_count())
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "index: %d, expected 0 to %d", index,
                          steer_device_count() - 1);
    int32_t slot = 0;
    for (; index >= steer_registry_at(slot)->devices; slot++) index -= steer_registry_at(slot)->devices;
    steer_device *device;
    STEER_TRY(steer_device_get(&device, slot, index));
    steer_device_info info = {.struct_size = sizeof info};
    STEER_TRY(device->backend->describe(device->state, &info));
    memcpy(info.id, device->id, sizeof info.id);
    *out = info;
    return STEER_OK;
}

int steer_device_open(steer_device **out, const char *id) {
    STEER_ENTER("device_open");
    STEER_REQUIRE(out);
    steer_device *device;
    STEER_TRY(steer_device_find(&device, id));
    *out = steer_device_retain(device);
    return STEER_OK;
}

steer_device *steer_device_retain(steer_device *device) {
    if (device) steer_refs_add(&device->refs);
    return device;
}

/* Never the last reference: the table of open devices keeps one. */
void steer_device_release(steer_device *device) {
    if (device) (void)steer_refs_drop(&device->refs);
}

const char *steer_device_id(const steer_device *device) { return device ? device->id : ""; }

int steer_device_synchronize(steer_device *device) {
    STEER_ENTER("device_synchronize");
    STEER_REQUIRE(device);
    return device->backend->synchronize(device->state);
}

int steer_device_memory(steer_memory_info *out, steer_device *device) {
    STEER_ENTER("device_memory");
    STEER_REQUIRE_STRUCT(out);
    STEER_REQUIRE(device);
    out->reserved = 0;
    out->live_bytes = atomic_load(&device->live_bytes);
    out->peak_bytes = atomic_load(&device->peak_bytes);
    out->live_allocations = atomic_load(&device->live_allocations);
    out->total_allocations = atomic_load(&device->total_allocations);
    return STEER_OK;
}

int steer_device_set_stream(steer_device *device, void *stream) {
    STEER_ENTER("device_set_stream");
    STEER_REQUIRE(device);
    if (!device->backend->set_stream)
        return STEER_FAIL(STEER_E_UNSUPPORTED, "device: %s has no streams", device->id);
    return device->backend->set_stream(device->state, stream);
}

int steer_device_fail_allocation(steer_device *device, int64_t n) {
    STEER_ENTER("device_fail_allocation");
    STEER_REQUIRE(device);
    if (n < 0) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "n: %lld, expected 0 or more", (long long)n);
    atomic_store(&device->fail_in, n);
    return STEER_OK;
}

/* ---- Measuring ------------------------------------------------------------------------------------------------ */

struct steer_event {
    steer_device *device;
    void *state; /* the backend's */
};

struct steer_graph {
    steer_device *device;
    void *state; /* the backend's */
};

int steer_event_create(steer_event **out, steer_device *device) {
    STEER_ENTER("event_create");
    STEER_REQUIRE(out);
    STEER_REQUIRE(device);
    steer_event *event = malloc(sizeof *event);
    if (!event) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "event: %zu bytes of host memory", sizeof *event);
    int status = device->backend->event_create(device->state, &event->state);
    if (status != STEER_OK) {
        free(event);
        return status;
    }
    event->device = steer_device_retain(device);
    *out = event;
    return STEER_OK;
}

void steer_event_release(steer_event *event) {
    if (!event) return;
    event->device->backend->event_release(event->device->state, event->state);
    steer_device_release(event->device);
    free(event);
}

int steer_event_record(steer_event *event) {
    STEER_ENTER("event_record");
    STEER_REQUIRE(event);
    return event->device->backend->event_record(event->device->state, event->state);
}

int steer_event_elapsed(double *out, steer_event *start, steer_event *stop) {
    STEER_ENTER("event_elapsed");
    STEER_REQUIRE(out);
    STEER_REQUIRE(start);
    STEER_REQUIRE(stop);
    if (start->device != stop->device)
        return STEER_FAIL(STEER_E_DEVICE_MISMATCH, "stop: is on %s, expected %s like start", stop->device->id,
                          start->device->id);
    double seconds;
    STEER_TRY(
        start->device->backend->event_elapsed(start->device->state, &seconds, start->state, stop->state));
    *out = seconds;
    return STEER_OK;
}

static int check_graphs(const steer_device *device) {
    if (device->backend->graph_begin) return STEER_OK;
    return STEER_FAIL(STEER_E_UNSUPPORTED, "device: %s captures no graphs", device->id);
}

int steer_graph_begin(steer_device *device) {
    STEER_ENTER("graph_begin");
    STEER_REQUIRE(device);
    STEER_TRY(check_graphs(device));
    return device->backend->graph_begin(device->state);
}

int steer_graph_end(steer_graph **out, steer_device *device) {
    STEER_ENTER("graph_end");
    STEER_REQUIRE(out);
    STEER_REQUIRE(device);
    STEER_TRY(check_graphs(device));
    steer_graph *graph = malloc(sizeof *graph);
    if (!graph) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "graph: %zu bytes of host memory", sizeof *graph);
    int32_t nodes;
    int status = device->backend->graph_end(device->state, &graph->state, &nodes);
    if (status != STEER_OK) {
        free(graph);
        return status;
    }
    graph->device = steer_device_retain(device);
    *out = graph;
    return STEER_OK;
}

int steer_graph_launch(steer_graph *graph) {
    STEER_ENTER("graph_launch");
    STEER_REQUIRE(graph);
    return graph->device->backend->graph_launch(graph->device->state, graph->state);
}

void steer_graph_release(steer_graph *graph) {
    if (!graph) return;
    graph->device->backend->graph_release(graph->device->state, graph->state);
    steer_device_release(graph->device);
    free(graph);
}

int steer_reference_run(steer_tensor *tensor, steer_reference kind) {
    STEER_ENTER("reference_run");
    STEER_REQUIRE(tensor);
    const steer_view *view = &tensor->view;
    steer_device *device = steer_tensor_on(tensor);
    if (kind != STEER_REFERENCE_EMPTY && kind != STEER_REFERENCE_STREAM)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "kind: %d, expected 0 (empty) or 1 (stream)", (int)kind);
    if (!steer_dtype_is_float(view->dtype))
        return STEER_FAIL(STEER_E_DTYPE_MISMATCH, "tensor: has dtype %s, expected f32, f16 or bf16",
                          steer_dtype_name(view->dtype));
    if (!steer_view_is_contiguous(view))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "tensor: is a strided view, expected a contiguous tensor");
    size_t bytes = (size_t)steer_view_numel(view) * steer_dtype_size(view->dtype);
    if (bytes == 0 && kind == STEER_REFERENCE_STREAM) return STEER_OK;
    return device->backend->reference(device->state, view->data, bytes, view->dtype, kind);
}
