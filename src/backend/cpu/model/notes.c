/* notes.c: words of what is noted of rows, taken from blocks of the cache and left there. */
#include "backend/block.h"
#include "backend/cpu/model/row.h"

/* Whether the next row lies in another block, or is another sequence's. */
static int is_last_in_block(const steer_rows *rows, int64_t row) {
    return row + 1 == rows->rows || rows->slots[row + 1] < 0 ||
           rows->slots[row + 1] / STEER_KV_BLOCK != rows->slots[row] / STEER_KV_BLOCK;
}

int steer_cpu_notes(void *device, const steer_notes *args) {
    const steer_rows *rows = args->rows;
    (void)device;
    for (int64_t row = 0; row < rows->rows; row++) {
        const int32_t sequence = rows->sequence[row],
                      from = args->from && sequence >= 0 ? args->from[sequence] : -1;
        if (args->from)
            args->notes[row] = from < 0 ? 0 : args->words[from] & STEER_PROMPT_NOTE_BITS;
        else if (sequence >= 0 && is_last_in_block(rows, row))
            args->words[rows->slots[row] / STEER_KV_BLOCK] = args->notes[row];
    }
    return STEER_OK;
}
