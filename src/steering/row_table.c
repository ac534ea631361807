/* row_table.c: finds where runs begin within tiles of rows. */
#include "steering/row_table.h"

#include <string.h>

size_t steer_rows_room(int64_t rows) {
    return (size_t)rows * (sizeof(steer_row) + sizeof(uint32_t)) + STEER_INNER_AT * sizeof(uint32_t);
}

const uint32_t *steer_row_table_inner(const void *table, int64_t rows) {
    return (const uint32_t *)(const void *)((const steer_row *)table + rows);
}

/* Tiles of 2^k rows and more have `row` within them, for the k that this returns; no tile has where that is STEER_INNER_TILES. */
static int smallest_tile(int64_t row) {
    int k = 1;
    while (k < STEER_INNER_TILES && row % (INT64_C(1) << k) == 0) k++;
    return k;
}

size_t steer_row_table_find_inner(int32_t runs[STEER_INNER_TILES], void *table, int64_t rows) {
    const steer_row *row = table;
    uint32_t *inner = (uint32_t *)(void *)((steer_row *)table + rows), at[STEER_INNER_TILES + 1] = {0};
    for (int64_t i = 0; i < rows; i += row[i].run)
        if (row[i].count > 0) at[smallest_tile(i)]++;
    memset(inner, 0, STEER_INNER_AT * sizeof *inner);
    runs[0] = 0;
    for (int k = 1; k < STEER_INNER_TILES; k++) {
        inner[k] = inner[k - 1] + at[k];
        runs[k] = (int32_t)inner[k];
        at[k] = inner[k - 1];
    }
    for (int64_t i = 0; i < rows; i += row[i].run) {
        const int k = smallest_tile(i);
        if (row[i].count > 0 && k < STEER_INNER_TILES) inner[STEER_INNER_AT + at[k]++] = (uint32_t)i;
    }
    return (size_t)((const char *)(inner + STEER_INNER_AT + inner[STEER_INNER_TILES - 1]) -
                    (const char *)table);
}
