/* test_core.c: versions, errors, interrupts, devices, accounting of memory, events, references and steps of rows. */
#include "check.h"

#include "backend/steps.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static steer_device *cpu;

static void test_library(void) {
    CHECK(steer_abi_version() == STEER_ABI_VERSION);
    CHECK(strlen(steer_version()) >= 5);
    CHECK(steer_sizeof("steer_op_desc") == sizeof(steer_op_desc));
    CHECK(steer_sizeof("steer_device_info") == sizeof(steer_device_info));
    CHECK(steer_sizeof("steer_group") == sizeof(steer_group));
    CHECK(steer_sizeof("steer_nothing") == 0 && steer_sizeof(NULL) == 0);
    CHECK(strcmp(steer_status_name(STEER_E_NO_EFFECT), "no_effect") == 0);
    CHECK(strcmp(steer_status_name(STEER_E_DEVICE), "device") == 0);
    CHECK(strcmp(steer_status_name(-14), "unknown") == 0 && strcmp(steer_status_name(1), "unknown") == 0);
    double before = steer_clock();
    CHECK(steer_clock() >= before && before > 0);
    CHECK(steer_cpu_threads() >= 1);
}

static void test_errors(void) {
    steer_device *out = (steer_device *)&out;
    CHECK_FAILS(steer_device_open(&out, "gpu"), STEER_E_INVALID_ARGUMENT, "\"gpu\" names no device");
    CHECK(strcmp(steer_error_op(), "device_open") == 0);
    CHECK(strncmp(steer_error_where(), "src/backend/device.c:", 21) == 0);
    CHECK(out == (steer_device *)&out); /* untouched */
    /* Indices are counted from 0, or as the reader counts; what is no index stays. */
    const int64_t shape[2] = {3, -1};
    steer_tensor *none = NULL;
    CHECK_FAILS(steer_tensor_create(&none, cpu, STEER_F32, 2, shape), STEER_E_INVALID_ARGUMENT,
                "shape: dimension 1 is -1, expected 0 or more");
    CHECK(strcmp(steer_error_message_from(1), "shape: dimension 2 is -1, expected 0 or more") == 0);
    CHECK(strcmp(steer_error_message(), "shape: dimension 1 is -1, expected 0 or more") == 0);
}

static void test_interrupt(void) {
    steer_device *out = NULL;
    CHECK(!steer_interrupt_pending());
    steer_interrupt_raise();
    CHECK(steer_interrupt_pending());
    CHECK_FAILS(steer_device_open(&out, "cpu"), STEER_E_INTERRUPTED, "interrupted");
    CHECK(!steer_interrupt_pending() && out == NULL);
    steer_interrupt_raise();
    steer_interrupt_clear();
    CHECK_OK(steer_device_synchronize(cpu));
    CHECK_FAILS(steer_interrupt_install(1000000), STEER_E_INVALID_ARGUMENT, "exit_after_ms");
}

static void test_device_ids(void) {
    static const char *const bad[] = {"cpu:0",   "cpu ",   "cuda:",      "cuda:x",  "cuda:-1", "cuda:01",
                                      "cuda:1x", "CUDA:0", "cuda:99999", "cuda: 0", ":",       "metal:0"};
    steer_device *out = NULL, *again = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_FAILS(steer_device_open(&out, bad[i]), STEER_E_INVALID_ARGUMENT,
                    "names no device, expected \"cpu\"");
    CHECK_FAILS(steer_device_open(&out, "cuda:63"), STEER_E_NOT_FOUND, "cuda:63: ");
    CHECK_FAILS(steer_device_open(NULL, "cpu"), STEER_E_INVALID_ARGUMENT, "out: is NULL");
    CHECK(out == NULL);
    CHECK_OK(steer_device_open(&out, "cpu"));
    CHECK_OK(steer_device_open(&again, "cpu"));
    CHECK(out == cpu && again == cpu && strcmp(steer_device_id(out), "cpu") == 0);
    steer_device_release(out);
    steer_device_release(again);
    steer_device_release(NULL);
    CHECK(steer_device_retain(NULL) == NULL && *steer_device_id(NULL) == 0);
    setenv("STEER_DEVICE", "cpu", 1);
    CHECK_OK(steer_device_open(&out, NULL));
    CHECK(out == cpu);
    steer_device_release(out);
    setenv("STEER_DEVICE", "cuda:63", 1);
    CHECK_FAILS(steer_device_open(&out, ""), STEER_E_NOT_FOUND, "STEER_DEVICE: cuda:63: ");
    setenv("STEER_DEVICE", "what", 1);
    CHECK_FAILS(steer_device_open(&out, ""), STEER_E_INVALID_ARGUMENT, "STEER_DEVICE: \"what\"");
    unsetenv("STEER_DEVICE");
}

static void test_describe(void) {
    steer_backend_info backend = {.struct_size = sizeof backend};
    steer_device_info info = {.struct_size = sizeof info};
    CHECK(steer_backend_count() == 2 && steer_device_count() >= 1);
    CHECK_OK(steer_backend_describe(&backend, 0));
    CHECK(strcmp(backend.name, "cpu") == 0 && backend.device_count == 1 &&
          strstr(backend.detail, "matrix products"));
    CHECK_OK(steer_backend_describe(&backend, 1));
    CHECK(strcmp(backend.name, "cuda") == 0 && *backend.detail);
    CHECK(backend.device_count == steer_device_count() - 1);
    CHECK_OK(steer_device_describe(&info, 0));
    CHECK(strcmp(info.id, "cpu") == 0 && *info.name && info.processors >= 1 && info.compute_major == 0);
    CHECK(info.total_bytes > 0 && info.free_bytes > 0 && info.free_bytes <= info.total_bytes);
    for (int32_t i = 1; i < steer_device_count(); i++) {
        CHECK_OK(steer_device_describe(&info, i));
        CHECK(strncmp(info.id, "cuda:", 5) == 0 && info.compute_major >= 3 && info.total_bytes > 0);
    }
    CHECK_FAILS(steer_device_describe(&info, steer_device_count()), STEER_E_INVALID_ARGUMENT, "index: ");
    CHECK_FAILS(steer_device_describe(&info, -1), STEER_E_INVALID_ARGUMENT, "index: -1");
    CHECK_FAILS(steer_backend_describe(&backend, 2), STEER_E_INVALID_ARGUMENT, "index: 2");
    CHECK_FAILS(steer_backend_describe(NULL, 0), STEER_E_INVALID_ARGUMENT, "out: is NULL");
    info.struct_size = 7;
    CHECK_FAILS(steer_device_describe(&info, 0), STEER_E_INVALID_ARGUMENT,
                "out: struct_size is 7, expected ");
}

static steer_memory_info memory(void) {
    steer_memory_info info = {.struct_size = sizeof info};
    CHECK_OK(steer_device_memory(&info, cpu));
    return info;
}

static void test_accounting(void) {
    steer_memory_info before = memory(), now;
    steer_tensor *a = NULL, *view = NULL;
    const int64_t shape[] = {1000, 3}, empty[] = {0, 5};
    CHECK_OK(steer_tensor_create(&a, cpu, STEER_I32, 2, shape));
    now = memory();
    CHECK(now.live_bytes == before.live_bytes + 12000 && now.live_allocations == before.live_allocations + 1);
    CHECK(now.total_allocations == before.total_allocations + 1 && now.peak_bytes >= now.live_bytes);
    CHECK_OK(steer_tensor_narrow(&view, a, 0, 1, 2));
    steer_tensor_release(a); /* the view keeps the storage */
    CHECK(memory().live_bytes == before.live_bytes + 12000);
    steer_tensor_release(view);
    CHECK(memory().live_bytes == before.live_bytes && memory().live_allocations == before.live_allocations);
    CHECK_OK(steer_tensor_create(&a, cpu, STEER_I32, 2, empty));
    CHECK(memory().live_bytes == before.live_bytes);
    steer_tensor_release(a);
    CHECK_FAILS(steer_device_memory(NULL, cpu), STEER_E_INVALID_ARGUMENT, "out: is NULL");
    CHECK_FAILS(steer_device_memory(&now, NULL), STEER_E_INVALID_ARGUMENT, "device: is NULL");
}

static void test_out_of_memory(void) {
    steer_tensor *a = NULL;
    const int64_t huge[] = {1 << 20, 1 << 20, 64}, small[] = {4}, overflow[] = {INT64_MAX / 2, 3};
    const int64_t negative[] = {4, -1}, hidden[] = {0, INT64_MAX, INT64_MAX};
    steer_memory_info before = memory();
    CHECK_FAILS(steer_tensor_create(&a, cpu, STEER_F32, 3, huge), STEER_E_OUT_OF_MEMORY,
                "tensor [1048576, 1048576, 64] of f32: 281474976710656 bytes were asked for on cpu, ");
    CHECK(strstr(steer_error_message(), " are free"));
    CHECK_FAILS(steer_tensor_create(&a, cpu, STEER_U8, 2, overflow), STEER_E_INVALID_ARGUMENT, "shape: ");
    CHECK_FAILS(steer_tensor_create(&a, cpu, STEER_U8, 3, hidden), STEER_E_INVALID_ARGUMENT, "shape: ");
    CHECK_FAILS(steer_tensor_create(&a, cpu, STEER_U8, 2, negative), STEER_E_INVALID_ARGUMENT,
                "dimension 1 is -1");
    CHECK_OK(steer_device_fail_allocation(cpu, 2));
    CHECK_OK(steer_tensor_create(&a, cpu, STEER_F32, 1, small));
    steer_tensor_release(a);
    CHECK_FAILS(steer_tensor_create(&a, cpu, STEER_F32, 1, small), STEER_E_OUT_OF_MEMORY,
                "16 bytes were asked for");
    CHECK_OK(steer_tensor_create(&a, cpu, STEER_F32, 1, small));
    steer_tensor_release(a);
    CHECK_OK(steer_device_fail_allocation(cpu, 1));
    CHECK_OK(steer_device_fail_allocation(cpu, 0));
    CHECK_OK(steer_tensor_create(&a, cpu, STEER_F32, 1, small));
    steer_tensor_release(a);
    CHECK_FAILS(steer_device_fail_allocation(cpu, -1), STEER_E_INVALID_ARGUMENT, "n: -1");
    CHECK(memory().live_bytes == before.live_bytes);
}

/* Opens, allocates, fails and releases; returns NULL if this thread's errors were its own. */
static void *work(void *argument) {
    int32_t dim = *(int32_t *)argument;
    const int64_t shape[] = {64};
    char expected[64];
    void *result = NULL;
    snprintf(expected, sizeof expected, "dim: %d is out of range", dim);
    for (int i = 0; i < 500; i++) {
        steer_device *device = NULL;
        steer_tensor *t = NULL, *view = NULL;
        if (steer_device_open(&device, "cpu") || steer_tensor_create(&t, device, STEER_F32, 1, shape))
            return argument;
        if (steer_tensor_select(&view, t, dim, 0) != STEER_E_INVALID_ARGUMENT) result = argument;
        if (!strstr(steer_error_message(), expected)) result = argument;
        steer_tensor_release(t);
        steer_device_release(device);
    }
    return result;
}

static void test_threads(void) {
    pthread_t threads[4];
    int32_t dims[] = {3, 4, 5, 6};
    steer_memory_info before = memory();
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, work, &dims[i]) == 0);
    for (int i = 0; i < 4; i++) {
        void *failed = NULL;
        CHECK(pthread_join(threads[i], &failed) == 0 && failed == NULL);
    }
    CHECK(memory().live_bytes == before.live_bytes && memory().live_allocations == before.live_allocations);
    CHECK(memory().total_allocations == before.total_allocations + 2000);
}

static void test_measuring(void) {
    steer_event *start = NULL, *stop = NULL;
    steer_graph *graph = NULL;
    double seconds = -1;
    CHECK_OK(steer_event_create(&start, cpu));
    CHECK_OK(steer_event_create(&stop, cpu));
    CHECK_OK(steer_event_record(start));
    CHECK_FAILS(steer_event_elapsed(&seconds, start, stop), STEER_E_INVALID_ARGUMENT,
                "stop: was not recorded");
    CHECK(seconds == -1);
    usleep(2000);
    CHECK_OK(steer_event_record(stop));
    CHECK_OK(steer_event_elapsed(&seconds, start, stop));
    CHECK(seconds >= 0.002 && seconds < 10);
    CHECK_FAILS(steer_event_elapsed(&seconds, NULL, stop), STEER_E_INVALID_ARGUMENT, "start: is NULL");
    CHECK_FAILS(steer_event_record(NULL), STEER_E_INVALID_ARGUMENT, "event: is NULL");
    steer_event_release(start);
    steer_event_release(stop);
    steer_event_release(NULL);
    CHECK_FAILS(steer_graph_begin(cpu), STEER_E_UNSUPPORTED, "device: cpu captures no graphs");
    CHECK_FAILS(steer_graph_end(&graph, cpu), STEER_E_UNSUPPORTED, "device: cpu captures no graphs");
    CHECK_FAILS(steer_graph_launch(NULL), STEER_E_INVALID_ARGUMENT, "graph: is NULL");
    steer_graph_release(NULL);
    CHECK_FAILS(steer_device_set_stream(cpu, NULL), STEER_E_UNSUPPORTED, "device: cpu has no streams");
}

static void test_reference(void) {
    steer_tensor *a, *t, *ints;
    const int64_t shape[] = {70, 1000}, index[] = {69, 999};
    double value = 0;
    CHECK_OK(steer_tensor_create(&a, cpu, STEER_BF16, 2, shape));
    CHECK_OK(steer_tensor_create(&ints, cpu, STEER_I32, 2, shape));
    CHECK_OK(steer_tensor_fill(a, -1.5));
    CHECK_OK(steer_reference_run(a, STEER_REFERENCE_EMPTY));
    CHECK_OK(steer_reference_run(a, STEER_REFERENCE_STREAM));
    CHECK_OK(steer_tensor_get(&value, a, index));
    CHECK(value == -1.5);
    CHECK_OK(steer_tensor_transpose(&t, a, 0, 1));
    CHECK_FAILS(steer_reference_run(t, STEER_REFERENCE_STREAM), STEER_E_INVALID_ARGUMENT,
                "tensor: is a strided view");
    CHECK_FAILS(steer_reference_run(ints, STEER_REFERENCE_STREAM), STEER_E_DTYPE_MISMATCH,
                "tensor: has dtype i32");
    CHECK_FAILS(steer_reference_run(a, (steer_reference)2), STEER_E_INVALID_ARGUMENT, "kind: 2");
    CHECK_FAILS(steer_reference_run(NULL, STEER_REFERENCE_STREAM), STEER_E_INVALID_ARGUMENT,
                "tensor: is NULL");
    steer_tensor_release(a);
    steer_tensor_release(t);
    steer_tensor_release(ints);
}

/* A fresh process with STEER_BACKEND_PATH=`path` reports `text` for the CUDA backend and still opens the CPU. */
static void check_module(const char *path, const char *text) {
    pid_t child = fork();
    if (child == 0) {
        steer_backend_info info = {.struct_size = sizeof info};
        steer_device *device = NULL;
        setenv("STEER_BACKEND_PATH", path, 1);
        unsetenv("STEER_DEVICE");
        int passed = steer_backend_describe(&info, 1) == STEER_OK && strstr(info.detail, text) &&
                     info.device_count == 0 && steer_device_open(&device, "cuda:0") == STEER_E_NOT_FOUND &&
                     strstr(steer_error_message(), text) && steer_device_open(&device, NULL) == STEER_OK &&
                     strcmp(steer_device_id(device), "cpu") == 0;
        if (!passed) fprintf(stderr, "detail: %s; message: %s\n", info.detail, steer_error_message());
        _exit(passed ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_broken_module(void) {
    char dir[] = "/tmp/steer_test_XXXXXX", file[64], list[128];
    CHECK(mkdtemp(dir) != NULL);
    snprintf(file, sizeof file, "%s/steer_cuda.so", dir);
    snprintf(list, sizeof list, "/nowhere::%s", dir);
    FILE *out = fopen(file, "w");
    CHECK(out && fputs("this is no shared object", out) >= 0 && fclose(out) == 0);
    check_module(list, file);
    unlink(file);
    rmdir(dir);
}

/* The steps that numbers of rows go up to, each to the least that has room. */
static void test_steps(void) {
    const int64_t steps[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256};
    int64_t rows = 1;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        for (; rows <= steps[i]; rows++) CHECK(steer_step_of(rows) == steps[i]);
}

int main(void) {
    test_broken_module(); /* first: it forks */
    unsetenv("STEER_DEVICE");
    CHECK_OK(steer_device_open(&cpu, "cpu"));
    test_library();
    test_errors();
    test_interrupt();
    test_device_ids();
    test_describe();
    test_accounting();
    test_out_of_memory();
    test_threads();
    test_measuring();
    test_reference();
    test_steps();
    steer_device_release(cpu);
    return check_result();
}
