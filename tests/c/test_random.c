/* test_random.c: Philox's known answers, the distributions, and equal bits for every device, dtype and layout. */
/* devices: cpu cuda */
#include "values.h"
#include "backend/random.h"

/* From the authors' kat_vectors file (Random123). */
static void test_known_answers(void) {
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        steer_philox(out, cases[i].counter, cases[i].key);
        CHECK(memcmp(out, cases[i].expected, sizeof out) == 0);
    }
}

/* The transform's own logarithm, sine and cosine against the C library's. */
static void test_functions(void) {
    for (uint64_t x = 1; x <= 1ull << 32; x += (x >> 10) + 1) {
        double expected = log((double)x * 0x1p-32);
        CHECK_NEAR(steer_random_log((double)x), expected, 1e-14 * fabs(expected));
    }
    for (uint64_t y = 0; y < 1ull << 32; y += 99991) {
        double sine, cosine, angle = 2 * 3.14159265358979323846 * (double)y * 0x1p-32;
        steer_random_sincos(&sine, &cosine, (uint32_t)y);
        CHECK_NEAR(sine, sin(angle), 1e-14);
        CHECK_NEAR(cosine, cos(angle), 1e-14);
    }
}

/* Element i is number i % 4 of block i / 4, rounded to the dtype, however dst lies in memory. */
static void test_elements(steer_device *device) {
    const int64_t shape[] = {37, 1001}, mirrored[] = {1001, 37};
    const uint64_t seed = 0x123456789abcdefull;
    for (int dtype = 0; dtype <= STEER_BF16; dtype++)
        for (int kind = 0; kind < 2; kind++) {
            steer_tensor *t = NULL, *base = NULL, *view = NULL;
            CHECK_OK(steer_tensor_create(&t, device, (steer_dtype)dtype, 2, shape));
            CHECK_OK(steer_tensor_create(&base, device, (steer_dtype)dtype, 2, mirrored));
            CHECK_OK(steer_tensor_transpose(&view, base, 0, 1));
            CHECK_OK(steer_tensor_random(t, (steer_random)kind, seed));
            CHECK_OK(steer_tensor_random(view, (steer_random)kind, seed));
            double *values = values_of(t), *strided = values_of(view);
            CHECK(memcmp(values, strided, 37 * 1001 * sizeof *values) == 0);
            for (int64_t i = 0; i < 37 * 1001; i++) {
                float four[4];
                char element[4];
                steer_random_block(four, (steer_random)kind, (steer_dtype)dtype, (uint64_t)i / 4, seed);
                steer_element_store((steer_dtype)dtype, element, four[i % 4]);
                CHECK_NEAR(values[i], steer_element_load((steer_dtype)dtype, element), 0);
            }
            free(values);
            free(strided);
            steer_tensor *const all[] = {t, base, view};
            for (int i = 0; i < 3; i++) steer_tensor_release(all[i]);
        }
}

static void test_moments(steer_device *device) {
    const int64_t n = 1 << 20;
    for (int dtype = 0; dtype <= STEER_BF16; dtype++)
        for (int kind = 0; kind < 2; kind++) {
            steer_tensor *t = NULL;
            double sums[5] = {0}, least = INFINITY, most = -INFINITY;
            CHECK_OK(steer_tensor_create(&t, device, (steer_dtype)dtype, 1, &n));
            CHECK_OK(steer_tensor_random(t, (steer_random)kind, 42));
            double *values = values_of(t);
            for (int64_t i = 0; i < n; i++) {
                for (int power = 1; power < 5; power++) sums[power] += pow(values[i], power) / (double)n;
                least = fmin(least, values[i]);
                most = fmax(most, values[i]);
            }
            free(values);
            steer_tensor_release(t);
            if (kind == STEER_UNIFORM) { /* a dtype of d digits lacks the upper half of its last unit */
                double missing = dtype == STEER_BF16 ? 0x1p-9 : dtype == STEER_F16 ? 0x1p-12 : 0;
                CHECK(least >= 0 && most < 1 && most > 0.99);
                CHECK_NEAR(sums[1], 0.5 - missing, 0.0015);
                CHECK_NEAR(sums[2], 1.0 / 3.0 - missing, 0.0015);
            } else {
                CHECK(least < -4 && most > 4 && least > -6.7 && most < 6.7);
                CHECK_NEAR(sums[1], 0, 0.005);
                CHECK_NEAR(sums[2], 1, 0.008);
                CHECK_NEAR(sums[3], 0, 0.02);
                CHECK_NEAR(sums[4], 3, 0.06);
            }
        }
}

static void test_seeds(void) {
    const int64_t n = 4096;
    steer_tensor *a = NULL, *b = NULL;
    CHECK_OK(steer_tensor_create(&a, open_cpu(), STEER_F32, 1, &n));
    CHECK_OK(steer_tensor_create(&b, open_cpu(), STEER_F32, 1, &n));
    CHECK_OK(steer_tensor_random(a, STEER_NORMAL, 1));
    CHECK_OK(steer_tensor_random(b, STEER_NORMAL, 1ull << 32)); /* the upper half of the seed counts */
    double *x = values_of(a), *y = values_of(b), dot = 0;
    for (int64_t i = 0; i < n; i++) dot += x[i] * y[i];
    CHECK(fabs(dot) < 5 * sqrt((double)n));
    free(x);
    free(y);
    steer_tensor_release(a);
    steer_tensor_release(b);
}

int main(void) {
    test_known_answers();
    test_functions();
    on_device(test_elements);
    on_device(test_moments);
    test_seeds();
    return check_result();
}
