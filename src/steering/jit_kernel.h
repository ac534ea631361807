/* jit_kernel.h: a specialised kernel on its way from a request to its launches, and the thread that builds some of them. */
#ifndef STEER_STEERING_JIT_KERNEL_H
#define STEER_STEERING_JIT_KERNEL_H

#include "backend/device.h"
#include "core/hash.h"
#include "core/table.h"

#include <pthread.h>

/* One per shape of programs and batch. Until `state` says that it is built, it belongs to whoever builds it. */
typedef struct steer_jit_kernel {
    steer_node node; /* in the compiler's table, by `key` */
    steer_hash key;
    steer_hash programs_shape; /* {0, 0}: they differ */
    steer_shape shape;
    steer_launch launch; /* like those that it is for; of addresses only tells which there are */
    int residual;        /* they have one */
    int uniform;         /* they have one program */
    int32_t programs;    /* of their batch, about */

    _Atomic int
        state; /* a steer_compile_state; what is below is set before it says READY, NOT_CHOSEN or FAILED */
    steer_compile_source source;
    double ms, ordinary_us, compiled_us;
    void *loaded; /* the backend's */
    char why[160];
    struct steer_jit_kernel *next; /* waiting for the thread */
} steer_jit_kernel;

/* What an engine builds kernels with. */
typedef struct steer_compiler {
    steer_device *device;
    double least_gain;   /* how much faster a kernel must be to be chosen; 0.1: a tenth */
    steer_table kernels; /* under the engine's lock */
    atomic_int_fast64_t compiles, memory_hits, disk_hits, failures;

    pthread_mutex_t lock; /* over the next five */
    pthread_cond_t wake;
    steer_jit_kernel *first, *last; /* waiting */
    int running;                    /* the thread was started and not yet joined */
    pthread_t thread;
    atomic_int stopping;
    struct steer_compiler *older; /* in the list of all, for exit */
} steer_compiler;

/* INVALID_ARGUMENT if STEER_COMPILE_GAIN is not a number of percent. */
int steer_compiler_create(steer_compiler **out, steer_device *device);
/* Ends what is under way, soon, and frees the compiler with its kernels. */
void steer_compiler_free(steer_compiler *compiler);

/* Builds the kernel, or finds it in memory or on disk, and measures it; the outcome is its state. With NONE as the state
 * the user interrupted it, and the interrupt is pending. */
void steer_jit_make(steer_jit_kernel *kernel, steer_compiler *compiler);
/* The same on the compiler's thread. */
void steer_jit_make_later(steer_jit_kernel *kernel, steer_compiler *compiler);

/* Times the ordinary kernel and the loaded one on programs and hidden states made up for it, into ordinary_us and
 * compiled_us. A kernel for one program is timed as in an apply and as in a graph of a plan: the smaller gain counts. */
int steer_jit_measure(steer_jit_kernel *kernel, steer_device *device);

#endif
