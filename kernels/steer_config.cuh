/* steer_config.cuh: which kernel serves a launch, and its geometry. Host code that asks nothing of a device or a toolkit.
 *
 *     16-bit rows     programs of few vectors    stream, tile; where registers do not hold them, general
 *                     programs of many           mma
 *     f32 rows        all programs               stream, tile; where registers do not hold them, general
 *
 * A launch has one kernel for each class of programs that its rows may have; each leaves the rows of the other alone. Which of a class
 * serves, the table of families at the end says: the first that can. A row has the same bits in all kernels of its class. */
#ifndef STEER_KERNELS_STEER_CONFIG_CUH
#define STEER_KERNELS_STEER_CONFIG_CUH

#include "backend/backend.h"
#include "steer_common.cuh"

#include <algorithm>
#include <stdio.h>
#include <string.h>

/* What plans depend on of a device: fields as in steer_cuda_device. */
struct steer_config_device {
    int multiprocessors, shared_bytes, l2_bytes, compute_major;
};

/* A launch on a device, and what most decisions ask of the two. */
struct steer_situation {
    const steer_launch *launch;
    const steer_config_device *gpu;
    steer_needs needs; /* of the programs that it is for */
    int element;       /* bytes of one */
    int team;          /* threads that share a row, 16 elements each */
    bool aligned;      /* rows are multiples of 16 bytes */
    bool
        share; /* rows of a tile share what they load; where few are left for a multiprocessor they go alone */
};

namespace {

/* ---- Thresholds ----------------------------------------------------------------------------------------------
 *
 * Times are of the log of kernel versions. */

/* Neighbours of one program, and rows of a multiprocessor, from which tiles of several rows pay: with fewer, rows wait for vectors
 * that nobody shares, and multiprocessors for rows (B: tiles of one; A: two rows 3.81 us, four 3.96). */
const int LEAST_SHARED_ROWS = 4, LEAST_ROWS_EACH = 8;
/* Rows that a stream block walks along, of one vector and of several, which it loads once: C add+cap+ablate took 957 us with 8 rows
 * and 653 with 64; one vector costs less than the rows that end late. */
const int STREAM_TURNS_ONE = 16, STREAM_TURNS_MORE = 64;
/* Threads of the tile blocks that gain from clusters: A cap 4.09 to 4.01, but with 64 or 256 threads it was slower. */
const int CLUSTER_THREADS = 128;
/* general: bytes of the four rows of a tile at most, which leaves room for what is beside them (eight rows: too few warps, 64 caps
 * 107 instead of 94), and tiles that a block works through where the batch is beyond the cache. */
const int64_t MAX_TILE_BYTES = 128 * 1024;
const int GENERAL_TURNS = 4;
/* Bytes that a program's image is given on chip: 64 operations take 21 KB. Where the largest are larger, they are read where they
 * lie, and others have the small stage. */
const int64_t MAX_STAGE_BYTES = 32 * 1024, SMALL_STAGE_BYTES = 8 * 1024;
/* Bytes of a block's sums in registers' kernels, at most. */
const int64_t MOST_SUMS_BYTES = 4 * 1024;
/* Bytes of shared memory that mma's blocks of twice the threads ask for: half the steps would be on their way in less. */
const int64_t LARGE_BLOCK_BYTES = 200 * 1024;

/* ---- A launch ------------------------------------------------------------------------------------------------- */

bool is_aligned(const void *data, int64_t stride, int element) {
    return (uintptr_t)data % 16 == 0 && (size_t)stride * (size_t)element % 16 == 0;
}

/* Whether each multiprocessor has rows for tiles of several. */
bool rows_suffice(const steer_launch *launch, const steer_config_device *gpu) {
    return launch->rows >= LEAST_ROWS_EACH * gpu->multiprocessors;
}

steer_situation situation_of(const steer_launch *launch, const steer_needs *needs,
                             const steer_config_device *gpu) {
    steer_situation s = {};
    s.launch = launch;
    s.gpu = gpu;
    s.needs = *needs;
    s.element = launch->dtype == STEER_F32 ? 4 : 2;
    s.team = steer_team_of(launch->hidden_size, s.element > 2 ? STEER_BLOCK_THREADS : STEER_WIDE_THREADS);
    s.aligned = launch->hidden_size * s.element % 16 == 0 &&
                is_aligned(launch->hidden, launch->hidden_stride, s.element) &&
                (!launch->residual || is_aligned(launch->residual, launch->residual_stride, s.element));
    s.share = launch->rows_per_program >= LEAST_SHARED_ROWS && rows_suffice(launch, gpu);
    return s;
}

/* Bytes of one value's parts, one a warp. */
int64_t parts_bytes(int threads) { return std::max(4, threads / 32) * (int64_t)sizeof(float); }

/* Bytes of a tile row in shared memory. */
int64_t row_bytes(const steer_situation &s, int threads) {
    int64_t round = (int64_t)threads * 16, elements = (s.launch->hidden_size + round - 1) / round * round;
    return elements * s.element * (s.launch->residual ? 2 : 1);
}

/* Bytes of a row in a slot of shared memory, where every thread has room for its 16 elements. */
int64_t slot_bytes(const steer_situation &s, int threads) {
    return (int64_t)threads * 16 * s.element * (s.launch->residual ? 2 : 1);
}

/* Bytes of the slots of vectors that do not stay in registers. */
int64_t vector_bytes(int threads, int vectors) {
    return (int64_t)steer_vector_slots(vectors) * threads * 16 * (int64_t)sizeof(float);
}

/* More than the last-level cache keeps. */
bool is_large(const steer_situation &s) { return s.launch->rows * row_bytes(s, s.team) > s.gpu->l2_bytes; }

/* Runs of rows that begin within tiles of so many. */
int64_t runs_within(const steer_launch *launch, int tile) {
    return launch->table ? launch->inner_runs[steer_inner_index(tile)] : 0;
}
/* Those and the tiles. */
int64_t tiles_and_runs(const steer_launch *launch, int tile) {
    return (launch->rows + tile - 1) / tile + runs_within(launch, tile);
}

/* Threads of a multiprocessor that registers suffice for. */
int threads_at_once(const steer_situation &s, const steer_rows_variant &v) {
    if (v.family == STEER_ROWS_MMA)
        return steer_mma_shares(v.vectors) ? 2 * STEER_MMA_THREADS : STEER_MMA_THREADS;
    if (v.wide) return STEER_WIDE_THREADS;
    return steer_most_threads(v.vectors) * steer_blocks_for(s.element, v.elements, v.vectors, v.residual);
}

/* Blocks that run at once. */
int64_t blocks_at_once(const steer_situation &s, const steer_launch_config &config) {
    return s.gpu->multiprocessors * std::min<int64_t>((s.gpu->shared_bytes + 1024) / (config.shared + 1024),
                                                      threads_at_once(s, config.variant) / config.threads);
}

/* Blocks for runs that begin within tiles, behind those that have these, each of them for `teams` of the runs; in a graph, which may be
 * replayed with more of them, as many as run beside these. */
int64_t blocks_within(const steer_situation &s, const steer_launch_config &config, int teams) {
    const int64_t blocks = config.args.blocks, at_once = blocks_at_once(s, config);
    const int64_t runs = std::max<int64_t>(runs_within(s.launch, config.variant.tile), s.launch->replayed);
    int64_t own = (runs + teams - 1) / teams;
    if (config.variant.family == STEER_ROWS_MMA)
        own = std::min(own, at_once - blocks); /* a block serves any number of them */
    if (!s.launch->replayed) return own;
    const int64_t beside = at_once - 1 - (blocks + own - 1) % at_once;
    return own + std::min(beside, blocks / 4);
}

/* Gives the config the blocks for its rows, each of so many. */
void set_blocks(steer_launch_config *config, const steer_situation &s, int64_t rows_each) {
    config->blocks = (s.launch->rows + rows_each - 1) / rows_each;
    config->args.blocks = (uint32_t)config->blocks;
}

/* Room for a program image. Where the largest ones are read where they lie, others still find some. */
int32_t stage_room(const steer_situation &s) {
    const int64_t bytes = s.needs.max_image_bytes;
    return (int32_t)(bytes <= MAX_STAGE_BYTES ? (bytes + 15) / 16 * 16 : SMALL_STAGE_BYTES);
}

/* ---- tile and stream: few vectors, in registers ------------------------------------------------------------------ */

/* Most vectors that the register kernels hold. */
int most_in_registers(const steer_situation &s) {
    if (s.team > STEER_BLOCK_THREADS || s.team * 16 < s.launch->hidden_size) return 1;
    return s.element > 2 && s.team <= STEER_EIGHT_THREADS && !s.share ? 8 : STEER_REGISTER_VECTORS;
}

bool fits_registers(const steer_situation &s) {
    const int elements = s.team > STEER_BLOCK_THREADS || s.team * 16 >= s.launch->hidden_size ? 16 : 32;
    return s.aligned && s.team * elements >= s.launch->hidden_size && !s.needs.norm &&
           s.needs.max_vectors <= most_in_registers(s) && s.needs.max_image_bytes <= MAX_STAGE_BYTES;
}

/* Vectors of the kernel that serves it. */
int register_vectors_of(const steer_situation &s) {
    return s.needs.max_vectors < 2                        ? s.needs.both
           : s.needs.max_vectors > STEER_REGISTER_VECTORS ? 8
                                                          : s.needs.max_vectors;
}

/* Elements of a thread: 32 where a team is larger than a block that is not wide. */
int register_elements(const steer_situation &s) {
    const bool is_long = s.team > STEER_BLOCK_THREADS;
    return s.team * 16 >= s.launch->hidden_size && !(is_long && s.launch->residual) ? 16 : 32;
}

/* Threads of a team in a block: in a wide one those that have columns, as the others would add zeros. */
int register_team(const steer_situation &s, bool wide) {
    return wide ? (int)((s.launch->hidden_size + 511) / 512 * 32)
                : std::min(s.team, (int)STEER_BLOCK_THREADS);
}

int64_t register_stage(const steer_situation &s, int vectors) {
    return vectors > 1 ? (s.needs.max_image_bytes + 15) / 16 * 16 : 0;
}

/* Bytes of a row's sums. */
int64_t register_sums(const steer_situation &s, const steer_rows_variant &v, int team) {
    const bool is_long = s.element < 4 && v.elements > 16;
    return steer_sums_room(v.vectors) * parts_bytes(v.wide || is_long ? STEER_WIDE_THREADS : team);
}

/* Bytes of the rows and vectors that a stream block has in shared memory. */
int64_t stream_bytes(const steer_situation &s, int threads, int vectors) {
    return steer_stream_ring(vectors) * slot_bytes(s, threads) + vector_bytes(threads, vectors);
}

/* A batch beyond the cache: a block keeps the vectors while it walks along rows on their way from memory. */
bool serves_stream(const steer_situation &s) {
    const int vectors = register_vectors_of(s);
    return fits_registers(s) && is_large(s) && (s.launch->table || vectors > 0) &&
           register_elements(s) == 16 && vectors <= STEER_REGISTER_VECTORS &&
           stream_bytes(s, s.team, vectors) + s.needs.max_image_bytes + MOST_SUMS_BYTES <=
               s.gpu->shared_bytes;
}

void configure_stream(steer_launch_config *config, const steer_situation &s) {
    steer_rows_variant &v = config->variant;
    v.elements = 16;
    v.vectors = register_vectors_of(s);
    v.tile = steer_stream_rows(v.vectors);
    v.wide = s.team > STEER_BLOCK_THREADS;
    const int threads = register_team(s, v.wide);
    config->threads = config->args.team = threads;
    config->shared = stream_bytes(s, threads, v.vectors) + 2 * v.tile * register_sums(s, v, threads) +
                     register_stage(s, v.vectors);
    config->args.turns = v.vectors > 1 ? STREAM_TURNS_MORE : STREAM_TURNS_ONE;
    set_blocks(config, s, config->args.turns);
}

bool serves_tile(const steer_situation &s) { return fits_registers(s); }

/* Bytes of the rows and vectors that a team of four rows has in shared memory. */
int64_t tile_slots(const steer_situation &s, int threads, int vectors) {
    if (!steer_tile_has_slots(4, vectors)) return 0;
    return 4 * slot_bytes(s, threads) +
           (steer_register_vectors(vectors) < vectors ? vector_bytes(threads, vectors) : 0);
}

/* Rows of a tile, as measured. Four have no room where wide elements have a residual, or in little shared memory. */
int rows_of_tile(const steer_situation &s, const steer_rows_variant &v) {
    if (!s.share || v.elements > 16 || v.vectors > STEER_REGISTER_VECTORS) return 1;
    if (v.vectors < 2) return 2;
    const int64_t bytes = tile_slots(s, s.team, v.vectors) + s.needs.max_image_bytes + MOST_SUMS_BYTES;
    return (s.element > 2 && v.residual) || bytes > s.gpu->shared_bytes ? 1 : 4;
}

/* Whether so many blocks fill the chip but for a little, which holds `at_once`. */
bool fills(int64_t blocks, int64_t at_once) { return blocks >= at_once - at_once / 16; }

/* Teams of a tile block, which share the cache's copies of vectors, as measured: two with several vectors, four where nobody
 * waits, unless that left a multiprocessor more tiles than it would have alone; and where nobody waits, blocks that do not fill the
 * chip are small ones, as the next launch fills it up (adds to 1472 rows: 3.5 us in blocks of two teams, 2.6 in those of one). */
int teams_of_tile(const steer_launch_config &config, const steer_situation &s) {
    const steer_rows_variant &v = config.variant;
    const int64_t tiles = tiles_and_runs(s.launch, v.tile), all = s.gpu->multiprocessors;
    auto most = [&](int64_t blocks) { return (blocks + all - 1) / all; }; /* of a multiprocessor */
    int teams = v.adds ? 4 : v.tile == 4 ? 2 : 1;
    while (teams > 1 &&
           (teams * config.threads > STEER_BLOCK_THREADS || teams * config.shared > s.gpu->shared_bytes ||
            teams * most((tiles + teams - 1) / teams) > most(tiles)))
        teams /= 2;
    const int64_t at_once = all * (threads_at_once(s, v) / (teams * config.threads));
    return v.adds && !fills(tiles / teams, at_once) ? 1 : teams;
}

/* Neighbouring blocks that are to share multiprocessors, and so the cache's copies of a vector, as measured: tiles of one vector
 * a program. Larger clusters share more, where the launch fills the chip but for a little. */
int cluster_of_tiles(const steer_launch_config &config, const steer_situation &s, int64_t all) {
    const steer_rows_variant &v = config.variant;
    if (s.gpu->compute_major < 9 || !s.launch->table || v.tile != 2 || v.vectors != 0 || v.adds ||
        v.residual || s.element > 2 || config.threads != CLUSTER_THREADS)
        return 1;
    const int64_t at_once = blocks_at_once(s, config);
    const bool once = fills(config.args.blocks, at_once) && all <= at_once;
    return once && s.gpu->compute_major <= 10 ? 2 * STEER_PORTABLE_CLUSTER : STEER_PORTABLE_CLUSTER;
}

void configure_tile(steer_launch_config *config, const steer_situation &s) {
    steer_rows_variant &v = config->variant;
    v.elements = register_elements(s);
    v.vectors = register_vectors_of(s);
    v.tile = rows_of_tile(s, v);
    v.wide = s.element < 4 && s.team >= STEER_BLOCK_THREADS && v.tile == 2 && !v.residual;
    if (s.team > STEER_BLOCK_THREADS && !v.wide) v.elements = 32;
    v.adds = !v.wide && v.tile == 2 && s.needs.max_vectors == 0;
    const int team = register_team(s, v.wide);
    config->threads = config->args.team = team;
    config->args.stage_bytes = (int32_t)register_stage(s, v.vectors);
    config->shared = v.tile * register_sums(s, v, team) + config->args.stage_bytes +
                     (v.tile == 4 ? tile_slots(s, team, v.vectors) : 0);
    config->args.tile_bytes = (int32_t)config->shared;
    const int teams = teams_of_tile(*config, s);
    config->shared *= teams;
    config->threads *= teams;
    set_blocks(config, s, v.tile * teams);
    const int64_t all =
        config->blocks + (s.launch->table && v.tile > 1 ? blocks_within(s, *config, teams) : 0);
    config->cluster = cluster_of_tiles(*config, s, all);
    config->blocks = (all + config->cluster - 1) / config->cluster * config->cluster;
}

/* ---- general: every program, where the others do not reach --------------------------------------------------------- */

bool serves_general(const steer_situation &) { return true; }

/* A residual that has no room in shared memory is read where it lies. */
void configure_general(steer_launch_config *config, const steer_situation &s) {
    steer_rows_variant &v = config->variant;
    steer_rows_args *args = &config->args;
    const int64_t most = MAX_TILE_BYTES / row_bytes(s, s.team);
    v.tile =
        s.element > 2 && s.share && v.aligned && most >= 4 ? 4 : 1; /* wide blocks have registers for one */
    config->threads = s.team;
    args->vectors = std::max(s.needs.max_vectors, 1);
    const int dots = s.element > 2 ? general_dots<float>() : general_dots<uint16_t>();
    int64_t words = 2 * (int64_t)v.tile * args->vectors + 2 * v.tile;
    int64_t beside = 2 * v.tile * dots * parts_bytes(s.team) + (words * 4 + 15) / 16 * 16;
    args->stage_bytes = stage_room(s);
    int64_t stage = std::max(args->stage_bytes, 16), rows = v.tile * row_bytes(s, s.team);
    if (v.residual && v.tile == 1 && rows + beside + stage > s.gpu->shared_bytes) {
        args->residual_away = 1;
        rows /= 2;
    }
    if (rows + beside + stage > s.gpu->shared_bytes) { /* operations are read where they lie */
        args->stage_bytes = 0;
        stage = 16;
    }
    args->stage_at = (int32_t)(rows + beside);
    config->shared = rows + beside + stage;
    args->turns = is_large(s) ? GENERAL_TURNS : 1;
    set_blocks(config, s, (int64_t)args->turns * v.tile);
}

/* ---- mma: 16-bit rows and many vectors, on tensor cores -------------------------------------------------------------- */

/* Most vectors of a program, folded adds among them, that the mma kernel makes room for. */
int most_of_mma(const steer_situation &s) { return std::max(s.needs.max_vectors, 1) + s.needs.both; }

/* Rows that the tensor cores work on together: those of a program, but no multiprocessor stays without work. */
int rows_of_mma(const steer_situation &s) {
    int tile = 1;
    const int most = s.needs.max_vectors > STEER_MAX_OPS ? 4 : STEER_MMA_ROWS; /* room for their dots */
    while (tile < most && 2 * tile <= s.launch->rows_per_program &&
           s.launch->rows >= tile * s.gpu->multiprocessors)
        tile *= 2;
    return tile;
}

/* Threads of the mma kernel's blocks: a warp for each step while there are some. */
int threads_of_mma(const steer_situation &s, bool large) {
    int threads = 32;
    while (threads < STEER_MMA_THREADS && 2 * threads < s.launch->hidden_size) threads *= 2;
    return large ? 2 * STEER_MMA_THREADS : threads;
}

/* Whether its blocks are large: with long rows, or where no multiprocessor has work for two. */
bool is_large_mma(const steer_situation &s, int tile) {
    if (s.launch->hidden_size < STEER_MMA_SPLIT || s.gpu->shared_bytes < LARGE_BLOCK_BYTES) return false;
    return s.launch->hidden_size >= STEER_MMA_LONG ||
           tiles_and_runs(s.launch, tile) <= s.gpu->multiprocessors;
}

/* Steps of STEER_MMA_STEP columns. */
int64_t steps_of(const steer_situation &s) {
    return (s.launch->hidden_size + STEER_MMA_STEP - 1) / STEER_MMA_STEP;
}

/* Lays out the mma kernel's shared memory; bytes of it: half of what there is, so that another block finds room, unless few steps
 * would be on their way then. */
int64_t lay_out_mma(steer_rows_args *args, const steer_situation &s, int threads,
                    const steer_rows_variant &v) {
    const int64_t steps = steps_of(s);
    const int vectors = most_of_mma(s), warps = threads / 32;
    const int parts = /* of which each has sums of its own, whatever number of warps there is */
        s.launch->hidden_size < STEER_MMA_SPLIT ? threads_of_mma(s, false) / 32 : STEER_MMA_PARTS;
    const int room = std::max(v.vectors, (int)STEER_MMA_GROUP);
    args->tile = v.tile;
    args->vectors = (vectors + STEER_MMA_GROUP - 1) / STEER_MMA_GROUP * STEER_MMA_GROUP;
    args->each = parts / warps;
    args->steps = (int32_t)((steps + parts - 1) / parts);
    args->parts = (int32_t)((steps + args->steps - 1) / args->steps);
    auto &at = args->at;
    const int row = args->vectors * (int)sizeof(float);
    at.norms = room * parts * STEER_MMA_ROWS * (int)sizeof(float); /* behind the sums of the parts */
    at.C = at.norms + parts * STEER_MMA_ROWS * (int)sizeof(float);
    at.p = at.C + STEER_MMA_ROWS * row;
    at.norm2 = at.p + args->tile * row;
    at.changed = at.norm2 + STEER_MMA_ROWS * (int)sizeof(float);
    at.programs = at.changed + STEER_MMA_ROWS * (int)sizeof(int);
    at.stage = at.programs + warps * STEER_MMA_PROGRAM;
    at.slots = (at.stage + args->stage_bytes + 127) / 128 * 128;
    const int64_t beside = at.slots;
    const int64_t slot = steer_mma_slot_bytes(room);
    const int64_t half = ((s.gpu->shared_bytes - 1024) / 2 - beside) / (warps * slot),
                  full = (s.gpu->shared_bytes - beside) / (warps * slot);
    const int64_t wanted = args->each * args->steps * ((vectors + room - 1) / room);
    const bool enough = half >= std::min<int64_t>(wanted, 3);
    args->slots = (int32_t)std::max<int64_t>(1, std::min(wanted, enough ? half : full));
    return beside + warps * args->slots * slot;
}

bool serves_mma(const steer_situation &s) {
    return s.element < 4 && !steer_fits_registers(s.needs.max_vectors, s.needs.norm);
}

void configure_mma(steer_launch_config *config, const steer_situation &s) {
    steer_rows_variant &v = config->variant;
    const int most = STEER_MMA_ROOM / STEER_MMA_GROUP; /* groups of vectors that a slot has room for */
    const int groups = (most_of_mma(s) + STEER_MMA_GROUP - 1) / STEER_MMA_GROUP;
    v.tile = rows_of_mma(s);
    v.vectors = (v.aligned ? std::min(groups, most) : most) * STEER_MMA_GROUP;
    v.elements = v.vectors == STEER_MMA_GROUP && is_large_mma(s, v.tile) ? 32 : 16;
    config->threads = threads_of_mma(s, v.elements > 16);
    config->args.stage_bytes = stage_room(s);
    config->shared = lay_out_mma(&config->args, s, config->threads, v);
    if (config->shared > s.gpu->shared_bytes) { /* operations are read where they lie */
        config->args.stage_bytes = 0;
        config->shared = lay_out_mma(&config->args, s, config->threads, v);
    }
    if (config->shared > s.gpu->shared_bytes) return;
    const int64_t tiles = (s.launch->rows + v.tile - 1) / v.tile, at_once = blocks_at_once(s, *config);
    config->args.turns =
        (int32_t)((tiles + at_once - 1) / at_once); /* all that run at once are busy to the end */
    set_blocks(config, s, (int64_t)config->args.turns * v.tile);
    if (s.launch->table && v.tile > 1 && steer_mma_shares(v.vectors))
        config->blocks += blocks_within(s, *config, 1);
}

/* ---- The table ------------------------------------------------------------------------------------------------------- */

/* The kernel of a family, a dtype and a variant. */
#define STEER_OF_DTYPE(rows)                                                                                 \
    [](steer_dtype dtype, const steer_rows_variant &v) {                                                     \
        return dtype == STEER_F32   ? rows<float>(v)                                                         \
               : dtype == STEER_F16 ? rows<steer_f16>(v)                                                     \
                                    : rows<steer_bf16>(v);                                                   \
    }

const steer_family steer_families[] = {
    {STEER_ROWS_STREAM, "stream", serves_stream, configure_stream, STEER_OF_DTYPE(steer_rows_stream),
     "steer_stream.cuh", "few vectors, held in registers; more rows than the cache keeps"},
    {STEER_ROWS_TILE, "tile", serves_tile, configure_tile, STEER_OF_DTYPE(steer_rows_tile), "steer_tile.cuh",
     "few vectors, held in registers"},
    {STEER_ROWS_MMA, "mma", serves_mma, configure_mma,
     [](steer_dtype dtype, const steer_rows_variant &v) {
         return dtype == STEER_F16 ? steer_rows_mma<steer_f16>(v) : steer_rows_mma<steer_bf16>(v);
     },
     nullptr, "many vectors or a cosine, on tensor cores"},
    {STEER_ROWS_GENERAL, "general", serves_general, configure_general, STEER_OF_DTYPE(steer_rows_general),
     "steer_general.cuh", "more than registers hold, or rows that are no multiples of 16 bytes"},
};

/* The first that serves. without: names of families that are passed over, for measurements; NULL: none is. */
const steer_family &steer_family_of(const steer_situation &s, const char *without) {
    const steer_family *family = steer_families;
    const auto is_out = [&] {
        return without && family->serves != serves_general && strstr(without, family->name);
    };
    while (is_out() || !family->serves(s)) family++; /* the last one serves what is left */
    return *family;
}

/* The classes of programs that a launch has a kernel for each of, what they need in `out`; how many. Kernels of f32 rows serve both: there
 * a program has the same sums in each. */
int steer_classes_of(steer_needs out[2], const steer_launch *launch) {
    int count = 0;
    if (launch->dtype == STEER_F32) {
        out[0] = steer_needs_of_all(launch);
        return out[0].present;
    }
    if (launch->few.present) out[count++] = launch->few;
    if (launch->many.present) out[count++] = launch->many;
    return count;
}

/* Plans the kernel of a launch for a class of programs; false where the device cannot run it: too little shared memory, too many blocks. */
bool steer_configure_rows(steer_launch_config *config, const steer_family **out, const steer_launch *launch,
                          const steer_needs *needs, const steer_config_device &gpu, const char *without) {
    const steer_situation s = situation_of(launch, needs, &gpu);
    const steer_family &family = steer_family_of(s, without);
    *config = {};
    *out = &family;
    config->cluster = 1;
    config->variant.family = family.family;
    config->variant.aligned = s.aligned;
    config->variant.residual = launch->residual != nullptr;
    steer_rows_args *args = &config->args;
    args->hidden = launch->hidden;
    args->residual = launch->residual;
    args->hidden_stride = launch->hidden_stride;
    args->residual_stride = launch->residual_stride;
    args->rows = launch->rows;
    args->table = launch->table;
    args->inner = launch->inner;
    args->replayed = launch->replayed;
    args->hidden_size = (int32_t)launch->hidden_size;
    args->team = s.team;
    args->layer = launch->layer;
    args->upper_mask = 0xffffe000u;
    if (launch->uniform) args->entry = *launch->uniform;
    family.configure(config, s);
    return config->shared <= gpu.shared_bytes && config->blocks <= INT32_MAX;
}

/* Names the kernels of a launch, and why these; how many there are. */
int steer_name_kernels(char *text, size_t size, const steer_launch *launch, const steer_config_device &gpu,
                       const char *without) {
    steer_needs needs[2];
    const int classes = steer_classes_of(needs, launch);
    size_t at = 0;
    const auto name = [&](const char *kernel, const char *why) {
        const int written = snprintf(text + at, size - at, "%s%s (%s)", at ? " and " : "", kernel, why);
        at = std::min(size - 1, at + (size_t)written);
    };
    for (int i = 0; i < classes; i++) {
        const steer_family &family = steer_family_of(situation_of(launch, &needs[i], &gpu), without);
        name(family.name, family.why);
    }
    if (launch->blocks) name("block", "programs of blocks");
    return classes + (launch->blocks != 0);
}

} // namespace

#endif
