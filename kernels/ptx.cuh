/* ptx.cuh: the instructions that C++ has no words for. They are here alone, so that the steering kernels can run where there
 * is no GPU: tests/c/emulate puts its own in the place of this file. */
#ifndef STEER_KERNELS_PTX_CUH
#define STEER_KERNELS_PTX_CUH

#ifdef STEER_KERNEL_IMPLEMENTATION

namespace {

/* Programmatic dependent launch (griddepcontrol): the next kernel of the stream may start now, and fetch what no kernel writes (row
 * tables, programs, vectors); until the kernel before has ended, nobody touches the hidden states. */
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* threadIdx.x, read anew: what is computed from it in a loop stays there and takes no register from one turn to the next. */
__device__ __forceinline__ int thread_now() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}

/* Makes an address be known from here on: what computes it later would wait for registers that loads under way still hold. */
template <typename T> __device__ __forceinline__ void materialise(T *&address) {
    asm volatile("" : "+l"(address));
}

/* Makes words be ones that nothing was computed from yet: what is computed from them again takes no register meanwhile. */
__device__ __forceinline__ void anew(uint4 &words) {
    asm volatile("" : "+r"(words.x), "+r"(words.y), "+r"(words.z), "+r"(words.w));
}

/* Waits for the threads of one of two teams. The barriers are named here and not computed: a kernel that computes one takes all
 * sixteen, and a multiprocessor then has room for four blocks. */
__device__ __forceinline__ void barrier_of_two(int team, int threads) {
    if (team == 0)
        asm volatile("bar.sync 0, %0;" ::"r"(threads) : "memory");
    else
        asm volatile("bar.sync 1, %0;" ::"r"(threads) : "memory");
}

/* A load that stays where it is written, so that the loads of a row are all on their way before the first use. */
__device__ __forceinline__ uint4 load_now(const void *from) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from)
                 : "memory");
    return v;
}

/* A load of what no kernel writes that stays where it is written, however often that is: out of a loop it would take registers
 * that others need more. */
__device__ __forceinline__ float4 load_again(const float *from) {
    float4 v;
    asm volatile("ld.global.nc.v4.f32 {%0,%1,%2,%3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "l"(from));
    return v;
}

__device__ __forceinline__ void copy_async(uint4 *to, const void *from) {
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}
__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until at most N of this thread's groups are under way. */
template <int N> __device__ __forceinline__ void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* Copies 16 bytes of which the first `bytes` are there, 16 or 0, and the others zeros. */
__device__ __forceinline__ void copy_or_zero(void *to, const void *from, int bytes) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes)
                 : "memory");
}

/* d = c + a b: 16 x 8 times 8 x 8; the lowest 13 bits of an operand do not count. */
__device__ __forceinline__ void multiply(float (&d)[4], const float (&a)[4], float b0, float b1,
                                         const float (&c)[4]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
          "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)), "f"(c[0]),
          "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

/* A store without a branch, so that what leads to it is computed beside other work. */
__device__ __forceinline__ void store_if(bool condition, void *to, const uint4 &words) {
    asm volatile("{ .reg .pred p; setp.ne.s32 p, %0, 0; @p st.global.v4.u32 [%1], {%2,%3,%4,%5}; }" ::"r"(
                     (int)condition),
                 "l"(to), "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w)
                 : "memory");
}

} // namespace

#endif
#endif
