/* op.h: one steering operation as the user states it, checked and copied. */
#ifndef STEER_STEERING_OP_H
#define STEER_STEERING_OP_H

#include "steering/scope.h"
#include "steering/vector.h"

struct steer_op {
    steer_refs refs;
    steer_op_kind kind;
    double scale;
    double min, max;
    int normalize;
    steer_gate gate;
    int gate_cosine;
    double gate_threshold;
    steer_vector *vector;
    steer_vector *gate_vector; /* NULL without a gate */
    steer_scope *scope;        /* NULL: every token */
};

/* What one operation kind means, for checks, folding and messages: a row of the table in op.c. */
typedef struct steer_op_traits {
    const char *name;
    int projects; /* its coefficient depends on h.v */
    int (*check)(const steer_op_desc *desc);
    int (*is_noop)(const struct steer_op *op);
    /* Coefficients of backend.h's formula: c = min(max(gain * s + offset, lo - s), hi - s). */
    void (*coefficients)(const struct steer_op *op, double *gain, double *offset, double *lo, double *hi);
} steer_op_traits;

extern const steer_op_traits steer_op_table[STEER_OP_KIND_COUNT];

/* What multiplies h.m to give the formula's p (and m to give its v): 1/|m| for a normalised vector, else 2^exponent. */
double steer_op_vector_scale(const struct steer_op *op);
/* The same for the vector of the gate, which must be there. */
double steer_op_gate_scale(const struct steer_op *op);

#endif
