/* main.c: the library built with a hash that always collides: programs and vectors are still told apart by content, and
 * equal ones shared. */
#include "../check.h"
#include "core/hash.h"

enum { HIDDEN = 8, KINDS = 9 };

static steer_device *cpu;
static float values[3][HIDDEN] = {
    {1, 0, 0, 0, 0, 0, 0, 0}, {0, 1, 0, 0, 0, 0, 0, 0}, {1, 1, 0, 0, 0, 0, 0, 0}};

static steer_tensor *vector(int index) {
    steer_tensor *tensor = NULL;
    CHECK_OK(steer_tensor_wrap(&tensor, cpu, STEER_F32, 1, (int64_t[]){HIDDEN}, NULL, values[index]));
    return tensor;
}

/* Specs that differ in one thing each. */
static steer_spec *make_spec(int kind) {
    steer_op_desc desc = {
        .struct_size = sizeof desc, .kind = STEER_OP_ADD, .scale = 1, .min = -INFINITY, .max = INFINITY};
    int which = kind == 1 ? 1 : kind == 2 ? 2 : 0;
    if (kind == 3) desc.scale = 2;
    if (kind == 4) desc.kind = STEER_OP_ABLATE, desc.scale = 0;
    if (kind == 5) desc.kind = STEER_OP_CAP, desc.max = 1;
    if (kind == 6) desc.kind = STEER_OP_CAP, desc.max = 3;
    if (kind >= 7) desc.gate = STEER_GATE_BELOW, desc.gate_threshold = 1, desc.gate_vector = vector(kind - 7);
    desc.vector = vector(which);
    steer_op *op = NULL;
    steer_spec *spec = NULL;
    CHECK_OK(steer_op_create(&op, &desc));
    CHECK_OK(steer_spec_create(&spec, 1, (int32_t[]){0}, &op));
    steer_op_release(op);
    steer_tensor_release(desc.vector);
    steer_tensor_release(desc.gate_vector);
    return spec;
}

/* The first two elements of a row (4, 0, ...) after each kind. */
static const float expected[KINDS][2] = {{5, 0}, {4, 1}, {5, 1}, {6, 0}, {0, 0},
                                         {1, 0}, {3, 0}, {4, 0}, {5, 0}};

int main(void) {
    steer_hash a = steer_hash_bytes((steer_hash){0, 0}, "a", 1),
               b = steer_hash_bytes((steer_hash){0, 0}, "b", 1);
    CHECK(steer_hash_equal(a, b));
    CHECK_OK(steer_device_open(&cpu, "cpu"));
    steer_engine_desc desc = {
        .struct_size = sizeof desc, .dtype = STEER_F32, .hidden = HIDDEN, .device = cpu};
    steer_engine *engine = NULL;
    CHECK_OK(steer_engine_create(&engine, &desc));
    steer_request requests[2 * KINDS];
    float hidden[2 * KINDS][HIDDEN] = {{0}};
    for (int i = 0; i < 2 * KINDS; i++) { /* each twice, made anew */
        requests[i] = (steer_request){.spec = make_spec(i % KINDS), .tokens = 1, .prompt_tokens = -1};
        hidden[i][0] = 4;
    }
    steer_plan_desc plan_desc = {
        .struct_size = sizeof plan_desc, .request_count = 2 * KINDS, .requests = requests};
    steer_plan *plan = NULL;
    steer_tensor *tensor = NULL;
    CHECK_OK(steer_plan_create(&plan, engine, &plan_desc));
    CHECK_OK(steer_tensor_wrap(&tensor, cpu, STEER_F32, 2, (int64_t[]){2 * KINDS, HIDDEN}, NULL, hidden));
    CHECK_OK(steer_plan_apply(plan, 0, tensor, NULL));
    for (int i = 0; i < 2 * KINDS; i++)
        for (int k = 0; k < 2; k++) CHECK_NEAR(hidden[i][k], expected[i % KINDS][k], 0);
    steer_engine_stats stats = {.struct_size = sizeof stats};
    CHECK_OK(steer_engine_get_stats(&stats, engine));
    CHECK(stats.programs == KINDS && stats.program_hits == KINDS && stats.vectors == 3);
    for (int i = 0; i < 2 * KINDS; i++) steer_spec_release(requests[i].spec);
    steer_tensor_release(tensor);
    steer_plan_release(plan);
    steer_engine_release(engine);
    steer_device_release(cpu);
    return check_result();
}
