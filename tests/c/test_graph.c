/* test_graph.c: graphs of plans through the public C interface: values, arguments, updates, releases in any order.
 * devices: cpu cuda */
#include "check.h"

enum { HIDDEN = 64, ROWS = 6, LAYERS = 4 };

static steer_device *device;

static steer_tensor *ones(int32_t ndim, int64_t rows, double value) {
    int64_t matrix[2] = {rows, HIDDEN}, vector[1] = {HIDDEN};
    steer_tensor *tensor = NULL;
    CHECK_OK(steer_tensor_create(&tensor, device, STEER_F32, ndim, ndim == 1 ? vector : matrix));
    CHECK_OK(steer_tensor_fill(tensor, value));
    return tensor;
}

/* Adds `scale` to every element of a row, on every layer from `first` on. */
static steer_spec *adds(double scale, int32_t first) {
    steer_op_desc desc = {.struct_size = sizeof desc, .kind = STEER_OP_ADD, .scale = scale};
    int32_t layers[LAYERS], count = 0;
    steer_op *op = NULL, *ops[LAYERS];
    steer_spec *spec = NULL;
    desc.vector = ones(1, 0, 1);
    CHECK_OK(steer_op_create(&op, &desc));
    for (int32_t layer = first; layer < LAYERS; layer++) {
        layers[count] = layer;
        ops[count++] = op;
    }
    CHECK_OK(steer_spec_create(&spec, count, layers, ops));
    steer_op_release(op);
    steer_tensor_release(desc.vector);
    return spec;
}

static steer_request request_of(steer_spec *spec, int64_t tokens) {
    return (steer_request){.spec = spec, .tokens = tokens, .prompt_tokens = -1};
}

static steer_plan *make_plan(steer_compile engine_mode, steer_compile mode, steer_spec *spec) {
    steer_engine_desc engine_desc = {.struct_size = sizeof engine_desc,
                                     .dtype = STEER_F32,
                                     .hidden = HIDDEN,
                                     .device = device,
                                     .compile = engine_mode};
    steer_request request = request_of(spec, 2);
    steer_plan_desc desc = {
        .struct_size = sizeof desc, .rows = ROWS, .request_count = 1, .requests = &request, .compile = mode};
    steer_engine *engine = NULL;
    steer_plan *plan = NULL;
    CHECK_OK(steer_engine_create(&engine, &engine_desc));
    CHECK_OK(steer_plan_create(&plan, engine, &desc));
    steer_engine_release(engine);
    return plan;
}

static steer_plan_graph_stats stats_of(steer_plan_graph *graph) {
    steer_plan_graph_stats stats = {.struct_size = sizeof stats};
    CHECK_OK(steer_plan_graph_get_stats(&stats, graph));
    return stats;
}

static double value_at(steer_tensor *tensor, int64_t row) {
    double value = NAN;
    CHECK_OK(steer_tensor_get(&value, tensor, (int64_t[]){row, HIDDEN - 1}));
    return value;
}

/* One tensor under all layers: a launch adds once for each, to the rows of the batch of the moment. */
static void test_updates(void) {
    steer_spec *one = adds(1, 0), *ten = adds(10, 2);
    steer_plan *plan = make_plan(STEER_COMPILE_INHERIT, STEER_COMPILE_INHERIT, one);
    steer_tensor *h = ones(2, ROWS, 0), *hiddens[LAYERS] = {h, h, h, h};
    int32_t layers[LAYERS] = {0, 1, 2, 3};
    steer_plan_graph *graph = NULL;
    CHECK_OK(steer_plan_graph_create(&graph, plan, LAYERS, layers, hiddens, NULL));
    CHECK_OK(steer_plan_graph_launch(graph));
    CHECK(value_at(h, 0) == 4 && value_at(h, 1) == 4 && value_at(h, 2) == 0);
    steer_request requests[3] = {request_of(NULL, 1), request_of(ten, 2), request_of(one, 1)};
    CHECK_OK(steer_plan_update(plan, 3, requests));
    CHECK_OK(steer_plan_graph_launch(graph));
    CHECK(value_at(h, 0) == 4 && value_at(h, 1) == 24 && value_at(h, 2) == 20 && value_at(h, 3) == 4);
    CHECK(value_at(h, 4) == 0 && value_at(h, 5) == 0);
    steer_plan_graph_stats stats = stats_of(graph);
    CHECK(stats.layers == LAYERS && stats.launches == 2);
    CHECK(stats.captured ? stats.nodes == LAYERS && stats.captures == 2 && stats.recaptures == 1 &&
                               strcmp(stats.why, "4 rows, captured for 2") == 0
                         : stats.captures == 0 && strstr(stats.why, "captures no graphs"));
    steer_plan_graph_release(graph);
    steer_plan_release(plan);
    steer_tensor_release(h);
    steer_spec_release(one);
    steer_spec_release(ten);
}

/* The plan, the tensors and the specs go first; a residual for some applies only. */
static void test_release_order(void) {
    steer_spec *one = adds(1, 0);
    steer_plan *plan = make_plan(STEER_COMPILE_OFF, STEER_COMPILE_REDUCE_OVERHEAD, one);
    steer_tensor *h = ones(2, ROWS, 0), *r = ones(2, ROWS, 5), *seen = NULL;
    steer_tensor *hiddens[2] = {h, h}, *residuals[2] = {NULL, r};
    int32_t layers[2] = {3, 0};
    steer_plan_graph *graph = NULL;
    CHECK_OK(steer_plan_graph_create(&graph, plan, 2, layers, hiddens, residuals));
    seen = steer_tensor_retain(h);
    steer_tensor_release(h);
    steer_tensor_release(r);
    steer_spec_release(one);
    steer_plan_release(plan);
    CHECK_OK(steer_plan_graph_launch(graph));
    CHECK(value_at(seen, 1) == 2 && value_at(seen, 2) == 0);
    steer_tensor_release(seen);
    CHECK_OK(steer_plan_graph_launch(graph));
    steer_plan_graph_release(graph);
    steer_plan_graph_release(NULL);
}

static void test_off(void) {
    steer_spec *one = adds(1, 0);
    steer_plan *plan = make_plan(STEER_COMPILE_OFF, STEER_COMPILE_INHERIT, one);
    steer_tensor *h = ones(2, ROWS, 0);
    steer_plan_graph *graph = NULL;
    CHECK_OK(steer_plan_graph_create(&graph, plan, 1, (int32_t[]){2}, &h, NULL));
    CHECK_OK(steer_plan_graph_launch(graph));
    CHECK(value_at(h, 1) == 1 && stats_of(graph).captured == 0 && *stats_of(graph).why);
    steer_plan_graph_release(graph);
    steer_plan_release(plan);
    steer_tensor_release(h);
    steer_spec_release(one);
}

static void test_arguments(void) {
    steer_spec *one = adds(1, 0);
    steer_plan *plan = make_plan(STEER_COMPILE_INHERIT, STEER_COMPILE_INHERIT, one);
    steer_tensor *h = ones(2, ROWS, 0), *small = ones(2, 1, 0), *hiddens[2] = {h, small};
    int32_t layers[2] = {0, STEER_MAX_LAYERS};
    steer_plan_graph_stats stats = {.struct_size = 1};
    steer_plan_graph *graph = NULL;
#define CREATE(plan, count, hiddens) steer_plan_graph_create(&graph, plan, count, layers, hiddens, NULL)
    CHECK_FAILS(CREATE(NULL, 1, hiddens), STEER_E_INVALID_ARGUMENT, "plan");
    CHECK_FAILS(CREATE(plan, 0, hiddens), STEER_E_INVALID_ARGUMENT, "layers: none");
    CHECK_FAILS(CREATE(plan, 1, NULL), STEER_E_INVALID_ARGUMENT, "hiddens");
    CHECK_FAILS(CREATE(plan, 2, hiddens), STEER_E_INVALID_ARGUMENT, "layer[1]: 1024");
    layers[1] = 1;
    CHECK_FAILS(CREATE(plan, 2, hiddens), STEER_E_SHAPE_MISMATCH, "hidden[1]: ");
    hiddens[1] = NULL;
    CHECK_FAILS(CREATE(plan, 2, hiddens), STEER_E_INVALID_ARGUMENT, "hidden[1]: is NULL");
    CHECK(strcmp(steer_error_message_from(1), "hidden[2]: is NULL, expected a tensor") == 0);
    CHECK_FAILS(steer_plan_graph_create(NULL, plan, 1, layers, hiddens, NULL), STEER_E_INVALID_ARGUMENT,
                "out");
    CHECK_FAILS(steer_plan_graph_create(&graph, plan, 1, layers, hiddens, &small), STEER_E_SHAPE_MISMATCH,
                "residual[0]: ");
    CHECK(graph == NULL);
    CHECK_FAILS(steer_plan_graph_launch(NULL), STEER_E_INVALID_ARGUMENT, "graph");
    CHECK_FAILS(steer_plan_graph_get_stats(&stats, NULL), STEER_E_INVALID_ARGUMENT, "graph");
    CHECK_OK(CREATE(plan, 1, hiddens));
    CHECK_FAILS(steer_plan_graph_get_stats(&stats, graph), STEER_E_INVALID_ARGUMENT, "struct_size");
    steer_plan_graph_release(graph);
    steer_plan_release(plan);
    steer_tensor_release(h);
    steer_tensor_release(small);
    steer_spec_release(one);
}

static void test_modes(void) {
    steer_engine_desc desc = {.struct_size = sizeof desc, .dtype = STEER_F32, .hidden = 8, .device = device};
    steer_engine *engine = NULL;
    desc.compile = (steer_compile)4;
    CHECK_FAILS(steer_engine_create(&engine, &desc), STEER_E_INVALID_ARGUMENT, "compile: 4");
    desc.compile = STEER_COMPILE_OFF;
    desc.compile_background = 2;
    CHECK_FAILS(steer_engine_create(&engine, &desc), STEER_E_INVALID_ARGUMENT, "compile_background: 2");
    desc.compile_background = 1;
    CHECK_OK(steer_engine_create(&engine, &desc));
    steer_plan_desc plan_desc = {.struct_size = sizeof plan_desc, .compile = (steer_compile)-1};
    steer_plan *plan = NULL;
    CHECK_FAILS(steer_plan_create(&plan, engine, &plan_desc), STEER_E_INVALID_ARGUMENT, "compile: -1");
    steer_engine_release(engine);
}

int main(void) {
    const char *id = getenv("STEER_TEST_DEVICE");
    steer_memory_info before = {.struct_size = sizeof before}, after = {.struct_size = sizeof after};
    unsetenv("STEER_COMPILE"); /* the modes are the test's */
    CHECK_OK(steer_device_open(&device, id && *id ? id : "cpu"));
    CHECK_OK(steer_device_memory(&before, device));
    test_updates();
    test_release_order();
    test_off();
    test_arguments();
    test_modes();
    CHECK_OK(steer_device_memory(&after, device));
    CHECK(before.live_bytes == after.live_bytes);
    steer_device_release(device);
    return check_result();
}
