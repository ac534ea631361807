/* test_row_table.c: where runs begin within tiles, against a look at every row. Built with the library's part, whose functions are
 * not exported. */
#include "check.h"
#include "steering/row_table.h"

#include <stdlib.h>

/* A table of runs of random lengths up to `longest`, some of them without entries. */
static void fill(steer_row *row, int64_t rows, int longest) {
    for (int64_t i = 0, end; i < rows; i = end) {
        const int has = rand() % 4 > 0;
        end = i + 1 + rand() % longest;
        if (end > rows) end = rows;
        for (int64_t k = i; k < end; k++)
            row[k] = (steer_row){(uint64_t)(has ? 64 * (i + 1) : 0), 0, (uint16_t)has, (uint32_t)(end - k)};
    }
}

static int begins_within(const steer_row *row, int64_t i, int k) {
    return i % (1 << k) != 0 && row[i].count > 0 && row[i - 1].entries != row[i].entries;
}

static void check_rows(int64_t rows, int longest) {
    char *table = malloc(steer_rows_room(rows));
    steer_row *row = (steer_row *)(void *)table;
    int32_t runs[STEER_INNER_TILES];
    fill(row, rows, longest);
    const size_t bytes = steer_row_table_find_inner(runs, table, rows);
    const uint32_t *inner = steer_row_table_inner(table, rows);
    CHECK(bytes <= steer_rows_room(rows));
    CHECK((const char *)(inner + STEER_INNER_AT + inner[STEER_INNER_TILES - 1]) == table + bytes);
    for (int k = 0; k < STEER_INNER_TILES; k++) {
        uint32_t found = 0;
        for (int64_t i = 0; i < rows; i++) found += (uint32_t)begins_within(row, i, k);
        CHECK(runs[k] == (int32_t)found && inner[k] == found);
        for (uint32_t i = 0; i < inner[k]; i++) {
            CHECK(begins_within(row, inner[STEER_INNER_AT + i], k));
            for (uint32_t j = 0; j < i; j++) CHECK(inner[STEER_INNER_AT + j] != inner[STEER_INNER_AT + i]);
        }
    }
    free(table);
}

int main(void) {
    static const int longest[] = {1, 2, 3, 7, 64, 300};
    srand(1);
    check_rows(0, 1);
    for (size_t i = 0; i < sizeof longest / sizeof *longest; i++)
        for (int64_t rows = 1; rows < 200; rows += 1 + rows / 9) check_rows(rows, longest[i]);
    for (int rows = 1; rows <= 32; rows *= 2) CHECK(1 << steer_inner_index(rows) == rows);
    return check_result();
}
