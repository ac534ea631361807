/* test_fork.c: a child of a process that has used all its threads goes on by itself. */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 64, HIDDEN = 4096 };

static steer_tensor *tensor;
static steer_plan *plan;

/* Steps that run on all threads. */
static float work(void) {
    CHECK_OK(steer_tensor_fill(tensor, 1));
    CHECK_OK(steer_tensor_scalar(tensor, tensor, STEER_MUL, 3));
    CHECK_OK(steer_plan_apply(plan, 0, tensor, NULL));
    double value = 0;
    CHECK_OK(steer_tensor_get(&value, tensor, (int64_t[]){ROWS - 1, HIDDEN - 1}));
    return (float)value;
}

static void make_plan(steer_device *device) {
    steer_tensor *ones = NULL;
    steer_op *op = NULL;
    steer_spec *spec = NULL;
    steer_engine *engine = NULL;
    int32_t layer = 0;
    CHECK_OK(steer_tensor_create(&tensor, device, STEER_F32, 2, (int64_t[]){ROWS, HIDDEN}));
    CHECK_OK(steer_tensor_create(&ones, device, STEER_F32, 1, (int64_t[]){HIDDEN}));
    CHECK_OK(steer_tensor_fill(ones, 1));
    steer_op_desc desc = {.struct_size = sizeof desc, .kind = STEER_OP_ADD, .vector = ones, .scale = 2};
    CHECK_OK(steer_op_create(&op, &desc));
    CHECK_OK(steer_spec_create(&spec, 1, &layer, &op));
    steer_engine_desc engine_desc = {
        .struct_size = sizeof engine_desc, .dtype = STEER_F32, .hidden = HIDDEN, .device = device};
    CHECK_OK(steer_engine_create(&engine, &engine_desc));
    steer_request request = {.spec = spec, .tokens = ROWS, .prompt_tokens = -1};
    steer_plan_desc plan_desc = {.struct_size = sizeof plan_desc, .request_count = 1, .requests = &request};
    CHECK_OK(steer_plan_create(&plan, engine, &plan_desc));
    steer_engine_release(engine);
    steer_spec_release(spec);
    steer_op_release(op);
    steer_tensor_release(ones);
}

int main(void) {
    steer_device *device = NULL;
    int status = -1;
    CHECK_OK(steer_device_open(&device, "cpu"));
    make_plan(device);
    CHECK(work() == 5);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(20); /* instead of waiting for ever */
        _exit(work() == 5 && steer_cpu_threads() == 1 ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(work() == 5);
    steer_plan_release(plan);
    steer_tensor_release(tensor);
    steer_device_release(device);
    return check_result();
}
