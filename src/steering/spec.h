/* spec.h: an immutable list of operations, ordered by layer. */
#ifndef STEER_STEERING_SPEC_H
#define STEER_STEERING_SPEC_H

#include "steering/op.h"

enum { STEER_MAX_SCOPES = 64 }; /* distinct scopes of one spec: bits of a scope mask */

/* Tells those who cached something for a spec that it is gone. */
typedef struct steer_life {
    steer_refs refs;
    atomic_int alive;
} steer_life;

typedef struct steer_spec_layer {
    int32_t layer;
    int32_t start; /* into ops */
    int32_t count;
} steer_spec_layer;

struct steer_spec {
    steer_refs refs;
    uint64_t uid; /* never reused */
    steer_life *life;
    int64_t hidden; /* length of its vectors; 0 if empty */
    int32_t op_count;
    int32_t layer_count;
    int32_t scope_count;
    int steady;               /* its operations select all generated tokens or none */
    uint64_t decides;         /* verdicts of prompts that its operations note, a bit each */
    uint64_t asks;            /* and that their conditions read */
    steer_op **ops;           /* by layer, in the order given */
    int8_t *op_scope;         /* index into scopes, -1: every token */
    steer_spec_layer *layers; /* ascending */
    const steer_scope *scopes[STEER_MAX_SCOPES]; /* distinct; owned by the operations */
};

void steer_life_release(steer_life *life);

#endif
