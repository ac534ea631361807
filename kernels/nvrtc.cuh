/* nvrtc.cuh: NVIDIA's run-time compiler, from source to device code. Needs no device. */
#ifndef STEER_KERNELS_NVRTC_CUH
#define STEER_KERNELS_NVRTC_CUH

#include <stddef.h>

/* A header that the source may include by name. */
struct steer_nvrtc_header {
    const char *name;
    const char *text;
};

/* Loads the compiler, once. UNSUPPORTED if there is none, naming the libraries that were looked for. */
int steer_nvrtc_load();
/* Its version, 1000 * major + minor; 0 before it is loaded. */
int steer_nvrtc_version();
/* Compiles `source` under options that stand in one text, one a line; the code is the caller's to free. INTERRUPTED
 * soon after `stop` returns 1; DEVICE with the compiler's first complaint if it refuses the source. */
int steer_nvrtc_compile(void **code, size_t *size, const char *source, const char *options,
                        const steer_nvrtc_header *headers, int header_count, int (*stop)(void *),
                        void *context);

#endif
