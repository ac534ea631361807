/* test_failures.c: every allocation of the library, host and device, made to fail once in turn, through everything a
 * batch needs: the call says so, the same call works right after, and nothing is lost. The sanitized build of this test
 * looks for lost host memory. devices: cpu cuda */
#define _GNU_SOURCE
#include "check.h"

#include <link.h>

/* ---- Host memory that runs out ---------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__)
#define REAL(name) __interceptor_##name
#else
#define REAL(name) __libc_##name
#endif
void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t count, size_t size);
void *REAL(realloc)(void *data, size_t size);

static uintptr_t library_start, library_end; /* of libsteer: the allocations of others do not fail */
static _Thread_local int64_t fail_at;        /* fails the n-th allocation from now on, 0: none */
static _Thread_local int keep_failing;       /* ... and all after it */
static _Thread_local int64_t host_allocations;

static int must_fail(const void *caller) {
    uintptr_t at = (uintptr_t)caller;
    if (at < library_start || at >= library_end) return 0;
    host_allocations++;
    if (fail_at == 0 || --fail_at > 0) return 0;
    fail_at = keep_failing;
    return 1;
}

/* These take the place of the C library's. */
void *malloc(size_t size) { return must_fail(__builtin_return_address(0)) ? NULL : REAL(malloc)(size); }
void *calloc(size_t count, size_t size) {
    return must_fail(__builtin_return_address(0)) ? NULL : REAL(calloc)(count, size);
}
void *realloc(void *data, size_t size) {
    return must_fail(__builtin_return_address(0)) ? NULL : REAL(realloc)(data, size);
}

static int find_library(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    (void)data;
    if (!strstr(info->dlpi_name, "libsteer.so")) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X)) continue;
        library_start = info->dlpi_addr + segment->p_vaddr;
        library_end = library_start + segment->p_memsz;
    }
    return 1;
}

/* ---- What is tried ---------------------------------------------------------------------------------------------- */

enum { HIDDEN = 24, ROWS = 12 };
typedef enum mode { NOTHING, HOST_ONCE, HOST_FROM, DEVICE_ONCE } mode;
static const char *const mode_names[] = {"nothing", "a host allocation", "host allocations from there on",
                                         "a device allocation"};

static steer_device *device, *cpu;
static steer_tensor *vectors[4], *pair, *square, *hidden;
static int failures; /* calls that failed in this round */

static void arm(mode what, int64_t n) {
    fail_at = what == HOST_ONCE || what == HOST_FROM ? n : 0;
    keep_failing = what == HOST_FROM;
    CHECK_OK(steer_device_fail_allocation(device, what == DEVICE_ONCE ? n : 0));
}

/* Makes a call that may run out of memory; when it does, it must work with memory at hand. */
#define TRY(call)                                                                                            \
    do {                                                                                                     \
        int try_status = (call);                                                                             \
        if (try_status == STEER_OK) break;                                                                   \
        failures++;                                                                                          \
        arm(NOTHING, 0);                                                                                     \
        CHECK(try_status == STEER_E_OUT_OF_MEMORY && steer_error_code() == try_status);                      \
        CHECK(*steer_error_message() && *steer_error_op());                                                  \
        CHECK_OK(call);                                                                                      \
    } while (0)

static steer_op *make_op(int index) {
    static const int64_t positions[] = {0, 2, -1};
    steer_selector where = {.struct_size = sizeof where, .prompt_position_count = 3};
    where.prompt_positions = positions;
    steer_op_desc desc = {.struct_size = sizeof desc, .kind = (steer_op_kind)(index % 3)};
    desc.vector = vectors[index % 4];
    desc.scale = 0.5, desc.min = -0.25, desc.max = 0.25, desc.normalize = index % 2;
    if (index % 4 == 3) {
        desc.gate = STEER_GATE_ABOVE;
        desc.gate_vector = vectors[0];
        desc.gate_cosine = index > 4;
    }
    if (index == 1) { /* programs of blocks */
        desc.kind = STEER_OP_AFFINE;
        desc.vector = desc.write = pair;
        desc.matrix = square;
        desc.bias = NULL;
    } else if (index == 3) {
        desc.kind = STEER_OP_KEEP_NORM;
    } else if (index == 4) {
        desc.kind = STEER_OP_ABLATE;
        desc.vector = pair;
    }
    if (index % 3 == 2) desc.where = &where;
    steer_op *op = NULL;
    TRY(steer_op_create(&op, &desc));
    return op;
}

static steer_spec *make_spec(int first, int count) {
    steer_op *ops[8] = {NULL};
    int32_t layers[8];
    for (int i = 0; i < count; i++) {
        ops[i] = make_op(first + i);
        layers[i] = 2 * (i / 3);
    }
    steer_spec *spec = NULL;
    TRY(steer_spec_create(&spec, count, layers, ops));
    for (int i = 0; i < count; i++) steer_op_release(ops[i]);
    return spec;
}

static uint64_t apply_and_hash(steer_plan *plan) {
    float values[ROWS * HIDDEN];
    uint64_t hash = 1469598103934665603u;
    steer_tensor *host = NULL;
    for (int i = 0; i < ROWS * HIDDEN; i++) values[i] = (float)(i % 17) - 8;
    TRY(steer_tensor_wrap(&host, cpu, STEER_F32, 2, (int64_t[]){ROWS, HIDDEN}, NULL, values));
    TRY(steer_tensor_copy(hidden, host));
    for (int32_t layer = 0; layer < 4; layer++) TRY(steer_plan_apply(plan, layer, hidden, NULL));
    TRY(steer_tensor_copy(host, hidden));
    steer_tensor_release(host);
    for (size_t i = 0; i < sizeof values; i++) hash = (hash ^ ((unsigned char *)values)[i]) * 1099511628211u;
    return hash;
}

static steer_request request_of(steer_spec *spec, int64_t tokens) {
    return (steer_request){.spec = spec, .tokens = tokens, .prompt_tokens = tokens};
}

/* Specs, an engine, a plan, updates, applies, an explanation; gives a hash of the hidden states after each batch. */
static uint64_t work(void) {
    steer_spec *a = make_spec(0, 8), *b = make_spec(3, 3), *c = make_spec(1, 1);
    steer_engine_desc desc = {
        .struct_size = sizeof desc, .dtype = STEER_F32, .hidden = HIDDEN, .device = device};
    steer_engine *engine = NULL;
    steer_plan *plan = NULL;
    TRY(steer_engine_create(&engine, &desc));
    steer_request first[] = {request_of(a, 5), request_of(NULL, 1), request_of(b, 4)};
    steer_plan_desc plan_desc = {
        .struct_size = sizeof plan_desc, .rows = ROWS, .request_count = 3, .requests = first};
    TRY(steer_plan_create(&plan, engine, &plan_desc));
    uint64_t hash = apply_and_hash(plan);
    steer_request second[] = {request_of(b, 3), request_of(c, 2), request_of(c, 0), request_of(a, 7)};
    TRY(steer_plan_update(plan, 4, second));
    hash = hash * 31 + apply_and_hash(plan);
    steer_explain explain = {.struct_size = sizeof explain};
    TRY(steer_plan_explain(&explain, plan, 0));
    CHECK(explain.path == STEER_PATH_MIXED && explain.programs > 2);
    steer_spec_release(b);
    TRY(steer_plan_update(plan, 1, &second[1]));
    hash = hash * 31 + apply_and_hash(plan);
    steer_plan_release(plan);
    steer_engine_release(engine);
    steer_spec_release(a);
    steer_spec_release(c);
    return hash;
}

static steer_memory_info memory(void) {
    steer_memory_info info = {.struct_size = sizeof info};
    CHECK_OK(steer_device_memory(&info, device));
    return info;
}

static void fail_each(mode what, int64_t allocations, uint64_t expected) {
    int64_t live = memory().live_bytes, count = memory().live_allocations;
    int failed = 0;
    for (int64_t n = 1; n <= allocations; n++) {
        failures = 0;
        arm(what, n);
        uint64_t hash = work();
        arm(NOTHING, 0);
        failed += failures;
        /* The engine makes some failures good by itself, but not when they go on. */
        int right = what == HOST_FROM ? failures == 1 : failures <= 1;
        char more[120];
        snprintf(more, sizeof more, "%s, number %lld: %d calls failed", mode_names[what], (long long)n,
                 failures);
        check_report(right && hash == expected, __FILE__, __LINE__, "one error, and the same results", more);
        check_report(memory().live_bytes == live && memory().live_allocations == count, __FILE__, __LINE__,
                     "no device memory is lost", more);
    }
    CHECK(allocations > 5 && failed > 0);
}

int main(void) {
    const char *id = getenv("STEER_TEST_DEVICE");
    if (steer_device_open(&device, id && *id ? id : "cpu") != STEER_OK) {
        fprintf(stderr, "skipped: %s\n", steer_error_message());
        return 77;
    }
    CHECK_OK(steer_device_open(&cpu, "cpu"));
    dl_iterate_phdr(find_library, NULL);
    CHECK(library_end > library_start);
    for (int i = 0; i < 4; i++) {
        CHECK_OK(steer_tensor_create(&vectors[i], cpu, STEER_F32, 1, (int64_t[]){HIDDEN}));
        CHECK_OK(steer_tensor_random(vectors[i], STEER_NORMAL, (uint64_t)i + 1));
    }
    CHECK_OK(steer_tensor_create(&pair, cpu, STEER_F32, 2, (int64_t[]){2, HIDDEN}));
    CHECK_OK(steer_tensor_random(pair, STEER_NORMAL, 7));
    CHECK_OK(steer_tensor_create(&square, cpu, STEER_F32, 2, (int64_t[]){2, 2}));
    CHECK_OK(steer_tensor_random(square, STEER_NORMAL, 8));
    CHECK_OK(steer_tensor_create(&hidden, device, STEER_F32, 2, (int64_t[]){ROWS, HIDDEN}));
    work(); /* what is made once per process */
    int64_t host = host_allocations, on_device = memory().total_allocations;
    uint64_t expected = work();
    host = host_allocations - host;
    on_device = memory().total_allocations - on_device;
    CHECK(failures == 0);
    fail_each(HOST_ONCE, host, expected);
    fail_each(HOST_FROM, host, expected);
    fail_each(DEVICE_ONCE, on_device, expected);
    for (int i = 0; i < 4; i++) steer_tensor_release(vectors[i]);
    steer_tensor_release(pair);
    steer_tensor_release(square);
    steer_tensor_release(hidden);
    steer_device_release(cpu);
    steer_device_release(device);
    fprintf(stderr, "%lld host and %lld device allocations\n", (long long)host, (long long)on_device);
    return check_result();
}
