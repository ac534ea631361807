/* nvrtc.cu: loads NVIDIA's run-time compiler when it is first asked for, and compiles with it. */
#include "nvrtc.cuh"
#include "cuda.cuh"

#include <dlfcn.h>
#include <string>
#include <vector>

namespace {

typedef struct nvrtc_program *program_handle; /* as in nvrtc.h, which not every toolkit has installed */

const int CANCELLED = 16;

struct compiler {
    int status = STEER_E_UNSUPPORTED;
    int version = 0;
    const char *(*error_text)(int);
    int (*get_version)(int *, int *);
    int (*create)(program_handle *, const char *, const char *, int, const char *const *,
                  const char *const *);
    int (*destroy)(program_handle *);
    int (*compile)(program_handle, int, const char *const *);
    int (*log_size)(program_handle, size_t *);
    int (*log)(program_handle, char *);
    int (*code_size)(program_handle, size_t *);
    int (*code)(program_handle, char *);
    int (*set_flow)(program_handle, int (*)(void *, void *), void *); /* NULL before 12.9: no stopping */
    std::string missing;
};

template <typename F> bool find(void *library, const char *name, F *out) {
    *out = (F)dlsym(library, name);
    return *out != nullptr;
}

compiler load() {
    compiler c;
    const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
    void *library = nullptr;
    for (const char *name : names)
        if (!library) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    int major, minor;
    if (!library) {
        c.missing = "libnvrtc.so.13, libnvrtc.so.12 or libnvrtc.so of the CUDA toolkit was not found";
    } else if (!find(library, "nvrtcGetErrorString", &c.error_text) ||
               !find(library, "nvrtcVersion", &c.get_version) ||
               !find(library, "nvrtcCreateProgram", &c.create) ||
               !find(library, "nvrtcDestroyProgram", &c.destroy) ||
               !find(library, "nvrtcCompileProgram", &c.compile) ||
               !find(library, "nvrtcGetProgramLogSize", &c.log_size) ||
               !find(library, "nvrtcGetProgramLog", &c.log) ||
               !find(library, "nvrtcGetCUBINSize", &c.code_size) ||
               !find(library, "nvrtcGetCUBIN", &c.code) || c.get_version(&major, &minor) != 0) {
        c.missing = "libnvrtc.so is too old: expected one of CUDA 12 or 13";
    } else {
        find(library, "nvrtcSetFlowCallback", &c.set_flow);
        c.version = major * 1000 + minor;
        c.status = STEER_OK;
    }
    return c;
}

const compiler &loaded() {
    static const compiler *c = new compiler(load()); /* not destroyed: a thread may compile at exit */
    return *c;
}

struct stopper {
    int (*stop)(void *);
    void *context;
};
int ask_stopper(void *payload, void *) {
    const stopper *s = (const stopper *)payload;
    return s->stop(s->context);
}

std::vector<std::string> lines_of(const char *text) {
    std::vector<std::string> lines(1);
    for (; *text; text++) {
        if (*text == '\n')
            lines.emplace_back();
        else
            lines.back() += *text;
    }
    if (lines.back().empty()) lines.pop_back();
    return lines;
}

int fail(const compiler &c, int result, program_handle program, const char *what) {
    std::string log;
    size_t size = 0;
    if (program && c.log_size(program, &size) == 0 && size > 1) {
        log.resize(size);
        c.log(program, &log[0]);
    }
    return STEER_CUDA_FAIL(STEER_E_DEVICE, "NVRTC cannot %s: %s: %.400s", what, c.error_text(result),
                           log.c_str());
}

int compile(const compiler &c, program_handle program, const char *options, stopper *stop) {
    std::vector<std::string> lines = lines_of(options);
    std::vector<const char *> list;
    for (const std::string &line : lines) list.push_back(line.c_str());
    if (c.set_flow && stop->stop) c.set_flow(program, ask_stopper, stop);
    int result = c.compile(program, (int)list.size(), list.data());
    if (result == CANCELLED) return STEER_CUDA_FAIL(STEER_E_INTERRUPTED, "interrupted");
    return result ? fail(c, result, program, "compile a kernel") : STEER_OK;
}

int take_code(const compiler &c, program_handle program, void **code, size_t *size) {
    int result = c.code_size(program, size);
    *code = result == 0 ? malloc(*size) : nullptr;
    if (result == 0 && !*code) return STEER_CUDA_FAIL(STEER_E_OUT_OF_MEMORY, "no memory for a kernel");
    if (result == 0) result = c.code(program, (char *)*code);
    if (result == 0) return STEER_OK;
    free(*code);
    return fail(c, result, program, "hand over a kernel");
}

} // namespace

int steer_nvrtc_load() {
    const compiler &c = loaded();
    return c.status == STEER_OK ? STEER_OK : STEER_CUDA_FAIL(c.status, "compile: %s", c.missing.c_str());
}

int steer_nvrtc_version() { return loaded().version; }

int steer_nvrtc_compile(void **code, size_t *size, const char *source, const char *options,
                        const steer_nvrtc_header *headers, int header_count, int (*stop)(void *),
                        void *context) {
    STEER_CUDA_CHECK(steer_nvrtc_load());
    const compiler &c = loaded();
    std::vector<const char *> names, texts;
    for (int i = 0; i < header_count; i++) {
        names.push_back(headers[i].name);
        texts.push_back(headers[i].text);
    }
    program_handle program = nullptr;
    int result = c.create(&program, source, "steer_kernel.cu", header_count, texts.data(), names.data());
    if (result) return fail(c, result, nullptr, "read a kernel");
    stopper stopping = {stop, context};
    int status = compile(c, program, options, &stopping);
    if (status == STEER_OK) status = take_code(c, program, code, size);
    c.destroy(&program);
    return status;
}
