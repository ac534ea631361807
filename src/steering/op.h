/* op.h: one steering operation as the user states it, checked and copied. */
#ifndef STEER_STEERING_OP_H
#define STEER_STEERING_OP_H

#include "backend/block.h"
#include "steering/scope.h"
#include "steering/vector.h"

typedef struct steer_vectors {
    int32_t count;
    steer_vector **at; /* retained */
} steer_vectors;

/* A comparison of its condition. */
typedef struct steer_op_atom {
    steer_vector *vector; /* retained; NULL: a note is read */
    int32_t note;
    double threshold;
    int below, cosine;
} steer_op_atom;

struct steer_op {
    steer_refs refs;
    steer_op_kind kind;
    double scale;
    double min, max;
    double target, degrees, threshold;
    int normalize, side;
    int32_t note;
    steer_feature activation;
    steer_vectors vectors; /* v, orthonormal where the kind says so; none: KEEP_NORM */
    steer_vectors write;   /* w; none: v itself */
    double *matrix, *bias; /* NULL: none given */
    int32_t point_count;
    double *points;
    int32_t atom_count; /* 0: unconditional */
    steer_op_atom atoms[STEER_BLOCK_ATOMS];
    uint64_t truth;
    steer_scope *scope;        /* NULL: every token */
    struct steer_block *block; /* what it is in a program of blocks, see steering/block.h */
};

/* What an operation does with `write`. */
typedef enum steer_op_write {
    STEER_WRITE_NONE,
    STEER_WRITE_ONE,
    STEER_WRITE_EACH,
    STEER_WRITE_OWN
} steer_op_write;

/* What one operation kind means, for checks, compiling and messages: a row of the table in op.c. */
typedef struct steer_op_traits {
    const char *name;
    int32_t least, most; /* vectors */
    int32_t reads;       /* 1: it reads h.v, so that no v may be zero */
    int32_t orthonormal; /* 1: several vectors are made so, 2: one is normalised in any case too */
    steer_op_write write;
    steer_block_kind block;
    steer_block_kind several; /* the same of more than one vector */
    int (*check)(const steer_op_desc *desc);
    int (*is_noop)(const struct steer_op *op);
    /* Coefficients of image.h's formula, c = min(max(gain * s + offset, lo - s), hi - s); NULL: it is always a block. */
    void (*coefficients)(const struct steer_op *op, double *gain, double *offset, double *lo, double *hi);
    /* The pieces of pair `i` of a block that has pieces, at most STEER_BLOCK_MOST + 2; how many there are. */
    int32_t (*pieces)(const struct steer_op *op, steer_block_piece *out);
} steer_op_traits;

extern const steer_op_traits steer_op_table[STEER_OP_KIND_COUNT];

/* INVALID_ARGUMENT unless f32 has room for it. */
int steer_op_check_number(double value, const char *name);
/* 1 if it is in the formula of image.h: one vector, one comparison at most. Programs of others are of blocks. */
int steer_op_is_plain(const struct steer_op *op);
/* Length of its vectors, those of its condition included; 0 if it has none. */
int64_t steer_op_hidden(const struct steer_op *op);
/* What multiplies h.m to give the formula's p (and m to give its v): 1/|m| for a normalised vector, else 2^exponent. */
double steer_vector_scale(const steer_vector *vector, int normalize);
static inline double steer_op_vector_scale(const struct steer_op *op) {
    return steer_vector_scale(op->vectors.at[0], op->normalize);
}
/* The same for the vector of a comparison. */
static inline double steer_op_atom_scale(const steer_op_atom *atom) {
    return steer_vector_scale(atom->vector, atom->cosine);
}

#endif
