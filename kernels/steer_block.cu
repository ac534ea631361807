/* steer_block.cu: launches the kernel for programs of blocks. */
#define STEER_ROWS_IMPLEMENTATION 1
#include "steer_block.cuh"

static steer_block_kernel select_kernel(steer_dtype dtype, const steer_block_plan &plan) {
    const bool residual = plan.args.residual != nullptr;
    return dtype == STEER_F32   ? steer_block_select<float>(plan.rows, residual)
           : dtype == STEER_F16 ? steer_block_select<steer_f16>(plan.rows, residual)
                                : steer_block_select<steer_bf16>(plan.rows, residual);
}

int steer_cuda_steer_blocks(steer_cuda_device *gpu, const steer_launch *launch) {
    const steer_block_plan plan = steer_block_plan_of(launch, gpu->multiprocessors, gpu->shared_bytes);
    if (plan.shared > gpu->shared_bytes)
        return STEER_CUDA_FAIL(
            STEER_E_UNSUPPORTED,
            "hidden: %lld with programs of blocks needs %lld bytes of shared memory, the device "
            "has %d",
            (long long)launch->hidden_size, (long long)plan.shared, gpu->shared_bytes);
    return steer_cuda_launch_rows(gpu, select_kernel(launch->dtype, plan), plan.args, plan.blocks,
                                  plan.threads, (int)plan.shared, 1);
}
