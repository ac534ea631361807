/* head.h: logits of hidden states. */
#ifndef STEER_MODEL_HEAD_H
#define STEER_MODEL_HEAD_H

#include "model/model.h"

/* The last norm, the head, its scale and cap of rows [n, hidden] of the model's dtype, which are used up: logits [n, vocab].
 * reproducible: as in steer_linear. */
int steer_head(const steer_model *model, void *rows, int64_t n, float *logits, int reproducible);

#endif
