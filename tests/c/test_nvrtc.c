/* test_nvrtc.c: the source of every kind of specialised kernel compiles, for both architectures, without a device.
 * Argument: the CUDA module. Exit status 77 (skipped) where the run-time compiler is missing.
 *
 * Compiling takes up to seconds each. Without STEER_TEST_ROUNDS every size meets every number of vectors with or without a
 * residual in turn; the sources of both architectures are the same but for what begins with __CUDA_ARCH__, and the older
 * one gets a third of the sizes. */
#include "module.h"

#include <time.h>

typedef int (*trial_compile)(void **code, size_t *size, int compute, const steer_launch *launch,
                             const steer_shape *shape);

static const _Alignas(16) steer_row somewhere[1]; /* stands for addresses: nothing is launched */
static trial_compile compile;
static double slowest_ms;
static int full; /* all combinations */

static steer_op_image cap(int32_t dot) {
    return (steer_op_image){.dot = dot, .gate = -1, .inv = 1, .lo = -INFINITY, .hi = 1.5f};
}

/* Programs of `vectors` caps. */
static steer_shape caps(int32_t vectors, int32_t adds) {
    steer_shape shape = {adds, vectors > 1, vectors, vectors, vectors, 0, 1, {{0}}};
    for (int32_t k = 0; k < vectors && k < STEER_SHAPE_OPS; k++) shape.op[k] = cap(k);
    if (vectors > STEER_SHAPE_OPS) shape.ops = -1;
    return shape;
}

static steer_launch launch_of(steer_dtype dtype, int64_t hidden, int64_t rows, const steer_shape *shape) {
    int32_t vectors = shape->vectors < 0 ? 4 : shape->vectors;
    const steer_needs needs = {.present = 1,
                               .max_vectors = shape->image ? (vectors > 2 ? vectors : 2) : vectors,
                               .max_image_bytes =
                                   shape->image ? (int64_t)steer_image_size(vectors, vectors) : 0,
                               .both = shape->adds != 0 && vectors > 0,
                               .norm = shape->norm != 0};
    steer_launch launch = {.hidden_stride = hidden,
                           .residual_stride = hidden,
                           .hidden_size = hidden,
                           .rows = rows,
                           .dtype = dtype,
                           .table = somewhere,
                           .rows_per_program = 64};
    *(steer_fits_registers(vectors, needs.norm) ? &launch.few : &launch.many) = needs;
    return launch;
}

/* Whether the ordinary kernel works on tensor cores; it is not specialised. */
static int is_on_tensor_cores(const steer_launch *launch) {
    return launch->dtype != STEER_F32 && launch->many.present;
}

static void check_one(int compute, const steer_launch *launch, const steer_shape *shape) {
    struct timespec start, end;
    void *code = NULL;
    size_t size = 0;
    clock_gettime(CLOCK_MONOTONIC, &start);
    int status = compile(&code, &size, compute, launch, shape);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double ms = (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) * 1e-6;
    if (ms > slowest_ms) slowest_ms = ms;
    CHECK(status == STEER_OK);
    if (is_on_tensor_cores(launch))
        CHECK(size == 0 && code == NULL);
    else
        CHECK(status != STEER_OK || (size > 1000 && memcmp(code, "\177ELF", 4) == 0));
    if (getenv("STEER_TEST_VERBOSE"))
        fprintf(stderr, "sm_%d hidden %lld rows %lld dtype %d vectors %d residual %d: %zu bytes, %.0f ms\n",
                compute, (long long)launch->hidden_size, (long long)launch->rows, (int)launch->dtype,
                shape->vectors, launch->residual != NULL, size, ms);
    free(code);
}

/* Tiles of one and several rows, long rows, wide blocks, walks of batches beyond the cache, rows that are not aligned; then
 * two that differ from others in numbers alone. */
static const int64_t sizes[][2] = {{2048, 256},   {2048, 2048}, {16384, 64}, {5120, 2048},  {12288, 2048},
                                   {8192, 65536}, {100, 7},     {4096, 256}, {12288, 16384}};
enum { SIZES = sizeof sizes / sizeof *sizes, SAME_KIND = 2 };
static const steer_dtype dtypes[] = {STEER_BF16, STEER_F16, STEER_F32};

static void test_sizes(int compute, int32_t vectors, int32_t adds, int residual) {
    steer_shape shape = caps(vectors, adds);
    for (int i = 0; i < (full ? SIZES : SIZES - SAME_KIND); i++) {
        if (!full && ((i + vectors) % 2 != residual || (compute < 90 && (i + vectors) % 3))) continue;
        steer_launch launch = launch_of(STEER_BF16, sizes[i][0], sizes[i][1], &shape);
        launch.residual = residual ? somewhere : NULL;
        check_one(compute, &launch, &shape);
    }
}

/* Any number of vectors, in every dtype. */
static void test_vectors(int compute) {
    static const int32_t all[] = {1, 2, 4, 8, 16, 32, 64}, some[] = {1, 4, 8, 64};
    for (size_t k = 0; k < (full ? sizeof all : sizeof some) / sizeof *all; k++) {
        const int32_t vectors = full ? all[k] : some[k];
        steer_shape shape = caps(vectors, 1);
        for (size_t i = full || compute == 90 ? 0 : 2; i < sizeof dtypes / sizeof *dtypes; i++) {
            steer_launch launch = launch_of(dtypes[i], 4096, vectors < 16 ? 256 : 2048, &shape);
            check_one(compute, &launch, &shape);
        }
    }
}

/* Gates of both kinds, and a conditional add. */
static void test_gates(int compute) {
    steer_shape shape = {0, 1, 3, 2, 2, 1, 0, {{0}}};
    shape.op[0] = cap(0);
    shape.op[0].gate = 2;
    shape.op[0].flags = STEER_OP_IMAGE_COSINE;
    shape.op[1] = (steer_op_image){.dot = 1, .gate = 0, .offset = 2, .lo = -INFINITY, .hi = INFINITY};
    shape.op[1].flags = STEER_OP_IMAGE_BELOW;
    steer_launch launch = launch_of(STEER_BF16, 2048, 256, &shape);
    check_one(compute, &launch, &shape);
}

/* Programs that have nothing in common. */
static void test_mixed(int compute) {
    steer_shape shape = {-1, -1, -1, -1, -1, -1, 0, {{0}}};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        steer_launch launch = launch_of(dtypes[i], 2048, 256, &shape);
        if (full || compute == 90) check_one(compute, &launch, &shape);
        launch.few = launch.many;
        launch.many = (steer_needs){0};
        launch.few.norm = 0;
        check_one(compute, &launch, &shape);
    }
}

/* 1 if the compiler is there. */
static int has_compiler(void) {
    steer_shape shape = caps(1, 0);
    steer_launch launch = launch_of(STEER_BF16, 2048, 256, &shape);
    void *code = NULL;
    size_t size;
    int status = compile(&code, &size, 90, &launch, &shape);
    free(code);
    return status != STEER_E_UNSUPPORTED;
}

int main(int count, char **words) {
    CHECK(count == 2 && open_module(words[1], "steer_cuda_trial_compile", &compile));
    if (!compile) return check_result();
    if (!has_compiler()) {
        fprintf(stderr, "skipped: the run-time compiler is missing\n");
        return 77;
    }
    full = getenv("STEER_TEST_ROUNDS") != NULL;
    for (int compute = 80; compute <= 90; compute += 10) {
        for (int residual = 0; residual < 2; residual++) {
            test_sizes(compute, 0, 1, residual);
            test_sizes(compute, 1, residual, residual);
            test_sizes(compute, 2, 0, residual);
        }
        test_vectors(compute);
        test_gates(compute);
        test_mixed(compute);
    }
    fprintf(stderr, "slowest: %.0f ms\n", slowest_ms);
    return check_result();
}
