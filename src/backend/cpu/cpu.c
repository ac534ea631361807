/* cpu.c: the CPU backend's memory, description, clock and reference, and its table of functions. */
#include "backend/cpu/cpu.h"
#include "core/status.h"
#include "tensor/dtype.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

double steer_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int32_t steer_cpu_threads(void) {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static int64_t total_memory(void) {
    return (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE);
}

/* The text after "<key>" and any blanks and colons on a line of a /proc file; 0 if there is none. */
static int read_field(const char *path, const char *key, char *out, size_t size) {
    char text[256];
    int found = 0;
    FILE *file = fopen(path, "r");
    while (file && !found && fgets(text, sizeof text, file)) {
        size_t length = strlen(key);
        if (strncmp(text, key, length) != 0) continue;
        const char *value = text + length + strspn(text + length, " \t:");
        snprintf(out, size, "%.*s", (int)strcspn(value, "\n"), value);
        found = 1;
    }
    if (file) fclose(file);
    return found;
}

#ifdef _OPENMP
/* OpenMP's threads stay behind when a process forks, and a parallel region of the child would wait for them. */
static void work_alone(void) { omp_set_num_threads(1); }

/* More threads than this are a slip of OMP_NUM_THREADS, and OpenMP ends the process when it cannot start them. */
static void settle_threads(void) {
    int most = 8 * omp_get_num_procs() > 64 ? 8 * omp_get_num_procs() : 64;
    if (omp_get_max_threads() > most) omp_set_num_threads(most);
    pthread_atfork(NULL, NULL, work_alone);
}
#else
static void settle_threads(void) {}
#endif

static int32_t cpu_probe(char *detail, size_t size) {
    settle_threads();
    const char *products = "built-in loops";
#ifdef STEER_HAVE_CBLAS
    products = "OpenBLAS";
#endif
    snprintf(detail, size, "%d threads, matrix products: %s", steer_cpu_threads(), products);
    return 1;
}

static int cpu_open(void **device, int32_t index) {
    *device = NULL;
    return STEER_OK;
}

static void cpu_close(void *device) {}

static int cpu_free_bytes(void *device, int64_t *out) {
    char text[64];
    if (read_field("/proc/meminfo", "MemAvailable", text, sizeof text))
        *out = strtoll(text, NULL, 10) * 1024;
    else
        *out = (int64_t)sysconf(_SC_AVPHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE);
    return STEER_OK;
}

static int cpu_describe(void *device, steer_device_info *out) {
    char text[64];
    out->compute_major = out->compute_minor = out->driver = 0;
    out->processors = steer_cpu_threads();
    out->total_bytes = total_memory();
    cpu_free_bytes(device, &out->free_bytes);
    long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    out->l2_bytes = l3 > 0 ? l3 : l2 > 0 ? l2 : 0;
    int known = read_field("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "", text, sizeof text);
    out->clock_khz = known ? (int32_t)strtol(text, NULL, 10) : 0;
    if (!read_field("/proc/cpuinfo", "model name", out->name, sizeof out->name))
        snprintf(out->name, sizeof out->name, "CPU");
    return STEER_OK;
}

enum { LARGE = 32 << 20, LARGE_PAGE = 2 << 20 };

static int cpu_allocate(void *device, void **out, size_t bytes) {
    if (bytes > (size_t)total_memory()) return STEER_E_OUT_OF_MEMORY; /* overcommit would say yes */
    const size_t align = bytes >= LARGE ? LARGE_PAGE : 64;
    if (posix_memalign(out, align, bytes ? bytes : 1) != 0) return STEER_E_OUT_OF_MEMORY;
#ifdef MADV_HUGEPAGE
    if (bytes >= LARGE) (void)madvise(*out, bytes, MADV_HUGEPAGE); /* a wish: streams are a tenth faster */
#endif
    return STEER_OK;
}

static void cpu_release(void *device, void *data) { free(data); }

static int cpu_transfer(void *device, void *dst, const void *src, size_t bytes) {
    if (bytes) memmove(dst, src, bytes);
    return STEER_OK;
}

static int cpu_synchronize(void *device) { return STEER_OK; }

static int cpu_reference(void *device, void *data, size_t bytes, steer_dtype dtype, steer_reference kind) {
    if (kind == STEER_REFERENCE_EMPTY) {
#pragma omp parallel
        { __asm__ volatile(""); } /* else the region is removed */
        return STEER_OK;
    }
    /* Eight bytes at a time, plus a zero that the compiler cannot know: at the speed of memory for every dtype. */
    static volatile uint64_t unknown_zero = 0;
    uint64_t zero = unknown_zero;
    char *at = data;
    int64_t n = (int64_t)(bytes / sizeof zero);
#pragma omp parallel for simd schedule(static) if (n >= 16384)
    for (int64_t i = 0; i < n; i++) {
        uint64_t word;
        memcpy(&word, at + 8 * i, sizeof word);
        word += zero;
        memcpy(at + 8 * i, &word, sizeof word);
    }
    return STEER_OK;
}

typedef struct cpu_event {
    double time; /* negative until recorded */
} cpu_event;

static int cpu_event_create(void *device, void **out) {
    cpu_event *event = malloc(sizeof *event);
    if (!event) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "event: %zu bytes of host memory", sizeof *event);
    event->time = -1.0;
    *out = event;
    return STEER_OK;
}

static void cpu_event_release(void *device, void *event) { free(event); }

static int cpu_event_record(void *device, void *event) {
    ((cpu_event *)event)->time = steer_clock();
    return STEER_OK;
}

static int cpu_event_elapsed(void *device, double *seconds, void *start, void *stop) {
    double from = ((cpu_event *)start)->time, to = ((cpu_event *)stop)->time;
    if (from < 0.0 || to < 0.0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "%s: was not recorded", from < 0.0 ? "start" : "stop");
    *seconds = to - from;
    return STEER_OK;
}

const steer_backend *steer_backend_cpu(void) {
    static const steer_backend backend = {
        .abi = STEER_BACKEND_ABI,
        .name = "cpu",
        .probe = cpu_probe,
        .open = cpu_open,
        .close = cpu_close,
        .describe = cpu_describe,
        .allocate = cpu_allocate,
        .release = cpu_release,
        .free_bytes = cpu_free_bytes,
        .upload = cpu_transfer,
        .download = cpu_transfer,
        .synchronize = cpu_synchronize,
        .copy = steer_cpu_copy,
        .fill = steer_cpu_fill,
        .arange = steer_cpu_arange,
        .random = steer_cpu_random,
        .unary = steer_cpu_unary,
        .binary = steer_cpu_binary,
        .scalar = steer_cpu_scalar,
        .where = steer_cpu_where,
        .reduce = steer_cpu_reduce,
        .normalize = steer_cpu_normalize,
        .softmax = steer_cpu_softmax,
        .cumsum = steer_cpu_cumsum,
        .sort = steer_cpu_sort,
        .take = steer_cpu_take,
        .matmul = steer_cpu_matmul,
        .steer = steer_cpu_steer,
        .reference = cpu_reference,
        .event_create = cpu_event_create,
        .event_release = cpu_event_release,
        .event_record = cpu_event_record,
        .event_elapsed = cpu_event_elapsed,
        .model = &steer_cpu_model_ops,
    };
    return &backend;
}
