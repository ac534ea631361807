/* test_ops.c: operations made from descriptors: what each does to a row, and what is refused.
 * devices: cpu cuda */
#include "check.h"

enum { HIDDEN = 4, ROWS = 2 };

static steer_device *device, *cpu;

static steer_tensor *tensor(int32_t ndim, int64_t rows, int64_t columns, const double *values) {
    static float copies[64 * 1024];
    static size_t used;
    const int64_t shape[2] = {rows, columns}, count = ndim == 2 ? rows * columns : rows;
    steer_tensor *made = NULL;
    float *at = copies + used;
    used += (size_t)count;
    CHECK(used <= sizeof copies / sizeof *copies);
    for (int64_t i = 0; i < count; i++) at[i] = (float)values[i];
    CHECK_OK(steer_tensor_wrap(&made, cpu, STEER_F32, ndim, shape, NULL, at));
    return made;
}
#define VECTOR(...) tensor(1, sizeof((double[]){__VA_ARGS__}) / sizeof(double), 0, (double[]){__VA_ARGS__})
#define MATRIX(rows, ...)                                                                                    \
    tensor(2, rows, (int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)) / (rows),                    \
           (double[]){__VA_ARGS__})

static steer_op_desc desc_of(steer_op_kind kind) {
    return (steer_op_desc){.struct_size = sizeof(steer_op_desc),
                           .kind = kind,
                           .scale = 1,
                           .min = -INFINITY,
                           .max = INFINITY,
                           .normalize = 1};
}

static void release(const steer_op_desc *desc) {
    steer_tensor *all[] = {desc->vector, desc->write, desc->matrix, desc->bias, desc->gate_vector};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) steer_tensor_release(all[i]);
}

/* Rows (1, 2, 3, 4), of which the second is unsteered, under the operations. */
static void apply(double out[HIDDEN], int32_t count, steer_op *const *ops) {
    float values[ROWS][HIDDEN] = {{1, 2, 3, 4}, {1, 2, 3, 4}};
    const int64_t shape[2] = {ROWS, HIDDEN};
    int32_t layers[4] = {0};
    steer_spec *spec = NULL;
    steer_engine *engine = NULL;
    steer_plan *plan = NULL;
    steer_tensor *host = NULL, *h = NULL;
    steer_engine_desc engine_desc = {
        .struct_size = sizeof engine_desc, .dtype = STEER_F32, .hidden = HIDDEN, .device = device};
    CHECK_OK(steer_spec_create(&spec, count, layers, ops));
    CHECK_OK(steer_engine_create(&engine, &engine_desc));
    steer_request requests[2] = {{.spec = spec, .tokens = 1}, {.tokens = 1}};
    steer_plan_desc plan_desc = {.struct_size = sizeof plan_desc, .request_count = 2, .requests = requests};
    CHECK_OK(steer_plan_create(&plan, engine, &plan_desc));
    CHECK_OK(steer_tensor_wrap(&host, cpu, STEER_F32, 2, shape, NULL, values));
    CHECK_OK(steer_tensor_create(&h, device, STEER_F32, 2, shape));
    CHECK_OK(steer_tensor_copy(h, host));
    CHECK_OK(steer_plan_apply(plan, 0, h, NULL));
    CHECK_OK(steer_tensor_copy(host, h));
    for (int i = 0; i < HIDDEN; i++) {
        out[i] = values[0][i];
        CHECK(values[1][i] == (float)(i + 1));
    }
    steer_tensor_release(host);
    steer_tensor_release(h);
    steer_plan_release(plan);
    steer_engine_release(engine);
    steer_spec_release(spec);
}

static void gives(int line, const steer_op_desc *desc, double a, double b, double c, double d) {
    const double expected[HIDDEN] = {a, b, c, d};
    double out[HIDDEN];
    steer_op *op = NULL;
    char text[32];
    CHECK_OK(steer_op_create(&op, desc));
    release(desc);
    if (!op) return;
    apply(out, 1, &op);
    snprintf(text, sizeof text, "kind %d", (int)desc->kind);
    for (int i = 0; i < HIDDEN; i++) check_near(out[i], expected[i], 1e-6, __FILE__, line, text);
    steer_op_release(op);
}
#define GIVES(kind_, fields, a, b, c, d)                                                                     \
    do {                                                                                                     \
        steer_op_desc desc = desc_of(kind_);                                                                 \
        fields;                                                                                              \
        gives(__LINE__, &desc, a, b, c, d);                                                                  \
    } while (0)
#define FAILS(kind_, fields, code, text)                                                                     \
    do {                                                                                                     \
        steer_op_desc desc = desc_of(kind_);                                                                 \
        steer_op *op = NULL;                                                                                 \
        fields;                                                                                              \
        CHECK_FAILS(steer_op_create(&op, &desc), code, text);                                                \
        CHECK(op == NULL);                                                                                   \
        release(&desc);                                                                                      \
    } while (0)

static void test_effects(void) {
    const double points[] = {0, 0, 4, 8};
    GIVES(STEER_OP_SET, (desc.vector = VECTOR(2, 0, 0, 0), desc.target = 7), 7, 2, 3, 4);
    GIVES(STEER_OP_SET, (desc.vector = VECTOR(2, 0, 0, 0), desc.target = 7, desc.write = VECTOR(0, 1, 0, 0)),
          1, 8, 3, 4);
    GIVES(STEER_OP_SET, (desc.vector = VECTOR(2, 0, 0, 0), desc.target = 7, desc.normalize = 0), 11, 2, 3, 4);
    GIVES(STEER_OP_MAP, (desc.vector = VECTOR(0, 0, 1, 0), desc.points = points, desc.point_count = 2), 1, 2,
          6, 4);
    GIVES(STEER_OP_ROTATE, (desc.vector = MATRIX(2, 1, 0, 0, 0, 1, 1, 0, 0), desc.degrees = 90), -2, 1, 3, 4);
    GIVES(STEER_OP_ANGLE, (desc.vector = MATRIX(2, 1, 0, 0, 0, 1, 1, 0, 0), desc.degrees = 90), 0, sqrt(5), 3,
          4);
    GIVES(STEER_OP_TURN, (desc.vector = VECTOR(1, 0, 0, 0), desc.degrees = 180), sqrt(30), 0, 0, 0);
    GIVES(STEER_OP_TURN, (desc.vector = VECTOR(1, 0, 0, 0), desc.degrees = -180), -sqrt(30), 0, 0, 0);
    GIVES(STEER_OP_ABLATE, (desc.vector = MATRIX(2, 1, 0, 0, 0, 1, 1, 0, 0), desc.scale = 0), 0, 0, 3, 4);
    GIVES(STEER_OP_ABLATE, (desc.vector = VECTOR(1, 0, 0, 0), desc.scale = 0, desc.side = 1), 0, 2, 3, 4);
    GIVES(STEER_OP_ABLATE, (desc.vector = VECTOR(1, 0, 0, 0), desc.scale = 0, desc.side = -1), 1, 2, 3, 4);
    GIVES(STEER_OP_CAP, (desc.vector = MATRIX(2, 1, 0, 0, 0, 1, 1, 0, 0), desc.max = 1), 1 / sqrt(5),
          2 / sqrt(5), 3, 4);
    GIVES(STEER_OP_CAP, (desc.vector = VECTOR(1, 0, 0, 0), desc.max = 0, desc.write = VECTOR(0, 0, 0, 2)), 1,
          2, 3, 2);
    GIVES(STEER_OP_SAE,
          (desc.vector = MATRIX(2, 1, 0, 0, 0, 0, 0, 0, 1), desc.write = MATRIX(2, 0, 0, 1, 0, 0, 1, 0, 0),
           desc.min = desc.max = 10, desc.bias = VECTOR(0, -10), desc.activation = STEER_FEATURE_RELU),
          1, 12, 12, 4);
    GIVES(STEER_OP_SAE,
          (desc.vector = VECTOR(1, 0, 0, 0), desc.write = VECTOR(0, 1, 0, 0), desc.scale = 3,
           desc.activation = STEER_FEATURE_RELU, desc.threshold = 1),
          1, 2, 3, 4);
    GIVES(STEER_OP_AFFINE,
          (desc.vector = MATRIX(2, 1, 0, 0, 0, 0, 1, 0, 0), desc.write = MATRIX(1, 0, 0, 0, 1),
           desc.matrix = MATRIX(1, 2, 3), desc.bias = VECTOR(0.5), desc.scale = 2),
          1, 2, 3, 21);
    GIVES(STEER_OP_REPLACE, (desc.vector = VECTOR(5, 6, 7, 8), desc.scale = 2, desc.normalize = 0), 10, 12,
          14, 16);
}

static void test_lists(void) {
    steer_op_desc add = desc_of(STEER_OP_ADD), keep = desc_of(STEER_OP_KEEP_NORM);
    steer_condition conditions[2] = {
        {.vector = VECTOR(1, 0, 0, 0), .threshold = 0.5, .gate = STEER_GATE_ABOVE},
        {.vector = VECTOR(0, 1, 0, 0), .threshold = 0.5, .gate = STEER_GATE_BELOW}};
    conditions[1].cosine = 1;
    steer_op *ops[2] = {NULL, NULL};
    double out[HIDDEN], size = 0;
    add.vector = VECTOR(1, 1, 1, 1);
    add.normalize = 0;
    add.conditions = conditions;
    add.condition_count = 2;
    CHECK_OK(steer_op_create(&ops[1], &keep));
    for (uint64_t truth = 0; truth < 16; truth++) { /* both hold: only bit 3 counts */
        add.truth = truth;
        CHECK_OK(steer_op_create(&ops[0], &add));
        apply(out, 2, ops);
        size = 0;
        for (int i = 0; i < HIDDEN; i++) size += out[i] * out[i];
        CHECK_NEAR(size, 30, 1e-5);
        CHECK_NEAR(out[1] / out[0], truth & 8 ? 1.5 : 2, 1e-6);
        steer_op_release(ops[0]);
    }
    apply(out, 1, &ops[1]); /* alone it does nothing */
    CHECK(out[0] == 1 && out[3] == 4);
    steer_op_release(ops[1]);
    steer_tensor_release(add.vector);
    for (int i = 0; i < 2; i++) steer_tensor_release(conditions[i].vector);
}

static void test_refused(void) {
    const double descending[] = {1, 0, 1, 0};
    const int bad = STEER_E_INVALID_ARGUMENT, shape = STEER_E_SHAPE_MISMATCH;
    FAILS(STEER_OP_SET, (desc.vector = VECTOR(1, 0), desc.target = NAN), bad, "target");
    FAILS(STEER_OP_SET, (desc.vector = VECTOR(0, 0)), bad, "vector: all 2 elements are zero");
    FAILS(STEER_OP_SET, (desc.vector = VECTOR(1, 0), desc.write = VECTOR(1, 0, 0)), shape, "write: 3");
    FAILS(STEER_OP_SET, (desc.vector = MATRIX(2, 1, 0, 0, 1)), bad, "vector: shape [2, 2]");
    FAILS(STEER_OP_MAP, (desc.vector = VECTOR(1, 0)), bad, "points: 0");
    FAILS(STEER_OP_MAP, (desc.vector = VECTOR(1, 0), desc.points = descending, desc.point_count = 2), bad,
          "ascending");
    FAILS(STEER_OP_ROTATE, (desc.vector = VECTOR(1, 0)), bad, "vector: 1 vector, expected 2");
    FAILS(STEER_OP_ROTATE, (desc.vector = MATRIX(2, 1, 0, -3, 0), desc.degrees = 3), bad, "in the span");
    FAILS(STEER_OP_TURN, (desc.vector = VECTOR(1, 0), desc.degrees = 181), bad, "degrees: 181");
    FAILS(STEER_OP_TURN, (desc.vector = VECTOR(1, 0), desc.write = VECTOR(1, 0)), bad, "write");
    FAILS(STEER_OP_CAP, (desc.vector = MATRIX(2, 1, 0, 0, 1), desc.max = 1, desc.write = VECTOR(1, 0)), bad,
          "write: given beside several");
    FAILS(STEER_OP_SAE, (desc.vector = VECTOR(1, 0), desc.min = 1, desc.scale = -1), bad, "scale");
    FAILS(STEER_OP_SAE, (desc.vector = VECTOR(1, 0), desc.threshold = -1, desc.min = 1), bad, "threshold");
    FAILS(STEER_OP_SAE, (desc.vector = VECTOR(1, 0)), bad, "min, max");
    FAILS(STEER_OP_AFFINE, (desc.vector = VECTOR(1, 0)), bad, "write: is NULL");
    FAILS(STEER_OP_AFFINE, (desc.vector = VECTOR(1, 0), desc.write = MATRIX(2, 1, 0, 0, 1)), shape,
          "no matrix");
    FAILS(STEER_OP_AFFINE,
          (desc.vector = VECTOR(1, 0), desc.write = VECTOR(0, 1), desc.matrix = MATRIX(1, 1, 2)), shape,
          "matrix: shape [1, 2], expected [1, 1]");
    FAILS(STEER_OP_AFFINE, (desc.vector = VECTOR(1, 0), desc.write = VECTOR(0, 1), desc.bias = VECTOR(1, 2)),
          shape, "bias: shape [2], expected [1]");
    FAILS(STEER_OP_AFFINE,
          (desc.vector = VECTOR(1, 0), desc.write = VECTOR(0, 1), desc.bias = VECTOR(INFINITY)), bad, "bias");
    FAILS(STEER_OP_ABLATE, (desc.vector = VECTOR(1, 0), desc.side = 2), bad, "side");
    const steer_condition far = {.noted = 65, .gate = STEER_GATE_ABOVE};
    FAILS(STEER_OP_NOTE, (desc.note = 0), bad, "conditions: none");
    FAILS(STEER_OP_NOTE, (desc.note = 64), bad, "note: 64, expected 0 to 63");
    FAILS(STEER_OP_KEEP_NORM, (desc.conditions = &far, desc.condition_count = 1), bad,
          "conditions[0]: noted 65");
    FAILS(STEER_OP_ADD, (desc.vector = VECTOR(1, 0), desc.condition_count = 7), bad,
          "conditions: 7 comparisons");
}

/* What is wrong with a comparison names it. */
static void test_conditions_refused(void) {
    const int bad = STEER_E_INVALID_ARGUMENT, shape = STEER_E_SHAPE_MISMATCH;
    steer_tensor *one = VECTOR(1, 0), *zero = VECTOR(0, 0), *three = VECTOR(1, 0, 0);
    const steer_condition good = {.vector = one, .gate = STEER_GATE_ABOVE};
    const steer_condition refused[] = {{.vector = one, .gate = STEER_GATE_ABOVE, .threshold = NAN},
                                       {.gate = STEER_GATE_ABOVE},
                                       {.vector = zero, .gate = STEER_GATE_ABOVE},
                                       {.vector = three, .gate = STEER_GATE_ABOVE}};
    const int codes[] = {bad, bad, bad, shape};
    const char *texts[] = {"conditions[1].threshold: nan", "conditions[1].vector: is NULL",
                           "conditions[1].vector: all 2 elements are zero",
                           "conditions[1].vector: 3 elements, the operation's vector has 2"};
    for (int i = 0; i < 4; i++) {
        const steer_condition list[] = {good, refused[i]};
        FAILS(STEER_OP_ADD, (desc.vector = VECTOR(1, 0), desc.conditions = list, desc.condition_count = 2),
              codes[i], texts[i]);
    }
    steer_tensor *all[] = {one, zero, three};
    for (int i = 0; i < 3; i++) steer_tensor_release(all[i]);
    FAILS(STEER_OP_ADD,
          (desc.vector = VECTOR(1, 0), desc.gate = STEER_GATE_ABOVE, desc.gate_vector = VECTOR(0, 0)), bad,
          "gate_vector: all 2 elements are zero");
}

int main(void) {
    const char *id = getenv("STEER_TEST_DEVICE");
    CHECK_OK(steer_device_open(&cpu, "cpu"));
    CHECK_OK(steer_device_open(&device, id && *id ? id : "cpu"));
    test_effects();
    test_lists();
    test_refused();
    test_conditions_refused();
    steer_device_release(device);
    steer_device_release(cpu);
    return check_result();
}
