/* test_tensor.c: making tensors, views, reshaping, copying and single elements, with every bad argument. */
#include "values.h"

static steer_device *cpu;

static steer_tensor *counting(int32_t ndim, const int64_t *shape, steer_dtype dtype) {
    steer_tensor *t = NULL, *flat = NULL;
    const int64_t all = -1;
    CHECK_OK(steer_tensor_create(&t, cpu, dtype, ndim, shape));
    CHECK_OK(steer_tensor_reshape(&flat, t, 1, &all));
    CHECK_OK(steer_tensor_arange(flat, 0, 1));
    steer_tensor_release(flat);
    return t;
}

static void check_values(steer_tensor *t, int64_t count, const double *expected, int line) {
    double *values = values_of(t);
    check_report(steer_tensor_numel(t) == count, __FILE__, line, "number of elements", "");
    for (int64_t i = 0; i < count && i < steer_tensor_numel(t); i++)
        check_near(values[i], expected[i], 0, __FILE__, line, "element");
    free(values);
}
#define CHECK_VALUES(t, ...)                                                                                 \
    do {                                                                                                     \
        const double expected_[] = {__VA_ARGS__};                                                            \
        check_values((t), (int64_t)(sizeof expected_ / sizeof *expected_), expected_, __LINE__);             \
    } while (0)

static void test_create(void) {
    const int64_t shape[] = {2, 3}, eight[] = {1, 1, 1, 1, 1, 1, 1, 2}, empty[] = {3, 0, 2};
    steer_tensor *t = NULL, *scalar = NULL;
    double value = 0;
    for (int32_t dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++) {
        t = counting(2, shape, (steer_dtype)dtype);
        CHECK(steer_tensor_dtype(t) == (steer_dtype)dtype && steer_tensor_device(t) == cpu);
        CHECK(strcmp(steer_dtype_name((steer_dtype)dtype), dtype_names[dtype]) == 0);
        CHECK((uintptr_t)steer_tensor_data(t) % 64 == 0);
        CHECK_VALUES(t, 0, 1, 2, 3, 4, 5);
        steer_tensor_release(t);
    }
    CHECK(steer_dtype_size((steer_dtype)6) == 0 && strcmp(steer_dtype_name((steer_dtype)-1), "?") == 0);
    CHECK_OK(steer_tensor_create(&scalar, cpu, STEER_F32, 0, NULL));
    CHECK_OK(steer_tensor_set(scalar, NULL, 2.5));
    CHECK_OK(steer_tensor_get(&value, scalar, NULL));
    CHECK(value == 2.5 && steer_tensor_numel(scalar) == 1 && steer_tensor_ndim(scalar) == 0);
    steer_tensor_release(scalar);
    CHECK_OK(steer_tensor_create(&t, cpu, STEER_F32, 8, eight));
    steer_tensor_release(t);
    CHECK_OK(steer_tensor_create(&t, cpu, STEER_F32, 3, empty));
    CHECK(steer_tensor_numel(t) == 0 && steer_tensor_is_contiguous(t));
    CHECK_OK(steer_tensor_fill(t, 1));
    steer_tensor_release(t);
    t = NULL;
    CHECK_FAILS(steer_tensor_create(&t, cpu, STEER_F32, 9, eight), STEER_E_INVALID_ARGUMENT,
                "ndim: 9, expected 0 to 8");
    CHECK_FAILS(steer_tensor_create(&t, cpu, STEER_F32, -1, eight), STEER_E_INVALID_ARGUMENT, "ndim: -1");
    CHECK_FAILS(steer_tensor_create(&t, cpu, STEER_F32, 2, NULL), STEER_E_INVALID_ARGUMENT, "shape: is NULL");
    CHECK_FAILS(steer_tensor_create(&t, cpu, (steer_dtype)6, 2, shape), STEER_E_INVALID_ARGUMENT, "dtype: 6");
    CHECK_FAILS(steer_tensor_create(&t, NULL, STEER_F32, 2, shape), STEER_E_INVALID_ARGUMENT,
                "device: is NULL");
    CHECK_FAILS(steer_tensor_create(NULL, cpu, STEER_F32, 2, shape), STEER_E_INVALID_ARGUMENT,
                "out: is NULL");
    CHECK(t == NULL);
}

static void test_accessors_of_nothing(void) {
    CHECK(steer_tensor_ndim(NULL) == 0 && steer_tensor_size(NULL, 0) == -1 &&
          steer_tensor_stride(NULL, 0) == 0);
    CHECK(steer_tensor_numel(NULL) == 0 && steer_tensor_device(NULL) == NULL &&
          steer_tensor_data(NULL) == NULL);
    CHECK(steer_tensor_is_contiguous(NULL) == 0 && steer_tensor_retain(NULL) == NULL);
    steer_tensor_release(NULL);
}

static void test_views(void) {
    const int64_t shape[] = {2, 3, 2};
    steer_tensor *t = counting(3, shape, STEER_F32), *v = NULL, *w = NULL;
    CHECK_OK(steer_tensor_narrow(&v, t, 1, 1, 2));
    CHECK(!steer_tensor_is_contiguous(v) && steer_tensor_size(v, 1) == 2 && steer_tensor_stride(v, 0) == 6);
    CHECK_VALUES(v, 2, 3, 4, 5, 8, 9, 10, 11);
    CHECK_OK(steer_tensor_select(&w, v, 2, 1));
    CHECK(steer_tensor_ndim(w) == 2);
    CHECK_VALUES(w, 3, 5, 9, 11);
    CHECK_OK(steer_tensor_fill(w, -1));
    CHECK_VALUES(t, 0, 1, 2, -1, 4, -1, 6, 7, 8, -1, 10, -1);
    steer_tensor_release(w);
    CHECK_OK(steer_tensor_transpose(&w, t, 0, 2));
    steer_tensor_release(t); /* before its views */
    CHECK_VALUES(w, 0, 6, 2, 8, 4, 10, 1, 7, -1, -1, -1, -1);
    steer_tensor_release(w);
    w = NULL;
    CHECK_OK(steer_tensor_narrow(&w, v, 1, 2, 0));
    CHECK(steer_tensor_numel(w) == 0);
    steer_tensor_release(w);
    w = NULL;
    CHECK_FAILS(steer_tensor_narrow(&w, v, 3, 0, 1), STEER_E_INVALID_ARGUMENT, "dim: 3 is out of range");
    CHECK_FAILS(steer_tensor_narrow(&w, v, -1, 0, 1), STEER_E_INVALID_ARGUMENT, "dim: -1 is out of range");
    CHECK_FAILS(steer_tensor_narrow(&w, v, 1, -1, 1), STEER_E_INVALID_ARGUMENT,
                "start: -1 is out of range, expected 0 to 2");
    CHECK_FAILS(steer_tensor_narrow(&w, v, 1, 1, 2), STEER_E_INVALID_ARGUMENT,
                "length: 2 from 1 on, expected 0 to 1");
    CHECK_FAILS(steer_tensor_narrow(&w, v, 1, 1, INT64_MAX), STEER_E_INVALID_ARGUMENT, "length: ");
    CHECK_FAILS(steer_tensor_narrow(&w, v, 1, 0, -1), STEER_E_INVALID_ARGUMENT, "length: -1");
    CHECK_FAILS(steer_tensor_select(&w, v, 0, 2), STEER_E_INVALID_ARGUMENT, "index: 2 is out of range");
    CHECK_FAILS(steer_tensor_select(&w, v, 0, -1), STEER_E_INVALID_ARGUMENT, "index: -1");
    CHECK_FAILS(steer_tensor_select(&w, v, 5, 0), STEER_E_INVALID_ARGUMENT, "dim: 5");
    CHECK_FAILS(steer_tensor_transpose(&w, v, 0, 3), STEER_E_INVALID_ARGUMENT, "dim1: 3");
    CHECK_FAILS(steer_tensor_transpose(&w, v, -1, 0), STEER_E_INVALID_ARGUMENT, "dim0: -1");
    CHECK_FAILS(steer_tensor_narrow(&w, NULL, 0, 0, 1), STEER_E_INVALID_ARGUMENT, "tensor: is NULL");
    CHECK_FAILS(steer_tensor_select(NULL, v, 0, 0), STEER_E_INVALID_ARGUMENT, "out: is NULL");
    CHECK_FAILS(steer_tensor_transpose(&w, NULL, 0, 0), STEER_E_INVALID_ARGUMENT, "tensor: is NULL");
    CHECK(w == NULL);
    steer_tensor_release(v);
}

static void test_reshape(void) {
    const int64_t shape[] = {4, 6}, three[] = {2, 2, 6}, open[] = {-1, 3}, wrong[] = {5, 5}, two[] = {-1, -1};
    const int64_t odd[] = {-1, 7}, flat[] = {24}, inner[] = {6, 2, 2}, empty[] = {0, 3}, still[] = {3, 0},
                  vague[] = {-1, 0};
    const int64_t minus[] = {-2, 12}, ones[] = {1, 4, 1, 6, 1};
    steer_tensor *t = counting(2, shape, STEER_I32), *v = NULL, *w = NULL, *x = NULL;
    CHECK_OK(steer_tensor_reshape(&v, t, 2, open));
    CHECK(steer_tensor_size(v, 0) == 8 && steer_tensor_data(v) == steer_tensor_data(t));
    steer_tensor_release(v);
    CHECK_OK(steer_tensor_transpose(&w, t, 0, 1)); /* [6, 4], strides [1, 6] */
    CHECK_OK(steer_tensor_reshape(&v, w, 3, inner));
    CHECK(steer_tensor_stride(v, 0) == 1 && steer_tensor_stride(v, 1) == 12 &&
          steer_tensor_stride(v, 2) == 6);
    double *expected = values_of(w), *values = values_of(v);
    CHECK(memcmp(expected, values, 24 * sizeof *values) == 0);
    free(expected);
    free(values);
    steer_tensor_release(v);
    v = NULL;
    CHECK_FAILS(steer_tensor_reshape(&v, w, 1, flat), STEER_E_UNSUPPORTED,
                "shape: the tensor's strides allow no such view");
    CHECK_FAILS(steer_tensor_reshape(&v, w, 3, three), STEER_E_UNSUPPORTED,
                "shape: the tensor's strides allow no such view");
    CHECK_FAILS(steer_tensor_reshape(&v, t, 2, wrong), STEER_E_SHAPE_MISMATCH,
                "shape: [5, 5] does not hold the 24 elements of [4, 6]");
    CHECK_FAILS(steer_tensor_reshape(&v, t, 2, odd), STEER_E_SHAPE_MISMATCH, "shape: [-1, 7] does not hold");
    CHECK_FAILS(steer_tensor_reshape(&v, t, 2, two), STEER_E_INVALID_ARGUMENT,
                "shape: dimensions 0 and 1 are -1");
    CHECK_FAILS(steer_tensor_reshape(&v, t, 2, minus), STEER_E_INVALID_ARGUMENT, "shape: dimension 0 is -2");
    CHECK_FAILS(steer_tensor_reshape(&v, t, 0, NULL), STEER_E_SHAPE_MISMATCH, "shape: [] does not hold");
    CHECK_FAILS(steer_tensor_reshape(&v, t, 2, NULL), STEER_E_INVALID_ARGUMENT, "shape: is NULL");
    CHECK_FAILS(steer_tensor_reshape(&v, t, 9, shape), STEER_E_INVALID_ARGUMENT, "ndim: 9");
    CHECK_OK(steer_tensor_narrow(&x, t, 1, 0, 3));
    CHECK_FAILS(steer_tensor_reshape(&v, x, 1, (const int64_t[]){12}), STEER_E_UNSUPPORTED,
                "shape: the tensor's strides");
    CHECK_OK(steer_tensor_reshape(&v, t, 5, ones));
    CHECK(steer_tensor_is_contiguous(v));
    steer_tensor_release(v);
    steer_tensor_release(x);
    steer_tensor_release(w);
    steer_tensor_release(t);
    CHECK_OK(steer_tensor_create(&t, cpu, STEER_F32, 2, empty));
    CHECK_OK(steer_tensor_reshape(&v, t, 2, still));
    CHECK_FAILS(steer_tensor_reshape(&w, t, 2, vague), STEER_E_SHAPE_MISMATCH, "shape: [-1, 0]");
    steer_tensor_release(v);
    steer_tensor_release(t);
}

/* Copies between overlapping views of one storage behave as if src were read first. */
static void test_overlap(void) {
    const int64_t six[] = {6}, square[] = {3, 3};
    for (int to_right = 0; to_right < 2; to_right++) {
        steer_tensor *t = counting(1, six, STEER_BF16), *a = NULL, *b = NULL;
        CHECK_OK(steer_tensor_narrow(&a, t, 0, 0, 5));
        CHECK_OK(steer_tensor_narrow(&b, t, 0, 1, 5));
        CHECK_OK(steer_tensor_copy(to_right ? b : a, to_right ? a : b));
        if (to_right)
            CHECK_VALUES(t, 0, 0, 1, 2, 3, 4);
        else
            CHECK_VALUES(t, 1, 2, 3, 4, 5, 5);
        CHECK_OK(steer_tensor_binary(b, a, b, STEER_ADD, 1));
        if (to_right) CHECK_VALUES(t, 0, 0, 1, 3, 5, 7);
        steer_tensor_release(a);
        steer_tensor_release(b);
        steer_tensor_release(t);
    }
    steer_tensor *t = counting(2, square, STEER_F32), *mirror = NULL, *row = NULL, *sums = NULL;
    CHECK_OK(steer_tensor_transpose(&mirror, t, 0, 1));
    CHECK_OK(steer_tensor_copy(t, mirror));
    CHECK_VALUES(t, 0, 3, 6, 1, 4, 7, 2, 5, 8);
    CHECK_OK(steer_tensor_select(&row, t, 0, 1));
    CHECK_OK(steer_tensor_binary(t, t, row, STEER_ADD, 1)); /* a broadcast row of dst itself */
    CHECK_VALUES(t, 1, 7, 13, 2, 8, 14, 3, 9, 15);
    CHECK_OK(steer_tensor_scalar(t, mirror, STEER_MUL, 2));
    CHECK_VALUES(t, 2, 4, 6, 14, 16, 18, 26, 28, 30);
    CHECK_OK(steer_tensor_select(&sums, t, 0, 0));
    CHECK_OK(steer_tensor_reduce(sums, t, STEER_SUM, 0));
    CHECK_VALUES(sums, 42, 48, 54);
    CHECK_OK(steer_tensor_copy(t, t));
    steer_tensor_release(sums);
    steer_tensor_release(row);
    steer_tensor_release(mirror);
    steer_tensor_release(t);
}

static void test_copy(void) {
    const int64_t shape[] = {2, 3}, row[] = {3}, wrong[] = {2};
    steer_tensor *t = counting(2, shape, STEER_F32), *r = counting(1, row, STEER_I64),
                 *w = counting(1, wrong, STEER_F32);
    CHECK_OK(steer_tensor_copy(t, r)); /* broadcast and converted */
    CHECK_VALUES(t, 0, 1, 2, 0, 1, 2);
    CHECK_FAILS(steer_tensor_copy(t, w), STEER_E_SHAPE_MISMATCH,
                "src: shape [2] does not broadcast to [2, 3]");
    CHECK_FAILS(steer_tensor_copy(r, t), STEER_E_SHAPE_MISMATCH,
                "src: shape [2, 3] does not broadcast to [3]");
    CHECK_FAILS(steer_tensor_copy(t, NULL), STEER_E_INVALID_ARGUMENT, "src: is NULL");
    CHECK_FAILS(steer_tensor_copy(NULL, t), STEER_E_INVALID_ARGUMENT, "dst: is NULL");
    CHECK_FAILS(steer_tensor_fill(NULL, 0), STEER_E_INVALID_ARGUMENT, "dst: is NULL");
    CHECK_FAILS(steer_tensor_arange(t, 0, 1), STEER_E_SHAPE_MISMATCH, "dst: has 2 dimensions, expected 1");
    steer_tensor_release(t);
    steer_tensor_release(r);
    steer_tensor_release(w);
}

static void test_elements(void) {
    const int64_t shape[] = {2, 3}, last[] = {1, 2}, outside[] = {1, 3}, negative[] = {-1, 0};
    double value = 7;
    for (int32_t dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++) {
        steer_tensor *t = counting(2, shape, (steer_dtype)dtype);
        CHECK_OK(steer_tensor_set(t, last, 42));
        CHECK_OK(steer_tensor_get(&value, t, last));
        CHECK(value == 42);
        CHECK_OK(steer_tensor_set(t, last, NAN));
        CHECK_OK(steer_tensor_get(&value, t, last));
        CHECK(dtype <= STEER_BF16 ? isnan(value) : value == 0);
        CHECK_OK(steer_tensor_set(t, last, -1e30));
        CHECK_OK(steer_tensor_get(&value, t, last));
        if (dtype > STEER_BF16) CHECK(value == (double)steer_dtype_min((steer_dtype)dtype));
        value = 7;
        CHECK_FAILS(steer_tensor_get(&value, t, outside), STEER_E_INVALID_ARGUMENT,
                    "index: 3 is out of range, expected 0 to 2 for dimension 1");
        CHECK_FAILS(steer_tensor_set(t, negative, 0), STEER_E_INVALID_ARGUMENT, "index: -1 is out of range");
        CHECK_FAILS(steer_tensor_get(&value, t, NULL), STEER_E_INVALID_ARGUMENT, "index: is NULL");
        CHECK(value == 7);
        steer_tensor_release(t);
    }
    CHECK_FAILS(steer_tensor_get(&value, NULL, last), STEER_E_INVALID_ARGUMENT, "tensor: is NULL");
}

/* Failing allocations anywhere in an operation leave an error and nothing behind. */
static void test_failing_allocations(void) {
    const int64_t shape[] = {3, 3};
    steer_memory_info before = {.struct_size = sizeof before}, after = before;
    steer_tensor *t = counting(2, shape, STEER_F32), *mirror = NULL;
    CHECK_OK(steer_tensor_transpose(&mirror, t, 0, 1));
    CHECK_OK(steer_device_memory(&before, cpu));
    for (int64_t n = 1; n < 6; n++) {
        CHECK_OK(steer_device_fail_allocation(cpu, n));
        int status = steer_tensor_matmul(t, t, mirror);
        CHECK(status == STEER_E_OUT_OF_MEMORY || (n > 2 && status == STEER_OK));
        CHECK_OK(steer_device_fail_allocation(cpu, n));
        status = steer_tensor_binary(t, mirror, mirror, STEER_ADD, 1);
        CHECK(status == STEER_E_OUT_OF_MEMORY || (n > 2 && status == STEER_OK));
    }
    CHECK_OK(steer_device_fail_allocation(cpu, 0));
    CHECK_OK(steer_device_memory(&after, cpu));
    CHECK(after.live_bytes == before.live_bytes);
    steer_tensor_release(mirror);
    steer_tensor_release(t);
}

int main(void) {
    cpu = open_cpu();
    test_create();
    test_accessors_of_nothing();
    test_views();
    test_reshape();
    test_overlap();
    test_copy();
    test_elements();
    test_failing_allocations();
    return check_result();
}
