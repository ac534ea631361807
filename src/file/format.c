/* format.c: how elements lie in files: floats as they are, and ggml's blocks, each a scale with small integers (as ggml-quants.c of
 * llama.cpp defines them). */
#include "core/status.h"
#include "file/weights.h"
#include "tensor/dtype.h"

#include <string.h>

static float half_at(const uint8_t *p) { return steer_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

/* ---- Floats ---------------------------------------------------------------------------------------------------- */

static void widen_f32(float *out, const uint8_t *data, int64_t n) { memcpy(out, data, (size_t)n * 4); }
static void widen_f16(float *out, const uint8_t *data, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = half_at(data + 2 * i);
}
static void widen_bf16(float *out, const uint8_t *data, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        out[i] = steer_bf16_to_f32((uint16_t)(data[2 * i] | data[2 * i + 1] << 8));
}
static void widen_f64(float *out, const uint8_t *data, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        double x;
        memcpy(&x, data + 8 * i, 8);
        out[i] = (float)x;
    }
}

/* ---- Blocks of 32 ---------------------------------------------------------------------------------------------- */

/* Element i and i + 16 lie in the low and the high half of byte i; `high` holds their fifth bits. A `least` of -0 changes nothing,
 * not even the sign of a zero. */
static void widen_nibbles(float *out, const uint8_t *q, uint32_t high, int subtract, float scale,
                          float least) {
    for (int i = 0; i < 16; i++) {
        const int a = (q[i] & 15) | (int)(high >> i & 1) << 4, b = q[i] >> 4 | (int)(high >> (i + 16) & 1)
                                                                                   << 4;
        out[i] = (float)(a - subtract) * scale + least;
        out[i + 16] = (float)(b - subtract) * scale + least;
    }
}

static uint32_t word_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void widen_q4_0(float *out, const uint8_t *p, int64_t n) {
    for (; n > 0; n -= 32, out += 32, p += 18) widen_nibbles(out, p + 2, 0, 8, half_at(p), -0.0f);
}
static void widen_q4_1(float *out, const uint8_t *p, int64_t n) {
    for (; n > 0; n -= 32, out += 32, p += 20) widen_nibbles(out, p + 4, 0, 0, half_at(p), half_at(p + 2));
}
static void widen_q5_0(float *out, const uint8_t *p, int64_t n) {
    for (; n > 0; n -= 32, out += 32, p += 22)
        widen_nibbles(out, p + 6, word_at(p + 2), 16, half_at(p), -0.0f);
}
static void widen_q5_1(float *out, const uint8_t *p, int64_t n) {
    for (; n > 0; n -= 32, out += 32, p += 24)
        widen_nibbles(out, p + 8, word_at(p + 4), 0, half_at(p), half_at(p + 2));
}
static void widen_q8_0(float *out, const uint8_t *p, int64_t n) {
    for (; n > 0; n -= 32, out += 32, p += 34)
        for (int i = 0; i < 32; i++) out[i] = (float)(int8_t)p[2 + i] * half_at(p);
}

/* ---- Blocks of 256 --------------------------------------------------------------------------------------------- */

/* Scale and least value of part j of 8: six bits each, packed into 12 bytes. */
static void unpack_part(const uint8_t *q, int j, int *scale, int *least) {
    if (j < 4) {
        *scale = q[j] & 63;
        *least = q[j + 4] & 63;
    } else {
        *scale = (q[j + 4] & 15) | (q[j - 4] >> 6) << 4;
        *least = q[j + 4] >> 4 | (q[j] >> 6) << 4;
    }
}

/* Q4_K, and Q5_K with the fifth bits in `high` (part j's at bit j of each byte). */
static void widen_parts(float *out, const uint8_t *p, const uint8_t *high, const uint8_t *q) {
    const float all = half_at(p), all_least = half_at(p + 2);
    for (int j = 0; j < 8; j++) {
        int scale, least;
        unpack_part(p + 4, j, &scale, &least);
        const float d = all * (float)scale, m = all_least * (float)least;
        for (int i = 0; i < 32; i++) {
            const int low = j % 2 ? q[j / 2 * 32 + i] >> 4 : q[j / 2 * 32 + i] & 15;
            const int fifth = high ? high[i] >> j & 1 : 0;
            out[j * 32 + i] = d * (float)(low | fifth << 4) - m;
        }
    }
}

static void widen_q4_k(float *out, const uint8_t *p, int64_t n) {
    for (; n > 0; n -= 256, out += 256, p += 144) widen_parts(out, p, NULL, p + 16);
}
static void widen_q5_k(float *out, const uint8_t *p, int64_t n) {
    for (; n > 0; n -= 256, out += 256, p += 176) widen_parts(out, p, p + 16, p + 48);
}

/* Q6_K: low four bits, high two bits, 16 scales of a byte, one f16. */
static void widen_q6_k(float *out, const uint8_t *p, int64_t n) {
    for (; n > 0; n -= 256, p += 210) {
        const float d = half_at(p + 208);
        for (int i = 0; i < 256; i++) {
            const int half = i / 128, part = i % 128 / 32, l = i % 32;
            const uint8_t byte = p[half * 64 + part % 2 * 32 + l], top = p[128 + half * 32 + l];
            const int q = (part < 2 ? byte & 15 : byte >> 4) | (top >> (2 * part) & 3) << 4;
            *out++ = d * (float)(int8_t)p[192 + half * 8 + part * 2 + l / 16] * (float)(q - 32);
        }
    }
}

/* Blocks of formats without weights are here so that a file that has such a tensor beside others can be read. */
const steer_format_traits steer_format_table[STEER_FORMAT_COUNT] = {
    [STEER_FORMAT_F32] = {"F32", 1, 4, 0, "F32", widen_f32},
    [STEER_FORMAT_F16] = {"F16", 1, 2, 1, "F16", widen_f16},
    [STEER_FORMAT_BF16] = {"BF16", 1, 2, 30, "BF16", widen_bf16},
    [STEER_FORMAT_F64] = {"F64", 1, 8, 28, "F64", widen_f64},
    [STEER_FORMAT_I8] = {"I8", 1, 1, 24, "I8", NULL},
    [STEER_FORMAT_I16] = {"I16", 1, 2, 25, "I16", NULL},
    [STEER_FORMAT_I32] = {"I32", 1, 4, 26, "I32", NULL},
    [STEER_FORMAT_I64] = {"I64", 1, 8, 27, "I64", NULL},
    [STEER_FORMAT_U8] = {"U8", 1, 1, -1, "U8", NULL},
    [STEER_FORMAT_BOOL] = {"BOOL", 1, 1, -1, "BOOL", NULL},
    [STEER_FORMAT_Q4_0] = {"Q4_0", 32, 18, 2, NULL, widen_q4_0},
    [STEER_FORMAT_Q4_1] = {"Q4_1", 32, 20, 3, NULL, widen_q4_1},
    [STEER_FORMAT_Q5_0] = {"Q5_0", 32, 22, 6, NULL, widen_q5_0},
    [STEER_FORMAT_Q5_1] = {"Q5_1", 32, 24, 7, NULL, widen_q5_1},
    [STEER_FORMAT_Q8_0] = {"Q8_0", 32, 34, 8, NULL, widen_q8_0},
    [STEER_FORMAT_Q4_K] = {"Q4_K", 256, 144, 12, NULL, widen_q4_k},
    [STEER_FORMAT_Q5_K] = {"Q5_K", 256, 176, 13, NULL, widen_q5_k},
    [STEER_FORMAT_Q6_K] = {"Q6_K", 256, 210, 14, NULL, widen_q6_k},
    [STEER_FORMAT_Q8_1] = {"Q8_1", 32, 36, 9, NULL, NULL},
    [STEER_FORMAT_Q2_K] = {"Q2_K", 256, 84, 10, NULL, NULL},
    [STEER_FORMAT_Q3_K] = {"Q3_K", 256, 110, 11, NULL, NULL},
    [STEER_FORMAT_Q8_K] = {"Q8_K", 256, 292, 15, NULL, NULL},
    [STEER_FORMAT_IQ2_XXS] = {"IQ2_XXS", 256, 66, 16, NULL, NULL},
    [STEER_FORMAT_IQ2_XS] = {"IQ2_XS", 256, 74, 17, NULL, NULL},
    [STEER_FORMAT_IQ3_XXS] = {"IQ3_XXS", 256, 98, 18, NULL, NULL},
    [STEER_FORMAT_IQ1_S] = {"IQ1_S", 256, 50, 19, NULL, NULL},
    [STEER_FORMAT_IQ4_NL] = {"IQ4_NL", 32, 18, 20, NULL, NULL},
    [STEER_FORMAT_IQ3_S] = {"IQ3_S", 256, 110, 21, NULL, NULL},
    [STEER_FORMAT_IQ2_S] = {"IQ2_S", 256, 82, 22, NULL, NULL},
    [STEER_FORMAT_IQ4_XS] = {"IQ4_XS", 256, 136, 23, NULL, NULL},
    [STEER_FORMAT_IQ1_M] = {"IQ1_M", 256, 56, 29, NULL, NULL},
    [STEER_FORMAT_TQ1_0] = {"TQ1_0", 256, 54, 34, NULL, NULL},
    [STEER_FORMAT_TQ2_0] = {"TQ2_0", 256, 66, 35, NULL, NULL},
    [STEER_FORMAT_MXFP4] = {"MXFP4", 32, 17, 39, NULL, NULL},
    [STEER_FORMAT_NVFP4] = {"NVFP4", 64, 36, 40, NULL, NULL},
    [STEER_FORMAT_Q1_0] = {"Q1_0", 128, 18, 41, NULL, NULL},
    [STEER_FORMAT_U16] = {"U16", 1, 2, -1, "U16", NULL},
    [STEER_FORMAT_U32] = {"U32", 1, 4, -1, "U32", NULL},
    [STEER_FORMAT_U64] = {"U64", 1, 8, -1, "U64", NULL},
    [STEER_FORMAT_C64] = {"C64", 1, 8, -1, "C64", NULL},
    [STEER_FORMAT_F8_E4M3] = {"F8_E4M3", 1, 1, -1, "F8_E4M3", NULL},
    [STEER_FORMAT_F8_E5M2] = {"F8_E5M2", 1, 1, -1, "F8_E5M2", NULL},
    [STEER_FORMAT_F8_E8M0] = {"F8_E8M0", 1, 1, -1, "F8_E8M0", NULL},
    [STEER_FORMAT_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 1, 1, -1, "F8_E4M3FNUZ", NULL},
    [STEER_FORMAT_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 1, 1, -1, "F8_E5M2FNUZ", NULL},
    [STEER_FORMAT_F6_E2M3] = {"F6_E2M3", 4, 3, -1, "F6_E2M3", NULL},
    [STEER_FORMAT_F6_E3M2] = {"F6_E3M2", 4, 3, -1, "F6_E3M2", NULL},
    [STEER_FORMAT_F4] = {"F4", 2, 1, -1, "F4", NULL},
};

/* ---- Reading --------------------------------------------------------------------------------------------------- */

static const uint8_t *address(const steer_weight *weight, int64_t start) {
    const steer_format_traits *traits = &steer_format_table[weight->format];
    return weight->data + start / traits->block * traits->bytes;
}

static int check_range(const steer_weight *weight, int64_t start, int64_t n) {
    const steer_format_traits *traits = &steer_format_table[weight->format];
    const int64_t numel = steer_weight_numel(weight);
    if (!traits->widen)
        return STEER_FAIL(STEER_E_UNSUPPORTED,
                          "%s: tensor %s: dtype %s, expected F32, F16, BF16, F64, Q4_0, Q4_1, Q5_0, Q5_1, "
                          "Q8_0, Q4_K, Q5_K or Q6_K",
                          weight->file, weight->name, traits->name);
    if (start < 0 || n < 0 || n > numel || start > numel - n || start % traits->block || n % traits->block)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT,
                          "%s: tensor %s: elements %lld to %lld of %lld in blocks of %d", weight->file,
                          weight->name, (long long)start, (long long)start + n, (long long)numel,
                          traits->block);
    return STEER_OK;
}

int steer_weight_read_f32(const steer_weight *weight, int64_t start, int64_t n, float *out) {
    STEER_TRY(check_range(weight, start, n));
    steer_format_table[weight->format].widen(out, address(weight, start), n);
    return STEER_OK;
}

static int all_finite(const float *x, int64_t n) {
    int finite = 1;
    for (int64_t i = 0; i < n; i++) finite &= (steer_float_bits(x[i]) & 0x7f800000u) != 0x7f800000u;
    return finite;
}

static void narrow(steer_dtype dtype, void *out, int64_t at, const float *x, int64_t n) {
    uint16_t *half = (uint16_t *)out + at;
    if (dtype == STEER_F32)
        memcpy((float *)out + at, x, (size_t)n * sizeof *x);
    else if (dtype == STEER_BF16)
        for (int64_t i = 0; i < n; i++) half[i] = steer_f32_to_bf16(x[i]);
    else
        for (int64_t i = 0; i < n; i++) half[i] = steer_f32_to_f16(x[i]);
}

/* Elements of 16 bits as they are; 0 if one has all bits of its exponent set, as NaN and infinities have. */
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("O3")))
#endif
static int
copy_halves(uint16_t *out, const uint8_t *from, int64_t n, uint16_t exponent) {
    uint16_t special = 0;
    memcpy(out, from, (size_t)n * sizeof *out);
    for (int64_t i = 0; i < n; i++) special |= (uint16_t) - ((out[i] & exponent) == exponent);
    return special == 0;
}

/* The bits of a dtype's exponent if the format has elements of the same 16 bits, else 0. */
static uint16_t exponent_of(steer_format format, steer_dtype dtype) {
    if (format == STEER_FORMAT_BF16 && dtype == STEER_BF16) return 0x7f80;
    return format == STEER_FORMAT_F16 && dtype == STEER_F16 ? 0x7c00 : 0;
}

enum { PIECE = 4096 }; /* elements converted at a time: a multiple of every block */

int steer_weight_convert(const steer_weight *weight, int64_t start, int64_t n, steer_dtype dtype, void *out,
                         int *finite) {
    STEER_TRY(check_range(weight, start, n));
    if (!steer_dtype_is_float(dtype))
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "dtype: %d, expected F32, F16 or BF16", (int)dtype);
    const steer_format_traits *traits = &steer_format_table[weight->format];
    const uint16_t exponent = exponent_of(weight->format, dtype);
    int fine = 1;
#pragma omp parallel for schedule(static) reduction(& : fine) if (n > 16 * PIECE)
    for (int64_t piece = 0; piece < (n + PIECE - 1) / PIECE; piece++) {
        float x[PIECE];
        const int64_t at = piece * PIECE, count = n - at < PIECE ? n - at : PIECE;
        if (exponent) {
            fine &= copy_halves((uint16_t *)out + at, address(weight, start + at), count, exponent);
            continue;
        }
        traits->widen(x, address(weight, start + at), count);
        fine &= all_finite(x, count);
        narrow(dtype, out, at, x, count);
    }
    if (!fine) *finite = 0;
    return STEER_OK;
}
