/* test_gpu_runtime.c: memory, uploads, threads, streams, events, graphs and references of the GPU. Skipped (77) without
 * a GPU; STEER_TEST_DEVICE names another device, and a CPU is not asked for streams and graphs. */
#include "pair.h"

#include <pthread.h>

/* The CUDA handle of the calling thread's own default stream (cudaStreamPerThread). */
#define OTHER_STREAM ((void *)2)

/* ---- Memory --------------------------------------------------------------------------------------------------- */

static int64_t live_bytes(void) {
    steer_memory_info info = {.struct_size = sizeof info};
    CHECK_OK(steer_device_memory(&info, gpu));
    return info.live_bytes;
}

static steer_device_info describe(void) {
    steer_device_info info = {.struct_size = sizeof info};
    for (int32_t i = 0; i < steer_device_count(); i++) {
        CHECK_OK(steer_device_describe(&info, i));
        if (strcmp(info.id, steer_device_id(gpu)) == 0) break;
    }
    return info;
}

static void test_description(void) {
    steer_device_info info = describe();
    CHECK(strcmp(info.id, steer_device_id(gpu)) == 0);
    CHECK(*info.name && info.processors > 0 && info.free_bytes > 0 && info.free_bytes <= info.total_bytes);
    if (pair_is_cpu()) return;
    CHECK(info.compute_major >= 8 && info.driver >= 12000 && info.l2_bytes > 0 && info.clock_khz > 0);
}

static void test_out_of_memory(void) {
    steer_tensor *tensor = NULL;
    char expected[100];
    int64_t before = live_bytes();
    snprintf(expected, sizeof expected, "70368744177664 bytes were asked for on %s", steer_device_id(gpu));
    CHECK_FAILS(steer_tensor_create(&tensor, gpu, STEER_F32, SHAPE(1ll << 44)), STEER_E_OUT_OF_MEMORY,
                expected);
    CHECK_OK(steer_device_fail_allocation(gpu, 2));
    CHECK_OK(steer_tensor_create(&tensor, gpu, STEER_F32, SHAPE(10)));
    steer_tensor_release(tensor);
    tensor = NULL;
    CHECK_FAILS(steer_tensor_create(&tensor, gpu, STEER_F32, SHAPE(10)), STEER_E_OUT_OF_MEMORY, "are free");
    CHECK(tensor == NULL);
    CHECK_OK(steer_tensor_create(&tensor, gpu, STEER_F32, SHAPE(10)));
    steer_tensor_release(tensor);
    CHECK(live_bytes() == before);
}

/* More than the device holds, in tensors that are each dropped at once: the pool gives the memory back. */
static void test_reuse(void) {
    if (pair_is_cpu()) return;
    int64_t size = describe().free_bytes / 3;
    for (int i = 0; i < 20; i++) {
        steer_tensor *tensor = NULL;
        CHECK_OK(steer_tensor_create(&tensor, gpu, STEER_U8, 1, &(int64_t){size + i * 4096}));
        steer_tensor_release(tensor);
    }
    CHECK(describe().free_bytes >= size * 2);
}

/* The source of an upload may change as soon as the call returns. */
static void test_uploads(void) {
    static const int64_t sizes[] = {1, 63, 64, 65, 4095, 524288, 524289, 48000001};
    for (int i = 0; i < 8; i++) {
        steer_tensor *source, *there, *back;
        CHECK_OK(steer_tensor_create(&source, cpu, STEER_U8, 1, &sizes[i]));
        CHECK_OK(steer_tensor_create(&back, cpu, STEER_U8, 1, &sizes[i]));
        CHECK_OK(steer_tensor_create(&there, gpu, STEER_U8, 1, &sizes[i]));
        uint8_t *bytes = steer_tensor_data(source), *result = steer_tensor_data(back);
        for (int64_t k = 0; k < sizes[i]; k++) bytes[k] = (uint8_t)(k * 7 + k / 251);
        CHECK_OK(steer_tensor_copy(there, source));
        memset(bytes, 0xee, (size_t)sizes[i]);
        CHECK_OK(steer_tensor_copy(back, there));
        int64_t wrong = 0;
        for (int64_t k = 0; k < sizes[i]; k++) wrong += result[k] != (uint8_t)(k * 7 + k / 251);
        CHECK(wrong == 0);
        steer_tensor_release(source);
        steer_tensor_release(there);
        steer_tensor_release(back);
    }
}

/* Many small uploads, more than the staging memory holds. */
static void test_small_uploads(void) {
    enum { COUNT = 20000 };
    pair p = pair_empty(STEER_F32, SHAPE(COUNT));
    for (int64_t i = 0; i < COUNT; i++) {
        if (steer_tensor_set(p.host, &i, (double)i) != STEER_OK ||
            steer_tensor_set(p.device, &i, (double)i) != STEER_OK)
            CHECK_OK(steer_error_code());
    }
    SAME_BITS(p, "elements set one by one");
    pair_release(p);
}

/* ---- Threads -------------------------------------------------------------------------------------------------- */

/* A thread's work on tensors of its own: makes, fills, adds and drops; returns what is wrong, or NULL. */
static void *work(void *seed) {
    uint64_t state = (uint64_t)(uintptr_t)seed;
    for (int round = 0; round < 200; round++) {
        steer_tensor *a = NULL, *b = NULL, *sum = NULL;
        int64_t n = 1 + (int64_t)(next_number(&state) % 100000);
        double x = (double)(next_number(&state) % 1000), y = (double)round, got = -1.0;
        int ok = steer_tensor_create(&a, gpu, STEER_F32, 1, &n) == STEER_OK &&
                 steer_tensor_create(&b, gpu, STEER_F32, 1, &n) == STEER_OK &&
                 steer_tensor_create(&sum, gpu, STEER_F32, 0, NULL) == STEER_OK &&
                 steer_tensor_fill(a, x) == STEER_OK && steer_tensor_fill(b, 0.0) == STEER_OK &&
                 steer_tensor_set(b, (int64_t[]){n - 1}, y) == STEER_OK &&
                 steer_tensor_binary(a, a, b, STEER_ADD, 2.0) == STEER_OK &&
                 steer_tensor_reduce(sum, a, STEER_MAX, -1) == STEER_OK &&
                 steer_tensor_get(&got, sum, NULL) == STEER_OK;
        steer_tensor_release(a);
        steer_tensor_release(b);
        steer_tensor_release(sum);
        if (!ok) return "a call failed";
        if (got != x + 2.0 * y) return "a wrong value";
    }
    return NULL;
}

static void run_threads(void) {
    pthread_t threads[4];
    int64_t before = live_bytes();
    for (uintptr_t i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
    for (int i = 0; i < 4; i++) {
        void *problem = NULL;
        CHECK(pthread_join(threads[i], &problem) == 0);
        check_report(!problem, __FILE__, __LINE__, "a thread's work", problem ? (const char *)problem : "");
    }
    CHECK(live_bytes() == before);
}

/* ---- Streams -------------------------------------------------------------------------------------------------- */

/* Memory and work move between the device's stream and another one; a released block that the other stream still uses
 * must not be handed out early. */
static void test_streams(void) {
    if (pair_is_cpu()) {
        CHECK_FAILS(steer_device_set_stream(gpu, OTHER_STREAM), STEER_E_UNSUPPORTED, "streams");
        return;
    }
    for (int round = 0; round < 50; round++) {
        int64_t n = 1 << 20;
        double got = 0.0;
        steer_tensor *a = NULL, *b = NULL;
        CHECK_OK(steer_device_set_stream(gpu, OTHER_STREAM));
        CHECK_OK(steer_tensor_create(&a, gpu, STEER_F32, 1, &n));
        CHECK_OK(steer_tensor_fill(a, 1.0));
        for (int i = 0; i < 20; i++) CHECK_OK(steer_tensor_scalar(a, a, STEER_ADD, 1.0));
        CHECK_OK(steer_tensor_get(&got, a, &(int64_t){n - 1}));
        CHECK(got == 21.0);
        for (int i = 0; i < 20; i++) CHECK_OK(steer_tensor_scalar(a, a, STEER_ADD, 1.0));
        steer_tensor_release(a); /* its last additions may still be to come */
        CHECK_OK(steer_tensor_create(&b, gpu, STEER_F32, 1, &n));
        CHECK_OK(steer_tensor_fill(b, -5.0));
        CHECK_OK(steer_device_synchronize(gpu));
        CHECK_OK(steer_device_set_stream(gpu, NULL));
        CHECK_OK(steer_tensor_get(&got, b, &(int64_t){n / 2}));
        CHECK(got == -5.0);
        steer_tensor_release(b);
    }
}

/* ---- Events and references ------------------------------------------------------------------------------------ */

static void test_events(void) {
    steer_event *start = NULL, *stop = NULL;
    double seconds = -1.0;
    pair p = pair_random(STEER_F32, SHAPE(1 << 20), 1);
    CHECK_OK(steer_event_create(&start, gpu));
    CHECK_OK(steer_event_create(&stop, gpu));
    CHECK_FAILS(steer_event_elapsed(&seconds, start, stop), STEER_E_INVALID_ARGUMENT, "was not recorded");
    CHECK_OK(steer_event_record(start));
    for (int i = 0; i < 10; i++) CHECK_OK(steer_reference_run(p.device, STEER_REFERENCE_STREAM));
    CHECK_OK(steer_event_record(stop));
    CHECK_OK(steer_event_elapsed(&seconds, start, stop));
    CHECK(seconds > 0.0 && seconds < 10.0);
    steer_event_release(start);
    steer_event_release(stop);
    pair_release(p);
}

/* The references change nothing, at any size and start. */
static void test_references(void) {
    static const int64_t sizes[] = {1, 2, 7, 8, 9, 31, 4096, 100003, 5000001};
    for (int dtype = STEER_F32; dtype <= STEER_BF16; dtype++)
        for (int i = 0; i < 9; i++)
            for (int start = 0; start < 4; start += 3) {
                pair p = pair_narrow(pair_random(dtype, SHAPE(sizes[i] + 3), 5), 0, start, sizes[i]);
                CHECK_OK(steer_reference_run(p.device, STEER_REFERENCE_STREAM));
                CHECK_OK(steer_reference_run(p.device, STEER_REFERENCE_EMPTY));
                SAME_BITS(p, "the stream reference");
                pair_release(p);
            }
    pair p = pair_empty(STEER_I32, SHAPE(4));
    CHECK_FAILS(steer_reference_run(p.device, STEER_REFERENCE_STREAM), STEER_E_DTYPE_MISMATCH, "i32");
    pair_release(p);
}

/* ---- Graphs --------------------------------------------------------------------------------------------------- */

/* Captures a product, a sum over many blocks (both with memory of their own), an addition; replays on new values. */
static void test_graph_values(void) {
    pair a = pair_random(STEER_F32, SHAPE(64, 64), 1), b = pair_random(STEER_F32, SHAPE(64, 64), 2);
    pair product = pair_empty(STEER_F32, SHAPE(64, 64)), sum = pair_empty(STEER_F32, 0, NULL);
    pair data = pair_random(STEER_F32, SHAPE(500000), 3), y = pair_random(STEER_F32, SHAPE(500000), 4);
    steer_graph *graph = NULL;
    CHECK_OK(steer_graph_begin(gpu));
    CHECK_OK(steer_tensor_matmul(product.device, a.device, b.device));
    CHECK_OK(steer_tensor_binary(data.device, data.device, y.device, STEER_ADD, 0.5));
    CHECK_OK(steer_tensor_reduce(sum.device, data.device, STEER_SUM, -1));
    CHECK_OK(steer_graph_end(&graph, gpu));
    SAME_BITS(data, "captured work is not done yet");
    for (int round = 0; round < 3; round++) {
        BOTH(steer_tensor_random(OF(a), STEER_NORMAL, (uint64_t)round));
        CHECK_OK(steer_graph_launch(graph));
        CHECK_OK(steer_tensor_matmul(product.host, a.host, b.host));
        CHECK_OK(steer_tensor_binary(data.host, data.host, y.host, STEER_ADD, 0.5));
        CHECK_OK(steer_tensor_reduce(sum.host, data.host, STEER_SUM, -1));
        CLOSE(product, 0x1p-20, 1e-4, "a replayed product");
        SAME_BITS(data, "a replayed addition");
        CLOSE(sum, 0x1p-22, 1e-6, "a replayed sum");
    }
    steer_graph_release(graph);
    pair_release(a);
    pair_release(b);
    pair_release(product);
    pair_release(sum);
    pair_release(data);
    pair_release(y);
}

/* What cannot be captured is refused, and the capture goes on; other threads are not disturbed. */
static void test_graph_refusals(void) {
    pair p = pair_random(STEER_F32, SHAPE(1000), 7);
    steer_tensor *tensor = NULL;
    steer_graph *graph = NULL;
    steer_event *event = NULL;
    double value;
    CHECK_OK(steer_event_create(&event, gpu));
    CHECK_FAILS(steer_graph_end(&graph, gpu), STEER_E_INVALID_ARGUMENT, "captures no graph");
    CHECK_OK(steer_graph_begin(gpu));
    CHECK_FAILS(steer_graph_begin(gpu), STEER_E_UNSUPPORTED, "being captured");
    CHECK_FAILS(steer_device_set_stream(gpu, OTHER_STREAM), STEER_E_UNSUPPORTED, "captures a graph");
    CHECK_FAILS(steer_device_synchronize(gpu), STEER_E_UNSUPPORTED, "being captured");
    CHECK_FAILS(steer_tensor_create(&tensor, gpu, STEER_F32, SHAPE(4)), STEER_E_UNSUPPORTED,
                "being captured");
    CHECK_FAILS(steer_tensor_copy(p.device, p.host), STEER_E_UNSUPPORTED, "being captured");
    CHECK_FAILS(steer_tensor_get(&value, p.device, (int64_t[]){0}), STEER_E_UNSUPPORTED, "being captured");
    CHECK_FAILS(steer_event_record(event), STEER_E_UNSUPPORTED, "being captured");
    CHECK_OK(steer_tensor_scalar(p.device, p.device, STEER_MUL, 2.0));
    run_threads();
    CHECK_OK(steer_graph_end(&graph, gpu));
    for (int i = 0; i < 2; i++) {
        CHECK_OK(steer_graph_launch(graph));
        CHECK_OK(steer_tensor_scalar(p.host, p.host, STEER_MUL, 2.0));
    }
    SAME_BITS(p, "a replay after refusals");
    steer_graph_release(graph);
    steer_event_release(event);
    pair_release(p);
}

int main(void) {
    int status = pair_open();
    if (status) return status;
    int64_t before = live_bytes();
    test_description();
    if (!pair_is_cpu()) {
        test_graph_values(); /* first, so that cuBLAS is first used under capture */
        test_graph_refusals();
    }
    test_out_of_memory();
    test_reuse();
    test_uploads();
    test_small_uploads();
    run_threads();
    test_streams();
    test_events();
    test_references();
    CHECK_OK(steer_device_synchronize(gpu));
    CHECK(live_bytes() == before);
    return check_result();
}
