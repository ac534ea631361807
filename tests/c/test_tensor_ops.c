/* test_tensor_ops.c: every operation and dtype against a float64 oracle. */
/* devices: cpu cuda */
#include "values.h"

enum { MAX_NUMEL = 4096 };

/* How an operand lies in memory: whole, transposed, a narrowed part of something larger, or to be broadcast. */
typedef enum layout { WHOLE, TURNED, PART, ROW, COLUMN, ONE, LAYOUTS } layout;

/* A [rows, columns] operand with small whole values (never 0 if `divisor`), and those values as they broadcast. */
static steer_tensor *operand(steer_device *device, steer_dtype dtype, int64_t rows, int64_t columns,
                             layout how, int divisor, uint64_t *state, double *full) {
    int64_t r = how == ROW || how == ONE ? 1 : rows, c = how == COLUMN || how == ONE ? 1 : columns;
    int64_t stored_rows = how == TURNED ? c
                          : how == PART ? r + 2
                                        : r,
            stored_columns = how == TURNED ? r
                             : how == PART ? c + 3
                                           : c;
    double stored[MAX_NUMEL];
    for (int64_t i = 0; i < stored_rows * stored_columns; i++) {
        double x = (double)test_number(state, dtype == STEER_U8 ? 15 : 2001) - (dtype == STEER_U8 ? 0 : 1000);
        if (steer_dtype_is_float(dtype)) x /= 64;
        if (divisor && x == 0) x = 3;
        char element[8];
        steer_element_store(dtype, element, x);
        stored[i] = steer_element_load(dtype, element);
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            int64_t si = r == 1 ? 0 : i, sj = c == 1 ? 0 : j;
            full[i * columns + j] = how == TURNED ? stored[sj * stored_columns + si]
                                    : how == PART ? stored[(si + 1) * stored_columns + sj + 2]
                                                  : stored[si * stored_columns + sj];
        }
    const int64_t shape[] = {stored_rows, stored_columns};
    steer_tensor *base = tensor_of(device, dtype, 2, shape, stored), *view = NULL, *inner = NULL;
    if (how == TURNED) CHECK_OK(steer_tensor_transpose(&view, base, 0, 1));
    if (how == PART) {
        CHECK_OK(steer_tensor_narrow(&inner, base, 0, 1, r));
        CHECK_OK(steer_tensor_narrow(&view, inner, 1, 2, c));
        steer_tensor_release(inner);
    }
    if (!view) return base;
    steer_tensor_release(base);
    return view;
}

/* An integer that wraps in a dtype. */
static double wrapped(steer_dtype dtype, double x) {
    int64_t i = (int64_t)x;
    return dtype == STEER_U8 ? (double)(uint8_t)i : dtype == STEER_I32 ? (double)(int32_t)i : (double)i;
}

static double oracle_binary(steer_dtype dtype, steer_binary op, double a, double b, double alpha) {
    double exact = op == STEER_ADD   ? a + alpha * b
                   : op == STEER_SUB ? a - alpha * b
                   : op == STEER_MUL ? a * (alpha * b)
                                     : a / (alpha * b);
    return steer_dtype_is_float(dtype) ? exact : wrapped(dtype, trunc(exact));
}

static double binary_bound(steer_dtype dtype, steer_binary op, double a, double b, double alpha,
                           double exact) {
    if (!steer_dtype_is_float(dtype)) return 0;
    double scale = op <= STEER_SUB ? fabs(a) + fabs(alpha * b) : fabs(exact);
    return rounding_of(dtype) * fabs(exact) * 1.01 + 4 * 0x1p-24 * scale + (dtype == STEER_F16 ? 0x1p-25 : 0);
}

static void check_binary(steer_device *device, steer_dtype dtype, steer_binary op, double alpha, layout la,
                         layout lb) {
    const int64_t rows = 7, columns = 13, shape[] = {7, 13};
    double a[91], b[91];
    uint64_t state = (uint64_t)(1 + dtype * 100 + op * 10 + la);
    steer_tensor *x = operand(device, dtype, rows, columns, la, 0, &state, a);
    steer_tensor *y = operand(device, dtype, rows, columns, lb, op == STEER_DIV, &state, b), *out = NULL;
    CHECK_OK(steer_tensor_create(&out, device, dtype, 2, shape));
    CHECK_OK(steer_tensor_binary(out, x, y, op, alpha));
    double *values = values_of(out);
    for (int i = 0; i < 91; i++) {
        double exact = oracle_binary(dtype, op, a[i], b[i], alpha);
        CHECK_NEAR(values[i], exact, binary_bound(dtype, op, a[i], b[i], alpha, exact));
    }
    free(values);
    if (la == WHOLE || la == PART) { /* in place, and with a scalar */
        CHECK_OK(steer_tensor_binary(x, x, y, op, alpha));
        values = values_of(x);
        double *first = values_of(out);
        CHECK(memcmp(values, first, sizeof a) == 0);
        free(values);
        free(first);
        double value = steer_dtype_is_float(dtype) ? 2.75 : 3;
        CHECK_OK(steer_tensor_scalar(out, y, op, value));
        values = values_of(out);
        for (int i = 0; i < 91; i++) {
            double exact = oracle_binary(dtype, op, b[i], value, 1);
            CHECK_NEAR(values[i], exact, binary_bound(dtype, op, b[i], value, 1, exact));
        }
        free(values);
    }
    steer_tensor_release(x);
    steer_tensor_release(y);
    steer_tensor_release(out);
}

static void test_binary(steer_device *device) {
    for (int dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++)
        for (int op = 0; op < 4; op++)
            for (int layouts = 0; layouts < LAYOUTS * LAYOUTS; layouts++)
                for (int scaled = 0; scaled < 2; scaled++) {
                    if (scaled && op == STEER_DIV && dtype > STEER_BF16) continue;
                    double alpha = !scaled ? 1 : dtype <= STEER_BF16 ? -0.75 : 2;
                    check_binary(device, (steer_dtype)dtype, (steer_binary)op, alpha,
                                 (layout)(layouts % LAYOUTS), (layout)(layouts / LAYOUTS));
                }
}

/* ---- Reductions ------------------------------------------------------------------------------------------------ */

/* Reduces x[outer][n][inner] over n in f64; a dtype's own rounding is the caller's. */
static double oracle_reduce(steer_reduce op, const double *x, int64_t n, int64_t stride) {
    double sum = 0, squares = 0, most = x[0], least = x[0];
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        double value = x[i * stride];
        sum += value;
        squares += value * value;
        if (value > most) most = value, at = i;
        if (value < least) least = value;
    }
    const double results[] = {sum, sum / (double)n, most, least, (double)at, sqrt(squares)};
    return results[op];
}

static void check_reduce(steer_device *device, steer_dtype dtype, steer_dtype to, steer_reduce op, layout how,
                         int32_t dim) {
    const int64_t rows = 11, columns = 37, kept = dim == 0 ? columns : rows;
    double full[11 * 37];
    uint64_t state = (uint64_t)(7 + dtype + 10 * op);
    steer_tensor *x = operand(device, dtype, rows, columns, how, 0, &state, full), *out = NULL;
    CHECK_OK(steer_tensor_create(&out, device, to, dim < 0 ? 0 : 1, &kept));
    CHECK_OK(steer_tensor_reduce(out, x, op, dim));
    double *values = values_of(out);
    for (int64_t i = 0; i < steer_tensor_numel(out); i++) {
        int64_t n = dim < 0 ? rows * columns : dim == 0 ? rows : columns;
        double exact = oracle_reduce(op, full + (dim == 1 ? i * columns : i), n, dim == 0 ? columns : 1);
        if (to > STEER_BF16) exact = wrapped(to, trunc(exact));
        CHECK_NEAR(values[i], exact, rounding_of(to) * fabs(exact) * 1.01);
    }
    free(values);
    steer_tensor_release(x);
    steer_tensor_release(out);
}

static void test_reduce(steer_device *device) {
    for (int dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++)
        for (int op = 0; op <= STEER_NORM; op++)
            for (int how = 0; how <= PART; how++)
                for (int32_t dim = -1; dim < 2; dim++) {
                    steer_dtype to = op == STEER_ARGMAX ? STEER_I64 : (steer_dtype)dtype;
                    /* u8 sums go past 255; the result in f32 does not. */
                    if (dtype != STEER_U8 || op != STEER_SUM)
                        check_reduce(device, (steer_dtype)dtype, to, (steer_reduce)op, (layout)how, dim);
                    if (op != STEER_ARGMAX)
                        check_reduce(device, (steer_dtype)dtype, STEER_F32, (steer_reduce)op, (layout)how,
                                     dim);
                }
}

/* Rows longer than any block, the middle dimension of three, and rows for threads. */
static void test_reduce_large(steer_device *device) {
    const int64_t shape[] = {3, 700, 600}, kept[] = {3, 600};
    steer_tensor *x = NULL, *middle = NULL, *whole = NULL, *flat = NULL;
    CHECK_OK(steer_tensor_create(&x, device, STEER_F32, 3, shape));
    CHECK_OK(steer_tensor_reshape(&flat, x, 1, (const int64_t[]){-1}));
    CHECK_OK(steer_tensor_arange(flat, 0, 1));
    CHECK_OK(steer_tensor_create(&middle, device, STEER_F32, 2, kept));
    CHECK_OK(steer_tensor_create(&whole, device, STEER_F32, 0, NULL));
    CHECK_OK(steer_tensor_reduce(middle, x, STEER_MEAN, 1));
    double *values = values_of(middle);
    for (int64_t i = 0; i < 1800; i++) {
        double exact = (double)(i / 600) * 420000 + (double)(i % 600) + 349.5 * 600;
        CHECK_NEAR(values[i], exact, 0x1p-24 * exact);
    }
    free(values);
    CHECK_OK(steer_tensor_reduce(whole, x, STEER_SUM, -1));
    double total = 0;
    CHECK_OK(steer_tensor_get(&total, whole, NULL));
    CHECK_NEAR(total, 1259999.0 * 630000.0, 0x1p-24 * 1259999.0 * 630000.0);
    steer_tensor_release(x);
    steer_tensor_release(flat);
    steer_tensor_release(middle);
    steer_tensor_release(whole);
}

static void test_reduce_special(steer_device *device) {
    const double nan_row[] = {1, NAN, 9, NAN}, tie[] = {2, 7, 7, 1},
                 low[] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    const struct {
        const double *row;
        steer_reduce op;
        double expected;
    } cases[] = {{nan_row, STEER_MAX, NAN},  {nan_row, STEER_MIN, NAN}, {nan_row, STEER_ARGMAX, 1},
                 {nan_row, STEER_SUM, NAN},  {tie, STEER_ARGMAX, 1},    {low, STEER_ARGMAX, 0},
                 {low, STEER_MAX, -INFINITY}};
    const int64_t shape[] = {4};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        steer_tensor *x = tensor_of(device, STEER_F16, 1, shape, cases[i].row), *out = NULL;
        double value = 0;
        CHECK_OK(
            steer_tensor_create(&out, device, cases[i].op == STEER_ARGMAX ? STEER_I64 : STEER_F16, 0, NULL));
        CHECK_OK(steer_tensor_reduce(out, x, cases[i].op, 0));
        CHECK_OK(steer_tensor_get(&value, out, NULL));
        CHECK_NEAR(value, cases[i].expected, 0);
        steer_tensor_release(x);
        steer_tensor_release(out);
    }
}

/* ---- normalize, softmax, matmul ---------------------------------------------------------------------------------- */

static void check_along(steer_device *device, steer_dtype dtype, layout how, int32_t dim, int softmax) {
    const int64_t rows = 11, columns = 37, shape[] = {11, 37};
    double full[11 * 37];
    uint64_t state = 5;
    steer_tensor *x = operand(device, dtype, rows, columns, how, 1, &state, full), *out = NULL;
    CHECK_OK(steer_tensor_create(&out, device, dtype, 2, shape));
    CHECK_OK(softmax ? steer_tensor_softmax(out, x, dim) : steer_tensor_normalize(out, x, dim));
    CHECK_OK(softmax ? steer_tensor_softmax(x, x, dim) : steer_tensor_normalize(x, x, dim)); /* in place */
    double *values = values_of(out), *again = values_of(x);
    CHECK(memcmp(values, again, sizeof full) == 0);
    for (int64_t i = 0; i < rows * columns; i++) {
        int64_t n = dim < 0 ? rows * columns : dim == 0 ? rows : columns, stride = dim == 0 ? columns : 1;
        const double *line = full + (dim < 0 ? 0 : dim == 0 ? i % columns : i / columns * columns);
        double total = 0, exact = full[i];
        for (int64_t j = 0; j < n; j++)
            total += softmax ? exp(line[j * stride] - full[i]) : line[j * stride] * line[j * stride];
        exact = softmax ? 1 / total : exact / sqrt(total);
        CHECK_NEAR(values[i], exact,
                   (rounding_of(dtype) * 1.01 + 32 * 0x1p-24) * exact * (exact < 0 ? -1 : 1) +
                       (dtype == STEER_F16 ? 0x1p-25 : 1e-38));
    }
    free(values);
    free(again);
    steer_tensor_release(x);
    steer_tensor_release(out);
}

static void test_along(steer_device *device) {
    for (int dtype = 0; dtype <= STEER_BF16; dtype++)
        for (int how = 0; how <= PART; how++)
            for (int32_t dim = -1; dim < 2; dim++)
                for (int softmax = 0; softmax < 2; softmax++)
                    check_along(device, (steer_dtype)dtype, (layout)how, dim, softmax);
}

static void check_matmul(steer_device *device, steer_dtype dtype, int64_t m, int64_t n, int64_t k, layout la,
                         layout lb) {
    double a[MAX_NUMEL], b[MAX_NUMEL];
    uint64_t state = (uint64_t)(m * 100 + n * 10 + k);
    const int64_t shape[] = {n, m};
    steer_tensor *x = operand(device, dtype, m, k, la, 0, &state, a),
                 *y = operand(device, dtype, k, n, lb, 0, &state, b);
    steer_tensor *base = NULL, *out = NULL;
    CHECK_OK(steer_tensor_create(&base, device, dtype, 2, shape));
    CHECK_OK(steer_tensor_transpose(&out, base, 0, 1)); /* dst need not be contiguous */
    CHECK_OK(steer_tensor_matmul(out, x, y));
    double *values = values_of(out);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double exact = 0, scale = 0;
            for (int64_t p = 0; p < k; p++) {
                exact += a[i * k + p] * b[p * n + j];
                scale += fabs(a[i * k + p] * b[p * n + j]);
            }
            CHECK_NEAR(values[i * n + j], exact,
                       rounding_of(dtype) * 1.01 * fabs(exact) + (double)(k + 2) * 0x1p-24 * scale);
        }
    free(values);
    steer_tensor_release(x);
    steer_tensor_release(y);
    steer_tensor_release(base);
    steer_tensor_release(out);
}

static void test_matmul(steer_device *device) {
    static const int64_t sizes[][3] = {{5, 7, 9},  {1, 7, 9}, {5, 1, 9},   {5, 7, 1},
                                       {1, 1, 33}, {1, 1, 1}, {31, 17, 40}};
    for (int dtype = 0; dtype <= STEER_BF16; dtype++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int la = 0; la <= PART; la++)
                for (int lb = 0; lb <= PART; lb++)
                    check_matmul(device, (steer_dtype)dtype, sizes[i][0], sizes[i][1], sizes[i][2],
                                 (layout)la, (layout)lb);
}

/* Vectors, batches, an empty inner dimension, and dst as an operand. */
static void test_matmul_shapes(steer_device *device) {
    const double six[] = {1, 2, 3, 4, 5, 6}, eight[] = {1, 2, 3, 4, 5, 6, 7, 8};
    const int64_t s23[] = {2, 3}, s3[] = {3}, s2[] = {2}, s222[] = {2, 2, 2}, s20[] = {2, 0}, s03[] = {0, 3},
                  s22[] = {2, 2};
    steer_tensor *m = tensor_of(device, STEER_F32, 2, s23, six),
                 *v = tensor_of(device, STEER_F32, 1, s3, six);
    steer_tensor *u = tensor_of(device, STEER_F32, 1, s2, six),
                 *b = tensor_of(device, STEER_F32, 3, s222, eight);
    steer_tensor *left = tensor_of(device, STEER_F32, 2, s20, six),
                 *right = tensor_of(device, STEER_F32, 2, s03, six);
    steer_tensor *q = tensor_of(device, STEER_F32, 2, s22, six), *one = NULL;
    CHECK_OK(steer_tensor_create(&one, device, STEER_F32, 0, NULL));
    CHECK_OK(steer_tensor_matmul(u, m, v));
    double *values = values_of(u);
    CHECK(values[0] == 14 && values[1] == 32);
    free(values);
    CHECK_OK(steer_tensor_matmul(v, u, m));
    values = values_of(v);
    CHECK(values[0] == 142 && values[1] == 188 && values[2] == 234);
    free(values);
    CHECK_OK(steer_tensor_matmul(one, u, u));
    values = values_of(one);
    CHECK(values[0] == 14 * 14 + 32 * 32);
    free(values);
    CHECK_OK(steer_tensor_matmul(b, b, b));
    values = values_of(b);
    const double squares[] = {7, 10, 15, 22, 67, 78, 91, 106};
    CHECK(memcmp(values, squares, sizeof squares) == 0);
    free(values);
    CHECK_OK(steer_tensor_matmul(m, left, right));
    values = values_of(m);
    for (int i = 0; i < 6; i++) CHECK(values[i] == 0);
    free(values);
    CHECK_FAILS(steer_tensor_matmul(u, m, u), STEER_E_SHAPE_MISMATCH,
                "b: shape [2] does not multiply with [2, 3]");
    CHECK_FAILS(steer_tensor_matmul(q, b, q), STEER_E_SHAPE_MISMATCH, "does not multiply");
    CHECK_FAILS(steer_tensor_matmul(one, one, one), STEER_E_SHAPE_MISMATCH, "does not multiply");
    CHECK_FAILS(steer_tensor_matmul(v, q, q), STEER_E_SHAPE_MISMATCH, "dst: has shape [3], expected [2, 2]");
    CHECK_FAILS(steer_tensor_matmul(q, NULL, q), STEER_E_INVALID_ARGUMENT, "a: is NULL");
    steer_tensor *const all[] = {m, v, u, b, left, right, q, one};
    for (int i = 0; i < 8; i++) steer_tensor_release(all[i]);
}

/* ---- Exactness and bad arguments --------------------------------------------------------------------------------- */

static void test_integers(steer_device *device) {
    const int64_t big[] = {9007199254740993, INT64_MAX, INT64_MIN, -7}, other[] = {2, 1, -1, 2},
                  shape[] = {4};
    int64_t results[4];
    steer_tensor *host_a = NULL, *host_b = NULL, *host = NULL, *a = NULL, *b = NULL, *out = NULL, *one = NULL;
    CHECK_OK(steer_tensor_wrap(&host_a, open_cpu(), STEER_I64, 1, shape, NULL, (void *)big));
    CHECK_OK(steer_tensor_wrap(&host_b, open_cpu(), STEER_I64, 1, shape, NULL, (void *)other));
    CHECK_OK(steer_tensor_wrap(&host, open_cpu(), STEER_I64, 1, shape, NULL, results));
    CHECK_OK(steer_tensor_create(&a, device, STEER_I64, 1, shape));
    CHECK_OK(steer_tensor_create(&b, device, STEER_I64, 1, shape));
    CHECK_OK(steer_tensor_create(&out, device, STEER_I64, 1, shape));
    CHECK_OK(steer_tensor_create(&one, device, STEER_I64, 0, NULL));
    CHECK_OK(steer_tensor_copy(a, host_a));
    CHECK_OK(steer_tensor_copy(b, host_b));
    static const int64_t expected[4][4] = {{9007199254740995, INT64_MIN, INT64_MAX, -5},
                                           {9007199254740991, INT64_MAX - 1, INT64_MIN + 1, -9},
                                           {18014398509481986, INT64_MAX, INT64_MIN, -14},
                                           {4503599627370496, INT64_MAX, INT64_MIN, -3}};
    for (int op = 0; op < 4; op++) {
        CHECK_OK(steer_tensor_binary(out, a, b, (steer_binary)op, 1));
        CHECK_OK(steer_tensor_copy(host, out));
        for (int i = 0; i < 4; i++) CHECK(results[i] == expected[op][i]);
    }
    CHECK_OK(steer_tensor_scalar(b, b, STEER_MUL, 0));
    CHECK_OK(steer_tensor_binary(out, a, b, STEER_DIV, 1)); /* by 0 gives 0 */
    CHECK_OK(steer_tensor_copy(host, out));
    for (int i = 0; i < 4; i++) CHECK(results[i] == 0);
    CHECK_OK(steer_tensor_reduce(one, a, STEER_SUM, -1));
    steer_tensor *first = NULL;
    CHECK_OK(steer_tensor_narrow(&first, host, 0, 0, 1));
    CHECK_OK(steer_tensor_copy(first, one));
    CHECK(results[0] == 9007199254740993 - 8);
    CHECK_OK(steer_tensor_reduce(one, a, STEER_MAX, -1));
    CHECK_OK(steer_tensor_copy(first, one));
    CHECK(results[0] == INT64_MAX);
    CHECK_FAILS(steer_tensor_scalar(out, a, STEER_DIV, 0), STEER_E_INVALID_ARGUMENT, "value: is 0");
    CHECK_FAILS(steer_tensor_scalar(out, a, STEER_MUL, 0.5), STEER_E_INVALID_ARGUMENT,
                "value: is 0.5, expected an integer");
    CHECK_FAILS(steer_tensor_scalar(out, a, STEER_ADD, NAN), STEER_E_INVALID_ARGUMENT, "expected an integer");
    CHECK_FAILS(steer_tensor_binary(out, a, b, STEER_ADD, 1e19), STEER_E_INVALID_ARGUMENT, "alpha: is 1");
    CHECK_FAILS(steer_tensor_binary(out, a, b, STEER_DIV, 2), STEER_E_INVALID_ARGUMENT,
                "alpha: is 2, expected 1");
    steer_tensor *const all[] = {host_a, host_b, host, a, b, out, one, first};
    for (int i = 0; i < 8; i++) steer_tensor_release(all[i]);
}

/* Operands of different devices, where there are two. */
static void check_devices(steer_tensor *on_gpu) {
    const int64_t shape[] = {2, 3};
    steer_tensor *host = NULL;
    CHECK_OK(steer_tensor_create(&host, open_cpu(), STEER_F32, 2, shape));
    CHECK_FAILS(steer_tensor_binary(on_gpu, on_gpu, host, STEER_ADD, 1), STEER_E_DEVICE_MISMATCH,
                "b: is on cpu, expected cuda:0 like the result");
    CHECK_FAILS(steer_tensor_reduce(host, on_gpu, STEER_SUM, 0), STEER_E_DEVICE_MISMATCH,
                "src: is on cuda:0");
    steer_tensor_release(host);
}

static void test_bad_arguments(steer_device *device) {
    const int64_t shape[] = {2, 3}, other[] = {2}, none[] = {2, 0};
    steer_tensor *f = NULL, *h = NULL, *i = NULL, *r = NULL, *zero = NULL, *index = NULL;
    CHECK_OK(steer_tensor_create(&f, device, STEER_F32, 2, shape));
    CHECK_OK(steer_tensor_create(&h, device, STEER_F16, 2, shape));
    CHECK_OK(steer_tensor_create(&i, device, STEER_I32, 2, shape));
    CHECK_OK(steer_tensor_create(&r, device, STEER_F32, 1, other));
    CHECK_OK(steer_tensor_create(&zero, device, STEER_F32, 2, none));
    CHECK_OK(steer_tensor_create(&index, device, STEER_I64, 1, other));
    CHECK_FAILS(steer_tensor_binary(f, h, f, STEER_ADD, 1), STEER_E_DTYPE_MISMATCH,
                "a: has dtype f16, expected f32");
    CHECK_FAILS(steer_tensor_binary(f, f, i, STEER_ADD, 1), STEER_E_DTYPE_MISMATCH,
                "b: has dtype i32, expected f32");
    CHECK_FAILS(steer_tensor_binary(f, f, r, STEER_ADD, 1), STEER_E_SHAPE_MISMATCH,
                "b: shape [2] does not broadcast");
    CHECK_FAILS(steer_tensor_binary(f, f, f, (steer_binary)13, 1), STEER_E_INVALID_ARGUMENT,
                "op: 13, expected 0 to 12");
    CHECK_FAILS(steer_tensor_scalar(f, h, STEER_ADD, 1), STEER_E_DTYPE_MISMATCH, "a: has dtype f16");
    CHECK_FAILS(steer_tensor_random(i, STEER_NORMAL, 0), STEER_E_DTYPE_MISMATCH,
                "dst: has dtype i32, expected f32, f16");
    CHECK_FAILS(steer_tensor_random(f, (steer_random)2, 0), STEER_E_INVALID_ARGUMENT, "kind: 2");
    CHECK_FAILS(steer_tensor_reduce(r, f, STEER_SUM, 2), STEER_E_INVALID_ARGUMENT, "dim: 2 is out of range");
    CHECK_FAILS(steer_tensor_reduce(r, f, STEER_SUM, -2), STEER_E_INVALID_ARGUMENT,
                "dim: -2 is out of range");
    CHECK_FAILS(steer_tensor_reduce(r, f, STEER_SUM, 0), STEER_E_SHAPE_MISMATCH,
                "dst: has shape [2], expected [3]");
    CHECK_FAILS(steer_tensor_reduce(r, f, STEER_ARGMAX, 1), STEER_E_DTYPE_MISMATCH,
                "dst: has dtype f32, expected i64 for an index");
    CHECK_FAILS(steer_tensor_reduce(index, f, STEER_SUM, 1), STEER_E_DTYPE_MISMATCH,
                "dst: has dtype i64, expected f32");
    CHECK_FAILS(steer_tensor_reduce(r, zero, STEER_MAX, 1), STEER_E_INVALID_ARGUMENT, "src: has no elements");
    CHECK_FAILS(steer_tensor_reduce(r, zero, STEER_MEAN, 1), STEER_E_INVALID_ARGUMENT,
                "src: has no elements");
    CHECK_OK(steer_tensor_reduce(r, zero, STEER_SUM, 1));
    CHECK_FAILS(steer_tensor_softmax(i, i, 0), STEER_E_DTYPE_MISMATCH, "dst: has dtype i32");
    CHECK_FAILS(steer_tensor_softmax(f, h, 0), STEER_E_DTYPE_MISMATCH, "src: has dtype f16");
    CHECK_FAILS(steer_tensor_normalize(f, f, 5), STEER_E_INVALID_ARGUMENT, "dim: 5");
    CHECK_FAILS(steer_tensor_normalize(r, f, 0), STEER_E_SHAPE_MISMATCH,
                "dst: has shape [2], expected [2, 3]");
    CHECK_FAILS(steer_tensor_matmul(i, i, i), STEER_E_DTYPE_MISMATCH, "dst: has dtype i32");
    CHECK_FAILS(steer_tensor_matmul(f, h, f), STEER_E_DTYPE_MISMATCH, "a: has dtype f16");
    CHECK_OK(steer_tensor_fill(f, 0));
    if (device == open_cpu())
        CHECK_FAILS(steer_tensor_normalize(f, f, 1), STEER_E_INVALID_ARGUMENT,
                    "src: the norm of row 0 of 2 is zero");
    else
        check_devices(f);
    steer_tensor *const all[] = {f, h, i, r, zero, index};
    for (int k = 0; k < 6; k++) steer_tensor_release(all[k]);
}

int main(void) {
    on_device(test_binary);
    on_device(test_reduce);
    on_device(test_reduce_large);
    on_device(test_reduce_special);
    on_device(test_along);
    on_device(test_matmul);
    on_device(test_matmul_shapes);
    on_device(test_integers);
    on_device(test_bad_arguments);
    return check_result();
}
