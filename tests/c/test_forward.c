/* test_forward.c: every fixture against its goldens: hidden states, logits and greedy tokens, in chunks, in a batch and alone. */
/* devices: cpu cuda */
#include "golden.h"

/* Models of every family; what their configs can vary, in old spellings too; GGUF files. */
#define FIXTURES "tests/fixtures/models"
#define VARIANTS "tests/fixtures/variants"
#define GGUF     "tests/fixtures/gguf"
#define SMALL    "../shared/data/models/small"

static const double bound = 1e-4;
static char report[800];

static void check_row(const float *got, const float *expected, int64_t n, const char *folder,
                      const char *what, int64_t position) {
    const double error = golden_error(got, expected, n);
    snprintf(report, sizeof report, "%s: %s at %d: off by %.3g", folder, what, (int)position, error);
    check_report(error <= bound, __FILE__, __LINE__, "row", report);
}

/* Sequences from .. to in chunks: hidden states of every layer, and logits. */
static void check_chunks(model_runner *runner, const golden_file *golden, const int32_t *ids,
                         const char *folder, int from, int to, int64_t chunk) {
    const int64_t n = golden->length, hidden = golden->hidden, vocab = golden->vocab;
    char what[40];
    for (int64_t start = 0; start < n; start += chunk) {
        const int64_t count = start + chunk < n ? chunk : n - start;
        CHECK_OK(runner_step(runner, from, to, ids, POSITIONS, start, count));
        for (int s = from; s < to; s++)
            for (int64_t i = 0; i < count; i++) {
                const int64_t row = (s - from) * count + i, place = s * n + start + i;
                for (int32_t layer = 0; runner->keep_states && layer < runner->model->layers; layer++) {
                    snprintf(what, sizeof what, "hidden.%d (chunk %d)", layer, (int)chunk);
                    check_row(runner->states + (layer * MOST_ROWS + row) * hidden,
                              golden->states[layer] + place * hidden, hidden, folder, what, start + i);
                }
                snprintf(what, sizeof what, "logits (chunk %d)", (int)chunk);
                check_row(runner->logits + row * vocab, golden->logits + place * vocab, vocab, folder, what,
                          start + i);
            }
    }
}

static int64_t greatest(const float *x, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* From the cache of the given ids on, token by token; a token that a hair decides is taken from the golden. */
static void check_greedy(model_runner *runner, const golden_file *golden, int32_t *ids, const char *folder) {
    const int64_t vocab = golden->vocab, steps = golden->steps;
    CHECK_OK(runner_step(runner, 0, SEQUENCES, ids, POSITIONS, 0, golden->length));
    int64_t row[SEQUENCES] = {golden->length - 1, 2 * golden->length - 1};
    for (int64_t i = 0; i < steps; i++) {
        for (int s = 0; s < SEQUENCES; s++) {
            const int64_t expected = golden->greedy[s * steps + i];
            const int64_t got = greatest(runner->logits + row[s] * vocab, vocab);
            snprintf(report, sizeof report, "%s: token %d of %d is %d, expected %d", folder, (int)i, s,
                     (int)got, (int)expected);
            check_report(got == expected || golden->margin[s * steps + i] <= 1e-3, __FILE__, __LINE__,
                         "greedy", report);
            ids[s * POSITIONS + golden->length + i] = (int32_t)expected;
            row[s] = s;
        }
        CHECK_OK(runner_step(runner, 0, SEQUENCES, ids, POSITIONS, golden->length + i, 1));
    }
    for (int s = 0; s < SEQUENCES; s++)
        check_row(runner->logits + s * vocab, golden->last + s * vocab, vocab, folder, "full_logits_last",
                  golden->length + steps - 1);
}

/* In three sizes of chunks; where the suite thins this, each folder in one of them. */
static void test_folder(const char *folder, steer_device *device) {
    model_runner runner;
    golden_file golden;
    int32_t ids[SEQUENCES * POSITIONS] = {0};
    char gguf[600];
    struct stat info;
    snprintf(gguf, sizeof gguf, "%s/model.gguf", folder);
    const int status = runner_open(&runner, stat(gguf, &info) == 0 ? gguf : folder, device, STEER_F32);
    check_report(status == STEER_OK, __FILE__, __LINE__, folder, status ? steer_error_message() : "");
    if (status != STEER_OK) return;
    golden_open(&golden, folder, runner.model->layers);
    for (int s = 0; s < SEQUENCES; s++)
        for (int64_t i = 0; i < golden.length; i++)
            ids[s * POSITIONS + i] = (int32_t)golden.ids[s * golden.length + i];
    const int64_t chunks[] = {golden.length, 7, 1};
    int first = 0;
    for (const char *at = folder; *at; at++) first = (first + *at) % 3;
    for (int i = first; i < first + check_rounds(3); i++) {
        const int64_t chunk = chunks[i % 3];
        runner.keep_states = 1;
        check_chunks(&runner, &golden, ids, folder, 0, SEQUENCES, chunk);
        for (int s = 0; s < SEQUENCES; s++) check_chunks(&runner, &golden, ids, folder, s, s + 1, chunk);
        runner.keep_states = 0; /* nothing to do at any site: norms are fused with additions */
        check_chunks(&runner, &golden, ids, folder, 0, SEQUENCES, chunk);
    }
    runner.fused = 1;
    check_greedy(&runner, &golden, ids, folder);
    steer_weights_close(golden.file);
    runner_close(&runner);
}

/* Every folder of a folder; 0 if there is none. */
static int test_folders(const char *path, steer_device *device) {
    char folder[512];
    int count = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        struct stat info;
        snprintf(folder, sizeof folder, "%s/%s/golden.safetensors", path, entry->d_name);
        if (*entry->d_name == '.' || stat(folder, &info) != 0) continue;
        *strrchr(folder, '/') = 0;
        test_folder(folder, device);
        count++;
    }
    if (dir) closedir(dir);
    return count;
}

int main(int argc, char **argv) {
    const char *id = getenv("STEER_TEST_DEVICE");
    steer_device *device = NULL;
    CHECK_OK(steer_device_open(&device, id ? id : "cpu"));
    if (argc > 1) { /* a folder of models */
        CHECK(test_folders(argv[1], device) > 0);
        return check_result();
    }
    CHECK(test_folders(FIXTURES, device) == 24);
    CHECK(test_folders(VARIANTS, device) == 20);
    CHECK(test_folders(GGUF, device) == 20);
    if (test_folders(SMALL, device) == 0) fprintf(stderr, "skipped: %s is not there\n", SMALL);
    steer_device_release(device);
    return check_result();
}
