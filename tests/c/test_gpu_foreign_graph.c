/* test_gpu_foreign_graph.c: an example of steering inside a CUDA graph that somebody else captures, as a serving engine
 * does: applies and a graph of a plan go into a capture of the caller's stream, begun and ended through the CUDA driver.
 * Skipped (77) without a GPU. */
#include "pair.h"

#include <dlfcn.h>

enum { HIDDEN = 256, ROWS = 12, LAYERS = 3, REPLAYS = 3 };

/* The driver's functions, by the names that its library exports; handles are pointers, 0 is success. */
static struct {
    int (*stream_create)(void **stream, unsigned flags);
    int (*stream_destroy)(void *stream);
    int (*stream_synchronize)(void *stream);
    int (*capture_begin)(void *stream, int mode);
    int (*capture_end)(void *stream, void **graph);
    int (*instantiate)(void **made, void *graph, unsigned long long flags);
    int (*get_nodes)(void *graph, void **nodes, size_t *count);
    int (*launch)(void *made, void *stream);
    int (*made_destroy)(void *made);
    int (*graph_destroy)(void *graph);
} cuda;

static void load(void *function, void *library, const char *name) {
    void *symbol = dlsym(library, name);
    if (!symbol) fprintf(stderr, "libcuda.so.1 has no %s\n", name);
    CHECK(symbol != NULL);
    memcpy(function, &symbol, sizeof symbol); /* ISO C has no cast from an object to a function pointer */
}

static int load_cuda(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    CHECK(library != NULL);
    if (!library) return 0;
    load(&cuda.stream_create, library, "cuStreamCreate");
    load(&cuda.stream_destroy, library, "cuStreamDestroy_v2");
    load(&cuda.stream_synchronize, library, "cuStreamSynchronize");
    load(&cuda.capture_begin, library, "cuStreamBeginCapture_v2");
    load(&cuda.capture_end, library, "cuStreamEndCapture");
    load(&cuda.instantiate, library, "cuGraphInstantiateWithFlags");
    load(&cuda.get_nodes, library, "cuGraphGetNodes");
    load(&cuda.launch, library, "cuGraphLaunch");
    load(&cuda.made_destroy, library, "cuGraphExecDestroy");
    load(&cuda.graph_destroy, library, "cuGraphDestroy");
    return check_failures == 0;
}

/* ---- What is steered: on every layer `count` caps on the projection on random vectors ------------------------- */

static steer_spec *make_spec(int32_t count, uint64_t seed) {
    int32_t layers[16];
    steer_op *ops[16];
    steer_spec *spec = NULL;
    for (int32_t i = 0; i < count * LAYERS; i++) {
        pair vector = pair_random(STEER_F32, SHAPE(HIDDEN), seed + (uint64_t)i);
        steer_op_desc desc = {.struct_size = sizeof desc,
                              .kind = STEER_OP_CAP,
                              .vector = vector.host,
                              .min = -0.5,
                              .max = 0.5,
                              .normalize = 1};
        CHECK_OK(steer_op_create(&ops[i], &desc));
        layers[i] = i % LAYERS;
        pair_release(vector);
    }
    CHECK_OK(steer_spec_create(&spec, count * LAYERS, layers, ops));
    for (int32_t i = 0; i < count * LAYERS; i++) steer_op_release(ops[i]);
    return spec;
}

static steer_plan *make_plan(void) {
    steer_engine_desc engine_desc = {
        .struct_size = sizeof engine_desc, .dtype = STEER_F32, .hidden = HIDDEN, .device = gpu};
    steer_plan_desc desc = {.struct_size = sizeof desc, .rows = ROWS};
    steer_engine *engine = NULL;
    steer_plan *plan = NULL;
    engine_desc.compile = STEER_COMPILE_REDUCE_OVERHEAD;
    CHECK_OK(steer_engine_create(&engine, &engine_desc));
    CHECK_OK(steer_plan_create(&plan, engine, &desc));
    steer_engine_release(engine);
    return plan;
}

static void update(steer_plan *plan, steer_spec *spec, int64_t first, int64_t rows) {
    steer_request requests[2] = {{.tokens = first, .prompt_tokens = -1},
                                 {.spec = spec, .tokens = rows, .prompt_tokens = -1}};
    CHECK_OK(steer_plan_update(plan, 2, requests));
}

/* ---- The foreign graph ---------------------------------------------------------------------------------------- */

typedef struct steering {
    steer_plan *plan;
    steer_plan_graph *graph;
    pair hidden; /* device: steered by the foreign graph; host: what the same applies leave */
} steering;

/* Captures on `stream`, as its owner does: either the applies themselves or a launch of the plan's graph. */
static void *capture(void *stream, const steering *s, int by_graph) {
    void *graph = NULL, *made = NULL;
    size_t nodes = 0;
    CHECK(cuda.capture_begin(stream, 1 /* thread-local */) == 0);
    if (by_graph) CHECK_OK(steer_plan_graph_launch(s->graph));
    for (int32_t layer = 0; layer < LAYERS && !by_graph; layer++)
        CHECK_OK(steer_plan_apply(s->plan, layer, s->hidden.device, NULL));
    CHECK(cuda.capture_end(stream, &graph) == 0);
    /* An apply has a launch for each class of programs that a later batch may have. */
    CHECK(cuda.get_nodes(graph, NULL, &nodes) == 0 && nodes >= LAYERS && nodes % LAYERS == 0);
    CHECK(cuda.instantiate(&made, graph, 0) == 0);
    CHECK(cuda.graph_destroy(graph) == 0);
    return made;
}

/* Replays after updates that the capture knew nothing of, against applies one by one on a copy. */
static void check_replays(void *stream, void *made, const steering *s, steer_spec *const specs[2]) {
    int64_t shape[2] = {ROWS, HIDDEN};
    steer_tensor *want = NULL;
    CHECK_OK(steer_tensor_create(&want, gpu, STEER_F32, 2, shape));
    for (int i = 0; i < REPLAYS; i++) {
        CHECK_OK(steer_tensor_random(s->hidden.device, STEER_NORMAL, (uint64_t)i));
        CHECK_OK(steer_tensor_copy(want, s->hidden.device));
        update(s->plan, specs[i % 2], i, ROWS - 2 * i);
        for (int32_t layer = 0; layer < LAYERS; layer++)
            CHECK_OK(steer_plan_apply(s->plan, layer, want, NULL));
        CHECK(cuda.launch(made, stream) == 0);
        CHECK_OK(steer_tensor_copy(s->hidden.host, want));
        SAME_BITS(s->hidden, "a replay of a foreign graph");
    }
    steer_tensor_release(want);
}

static void test_foreign_graph(void) {
    steer_spec *specs[2] = {make_spec(1, 100), make_spec(5, 200)};
    steering s = {.plan = make_plan(), .hidden = pair_empty(STEER_F32, SHAPE(ROWS, HIDDEN))};
    int32_t layers[LAYERS] = {0, 1, 2};
    steer_tensor *hiddens[LAYERS] = {s.hidden.device, s.hidden.device, s.hidden.device};
    void *stream = NULL, *made[2];
    update(s.plan, specs[0], 1, 3);
    CHECK_OK(steer_plan_graph_create(&s.graph, s.plan, LAYERS, layers, hiddens, NULL));
    CHECK_OK(steer_device_synchronize(gpu));
    CHECK(cuda.stream_create(&stream, 1 /* non-blocking */) == 0);
    CHECK_OK(steer_device_set_stream(gpu, stream));
    for (int by_graph = 0; by_graph < 2; by_graph++) {
        made[by_graph] = capture(stream, &s, by_graph);
        check_replays(stream, made[by_graph], &s, specs);
    }
    CHECK(cuda.stream_synchronize(stream) == 0);
    CHECK_OK(steer_device_set_stream(gpu, NULL));
    for (int i = 0; i < 2; i++) CHECK(cuda.made_destroy(made[i]) == 0);
    CHECK(cuda.stream_destroy(stream) == 0);
    steer_plan_graph_release(s.graph);
    steer_plan_release(s.plan);
    pair_release(s.hidden);
    for (int i = 0; i < 2; i++) steer_spec_release(specs[i]);
}

int main(void) {
    int status = pair_open();
    if (status) return status;
    if (pair_is_cpu()) return 77;
    if (load_cuda()) test_foreign_graph();
    return check_result();
}
