/* capture.h: sums of hidden states by group, on the device. */
#ifndef STEER_MODEL_CAPTURE_H
#define STEER_MODEL_CAPTURE_H

#include "model/model.h"

struct steer_capture {
    steer_refs refs;
    steer_model *model; /* retained */
    steer_site site;
    int32_t groups, layer_count;
    int32_t *layers; /* [layer_count] ascending */
    steer_tensor
        *sums[2];    /* [groups, layer_count, hidden] of rows and of their squares; the second may be NULL */
    int64_t *counts; /* [groups] */
    int32_t *here;   /* [groups] 0, but while the rows of a step are sorted (groups.c) */
};

/* Place of a layer among the capture's, -1 if it is not one of them. */
int32_t steer_capture_place(const steer_capture *capture, int32_t layer, steer_site site);
/* Adds rows of x [.., hidden] to groups at a place: completes `args`, which say how many and which. */
int steer_capture_add(const steer_capture *capture, int32_t place, const void *x, steer_accumulate args);

#endif
