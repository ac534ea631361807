/* test_tensor_map.c: functions of one element, comparisons, choices, sorting, gathering, cumulative sums: in place, over
 * views, and what they refuse. Their numbers are in tests/lua/tensor_ops_spec.lua. */
/* devices: cpu cuda */
#include "values.h"

static void expect(steer_tensor *tensor, const double *want) {
    double *got = values_of(tensor);
    for (int64_t i = 0; i < steer_tensor_numel(tensor); i++)
        CHECK_NEAR(got[i], want[i], 1e-6 * fabs(want[i]));
    free(got);
}

/* Through a view of the operand that overlaps the result: as if the operand had been copied first. */
static void test_overlap(steer_device *device) {
    const int64_t shape[] = {2, 2};
    const double start[] = {0, 1, -2, 3}, turned[] = {0, 2, 1, 3}, mask[] = {0, 1, 1, 0};
    steer_tensor *x = tensor_of(device, STEER_F32, 2, shape, start), *view = NULL;
    steer_tensor *m = tensor_of(device, STEER_U8, 2, shape, mask);
    CHECK_OK(steer_tensor_transpose(&view, x, 0, 1));
    CHECK_OK(steer_tensor_unary(x, view, STEER_ABS));
    expect(x, turned);
    CHECK_OK(steer_tensor_unary(x, x, STEER_SQRT));
    CHECK_OK(steer_tensor_scalar(x, x, STEER_POW, 2));
    expect(x, turned);
    CHECK_OK(steer_tensor_where(x, m, view, x));
    expect(x, (const double[]){0, 1, 2, 3});
    CHECK_OK(steer_tensor_binary(m, x, view, STEER_GE, 1));
    expect(m, (const double[]){1, 0, 1, 1});
    CHECK_OK(steer_tensor_scalar(m, m, STEER_EQ, 0)); /* in place: the mask's complement */
    expect(m, (const double[]){0, 1, 0, 0});
    steer_tensor_release(view);
    steer_tensor_release(x);
    steer_tensor_release(m);
}

/* Longer than a block, from gaps, and empty. */
static void test_sizes(steer_device *device) {
    const int64_t shape[] = {3, 1700}, none[] = {0, 7};
    steer_tensor *wide = NULL, *flat = NULL, *part = NULL, *mask = NULL, *empty = NULL;
    CHECK_OK(steer_tensor_create(&wide, device, STEER_F32, 2, shape));
    CHECK_OK(steer_tensor_reshape(&flat, wide, 1, (const int64_t[]){-1}));
    CHECK_OK(steer_tensor_arange(flat, 0, 1));
    CHECK_OK(steer_tensor_narrow(&part, wide, 1, 5, 1690));
    CHECK_OK(steer_tensor_create(&mask, device, STEER_U8, 2, (const int64_t[]){3, 1690}));
    CHECK_OK(steer_tensor_scalar(mask, part, STEER_LT, 1710));
    CHECK_OK(steer_tensor_unary(part, part, STEER_SQRT));
    double *root = values_of(part), *less = values_of(mask);
    for (int i = 0; i < 3 * 1690; i++) {
        double at = i / 1690 * 1700.0 + i % 1690 + 5;
        CHECK_NEAR(root[i], sqrt(at), 1e-6 * sqrt(at));
        CHECK(less[i] == (at < 1710));
    }
    free(root);
    free(less);
    CHECK_OK(steer_tensor_create(&empty, device, STEER_F32, 2, none));
    CHECK_OK(steer_tensor_unary(empty, empty, STEER_EXP));
    CHECK_OK(steer_tensor_scalar(empty, empty, STEER_UPPER, 0));
    steer_tensor *const all[] = {wide, flat, part, mask, empty};
    for (int k = 0; k < 5; k++) steer_tensor_release(all[k]);
}

static void test_refusals(steer_device *device) {
    const int64_t shape[] = {2}, other[] = {3};
    steer_tensor *f = NULL, *i = NULL, *m = NULL, *three = NULL;
    CHECK_OK(steer_tensor_create(&f, device, STEER_F32, 1, shape));
    CHECK_OK(steer_tensor_create(&i, device, STEER_I64, 1, shape));
    CHECK_OK(steer_tensor_create(&m, device, STEER_U8, 1, shape));
    CHECK_OK(steer_tensor_create(&three, device, STEER_F32, 1, other));
    CHECK_FAILS(steer_tensor_unary(f, f, (steer_unary)8), STEER_E_INVALID_ARGUMENT, "op: 8, expected 0 to 7");
    CHECK_FAILS(steer_tensor_unary(i, i, STEER_EXP), STEER_E_DTYPE_MISMATCH,
                "a: has dtype i64, expected f32");
    CHECK_FAILS(steer_tensor_unary(f, i, STEER_ABS), STEER_E_DTYPE_MISMATCH,
                "a: has dtype i64, expected f32");
    CHECK_FAILS(steer_tensor_unary(f, three, STEER_EXP), STEER_E_SHAPE_MISMATCH, "a: shape [3] does not");
    CHECK_FAILS(steer_tensor_unary(f, NULL, STEER_EXP), STEER_E_INVALID_ARGUMENT, "a:");
    CHECK_FAILS(steer_tensor_binary(f, f, f, STEER_LT, 1), STEER_E_DTYPE_MISMATCH,
                "dst: has dtype f32, expected u8, the dtype of comparisons");
    CHECK_FAILS(steer_tensor_binary(m, f, i, STEER_LT, 1), STEER_E_DTYPE_MISMATCH,
                "b: has dtype i64, expected f32 like a");
    CHECK_FAILS(steer_tensor_binary(m, f, f, STEER_LT, 2), STEER_E_INVALID_ARGUMENT,
                "alpha: is 2, expected 1");
    CHECK_FAILS(steer_tensor_scalar(m, i, STEER_LT, 0.5), STEER_E_INVALID_ARGUMENT, "value: is 0.5");
    CHECK_FAILS(steer_tensor_scalar(i, i, STEER_POW, 2), STEER_E_DTYPE_MISMATCH, "a: has dtype i64");
    CHECK_FAILS(steer_tensor_where(f, f, f, f), STEER_E_DTYPE_MISMATCH, "mask: has dtype f32, expected u8");
    CHECK_FAILS(steer_tensor_where(f, m, i, f), STEER_E_DTYPE_MISMATCH, "a: has dtype i64");
    CHECK_FAILS(steer_tensor_where(f, m, f, three), STEER_E_SHAPE_MISMATCH,
                "b: shape [3] does not broadcast");
    steer_tensor *const all[] = {f, i, m, three};
    for (int k = 0; k < 4; k++) steer_tensor_release(all[k]);
}

/* ---- Along a dimension ----------------------------------------------------------------------------------------- */

/* Results that overlap their operands, and that are no rows. */
static void test_order(steer_device *device) {
    const int64_t shape[] = {2, 3}, one[] = {2};
    const double start[] = {3, NAN, 1, 2, 2, -5}, which[] = {2, 0};
    steer_tensor *x = tensor_of(device, STEER_F32, 2, shape, start), *at = NULL, *turned = NULL,
                 *places = NULL;
    steer_tensor *index = tensor_of(device, STEER_I32, 1, one, which), *picked = NULL;
    CHECK_OK(steer_tensor_create(&at, device, STEER_I64, 2, shape));
    CHECK_OK(steer_tensor_transpose(&turned, x, 0, 1));
    CHECK_OK(steer_tensor_transpose(&places, at, 0, 1));
    CHECK_OK(steer_tensor_sort(turned, places, turned, 0, 0)); /* in place, along rows of x */
    double *sorted = values_of(x);
    CHECK(sorted[0] == 1 && sorted[1] == 3 && sorted[2] != sorted[2]);
    CHECK(sorted[3] == -5 && sorted[4] == 2 && sorted[5] == 2);
    free(sorted);
    expect(at, (const double[]){2, 0, 1, 2, 0, 1});
    CHECK_OK(steer_tensor_scalar(x, x, STEER_LOWER, 9)); /* NaN stays */
    CHECK_OK(steer_tensor_narrow(&picked, x, 1, 1, 2));
    CHECK_OK(steer_tensor_gather(picked, x, index, 1, 0)); /* into a part of its own source */
    double *taken = values_of(x);
    CHECK(taken[0] == 1 && taken[1] != taken[1] && taken[2] == 1 && taken[4] == 2 && taken[5] == -5);
    free(taken);
    CHECK_OK(steer_tensor_fill(x, 1));
    CHECK_OK(steer_tensor_cumsum(x, x, 1));
    CHECK_OK(steer_tensor_cumsum(turned, turned, 1));
    expect(x, (const double[]){1, 2, 3, 2, 4, 6});
    steer_tensor *const all[] = {x, at, turned, places, index, picked};
    for (int k = 0; k < 6; k++) steer_tensor_release(all[k]);
}

static void test_order_refusals(steer_device *device) {
    const int64_t shape[] = {2, 3}, few[] = {2}, none[] = {0, 3};
    steer_tensor *f = NULL, *i = NULL, *index = NULL, *h = NULL, *out = NULL, *empty = NULL, *nowhere = NULL;
    CHECK_OK(steer_tensor_create(&f, device, STEER_F32, 2, shape));
    CHECK_OK(steer_tensor_create(&i, device, STEER_I64, 2, shape));
    CHECK_OK(steer_tensor_create(&h, device, STEER_F16, 2, shape));
    CHECK_OK(steer_tensor_create(&empty, device, STEER_F32, 2, none));
    CHECK_OK(steer_tensor_create(&nowhere, device, STEER_I64, 2, none));
    CHECK_OK(steer_tensor_create(&index, device, STEER_I64, 1, few));
    CHECK_OK(steer_tensor_create(&out, device, STEER_F32, 2, (const int64_t[]){2, 2}));
    CHECK_OK(steer_tensor_sort(empty, nowhere, empty, 1, 1));
    CHECK_OK(steer_tensor_cumsum(empty, empty, 0));
    CHECK_FAILS(steer_tensor_sort(f, i, h, 1, 0), STEER_E_DTYPE_MISMATCH, "src: has dtype f16, expected f32");
    CHECK_FAILS(steer_tensor_sort(f, f, f, 1, 0), STEER_E_DTYPE_MISMATCH,
                "indices: has dtype f32, expected i64");
    CHECK_FAILS(steer_tensor_sort(i, i, i, 1, 0), STEER_E_INVALID_ARGUMENT, "indices: shares memory");
    CHECK_FAILS(steer_tensor_sort(f, index, f, 1, 0), STEER_E_SHAPE_MISMATCH, "indices: has shape [2]");
    CHECK_FAILS(steer_tensor_sort(f, i, f, 2, 0), STEER_E_INVALID_ARGUMENT, "dim: 2 is out of range");
    CHECK_FAILS(steer_tensor_cumsum(f, h, 0), STEER_E_DTYPE_MISMATCH, "src: has dtype f16");
    CHECK_FAILS(steer_tensor_cumsum(f, f, -1), STEER_E_INVALID_ARGUMENT, "dim: -1 is out of range");
    CHECK_OK(steer_tensor_fill(index, 3));
    CHECK_FAILS(steer_tensor_gather(out, f, index, 1, 0), STEER_E_INVALID_ARGUMENT,
                "index: has 3, expected 0 to 2 for a dimension of size 3");
    CHECK_OK(steer_tensor_gather(out, f, index, 1, 1));
    CHECK_OK(steer_tensor_fill(index, -1));
    CHECK_FAILS(steer_tensor_gather(out, f, index, 1, 0), STEER_E_INVALID_ARGUMENT, "index: has -1");
    CHECK_FAILS(steer_tensor_gather(out, f, f, 1, 0), STEER_E_DTYPE_MISMATCH,
                "index: has dtype f32, expected i64");
    CHECK_FAILS(steer_tensor_gather(f, f, index, 1, 0), STEER_E_SHAPE_MISMATCH,
                "dst: has shape [2, 3], expected [2, 2]");
    CHECK_FAILS(steer_tensor_gather(out, f, i, 1, 0), STEER_E_SHAPE_MISMATCH,
                "dst: has shape [2, 2], expected [2, 3]");
    steer_tensor *const all[] = {f, i, index, h, out, empty, nowhere};
    for (int k = 0; k < 7; k++) steer_tensor_release(all[k]);
}

int main(void) {
    on_device(test_order);
    on_device(test_order_refusals);
    on_device(test_overlap);
    on_device(test_sizes);
    on_device(test_refusals);
    return check_result();
}
