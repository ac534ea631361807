/* envelope.c: what a captured launch by the row table can run, and whether that is enough for a batch. */
#include "steering/plan.h"

#include <stdio.h>

/* The smallest power of two that is not below n, but at most `most`. */
static int64_t round_up(int64_t n, int64_t most) {
    int64_t rounded = 1;
    while (rounded < n) rounded *= 2;
    return rounded < most ? rounded : most;
}

/* Room for one vector and for more rows costs little and saves captures. */
void steer_envelope_widen(steer_envelope *envelope, const steer_envelope *needs, int64_t most_rows) {
    if (needs->rows > envelope->rows || envelope->rows == 0)
        envelope->rows = round_up(needs->rows, most_rows);
    if (envelope->max_vectors < 1) envelope->max_vectors = 1;
    if (needs->max_vectors > envelope->max_vectors) envelope->max_vectors = needs->max_vectors;
    if (needs->max_image_bytes > envelope->max_image_bytes)
        envelope->max_image_bytes = needs->max_image_bytes;
    envelope->both |= needs->both;
    envelope->norm |= needs->norm;
    envelope->plain |= needs->plain || !needs->blocks; /* of an unsteered layer too */
    if (needs->blocks > envelope->blocks) envelope->blocks = needs->blocks;
}

void steer_envelope_compare(char *why, size_t size, int32_t layer, const steer_envelope *needs,
                            const steer_envelope *envelope) {
    if (needs->rows > envelope->rows)
        snprintf(why, size, "%lld rows, captured for %lld", (long long)needs->rows,
                 (long long)envelope->rows);
    else if (needs->max_vectors > envelope->max_vectors)
        snprintf(why, size, "layer %d: programs of %d vectors, captured for %d", layer, needs->max_vectors,
                 envelope->max_vectors);
    else if (needs->max_image_bytes > envelope->max_image_bytes)
        snprintf(why, size, "layer %d: programs of %lld bytes, captured for %lld", layer,
                 (long long)needs->max_image_bytes, (long long)envelope->max_image_bytes);
    else if (needs->both > envelope->both)
        snprintf(why, size, "layer %d: a program both adds and projects", layer);
    else if (needs->norm > envelope->norm)
        snprintf(why, size, "layer %d: a program needs a cosine", layer);
    else if (needs->plain > envelope->plain)
        snprintf(why, size, "layer %d: a program of no blocks", layer);
    else if (needs->blocks > envelope->blocks)
        snprintf(why, size, "layer %d: a program of %sblocks", layer,
                 needs->blocks == STEER_BLOCKS_ANY ? "large "
                 : envelope->blocks                ? "more "
                                                   : "");
}
