/* test_convert.c: conversions between all dtypes, against rounding written down from the formats' definitions. */
/* devices: cpu cuda */
#include "values.h"

/* x rounded to nearest even in a binary format of `digits` digits, least exponent `low` and greatest value `most`. */
static double round_to(double x, int digits, int low, double most) {
    if (isnan(x) || isinf(x) || x == 0) return x;
    int exponent = ilogb(x) < low ? low : ilogb(x);
    double unit = ldexp(1, exponent - (digits - 1)), rounded = nearbyint(x / unit) * unit;
    return fabs(rounded) > most ? copysign(INFINITY, x) : rounded;
}

/* What an element of `from` with value x becomes in `to`. */
static double oracle(steer_dtype from, steer_dtype to, double x) {
    static const int64_t lo[] = {0, 0, 0, INT32_MIN, INT64_MIN, 0},
                         hi[] = {0, 0, 0, INT32_MAX, INT64_MAX, 255};
    if (to == STEER_F32) return (double)(float)x;
    if (to == STEER_F16) return round_to((double)(float)x, 11, -14, 65504);
    if (to == STEER_BF16) return round_to((double)(float)x, 8, -126, 0x1.fep127);
    int64_t whole = fabs(x) < 0x1p63 ? (int64_t)x : x > 0 ? INT64_MAX : INT64_MIN;
    if (from > STEER_BF16) /* between integers: the low bits */
        return to == STEER_U8 ? (double)(uint8_t)whole : to == STEER_I32 ? (double)(int32_t)whole : x;
    return isnan(x)              ? 0
           : x <= (double)lo[to] ? (double)lo[to]
           : x >= (double)hi[to] ? (double)hi[to]
                                 : trunc(x);
}

/* clang-format off */
static const double samples[] = {
    0, -0.0, 1, -1, 0.1, -2.75, 254.5, 255, 256, -1.5, 0.99999994, 2049, 2051, 16777217, 33554433,
    1e-8, 6e-8, 2.9e-8, 3e-8, 6.103515625e-05, 6.1e-05, 1e-40, -1e-45, 65504, 65519, 65520, 65536, -70000,
    1.0009765625, 1.00146484375, 1.00390625, 1.01171875, 2147483647, 2147483648, -2147483649.0, 9.3e18, -9.3e18,
    1e30, 3.39e38, 3.4e38, INFINITY, -INFINITY, NAN};
/* clang-format on */
enum { SAMPLES = sizeof samples / sizeof *samples };

static void check_pair(steer_device *device, steer_dtype from, steer_dtype to, int turned) {
    const int64_t shape[] = {SAMPLES, 2};
    double values[2 * SAMPLES];
    for (int i = 0; i < 2 * SAMPLES; i++) values[i] = samples[i / 2] * (i % 2 ? 0.5 : 1);
    steer_tensor *src = tensor_of(device, from, 2, shape, values), *out = NULL, *base = NULL, *view = NULL;
    const int64_t mirrored[] = {2, SAMPLES};
    double *stored = values_of(src);
    CHECK_OK(steer_tensor_create(&base, device, to, 2, turned ? mirrored : shape));
    CHECK_OK(turned ? steer_tensor_transpose(&view, base, 0, 1)
                    : steer_tensor_narrow(&view, base, 0, 0, SAMPLES));
    CHECK_OK(steer_tensor_copy(view, src));
    double *got = values_of(view);
    for (int i = 0; i < 2 * SAMPLES; i++) CHECK_NEAR(got[i], oracle(from, to, stored[i]), 0);
    free(stored);
    free(got);
    /* From the device to the CPU with the conversion on the way. */
    CHECK_OK(steer_tensor_create(&out, open_cpu(), to, 2, shape));
    CHECK_OK(steer_tensor_copy(out, src));
    stored = values_of(out);
    got = values_of(view);
    for (int i = 0; i < 2 * SAMPLES; i++) CHECK_NEAR(got[i], stored[i], 0);
    free(stored);
    free(got);
    steer_tensor *const all[] = {src, out, base, view};
    for (int i = 0; i < 4; i++) steer_tensor_release(all[i]);
}

static void test_pairs(steer_device *device) {
    for (int from = 0; from < STEER_DTYPE_COUNT; from++)
        for (int to = 0; to < STEER_DTYPE_COUNT; to++)
            for (int turned = 0; turned < 2; turned++)
                check_pair(device, (steer_dtype)from, (steer_dtype)to, turned);
}

/* Every 16-bit pattern goes to f32 and back; copies within a dtype keep every bit. */
static void test_all_halves(steer_device *device) {
    static uint16_t bits[65536], back[65536];
    const int64_t shape[] = {65536};
    for (int i = 0; i < 65536; i++) bits[i] = (uint16_t)i;
    for (int dtype = STEER_F16; dtype <= STEER_BF16; dtype++) {
        steer_tensor *in = NULL, *host = NULL, *here = NULL, *wide = NULL, *again = NULL;
        CHECK_OK(steer_tensor_wrap(&in, open_cpu(), (steer_dtype)dtype, 1, shape, NULL, bits));
        CHECK_OK(steer_tensor_wrap(&host, open_cpu(), (steer_dtype)dtype, 1, shape, NULL, back));
        CHECK_OK(steer_tensor_create(&here, device, (steer_dtype)dtype, 1, shape));
        CHECK_OK(steer_tensor_create(&again, device, (steer_dtype)dtype, 1, shape));
        CHECK_OK(steer_tensor_create(&wide, device, STEER_F32, 1, shape));
        CHECK_OK(steer_tensor_copy(here, in));
        CHECK_OK(steer_tensor_copy(host, here));
        CHECK(memcmp(bits, back, sizeof bits) == 0);
        CHECK_OK(steer_tensor_copy(wide, here));
        CHECK_OK(steer_tensor_copy(again, wide));
        CHECK_OK(steer_tensor_copy(host, again));
        uint16_t infinity = dtype == STEER_F16 ? 0x7c00 : 0x7f80;
        for (int i = 0; i < 65536; i++)
            if ((bits[i] & 0x7fff) <= infinity)
                CHECK(back[i] == bits[i]);
            else
                CHECK((back[i] & 0x7fff) > infinity);
        steer_tensor *const all[] = {in, host, here, wide, again};
        for (int i = 0; i < 5; i++) steer_tensor_release(all[i]);
    }
}

/* f32 to the halves over random bit patterns, the whole exponent range. */
static void test_rounding(void) {
    uint64_t state = 3;
    for (int i = 0; i < 400000; i++) {
        uint32_t bits = (uint32_t)(test_number(&state, 1 << 16) << 16 | test_number(&state, 1 << 16));
        if (i % 4 == 0) bits = (bits & 0xffffe000u) | 0x1000u; /* a tie of f16 */
        if (i % 4 == 1) bits = (bits & 0xffff0000u) | 0x8000u; /* a tie of bf16 */
        float x = steer_bits_float(bits);
        CHECK_NEAR(steer_f16_to_f32(steer_f32_to_f16(x)), round_to(x, 11, -14, 65504), 0);
        CHECK_NEAR(steer_bf16_to_f32(steer_f32_to_bf16(x)), round_to(x, 8, -126, 0x1.fep127), 0);
    }
}

/* fill and arange follow the same rules. */
static void test_fill(steer_device *device) {
    const int64_t shape[] = {100, 700}, count[] = {5};
    for (int dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++) {
        steer_tensor *t = NULL, *line = NULL;
        CHECK_OK(steer_tensor_create(&t, device, (steer_dtype)dtype, 2, shape));
        CHECK_OK(steer_tensor_create(&line, device, (steer_dtype)dtype, 1, count));
        CHECK_OK(steer_tensor_fill(t, 2.71));
        double *values = values_of(t),
               expected = oracle(STEER_F32, (steer_dtype)dtype, dtype <= STEER_BF16 ? 2.71f : 2.71);
        for (int i = 0; i < 70000; i++) CHECK_NEAR(values[i], expected, 0);
        free(values);
        CHECK_OK(steer_tensor_arange(line, 1.5, 0.75));
        values = values_of(line);
        for (int i = 0; i < 5; i++)
            CHECK_NEAR(values[i], oracle(STEER_F32, (steer_dtype)dtype, 1.5 + 0.75 * i), 0);
        free(values);
        steer_tensor_release(t);
        steer_tensor_release(line);
    }
}

int main(void) {
    test_rounding();
    on_device(test_pairs);
    on_device(test_all_halves);
    on_device(test_fill);
    return check_result();
}
