/* jit.cu: specialised steering kernels: writes down what a launch lets be known beforehand (steer_baked.cuh), compiles
 * the headers of the ordinary kernels with it, and launches the result as the ordinary kernel would be. */
#include "nvrtc.cuh"
#include "steer_common.cuh"
#include "steer_sources.h" /* the headers' text, written by CMake */

#include <math.h>
#include <new>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <string>

namespace {

/* A loaded kernel. */
struct special_kernel {
    void (*kernel)(const steer_rows_args);
    steer_rows_variant variant; /* of the ordinary one that it stands in for */
};

bool same_variant(const steer_rows_variant &a, const steer_rows_variant &b) {
    return a.family == b.family && a.elements == b.elements && a.tile == b.tile && a.vectors == b.vectors &&
           a.aligned == b.aligned && a.adds == b.adds && a.residual == b.residual && a.wide == b.wide;
}

/* ---- Text ------------------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) void append(std::string *text, const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    *text += line;
}

/* A value that is the same in all programs: one that belongs to their shape, or any where all values do. */
void append_value(std::string *text, const char *name, float value, const steer_shape *shape) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (shape->values == 1 || value == 0 || isinf(value))
        append(text, " %s = __uint_as_float(0x%08xu);", name, (unsigned)bits);
}

void append_values(std::string *text, const char *of, const steer_op_image *op, const steer_shape *shape,
                   bool with_offset) {
    char name[32];
    const struct {
        const char *field;
        float value;
    } values[] = {{"gain", op->gain}, {"lo", op->lo}, {"hi", op->hi}, {"offset", op->offset}};
    for (int i = 0; i < (with_offset ? 4 : 3); i++) {
        snprintf(name, sizeof name, "%s.%s", of, values[i].field);
        append_value(text, name, values[i].value, shape);
    }
}

void append_ops(std::string *text, const steer_shape *shape) {
    *text += "#define STEER_BAKED_ENTRY(entry)";
    if (shape->image == 0 && shape->vectors == 1 && shape->ops == 1)
        append_values(text, "entry", &shape->op[0], shape, false);
    *text += "\n#define STEER_BAKED_OP(op, k)";
    if (shape->image == 1 && shape->ops > 0) {
        *text += " switch (k) {";
        for (int k = 0; k < shape->ops; k++) {
            const steer_op_image *op = &shape->op[k];
            append(text, " case %d: op.dot = %d; op.gate = %d; op.flags = %uu;", k, (int)op->dot,
                   (int)op->gate, (unsigned)op->flags);
            append_values(text, "op", op, shape, true);
            *text += " break;";
        }
        *text += " }";
    }
    *text += "\n";
}

const char *type_name(steer_dtype dtype) {
    return dtype == STEER_F32 ? "float" : dtype == STEER_F16 ? "steer_f16" : "steer_bf16";
}

/* The kernel itself, of as many registers as the ordinary one. */
void append_kernel(std::string *text, const steer_launch *launch, const steer_family &family,
                   const steer_launch_config &config) {
    const steer_rows_variant &v = config.variant;
    const char *type = type_name(launch->dtype), *residual = v.residual ? "true" : "false";
    const char *aligned = v.aligned ? "true" : "false", *wide = v.wide ? "true" : "false";
    /* A tile's block may have any number of teams. */
    const int most = v.wide ? STEER_WIDE_THREADS : steer_most_threads(v.vectors),
              threads = v.family == STEER_ROWS_TILE ? most : config.threads;
    char block[128];
    int blocks = 1;
    if (v.family == STEER_ROWS_TILE) {
        snprintf(block, sizeof block, "tile_block<%s, tile_shape<%d, %d, %d, %s, %s, %s>>", type, v.elements,
                 v.tile, v.vectors, residual, v.adds ? "true" : "false", wide);
    } else if (v.family == STEER_ROWS_STREAM) {
        snprintf(block, sizeof block, "stream_block<%s, %d, %s, %s>", type, v.vectors, residual, wide);
    } else {
        snprintf(block, sizeof block, "general_block<%s, %d, %s, %s>", type, v.tile, aligned, residual);
    }
    if (v.family != STEER_ROWS_GENERAL && !v.wide)
        blocks = steer_blocks_for(launch->dtype == STEER_F32 ? 4 : 2, v.elements, v.vectors, v.residual);
    append(text, "#include \"%s\"\n", family.source);
    append(text,
           "extern \"C\" __global__ void __launch_bounds__(%d, %d)\n"
           "    steer_kernel(const __grid_constant__ steer_rows_args given) {\n"
           "    steer_rows_args args = given;\n"
           "    args.hidden_size = STEER_BAKED_HIDDEN;\n"
           "    args.entry = baked_entry(args.entry);\n"
           "    %s(args);\n"
           "}\n",
           threads, most / threads * blocks, block);
}

/* Options a line each, an empty line, the source. What else the code depends on stands in a comment. */
std::string write_text(const steer_cuda_device *gpu, const steer_launch *launch, const steer_shape *shape,
                       const steer_family &family, const steer_launch_config &config) {
    std::string text;
    const int version = steer_nvrtc_version();
    append(&text, "-arch=sm_%d%d\n-std=c++17\n--fmad=true\n-default-device\n", gpu->compute_major,
           gpu->compute_minor);
    if (version >= 12008) text += "-minimal\n"; /* halves the time for what a small kernel does not need */
    append(&text, "\n/* NVRTC %d, driver %d, headers %016llx */\n", version, gpu->driver,
           (unsigned long long)STEER_SOURCES_HASH);
    append(&text, "#define STEER_KERNEL_IMPLEMENTATION 1\n#define STEER_BAKED 1\n");
    append(&text, "#define STEER_BAKED_HIDDEN %lld\n#define STEER_BAKED_THREADS %d\n",
           (long long)launch->hidden_size, (int)config.args.team);
    append(&text, "#define STEER_BAKED_ADDS %d\n#define STEER_BAKED_IMAGE %d\n", (int)shape->adds,
           (int)shape->image);
    append(&text, "#define STEER_BAKED_VECTORS %d\n#define STEER_BAKED_UPDATED %d\n", (int)shape->vectors,
           (int)shape->updated);
    append(&text, "#define STEER_BAKED_OPS %d\n#define STEER_BAKED_NORM %d\n", (int)shape->ops,
           (int)shape->norm);
    append_ops(&text, shape);
    append_kernel(&text, launch, family, config);
    return text;
}

/* Plans what there is a specialised kernel of; NULL as the family where there is none: programs of both classes, or on tensor
 * cores. */
int plan_special(steer_launch_config *config, const steer_family **family, const steer_launch *launch,
                 const steer_cuda_device *gpu) {
    const steer_needs few = launch->few, all = steer_needs_of_all(launch);
    const bool f32 = launch->dtype == STEER_F32;
    *family = nullptr;
    if (!f32 && (!few.present || launch->many.present)) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_configure_rows(config, family, launch, f32 ? &all : &few, gpu));
    if (!(*family)->source) *family = nullptr;
    return STEER_OK;
}

int describe(char **out, const steer_cuda_device *gpu, const steer_launch *launch, const steer_shape *shape) {
    const steer_family *family;
    steer_launch_config config;
    STEER_CUDA_CHECK(steer_nvrtc_load());
    STEER_CUDA_CHECK(plan_special(&config, &family, launch, gpu));
    *out = nullptr;
    if (!family) return STEER_OK;
    *out = strdup(write_text(gpu, launch, shape, *family, config).c_str());
    return *out ? STEER_OK : STEER_CUDA_FAIL(STEER_E_OUT_OF_MEMORY, "compile: no host memory");
}

int build(void **code, size_t *size, const char *text, int (*stop)(void *), void *context) {
    const char *source = strstr(text, "\n\n");
    const std::string options(text, source + 1);
    return steer_nvrtc_compile(code, size, source + 2, options.c_str(), steer_sources,
                               sizeof steer_sources / sizeof *steer_sources, stop, context);
}

/* ---- Loading --------------------------------------------------------------------------------------------------- */

int load(special_kernel *out, const steer_cuda_device *gpu, const void *code) {
#if CUDART_VERSION >= 12080
    const steer_cuda_relaxed relaxed; /* another thread of the program may have begun a capture */
    cudaLibrary_t library;
    cudaKernel_t kernel;
    STEER_CUDA_TRY(cudaLibraryLoadData(&library, code, nullptr, nullptr, 0, nullptr, nullptr, 0));
    STEER_CUDA_TRY(cudaLibraryGetKernel(&kernel, library, "steer_kernel"));
    out->kernel = (void (*)(const steer_rows_args))kernel;
    return steer_cuda_allow_most((const void *)out->kernel, gpu);
#else
    return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "compile: built with a CUDA toolkit before 12.8");
#endif
}

} // namespace

int steer_cuda_kernel_ready(void *device, int own) {
    if (CUDART_VERSION < 12080)
        return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "compile: built with a CUDA toolkit before 12.8");
    STEER_CUDA_CHECK(steer_nvrtc_load());
    STEER_CUDA_CHECK(steer_cuda_enter((steer_cuda_device *)device));
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    if (own) STEER_CUDA_TRY(cudaThreadExchangeStreamCaptureMode(&mode));
    return STEER_OK;
}

int steer_cuda_kernel_text(void *device, char **out, const steer_launch *launch, const steer_shape *shape) {
    return describe(out, (const steer_cuda_device *)device, launch, shape);
}

int steer_cuda_kernel_build(void *device, void **code, size_t *size, const char *text, int (*stop)(void *),
                            void *context) {
    return build(code, size, text, stop, context);
}

int steer_cuda_kernel_load(void *device, void **out, const steer_launch *launch, const steer_shape *shape,
                           const void *code, size_t size) {
    steer_cuda_device *gpu = (steer_cuda_device *)device;
    const steer_family *family;
    steer_launch_config config;
    STEER_CUDA_CHECK(steer_cuda_enter(gpu));
    STEER_CUDA_CHECK(plan_special(&config, &family, launch, gpu));
    special_kernel loaded = {nullptr, config.variant};
    STEER_CUDA_CHECK(load(&loaded, gpu, code));
    *out = new (std::nothrow) special_kernel(loaded);
    return *out ? STEER_OK : STEER_CUDA_FAIL(STEER_E_OUT_OF_MEMORY, "compile: no host memory");
}

int steer_cuda_kernel_launch(void *device, void *kernel, const steer_launch *launch, int *served) {
    steer_cuda_device *gpu = (steer_cuda_device *)device;
    const special_kernel *own = (const special_kernel *)kernel;
    const steer_family *family;
    steer_launch_config config;
    STEER_CUDA_CHECK(steer_cuda_enter(gpu));
    STEER_CUDA_CHECK(plan_special(&config, &family, launch, gpu));
    *served = launch->rows == 0 || (family && same_variant(config.variant, own->variant));
    if (!*served || launch->rows == 0) return STEER_OK;
    return steer_cuda_launch_configured(gpu, own->kernel, config);
}

/* For tests and packagers, on machines without a device: compiles what an H200 with the given compute capability would
 * be given; no code where that is nothing. */
extern "C" __attribute__((visibility("default"))) int steer_cuda_trial_compile(void **code, size_t *size,
                                                                               int compute,
                                                                               const steer_launch *launch,
                                                                               const steer_shape *shape) {
    steer_cuda_device gpu = {};
    char *text;
    gpu.multiprocessors = 132;
    gpu.shared_bytes = 227 * 1024;
    gpu.l2_bytes = 60 << 20;
    gpu.compute_major = compute / 10;
    gpu.compute_minor = compute % 10;
    *code = nullptr;
    *size = 0;
    STEER_CUDA_CHECK(describe(&text, &gpu, launch, shape));
    if (!text) return STEER_OK;
    int status = build(code, size, text, nullptr, nullptr);
    free(text);
    return status;
}
