/* program.h: the lowered form of an ordered list of operations, shared by all specs and layers that have the same. */
#ifndef STEER_STEERING_PROGRAM_H
#define STEER_STEERING_PROGRAM_H

#include "steering/bank.h"
#include "steering/block.h"

#include <float.h>

typedef struct steer_engine steer_engine;

/* An operation stated by content alone: what is hashed and compared. */
typedef struct steer_source {
    steer_vector *vector;      /* retained */
    steer_vector *gate_vector; /* retained, NULL without a gate */
    double inv;                /* p = inv * (h.m), and v = inv * m */
    double gain, offset, lo, hi;
    double gate_inv; /* gate value = gate_inv * (h.g), over |h| for a cosine */
    double threshold;
    uint32_t flags; /* STEER_OP_IMAGE_* of the gate */
    int32_t is_add; /* unconditional add: can be folded */
} steer_source;

typedef struct steer_program {
    steer_node node; /* in the engine's table, by content hash */
    steer_hash hash;
    int64_t users;        /* lowered specs that hold it */
    int conditional;      /* some operation depends on what the row is: it may leave the row alone */
    int32_t source_count; /* operations, no-ops dropped */
    steer_source *source;
    steer_blocks *blocks; /* of a program of blocks, which has no source; else NULL */
    int32_t resident_count;
    steer_resident **residents; /* what it uses of the bank */
    void *image;                /* device memory, NULL if the entry says it all */
    size_t image_bytes;
    steer_entry entry;
    steer_op_image *ops; /* [entry.ops]: operations left on the device */
    steer_hash shape;    /* of all that a specialised kernel may have baked in, but for ... */
    steer_hash values;   /* ... gains, offsets and bounds */
} steer_program;

/* As steer_needs.max_vectors counts it. */
static inline int32_t steer_program_width(const steer_program *program) {
    return program->image && program->entry.vectors < 2 ? 2 : program->entry.vectors;
}

/* 1 if it has no blocks. */
static inline int steer_program_is_plain(const steer_program *program) { return program->blocks == NULL; }

/* Its operations on the device, after folding. */
static inline int32_t steer_program_ops(const steer_program *program) {
    return program->blocks ? ((const steer_blocks_image *)(const void *)program->blocks->image)->blocks
                           : program->entry.ops;
}

/* What a program without blocks needs. */
static inline steer_needs steer_program_needs(const steer_program *program) {
    const steer_entry *entry = &program->entry;
    return (steer_needs){.present = 1,
                         .max_vectors = steer_program_width(program),
                         .max_image_bytes = (int64_t)program->image_bytes,
                         .both = entry->u != 0 && entry->vectors > 0,
                         .norm = entry->norm};
}
/* 1 if it is of the class of few vectors. */
static inline int steer_program_is_few(const steer_program *program) {
    return steer_fits_registers(program->entry.vectors, program->entry.norm);
}

/* 1 if a value of an operation belongs to its shape: a bound that there is not, a gain or offset that cap or add has. */
static inline int steer_value_is_shape(float value) {
    return value == 0 || value > FLT_MAX || value < -FLT_MAX;
}

/* Writes what a program is, but for the folded adds: its entry, which names no image yet, and, but for the Gram matrix, its image. */
void steer_entry_write(steer_entry *entry, const steer_program_image *head, const uint64_t *addresses,
                       const steer_op_image *ops);
void steer_image_write(char *image, const steer_program_image *head, const uint64_t *addresses,
                       const steer_op_image *ops);

/* The program of the given operations in the order given, with one more user; *out is NULL if they do nothing. */
int steer_program_acquire(steer_program **out, steer_engine *engine, int32_t count, steer_op *const *ops);
void steer_program_release(steer_engine *engine, steer_program *program);

#endif
