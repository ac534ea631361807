/* steer_block.cu: launches the kernels for programs of blocks. */
#define STEER_ROWS_IMPLEMENTATION 1
#include "steer_block_select.cuh"

int steer_cuda_steer_blocks(steer_cuda_device *gpu, const steer_launch *launch) {
    const steer_block_plan plan = steer_block_plan_of(launch, gpu->multiprocessors, gpu->shared_bytes);
    if (plan.shared > gpu->shared_bytes)
        return STEER_CUDA_FAIL(
            STEER_E_UNSUPPORTED,
            "hidden: %lld with programs of blocks needs %lld bytes of shared memory, the device "
            "has %d",
            (long long)launch->hidden_size, (long long)plan.shared, gpu->shared_bytes);
    return steer_cuda_launch_rows(gpu, steer_block_select(launch->dtype, plan), plan.args, plan.blocks,
                                  plan.threads, (int)plan.shared, 1);
}
