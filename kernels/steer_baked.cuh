/* steer_baked.cuh: what a specialised kernel knows beforehand. It is compiled at run time from the very source of the
 * ordinary kernels, with these functions replacing values that a launch passes by constants; the arithmetic stays as it is
 * written, and so do the bits. Ordinary kernels define nothing of this, and the functions give back what they are given.
 *
 *   STEER_BAKED           a specialised kernel
 *   STEER_BAKED_HIDDEN    hidden size                  STEER_BAKED_THREADS   that share rows
 *   STEER_BAKED_ADDS, _VECTORS, _UPDATED, _OPS, _NORM, _IMAGE: as in steer_shape, -1 where programs differ
 *   STEER_BAKED_OP(op, k), STEER_BAKED_ENTRY(entry)    assignments of what all programs have in common */
#ifndef STEER_KERNELS_STEER_BAKED_CUH
#define STEER_KERNELS_STEER_BAKED_CUH

#ifdef STEER_BAKED
#define STEER_UNROLL_BAKED _Pragma("unroll")
#else
#define STEER_UNROLL_BAKED
#endif

/* Threads that share rows. */
__device__ __forceinline__ int baked_threads(int threads) {
#ifdef STEER_BAKED
    threads = STEER_BAKED_THREADS;
#endif
    return threads;
}

/* An entry; one of a row that is not steered stays one. */
__device__ __forceinline__ steer_entry baked_entry(steer_entry entry) {
#ifdef STEER_BAKED
    if (STEER_BAKED_ADDS == 0) entry.u = 0;
    if (STEER_BAKED_VECTORS >= 0)
        entry.vectors = (STEER_BAKED_ADDS == 1 ? entry.u != 0 : entry.vectors != 0) ? STEER_BAKED_VECTORS : 0;
    if (STEER_BAKED_UPDATED >= 0) entry.updated = STEER_BAKED_UPDATED;
    if (STEER_BAKED_IMAGE == 0) entry.image = 0;
    if (STEER_BAKED_IMAGE == 1 && entry.vectors) __builtin_assume(entry.image != 0);
    STEER_BAKED_ENTRY(entry)
#endif
    return entry;
}

/* The counts of a program that steers. */
__device__ __forceinline__ void baked_counts(int *vectors, int *updated, int *ops, int *norm) {
#ifdef STEER_BAKED
    if (STEER_BAKED_VECTORS >= 0) *vectors = STEER_BAKED_VECTORS;
    if (STEER_BAKED_UPDATED >= 0) *updated = STEER_BAKED_UPDATED;
    if (STEER_BAKED_OPS >= 0) *ops = STEER_BAKED_OPS;
    if (STEER_BAKED_NORM >= 0) *norm = STEER_BAKED_NORM;
#endif
}

/* The header of a program image. */
__device__ __forceinline__ int4 baked_head(int4 head) {
    baked_counts(&head.x, &head.y, &head.z, &head.w);
    return head;
}

/* Operation k of a program. */
__device__ __forceinline__ steer_op_image baked_op(steer_op_image op, int k) {
#ifdef STEER_BAKED
    STEER_BAKED_OP(op, k)
#endif
    return op;
}

#endif
