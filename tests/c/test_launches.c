/* test_launches.c: a steering launch of any size and any programs finds room in shared memory, on devices with the least of
 * it (sm_80: 163 KB) and with the most (sm_90: 227 KB), without a device. Argument: the CUDA module. */
#include "module.h"

typedef int (*trial_plan)(void *args, void *variant, unsigned *blocks, int *threads, int *shared,
                          const steer_launch *launch, int multiprocessors, int shared_bytes);

static const _Alignas(16) steer_row somewhere[1]; /* stands for addresses: nothing is launched */
static trial_plan plan;

/* Programs of `vectors` operations on vectors of their own, -1 for any. */
static void check_one(steer_launch launch, int32_t vectors) {
    static const int shared[] = {163 * 1024, 227 * 1024};
    int32_t ops = vectors > STEER_MAX_OPS ? STEER_MAX_OPS : vectors;
    launch.max_vectors = vectors;
    if (vectors > 1) launch.max_image_bytes = (int64_t)steer_image_room(vectors, ops);
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        for (launch.both = 0; launch.both < 2; launch.both++)
            for (launch.norm = 0; launch.norm <= (vectors > 0); launch.norm++) {
                static _Alignas(16) char args[1024], variant[64];
                unsigned blocks = 0;
                int threads = 0, needed = -1;
                CHECK(plan(args, variant, &blocks, &threads, &needed, &launch, 132, shared[i]) == STEER_OK);
                CHECK(needed >= 0 && needed <= shared[i] && blocks > 0 && threads >= 32 && threads <= 1024);
            }
}

/* The same where all programs have as many vectors, and where most have none. */
static void check_both(steer_launch launch, int32_t vectors) {
    launch.usual_vectors = vectors;
    check_one(launch, vectors);
    launch.usual_vectors = 0;
    check_one(launch, vectors);
}

static void check_sizes(steer_dtype dtype, int64_t hidden) {
    static const int32_t vectors[] = {-1, 0,  1,  2,  3,  4,  5,  6,   7,   8,  9,
                                      16, 31, 32, 33, 64, 80, 90, 128, 256, 512};
    static const int64_t rows[] = {1, 100, 2000, 70000};
    static const int32_t shared_by[] = {1, 3, 20, 70000};
    for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            for (size_t p = 0; p < sizeof shared_by / sizeof *shared_by; p++)
                for (int kind = 0; kind < 4; kind++) {
                    const int32_t half = (int32_t)rows[r] / 2;
                    check_both((steer_launch){.residual = kind % 2 ? somewhere : NULL,
                                              .table = somewhere,
                                              .inner_runs = {0, 7, half, half, half, half},
                                              .replayed = kind / 2,
                                              .hidden_stride = hidden,
                                              .residual_stride = hidden,
                                              .hidden_size = hidden,
                                              .rows = rows[r],
                                              .dtype = dtype,
                                              .rows_per_program = shared_by[p]},
                               vectors[v]);
                }
}

int main(int count, char **words) {
    static const int64_t hidden[] = {1,    7,    8,    64,   100,  1000,  2048,
                                     4096, 5120, 8191, 8192, 8200, 16384, STEER_MAX_HIDDEN};
    static const steer_dtype dtypes[] = {STEER_F32, STEER_F16, STEER_BF16};
    CHECK(count == 2 && open_module(words[1], "steer_cuda_trial_plan", &plan));
    for (size_t i = 0; plan && i < sizeof hidden / sizeof *hidden; i++)
        for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++) check_sizes(dtypes[k], hidden[i]);
    return check_result();
}
