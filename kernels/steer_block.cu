/* steer_block.cu: launches the kernels for programs of blocks. */
#define STEER_KERNEL_IMPLEMENTATION 1
#include "steer_block_dispatch.cuh"

int steer_cuda_steer_blocks(steer_cuda_device *gpu, const steer_launch *launch) {
    const steer_block_config config = steer_block_configure(launch, gpu->multiprocessors, gpu->shared_bytes);
    if (config.shared > gpu->shared_bytes)
        return STEER_CUDA_FAIL(
            STEER_E_UNSUPPORTED,
            "hidden: %lld with programs of blocks needs %lld bytes of shared memory, the device "
            "has %d",
            (long long)launch->hidden_size, (long long)config.shared, gpu->shared_bytes);
    return steer_cuda_launch_rows(gpu, steer_block_dispatch(launch->dtype, config), config.args,
                                  config.blocks, config.threads, (int)config.shared, 1);
}
