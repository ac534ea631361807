/* steer.cu: launches the steering kernel: chooses its geometry and its variant. */
#include "steer_rows.cuh"

#include <algorithm>

namespace {

const int64_t SHARED_BYTES = 48 * 1024, CAPTURED_STAGE_BYTES = 8 * 1024;

struct geometry {
    int threads; /* of a group */
    int groups;  /* of a block */
    int rows;    /* of a group */
    int shared_bytes;
};

bool is_aligned(const void *data, int64_t stride, size_t element) {
    return (uintptr_t)data % 16 == 0 && (size_t)stride * element % 16 == 0;
}

steer_rows_choice choose(const steer_launch *launch, int threads, int multiprocessors) {
    size_t element = launch->dtype == STEER_F32 ? 4 : 2;
    steer_rows_choice choice;
    choice.elements = 16;
    while ((int64_t)threads * choice.elements < launch->hidden_size) choice.elements *= 2;
    choice.aligned = (size_t)launch->hidden_size * element % 16 == 0 &&
                     is_aligned(launch->hidden, launch->hidden_stride, element) &&
                     (!launch->residual || is_aligned(launch->residual, launch->residual_stride, element));
    choice.many = launch->max_vectors != 0 && launch->max_vectors != 1;
    choice.residual = launch->residual != nullptr;
    /* Tiles where neighbours share programs and enough tiles are left to fill the chip. */
    choice.tiled = choice.aligned && choice.elements == 16 && launch->rows_per_program >= 8 &&
                   launch->rows >= 2 * STEER_ROWS_TILE * (int64_t)multiprocessors;
    return choice;
}

/* Shared memory of a group into `args`; false if a block of `shape` would need too much. */
bool fit(steer_rows_args *args, geometry *shape, const steer_launch *launch, bool many) {
    int warps = shape->threads / 32;
    bool any = launch->max_vectors < 0; /* captured: a later batch may hold any program */
    args->vectors = !many ? 0 : any ? 2 * STEER_MAX_OPS : launch->max_vectors;
    int fixed =
        2 * shape->rows * (many ? STEER_ROWS_DOTS : 1) * warps + shape->rows * (2 * args->vectors + 1);
    int fixed_bytes = (fixed * 4 + 15) / 16 * 16;
    int64_t image = !many ? 0 : any ? CAPTURED_STAGE_BYTES : (launch->max_image_bytes + 15) / 16 * 16;
    int64_t room = SHARED_BYTES / shape->groups / 16 * 16 - fixed_bytes;
    if (room < 0) return false;
    args->stage_bytes = image <= room ? (int)image : 0;
    args->group_bytes = fixed_bytes + args->stage_bytes;
    shape->shared_bytes = args->group_bytes * shape->groups;
    return true;
}

steer_rows_kernel select(steer_dtype dtype, steer_rows_choice choice) {
    if (dtype == STEER_F32) return steer_rows_select<float>(choice);
    return dtype == STEER_F16 ? steer_rows_select<steer_f16>(choice) : steer_rows_select<steer_bf16>(choice);
}

} // namespace

int steer_cuda_steer(void *device, const steer_launch *launch) {
    steer_cuda_device *gpu = (steer_cuda_device *)device;
    STEER_CUDA_CHECK(steer_cuda_enter(gpu));
    if (launch->rows == 0) return STEER_OK;
    int threads = 32;
    while (threads < STEER_ROWS_THREADS && threads * 16 < launch->hidden_size) threads *= 2;
    steer_rows_choice choice = choose(launch, threads, gpu->multiprocessors);
    geometry shape = {threads, std::max(1, 128 / threads), choice.tiled ? STEER_ROWS_TILE : 1, 0};
    steer_rows_args args = {};
    args.hidden = launch->hidden;
    args.residual = launch->residual;
    args.hidden_stride = launch->hidden_stride;
    args.residual_stride = launch->residual_stride;
    args.rows = launch->rows;
    args.table = launch->table;
    args.hidden_size = (int32_t)launch->hidden_size;
    args.layer = launch->layer;
    if (launch->uniform) args.entry = *launch->uniform;
    bool many = choice.many || !choice.aligned || choice.elements > 16; /* the variants that exist */
    while (!fit(&args, &shape, launch, many)) shape.groups /= 2;
    int64_t tiles = (launch->rows + shape.rows - 1) / shape.rows;
    int64_t blocks = (tiles + shape.groups - 1) / shape.groups;
    if (blocks > INT32_MAX)
        return STEER_CUDA_FAIL(STEER_E_UNSUPPORTED, "rows: %lld is beyond one launch",
                               (long long)launch->rows);
    steer_rows_kernel kernel = select(launch->dtype, choice);
    kernel<<<dim3((unsigned)blocks), dim3(threads, shape.groups), shape.shared_bytes,
             steer_cuda_stream(gpu)>>>(args);
    STEER_CUDA_LAUNCHED("steer_rows");
    return STEER_OK;
}
