/* model_ops.h: what a backend provides to run a language model: the operations of a decoder over the rows of a step.
 *
 * Calls come validated; pointers are device addresses unless said otherwise; work is ordered on the calling thread's current
 * stream and nothing waits. `dtype` is the model's: of hidden states, weights and the KV cache (F32, F16 or BF16). Sums, norms, softmax
 * and rotations are computed in f32, and results are rounded once to the dtype. Norms' weights and biases are f32.
 *
 * Rows: a step runs `rows` rows, tokens of several sequences, those of one sequence side by side in order of position. Rows past
 * the last sequence are padding: position and slot -1. Sizes that shape a launch come from the host; what changes from step to step
 * (ids, positions, slots, lengths, block tables) lies in device memory, so that a captured step serves later ones. */
#ifndef STEER_BACKEND_MODEL_OPS_H
#define STEER_BACKEND_MODEL_OPS_H

#include "backend/image.h"
#include "steer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { STEER_KV_BLOCK = 16 }; /* positions of a block of the KV cache */

typedef enum steer_norm_kind {
    STEER_NORM_NONE = 0,
    STEER_NORM_RMS = 1,   /* round(w * round(x / rms)): rounded to the dtype before the weight */
    STEER_NORM_RMS32 = 2, /* round(w * x / rms): "1 + w" is folded into w when the model is loaded */
    STEER_NORM_LAYER = 3  /* round(w * (x - mean) / std + b) */
} steer_norm_kind;

typedef struct steer_norm {
    steer_norm_kind kind;
    float eps;
    const float *weight; /* f32; NULL: 1 */
    const float *bias;   /* f32, LAYER only; NULL: 0 */
} steer_norm;

typedef enum steer_activation {
    STEER_ACT_SILU = 0,
    STEER_ACT_GELU = 1,      /* exact, by erf */
    STEER_ACT_GELU_TANH = 2, /* gelu_new, gelu_pytorch_tanh */
    STEER_ACT_RELU = 3,
    STEER_ACT_RELU2 = 4 /* relu squared */
} steer_activation;

/* Where the rows of a step are: device memory. */
typedef struct steer_rows {
    int64_t rows;             /* padding included */
    const int32_t *ids;       /* [rows] token ids; -1: the sequence's entry of `last` */
    const int32_t *last;      /* [sequences] the token sampled last */
    const int32_t *sequence;  /* [rows] index into sequences, -1 for padding */
    const int32_t *positions; /* [rows] */
    const int32_t *turns;     /* [rows] rows of the rotations' tables; NULL: the positions */
    const int32_t
        *slots; /* [rows] where the row's key and value go: block * STEER_KV_BLOCK + offset; -1: nowhere */
    int32_t sequences;
    const int32_t *
        first; /* [sequences + 1] first row of each sequence of this step; [sequences]: rows without padding */
    const int32_t
        *blocks; /* [sequences, blocks_stride] block numbers by position / STEER_KV_BLOCK; -1: forgotten */
    int64_t blocks_stride;
    int32_t reproducible; /* 1: the bits of a row may not depend on the others of the step */
    const int32_t *
        generated; /* [sequences] with it: 1 where the one row is a generated token, else of a prompt; or NULL */
    /* Bounds that the host knows: they choose kernels and geometry only. */
    int64_t most_rows;    /* of one sequence in this step; more than 1 where some row is not `generated` */
    int64_t most_context; /* greatest position + 1 */
} steer_rows;

/* out[row] = round(scale * table[id]) (+ places[position] where given); rows of padding are set to 0. */
typedef struct steer_embed {
    const steer_rows *rows;
    steer_dtype dtype;
    int64_t hidden;
    const void *table;  /* [vocab, hidden] */
    const void *places; /* [context, hidden] learned positions, or NULL */
    float scale;        /* as rounded to the dtype, where the model does that */
    void *out;          /* [rows, hidden] */
} steer_embed;

/* x += multiplier * post(y), then x as each row's program steers it, then out = next(x). */
enum { STEER_RESIDUAL_IMAGE = 1024 }; /* bytes of the image of such a program at most */
typedef struct steer_residual {
    int64_t rows, hidden;
    steer_dtype dtype;
    void *x;          /* [rows, hidden] the residual stream, in place; each sum is rounded to the dtype */
    const void *y;    /* [rows, hidden], or NULL: x stays */
    steer_norm post;  /* NONE: y itself */
    float multiplier; /* 1: none */
    steer_norm next;  /* NONE: no `out` */
    void *out;        /* [rows, hidden] */
    const steer_row *table; /* [rows] device memory: programs on `layer`; NULL: none */
    int32_t layer;
    int32_t vectors; /* most of such a program, at most what steers() says; 0: they are folded adds alone */
    const steer_row *ahead; /* hints what later work will have as `table`, on `ahead_layer`; NULL: nothing */
    int32_t ahead_layer;
} steer_residual;

/* Norms of parts of rows, in place: x[row, part, 0 .. size): q and k norms over all heads ("flat"). */
typedef struct steer_norm_parts {
    int64_t rows, stride; /* elements between rows */
    int64_t parts, size;
    steer_dtype dtype;
    void *x;
    steer_norm norm; /* its weight has parts * size entries if `distinct`, else size */
    int32_t distinct;
} steer_norm_parts;

/* y = x @ weight^T + bias. What stands before and after the product, `norm` and what follows it, is asked for where fuses() allows
 * it, and never together with `reproducible`. */
typedef struct steer_linear {
    int64_t rows, in, out;
    steer_dtype dtype;
    const void *x; /* [rows, in], x_stride elements between rows */
    int64_t x_stride;
    const void *weight;  /* [out, in] */
    const void *bias;    /* [out] of dtype, or NULL */
    void *y;             /* [rows, out] of y_dtype, y_stride elements between rows */
    steer_dtype y_dtype; /* dtype, or F32 */
    int64_t y_stride;
    steer_norm norm; /* of the rows of x first, rounded to the dtype; NONE: x as it is */
    int32_t glu;     /* 1: the rows of the weight are [gate | up], y = act(gate) * up, [rows, out / 2] */
    steer_activation act;
    void *
        stream; /* not NULL: stream += multiplier * y, [rows, y_stride] of dtype, in place of y, as steer_residual does */
    float multiplier;
    int32_t reproducible; /* 1: the bits of a row may not depend on how many rows there are */
} steer_linear;

/* Of every row: q and k norms by head, rotation of q and k, and k and v into the cache. Normed heads are rounded to the dtype before
 * the rotation. What becomes of k and v in `qkv` is undefined. */
typedef struct steer_rope {
    const steer_rows *rows;
    steer_dtype dtype;
    int32_t heads, kv_heads, head_dim;
    void *qkv;                 /* [rows, (heads + 2 * kv_heads) * head_dim] q, k, v; q in place */
    steer_norm q_norm, k_norm; /* by head, or NONE */
    const float *table;  /* [turns, rotary] cos of rotary / 2 frequencies, then sin; NULL: no rotation */
    int32_t rotary;      /* dimensions that are rotated, the first of a head */
    int32_t interleaved; /* 1: pairs are (2i, 2i + 1), 0: (i, i + rotary / 2) */
    void *keys, *values; /* the layer's cache, [blocks, kv_heads, STEER_KV_BLOCK, head_dim] of dtype */
} steer_rope;

/* out[row, head] = softmax(scale * q . keys, capped) @ values over positions max(0, p - window + 1) .. p of its sequence. The
 * softmax's weights may be rounded to the dtype. What else lies in the cache, NaN perhaps, has no effect. */
typedef struct steer_attention {
    const steer_rows *rows;
    steer_dtype dtype;
    int32_t heads, kv_heads, head_dim;
    const void *qkv;           /* as in steer_rope: q is read */
    const void *keys, *values; /* as in steer_rope */
    float scale;
    float softcap;  /* 0: none; else softcap * tanh(s / softcap) */
    int32_t window; /* 0: none */
    void *out;      /* [rows, heads * head_dim]; padding: 0 */
    void *work;     /* device memory of attention_work() bytes */
    const steer_rope
        *rope; /* not NULL: this is done first; where each sequence has one row, q need not be put back */
} steer_attention;

/* out = act(gate) * up with glu (x: [gate | up]), else act(x). */
typedef struct steer_activate {
    int64_t rows, size; /* of out */
    steer_dtype dtype;
    steer_activation act;
    int32_t glu;
    const void *x; /* [rows, glu ? 2 * size : size] */
    void *out;     /* [rows, size] */
} steer_activate;

/* y[row] = sum over its top_k experts e of w_e * down_e(act(gate_e x) * (up_e x)). The inner row, act() * up, is rounded to the
 * dtype. Of experts with equal scores the first are chosen. */
typedef struct steer_mixture {
    int64_t rows, hidden, size;
    steer_dtype dtype;
    steer_activation act;
    int32_t experts, top_k;
    int32_t renormalize;  /* 1: the weights of the chosen experts sum to 1 */
    const void *x;        /* [rows, hidden] */
    const void *router;   /* [experts, hidden]; softmax over all in f32 */
    const void *gate_up;  /* [experts, 2 * size, hidden] */
    const void *down;     /* [experts, hidden, size] */
    void *y;              /* [rows, hidden] */
    void *work;           /* device memory of mixture_work() bytes */
    int32_t reproducible; /* as in steer_linear */
} steer_mixture;

/* out[i] = x[index[i]]; an index of -1 gives zeros. */
typedef struct steer_gather {
    int64_t count, hidden;
    steer_dtype dtype;
    const void *x;        /* [rows, hidden] */
    const int32_t *index; /* [count] */
    void *out;            /* [count, hidden] of out_dtype */
    steer_dtype out_dtype;
} steer_gather;

/* Sums of rows by group, added to what is there: sum[group[i]] += x[row[k]] for k = first[i] .. first[i + 1] - 1 in this order,
 * squares the same of x * x. A group is there once and has a row. The lists are not written by kernels. It may run beside later
 * work, up to join(): until then x is not written, and the sums are not read. */
typedef struct steer_accumulate {
    int64_t hidden, count; /* of groups */
    int64_t most_rows;     /* of a group */
    steer_dtype dtype;
    const void *x;        /* [.., hidden] */
    const int32_t *group; /* [count] device memory */
    const int32_t *first; /* [count + 1] device memory */
    const int32_t *row;   /* [first[count]] device memory */
    float *sum;           /* [.., sum_stride] f32 */
    float *squares;       /* the same, or NULL */
    int64_t sum_stride;
} steer_accumulate;

/* Whether rows change: before[row] = a digest of x[row], the sum over i of steer_mix(i * 2^32 + bits of element i); or, with
 * `out`, out[row] = 1 where the digest is no more what before[row] says, else 0. */
typedef struct steer_changed {
    int64_t rows, hidden;
    steer_dtype dtype;
    const void *x;
    uint64_t *before; /* [rows] device memory */
    uint8_t *out;     /* [rows] device memory, or NULL */
} steer_changed;

/* Words of what is noted of rows, by programs of blocks (backend/block.h). A block of the cache has the word of its last computed
 * row, whose bits of STEER_PROMPT_NOTE_BITS are those of the rows after it too. Before the layers
 *     notes[row] = words[from[sequence]] & STEER_PROMPT_NOTE_BITS, 0 where there is no such block,
 * and after them, without `from`, words[block of row] = notes[row] of the last row that a sequence has in a block. */
typedef struct steer_notes {
    const steer_rows *rows; /* sequence and slots of them */
    const int32_t *from;    /* [sequences] device memory, a block or -1; or NULL */
    uint64_t *notes;        /* [rows] device memory */
    uint64_t *words;        /* [blocks] device memory */
} steer_notes;

/* How a sequence's next token is chosen. temperature 0: the greatest logit (the first of equals). */
typedef struct steer_sampling {
    float temperature;
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 1: off; divides positive logits of seen tokens, multiplies negative ones */
    int32_t top_k;            /* 0: off */
    int32_t reserved;
    uint64_t seed;
    int64_t draw; /* which draw of the seed's sequence: the number of the generated token */
} steer_sampling;

/* Chooses tokens. Order: penalty, temperature, top_k, top_p (smallest set with at least that probability), min_p (of the
 * greatest), draw by inverse CDF in order of token id with steer_random_draw(seed, draw). Of equal logits the first ones are
 * kept. NaN ranks below all; with an infinite or NaN greatest logit the choice is greedy, with NaN alone it is token 0. */
typedef struct steer_sample {
    int64_t count, vocab;
    const float *logits;       /* [count, vocab] f32, scaled and capped */
    const steer_sampling *how; /* [count] device memory */
    const int32_t *sequence;   /* [count] index into `last` and `seen`; -1: nothing is chosen */
    uint32_t *
        seen; /* [sequences, ceil(vocab / 32)] bits of tokens seen, the chosen one is set; or NULL: no penalty */
    int32_t *last;   /* [sequences] the chosen token */
    int32_t *tokens; /* [count] the same, -1 where nothing is chosen */
    float *logprobs; /* [count] log softmax of the logits before the penalty, at the token; -1: 0 */
    void *work;      /* device memory of sample_work() bytes */
} steer_sample;

/* Scales and caps logits in place: x = cap(scale * x). */
typedef struct steer_logits {
    int64_t count, vocab;
    float *logits; /* f32 */
    float scale;
    float softcap; /* 0: none */
} steer_logits;

/* out[i] = log softmax(logits[i])[target[i]], in f32 by f64 sums; a target of -1 gives 0. */
typedef struct steer_logprob {
    int64_t count, vocab;
    const float *logits;
    const int32_t *target;
    float *out;
} steer_logprob;

/* How far a row of logits is from its twin, another row that saw the same tokens otherwise: with p = softmax(row) and q =
 * softmax(twin), kl = sum of p * log(p / q) in f64 sums (equal rows: exactly 0), logprob = log q[token], top = the first of q's
 * greatest (NaN ranks below all). The token is the row's target or, where that is -1, its chosen one. */
typedef struct steer_divergence {
    int64_t count, vocab;
    const float *logits;   /* [rows, vocab] */
    const int32_t *twin;   /* [count] row of the twin; -1: none, kl and logprob are 0, top is -1 */
    const int32_t *target; /* [count] token, or -1 */
    const int32_t *chosen; /* [count] the same; -1 in both: logprob is 0. NULL: all -1 */
    float *kl, *logprob;   /* [count] */
    int32_t *top;          /* [count] */
} steer_divergence;

/* `device` is the backend's. */
typedef struct steer_model_ops {
    int (*embed)(void *device, const steer_embed *args);
    int (*residual)(void *device, const steer_residual *args);
    /* (optional) residual() takes a table; how many vectors programs may have. */
    int32_t (*steers)(void *device, steer_dtype dtype, int64_t hidden);
    int (*norm_parts)(void *device, const steer_norm_parts *args);
    int (*linear)(void *device, const steer_linear *args);
    /* (optional) 1 if linear() serves `norm`, `glu` and `stream` with such sizes. */
    int (*fuses)(void *device, const steer_linear *args);
    int (*rope)(void *device, const steer_rope *args);
    size_t (*attention_work)(void *device, const steer_attention *args); /* for rows of at most these sizes */
    int (*attention)(void *device, const steer_attention *args);
    int (*activate)(void *device, const steer_activate *args);
    size_t (*mixture_work)(void *device, const steer_mixture *args);
    int (*mixture)(void *device, const steer_mixture *args);
    int (*gather)(void *device, const steer_gather *args);
    int (*accumulate)(void *device, const steer_accumulate *args);
    /* (optional) Later work comes after all that accumulate() has begun. */
    int (*join)(void *device);
    int (*changed)(void *device, const steer_changed *args);
    int (*notes)(void *device, const steer_notes *args);
    int (*logits)(void *device, const steer_logits *args);
    size_t (*sample_work)(void *device, const steer_sample *args);
    int (*sample)(void *device, const steer_sample *args);
    int (*logprob)(void *device, const steer_logprob *args);
    int (*divergence)(void *device, const steer_divergence *args);
} steer_model_ops;

#ifdef __cplusplus
}
#endif
#endif
