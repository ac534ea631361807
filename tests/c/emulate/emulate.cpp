/* emulate.cpp: runs the steering kernels of kernels/ on the CPU, so that tests hold them to the oracle where there is no GPU.
 * The threads of a block are fibers that take turns at barriers. Shared memory begins as NaN; a kernel that writes more of it
 * than it was launched with, that leaves lanes of a warp at different barriers, or reads what has not arrived, fails. */
#include "cuda.h"

#include "backend/backend.h"

namespace {
enum { SHARED_BYTES = 256 * 1024 }; /* more than any device has */
alignas(128) char shared_memory[SHARED_BYTES]; /* of the block that runs */
} // namespace

#include "steer_block_dispatch.cuh"
#include "steer_general.cuh"
#include "steer_mma.cuh"
#include "steer_config.cuh"
#include "steer_stream.cuh"
#include "steer_tile.cuh"


#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <vector>

emulated_dim threadIdx, blockDim, blockIdx, gridDim;
uint64_t emulated_words[32][32];
float emulated_operands[32][32][6];

namespace {

/* ---- Fibers --------------------------------------------------------------------------------------------------- */

enum { STACK_BYTES = 256 * 1024, MOST_THREADS = 1024 };
enum fiber_state : unsigned char { RUNS, AT_WARP_BARRIER, AT_BARRIER, ENDED };

struct copy {
    void *to;
    const void *from;
    int bytes;
};

/* A fiber runs kernel after kernel on its stack. It is begun with makecontext; from then on __builtin_setjmp and
 * __builtin_longjmp change places, which do no more than that; each of them needs a function of its own. */
struct fiber {
    void *place[5];
    unsigned first, threads;               /* of the barrier that it waits at */
    std::vector<copy> open;                /* copies without a group yet */
    std::vector<std::vector<copy>> groups; /* on their way, the oldest first */
};

fiber fibers[MOST_THREADS];
fiber_state states[MOST_THREADS]; /* apart, as they are looked at all the time */
unsigned begun;                   /* fibers that have a stack and wait on it */
void *scheduler[5];
unsigned current;
steer_rows_kernel kernel;
steer_rows_args arguments;
steer_block_kernel block_kernel; /* instead, if not NULL */
steer_block_args block_arguments;

[[noreturn]] void stop(const char *what, int a, int b) {
    fprintf(stderr, "emulated kernel: block %u: ", blockIdx.x);
    fprintf(stderr, what, a, b);
    fprintf(stderr, "\n");
    abort();
}

[[noreturn]] __attribute__((noinline)) void to_scheduler() { __builtin_longjmp(scheduler, 1); }

[[noreturn]] __attribute__((noinline)) void go_to(unsigned fiber) {
    current = fiber;
    threadIdx.x = fiber;
    __builtin_longjmp(fibers[fiber].place, 1);
}

/* Makes a fiber the one that runs. */
__attribute__((noinline)) void enter(unsigned fiber) {
    if (!__builtin_setjmp(scheduler)) go_to(fiber);
}

/* Waits, while those behind it in its warp run, and then the scheduler. */
__attribute__((noinline)) void leave(fiber_state state) {
    states[current] = state;
    if (__builtin_setjmp(fibers[current].place)) return;
    for (unsigned next = current + 1; next % 32; next++)
        if (states[next] == RUNS) go_to(next);
    to_scheduler();
}

__attribute__((noinline)) void wait_to_begin() {
    if (!__builtin_setjmp(fibers[current].place)) to_scheduler();
}

[[noreturn]] void run_fiber() {
    wait_to_begin();
    for (;;) {
        if (block_kernel)
            block_kernel(block_arguments);
        else
            kernel(arguments);
        leave(ENDED);
    }
}

/* Gives the next fiber a stack, on which it waits for its first kernel. */
__attribute__((noinline)) void begin_fiber() {
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = malloc(STACK_BYTES);
    context.uc_stack.ss_size = STACK_BYTES;
    context.uc_link = nullptr;
    makecontext(&context, run_fiber, 0);
    current = begun++;
    if (!__builtin_setjmp(scheduler)) setcontext(&context);
}

int count_of(fiber_state state, unsigned first, unsigned count) {
    int found = 0;
    for (unsigned i = first; i < first + count; i++) found += states[i] == state;
    return found;
}

void release(fiber_state state, unsigned first, unsigned count) {
    for (unsigned i = first; i < first + count; i++)
        if (states[i] == state) states[i] = RUNS;
}

/* Runs a warp until its lanes wait for other warps or have ended. */
void run_warp(unsigned first) {
    for (;;) {
        unsigned next = first;
        while (next < first + 32 && states[next] != RUNS) next++;
        if (next < first + 32) enter(next); /* and those behind it */
        const int waiting = count_of(AT_WARP_BARRIER, first, 32);
        if (waiting == 0) return;
        if (waiting < 32)
            stop("warp %d: %d lanes wait for others that do not come", (int)first / 32, waiting);
        release(AT_WARP_BARRIER, first, 32);
    }
}

/* Lets those go on whose barrier all have come to. */
void pass_barriers(unsigned threads) {
    for (unsigned i = 0; i < threads; i++) {
        if (states[i] != AT_BARRIER) continue;
        const unsigned first = fibers[i].first, count = fibers[i].threads;
        const int waiting = count_of(AT_BARRIER, first, count);
        if (waiting < (int)count)
            stop("%d threads wait for %d others that do not come", waiting, (int)count - waiting);
        release(AT_BARRIER, first, count);
    }
}

/* Runs a block of so many threads. */
void run_block(unsigned threads) {
    for (unsigned i = 0; i < threads; i++) {
        fiber &f = fibers[i];
        if (i == begun) begin_fiber();
        states[i] = RUNS;
        f.open.clear();
        f.groups.clear();
    }
    while (count_of(ENDED, 0, threads) < (int)threads) {
        for (unsigned first = 0; first < threads; first += 32) run_warp(first);
        pass_barriers(threads);
    }
}

/* ---- Shared memory -------------------------------------------------------------------------------------------- */

void *const memories[] = {shared_memory};

void fill_shared(int bytes) {
    for (void *memory : memories) memset(memory, 0xff, (size_t)bytes);
}

/* What lies beyond stays as it was filled at the start. */
void check_beyond(int bytes) {
    for (const void *memory : memories) {
        const unsigned char *at = (const unsigned char *)memory;
        /* All bytes are the first one's where each is the one before it. */
        if (bytes < SHARED_BYTES && at[bytes] == 0xff &&
            !memcmp(at + bytes, at + bytes + 1, SHARED_BYTES - bytes - 1))
            continue;
        for (int i = bytes; i < SHARED_BYTES; i++)
            if (at[i] != 0xff) stop("byte %d of shared memory was written, of %d", i, bytes);
    }
}

} // namespace

void emulated_warp_barrier() { leave(AT_WARP_BARRIER); }
void emulated_barrier(unsigned first, unsigned threads) {
    fibers[current].first = first;
    fibers[current].threads = threads;
    leave(AT_BARRIER);
}

/* Most of the time of long programs is spent here: where the CPU has fused multiply-adds, without a call for each. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("fma", "default")))
#endif
void emulated_product(float (&sums)[4], const float (*operands)[6], unsigned lane) {
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 8; k++)
            sums[i] = fmaf(operands[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2],
                           operands[column * 4 + k % 4][4 + k / 4], sums[i]);
    }
}

void emulated_copy(void *to, const void *from, int bytes) {
    fibers[current].open.push_back({to, from, bytes});
}
void copies_commit() {
    fibers[current].groups.push_back(fibers[current].open);
    fibers[current].open.clear();
}
void emulated_wait(int most) {
    std::vector<std::vector<copy>> &groups = fibers[current].groups;
    while ((int)groups.size() > most) {
        for (const copy &c : groups.front()) {
            memset(c.to, 0, 16);
            if (c.bytes) memcpy(c.to, c.from, (size_t)c.bytes);
        }
        groups.erase(groups.begin());
    }
}

namespace {
enum { MULTIPROCESSORS = 4 }; /* few, so that few rows make large tiles */

int kilobytes(const char *name, int otherwise) {
    const char *text = getenv(name);
    return (text ? atoi(text) : otherwise) * 1024;
}
/* Of shared memory, and of the last-level cache: rows beyond it are streamed. */
int device_bytes() { return kilobytes("STEER_EMULATE_SHARED", 227); }
int cache_bytes() { return kilobytes("STEER_EMULATE_CACHE", 50 << 10); }

steer_config_device device_now() {
    return {MULTIPROCESSORS, device_bytes(), cache_bytes(), device_bytes() < LARGE_BLOCK_BYTES ? 8 : 9};
}

/* Runs the kernel that is set. */
void run_grid(unsigned blocks, int threads, int bytes) {
    if (!begun) fill_shared(SHARED_BYTES);
    gridDim.x = blocks;
    blockDim.x = (unsigned)threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        fill_shared(bytes);
        run_block((unsigned)threads);
    }
    check_beyond(bytes);
    fill_shared(bytes);
}

int run_class(const steer_launch *launch, const steer_needs *needs) {
    const steer_family *family;
    steer_launch_config config;
    if (!steer_configure_rows(&config, &family, launch, needs, device_now(), getenv("STEER_KERNELS_WITHOUT")))
        return STEER_E_UNSUPPORTED;
    arguments = config.args;
    kernel = family->kernel(launch->dtype, config.variant);
    run_grid((unsigned)config.blocks, config.threads, (int)config.shared);
    return STEER_OK;
}

int run_with_blocks(const steer_launch *launch) {
    const steer_block_config config = steer_block_configure(launch, MULTIPROCESSORS, device_bytes());
    block_arguments = config.args;
    block_kernel = steer_block_dispatch(launch->dtype, config);
    run_grid(config.blocks, config.threads, (int)config.shared);
    block_kernel = nullptr;
    return STEER_OK;
}
} // namespace

extern "C" int emulate_steer(const steer_launch *launch) {
    if (launch->rows == 0) return STEER_OK;
    steer_needs needs[2];
    const int classes = steer_classes_of(needs, launch);
    int status = STEER_OK;
    for (int i = 0; i < classes && status == STEER_OK; i++) status = run_class(launch, &needs[i]);
    return status == STEER_OK && launch->blocks ? run_with_blocks(launch) : status;
}

extern "C" int emulate_name_kernels(void *, char *text, size_t size, const steer_launch *launch) {
    return steer_name_kernels(text, size, launch, device_now(), getenv("STEER_KERNELS_WITHOUT"));
}
