/* fuzzing.h: what the fuzzers in C share: random numbers, spliced inputs and the time that they run for.
 * usage of each: fuzz_NAME [seconds] [seed]; a failure prints the seed, and the input stays in the folder that is printed. */
#ifndef STEER_TEST_FUZZING_H
#define STEER_TEST_FUZZING_H

#include "../c/files.h"

#include <time.h>

enum { FUZZ_SIZE_MOST = 1 << 18 };

typedef struct fuzz_input {
    uint8_t bytes[FUZZ_SIZE_MOST];
    size_t size;
} fuzz_input;

static uint64_t fuzz_state;
static time_t fuzz_end;

/* A random number below `below`, which is not 0. */
static inline uint64_t any(uint64_t below) { /* xorshift64* */
    fuzz_state ^= fuzz_state >> 12;
    fuzz_state ^= fuzz_state << 25;
    fuzz_state ^= fuzz_state >> 27;
    return (fuzz_state * 0x2545f4914f6cdd1dull >> 33) % below;
}

/* Puts `size` bytes for `removed` ones at `at`, if there is room. */
static inline void splice(fuzz_input *in, size_t at, size_t removed, const void *data, size_t size) {
    if (removed > in->size - at) removed = in->size - at;
    if (in->size - removed + size > FUZZ_SIZE_MOST) return;
    memmove(in->bytes + at + size, in->bytes + at + removed, in->size - at - removed);
    memcpy(in->bytes + at, data, size);
    in->size += size - removed;
}

/* Whether the file is there and fits. */
static inline int fuzz_load(fuzz_input *in, const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    in->size = fread(in->bytes, 1, sizeof in->bytes, file);
    return fclose(file) == 0 && in->size > 0 && in->size < sizeof in->bytes;
}

/* Makes the folder of inputs and says how to repeat this run. */
static inline void fuzz_begin(int argc, char **argv, const char *name) {
    const double seconds = argc > 1 ? atof(argv[1]) : 3;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
    files_begin();
    fprintf(stderr, "%s: seed %llu, inputs in %s\n", name, (unsigned long long)seed, files_folder);
    fuzz_state = seed * 2 + 1;
    fuzz_end = time(NULL) + (time_t)seconds;
}

/* Whether another input, the `count`th, is to be tried. */
static inline int fuzz_goes_on(long count) {
    return check_failures == 0 && (time(NULL) < fuzz_end || count < 100);
}

/* The last line of main: some of the inputs must have been taken and some refused. */
static inline int fuzz_finish(const char *name, long count, long taken) {
    fprintf(stderr, "%s: %ld inputs, of which %ld were taken and the others refused\n", name, count, taken);
    CHECK(taken > 0 && taken < count);
    if (check_failures == 0) files_end();
    return check_result();
}

#endif
