/* steer.cu: launches the steering kernels: chooses the variant and its geometry. */
#include "steer_select.cuh"

#include <algorithm>
#include <atomic>

namespace {

const int64_t MAX_TILE_BYTES = 128 * 1024, MAX_STAGE_BYTES = 32 * 1024, CAPTURED_STAGE_BYTES = 8 * 1024,
              MOST_SUMS_BYTES = 4 * 1024, /* of the fast kernels */
    MOST_PAIRED = 4096,                   /* largest hidden size with blocks that share rows, as measured */
    LARGE_BLOCK_BYTES = 200 * 1024;       /* shared memory that the many kernel's large blocks want */

/* Threads that share a row, 16 elements each. */
int team_of(const steer_launch *launch) {
    const int most = launch->dtype == STEER_F32 ? STEER_BLOCK_THREADS : STEER_WIDE_THREADS;
    int threads = 32;
    while (threads < most && threads * 16 < launch->hidden_size) threads *= 2;
    return threads;
}

/* Those of them that have columns: the others would add zeros. */
int busy_of(const steer_launch *launch) { return (int)((launch->hidden_size + 511) / 512 * 32); }

/* Bytes of one value's parts, one a warp. */
int64_t parts_bytes(int threads) { return std::max(4, threads / 32) * (int64_t)sizeof(float); }

bool is_aligned(const void *data, int64_t stride, size_t element) {
    return (uintptr_t)data % 16 == 0 && (size_t)stride * element % 16 == 0;
}

size_t element_bytes(const steer_launch *launch) { return launch->dtype == STEER_F32 ? 4 : 2; }

bool rows_are_aligned(const steer_launch *launch) {
    size_t element = element_bytes(launch);
    return (size_t)launch->hidden_size * element % 16 == 0 &&
           is_aligned(launch->hidden, launch->hidden_stride, element) &&
           (!launch->residual || is_aligned(launch->residual, launch->residual_stride, element));
}

/* Bytes of a tile row in shared memory. */
int64_t row_bytes(const steer_launch *launch, int threads) {
    int64_t round = (int64_t)threads * 16, elements = (launch->hidden_size + round - 1) / round * round;
    return elements * (int64_t)element_bytes(launch) * (launch->residual ? 2 : 1);
}

/* Bytes of a row in a slot of shared memory, where every thread has room for its 16 elements. */
int64_t slot_bytes(const steer_launch *launch, int threads) {
    return (int64_t)threads * 16 * (int64_t)element_bytes(launch) * (launch->residual ? 2 : 1);
}

/* Bytes of the slots of vectors that do not stay in registers. */
int64_t vector_bytes(int threads, int vectors) {
    return (int64_t)steer_vector_slots(vectors) * threads * 16 * (int64_t)sizeof(float);
}

/* Bytes of the rows and vectors that the stream kernel has in shared memory. */
int64_t stream_bytes(const steer_launch *launch, int threads, int vectors) {
    return steer_stream_ring(vectors) * slot_bytes(launch, threads) + vector_bytes(threads, vectors);
}

/* More than the last-level cache keeps. */
bool is_large(const steer_launch *launch, int threads, const steer_cuda_device *gpu) {
    return launch->rows * row_bytes(launch, threads) > gpu->l2_bytes;
}

/* Whether each multiprocessor has rows for tiles of several. */
bool rows_suffice(const steer_launch *launch, const steer_cuda_device *gpu) {
    return launch->rows >= 8 * gpu->multiprocessors;
}

/* Rows of one tile share what they load; where few rows are left for a multiprocessor they go alone. */
bool rows_share(const steer_launch *launch, const steer_cuda_device *gpu) {
    return launch->rows_per_program >= 4 && rows_suffice(launch, gpu);
}

/* Most vectors that the fast kernels hold in registers. */
int most_vectors(const steer_launch *launch, int threads, const steer_cuda_device *gpu) {
    if (threads > STEER_BLOCK_THREADS || threads * 16 < launch->hidden_size) return 1;
    return launch->dtype == STEER_F32 && threads <= STEER_EIGHT_THREADS && !rows_share(launch, gpu)
               ? 8
               : STEER_FEW_VECTORS;
}

bool is_fast(const steer_launch *launch, int threads, const steer_cuda_device *gpu) {
    const int elements = threads > STEER_BLOCK_THREADS || threads * 16 >= launch->hidden_size ? 16 : 32;
    return rows_are_aligned(launch) && threads * elements >= launch->hidden_size && !launch->norm &&
           launch->max_vectors >= 0 && launch->max_vectors <= most_vectors(launch, threads, gpu) &&
           launch->max_image_bytes <= MAX_STAGE_BYTES;
}

/* Bytes of the rows and vectors that a team of the tile kernel has in shared memory, where it has four rows. */
int64_t tile_slots(const steer_launch *launch, int threads, int vectors) {
    if (!steer_tile_has_slots(4, vectors)) return 0;
    return 4 * slot_bytes(launch, threads) +
           (steer_held_vectors(vectors) < vectors ? vector_bytes(threads, vectors) : 0);
}

/* Rows of a tile, as measured. Four have no room where wide elements have a residual, or in little shared memory. */
int rows_of_tile(const steer_launch *launch, const steer_rows_variant &variant, int threads,
                 const steer_cuda_device *gpu) {
    if (!rows_share(launch, gpu) || variant.elements > 16 || variant.vectors > STEER_FEW_VECTORS) return 1;
    if (variant.vectors < 2) return 2;
    const int64_t bytes =
        tile_slots(launch, threads, variant.vectors) + launch->max_image_bytes + MOST_SUMS_BYTES;
    return (element_bytes(launch) > 2 && variant.residual) || bytes > gpu->shared_bytes ? 1 : 4;
}

/* Most vectors of a program, folded adds among them, that the many kernel makes room for. */
int most_of_many(const steer_launch *launch) {
    /* Captured: a later batch may hold any program. */
    return launch->max_vectors < 0 ? 2 * STEER_MAX_OPS + 1 : std::max(launch->max_vectors, 1) + launch->both;
}

/* Rows that the tensor cores work on together: those of a program, but no multiprocessor stays without work. */
int rows_of_many(const steer_launch *launch, const steer_cuda_device *gpu) {
    int tile = 1;
    const int most = launch->max_vectors < 0               ? 2 /* captured: a later batch may be mixed */
                     : launch->max_vectors > STEER_MAX_OPS ? 4 /* room for their dots */
                                                           : STEER_MANY_ROWS;
    while (tile < most && 2 * tile <= launch->rows_per_program && launch->rows >= tile * gpu->multiprocessors)
        tile *= 2;
    return tile;
}

/* Threads of the many kernel's blocks: a warp for each step while there are some. */
int threads_of_many(const steer_launch *launch, bool large) {
    int threads = 32;
    while (threads < STEER_MANY_THREADS && 2 * threads < launch->hidden_size) threads *= 2;
    return large ? 2 * STEER_MANY_THREADS : threads;
}

/* Runs of rows that begin within tiles of so many. */
int64_t runs_within(const steer_launch *launch, int tile) {
    return launch->table ? launch->inner_runs[steer_inner_index(tile)] : 0;
}

/* Those and the tiles. */
int64_t tiles_and_runs(const steer_launch *launch, int tile) {
    return (launch->rows + tile - 1) / tile + runs_within(launch, tile);
}

/* Whether these are large: with long rows, or where no multiprocessor has work for two. */
bool is_large_many(const steer_launch *launch, int tile, const steer_cuda_device *gpu) {
    if (launch->hidden_size < STEER_MANY_SPLIT || gpu->shared_bytes < LARGE_BLOCK_BYTES) return false;
    return launch->hidden_size >= STEER_MANY_LONG || tiles_and_runs(launch, tile) <= gpu->multiprocessors;
}

/* Threads of the any kernel's blocks, and their teams, none of wide rows. */
int threads_of_any(const steer_launch *launch, int team, steer_rows_variant variant) {
    return std::max(std::min(team, (int)STEER_BLOCK_THREADS), threads_of_many(launch, variant.elements > 16));
}
int teams_of_any(const steer_launch *launch, int team, steer_rows_variant variant) {
    return threads_of_any(launch, team, variant) / team;
}

/* Whether rows are better served each in its own way, as measured: where most have few vectors beside some that have many. */
bool are_varied(const steer_launch *launch) {
    return launch->max_vectors < 0 /* captured: a later batch may be */ ||
           (launch->table && launch->max_vectors > STEER_FEW_VECTORS &&
            2 * launch->usual_vectors <= launch->max_vectors);
}

/* Steps of STEER_MANY_STEP columns of each of so many parts. */
int steps_of_part(const steer_launch *launch, int parts) {
    const int64_t steps = (launch->hidden_size + STEER_MANY_STEP - 1) / STEER_MANY_STEP;
    return (int)((steps + parts - 1) / parts);
}

/* Lays out what the many and the pair kernel have in shared memory behind their sums, but for the slots; where it ends. */
int64_t lay_out_programs(steer_rows_args *args, int64_t sums, int tiles, int warps) {
    auto &at = args->at;
    const int row = args->vectors * (int)sizeof(float);
    at.C = (int32_t)sums;
    at.p = at.C + tiles * STEER_MANY_ROWS * row;
    at.norm2 = at.p + args->tile / tiles * row;
    at.changed = at.norm2 + STEER_MANY_ROWS * (int)sizeof(float);
    at.programs = at.changed + tiles * STEER_MANY_ROWS * (int)sizeof(int);
    at.stage = at.programs + warps * STEER_MANY_PROGRAM;
    return (at.stage + args->stage_bytes + 127) / 128 * 128;
}

/* Shared memory of the pair kernel in bytes, with slots of `room` vectors, at least two of them a warp. */
int64_t plan_pair(steer_rows_args *args, const steer_launch *launch, int room, const steer_cuda_device *gpu) {
    const int warps = STEER_MANY_THREADS / 32, vectors = most_of_many(launch), most_slots = 5;
    const int64_t slot = room / STEER_MANY_GROUP * STEER_PAIR_SLOT;
    const int64_t group = STEER_PAIR_ROWS * STEER_MANY_GROUP * STEER_MANY_HALF * (int)sizeof(float);
    args->tile = STEER_PAIR_ROWS;
    args->vectors = (vectors + STEER_MANY_GROUP - 1) / STEER_MANY_GROUP * STEER_MANY_GROUP;
    args->stage_bytes = launch->max_image_bytes <= MAX_STAGE_BYTES ? (int32_t)launch->max_image_bytes : 0;
    args->each = 1;
    args->steps = steps_of_part(launch, STEER_MANY_PARTS);
    args->at.received = (int32_t)lay_out_programs(args, STEER_PAIR_GROUPS * group, 2, warps);
    args->at.rows = args->at.received + STEER_MANY_ROWS * args->vectors * (int)sizeof(float);
    args->at.slots = args->at.rows + warps * args->steps * STEER_PAIR_ROWS * STEER_MANY_STEP * 2;
    const int64_t beside = args->at.slots, slots = (gpu->shared_bytes - beside) / (warps * slot);
    args->slots = (int32_t)std::max<int64_t>(2, std::min<int64_t>(slots, most_slots));
    return beside + warps * args->slots * slot;
}

/* Whether two blocks may share rows: of programs of many vectors, with enough neighbours. */
bool may_pair(const steer_launch *launch, const steer_cuda_device *gpu) {
    return gpu->compute_major >= 9 && launch->dtype != STEER_F32 && rows_are_aligned(launch) &&
           !launch->residual && !launch->norm && launch->hidden_size >= STEER_MANY_SPLIT &&
           launch->hidden_size <= MOST_PAIRED && launch->max_vectors > STEER_MANY_ROOM &&
           launch->rows_per_program >= STEER_PAIR_ROWS &&
           launch->rows >= STEER_PAIR_ROWS / 2 * (gpu->multiprocessors / 2);
}

/* Chooses the pair kernel, with the larger slots if they fit; false where its rows have no room. */
bool choose_pair(steer_rows_variant *variant, const steer_launch *launch, const steer_cuda_device *gpu) {
    steer_rows_args args = {};
    variant->vectors = STEER_PAIR_GROUPS * STEER_MANY_GROUP;
    while (variant->vectors > 0 && plan_pair(&args, launch, variant->vectors, gpu) > gpu->shared_bytes)
        variant->vectors -= STEER_MANY_GROUP;
    if (variant->vectors == 0) return false;
    variant->family = STEER_ROWS_PAIR;
    variant->tile = STEER_PAIR_ROWS;
    return true;
}

void choose_any(steer_rows_variant *variant, const steer_launch *launch, int threads,
                const steer_cuda_device *gpu) {
    variant->family = STEER_ROWS_ANY;
    variant->elements = launch->hidden_size >= STEER_MANY_LONG ? 32 : 16;
    variant->vectors = STEER_MANY_GROUP;
    const int teams = teams_of_any(launch, threads, *variant);
    const bool four =
        !launch->residual && teams > 0 && 4 * teams <= STEER_MANY_ROWS / 2 && rows_suffice(launch, gpu);
    variant->tile = four ? 4 : 1;
}

void choose_many(steer_rows_variant *variant, const steer_launch *launch, const steer_cuda_device *gpu) {
    const int most = STEER_MANY_ROOM / STEER_MANY_GROUP; /* groups of vectors that a slot has room for */
    const int groups = (most_of_many(launch) + STEER_MANY_GROUP - 1) / STEER_MANY_GROUP;
    variant->family = STEER_ROWS_MANY;
    variant->tile = rows_of_many(launch, gpu);
    variant->vectors = (variant->aligned ? std::min(groups, most) : most) * STEER_MANY_GROUP;
    const bool large = variant->vectors == STEER_MANY_GROUP && is_large_many(launch, variant->tile, gpu);
    variant->elements = large ? 32 : 16;
}

void choose_general(steer_rows_variant *variant, const steer_launch *launch, int threads, bool share) {
    const int64_t most = MAX_TILE_BYTES / row_bytes(launch, threads);
    variant->family = STEER_ROWS_GENERAL;
    variant->tile = share && variant->aligned && most >= 4 ? 4 : 1;
}

steer_rows_variant choose(const steer_launch *launch, int threads, const steer_cuda_device *gpu) {
    steer_rows_variant variant = {};
    variant.aligned = rows_are_aligned(launch);
    variant.residual = launch->residual != nullptr;
    const bool share = rows_share(launch, gpu);
    if (launch->dtype != STEER_F32 && variant.aligned && are_varied(launch)) {
        choose_any(&variant, launch, threads, gpu);
        return variant;
    }
    if (may_pair(launch, gpu) && choose_pair(&variant, launch, gpu)) return variant;
    if (!is_fast(launch, threads, gpu)) {
        if (launch->dtype == STEER_F32)
            choose_general(&variant, launch, threads, share);
        else
            choose_many(&variant, launch, gpu);
        return variant;
    }
    const bool is_long = threads > STEER_BLOCK_THREADS;
    variant.elements = threads * 16 >= launch->hidden_size && !(is_long && variant.residual) ? 16 : 32;
    variant.vectors = launch->max_vectors < 2                   ? launch->both
                      : launch->max_vectors > STEER_FEW_VECTORS ? 8
                                                                : launch->max_vectors;
    bool walk = is_large(launch, threads, gpu) && (launch->table || variant.vectors > 0) &&
                variant.elements == 16 && variant.vectors <= STEER_FEW_VECTORS &&
                stream_bytes(launch, threads, variant.vectors) + launch->max_image_bytes + MOST_SUMS_BYTES <=
                    gpu->shared_bytes;
    variant.family = walk ? STEER_ROWS_STREAM : STEER_ROWS_TILE;
    variant.tile = walk ? steer_stream_rows(variant.vectors) : rows_of_tile(launch, variant, threads, gpu);
    variant.wide = walk ? is_long
                        : launch->dtype != STEER_F32 && threads >= STEER_BLOCK_THREADS && variant.tile == 2 &&
                              !variant.residual;
    if (is_long && !variant.wide) variant.elements = 32;
    variant.adds = !walk && !variant.wide && variant.tile == 2 && launch->max_vectors == 0;
    return variant;
}

/* Shared memory of the general kernel in bytes. A residual that has no room there is read where it lies. */
int64_t plan_general(steer_rows_args *args, const steer_launch *launch, int threads, int tile,
                     const steer_cuda_device *gpu) {
    bool any = launch->max_vectors < 0; /* captured: a later batch may hold any program */
    args->vectors = any ? 2 * STEER_MAX_OPS : std::max(launch->max_vectors, 1);
    int64_t words = 2 * (int64_t)tile * args->vectors + 2 * tile;
    int64_t beside = 2 * tile * GENERAL_DOTS * parts_bytes(threads) + (words * 4 + 15) / 16 * 16;
    int64_t image = any ? CAPTURED_STAGE_BYTES : launch->max_image_bytes;
    args->stage_bytes = image <= MAX_STAGE_BYTES ? (int32_t)image : 0;
    int64_t stage = std::max(args->stage_bytes, 16), rows = tile * row_bytes(launch, threads);
    if (launch->residual && tile == 1 && rows + beside + stage > gpu->shared_bytes) {
        args->residual_away = 1;
        rows /= 2;
    }
    if (rows + beside + stage > gpu->shared_bytes) { /* operations are read where they lie */
        args->stage_bytes = 0;
        stage = 16;
    }
    args->stage_at = (int32_t)(rows + beside);
    return rows + beside + stage;
}

/* Lays out the many kernel's shared memory, but for the slots behind it; how many bytes that is. */
int64_t lay_out_many(steer_rows_args *args, int parts, int warps, int room) {
    args->at.norms = room * parts * STEER_MANY_ROWS * (int)sizeof(float); /* behind the sums of the parts */
    const int sums = args->at.norms + parts * STEER_MANY_ROWS * (int)sizeof(float);
    args->at.slots = (int32_t)lay_out_programs(args, sums, 1, warps);
    return args->at.slots;
}

/* Shared memory of the many kernel in bytes: half of what there is, so that another block finds room, unless few steps
 * would be on their way then. */
int64_t plan_many(steer_rows_args *args, const steer_launch *launch, int threads, int tile,
                  steer_rows_variant variant, const steer_cuda_device *gpu) {
    const bool any = launch->max_vectors < 0;
    const int64_t image = any ? CAPTURED_STAGE_BYTES : launch->max_image_bytes;
    const int vectors = most_of_many(launch), warps = threads / 32;
    const int parts = /* at least one a warp: rows of few vectors have their sums there too */
        launch->hidden_size < STEER_MANY_SPLIT ? threads_of_many(launch, false) / 32 : STEER_MANY_PARTS;
    const int room = std::max(variant.vectors, (int)STEER_MANY_GROUP);
    const int64_t steps = (launch->hidden_size + STEER_MANY_STEP - 1) / STEER_MANY_STEP;
    args->tile = tile;
    args->vectors = (vectors + STEER_MANY_GROUP - 1) / STEER_MANY_GROUP * STEER_MANY_GROUP;
    args->stage_bytes = image <= MAX_STAGE_BYTES ? (int32_t)image : 0;
    args->each = parts / warps;
    args->steps = steps_of_part(launch, parts);
    args->parts = (int32_t)((steps + args->steps - 1) / args->steps);
    const int64_t beside = lay_out_many(args, parts, warps, room);
    const int64_t slot = steer_many_slot_bytes(room);
    const int64_t half = ((gpu->shared_bytes - 1024) / 2 - beside) / (warps * slot),
                  full = (gpu->shared_bytes - beside) / (warps * slot);
    const int64_t wanted = args->each * args->steps * ((vectors + room - 1) / room);
    const bool enough = variant.family == STEER_ROWS_ANY || half >= std::min<int64_t>(wanted, 3);
    args->slots = (int32_t)std::max<int64_t>(1, std::min(wanted, enough ? half : full));
    return beside + warps * args->slots * slot;
}

/* Shared memory of the any kernel in bytes: what its teams need, or the many kernel. */
int64_t plan_any(steer_rows_args *args, const steer_launch *launch, int threads, steer_rows_variant variant,
                 const steer_cuda_device *gpu) {
    int64_t team =
        variant.tile * steer_sums_room(STEER_FEW_VECTORS) * parts_bytes(args->team) + STEER_ANY_STAGE;
    if (variant.tile > 1)
        team += variant.tile * slot_bytes(launch, args->team) + vector_bytes(args->team, STEER_FEW_VECTORS);
    const int teams = teams_of_any(launch, args->team, variant), tile = std::max(1, teams) * variant.tile;
    args->tile_bytes = (int32_t)team;
    args->turns = 1;
    return std::max(plan_many(args, launch, threads, tile, variant, gpu), teams * team);
}

/* Shared memory of a launch in bytes, noting in `args` what the kernels must know of it. */
int64_t plan_shared(steer_rows_args *args, const steer_launch *launch, int threads,
                    steer_rows_variant variant, const steer_cuda_device *gpu) {
    const bool is_long = launch->dtype != STEER_F32 && variant.elements > 16;
    const int64_t room = steer_sums_room(variant.vectors) * /* of a row's sums */
                         parts_bytes(variant.wide || is_long ? STEER_WIDE_THREADS : threads);
    int64_t stage = variant.vectors > 1 ? (launch->max_image_bytes + 15) / 16 * 16 : 0;
    if (variant.family == STEER_ROWS_TILE) {
        int64_t rows = variant.tile == 4 ? tile_slots(launch, threads, variant.vectors) : 0;
        args->stage_bytes = (int32_t)stage;
        args->tile_bytes = (int32_t)(variant.tile * room + stage + rows);
        return args->tile_bytes;
    }
    if (variant.family == STEER_ROWS_STREAM)
        return stream_bytes(launch, threads, variant.vectors) + 2 * variant.tile * room + stage;
    if (variant.family == STEER_ROWS_MANY)
        return plan_many(args, launch, threads, variant.tile, variant, gpu);
    if (variant.family == STEER_ROWS_ANY) return plan_any(args, launch, threads, variant, gpu);
    if (variant.family == STEER_ROWS_PAIR) return plan_pair(args, launch, variant.vectors, gpu);
    return plan_general(args, launch, threads, variant.tile, gpu);
}

/* Threads of a multiprocessor that registers suffice for. */
int threads_at_once(const steer_launch *launch, const steer_rows_variant &variant) {
    if (variant.family == STEER_ROWS_ANY) return STEER_BLOCK_THREADS;
    if (variant.family == STEER_ROWS_PAIR) return STEER_MANY_THREADS;
    if (variant.family == STEER_ROWS_MANY)
        return steer_many_shares(variant.vectors) ? 2 * STEER_MANY_THREADS : STEER_MANY_THREADS;
    if (variant.wide) return STEER_WIDE_THREADS;
    return steer_most_threads(variant.vectors) *
           steer_blocks_for((int)element_bytes(launch), variant.elements, variant.vectors, variant.residual);
}

/* Blocks that run at once. */
int64_t blocks_at_once(const steer_launch *launch, const steer_rows_variant &variant, int threads,
                       int64_t shared, const steer_cuda_device *gpu) {
    return gpu->multiprocessors * std::min<int64_t>((gpu->shared_bytes + 1024) / (shared + 1024),
                                                    threads_at_once(launch, variant) / threads);
}
int64_t blocks_at_once(const steer_launch *launch, const steer_rows_plan &plan,
                       const steer_cuda_device *gpu) {
    return blocks_at_once(launch, plan.variant, plan.threads, plan.shared, gpu);
}

/* Blocks for runs that begin within tiles, behind `blocks` that have these; in a graph, which may be replayed with more of them, as
 * many as run beside these. */
int64_t blocks_within(const steer_launch *launch, const steer_rows_plan &plan, int64_t blocks,
                      const steer_cuda_device *gpu) {
    const steer_rows_variant &variant = plan.variant;
    const bool many = variant.family == STEER_ROWS_MANY && steer_many_shares(variant.vectors);
    if (!launch->table || variant.tile < 2 ||
        !(many || variant.family == STEER_ROWS_TILE || variant.family == STEER_ROWS_ANY))
        return 0;
    const int teams = many ? 1 : plan.threads / plan.args.team;
    const int64_t runs = std::max<int64_t>(runs_within(launch, variant.tile), launch->replayed);
    const int64_t at_once = blocks_at_once(launch, plan, gpu);
    int64_t own = (runs + teams - 1) / teams;
    if (many) own = std::min(own, at_once - blocks); /* a block serves any number of them */
    if (!launch->replayed) return own;
    const int64_t beside = at_once - 1 - (blocks + own - 1) % at_once;
    return own + std::min(beside, blocks / 4);
}

/* Neighbouring blocks that are to share multiprocessors, and so the cache's copies of a vector, as measured: tiles of one vector
 * a program with 128 threads. Larger clusters share more, where the launch fills the chip but for a little. */
int cluster_of_tiles(const steer_launch *launch, const steer_rows_plan &plan, int64_t blocks, int64_t all,
                     const steer_cuda_device *gpu) {
    const steer_rows_variant &variant = plan.variant;
    if (gpu->compute_major < 9 || variant.family != STEER_ROWS_TILE || !launch->table || variant.tile != 2 ||
        variant.vectors != 0 || variant.adds || variant.residual || element_bytes(launch) > 2 ||
        plan.threads != 128)
        return 1;
    const int64_t at_once = blocks_at_once(launch, plan, gpu);
    const bool fills = blocks > at_once - at_once / 16 && all <= at_once;
    return fills && gpu->compute_major <= 10 ? 2 * STEER_PORTABLE_CLUSTER : STEER_PORTABLE_CLUSTER;
}

/* Teams of a tile block, which share the cache's copies of vectors, as measured: two with several vectors, four where nobody
 * waits, unless that left a multiprocessor more tiles than it would have alone. */
int teams_of_tile(const steer_rows_args &args, const steer_launch *launch, steer_rows_variant variant,
                  const steer_cuda_device *gpu) {
    const int64_t tiles = tiles_and_runs(launch, variant.tile), all = gpu->multiprocessors;
    auto most = [&](int64_t blocks) { return (blocks + all - 1) / all; }; /* of a multiprocessor */
    int teams = variant.adds ? 4 : variant.tile == 4 ? 2 : 1;
    while (teams > 1 &&
           (teams * args.team > STEER_BLOCK_THREADS || teams * args.tile_bytes > gpu->shared_bytes ||
            teams * most((tiles + teams - 1) / teams) > most(tiles)))
        teams /= 2;
    return teams;
}

/* Rows that a block serves: a tile, or where it walks, enough of them to pay for what it loads once. */
int64_t rows_of_block(steer_rows_args *args, const steer_launch *launch, int threads, int64_t shared,
                      steer_rows_variant variant, const steer_cuda_device *gpu) {
    if (variant.family == STEER_ROWS_MANY || variant.family == STEER_ROWS_PAIR) {
        const int64_t tiles = (launch->rows + variant.tile - 1) / variant.tile;
        const int64_t at_once = blocks_at_once(launch, variant, threads, shared, gpu) /
                                (variant.family == STEER_ROWS_PAIR ? 2 : 1);
        args->turns = (int32_t)((tiles + at_once - 1) / at_once);
        return (int64_t)args->turns * variant.tile;
    }
    if (variant.family == STEER_ROWS_ANY) return args->tile;
    if (variant.family == STEER_ROWS_STREAM) return args->turns = variant.vectors > 1 ? 64 : 16;
    if (variant.family == STEER_ROWS_TILE) return (int64_t)variant.tile * (threads / args->team);
    args->turns = is_large(launch, threads, gpu) ? 4 : 1;
    return args->turns * variant.tile;
}

} // namespace

/* Lets a kernel use all the shared memory there is and clusters of any size, once per device. */
int steer_cuda_allow_most(const void *kernel, const steer_cuda_device *gpu) {
    static std::atomic<const void *> allowed[STEER_CUDA_MAX_DEVICES][64];
    std::atomic<const void *> *slot = allowed[gpu->index], *const end = slot + 64;
    for (; slot < end; slot++) {
        const void *known = slot->load(std::memory_order_relaxed);
        if (known == kernel) return STEER_OK;
        if (!known) break;
    }
    STEER_CUDA_TRY(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, gpu->shared_bytes));
    if (gpu->compute_major >= 9)
        STEER_CUDA_TRY(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
    /* Two threads may both do it, and where the table is full it is done each time: no harm. */
    if (slot < end) slot->store(kernel, std::memory_order_relaxed);
    return STEER_OK;
}

int steer_cuda_plan_rows(steer_rows_plan *plan, const steer_launch *launch, const steer_cuda_device *gpu) {
    int threads = team_of(launch);
    steer_rows_args args = {};
    args.hidden = launch->hidden;
    args.residual = launch->residual;
    args.hidden_stride = launch->hidden_stride;
    args.residual_stride = launch->residual_stride;
    args.rows = launch->rows;
    args.table = launch->table;
    args.inner = launch->inner;
    args.replayed = launch->replayed;
    args.hidden_size = (int32_t)launch->hidden_size;
    args.team = threads;
    args.layer = launch->layer;
    args.upper_mask = 0xffffe000u;
    if (launch->uniform) args.entry = *launch->uniform;
    steer_rows_variant variant = choose(launch, threads, gpu);
    if (variant.family == STEER_ROWS_MANY) threads = threads_of_many(launch, variant.elements > 16);
    if (variant.family == STEER_ROWS_PAIR) threads = STEER_MANY_THREADS;
    if (variant.family == STEER_ROWS_ANY) threads = threads_of_any(launch, threads, variant);
    if (variant.family == STEER_ROWS_TILE || variant.family == STEER_ROWS_STREAM)
        args.team = threads = variant.wide ? busy_of(launch) : std::min(threads, (int)STEER_BLOCK_THREADS);
    int64_t shared = plan_shared(&args, launch, threads, variant, gpu);
    if (shared > gpu->shared_bytes)
        return STEER_CUDA_FAIL(
            STEER_E_UNSUPPORTED,
            "hidden: %lld with programs of %d vectors needs %lld bytes of shared memory, the "
            "device has %d",
            (long long)launch->hidden_size, launch->max_vectors, (long long)shared, gpu->shared_bytes);
    if (variant.family == STEER_ROWS_TILE) {
        const int teams = teams_of_tile(args, launch, variant, gpu);
        shared *= teams;
        threads *= teams;
    }
    int64_t rows_each = rows_of_block(&args, launch, threads, shared, variant, gpu);
    const int64_t blocks = (launch->rows + rows_each - 1) / rows_each;
    const int each = variant.family == STEER_ROWS_PAIR ? 2 : 1; /* blocks that share rows */
    *plan = {variant, args, 0, threads, (int)shared, each};
    const int64_t all = each * (blocks + blocks_within(launch, *plan, blocks, gpu));
    if (each == 1) plan->cluster = cluster_of_tiles(launch, *plan, blocks, all, gpu);
    if (all > INT32_MAX - plan->cluster)
        return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "rows: %lld is beyond one launch",
                               (long long)launch->rows);
    plan->args.blocks = (uint32_t)blocks;
    plan->blocks = (unsigned)((all + plan->cluster - 1) / plan->cluster * plan->cluster);
    return STEER_OK;
}

int steer_cuda_steer(void *device, const steer_launch *launch) {
    steer_cuda_device *gpu = (steer_cuda_device *)device;
    steer_rows_plan plan;
    STEER_CUDA_CHECK(steer_cuda_enter(gpu));
    if (launch->rows == 0) return STEER_OK;
    if (launch->plain) {
        STEER_CUDA_CHECK(steer_cuda_plan_rows(&plan, launch, gpu));
        STEER_CUDA_CHECK(steer_cuda_launch_rows(gpu, steer_rows_select(launch->dtype, plan.variant),
                                                plan.args, plan.blocks, plan.threads, plan.shared,
                                                plan.cluster));
    }
    return launch->blocks ? steer_cuda_steer_blocks(gpu, launch) : STEER_OK;
}

/* For tests, on machines without a device: how a launch would be served on one with so much of the two. `args` and
 * `variant` have room for steer_rows_args and steer_rows_variant. */
extern "C" __attribute__((visibility("default"))) int
steer_cuda_trial_plan(void *args, void *variant, unsigned *blocks, int *threads, int *shared,
                      const steer_launch *launch, int multiprocessors, int shared_bytes) {
    steer_cuda_device gpu = {};
    steer_rows_plan plan;
    gpu.multiprocessors = multiprocessors;
    gpu.shared_bytes = shared_bytes;
    gpu.l2_bytes = 50 << 20;
    gpu.compute_major = shared_bytes < LARGE_BLOCK_BYTES ? 8 : 9;
    STEER_CUDA_CHECK(steer_cuda_plan_rows(&plan, launch, &gpu));
    *(steer_rows_args *)args = plan.args;
    *(steer_rows_variant *)variant = plan.variant;
    *blocks = plan.blocks;
    *threads = plan.threads;
    *shared = plan.shared;
    return STEER_OK;
}
