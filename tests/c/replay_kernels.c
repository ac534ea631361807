/* replay_kernels.c: specialised kernels without a GPU: their code says which shape of programs it was built for, and a
 * launch with another program is an error. The environment makes the compiler what a test needs:
 *   STEER_TEST_COMPILER      missing, or failing
 *   STEER_TEST_COMPILE_MS    how long it takes (default 0)
 *   STEER_TEST_COMPILED_US   what a launch of a specialised kernel costs (default 5; an ordinary one costs 10) */
#include "replay_backend.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char code_begins[] = "replay kernel\n";

static double number(const char *name, double otherwise) {
    const char *text = getenv(name);
    return text && *text ? atof(text) : otherwise;
}

static int compiler_is(const char *what) {
    const char *text = getenv("STEER_TEST_COMPILER");
    return text && !strcmp(text, what);
}

double replay_kernel_us(void) { return number("STEER_TEST_COMPILED_US", 5); }

int replay_kernel_ready(void *device, int own) {
    return compiler_is("missing") ? STEER_FAIL(STEER_E_UNSUPPORTED, "compile: no compiler was found")
                                  : STEER_OK;
}

/* The shape as it is, byte for byte, after what begins every text. */
int replay_kernel_text(void *device, char **out, const steer_launch *launch, const steer_shape *shape) {
    size_t begins = sizeof code_begins - 1, size = begins + 2 * sizeof *shape + 64;
    char *text = malloc(size);
    if (!text) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "compile: no host memory");
    memcpy(text, code_begins, begins);
    for (size_t i = 0; i < sizeof *shape; i++)
        snprintf(text + begins + 2 * i, 3, "%02x", ((const unsigned char *)shape)[i]);
    snprintf(text + begins + 2 * sizeof *shape, 64, "\n%lld %d %d\n", (long long)launch->hidden_size,
             (int)launch->dtype, launch->residual != NULL);
    *out = text;
    return STEER_OK;
}

int replay_kernel_build(void *device, void **code, size_t *size, const char *text, int (*stop)(void *),
                        void *context) {
    for (double ms = number("STEER_TEST_COMPILE_MS", 0); ms > 0; ms--) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        if (stop(context)) return STEER_FAIL(STEER_E_INTERRUPTED, "interrupted");
    }
    if (compiler_is("failing")) return STEER_FAIL(STEER_E_DEVICE, "the compiler refuses");
    *size = strlen(text) + 1;
    *code = malloc(*size);
    if (!*code) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "compile: no host memory");
    memcpy(*code, text, *size);
    return STEER_OK;
}

int replay_kernel_load(void *device, void **kernel, const steer_launch *launch, const steer_shape *given,
                       const void *code, size_t size) {
    size_t begins = sizeof code_begins - 1;
    steer_shape *shape = malloc(sizeof *shape); /* stays, as a GPU's kernels do */
    if (!shape) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "compile: no host memory");
    if (size < begins + 2 * sizeof *shape || memcmp(code, code_begins, begins) != 0) {
        free(shape);
        return STEER_FAIL(STEER_E_DEVICE, "this is no kernel");
    }
    for (size_t i = 0; i < sizeof *shape; i++) {
        unsigned byte = 0;
        sscanf((const char *)code + begins + 2 * i, "%2x", &byte);
        ((unsigned char *)shape)[i] = (unsigned char)byte;
    }
    *kernel = shape;
    return STEER_OK;
}

/* ---- What a kernel was built for ----------------------------------------------------------------------------- */

static int is_known(const steer_shape *shape, float baked, float value) {
    if (shape->values == 1 || baked == 0 || isinf(baked)) return memcmp(&baked, &value, sizeof value) == 0;
    return 1;
}

static int fits_op(const steer_shape *shape, const steer_op_image *baked, const steer_op_image *op) {
    return op->dot == baked->dot && op->gate == baked->gate && op->flags == baked->flags &&
           is_known(shape, baked->gain, op->gain) && is_known(shape, baked->offset, op->offset) &&
           is_known(shape, baked->lo, op->lo) && is_known(shape, baked->hi, op->hi);
}

static int fits_image(const steer_shape *shape, const char *image) {
    const steer_program_image *head = (const steer_program_image *)(const void *)image;
    const steer_op_image *ops =
        (const steer_op_image *)(const void *)(image + steer_image_ops_at(head->vectors));
    if (shape->vectors >= 0 && (head->vectors != shape->vectors || head->updated != shape->updated)) return 0;
    if (shape->norm >= 0 && head->norm != shape->norm) return 0;
    if (shape->ops >= 0 && head->ops != shape->ops) return 0;
    for (int32_t k = 0; k < shape->ops; k++)
        if (!fits_op(shape, &shape->op[k], &ops[k])) return 0;
    return 1;
}

static int fits(const steer_shape *shape, const steer_entry *entry) {
    if (!entry->u && !entry->vectors) return 1; /* not steered */
    if (shape->adds >= 0 && (entry->u != 0) != shape->adds) return 0;
    if (shape->image >= 0 && (entry->image != 0) != shape->image) return 0;
    if (shape->vectors >= 0 && entry->vectors != shape->vectors) return 0;
    if (entry->image) return fits_image(shape, (const char *)(uintptr_t)entry->image);
    if (shape->ops != 1 || entry->vectors != 1) return 1;
    const steer_op_image *op = &shape->op[0];
    return is_known(shape, op->gain, entry->gain) && is_known(shape, op->lo, entry->lo) &&
           is_known(shape, op->hi, entry->hi);
}

int replay_kernel_check(const void *kernel, const steer_entry *entry) {
    if (fits(kernel, entry)) return STEER_OK;
    return STEER_FAIL(STEER_E_DEVICE, "program %d: the specialised kernel was built for others",
                      entry->program);
}
