/* replay_backend.c: a backend named cuda for machines without a GPU: the CPU backend, with graphs that record steering
 * launches and replay them, and specialised kernels (replay_kernels.c). It refuses what a GPU refuses during a capture,
 * and every launch of programs that the kernel chosen by the launch's bounds could not run, so that a stale graph is an
 * error here and not a wrong result. Its events tell what launches cost by its own reckoning. */
#include "replay_backend.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef EMULATE /* the launches run the CUDA kernels, tests/c/emulate */
enum { MAX_VECTORS = 2 * STEER_MAX_OPS };
#else
enum { MAX_VECTORS = 64 }; /* a GPU has limits too, set by its shared memory */
#endif

/* A graph, growing while it is captured. */
typedef struct replay {
    int32_t count;
    steer_launch *launches;
    steer_entry *uniforms; /* of the launches that have one */
    void **kernels;        /* specialised ones, NULL: the ordinary kernel */
} replay;

static const steer_host *host;
static _Thread_local replay *capture; /* of this thread, or NULL */
static _Thread_local double clock_us; /* what this thread's launches have cost */

/* What the CPU backend's sources report failures with. */
int steer_fail(int code, const char *file, int line, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return host->fail(code, file, line, "%s", text);
}

static int refuse_capture(const char *what) {
    return capture ? STEER_FAIL(STEER_E_UNSUPPORTED, "%s: a graph is being captured", what) : STEER_OK;
}

/* ---- Launches ------------------------------------------------------------------------------------------------ */

static const steer_entry *entry_of(const steer_launch *launch, int64_t row) {
    if (launch->uniform) return launch->uniform;
    const steer_row *record = &launch->table[row];
    int32_t at = launch->layer - record->first;
    return at >= 0 && at < record->count ? (const steer_entry *)(uintptr_t)record->entries + at : NULL;
}

/* What an entry asks of the kernel of blocks: a STEER_BLOCKS_*. */
static int32_t blocks_of(const steer_entry *entry) {
    if (!steer_entry_blocks(entry)) return STEER_BLOCKS_NONE;
    if (entry->image_bytes == 0) return STEER_BLOCKS_ANY;
    const steer_block_short *own = (const void *)(entry->m + 3);
    return own->vectors == 0 ? STEER_BLOCKS_SMALL : own->vectors > 1 ? STEER_BLOCKS_SHORT : STEER_BLOCKS_ONE;
}

/* Whether a kernel that is chosen by the launch's bounds can run the program. */
static int is_within(const steer_launch *launch, const steer_entry *entry) {
    if (steer_entry_blocks(entry)) return blocks_of(entry) <= launch->blocks;
    const steer_needs *needs =
        steer_fits_registers(entry->vectors, entry->norm) ? &launch->few : &launch->many;
    if ((entry->u || entry->vectors) && !needs->present) return 0;
    if (entry->u && entry->vectors && !needs->both) return 0;
    if (!entry->image) return entry->vectors <= needs->max_vectors;
    const steer_program_image *image = (const steer_program_image *)(uintptr_t)entry->image;
    return (image->vectors > 2 ? image->vectors : 2) <= needs->max_vectors &&
           (int64_t)steer_image_size(image->vectors, image->ops) <= needs->max_image_bytes &&
           image->norm <= needs->norm;
}

static int run_launch(void *device, const steer_launch *launch, void *kernel) {
    clock_us += kernel ? replay_kernel_us() : ORDINARY_US;
    for (int64_t row = 0; row < launch->rows; row++) {
        const steer_entry *entry = entry_of(launch, row);
        if (entry && kernel) STEER_TRY(replay_kernel_check(kernel, entry));
        if (entry && !is_within(launch, entry))
            return STEER_FAIL(STEER_E_DEVICE,
                              "layer %d, row %lld: a program of %s beyond the launch's bounds", launch->layer,
                              (long long)row, steer_entry_blocks(entry) ? "blocks" : "vectors");
    }
#ifdef EMULATE
    return emulate_steer(launch) == STEER_OK
               ? STEER_OK
               : STEER_FAIL(STEER_E_UNSUPPORTED, "programs of %d vectors find no room on the device",
                            launch->many.max_vectors);
#else
    return steer_backend_cpu()->steer(device, launch);
#endif
}

static int record_launch(const steer_launch *launch, void *kernel) {
    size_t count = (size_t)capture->count + 1;
    steer_launch *launches = realloc(capture->launches, count * sizeof *launches);
    if (launches) capture->launches = launches;
    steer_entry *uniforms = realloc(capture->uniforms, count * sizeof *uniforms);
    if (uniforms) capture->uniforms = uniforms;
    void **kernels = realloc(capture->kernels, count * sizeof *kernels);
    if (kernels) capture->kernels = kernels;
    if (!launches || !uniforms || !kernels) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "graph: no host memory");
    launches[capture->count] = *launch;
    kernels[capture->count] = kernel;
    if (launch->uniform) uniforms[capture->count] = *launch->uniform;
    capture->count++;
    return STEER_OK;
}

static int replay_steer(void *device, const steer_launch *launch) {
    const int32_t vectors = launch->many.max_vectors;
    if (vectors > MAX_VECTORS && vectors < 2 * STEER_MAX_OPS) /* room for any program is not needed yet */
        return STEER_FAIL(STEER_E_UNSUPPORTED, "programs of %d vectors, at most %d", vectors, MAX_VECTORS);
    return capture ? record_launch(launch, NULL) : run_launch(device, launch, NULL);
}

static int replay_kernel_launch(void *device, void *kernel, const steer_launch *launch, int *served) {
    *served = (uintptr_t)launch->hidden % 16 == 0; /* as a GPU kernel for aligned rows */
    if (!*served) return STEER_OK;
    return capture ? record_launch(launch, kernel) : run_launch(device, launch, kernel);
}

/* ---- Graphs -------------------------------------------------------------------------------------------------- */

static int is_capturing(void *device) { return capture != NULL; }

static int graph_begin(void *device) {
    STEER_TRY(refuse_capture("beginning a graph"));
    capture = calloc(1, sizeof *capture);
    return capture ? STEER_OK : STEER_FAIL(STEER_E_OUT_OF_MEMORY, "graph: no host memory");
}

static int graph_end(void *device, void **out, int32_t *nodes) {
    if (!capture) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "device: this thread captures no graph on it");
    *out = capture;
    *nodes = capture->count;
    capture = NULL;
    return STEER_OK;
}

static int graph_launch(void *device, void *graph) {
    const replay *made = graph;
    STEER_TRY(refuse_capture("a graph in a graph"));
    for (int32_t i = 0; i < made->count; i++) {
        steer_launch launch = made->launches[i];
        if (launch.uniform) launch.uniform = &made->uniforms[i];
        STEER_TRY(run_launch(device, &launch, made->kernels[i]));
    }
    return STEER_OK;
}

static void graph_release(void *device, void *graph) {
    replay *made = graph;
    if (!made) return;
    free(made->launches);
    free(made->uniforms);
    free(made->kernels);
    free(made);
}

/* ---- Events -------------------------------------------------------------------------------------------------- */

/* What is received arrives when its event is waited for, as it was when it was asked for. */
typedef struct replay_event {
    double us;
    void *dst, *copy;
    size_t bytes;
} replay_event;

static int event_create(void *device, void **out) {
    *out = calloc(1, sizeof(replay_event));
    return *out ? STEER_OK : STEER_FAIL(STEER_E_OUT_OF_MEMORY, "event: no host memory");
}

static void event_release(void *device, void *at) {
    replay_event *event = at;
    if (event) free(event->copy);
    free(event);
}

static int event_record(void *device, void *event) {
    ((replay_event *)event)->us = clock_us;
    return STEER_OK;
}

static int event_elapsed(void *device, double *seconds, void *start, void *stop) {
    *seconds = (((replay_event *)stop)->us - ((replay_event *)start)->us) * 1e-6;
    return STEER_OK;
}

/* What bandwidth is measured with. */
static int reference(void *device, void *data, size_t bytes, steer_dtype dtype, steer_reference kind) {
    clock_us += 100;
    return STEER_OK;
}

/* ---- What else a capture refuses ----------------------------------------------------------------------------- */

static int replay_allocate(void *device, void **out, size_t bytes) {
    STEER_TRY(refuse_capture("allocating memory"));
    return steer_backend_cpu()->allocate(device, out, bytes);
}

static int replay_upload(void *device, void *dst, const void *src, size_t bytes) {
    STEER_TRY(refuse_capture("copying to the device"));
    return steer_backend_cpu()->upload(device, dst, src, bytes);
}

/* What is sent arrives as late as it may: at the next call that waits. */
static struct {
    void *dst;
    const void *src;
    size_t bytes;
} sent;

static int replay_pinned_allocate(void *device, void **out, size_t bytes) {
    *out = malloc(bytes);
    return *out ? STEER_OK : STEER_E_OUT_OF_MEMORY;
}

static void replay_pinned_release(void *device, void *data) { free(data); }

static int arrive(void *device) {
    const size_t bytes = sent.bytes;
    sent.bytes = 0;
    return bytes ? steer_backend_cpu()->upload(device, sent.dst, sent.src, bytes) : STEER_OK;
}

static int replay_send(void *device, void *dst, const void *src, size_t bytes) {
    STEER_TRY(refuse_capture("copying to the device"));
    STEER_TRY(arrive(device));
    sent.dst = dst;
    sent.src = src;
    sent.bytes = bytes;
    return STEER_OK;
}

static int replay_receive(void *device, void *dst, const void *src, size_t bytes, void *at) {
    replay_event *event = at;
    STEER_TRY(refuse_capture("copying to the host"));
    free(event->copy);
    *event = (replay_event){.us = clock_us, .dst = dst, .copy = malloc(bytes), .bytes = bytes};
    if (!event->copy) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "event: no host memory");
    return steer_backend_cpu()->download(device, event->copy, src, bytes);
}

static int event_wait(void *device, void *at) {
    replay_event *event = at;
    if (event->copy) memcpy(event->dst, event->copy, event->bytes);
    return STEER_OK;
}

static int event_order(void *device, void *event) { return refuse_capture("waiting for an event"); }

static int replay_download(void *device, void *dst, const void *src, size_t bytes) {
    STEER_TRY(refuse_capture("copying to the host"));
    return steer_backend_cpu()->download(device, dst, src, bytes);
}

static int replay_synchronize(void *device) {
    STEER_TRY(refuse_capture("synchronize"));
    return arrive(device);
}

__attribute__((visibility("default"))) const steer_backend *steer_backend_entry(const steer_host *given);

const steer_backend *steer_backend_entry(const steer_host *given) {
    static steer_backend backend;
    host = given;
    backend = *steer_backend_cpu();
    backend.name = "cuda";
    backend.allocate = replay_allocate;
    backend.upload = replay_upload;
    backend.pinned_allocate = replay_pinned_allocate;
    backend.pinned_release = replay_pinned_release;
    backend.send = replay_send;
    backend.receive = replay_receive;
    backend.event_wait = event_wait;
    backend.event_order = event_order;
    backend.download = replay_download;
    backend.synchronize = replay_synchronize;
    backend.is_capturing = is_capturing;
    backend.steer = replay_steer;
#ifdef EMULATE
    backend.name_kernels = emulate_name_kernels;
#endif
    backend.kernel_ready = replay_kernel_ready;
    backend.kernel_text = replay_kernel_text;
    backend.kernel_build = replay_kernel_build;
    backend.kernel_load = replay_kernel_load;
    backend.kernel_launch = replay_kernel_launch;
    backend.reference = reference;
    backend.event_create = event_create;
    backend.event_release = event_release;
    backend.event_record = event_record;
    backend.event_elapsed = event_elapsed;
    backend.graph_begin = graph_begin;
    backend.graph_end = graph_end;
    backend.graph_launch = graph_launch;
    backend.graph_release = graph_release;
    return &backend;
}
