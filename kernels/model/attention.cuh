/* attention.cuh: which kernel serves which rows, and how a context is split.
 *
 *     s[p]   = scale * q . k[p], or cap * tanh(scale * q . k[p] / cap)       for positions p = max(0, P - window + 1) .. P
 *     out    = sum of exp(s[p] - max) * v[p] / sum of exp(s[p] - max)
 *
 * A sequence with few rows in this step is served row by row, its context split over blocks whose partial results are combined
 * (attention.cu). One with more rows, a chunk of a prompt, is served by tiles of rows that go through the context tile by tile; in a
 * reproducible step every chunk of a prompt is, as it depends on the other sequences how long it is. Which kernel it is, where splits and tiles begin and in which order they are added depends on the sequence alone, so a row
 * has the same bits whatever else is in the batch. */
#ifndef STEER_KERNELS_ATTENTION_CUH
#define STEER_KERNELS_ATTENTION_CUH

#include "model.cuh"

enum {
    STEER_ATTEND_DECODE_ROWS = 1, /* most rows of a sequence that is served row by row */
    STEER_ATTEND_TILE = 256,      /* positions whose scores are computed together, row by row */
    STEER_ATTEND_MOST_DIM = 256   /* of a head */
};

/* Splits are of 256 positions up to 4096, then of 1024 up to 32768, then of 4096. */
__host__ __device__ inline int64_t steer_split_of(int64_t position) {
    if (position < 4096) return position / 256;
    if (position < 32768) return 16 + (position - 4096) / 1024;
    return 16 + 28 + (position - 32768) / 4096;
}
__host__ __device__ inline int64_t steer_split_begin(int64_t split) {
    if (split < 16) return split * 256;
    if (split < 16 + 28) return 4096 + (split - 16) * 1024;
    return 32768 + (split - 16 - 28) * 4096;
}

/* First position that a row at `position` sees. */
__host__ __device__ inline int steer_window_begin(int window, int position) {
    return window > 0 && position >= window ? position - window + 1 : 0;
}

/* s[p] of a product. */
__device__ __forceinline__ float steer_score(float product, float scale, float cap) {
    const float s = product * scale;
    return cap > 0.0f ? cap * tanhf(s / cap) : s;
}

/* Which of the rows: all, those of sequences with few rows, those of the others. */
enum steer_attend_rows { STEER_ATTEND_ALL = 0, STEER_ATTEND_DECODES = 1, STEER_ATTEND_CHUNKS = 2 };

/* Of which row a block is: -1: none. `slot` counts the rows that have partial results. */
struct steer_place {
    int64_t row, slot;
    int sequence;
};
/* Whether a sequence is served row by row. */
__device__ __forceinline__ bool steer_attend_is_decode(const steer_rows &rows, int s) {
    return rows.first[s + 1] - rows.first[s] <= STEER_ATTEND_DECODE_ROWS &&
           (!rows.generated || rows.generated[s]);
}
__device__ __forceinline__ steer_place steer_place_of(const steer_rows &rows, steer_attend_rows which,
                                                      int64_t i) {
    if (which == STEER_ATTEND_ALL) return {i, i, rows.sequence[i]};
    if (which == STEER_ATTEND_CHUNKS) {
        const int s = rows.sequence[i];
        return {s >= 0 && steer_attend_is_decode(rows, s) ? -1 : i, i, s};
    }
    const int s = (int)(i / STEER_ATTEND_DECODE_ROWS), r = (int)(i % STEER_ATTEND_DECODE_ROWS);
    const int first = rows.first[s], count = rows.first[s + 1] - first;
    return {!steer_attend_is_decode(rows, s) || r >= count ? -1 : first + r, i, s};
}

/* prompt.cu and decode.cu: the tensor cores serve such dtypes and sizes. */
bool steer_attend_tiles_serve(const steer_attention &a);
/* Attention of the sequences with more rows than few, and zeros for padding. */
int steer_attend_tiles(steer_cuda_device *device, const steer_attention &a);
/* Attention of the others, or of all, a.rope done first; with splits the partial results. */
int steer_attend_singles(steer_cuda_device *device, const steer_attention &a, steer_attend_rows which,
                         int64_t items, int splits);

#endif
