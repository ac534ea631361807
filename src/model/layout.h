/* layout.h: which tensors of a model's files go where in the record: found by name, checked, to be loaded piece by piece. */
#ifndef STEER_MODEL_LAYOUT_H
#define STEER_MODEL_LAYOUT_H

#include "file/weights.h"
#include "model/config.h"

/* Rows first .. first + rows of a tensor, to go to the target's row `at`. */
typedef struct steer_piece {
    const steer_weight *from;
    int64_t first, rows, at;
} steer_piece;

/* A matrix or vector of the record, [rows, width] of a dtype. */
typedef struct steer_target {
    const void **pointer; /* where its address goes */
    size_t offset;        /* in the model's memory */
    steer_dtype dtype;
    int64_t rows, width;
    int32_t first_piece, pieces; /* none: a table of rotation `rope` */
    int32_t rope;
    int32_t transposed; /* its one piece lies as [width, rows] */
    int32_t one_plus;   /* 1 is added */
    int32_t is_norm;    /* 1: what a norm multiplies by */
} steer_target;

typedef struct steer_layout {
    steer_target *targets;
    steer_piece *pieces;
    int32_t target_count, piece_count, target_room, piece_room;
    size_t bytes;
} steer_layout;

/* Fills what the record says beyond pointers and finds a tensor for each of these. FORMAT names a tensor that is missing, of another
 * shape or without weights, UNSUPPORTED one that nobody would use. The model's dtype must be set. Without weights (NULL) the pieces
 * have no tensors: what goes there is drawn. */
int steer_layout_build(steer_layout *out, steer_model *model, steer_config *config, steer_weights *weights,
                       const char *path);
void steer_layout_free(steer_layout *layout);

#endif
