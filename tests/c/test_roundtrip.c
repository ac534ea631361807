/* test_roundtrip.c: a whole add, cap and ablate round through the public C interface, against its own float64 oracle.
 * devices: cpu cuda */
#include "check.h"

enum { HIDDEN = 200, ROWS = 17, LAYER = 3, VECTORS = 3 };

static float vectors[VECTORS][HIDDEN];
static float hidden[ROWS * HIDDEN], steered[ROWS * HIDDEN];

static double uniform(void) { /* in [-1, 1) */
    static uint32_t state = 20240917u;
    state = state * 1664525u + 1013904223u;
    return (double)(int32_t)state / 2147483648.0;
}

static double dot(const double *a, const float *b) {
    double sum = 0;
    for (int i = 0; i < HIDDEN; i++) sum += a[i] * (double)b[i];
    return sum;
}

static double length(const float *v) {
    double sum = 0;
    for (int i = 0; i < HIDDEN; i++) sum += (double)v[i] * (double)v[i];
    return sqrt(sum);
}

/* h = h + c * v / |v|, where c follows from p = h.v / |v| as the kind of operation says. */
static void oracle(double *h, const steer_op_desc *op, const float *v) {
    double norm = op->normalize ? length(v) : 1, p = dot(h, v) / norm, c = op->scale;
    if (op->kind == STEER_OP_CAP) c = fmin(fmax(p, op->min), op->max) - p;
    if (op->kind == STEER_OP_ABLATE) c = (op->scale - 1) * p;
    for (int i = 0; i < HIDDEN; i++) h[i] += c / norm * (double)v[i];
}

/* Copies between host floats and a tensor of [rows, HIDDEN]. */
static void copy_host(steer_tensor *tensor, float *values, int to_tensor) {
    steer_device *cpu = NULL;
    steer_tensor *host = NULL;
    int64_t shape[2] = {steer_tensor_size(tensor, 0), steer_tensor_size(tensor, 1)};
    CHECK_OK(steer_device_open(&cpu, "cpu"));
    CHECK_OK(steer_tensor_wrap(&host, cpu, STEER_F32, steer_tensor_ndim(tensor), shape, NULL, values));
    CHECK_OK(to_tensor ? steer_tensor_copy(tensor, host) : steer_tensor_copy(host, tensor));
    steer_tensor_release(host);
    steer_device_release(cpu);
}

static steer_tensor *tensor_of(steer_device *device, steer_dtype dtype, int64_t rows, float *values) {
    int64_t matrix[2] = {rows, HIDDEN}, vector[1] = {HIDDEN};
    steer_tensor *tensor = NULL;
    CHECK_OK(steer_tensor_create(&tensor, device, dtype, rows ? 2 : 1, rows ? matrix : vector));
    copy_host(tensor, values, 1);
    return tensor;
}

static steer_op_desc op_desc(steer_op_kind kind, double scale, double min, double max) {
    steer_op_desc desc = {.struct_size = sizeof desc, .kind = kind, .scale = scale, .min = min, .max = max};
    desc.normalize = kind != STEER_OP_ADD;
    return desc;
}

/* The operations of the round, one per vector, in their order. */
static void round_ops(steer_op_desc out[VECTORS]) {
    out[0] = op_desc(STEER_OP_ADD, 1.5, -INFINITY, INFINITY);
    out[1] = op_desc(STEER_OP_CAP, 1, -0.25, 0.5);
    out[2] = op_desc(STEER_OP_ABLATE, 0.25, -INFINITY, INFINITY);
}

/* A spec of the first `count` operations on LAYER; the caller releases it. */
static steer_spec *make_spec(steer_device *device, int count) {
    steer_op_desc desc[VECTORS];
    steer_op *ops[VECTORS] = {NULL};
    int32_t layers[VECTORS] = {LAYER, LAYER, LAYER};
    steer_spec *spec = NULL;
    round_ops(desc);
    for (int i = 0; i < count; i++) {
        desc[i].vector = tensor_of(device, STEER_F32, 0, vectors[i]);
        CHECK_OK(steer_op_create(&ops[i], &desc[i]));
        steer_tensor_release(desc[i].vector);
    }
    CHECK_OK(steer_spec_create(&spec, count, layers, ops));
    CHECK(steer_spec_hidden(spec) == HIDDEN);
    for (int i = 0; i < count; i++) steer_op_release(ops[i]);
    return spec;
}

static steer_engine *make_engine(steer_device *device, steer_dtype dtype) {
    steer_engine_desc desc = {.struct_size = sizeof desc, .dtype = dtype, .hidden = HIDDEN, .device = device};
    steer_engine *engine = NULL;
    CHECK_OK(steer_engine_create(&engine, &desc));
    return engine;
}

static steer_request request_of(steer_spec *spec, int64_t tokens) {
    return (steer_request){.spec = spec, .tokens = tokens, .prompt_tokens = -1, .phase = STEER_PROMPT};
}

/* One unit in the last place of the dtype, and what a computation in f32 rounds. */
static double bound(double exact, double before, steer_dtype dtype) {
    double relative = dtype == STEER_F32 ? 0x1p-23 : dtype == STEER_F16 ? 0x1p-10 : 0x1p-7;
    return relative * fabs(exact) + 0x1p-20 * (fabs(before) + 2) + (dtype == STEER_F16 ? 0x1p-24 : 0);
}

/* Rows from `start` are steered by the first `count` operations: compares them with the oracle. */
static void check_rows(int start, int rows, int count, steer_dtype dtype) {
    steer_op_desc desc[VECTORS];
    round_ops(desc);
    for (int r = start; r < start + rows; r++) {
        double h[HIDDEN];
        for (int i = 0; i < HIDDEN; i++) h[i] = (double)hidden[r * HIDDEN + i];
        for (int k = 0; k < count; k++) oracle(h, &desc[k], vectors[k]);
        for (int i = 0; i < HIDDEN; i++) {
            double wrong = fabs((double)steered[r * HIDDEN + i] - h[i]);
            CHECK(wrong <= bound(h[i], (double)hidden[r * HIDDEN + i], dtype));
        }
    }
    size_t bytes = (size_t)rows * HIDDEN * sizeof(float);
    int changed = memcmp(hidden + start * HIDDEN, steered + start * HIDDEN, bytes) != 0;
    CHECK(changed == (count > 0 && rows > 0));
}

/* Three kinds of rows side by side, padding after them, then the same plan with another batch. */
static void test_round(steer_device *device, steer_dtype dtype) {
    steer_engine *engine = make_engine(device, dtype);
    steer_plan *plan = NULL;
    steer_spec *all = make_spec(device, 3), *add = make_spec(device, 1);
    steer_request batch[4] = {request_of(NULL, 3), request_of(all, 5), request_of(NULL, 0),
                              request_of(add, 4)};
    steer_plan_desc desc = {.struct_size = sizeof desc, .rows = ROWS, .request_count = 4, .requests = batch};
    CHECK_OK(steer_plan_create(&plan, engine, &desc));
    steer_tensor *h = tensor_of(device, dtype, ROWS, hidden);
    copy_host(h, hidden, 0); /* what the dtype makes of the values */
    CHECK_OK(steer_plan_apply(plan, LAYER, h, NULL));
    copy_host(h, steered, 0);
    check_rows(0, 3, 0, dtype);
    check_rows(3, 5, 3, dtype);
    check_rows(8, 4, 1, dtype);
    check_rows(12, ROWS - 12, 0, dtype);

    steer_request next[2] = {request_of(all, 1), request_of(NULL, 2)};
    CHECK_OK(steer_plan_update(plan, 2, next));
    memcpy(hidden, steered, sizeof hidden);
    CHECK_OK(steer_plan_apply(plan, LAYER, h, NULL));
    CHECK_OK(steer_plan_apply(plan, LAYER + 1, h, NULL)); /* a layer that no spec names */
    copy_host(h, steered, 0);
    check_rows(0, 1, 3, dtype);
    check_rows(1, ROWS - 1, 0, dtype);

    /* Parents first: children keep what they need. */
    steer_spec_release(all);
    steer_spec_release(add);
    steer_engine_release(engine);
    CHECK_OK(steer_plan_apply(plan, LAYER, h, NULL));
    steer_plan_release(plan);
    steer_tensor_release(h);
}

static void test_explain(steer_device *device) {
    steer_engine *engine = make_engine(device, STEER_F32);
    steer_plan *plan = NULL;
    steer_explain explain = {.struct_size = sizeof explain};
    steer_group group = {.struct_size = sizeof group};
    steer_engine_stats stats = {.struct_size = sizeof stats};
    steer_spec *all = make_spec(device, 3), *same = make_spec(device, 3);
    steer_request batch[3] = {request_of(all, 2), request_of(NULL, 3), request_of(same, 4)};
    steer_plan_desc desc = {.struct_size = sizeof desc, .request_count = 3, .requests = batch};
    CHECK_OK(steer_plan_create(&plan, engine, &desc));
    CHECK_OK(steer_plan_explain(&explain, plan, LAYER));
    CHECK(explain.path == STEER_PATH_MIXED && explain.rows == 9 && explain.steered_rows == 6);
    CHECK(explain.programs == 1 && explain.launches == 1 && explain.idle_specs == 0 && explain.bytes > 0);
    CHECK_OK(steer_plan_group(&group, plan, LAYER, explain.groups - 1));
    CHECK(group.start == 5 && group.rows == 4 && group.request == 2 && group.source_ops == 3);
    CHECK_OK(steer_plan_explain(&explain, plan, LAYER + 1));
    CHECK(explain.path == STEER_PATH_NONE && explain.launches == 0 && explain.steered_rows == 0);
    CHECK_OK(steer_engine_get_stats(&stats, engine));
    CHECK(stats.live_plans == 1 && stats.programs == 1 && stats.program_hits >= 1 && stats.vectors > 0);
    steer_plan_release(plan);
    steer_spec_release(all);
    steer_spec_release(same);
    steer_engine_release(engine);
}

/* An ablation that keeps everything. */
static steer_spec *make_idle_spec(steer_device *device) {
    steer_op_desc keep = op_desc(STEER_OP_ABLATE, 1, -INFINITY, INFINITY);
    steer_op *op = NULL;
    steer_spec *spec = NULL;
    int32_t layer = LAYER;
    keep.vector = tensor_of(device, STEER_F32, 0, vectors[0]);
    CHECK_OK(steer_op_create(&op, &keep));
    CHECK_OK(steer_spec_create(&spec, 1, &layer, &op));
    steer_tensor_release(keep.vector);
    steer_op_release(op);
    return spec;
}

static void test_bad_ops(steer_device *device) {
    steer_op *op = NULL;
    steer_spec *spec = NULL;
    steer_op_desc cap = op_desc(STEER_OP_CAP, 1, -INFINITY, INFINITY);
    CHECK_FAILS(steer_op_create(&op, NULL), STEER_E_INVALID_ARGUMENT, "desc");
    CHECK_FAILS(steer_op_create(NULL, &cap), STEER_E_INVALID_ARGUMENT, "out");
    CHECK_FAILS(steer_op_create(&op, &cap), STEER_E_INVALID_ARGUMENT, "min, max: both missing");
    cap.max = 1;
    CHECK_FAILS(steer_op_create(&op, &cap), STEER_E_INVALID_ARGUMENT, "vector");
    CHECK(op == NULL && strcmp(steer_error_op(), "op_create") == 0);
    cap.vector = tensor_of(device, STEER_F32, 0, vectors[0]);
    cap.struct_size = 1;
    CHECK_FAILS(steer_op_create(&op, &cap), STEER_E_INVALID_ARGUMENT, "struct_size");
    steer_tensor_release(cap.vector);
    CHECK_FAILS(steer_spec_create(&spec, 1, NULL, NULL), STEER_E_INVALID_ARGUMENT, "layers: is NULL");
    CHECK_FAILS(steer_spec_create(&spec, -1, NULL, NULL), STEER_E_INVALID_ARGUMENT, "count");
    CHECK(spec == NULL);
}

static void test_bad_engines_and_plans(steer_device *device) {
    steer_engine_desc desc = {.struct_size = sizeof desc, .dtype = STEER_F32, .device = device};
    steer_engine *engine = NULL;
    steer_plan *plan = NULL;
    steer_spec *empty = NULL;
    steer_request one = request_of(NULL, -1);
    steer_plan_desc plan_desc = {.struct_size = sizeof plan_desc, .request_count = 1, .requests = &one};
    CHECK_FAILS(steer_engine_create(&engine, &desc), STEER_E_INVALID_ARGUMENT, "hidden: 0");
    desc.hidden = STEER_MAX_HIDDEN + 1;
    CHECK_FAILS(steer_engine_create(&engine, &desc), STEER_E_INVALID_ARGUMENT, "hidden: 32769");
    desc.hidden = HIDDEN, desc.dtype = STEER_I32;
    CHECK_FAILS(steer_engine_create(&engine, &desc), STEER_E_INVALID_ARGUMENT, "dtype: i32");
    CHECK(engine == NULL);
    engine = make_engine(device, STEER_F32);
    CHECK_OK(steer_spec_create(&empty, 0, NULL, NULL));
    CHECK(steer_spec_hidden(empty) == 0);
    steer_spec *nothing = make_idle_spec(device);
    CHECK_FAILS(steer_plan_create(&plan, NULL, &plan_desc), STEER_E_INVALID_ARGUMENT, "engine");
    CHECK_FAILS(steer_plan_create(&plan, engine, &plan_desc), STEER_E_INVALID_ARGUMENT,
                "requests[0]: tokens: -1");
    one = request_of(nothing, 2), one.position = INT64_MAX;
    CHECK_FAILS(steer_plan_create(&plan, engine, &plan_desc), STEER_E_INVALID_ARGUMENT,
                "requests[0]: position");
    one = request_of(nothing, 2), plan_desc.strict = 1;
    CHECK_FAILS(steer_plan_create(&plan, engine, &plan_desc), STEER_E_NO_EFFECT, "requests[0]");
    CHECK(plan == NULL);
    CHECK_FAILS(steer_plan_apply(NULL, 0, NULL, NULL), STEER_E_INVALID_ARGUMENT, "plan: is NULL");
    CHECK_FAILS(steer_plan_update(NULL, 0, NULL), STEER_E_INVALID_ARGUMENT, "plan: is NULL");
    steer_spec_release(nothing);
    steer_spec_release(empty);
    steer_engine_release(engine);
}

/* Every allocation fails once, in turn: an error each time, nothing is lost, and the next try works. */
static void test_failing_allocations(steer_device *device) {
    steer_memory_info before = {.struct_size = sizeof before}, after = {.struct_size = sizeof after};
    steer_engine_desc desc = {
        .struct_size = sizeof desc, .dtype = STEER_F32, .hidden = HIDDEN, .device = device};
    steer_spec *spec = make_spec(device, 3);
    steer_request one = request_of(spec, 4);
    steer_plan_desc plan_desc = {.struct_size = sizeof plan_desc, .request_count = 1, .requests = &one};
    CHECK_OK(steer_device_memory(&before, device));
    int failures = 0;
    for (int64_t n = 0, allocations = 0; n <= allocations; n++) { /* the first time nothing fails */
        steer_engine *engine = NULL;
        steer_plan *plan = NULL;
        CHECK_OK(steer_device_fail_allocation(device, n));
        int status = steer_engine_create(&engine, &desc);
        if (status == STEER_OK) status = steer_plan_create(&plan, engine, &plan_desc);
        CHECK_OK(steer_device_fail_allocation(device, 0));
        CHECK(status == STEER_OK || (status == STEER_E_OUT_OF_MEMORY && n > 0));
        failures += status != STEER_OK;
        if (status != STEER_OK && engine) CHECK_OK(steer_plan_create(&plan, engine, &plan_desc));
        steer_plan_release(plan);
        steer_engine_release(engine);
        CHECK_OK(steer_device_memory(&after, device));
        CHECK(after.live_bytes == before.live_bytes);
        if (n == 0) allocations = after.total_allocations - before.total_allocations;
    }
    CHECK(failures > 0); /* some failures the engine makes good by itself */
    steer_spec_release(spec);
}

int main(void) {
    const char *id = getenv("STEER_TEST_DEVICE");
    steer_device *device = NULL;
    if (steer_device_open(&device, id && *id ? id : "cpu") != STEER_OK) {
        fprintf(stderr, "skipped: %s\n", steer_error_message());
        return 77;
    }
    for (int k = 0; k < VECTORS; k++)
        for (int i = 0; i < HIDDEN; i++) vectors[k][i] = (float)uniform();
    for (steer_dtype dtype = STEER_F32; dtype <= STEER_BF16; dtype++) {
        for (int i = 0; i < ROWS * HIDDEN; i++) hidden[i] = (float)(2 * uniform());
        test_round(device, dtype);
    }
    test_explain(device);
    test_bad_ops(device);
    test_bad_engines_and_plans(device);
    test_failing_allocations(device);
    steer_device_release(device);
    return check_result();
}
