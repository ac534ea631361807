/* test_engines.c: plans on several threads, with an engine each or with one for all; the specs and the device are shared.
 * devices: cpu cuda */
#include "check.h"

#include <pthread.h>

enum { HIDDEN = 72, ROWS = 24, SPECS = 8, THREADS = 4, STEPS = 150 };

static steer_device *device;
static steer_spec *specs[SPECS]; /* shared: specs are immutable */

typedef struct random_state {
    uint32_t word;
} random_state;

static uint32_t next(random_state *random, uint32_t below) {
    random->word = random->word * 1664525u + 1013904223u;
    return (random->word >> 8) % below;
}

static float uniform(random_state *random) { return (float)next(random, 1u << 20) / (1 << 19) - 1; }

static steer_tensor *random_tensor(random_state *random, int64_t rows) {
    float values[ROWS * HIDDEN];
    int64_t matrix[2] = {rows, HIDDEN}, vector[1] = {HIDDEN};
    const int64_t *shape = rows ? matrix : vector;
    steer_device *cpu = NULL;
    steer_tensor *host = NULL, *tensor = NULL;
    for (int i = 0; i < (rows ? (int)rows : 1) * HIDDEN; i++) values[i] = uniform(random);
    CHECK_OK(steer_device_open(&cpu, "cpu"));
    CHECK_OK(steer_tensor_wrap(&host, cpu, STEER_F32, rows ? 2 : 1, shape, NULL, values));
    CHECK_OK(steer_tensor_create(&tensor, device, STEER_F32, rows ? 2 : 1, shape));
    CHECK_OK(steer_tensor_copy(tensor, host));
    CHECK_OK(steer_device_synchronize(device));
    steer_tensor_release(host);
    steer_device_release(cpu);
    return tensor;
}

/* Up to five operations of every kind on layers 0 and 1. */
static steer_spec *random_spec(random_state *random) {
    steer_op *ops[5] = {NULL};
    int32_t layers[5], count = 1 + (int32_t)next(random, 5);
    steer_spec *spec = NULL;
    for (int32_t i = 0; i < count; i++) {
        steer_op_desc desc = {.struct_size = sizeof desc, .kind = (steer_op_kind)next(random, 3)};
        desc.scale = uniform(random), desc.min = -0.5, desc.max = 0.5, desc.normalize = 1;
        desc.vector = random_tensor(random, 0);
        CHECK_OK(steer_op_create(&ops[i], &desc));
        steer_tensor_release(desc.vector);
        layers[i] = (int32_t)next(random, 2);
    }
    CHECK_OK(steer_spec_create(&spec, count, layers, ops));
    for (int32_t i = 0; i < count; i++) steer_op_release(ops[i]);
    return spec;
}

static uint64_t hash_of(steer_tensor *tensor) {
    float values[ROWS * HIDDEN];
    int64_t shape[2] = {ROWS, HIDDEN};
    steer_device *cpu = NULL;
    steer_tensor *host = NULL;
    uint64_t hash = 1469598103934665603u;
    CHECK_OK(steer_device_open(&cpu, "cpu"));
    CHECK_OK(steer_tensor_wrap(&host, cpu, STEER_F32, 2, shape, NULL, values));
    CHECK_OK(steer_tensor_copy(host, tensor));
    for (size_t i = 0; i < sizeof values; i++) hash = (hash ^ ((unsigned char *)values)[i]) * 1099511628211u;
    steer_tensor_release(host);
    steer_device_release(cpu);
    return hash;
}

static steer_engine *make_engine(void) {
    steer_engine_desc desc = {
        .struct_size = sizeof desc, .dtype = STEER_F32, .hidden = HIDDEN, .device = device};
    steer_engine *engine = NULL;
    CHECK_OK(steer_engine_create(&engine, &desc));
    return engine;
}

static steer_plan *make_plan(steer_engine *engine) {
    steer_plan_desc desc = {.struct_size = sizeof desc, .rows = ROWS};
    steer_plan *plan = NULL;
    CHECK_OK(steer_plan_create(&plan, engine, &desc));
    return plan;
}

static steer_engine_stats stats_of(steer_engine *engine) {
    steer_engine_stats stats = {.struct_size = sizeof stats};
    CHECK_OK(steer_engine_get_stats(&stats, engine));
    return stats;
}

typedef struct job {
    uint32_t seed;
    steer_engine *engine; /* NULL: one of its own */
    uint64_t hash;
} job;

/* Random batches over the shared specs and one of its own, all rows hashed: the same seed gives the same hash. */
static void *work(void *argument) {
    job *mine = argument;
    random_state random = {mine->seed};
    uint64_t hash = 0;
    steer_engine *own = mine->engine ? NULL : make_engine(), *engine = own ? own : mine->engine;
    steer_plan *plan = make_plan(engine);
    for (int step = 0; step < STEPS; step++) {
        if (step % 16 == 15) {
            steer_plan_release(plan);
            plan = make_plan(engine);
        }
        steer_request requests[4];
        steer_spec *fresh = random_spec(&random);
        for (int i = 0; i < 4; i++) {
            uint32_t pick = next(&random, SPECS + 2);
            requests[i] = (steer_request){.tokens = next(&random, 6), .prompt_tokens = -1};
            requests[i].spec = pick < SPECS ? specs[pick] : pick == SPECS ? fresh : NULL;
        }
        steer_tensor *hidden = random_tensor(&random, ROWS);
        CHECK_OK(steer_plan_update(plan, 4, requests));
        steer_spec_release(fresh);
        for (int32_t layer = 0; layer < 3; layer++) CHECK_OK(steer_plan_apply(plan, layer, hidden, NULL));
        if (step % 8 == 0) {
            steer_explain explain = {.struct_size = sizeof explain};
            steer_engine_stats stats = stats_of(engine);
            CHECK(stats.live_plans >= 1 && stats.applies >= 3 && stats.vectors >= 1);
            CHECK_OK(steer_plan_explain(&explain, plan, 0));
        }
        hash = hash * 31 + hash_of(hidden);
        steer_tensor_release(hidden);
    }
    steer_engine_release(own);
    steer_plan_release(plan);
    mine->hash = hash;
    return NULL;
}

/* All jobs at once. */
static void run(job jobs[THREADS], steer_engine *engine) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){.seed = (uint32_t)i + 1, .engine = engine};
        CHECK(pthread_create(&threads[i], NULL, work, &jobs[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

/* What the threads counted of one engine is all there, and it holds nothing when they have ended. */
static void check_shared(steer_engine *engine) {
    steer_engine_stats stats = stats_of(engine);
    CHECK(stats.applies == THREADS * STEPS * 3);
    CHECK(stats.updates == stats.plans + THREADS * STEPS);
    CHECK(stats.applies ==
          stats.applies_none + stats.launches_uniform + stats.launches_mixed + stats.launches_compiled);
    CHECK(stats.live_plans == 0);
}

int main(void) {
    const char *id = getenv("STEER_TEST_DEVICE");
    random_state random = {7};
    job alone[THREADS], together[THREADS], shared[THREADS];
    if (steer_device_open(&device, id && *id ? id : "cpu") != STEER_OK) {
        fprintf(stderr, "skipped: %s\n", steer_error_message());
        return 77;
    }
    for (int i = 0; i < SPECS; i++) specs[i] = random_spec(&random);
    for (int i = 0; i < THREADS; i++) {
        alone[i] = (job){.seed = (uint32_t)i + 1};
        work(&alone[i]);
    }
    run(together, NULL);
    steer_engine *engine = make_engine();
    run(shared, engine);
    check_shared(engine);
    steer_engine_release(engine);
    for (int i = 0; i < THREADS; i++) {
        CHECK(alone[i].hash == together[i].hash);
        CHECK(alone[i].hash == shared[i].hash);
    }
    CHECK(alone[0].hash != alone[1].hash);
    for (int i = 0; i < SPECS; i++) steer_spec_release(specs[i]);
    steer_device_release(device);
    return check_result();
}
