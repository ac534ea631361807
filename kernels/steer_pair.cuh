/* steer_pair.cuh: the kernel of 16-bit rows that share a program of many vectors with their neighbours. A cluster of two blocks
 * has 32 rows on chip, each block half their columns: vectors are read half as often as by blocks of 16 rows, and rows once.
 *
 * Sums, and all else that a row's bits depend on, are those of steer_many.cuh. A warp has a part of the columns. It goes
 * through the vectors in groups of eight, or two together, for the dots by groups, for the update by steps: items, copied to
 * slots of the warp's own ahead of their use, also while the dots of all parts are added up and each block solves the half of
 * the rows that is its own. */
#ifndef STEER_KERNELS_STEER_PAIR_CUH
#define STEER_KERNELS_STEER_PAIR_CUH

#include "steer_many.cuh"

#ifdef STEER_ROWS_IMPLEMENTATION

namespace {

enum { PAIR_TILES = 2 /* of rows: the block's own and those of the other */ };

/* ---- On chip --------------------------------------------------------------------------------------------------- */

/* A run of rows: what many_state says of each tile's. */
struct pair_run {
    many_state tile[PAIR_TILES];

    __device__ __forceinline__ pair_run(const many_state &s) : tile{s, s} {
#pragma unroll
        for (int t = 0; t < PAIR_TILES; t++) {
            const int before = (t ^ s.rank) * STEER_MANY_ROWS;
            tile[t].first = s.first + before;
            tile[t].rows = min(s.rows - before, (int)STEER_MANY_ROWS);
        }
    }
    __device__ __forceinline__ const many_state &own() const { return tile[0]; }
    /* The warp's columns of the rows: [steps][tiles][16 rows] of 128 bytes. */
    __device__ __forceinline__ char *rows(int step) const {
        const steer_rows_args &args = own().args;
        return own().shared + args.at.rows +
               (own().warp() * args.steps + step) * PAIR_TILES * MANY_VECTORS_AT;
    }
    /* Dots of the own rows over the other block's columns, which that block puts here. */
    __device__ __forceinline__ float *received() const {
        return (float *)(own().shared + own().args.at.received);
    }
    /* What a tile's rows are scaled by, and whether that changes them: solve_state's, and those of the other tile behind. */
    __device__ __forceinline__ float *C(int t) const {
        return own().solved().C + t * own().args.vectors * STEER_MANY_ROWS;
    }
    __device__ __forceinline__ int *changed(int t) const {
        return own().solved().changed + t * STEER_MANY_ROWS;
    }
};

/* ---- Items ----------------------------------------------------------------------------------------------------- */

/* GROUPS of eight vectors in a step of the warp's columns, one after the other. */
template <typename T, int GROUPS> struct pair_items {
    enum { VECTORS = GROUPS * STEER_MANY_GROUP, BYTES = GROUPS * STEER_PAIR_SLOT };
    const many_state &s;
    const many_program &program;
    const uint64_t *listed; /* addresses of the vectors */
    many_slots<T, true, GROUPS> copies;
    char *at;        /* slot of the next item, and of the one that is copied when its time is over */
    int turn;        /* number of that slot */
    int first, step; /* vector and step of what is copied next */
    bool updates;

    __device__ __forceinline__ pair_items(const many_state &of, const many_program &in_force)
        : s(of), program(in_force), listed(in_force.listed), copies(of) {
        at = slot(0);
        turn = first = step = 0;
        updates = false;
        for (int i = 0; i < s.args.slots; i++) copy();
    }
    __device__ __forceinline__ char *slot(int number) const {
        return s.shared + s.args.at.slots + (s.warp() * s.args.slots + number) * BYTES;
    }
    /* Starts copying the next item, if there is one, and turns to the next slot. */
    __device__ __forceinline__ void copy() {
        if (step < s.steps()) {
            if (step == 0 || updates) copies.take_vectors(s, program, listed, first, step);
            copies.template copy_vectors<1>(s, at);
            if (!updates) {
                if (++step == s.steps()) first += VECTORS, step = 0;
                if (first >= program.parts.vectors) first = 0, updates = true;
            } else if ((first += VECTORS) >= program.vectors) {
                first = 0, step++;
            }
        }
        copies_commit(); /* of nothing too: as many groups of copies are under way at any time */
        turn = turn + 1 == s.args.slots ? 0 : turn + 1;
        at = slot(turn);
    }
    /* The next item's vectors. */
    __device__ __forceinline__ const char *take() const {
        many_wait(s.args.slots - 1);
        return at;
    }
    __device__ __forceinline__ void over() {
        __syncwarp(); /* all lanes have used the slot */
        copy();
    }
};

/* ---- Dots ------------------------------------------------------------------------------------------------------ */

/* Starts copying the warp's columns of the rows. */
template <typename T> __device__ __forceinline__ void pair_copy_rows(const pair_run &run) {
#pragma unroll
    for (int t = 0; t < PAIR_TILES; t++) {
        const many_state &s = run.tile[t];
        many_slots<T, true, 1> copies(s);
        copies.take_rows(s, s.args.hidden, s.args.hidden_stride);
        for (int step = 0; step < s.steps(); step++)
            copies.template copy_rows<1>(s, run.rows(step) + t * MANY_VECTORS_AT, step);
    }
    copies_commit();
}

/* Adds up the block's parts of the dots with `groups` of vectors from the j-th, each row's for the block that solves it. */
__device__ __forceinline__ void pair_add_up(const pair_run &run, int j, int groups) {
    const many_state &s = run.own();
    const int each = STEER_MANY_HALF * MANY_SUMS; /* sums of a tile */
    for (int i = (int)threadIdx.x; i < groups * PAIR_TILES * MANY_SUMS; i += (int)blockDim.x) {
        const int tile = i / MANY_SUMS, place = i % MANY_SUMS;
        const float sum = many_sum_of(s.partial() + tile * each + place, MANY_SUMS, STEER_MANY_HALF);
        const int to = place / STEER_MANY_GROUP * s.args.vectors + j + tile / PAIR_TILES * STEER_MANY_GROUP +
                       place % STEER_MANY_GROUP;
        if (tile % PAIR_TILES == 0)
            s.solved().p[to] = sum;
        else
            *of_other(run.received() + to) = sum;
    }
}

template <typename T, int GROUPS>
__device__ __forceinline__ void pair_dots(const pair_run &run, pair_items<T, GROUPS> &items) {
    const many_state &s = run.own();
    constexpr int APART = PAIR_TILES * STEER_MANY_HALF * MANY_SUMS; /* sums of a group */
    const int groups = many_groups(items.program.parts.vectors);
    for (int first = 0; first < groups; first += STEER_PAIR_GROUPS) {
        const int count = min((int)STEER_PAIR_GROUPS, groups - first);
        for (int g = 0; g < count; g += GROUPS) {
            many_sums<GROUPS> sums[PAIR_TILES];
#pragma unroll 1
            for (int step = 0; step < s.steps(); step++) {
                const char *vectors = items.take();
                many_step_dots<T, PAIR_TILES, GROUPS, 2>(sums, s, run.rows(step), vectors, count - g);
                items.over();
            }
#pragma unroll
            for (int t = 0; t < PAIR_TILES; t++)
                many_put<GROUPS, 2>(sums[t], s,
                                    s.partial() + g * APART + (t * STEER_MANY_HALF + s.warp()) * MANY_SUMS,
                                    APART, count - g, false);
        }
        __syncthreads();
        items.listed = items.program.parts.addresses; /* which are on chip now */
        pair_add_up(run, first * STEER_MANY_GROUP, count);
        if (first + STEER_PAIR_GROUPS < groups) __syncthreads(); /* the next sums come where these are */
    }
}

/* Each block solves its own rows, and tells the other. */
template <typename T>
__device__ __forceinline__ void pair_solve(const pair_run &run, const many_program &program) {
    const many_state &s = run.own();
    const solve_state solved = s.solved();
    pair_arrive();
    many_clear(s, program);
    pair_wait(); /* the dots over the columns of both blocks are here */
    const int thread = (int)threadIdx.x, threads = (int)blockDim.x;
    for (int i = thread; i < s.rows * s.args.vectors; i += threads)
        solved.p[i] = __fadd_rn(solved.p[i], run.received()[i]);
    __syncthreads();
    solve_rows<2>(solved, program.entry, program.parts, max(s.rows, 0), who(), many_index, solve_dots{solved},
                  [&](int row) { return steer_row_exactly<T>(s.args, s.first + row); });
    __syncthreads();
    float4 *const C = of_other((float4 *)run.C(1));
    for (int i = thread; i < many_groups(program.vectors) * 32; i += threads)
        C[i] = ((const float4 *)run.C(0))[i];
    if (thread < STEER_MANY_ROWS) of_other(run.changed(1))[thread] = solved.changed[thread];
    pair_arrive();
    pair_wait();
}

/* ---- The update ------------------------------------------------------------------------------------------------ */

/* d += what a group of vectors adds to a lane's columns of a step. */
__device__ __forceinline__ void pair_products(float (&d)[PAIR_TILES][2][4][4], const pair_run &run,
                                              const char *vectors, int group) {
    const many_state &s = run.own();
    const auto four = [](const char *from) { return *(const float4 *)from; };
    const auto C = [&](int t) { return ((const float4 *)run.C(t))[group * 32 + s.lane()]; };
    const many_split c[PAIR_TILES] = {{C(0), s}, {C(1), s}};
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const many_split low(four(vectors + half * 128), s), high(four(vectors + half * 128 + 1024), s);
        float more[PAIR_TILES][4][4];
#pragma unroll
        for (int t = 0; t < PAIR_TILES; t++) many_products(more[t], c[t], low, high);
#pragma unroll
        for (int t = 0; t < PAIR_TILES; t++) many_add(d[t][half], more[t]);
    }
}

template <typename T, int GROUPS>
__device__ __forceinline__ void pair_update(const pair_run &run, const many_program &program,
                                            pair_items<T, GROUPS> &items) {
    const many_state &s = run.own();
    const int groups = many_groups(program.vectors);
    const many_target<T, true, 2> targets[PAIR_TILES] = {{run.tile[0], run.changed(0)},
                                                         {run.tile[1], run.changed(1)}};
#pragma unroll 1
    for (int step = 0; step < s.steps(); step++) {
        float d[PAIR_TILES][2][4][4] = {};
#pragma unroll 1
        for (int first = 0; first < groups; first += GROUPS) {
            const char *vectors = items.take() + many_vector_at(s.place(), s.group());
#pragma unroll 1
            for (int g = 0; g < min(GROUPS, groups - first); g++, vectors += STEER_PAIR_SLOT)
                pair_products(d, run, vectors, first + g);
            items.over();
        }
#pragma unroll
        for (int t = 0; t < PAIR_TILES; t++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                uint4 words[2];
                many_words<2>(words, s, run.rows(step) + t * MANY_VECTORS_AT, half);
                targets[t].store(step, half, words, d[t][half]);
            }
    }
    __syncthreads(); /* nobody needs the program any more */
}

/* ---- The kernel ------------------------------------------------------------------------------------------------ */

/* Rows of few vectors: half of them for each block. */
template <typename T>
__device__ __forceinline__ void pair_few(const many_state &s, const many_program &program) {
    const int half = (s.rows + 1) / 2;
    many_state own = s;
    own.first += s.rank * half;
    own.rows = s.rank ? s.rows - half : half;
    copies_commit();
    copies_wait<0>();
    __syncthreads(); /* the program is on chip */
    few_run<T, true>(own, program);
}

template <typename T, int GROUPS>
__global__ void __launch_bounds__(STEER_MANY_THREADS, 1)
    steer_pair_kernel(const __grid_constant__ steer_rows_args args) {
    extern __shared__ __align__(16) char shared_bytes[];
    many_state s = {args, shared_bytes, 0, 0, pair_rank()};
    pair_arrive();
    let_next_start();
    many_program &program = *s.program();
    bool waited = false;
    const auto wait = [&] {
        if (waited) return;
        wait_for_previous();
        pair_wait(); /* the other block is there */
        waited = true;
    };
    const auto run = [&] {
        if (is_few(program.parts)) {
            wait();
            pair_few<T>(s, program);
            return;
        }
        pair_run rows(s);
        pair_items<T, GROUPS> items(rows.own(), program);
        wait();
        pair_copy_rows<T>(rows);
        copies_wait<0>();
        __syncwarp();
        pair_dots(rows, items);
        pair_solve<T>(rows, program);
        pair_update(rows, program, items);
    };
    const auto turned = [&] {
        if (many_fits(s, program.entry)) stage_copy(s.stage(), program.entry, who());
    };
    many_runs(s, program, blockIdx.x / PAIR_TILES, gridDim.x / PAIR_TILES, STEER_MANY_GROUP, true, turned,
              run);
    wait(); /* the kernel after this one counts on it */
}

} // namespace

template <typename T> steer_rows_kernel steer_rows_pair(steer_rows_variant variant) {
    return variant.vectors > STEER_MANY_GROUP ? steer_pair_kernel<T, STEER_PAIR_GROUPS>
                                              : steer_pair_kernel<T, 1>;
}

#endif
#endif
