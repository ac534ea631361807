/* test_dlpack.c: tensors over memory of others, and through DLPack. */
#include "check.h"
#include "tensor/dlpack.h"

static steer_device *cpu;

static void test_wrap(void) {
    float data[12];
    for (int i = 0; i < 12; i++) data[i] = (float)i;
    const int64_t shape[] = {3, 2}, strides[] = {4, 2}, index[] = {2, 1}, negative[] = {4, -1},
                  far[] = {INT64_MAX, 1};
    const int64_t none[] = {0, 2}, same[] = {0, 1};
    steer_tensor *t = NULL, *wide = NULL;
    double value = 0;
    CHECK_OK(steer_tensor_wrap(&t, cpu, STEER_F32, 2, shape, strides, data));
    CHECK(steer_tensor_data(t) == data && !steer_tensor_is_contiguous(t));
    CHECK_OK(steer_tensor_get(&value, t, index));
    CHECK(value == 10);
    CHECK_OK(steer_tensor_fill(t, -1));
    CHECK(data[10] == -1 && data[0] == -1 && data[1] == 1 && data[11] == 11);
    steer_tensor_release(t);
    CHECK(data[10] == -1);
    CHECK_OK(steer_tensor_wrap(&t, cpu, STEER_F32, 2, none, NULL, NULL)); /* nothing to point at */
    steer_tensor_release(t);
    CHECK_FAILS(steer_tensor_wrap(&t, cpu, STEER_F32, 2, shape, NULL, NULL), STEER_E_INVALID_ARGUMENT,
                "data: is NULL");
    CHECK_FAILS(steer_tensor_wrap(&t, cpu, STEER_F32, 2, shape, negative, data), STEER_E_INVALID_ARGUMENT,
                "strides: dimension 1 has -1");
    CHECK_FAILS(steer_tensor_wrap(&t, cpu, STEER_F32, 2, shape, far, data), STEER_E_INVALID_ARGUMENT,
                "strides: dimension 0 reaches further");
    CHECK_FAILS(steer_tensor_wrap(&t, cpu, STEER_F32, 2, shape, NULL, (char *)data + 2),
                STEER_E_INVALID_ARGUMENT, "is not aligned to f32");
    /* Rows that share memory may be read, not written. */
    CHECK_OK(steer_tensor_wrap(&wide, cpu, STEER_F32, 2, shape, same, data));
    CHECK_FAILS(steer_tensor_fill(wide, 0), STEER_E_INVALID_ARGUMENT,
                "dst: its strides let elements share memory");
    CHECK_OK(steer_tensor_get(&value, wide, index));
    CHECK(value == 1);
    steer_tensor_release(wide);
}

static int deleted;
static void count_delete(dl_managed *self) { deleted++; }

static dl_managed sample(void *data, int64_t *shape, int64_t *strides) {
    return (dl_managed){.tensor = {.data = data,
                                   .device = {DL_CPU, 0},
                                   .ndim = 2,
                                   .dtype = {DL_INT, 32, 1},
                                   .shape = shape,
                                   .strides = strides,
                                   .byte_offset = 4},
                        .deleter = count_delete};
}

static void test_import(void) {
    int32_t data[7] = {0, 1, 2, 3, 4, 5, 6};
    int64_t shape[2] = {2, 3}, strides[2] = {1, 2};
    const int64_t index[] = {1, 2};
    dl_managed managed = sample(data, shape, strides);
    steer_tensor *t = NULL, *row = NULL;
    double value = 0;
    CHECK_OK(steer_tensor_from_dlpack(&t, &managed));
    CHECK(steer_tensor_dtype(t) == STEER_I32 && steer_tensor_data(t) == data + 1);
    CHECK_OK(steer_tensor_get(&value, t, index));
    CHECK(value == 6);
    CHECK_OK(steer_tensor_select(&row, t, 0, 1));
    steer_tensor_release(t);
    CHECK(deleted == 0); /* the view still needs it */
    steer_tensor_release(row);
    CHECK(deleted == 1);
    managed = sample(data, shape, NULL);
    managed.deleter = NULL;
    CHECK_OK(steer_tensor_from_dlpack(&t, &managed));
    CHECK(steer_tensor_is_contiguous(t));
    steer_tensor_release(t);
}

/* What cannot be imported stays the caller's. */
static void test_import_errors(void) {
    int32_t data[7] = {0};
    int64_t shape[2] = {2, 3}, negative[2] = {2, -3};
    steer_tensor *t = NULL;
    deleted = 0;
    dl_managed managed = sample(data, shape, NULL);
    managed.tensor.dtype = (dl_dtype){DL_FLOAT, 64, 1};
    CHECK_FAILS(steer_tensor_from_dlpack(&t, &managed), STEER_E_DTYPE_MISMATCH,
                "managed: type code 2 with 64 bits");
    managed.tensor.dtype = (dl_dtype){DL_FLOAT, 32, 4};
    CHECK_FAILS(steer_tensor_from_dlpack(&t, &managed), STEER_E_DTYPE_MISMATCH, "4 lanes");
    managed = sample(data, shape, NULL);
    managed.tensor.device.type = 10;
    CHECK_FAILS(steer_tensor_from_dlpack(&t, &managed), STEER_E_UNSUPPORTED, "managed: device type 10");
    managed.tensor.device = (dl_device){DL_CUDA, -1};
    CHECK_FAILS(steer_tensor_from_dlpack(&t, &managed), STEER_E_INVALID_ARGUMENT, "managed: device -1");
    managed.tensor.device = (dl_device){DL_CUDA, 63};
    CHECK_FAILS(steer_tensor_from_dlpack(&t, &managed), STEER_E_NOT_FOUND, "cuda:63");
    managed = sample(data, negative, NULL);
    CHECK_FAILS(steer_tensor_from_dlpack(&t, &managed), STEER_E_INVALID_ARGUMENT, "shape: dimension 1 is -3");
    managed = sample(NULL, shape, NULL);
    CHECK_FAILS(steer_tensor_from_dlpack(&t, &managed), STEER_E_INVALID_ARGUMENT, "data: is NULL");
    managed.tensor.ndim = 99;
    CHECK_FAILS(steer_tensor_from_dlpack(&t, &managed), STEER_E_INVALID_ARGUMENT, "ndim: 99");
    CHECK_FAILS(steer_tensor_from_dlpack(&t, NULL), STEER_E_INVALID_ARGUMENT, "managed: is NULL");
    CHECK(t == NULL && deleted == 0);
}

static void test_export(void) {
    const int64_t shape[] = {2, 3};
    steer_memory_info before = {.struct_size = sizeof before}, after = before;
    steer_tensor *a = NULL, *t = NULL, *back = NULL;
    void *out = NULL;
    CHECK_OK(steer_device_memory(&before, cpu));
    for (int32_t dtype = 0; dtype < STEER_DTYPE_COUNT; dtype++) {
        CHECK_OK(steer_tensor_create(&a, cpu, (steer_dtype)dtype, 2, shape));
        CHECK_OK(steer_tensor_transpose(&t, a, 0, 1));
        CHECK_OK(steer_tensor_to_dlpack(&out, t));
        const dl_tensor *dl = &((dl_managed *)out)->tensor;
        CHECK(dl->ndim == 2 && dl->shape[0] == 3 && dl->strides[0] == 1 && dl->strides[1] == 3);
        CHECK(dl->device.type == DL_CPU && dl->dtype.lanes == 1);
        CHECK(dl->dtype.bits == 8 * steer_dtype_size((steer_dtype)dtype));
        steer_tensor_release(a);
        steer_tensor_release(t);
        CHECK_OK(steer_tensor_from_dlpack(&back, out)); /* the last holder of the memory */
        CHECK(steer_tensor_dtype(back) == (steer_dtype)dtype && steer_tensor_stride(back, 1) == 3);
        CHECK_OK(steer_tensor_fill(back, 1));
        steer_tensor_release(back);
    }
    CHECK_OK(steer_device_memory(&after, cpu));
    CHECK(after.live_bytes == before.live_bytes);
    CHECK_FAILS(steer_tensor_to_dlpack(&out, NULL), STEER_E_INVALID_ARGUMENT, "tensor: is NULL");
    CHECK_FAILS(steer_tensor_to_dlpack(NULL, NULL), STEER_E_INVALID_ARGUMENT, "out: is NULL");
}

int main(void) {
    CHECK_OK(steer_device_open(&cpu, "cpu"));
    test_wrap();
    test_import();
    test_import_errors();
    test_export();
    steer_device_release(cpu);
    return check_result();
}
