/* capi_file.c: the exported functions for files: maps, tensors over them, and the atomic writer. */
#include "core/file.h"
#include "core/interrupt.h"
#include "backend/device.h"
#include "tensor/tensor.h"

#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Steer's files are little-endian and are used in place"
#endif

enum {
    STAGE_BYTES = 8 << 20
}; /* host buffer through which tensors go out, and bytes between interrupt checks */

/* ---- Maps ----------------------------------------------------------------------------------------------------- */

int steer_map_open(steer_map **out, const char *path) {
    STEER_ENTER("map_open");
    STEER_REQUIRE(out);
    return steer_map_file(out, path);
}

void steer_map_release(steer_map *map) { steer_map_drop(map); }
const uint8_t *steer_map_data(const steer_map *map) { return map ? map->data : NULL; }
int64_t steer_map_size(const steer_map *map) { return map ? map->size : 0; }

static void release_map(void *owner) { steer_map_drop(owner); }

/* Bytes of a contiguous tensor. */
static int tensor_bytes(int64_t *out, steer_dtype dtype, int32_t ndim, const int64_t *shape) {
    int64_t bytes = (int64_t)steer_dtype_size(dtype);
    if (bytes == 0) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "dtype: %d is not a dtype", (int)dtype);
    if (ndim < 0 || ndim > STEER_MAX_DIMS)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "ndim: %d, expected 0 to %d", ndim, STEER_MAX_DIMS);
    if (ndim > 0) STEER_REQUIRE(shape);
    for (int32_t i = 0; i < ndim; i++) {
        if (shape[i] < 0)
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                              "shape: dimension " STEER_INDEX " is %lld, expected 0 or more", i,
                              (long long)shape[i]);
        if (__builtin_mul_overflow(bytes, shape[i], &bytes))
            return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "shape: the size in bytes overflows 64 bits");
    }
    *out = bytes;
    return STEER_OK;
}

/* Copies file bytes, looking at the interrupt flag: they may have to come from a slow disk. */
static int copy_out(char *dst, const uint8_t *src, int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += STAGE_BYTES) {
        if (steer_interrupt_take()) return STEER_FAIL(STEER_E_INTERRUPTED, "interrupted");
        int64_t left = bytes - done;
        memcpy(dst + done, src + done, (size_t)(left < STAGE_BYTES ? left : STAGE_BYTES));
    }
    return STEER_OK;
}

static int check_range(const steer_map *map, int64_t offset, int64_t bytes) {
    if (offset < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "offset: %lld, expected 0 or more", (long long)offset);
    if (offset > map->size || bytes > map->size - offset)
        return STEER_FAIL(STEER_E_FORMAT, "%.700s: %lld bytes from offset %lld reach past its end at %lld",
                          map->path, (long long)bytes, (long long)offset, (long long)map->size);
    return STEER_OK;
}

int steer_map_tensor(steer_tensor **out, steer_map *map, steer_dtype dtype, int32_t ndim,
                     const int64_t *shape, int64_t offset) {
    STEER_ENTER("map_tensor");
    STEER_REQUIRE(out);
    STEER_REQUIRE(map);
    int64_t bytes = 0;
    STEER_TRY(tensor_bytes(&bytes, dtype, ndim, shape));
    STEER_TRY(check_range(map, offset, bytes));
    steer_device *cpu;
    STEER_TRY(steer_device_open(&cpu, "cpu"));
    int status;
    if (bytes > 0 && offset % (int64_t)steer_dtype_size(dtype) == 0) { /* the map itself starts at a page */
        steer_refs_add(&map->refs);
        status = steer_tensor_adopt(out, cpu, dtype, ndim, shape, NULL, map->data + offset, release_map, map);
    } else {
        steer_tensor *copy;
        status = steer_tensor_create(&copy, cpu, dtype, ndim, shape);
        if (status == STEER_OK) {
            status = copy_out(steer_tensor_data(copy), map->data + offset, bytes);
            if (status == STEER_OK)
                *out = copy;
            else
                steer_tensor_release(copy);
        }
    }
    steer_device_release(cpu);
    return status;
}

int steer_map_doubles(steer_tensor **out, steer_map *map, int32_t ndim, const int64_t *shape,
                      int64_t offset) {
    STEER_ENTER("map_doubles");
    STEER_REQUIRE(out);
    STEER_REQUIRE(map);
    int64_t bytes = 0;
    STEER_TRY(tensor_bytes(&bytes, STEER_I64, ndim, shape)); /* as wide */
    STEER_TRY(check_range(map, offset, bytes));
    steer_device *cpu;
    STEER_TRY(steer_device_open(&cpu, "cpu"));
    const int status = steer_tensor_create(out, cpu, STEER_F32, ndim, shape);
    steer_device_release(cpu);
    STEER_TRY(status);
    float *dst = steer_tensor_data(*out);
    for (int64_t i = 0; i < bytes / 8; i++) {
        double value;
        memcpy(&value, map->data + offset + 8 * i, 8);
        dst[i] = (float)value;
    }
    return STEER_OK;
}

int steer_map_inflate(steer_map **out, steer_map *map, int64_t offset, int64_t size, int64_t raw_size,
                      uint32_t crc) {
    STEER_ENTER("map_inflate");
    STEER_REQUIRE(out);
    STEER_REQUIRE(map);
    if (size < 0 || raw_size < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "size: %lld and raw_size: %lld, expected 0 or more",
                          (long long)size, (long long)raw_size);
    STEER_TRY(check_range(map, offset, size));
    return steer_map_inflated(out, map, offset, size, raw_size, crc);
}

/* ---- Writing -------------------------------------------------------------------------------------------------- */

int steer_file_create(steer_file **out, const char *path) {
    STEER_ENTER("file_create");
    STEER_REQUIRE(out);
    return steer_file_begin(out, path);
}

int steer_file_write(steer_file *file, const void *data, int64_t size) {
    STEER_ENTER("file_write");
    STEER_REQUIRE(file);
    if (size < 0)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "size: %lld, expected 0 or more", (long long)size);
    if (size > 0) STEER_REQUIRE(data);
    return steer_file_append(file, data, (size_t)size);
}

static int64_t numel_bytes(const steer_tensor *tensor) {
    return steer_tensor_numel(tensor) * (int64_t)steer_dtype_size(steer_tensor_dtype(tensor));
}

/* Writes a tensor that fits the stage. */
static int write_staged(steer_file *file, steer_tensor *tensor, steer_device *cpu, void *stage) {
    steer_tensor *host;
    STEER_TRY(steer_tensor_wrap(&host, cpu, tensor->view.dtype, tensor->view.ndim, tensor->view.shape, NULL,
                                stage));
    int status = steer_tensor_copy(host, tensor);
    if (status == STEER_OK) status = steer_file_append(file, stage, (size_t)numel_bytes(tensor));
    steer_tensor_release(host);
    return status;
}

/* Cuts along the first dimension into parts that fit the stage; a row that does not is cut further. */
static int write_parts(steer_file *file, steer_tensor *tensor, steer_device *cpu, void *stage) {
    if (numel_bytes(tensor) <= STAGE_BYTES) return write_staged(file, tensor, cpu, stage);
    int64_t rows = steer_tensor_size(tensor, 0);
    int64_t row_bytes = numel_bytes(tensor) / rows;
    int64_t step = row_bytes <= STAGE_BYTES ? STAGE_BYTES / row_bytes : 1;
    for (int64_t start = 0; start < rows; start += step) {
        steer_tensor *part;
        int64_t count = rows - start < step ? rows - start : step;
        STEER_TRY(row_bytes <= STAGE_BYTES ? steer_tensor_narrow(&part, tensor, 0, start, count)
                                           : steer_tensor_select(&part, tensor, 0, start));
        int status = write_parts(file, part, cpu, stage);
        steer_tensor_release(part);
        STEER_TRY(status);
    }
    return STEER_OK;
}

static int write_through_stage(steer_file *file, steer_tensor *tensor) {
    int64_t bytes = numel_bytes(tensor);
    void *stage = malloc((size_t)(bytes < STAGE_BYTES ? bytes : STAGE_BYTES));
    if (!stage)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "tensor: no memory for a buffer to write it through");
    steer_device *cpu;
    int status = steer_device_open(&cpu, "cpu");
    if (status == STEER_OK) {
        status = write_parts(file, tensor, cpu, stage);
        steer_device_release(cpu);
    }
    free(stage);
    return status;
}

int steer_file_write_tensor(steer_file *file, steer_tensor *tensor) {
    STEER_ENTER("file_write_tensor");
    STEER_REQUIRE(file);
    STEER_REQUIRE(tensor);
    if (steer_tensor_numel(tensor) == 0) return steer_file_append(file, NULL, 0);
    int in_place = steer_device_is_cpu(steer_tensor_on(tensor)) && steer_tensor_is_contiguous(tensor);
    int status = in_place ? steer_file_append(file, steer_tensor_data(tensor), (size_t)numel_bytes(tensor))
                          : write_through_stage(file, tensor);
    if (status != STEER_OK) steer_file_discard(file); /* a part of the tensor may have been written */
    return status;
}

int steer_file_commit(steer_file *file) {
    STEER_ENTER("file_commit");
    STEER_REQUIRE(file);
    return steer_file_publish(file);
}

void steer_file_release(steer_file *file) { steer_file_free(file); }
