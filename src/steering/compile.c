/* compile.c: specialised kernels. No device can compile them yet: opening the compiler is refused, so that no plan of
 * mode STEER_COMPILE_DEFAULT exists. */
#include "steering/compile.h"

int steer_compile_open(steer_engine *engine) {
    return STEER_FAIL(STEER_E_UNSUPPORTED, "compile: %s compiles no kernels", engine->device->id);
}
void steer_compile_close(steer_engine *engine) {}
void steer_compile_prepare(steer_plan *plan) {}
void steer_compile_forget(steer_plan *plan) {}
const steer_kernel *steer_compile_kernel(steer_plan *plan, int32_t layer, int residual) { return NULL; }
int steer_compile_launch(const steer_kernel *kernel, const steer_plan *plan, const steer_launch *launch) {
    return STEER_FAIL(STEER_E_UNSUPPORTED, "compile: %s compiles no kernels", plan->engine->device->id);
}
void steer_compile_explain(steer_explain *out, steer_plan *plan, int32_t layer) {}
