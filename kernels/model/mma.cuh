/* mma.cuh: the tensor cores' products of f16 and bf16, and the loads that feed them: instructions that C++ has no words for. */
#ifndef STEER_KERNELS_MMA_CUH
#define STEER_KERNELS_MMA_CUH

#include "model.cuh"

/* Two numbers as T in one word, the first in the low half. */
template <typename T> __device__ __forceinline__ uint32_t steer_two(float low, float high) {
    const steer_pack<T, 2> pack = {{steer_from_f32<T>(low), steer_from_f32<T>(high)}};
    return reinterpret_cast<const uint32_t &>(pack);
}

/* c += a b, [16, 8] += [16, 16] [16, 8]. With g = lane / 4 and t = lane % 4 * 2 a lane has
 *     a   rows g, g + 8, g, g + 8 and columns t, t, t + 8, t + 8, with the column after each
 *     b   rows t and t + 8, with the row after each, of column g
 *     c   rows g, g, g + 8, g + 8 and columns t, t + 1, t, t + 1 */
template <typename T>
__device__ __forceinline__ void steer_mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ __forceinline__ void steer_mma<steer_f16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                     uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void steer_mma<steer_bf16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                      uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four matrices of 8 rows of 8 elements in shared memory; lane l gives the address of row l % 8 of matrix l / 8. Of each
 * matrix a lane gets row lane / 4, columns lane % 4 * 2 and the next; transposed: column lane / 4 of these rows. */
__device__ __forceinline__ void steer_load_matrices(uint32_t (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
}
__device__ __forceinline__ void steer_load_transposed(uint32_t (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
}

/* A matrix of 8 rows of 8 elements, two of row lane / 4 from column lane % 4 * 2 on: transposed. */
__device__ __forceinline__ uint32_t steer_transposed(uint32_t two) {
    uint32_t turned;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(two));
    return turned;
}

/* Copies 16 bytes to shared memory, or zeros; groups of copies arrive in the order in which they were closed. */
__device__ __forceinline__ void steer_copy_16(void *to, const void *from, bool there) {
    asm volatile(
        "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)),
        "l"(from), "r"(there ? 16 : 0)
        : "memory");
}
/* The same of what is read along its length: the second-level cache fetches 256 bytes. */
__device__ __forceinline__ void steer_copy_16_of_stream(void *to, const void *from, bool there) {
    asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(
                     (unsigned)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(there ? 16 : 0)
                 : "memory");
}
__device__ __forceinline__ void steer_copies_close() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until at most N of this thread's groups are under way. */
template <int N> __device__ __forceinline__ void steer_copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif
