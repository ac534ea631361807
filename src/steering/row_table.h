/* row_table.h: a row table as kernels read it: a record for each row, and behind them where runs begin within tiles. */
#ifndef STEER_STEERING_ROW_TABLE_H
#define STEER_STEERING_ROW_TABLE_H

#include <stdint.h>

#include "backend/image.h"

/* Bytes of a table of so many rows, at most. */
size_t steer_rows_room(int64_t rows);
/* What stands behind the records, see STEER_INNER_AT. */
const uint32_t *steer_row_table_inner(const void *table, int64_t rows);
/* Writes it, in host memory, once the records are there; how many there are for each size of a tile. Returns the bytes of the
 * table that are in use. */
size_t steer_row_table_find_inner(int32_t runs[STEER_INNER_TILES], void *table, int64_t rows);

#endif
