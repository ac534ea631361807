/* notes.cu: words of what is noted of rows, taken from blocks of the cache and left there: a thread for each row. */
#include "backend/block.h"
#include "model.cuh"

namespace {

constexpr int THREADS = 128;

struct notes_args {
    int64_t rows;
    const int32_t *sequence, *slots, *from;
    uint64_t *notes, *words;
};

__global__ void __launch_bounds__(THREADS) take_notes(notes_args a) {
    steer_begin();
    const int64_t row = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (row >= a.rows) return;
    const int32_t sequence = a.sequence[row], from = sequence < 0 ? -1 : a.from[sequence];
    a.notes[row] = from < 0 ? 0 : a.words[from] & STEER_PROMPT_NOTE_BITS;
}

/* Only the last row of a sequence in a block writes. */
__global__ void __launch_bounds__(THREADS) leave_notes(notes_args a) {
    steer_begin();
    const int64_t row = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (row >= a.rows || a.sequence[row] < 0) return;
    const int32_t block = a.slots[row] / STEER_KV_BLOCK;
    if (row + 1 < a.rows && a.slots[row + 1] >= 0 && a.slots[row + 1] / STEER_KV_BLOCK == block) return;
    a.words[block] = a.notes[row];
}

} // namespace

int steer_cuda_notes(void *handle, const steer_notes *args) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    const steer_rows *rows = args->rows;
    if (rows->rows == 0) return STEER_OK;
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    const notes_args of_rows = {rows->rows, rows->sequence, rows->slots,
                                args->from, args->notes,    args->words};
    const dim3 grid((unsigned)steer_divide_up(rows->rows, THREADS));
    return steer_cuda_launch(device, args->from ? take_notes : leave_notes, grid, THREADS, 0,
                             "the kernel of notes", of_rows);
}
