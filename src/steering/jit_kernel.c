/* jit_kernel.c: gets specialised kernels: from memory, from the disk cache, from the compiler; here or on a thread. */
#include "steering/jit_kernel.h"

#include "core/cache.h"
#include "core/interrupt.h"
#include "core/status.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

/* ---- Loaded code, of the whole process ------------------------------------------------------------------------ */

typedef struct loaded_code {
    steer_node node; /* by `key` */
    steer_hash key;  /* of what it was built from */
    const steer_device *device;
    void *kernel;
} loaded_code;

static pthread_mutex_t loaded_lock = PTHREAD_MUTEX_INITIALIZER;
static steer_table
    loaded_table; /* nothing leaves it: work that uses the code may be anywhere on the device */

static void *find_loaded(const steer_device *device, steer_hash key) {
    void *kernel = NULL;
    pthread_mutex_lock(&loaded_lock);
    steer_node *node = steer_table_find(&loaded_table, key.lo);
    for (; node && !kernel; node = steer_table_next(node->next, key.lo)) {
        loaded_code *code = STEER_OWNER(node, loaded_code);
        if (code->device == device && steer_hash_equal(code->key, key)) kernel = code->kernel;
    }
    pthread_mutex_unlock(&loaded_lock);
    return kernel;
}

static void keep_loaded(const steer_device *device, steer_hash key, void *kernel) {
    loaded_code *code = calloc(1, sizeof *code);
    pthread_mutex_lock(&loaded_lock);
    if (code && steer_table_reserve(&loaded_table)) {
        *code = (loaded_code){.key = key, .device = device, .kernel = kernel};
        steer_table_add(&loaded_table, &code->node, key.lo);
        code = NULL;
    }
    pthread_mutex_unlock(&loaded_lock);
    free(code); /* without memory for the note the next engine loads it again */
}

/* ---- Making one ------------------------------------------------------------------------------------------------ */

/* Who is asked whether to go on: the user where somebody waits, the compiler's end on its thread. */
static int user_stops(void *unused) {
    (void)unused;
    return steer_interrupt_pending();
}
static int end_stops(void *compiler) { return atomic_load(&((steer_compiler *)compiler)->stopping); }

/* Stores data in the disk cache; what keeps it from that is said in `why`. */
static void store(steer_jit_kernel *kernel, steer_hash key, const void *data, size_t size) {
    int status = steer_cache_put(key, data, size);
    if (status == STEER_E_INTERRUPTED) steer_interrupt_raise(); /* meant for the caller's next call */
    if (status != STEER_OK)
        snprintf(kernel->why, sizeof kernel->why, "not cached on disk: %.120s", steer_error_message());
}

static int load(steer_jit_kernel *kernel, steer_device *device, const void *code, size_t size) {
    return device->backend->kernel_load(device->state, &kernel->loaded, &kernel->launch, &kernel->shape, code,
                                        size);
}

static int load_from_disk(steer_jit_kernel *kernel, steer_device *device, steer_hash key) {
    void *code;
    size_t size;
    STEER_TRY(steer_cache_get(&code, &size, key));
    int status = load(kernel, device, code, size);
    free(code);
    return status;
}

static int build(steer_jit_kernel *kernel, steer_compiler *compiler, steer_hash key, const char *text,
                 int own) {
    steer_device *device = compiler->device;
    const steer_backend *backend = device->backend;
    void *code;
    size_t size;
    STEER_TRY(
        backend->kernel_build(device->state, &code, &size, text, own ? end_stops : user_stops, compiler));
    int status = load(kernel, device, code, size);
    if (status == STEER_OK) store(kernel, key, code, size);
    free(code);
    return status;
}

/* Finds or builds the code of a text. A damaged or foreign entry of the disk cache is built again. */
static int get_code(steer_jit_kernel *kernel, steer_compiler *compiler, steer_hash key, const char *text,
                    int own) {
    steer_device *device = compiler->device;
    kernel->loaded = find_loaded(device, key);
    if (kernel->loaded) {
        kernel->source = STEER_COMPILE_SOURCE_MEMORY;
        atomic_fetch_add(&compiler->memory_hits, 1);
        return STEER_OK;
    }
    if (load_from_disk(kernel, device, key) == STEER_OK) {
        kernel->source = STEER_COMPILE_SOURCE_DISK;
        atomic_fetch_add(&compiler->disk_hits, 1);
    } else {
        STEER_TRY(build(kernel, compiler, key, text, own));
        kernel->source = STEER_COMPILE_SOURCE_COMPILED;
        atomic_fetch_add(&compiler->compiles, 1);
    }
    keep_loaded(device, key, kernel->loaded);
    return STEER_OK;
}

/* What the times of a kernel depend on beside its code: a key of the disk cache. */
static int times_key(steer_hash *out, const steer_jit_kernel *kernel, steer_device *device, steer_hash code) {
    steer_device_info info = {.struct_size = sizeof info};
    STEER_TRY(device->backend->describe(device->state, &info));
    int64_t batch[] = {kernel->launch.rows, kernel->launch.rows_per_program,
                       kernel->uniform,     kernel->programs,
                       info.processors,     info.l2_bytes,
                       info.clock_khz};
    *out = steer_hash_bytes(code, "times", 5);
    *out = steer_hash_bytes(*out, batch, sizeof batch);
    *out = steer_hash_bytes(*out, info.name, strlen(info.name));
    return STEER_OK;
}

/* The times of both kernels, as another process measured them or measured now. */
static int get_times(steer_jit_kernel *kernel, steer_device *device, steer_hash code) {
    steer_hash key;
    double *known;
    size_t size;
    STEER_TRY(times_key(&key, kernel, device, code));
    if (steer_cache_get((void **)&known, &size, key) == STEER_OK) {
        int whole = size == 2 * sizeof *known;
        if (whole) {
            kernel->ordinary_us = known[0];
            kernel->compiled_us = known[1];
        }
        free(known);
        if (whole) return STEER_OK;
    }
    STEER_TRY(steer_jit_measure(kernel, device));
    double times[] = {kernel->ordinary_us, kernel->compiled_us};
    store(kernel, key, times, sizeof times);
    return STEER_OK;
}

static int make(steer_jit_kernel *kernel, steer_compiler *compiler, int own) {
    steer_device *device = compiler->device;
    double start = now_ms();
    char *text;
    STEER_TRY(device->backend->kernel_text(device->state, &text, &kernel->launch, &kernel->shape));
    if (!text) return STEER_OK;
    steer_hash key = steer_hash_bytes((steer_hash){0, 0}, STEER_VERSION, strlen(STEER_VERSION));
    key = steer_hash_bytes(key, text, strlen(text));
    int status = get_code(kernel, compiler, key, text, own);
    free(text);
    kernel->ms = now_ms() - start;
    return status == STEER_OK ? get_times(kernel, device, key) : status;
}

/* Puts how it compares before what stands in `why`. */
static void say_gain(steer_jit_kernel *kernel, double least_gain, int chosen) {
    char rest[sizeof kernel->why];
    memcpy(rest, kernel->why, sizeof rest);
    int gain = (int)lrint((1 - kernel->compiled_us / kernel->ordinary_us) * 100);
    char asked[48] = "";
    if (!chosen) snprintf(asked, sizeof asked, ", at least %.3g %% is asked for", least_gain * 100);
    snprintf(kernel->why, sizeof kernel->why, "%d %% %s than the ordinary kernel%s%s%.60s", abs(gain),
             gain < 0 ? "slower" : "faster", asked, *rest ? "; " : "", rest);
}

static void make_and_say(steer_jit_kernel *kernel, steer_compiler *compiler, int own) {
    kernel->why[0] = '\0';
    int status = make(kernel, compiler, own);
    if (status == STEER_E_INTERRUPTED) {
        if (!own) steer_interrupt_raise();
        atomic_store(&kernel->state, STEER_COMPILE_STATE_NONE);
        return;
    }
    if (status != STEER_OK) {
        snprintf(kernel->why, sizeof kernel->why, "%s", steer_error_message());
        atomic_fetch_add(&compiler->failures, 1);
        atomic_store(&kernel->state, STEER_COMPILE_STATE_FAILED);
        return;
    }
    if (!kernel->loaded) {
        snprintf(kernel->why, sizeof kernel->why, "the ordinary kernel of such programs is not specialised");
        atomic_store(&kernel->state, STEER_COMPILE_STATE_NOT_CHOSEN);
        return;
    }
    int chosen = kernel->compiled_us <= (1 - compiler->least_gain) * kernel->ordinary_us;
    say_gain(kernel, compiler->least_gain, chosen);
    atomic_store(&kernel->state, chosen ? STEER_COMPILE_STATE_READY : STEER_COMPILE_STATE_NOT_CHOSEN);
}

void steer_jit_make(steer_jit_kernel *kernel, steer_compiler *compiler) { make_and_say(kernel, compiler, 0); }

/* ---- The thread ------------------------------------------------------------------------------------------------ */

static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static steer_compiler *all;

static steer_jit_kernel *take_first(steer_compiler *compiler) {
    steer_jit_kernel *kernel = NULL;
    pthread_mutex_lock(&compiler->lock);
    while (!compiler->first && !atomic_load(&compiler->stopping))
        pthread_cond_wait(&compiler->wake, &compiler->lock);
    if (!atomic_load(&compiler->stopping)) {
        kernel = compiler->first;
        compiler->first = kernel->next;
    }
    pthread_mutex_unlock(&compiler->lock);
    return kernel;
}

static void *run(void *context) {
    steer_compiler *compiler = context;
    steer_device *device = compiler->device;
    int status = device->backend->kernel_ready(device->state, 1);
    for (steer_jit_kernel *kernel; (kernel = take_first(compiler));) {
        if (status == STEER_OK) {
            make_and_say(kernel, compiler, 1);
            continue;
        }
        snprintf(kernel->why, sizeof kernel->why, "its thread: %.120s", steer_error_message());
        atomic_store(&kernel->state, STEER_COMPILE_STATE_FAILED);
    }
    return NULL;
}

static void stop_thread(steer_compiler *compiler) {
    pthread_mutex_lock(&compiler->lock);
    int running = compiler->running;
    compiler->running = 0;
    atomic_store(&compiler->stopping, 1);
    pthread_cond_signal(&compiler->wake);
    pthread_mutex_unlock(&compiler->lock);
    if (running) pthread_join(compiler->thread, NULL);
}

/* A thread that still compiles would run into what exit takes down: the compiler, the driver. */
static void stop_all_at_exit(void) {
    pthread_mutex_lock(&all_lock);
    for (steer_compiler *compiler = all; compiler; compiler = compiler->older) stop_thread(compiler);
    pthread_mutex_unlock(&all_lock);
}
static void register_exit(void) { atexit(stop_all_at_exit); }

/* Signals are for the program's own threads. */
static int start_thread(steer_compiler *compiler) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once,
                 register_exit); /* by now the compiler is loaded, so exit stops threads before it goes */
    sigset_t blocked, before;
    sigfillset(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int result = pthread_create(&compiler->thread, NULL, run, compiler);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    compiler->running = result == 0;
    return compiler->running;
}

void steer_jit_make_later(steer_jit_kernel *kernel, steer_compiler *compiler) {
    kernel->next = NULL;
    pthread_mutex_lock(&compiler->lock);
    if (compiler->running || start_thread(compiler)) {
        atomic_store(&kernel->state, STEER_COMPILE_STATE_COMPILING);
        if (compiler->first)
            compiler->last->next = kernel;
        else
            compiler->first = kernel;
        compiler->last = kernel;
        pthread_cond_signal(&compiler->wake);
    } else {
        snprintf(kernel->why, sizeof kernel->why, "no thread could be started");
        atomic_store(&kernel->state, STEER_COMPILE_STATE_FAILED);
    }
    pthread_mutex_unlock(&compiler->lock);
}

/* ---- Compilers ------------------------------------------------------------------------------------------------- */

static int read_least_gain(double *out) {
    const char *text = getenv("STEER_COMPILE_GAIN");
    char *end;
    *out = 0.1;
    if (!text || !*text) return STEER_OK;
    *out = strtod(text, &end) / 100;
    if (*end || !isfinite(*out))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "STEER_COMPILE_GAIN: \"%.64s\", expected a number of percent", text);
    return STEER_OK;
}

int steer_compiler_create(steer_compiler **out, steer_device *device) {
    double gain;
    STEER_TRY(read_least_gain(&gain));
    steer_compiler *compiler = calloc(1, sizeof *compiler);
    if (!compiler) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "compile: no host memory");
    compiler->device = device;
    compiler->least_gain = gain;
    pthread_mutex_init(&compiler->lock, NULL);
    pthread_cond_init(&compiler->wake, NULL);
    pthread_mutex_lock(&all_lock);
    compiler->older = all;
    all = compiler;
    pthread_mutex_unlock(&all_lock);
    *out = compiler;
    return STEER_OK;
}

void steer_compiler_free(steer_compiler *compiler) {
    pthread_mutex_lock(&all_lock);
    steer_compiler **link = &all;
    while (*link != compiler) link = &(*link)->older;
    *link = compiler->older;
    pthread_mutex_unlock(&all_lock);
    stop_thread(compiler);
    for (size_t i = 0; i < compiler->kernels.capacity; i++) {
        for (steer_node *node = compiler->kernels.buckets[i], *next; node; node = next) {
            next = node->next;
            free(STEER_OWNER(node, steer_jit_kernel));
        }
    }
    steer_table_free(&compiler->kernels);
    pthread_cond_destroy(&compiler->wake);
    pthread_mutex_destroy(&compiler->lock);
    free(compiler);
}
