/* steer.cu: launches the steering kernels as steer_config.cuh plans them. */
#include "steer_config.cuh"

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

static steer_config_device plan_device(const steer_cuda_device *gpu) {
    return {gpu->multiprocessors, gpu->shared_bytes, gpu->l2_bytes, gpu->compute_major};
}

/* STEER_KERNELS_WITHOUT: names of families that are passed over, to measure what they are worth. */
static const char *without() {
    static const char *const names = getenv("STEER_KERNELS_WITHOUT");
    return names;
}

int steer_cuda_configure_rows(steer_launch_config *config, const steer_family **family,
                              const steer_launch *launch, const steer_needs *needs,
                              const steer_cuda_device *gpu) {
    if (steer_configure_rows(config, family, launch, needs, plan_device(gpu), without())) return STEER_OK;
    if (config->shared > gpu->shared_bytes)
        return STEER_CUDA_FAIL(
            STEER_E_UNSUPPORTED,
            "hidden: %lld with programs of %d vectors needs %lld bytes of shared memory, the "
            "device has %d",
            (long long)launch->hidden_size, needs->max_vectors, (long long)config->shared, gpu->shared_bytes);
    return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "rows: %lld is beyond one launch", (long long)launch->rows);
}

int steer_cuda_launch_configured(steer_cuda_device *gpu, steer_rows_kernel kernel,
                                 const steer_launch_config &config) {
    return steer_cuda_launch_rows(gpu, kernel, config.args, (unsigned)config.blocks, config.threads,
                                  (int)config.shared, config.cluster);
}

/* One launch for each class of programs that rows may have; none where one of them cannot be served. */
int steer_cuda_steer(void *device, const steer_launch *launch) {
    steer_cuda_device *gpu = (steer_cuda_device *)device;
    const steer_family *families[2];
    steer_launch_config plans[2];
    steer_needs needs[2];
    STEER_CUDA_CHECK(steer_cuda_enter(gpu));
    if (launch->rows == 0) return STEER_OK;
    const int classes = steer_classes_of(needs, launch);
    for (int i = 0; i < classes; i++)
        STEER_CUDA_CHECK(steer_cuda_configure_rows(&plans[i], &families[i], launch, &needs[i], gpu));
    for (int i = 0; i < classes; i++)
        STEER_CUDA_CHECK(steer_cuda_launch_configured(
            gpu, families[i]->kernel(launch->dtype, plans[i].variant), plans[i]));
    return launch->blocks ? steer_cuda_steer_blocks(gpu, launch) : STEER_OK;
}

int steer_cuda_name_kernels(void *device, char *text, size_t size, const steer_launch *launch) {
    return steer_name_kernels(text, size, launch, plan_device((steer_cuda_device *)device), without());
}

/* For tests, on machines without a device: how the `number`-th class of a launch would be served on one with so much of the two;
 * *blocks 0 where it has none. */
extern "C" __attribute__((visibility("default"))) int
steer_cuda_trial_config(unsigned *blocks, int *threads, int *shared, const steer_launch *launch, int number,
                        int multiprocessors, int shared_bytes) {
    steer_cuda_device gpu = {};
    const steer_family *family;
    steer_launch_config config;
    gpu.multiprocessors = multiprocessors;
    gpu.shared_bytes = shared_bytes;
    gpu.l2_bytes = 50 << 20;
    gpu.compute_major = shared_bytes < LARGE_BLOCK_BYTES ? 8 : 9;
    steer_needs needs[2];
    *blocks = 0;
    if (number >= steer_classes_of(needs, launch)) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_configure_rows(&config, &family, launch, &needs[number], &gpu));
    *blocks = (unsigned)config.blocks;
    *threads = config.threads;
    *shared = (int)config.shared;
    return STEER_OK;
}
