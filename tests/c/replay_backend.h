/* replay_backend.h: the parts of the backend that records and replays. */
#ifndef STEER_TEST_REPLAY_BACKEND_H
#define STEER_TEST_REPLAY_BACKEND_H

#include "backend/backend.h"
#include "core/status.h"

#include <string.h>

static const double ORDINARY_US = 10; /* what an ordinary launch costs */

/* replay_kernels.c */
int replay_kernel_ready(void *device, int own);
int replay_kernel_text(void *device, char **out, const steer_launch *launch, const steer_shape *shape);
int replay_kernel_build(void *device, void **code, size_t *size, const char *text, int (*stop)(void *),
                        void *context);
int replay_kernel_load(void *device, void **kernel, const steer_launch *launch, const steer_shape *given,
                       const void *code, size_t size);
/* An error unless the kernel was built for such a program. */
int replay_kernel_check(const void *kernel, const steer_entry *entry);
/* What a launch of a specialised kernel costs. */
double replay_kernel_us(void);

/* Runs a launch with the CUDA kernels on the CPU. */
int emulate_steer(const steer_launch *launch);
int emulate_name_kernels(void *device, char *text, size_t size, const steer_launch *launch);

#endif
