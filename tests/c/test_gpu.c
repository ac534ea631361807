/* test_gpu.c: every tensor operation gives on the GPU what it gives on the CPU. Skipped (77) without a GPU;
 * STEER_TEST_DEVICE names another device. */
#include "pair.h"

static const steer_dtype floats[] = {STEER_F32, STEER_F16, STEER_BF16};
static char label[200]; /* what is being compared */

#define LABEL(...) (snprintf(label, sizeof label, __VA_ARGS__), label)

/* Layouts that an elementwise operation meets, all of shape [rows, columns]. */
enum { DENSE, ODD_START, TRANSPOSED, CUT, ROW, COLUMN, ONE, LAYOUTS };
static const char *const layout_names[] = {"dense", "odd start", "transposed", "cut", "row", "column", "one"};

static pair make_layout(int layout, steer_dtype dtype, int64_t rows, int64_t columns, uint64_t seed) {
    switch (layout) {
    case DENSE:
        return pair_random(dtype, SHAPE(rows, columns), seed);
    case ODD_START: /* contiguous, but not at a multiple of 16 bytes */
        return pair_narrow(pair_random(dtype, SHAPE(1, rows * columns + 1), seed), 1, 1, rows * columns);
    case TRANSPOSED:
        return pair_transpose(pair_random(dtype, SHAPE(columns, rows), seed), 0, 1);
    case CUT:
        return pair_narrow(pair_random(dtype, SHAPE(rows, columns + 3), seed), 1, 2, columns);
    case ROW:
        return pair_random(dtype, SHAPE(columns), seed);
    case COLUMN:
        return pair_random(dtype, SHAPE(rows, 1), seed);
    default:
        return pair_random(dtype, 0, NULL, seed);
    }
}

/* An odd start has one row more than it should: [1, n] seen as [rows, columns]. */
static pair settle(int layout, pair p, int64_t rows, int64_t columns) {
    pair out = {NULL, NULL};
    if (layout != ODD_START) return p;
    CHECK_OK(steer_tensor_reshape(&out.host, p.host, SHAPE(rows, columns)));
    CHECK_OK(steer_tensor_reshape(&out.device, p.device, SHAPE(rows, columns)));
    pair_release(p);
    return out;
}

static pair layout_of(int layout, steer_dtype dtype, int64_t rows, int64_t columns, uint64_t seed) {
    return settle(layout, make_layout(layout, dtype, rows, columns, seed), rows, columns);
}

/* ---- Copy, fill, arange, random numbers ----------------------------------------------------------------------- */

/* Values at the edges of every dtype. */
static const double edges[] = {0.0,           -0.0,          1.0,      -1.0,       INFINITY,     -INFINITY,
                               NAN,           65504.0,       65519.0,  65520.0,    -65536.0,     6e-8,
                               2.9e-8,        3.1e-8,        1e-40,    -1e-40,     3.4e38,       1.0e-5,
                               0.5,           -0.5,          0.999,    -0.999,     254.5,        255.0,
                               255.5,         256.0,         300.0,    -300.0,     2147483520.0, 2147483648.0,
                               -2147483648.0, -2147483904.0, 9.2e18,   9.3e18,     -9.2e18,      -9.3e18,
                               1.0009765625,  1.00048828125, 1.001463, 1.00390625, 1.01171875,   16777217.0};
static const int64_t whole_edges[] = {0,
                                      1,
                                      -1,
                                      127,
                                      128,
                                      255,
                                      256,
                                      -256,
                                      65535,
                                      65536,
                                      16777217,
                                      33554435,
                                      INT32_MAX,
                                      INT32_MIN,
                                      INT64_MAX,
                                      INT64_MIN,
                                      (1ll << 53) + 1,
                                      3000000001};

static void put_edges(pair p) {
    steer_dtype dtype = steer_tensor_dtype(p.host);
    size_t size = steer_dtype_size(dtype);
    char *data = steer_tensor_data(p.host);
    int count = is_float(dtype) ? (int)(sizeof edges / sizeof *edges) : (int)(sizeof whole_edges / 8);
    for (int i = 0; i < count; i++) {
        if (is_float(dtype))
            steer_element_store(dtype, data + (size_t)i * size, edges[i]);
        else
            memcpy(data + (size_t)i * size, &whole_edges[i], size);
    }
    CHECK_OK(steer_tensor_copy(p.device, p.host));
}

static void test_conversions(void) {
    static const int64_t sizes[] = {60, 61, 4096, 10007};
    for (int from = 0; from < STEER_DTYPE_COUNT; from++)
        for (int to = 0; to < STEER_DTYPE_COUNT; to++)
            for (int i = 0; i < 4; i++) {
                pair src = pair_random(from, SHAPE(sizes[i]), 7), dst = pair_empty(to, SHAPE(sizes[i]));
                put_edges(src);
                BOTH(steer_tensor_copy(OF(dst), OF(src)));
                SAME_BITS(dst, LABEL("%s to %s", steer_dtype_name(from), steer_dtype_name(to)));
                pair_release(src);
                pair_release(dst);
            }
}

static void test_copy_layouts(void) {
    for (int dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++)
        for (int to = 0; to < ROW; to++)
            for (int from = 0; from < LAYOUTS; from++) {
                pair src = layout_of(from, dtype, 37, 53, 3), dst = layout_of(to, dtype, 37, 53, 4);
                BOTH(steer_tensor_copy(OF(dst), OF(src)));
                SAME_BITS(dst, LABEL("%s copied to %s", layout_names[from], layout_names[to]));
                pair_release(src);
                pair_release(dst);
            }
    /* Eight dimensions that do not merge, and views of one storage that overlap. */
    pair src = pair_random(STEER_I32, SHAPE(2, 3, 2, 3, 2, 3, 2, 3), 5);
    for (int d = 0; d < 4; d++) src = pair_transpose(src, d, 7 - d);
    pair dst = pair_empty(STEER_F32, SHAPE(3, 2, 3, 2, 3, 2, 3, 2));
    BOTH(steer_tensor_copy(OF(dst), OF(src)));
    SAME_BITS(dst, "eight dimensions");
    pair_release(src);
    pair_release(dst);
    pair whole = pair_random(STEER_F32, SHAPE(5000), 6), low = {NULL, NULL}, high = {NULL, NULL};
    BOTH(steer_tensor_narrow(side ? &low.device : &low.host, OF(whole), 0, 0, 4999));
    BOTH(steer_tensor_narrow(side ? &high.device : &high.host, OF(whole), 0, 1, 4999));
    BOTH(steer_tensor_copy(OF(high), OF(low)));
    SAME_BITS(whole, "overlapping copy");
    pair_release(low);
    pair_release(high);
    pair_release(whole);
}

static void test_fill_and_arange(void) {
    static const double values[] = {0.0, 1.0, -3.7, 255.6, 1e10, -1e10, 1e20, 65519.0, INFINITY, NAN};
    for (int dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++) {
        for (int layout = 0; layout < ROW; layout++) {
            pair p = layout_of(layout, dtype, 17, 61, 8);
            for (int i = 0; i < 10; i++) {
                BOTH(steer_tensor_fill(OF(p), values[i]));
                SAME_BITS(p, LABEL("fill with %g, %s", values[i], layout_names[layout]));
            }
            pair_release(p);
        }
        pair p = pair_empty(dtype, SHAPE(10001));
        BOTH(steer_tensor_arange(OF(p), -7.25, 0.1));
        SAME_BITS(p, "arange");
        pair cut = pair_narrow(pair_transpose(pair_random(dtype, SHAPE(3, 999), 2), 0, 1), 1, 1, 1),
             column = {NULL, NULL};
        BOTH(steer_tensor_select(side ? &column.device : &column.host, OF(cut), 1, 0));
        BOTH(steer_tensor_arange(OF(column), 1e18, 1e16));
        SAME_BITS(column, "arange of a column");
        pair_release(column);
        pair_release(cut);
        pair_release(p);
    }
}

static void test_random(void) {
    static const int64_t sizes[] = {1, 3, 4, 5, 1023, 100003};
    for (int f = 0; f < 3; f++)
        for (int kind = STEER_UNIFORM; kind <= STEER_NORMAL; kind++) {
            for (int i = 0; i < 6; i++) {
                pair p = pair_empty(floats[f], SHAPE(sizes[i]));
                BOTH(steer_tensor_random(OF(p), kind, 0x123456789abcdefull + (uint64_t)i));
                SAME_BITS(p, LABEL("random numbers, kind %d, %lld", kind, (long long)sizes[i]));
                pair_release(p);
            }
            for (int layout = 0; layout < ROW; layout++) {
                pair p = layout_of(layout, floats[f], 31, 47, 9);
                BOTH(steer_tensor_random(OF(p), kind, 5));
                SAME_BITS(p, LABEL("random numbers, kind %d, %s", kind, layout_names[layout]));
                pair_release(p);
            }
        }
}

/* ---- Arithmetic ----------------------------------------------------------------------------------------------- */

static void check_binary(steer_dtype dtype, int a_layout, int b_layout, steer_binary op, double alpha) {
    pair a = layout_of(a_layout, dtype, 29, 67, 11), b = layout_of(b_layout, dtype, 29, 67, 12);
    pair dst = pair_empty(dtype, SHAPE(29, 67));
    BOTH(steer_tensor_binary(OF(dst), OF(a), OF(b), op, alpha));
    SAME_BITS(dst, LABEL("binary %d, alpha %g, %s and %s", op, alpha, layout_names[a_layout],
                         layout_names[b_layout]));
    if (a_layout < ROW) {
        BOTH(steer_tensor_binary(OF(a), OF(a), OF(b), op, alpha));
        SAME_BITS(a,
                  LABEL("binary %d in place, %s and %s", op, layout_names[a_layout], layout_names[b_layout]));
    }
    pair_release(a);
    pair_release(b);
    pair_release(dst);
}

static void test_binary(void) {
    for (int dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++)
        for (int op = STEER_ADD; op <= STEER_DIV; op++) {
            double alpha = is_float(dtype) ? 0.37 : op == STEER_DIV ? 1.0 : -3.0;
            for (int layout = 0; layout < LAYOUTS; layout++) {
                check_binary(dtype, DENSE, layout, op, 1.0);
                check_binary(dtype, layout, DENSE, op, alpha);
            }
            check_binary(dtype, COLUMN, ROW, op, alpha);
        }
}

static void test_scalar(void) {
    for (int dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++)
        for (int op = STEER_ADD; op <= STEER_DIV; op++)
            for (int layout = 0; layout < LAYOUTS; layout++) {
                double value = is_float(dtype) ? -1.7 : 7.0;
                pair a = layout_of(layout, dtype, 33, 65, 13), dst = pair_empty(dtype, SHAPE(33, 65));
                BOTH(steer_tensor_scalar(OF(dst), OF(a), op, value));
                SAME_BITS(dst, LABEL("scalar %d, %s", op, layout_names[layout]));
                pair_release(a);
                pair_release(dst);
            }
}

/* 64-bit integers stay exact and wrap. */
static void test_whole_numbers(void) {
    for (int op = STEER_ADD; op <= STEER_DIV; op++) {
        pair a = pair_random(STEER_I64, SHAPE(60), 1),
             b = pair_transpose(pair_random(STEER_I64, SHAPE(60, 1), 2), 0, 1);
        put_edges(a);
        pair dst = pair_empty(STEER_I64, SHAPE(60, 60)), column = {NULL, NULL};
        BOTH(steer_tensor_reshape(side ? &column.device : &column.host, OF(a), SHAPE(60, 1)));
        BOTH(steer_tensor_binary(OF(dst), OF(column), OF(a), op, 1.0));
        SAME_BITS(dst, LABEL("i64 edges, op %d", op));
        BOTH(steer_tensor_binary(OF(dst), OF(column), OF(b), op, 1.0));
        SAME_BITS(dst, LABEL("i64 edges and small numbers, op %d", op));
        pair_release(column);
        pair_release(a);
        pair_release(b);
        pair_release(dst);
    }
}

/* ---- Reductions ----------------------------------------------------------------------------------------------- */

static const char *const reduce_names[] = {"sum", "mean", "max", "min", "argmax", "norm"};

/* Reduces over dim; dst in `to`. */
static void check_reduce(pair src, int dim, steer_reduce op, steer_dtype to, const char *what) {
    int64_t shape[STEER_MAX_DIMS];
    int32_t ndim = 0;
    for (int d = 0; dim >= 0 && d < steer_tensor_ndim(src.host); d++)
        if (d != dim) shape[ndim++] = steer_tensor_size(src.host, d);
    pair dst = pair_empty(to, ndim, shape);
    BOTH(steer_tensor_reduce(OF(dst), OF(src), op, dim));
    int summed = op == STEER_SUM || op == STEER_MEAN || op == STEER_NORM;
    LABEL("%s of %s, %s, dim %d", reduce_names[op], steer_dtype_name(steer_tensor_dtype(src.host)), what,
          dim);
    if (is_float(steer_tensor_dtype(src.host)))
        CLOSE(dst, summed ? unit(to) : 0.0, summed ? 1e-6 : 1e-300, label);
    else
        SAME_BITS(dst, label);
    pair_release(dst);
}

static void reduce_all(pair src, const char *what) {
    steer_dtype dtype = steer_tensor_dtype(src.host);
    for (int dim = -1; dim < steer_tensor_ndim(src.host); dim++)
        for (int op = STEER_SUM; op <= STEER_NORM; op++) {
            check_reduce(src, dim, op, op == STEER_ARGMAX ? STEER_I64 : dtype, what);
            if (op != STEER_ARGMAX && dtype != STEER_F32) check_reduce(src, dim, op, STEER_F32, what);
        }
    pair_release(src);
}

static void test_reduce(void) {
    for (int dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++) {
        reduce_all(pair_random(dtype, SHAPE(1), 20), "one element");
        reduce_all(pair_random(dtype, SHAPE(5, 7), 21), "small");
        reduce_all(pair_random(dtype, SHAPE(9, 257, 33), 22), "three dimensions");
        reduce_all(pair_transpose(pair_random(dtype, SHAPE(9, 65, 33), 23), 0, 2), "transposed");
        reduce_all(pair_narrow(pair_random(dtype, SHAPE(70, 301), 24), 1, 3, 131), "cut");
        reduce_all(pair_random(dtype, SHAPE(300007), 25), "long");
        reduce_all(pair_random(dtype, SHAPE(2, 100003), 26), "two long rows");
        reduce_all(pair_random(dtype, SHAPE(100003, 3), 27), "three long columns");
    }
}

/* The first NaN wins max, min and argmax, wherever it lies; so does the first of equals. */
static void test_extremes(void) {
    static const int64_t places[][2] = {{0, 40001}, {17, 18}, {39999, 5}, {70000, 69999}};
    for (int f = 0; f < 3; f++)
        for (int i = 0; i < 4; i++) {
            pair p = pair_random(floats[f], SHAPE(70001), 31);
            for (int j = 0; j < 2; j++) BOTH(steer_tensor_set(OF(p), &places[i][j], INFINITY));
            check_reduce(p, 0, STEER_ARGMAX, STEER_I64, "two infinities");
            for (int j = 0; j < 2; j++) BOTH(steer_tensor_set(OF(p), &places[i][j], NAN));
            for (int op = STEER_MAX; op <= STEER_ARGMAX; op++)
                check_reduce(p, 0, op, op == STEER_ARGMAX ? STEER_I64 : floats[f], "two NaN");
            BOTH(steer_tensor_fill(OF(p), -INFINITY));
            for (int op = STEER_MAX; op <= STEER_ARGMAX; op++)
                check_reduce(p, 0, op, op == STEER_ARGMAX ? STEER_I64 : floats[f], "all -inf");
            pair_release(p);
        }
}

/* ---- Normalize, softmax, products ----------------------------------------------------------------------------- */

static void check_along(pair src) {
    steer_dtype dtype = steer_tensor_dtype(src.host);
    int32_t ndim = steer_tensor_ndim(src.host);
    int64_t shape[STEER_MAX_DIMS];
    for (int32_t d = 0; d < ndim; d++) shape[d] = steer_tensor_size(src.host, d);
    for (int dim = -1; dim < ndim; dim++) {
        pair dst = pair_empty(dtype, ndim, shape);
        BOTH(steer_tensor_normalize(OF(dst), OF(src), dim));
        CLOSE(dst, unit(dtype), 1e-30, LABEL("normalize along %d", dim));
        BOTH(steer_tensor_softmax(OF(dst), OF(src), dim));
        CLOSE(dst, dtype == STEER_F32 ? 0x1p-20 : unit(dtype), dtype == STEER_F16 ? 0x1p-24 : 1e-37,
              LABEL("softmax along %d", dim));
        pair_release(dst);
    }
    BOTH(steer_tensor_normalize(OF(src), OF(src), 0));
    CLOSE(src, unit(dtype), 1e-30, "normalize in place");
    pair_release(src);
}

static void test_along(void) {
    for (int f = 0; f < 3; f++) {
        check_along(pair_random(floats[f], SHAPE(5, 9), 41));
        check_along(pair_random(floats[f], SHAPE(7, 300, 11), 42));
        check_along(pair_transpose(pair_random(floats[f], SHAPE(40, 130), 43), 0, 1));
        check_along(pair_random(floats[f], SHAPE(200003), 44));
    }
    if (pair_is_cpu()) return;
    pair zero = pair_empty(STEER_F32, SHAPE(8));
    double value = 0.0;
    CHECK_OK(steer_tensor_fill(zero.device, 0.0));
    CHECK_OK(steer_tensor_normalize(zero.device, zero.device, 0));
    CHECK_OK(steer_tensor_get(&value, zero.device, (int64_t[]){3}));
    CHECK(isnan(value));
    pair_release(zero);
}

static void check_product(pair a, pair b, int32_t ndim, const int64_t *shape, int64_t k) {
    steer_dtype dtype = steer_tensor_dtype(a.host);
    pair dst = pair_empty(dtype, ndim, shape);
    BOTH(steer_tensor_matmul(OF(dst), OF(a), OF(b)));
    /* f32 sums of k products of at most 16; TF32 would be off by a hundred times as much. */
    CLOSE(dst, unit(dtype), 1e-6 * (double)(16 + k), LABEL("product over %lld", (long long)k));
    pair_release(a);
    pair_release(b);
    pair_release(dst);
}

static void test_products(void) {
    static const int64_t sizes[][3] = {{1, 1, 1},    {3, 5, 7},    {64, 48, 96}, {1, 300, 17},
                                       {129, 1, 65}, {33, 257, 1}, {4, 0, 3}};
    for (int f = 0; f < 3; f++)
        for (int i = 0; i < 7; i++) {
            steer_dtype t = floats[f];
            int64_t m = sizes[i][0], k = sizes[i][1], n = sizes[i][2];
            check_product(pair_random(t, SHAPE(m, k), 51), pair_random(t, SHAPE(k, n), 52), SHAPE(m, n), k);
            check_product(pair_transpose(pair_random(t, SHAPE(k, m), 53), 0, 1),
                          pair_random(t, SHAPE(k, n), 54), SHAPE(m, n), k);
            check_product(pair_random(t, SHAPE(m, k), 55),
                          pair_transpose(pair_random(t, SHAPE(n, k), 56), 0, 1), SHAPE(m, n), k);
            check_product(pair_narrow(pair_random(t, SHAPE(m, k + 3), 57), 1, 1, k),
                          pair_random(t, SHAPE(k), 58), SHAPE(m), k);
            check_product(pair_random(t, SHAPE(k), 59), pair_random(t, SHAPE(k, n), 60), SHAPE(n), k);
            check_product(pair_random(t, SHAPE(k), 61), pair_random(t, SHAPE(k), 62), 0, NULL, k);
            check_product(pair_random(t, SHAPE(5, m, k), 63),
                          pair_transpose(pair_random(t, SHAPE(5, n, k), 64), 1, 2), SHAPE(5, m, n), k);
        }
}

/* ---- Empty tensors and single elements ------------------------------------------------------------------------ */

static void test_empty(void) {
    pair p = pair_empty(STEER_F32, SHAPE(0, 5)), q = pair_empty(STEER_F32, SHAPE(0, 5));
    pair sums = pair_random(STEER_F32, SHAPE(5), 1);
    BOTH(steer_tensor_fill(OF(p), 1.0));
    BOTH(steer_tensor_copy(OF(p), OF(q)));
    BOTH(steer_tensor_random(OF(p), STEER_NORMAL, 1));
    BOTH(steer_tensor_binary(OF(p), OF(p), OF(q), STEER_ADD, 1.0));
    BOTH(steer_tensor_softmax(OF(p), OF(q), 1));
    BOTH(steer_tensor_reduce(OF(sums), OF(p), STEER_SUM, 0));
    SAME_BITS(sums, "the sum of nothing");
    pair_release(p);
    pair_release(q);
    pair_release(sums);
}

static void test_elements(void) {
    for (int dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++) {
        pair p = pair_transpose(pair_random(dtype, SHAPE(4, 6), 71), 0, 1);
        double host = 0.0, device = 1.0;
        BOTH(steer_tensor_set(OF(p), ((int64_t[]){5, 2}), 77.0));
        CHECK_OK(steer_tensor_get(&host, p.host, (int64_t[]){5, 2}));
        CHECK_OK(steer_tensor_get(&device, p.device, (int64_t[]){5, 2}));
        CHECK(host == 77.0 && device == 77.0);
        SAME_BITS(p, "set");
        pair_release(p);
    }
}

int main(void) {
    int status = pair_open();
    if (status) return status;
    test_conversions();
    test_copy_layouts();
    test_fill_and_arange();
    test_random();
    test_binary();
    test_scalar();
    test_whole_numbers();
    test_reduce();
    test_extremes();
    test_along();
    test_products();
    test_empty();
    test_elements();
    CHECK_OK(steer_device_synchronize(gpu));
    return check_result();
}
