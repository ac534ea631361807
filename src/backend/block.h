/* block.h: compiled programs with blocks in device memory, as the library writes them and kernels read them.
 *
 * A block is an operation that reads several projections of a row and writes several vectors, or whose vectors read and
 * written differ. With P_i = h.m_i of its reads, as the blocks before it left h:
 *     h = a h + sum of C_w m_w        if its condition holds
 *     PIECES  s = inv P + bias; C = out (slope (s - at) + offset), a piece of a line for each pair of a read and a write
 *     MATRIX  C = M P + b
 *     RADIAL  r = |s|; C = out s (slope (r - at) + offset) / r, 0 where r is 0
 *     ANGLE   r = |s| of two reads; C = out (r a - s_1), out (r b - s_2)
 *     TOWARD  the row turned toward the unit vector of the one read, by the angle whose cosine and sine are a and b, at
 *             most up to it; from it where b is negative, at most up to its opposite
 *     KEEP    a = |h before the first block| / |h|, 1 where |h| is 0
 *     NOTE    nothing, but bit `note` of the row's word of notes says whether the condition holds; bits of
 *             STEER_PROMPT_NOTE_BITS are verdicts of prompts, which later rows begin with (steer_notes, model_ops.h)
 * Blocks run one after the other on a row that is held in f32 or more and rounded once at the end: no Gram matrix, but
 * where norms are kept behind one block that writes the vectors it reads. */
#ifndef STEER_BACKEND_BLOCK_H
#define STEER_BACKEND_BLOCK_H

#include "backend/image.h"

enum {
    STEER_BLOCK_MOST = 64,    /* reads or writes of a block */
    STEER_BLOCK_ATOMS = 6,    /* comparisons of a condition */
    STEER_BLOCK_SMALL = 8,    /* dots, and writes, of the blocks of a program of few */
    STEER_BLOCK_STAGE = 2048, /* bytes of the image of such a program at most */
    STEER_SHORT_PIECES = 32   /* of a short program */
};

/* Whether programs have blocks, and which: by rising demands. */
enum {
    STEER_BLOCKS_NONE,
    STEER_BLOCKS_ONE /* short, of one vector */,
    STEER_BLOCKS_SHORT,
    STEER_BLOCKS_SMALL,
    STEER_BLOCKS_ANY
};

typedef enum steer_block_kind {
    STEER_BLOCK_PIECES,
    STEER_BLOCK_MATRIX,
    STEER_BLOCK_RADIAL,
    STEER_BLOCK_ANGLE,
    STEER_BLOCK_TOWARD,
    STEER_BLOCK_KEEP,
    STEER_BLOCK_NOTE
} steer_block_kind;

#define STEER_PROMPT_NOTE_BITS (~(uint64_t)0 << STEER_PROMPT_NOTES)

/* A comparison: inv (h.g), over |h| for a cosine, with a threshold; or a bit of the row's word of notes. */
typedef struct steer_block_atom {
    float inv;
    float threshold;
    uint32_t flags; /* STEER_OP_IMAGE_* */
    int32_t note;
} steer_block_atom;

/* A read and the write that goes with it; of PIECES without reads, a write. */
typedef struct steer_block_pair {
    float inv;
    float bias;
    float out;
    int32_t pieces;     /* of RADIAL those of the first pair count */
    uint32_t pieces_at; /* steer_block_piece[pieces] */
    int32_t reserved[3];
} steer_block_pair;

/* A line where s > from; the last such piece counts. The first has no bound. */
typedef struct steer_block_piece {
    float from;
    float slope;
    float at;
    float offset;
} steer_block_piece;

/* Where an `_at` says, from the start of the image in bytes: multiples of 16. */
typedef struct steer_block_image {
    int32_t kind;
    int32_t reads;
    int32_t writes;
    int32_t atoms;
    uint64_t
        truth;    /* bit b is set: the condition holds where the sum of 2^i over the atoms i that hold is b */
    int32_t norm; /* 1: |h| is needed, by a cosine or the kind */
    uint32_t addresses_at; /* uint64_t[reads + atoms - noted + writes] */
    uint32_t atoms_at;     /* steer_block_atom[atoms] */
    uint32_t pairs_at;     /* steer_block_pair[writes], all but MATRIX and KEEP */
    uint32_t matrix_at;    /* MATRIX: M [writes][reads], then b [writes] */
    float a;               /* PIECES, MATRIX: what the row is scaled by */
    float b;
    int32_t noted; /* how many of the atoms, the last ones, are bits of notes */
    int32_t note;  /* NOTE */
    int32_t reserved;
} steer_block_image;

/* Dots that it asks for. */
STEER_IMAGE_FN int32_t steer_block_dots(const steer_block_image *block) {
    return block->reads + block->atoms - block->noted;
}

/* A program: this, then its blocks. Of a short one (steer_block_short) that writes the one or two vectors it reads and then
 * keeps norms, `gram` has m_0.m_0, m_0.m_1, m_1.m_1, with which |h| is known from what it was without a sum over the row:
 *     |a h + sum of C_w m_w|^2 = a^2 |h|^2 + 2 a sum of C_w P_w + sum of C_w C_u (m_w.m_u)
 * Zeros in all others, and where a backend would rather sum, it may: f32 rows have no room for what this rounds. */
typedef struct steer_blocks_image {
    int32_t blocks;
    int32_t keeps; /* 1: some block asks for |h| before the first */
    int32_t reserved[2];
    float gram[4];
} steer_blocks_image;

/* The address of the image of an entry whose program has blocks, 0 if it has none. To all that knows nothing of blocks,
 * such an entry is one without a program. m[1] and m[2] are the first two addresses of its blocks, or 0; image_bytes
 * is that of a short program or one of few, else 0. */
STEER_IMAGE_FN uint64_t steer_entry_blocks(const steer_entry *entry) {
    return entry->u == 0 && entry->vectors == 0 ? entry->m[0] : 0;
}

/* What the entry of a short program has in the place of m[3] and what follows. Such a program is PIECES or MATRIX without a
 * condition, which reads at most two vectors and writes them, or reads one and writes another; and maybe KEEP behind it. */
typedef struct steer_block_short {
    uint64_t pieces; /* address of steer_block_piece[count] */
    struct {
        float read[2]; /* PIECES inv, bias; MATRIX what multiplies the dots */
        float out;     /* PIECES out; MATRIX b */
    } write[2];
    float a;
    uint8_t count;   /* of pieces; 0: MATRIX */
    uint8_t reads;   /* of the vectors, the first ones */
    uint8_t vectors; /* those written are the last ones: all that are read, or one */
    uint8_t keeps;   /* 1: then KEEP */
} steer_block_short;

#endif
