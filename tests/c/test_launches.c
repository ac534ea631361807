/* test_launches.c: a steering launch of any size and any programs finds room in shared memory, on devices with the least of
 * it (sm_80: 163 KB) and with the most (sm_90: 227 KB), without a device. Argument: the CUDA module. */
#include "module.h"

typedef int (*trial_config)(unsigned *blocks, int *threads, int *shared, const steer_launch *launch,
                            int number, int multiprocessors, int shared_bytes);

static const _Alignas(16) steer_row somewhere[1]; /* stands for addresses: nothing is launched */
static trial_config config;

/* Programs of up to `vectors` operations on vectors of their own; `both`: also some of few of them, where there are many. */
static void check_one(steer_launch launch, int32_t vectors, int both) {
    static const int shared[] = {163 * 1024, 227 * 1024};
    const int32_t ops = vectors > STEER_MAX_OPS ? STEER_MAX_OPS : vectors;
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        for (int adds = 0; adds < 2; adds++)
            for (int norm = 0; norm <= (vectors > 0); norm++) {
                const steer_needs needs = {
                    1, vectors, vectors > 1 ? (int64_t)steer_image_room(vectors, ops) : 0, adds, norm};
                const int is_few = steer_fits_registers(vectors, norm);
                launch.few = is_few ? needs : (steer_needs){0};
                launch.many = is_few ? (steer_needs){0} : needs;
                if (both)
                    launch.few =
                        (steer_needs){1, STEER_REGISTER_VECTORS,
                                      (int64_t)steer_image_room(STEER_REGISTER_VECTORS, STEER_MAX_OPS), 1, 0};
                for (int number = 0; number < 2; number++) {
                    unsigned blocks = 0;
                    int threads = 0, needed = -1;
                    CHECK(config(&blocks, &threads, &needed, &launch, number, 132, shared[i]) == STEER_OK);
                    CHECK((blocks == 0 && number == 1) ||
                          (needed >= 0 && needed <= shared[i] && threads >= 32 && threads <= 1024));
                }
            }
}

static void check_both(steer_launch launch, int32_t vectors) {
    check_one(launch, vectors, 0);
    check_one(launch, vectors, 1);
}

static void check_sizes(steer_dtype dtype, int64_t hidden) {
    static const int32_t vectors[] = {0,  1,  2,  3,  4,  5,  6,  7,   8,   9,
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
    CHECK(count == 2 && open_module(words[1], "steer_cuda_trial_config", &config));
    for (size_t i = 0; config && i < sizeof hidden / sizeof *hidden; i++)
        for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++) check_sizes(dtypes[k], hidden[i]);
    return check_result();
}
