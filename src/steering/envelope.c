/* envelope.c: what a captured launch by the row table can run, and whether that is enough for a batch. */
#include "steering/plan.h"

#include <stdio.h>

/* The smallest power of two that is not below n, but at most `most`. */
static int64_t round_up(int64_t n, int64_t most) {
    int64_t rounded = 1;
    while (rounded < n) rounded *= 2;
    return rounded < most ? rounded : most;
}

void steer_envelope_widen(steer_envelope *envelope, const steer_envelope *needs, int64_t most_rows) {
    if (needs->rows > envelope->rows || envelope->rows == 0)
        envelope->rows = round_up(needs->rows, most_rows);
    steer_needs_widen(&envelope->few, &needs->few);
    steer_needs_widen(&envelope->many, &needs->many);
    if (needs->blocks > envelope->blocks) envelope->blocks = needs->blocks;
    /* Room for one vector and for more rows costs little and saves captures, of a layer that nothing steers yet too. */
    if (!envelope->many.present && !envelope->blocks) envelope->few.present = 1;
    if (envelope->few.present && envelope->few.max_vectors < 1) envelope->few.max_vectors = 1;
}

static steer_needs needs_of_any(int32_t vectors, int32_t norm) {
    return (steer_needs){.present = 1,
                         .max_vectors = vectors,
                         .max_image_bytes = (int64_t)steer_image_room(vectors, STEER_MAX_OPS),
                         .both = 1,
                         .norm = norm};
}

void steer_envelope_open(steer_envelope *envelope) {
    envelope->few = needs_of_any(STEER_REGISTER_VECTORS, 0);
    envelope->many = needs_of_any(2 * STEER_MAX_OPS, 1); /* each operation has a vector and a gate */
    envelope->blocks = STEER_BLOCKS_ANY;
}

/* Says what of a class is beyond `has`; 0 if nothing is. most: vectors that were captured for, of either class. */
static int is_beyond(char *why, size_t size, int32_t layer, const steer_needs *needs, const steer_needs *has,
                     int32_t most) {
    if (needs->norm > has->norm)
        snprintf(why, size, "layer %d: a program needs a cosine", layer);
    else if (needs->max_vectors > has->max_vectors && needs->max_vectors > most)
        snprintf(why, size, "layer %d: programs of %d vectors, captured for %d", layer, needs->max_vectors,
                 most);
    else if (needs->present > has->present)
        snprintf(why, size, "layer %d: a program of %s vectors", layer, needs->norm ? "many" : "few");
    else if (needs->max_vectors > has->max_vectors)
        snprintf(why, size, "layer %d: programs of %d vectors, captured for %d", layer, needs->max_vectors,
                 has->max_vectors);
    else if (needs->max_image_bytes > has->max_image_bytes)
        snprintf(why, size, "layer %d: programs of %lld bytes, captured for %lld", layer,
                 (long long)needs->max_image_bytes, (long long)has->max_image_bytes);
    else if (needs->both > has->both)
        snprintf(why, size, "layer %d: a program both adds and projects", layer);
    else
        return 0;
    return 1;
}

void steer_envelope_compare(char *why, size_t size, int32_t layer, const steer_envelope *needs,
                            const steer_envelope *envelope) {
    const steer_needs *few = &envelope->few, *many = &envelope->many;
    const int32_t most = few->max_vectors > many->max_vectors ? few->max_vectors : many->max_vectors;
    if (needs->rows > envelope->rows)
        snprintf(why, size, "%lld rows, captured for %lld", (long long)needs->rows,
                 (long long)envelope->rows);
    else if (!is_beyond(why, size, layer, &needs->few, few, most) &&
             !is_beyond(why, size, layer, &needs->many, many, most) && needs->blocks > envelope->blocks)
        snprintf(why, size, "layer %d: a program of %sblocks", layer,
                 needs->blocks == STEER_BLOCKS_ANY ? "large "
                 : envelope->blocks                ? "more "
                                                   : "");
}
