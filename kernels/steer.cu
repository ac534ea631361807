/* steer.cu: launches the steering kernels as steer_plan.cuh plans them. */
#include "steer_plan.cuh"

#include <atomic>
#include <stdlib.h>

/* Lets a kernel use all the shared memory there is and clusters of any size, once per device. */
int steer_cuda_allow_most(const void *kernel, const steer_cuda_device *gpu) {
    static std::atomic<const void *> allowed[STEER_CUDA_MAX_DEVICES][64];
    std::atomic<const void *> *slot = allowed[gpu->index], *const end = slot + 64;
    for (; slot < end; slot++) {
        const void *known = slot->load(std::memory_order_relaxed);
        if (known == kernel) return STEER_OK;
        if (!known) break;
    }
    STEER_CUDA_TRY(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, gpu->shared_bytes));
    if (gpu->compute_major >= 9)
        STEER_CUDA_TRY(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
    /* Two threads may both do it, and where the table is full it is done each time: no harm. */
    if (slot < end) slot->store(kernel, std::memory_order_relaxed);
    return STEER_OK;
}

/* STEER_KERNELS_WITHOUT: names of families that are passed over, to measure what they are worth. */
int steer_cuda_plan_rows(steer_rows_plan *plan, const steer_family **family, const steer_launch *launch,
                         const steer_cuda_device *gpu) {
    const steer_plan_device device = {gpu->multiprocessors, gpu->shared_bytes, gpu->l2_bytes,
                                      gpu->compute_major};
    static const char *const without = getenv("STEER_KERNELS_WITHOUT");
    if (steer_plan_rows(plan, family, launch, &device, without)) return STEER_OK;
    if (plan->shared > gpu->shared_bytes)
        return STEER_CUDA_FAIL(
            STEER_E_UNSUPPORTED,
            "hidden: %lld with programs of %d vectors needs %lld bytes of shared memory, the "
            "device has %d",
            (long long)launch->hidden_size, launch->max_vectors, (long long)plan->shared, gpu->shared_bytes);
    return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "rows: %lld is beyond one launch", (long long)launch->rows);
}

int steer_cuda_launch_plan(steer_cuda_device *gpu, steer_rows_kernel kernel, const steer_rows_plan &plan) {
    return steer_cuda_launch_rows(gpu, kernel, plan.args, (unsigned)plan.blocks, plan.threads,
                                  (int)plan.shared, plan.cluster);
}

int steer_cuda_steer(void *device, const steer_launch *launch) {
    steer_cuda_device *gpu = (steer_cuda_device *)device;
    const steer_family *family;
    steer_rows_plan plan;
    STEER_CUDA_CHECK(steer_cuda_enter(gpu));
    if (launch->rows == 0) return STEER_OK;
    if (launch->plain) {
        STEER_CUDA_CHECK(steer_cuda_plan_rows(&plan, &family, launch, gpu));
        STEER_CUDA_CHECK(steer_cuda_launch_plan(gpu, family->kernel(launch->dtype, plan.variant), plan));
    }
    return launch->blocks ? steer_cuda_steer_blocks(gpu, launch) : STEER_OK;
}

/* For tests, on machines without a device: how a launch would be served on one with so much of the two. `args` and
 * `variant` have room for steer_rows_args and steer_rows_variant. */
extern "C" __attribute__((visibility("default"))) int
steer_cuda_trial_plan(void *args, void *variant, unsigned *blocks, int *threads, int *shared,
                      const steer_launch *launch, int multiprocessors, int shared_bytes) {
    steer_cuda_device gpu = {};
    const steer_family *family;
    steer_rows_plan plan;
    gpu.multiprocessors = multiprocessors;
    gpu.shared_bytes = shared_bytes;
    gpu.l2_bytes = 50 << 20;
    gpu.compute_major = shared_bytes < LARGE_BLOCK_BYTES ? 8 : 9;
    STEER_CUDA_CHECK(steer_cuda_plan_rows(&plan, &family, launch, &gpu));
    *(steer_rows_args *)args = plan.args;
    *(steer_rows_variant *)variant = plan.variant;
    *blocks = (unsigned)plan.blocks;
    *threads = plan.threads;
    *shared = (int)plan.shared;
    return STEER_OK;
}
