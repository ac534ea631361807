/* steer_model.h: the second public header: models, sessions, captures and tokenizers. Conventions are those of steer.h.
 *
 * Token ids, layers and positions count from 0. A session is for one thread at a time; different sessions, also of one
 * model, may be used in different threads. */
#ifndef STEER_MODEL_H
#define STEER_MODEL_H

#ifndef STEER_CDEF
#include "steer.h"
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif
#endif

/* ---- Models -------------------------------------------------------------------------------------------------- */

typedef struct steer_model steer_model;
typedef struct steer_loader steer_loader; /* a model that is being loaded */

/* Where an operation acts on the residual stream. */
typedef enum steer_site {
    STEER_SITE_EMBED = 0, /* before layer 0 */
    STEER_SITE_ATTENTION =
        1, /* after a layer's attention block was added; UNSUPPORTED where a layer's blocks are parallel */
    STEER_SITE_LAYER = 2, /* after a decoder layer: what hooks on a decoder layer see */
    STEER_SITE_COUNT = 3
} steer_site;

typedef struct steer_model_desc {
    uint32_t struct_size;
    int32_t dtype; /* F32, F16 or BF16; -1: as the config says, for GGUF BF16 on a GPU and F32 on the CPU */
    steer_device *device;
    int32_t
        random; /* 1: no weights are read; they are drawn on the device: norms 1, all others normal, deviation 0.02 */
    int32_t reserved;
    uint64_t seed; /* with random: the same weights on every device */
} steer_model_desc;

typedef struct steer_model_info {
    uint32_t struct_size;
    steer_dtype dtype;
    int32_t layers;
    int32_t heads, kv_heads, head_dim; /* of layer 0 */
    int64_t hidden, vocab, context;
    int64_t bytes;       /* of weights on the device */
    int64_t token_bytes; /* of the KV cache for one token */
    int32_t bos, pad;    /* -1: none */
    int32_t eos_count;   /* ids that end a generation */
    int32_t eos[16];
    char family[32]; /* the config's model_type */
} steer_model_info;

/* Reads the config of a folder as the hub lays it out (config.json, safetensors) or of a .gguf file, and checks every tensor's name,
 * shape and dtype. NOT_FOUND, FORMAT, UNSUPPORTED name the file and the field; OUT_OF_MEMORY says how much the model needs and how
 * much is free. */
int steer_loader_create(steer_loader **out, const char *path, const steer_model_desc *desc);
/* Loads some of the weights; *done is the share of the bytes that is loaded, 1 at the end. */
int steer_loader_step(double *done, steer_loader *loader);
/* The model, once everything is loaded. */
int steer_loader_finish(steer_model **out, steer_loader *loader);
void steer_loader_release(steer_loader *loader);

steer_model *steer_model_retain(steer_model *model);
void steer_model_release(steer_model *model);
/* Says what the model is. */
int steer_model_describe(steer_model_info *out, const steer_model *model);
const char *steer_model_config(const steer_model *model);   /* its config as JSON text */
const char *steer_model_path(const steer_model *model);     /* as it was opened */
steer_device *steer_model_device(const steer_model *model); /* borrowed */
/* The logits [n, vocab] f32 that the last norm and the head make of hidden states [n, hidden] (f32, f16 or bf16, on the model's
 * device), which are rounded to the model's dtype: of states after the last layer, the model's own; a new reference.
 * SHAPE_MISMATCH, DTYPE_MISMATCH, DEVICE_MISMATCH. */
int steer_model_logits(steer_tensor **out, steer_model *model, steer_tensor *hidden);

/* ---- Captures ------------------------------------------------------------------------------------------------ */

/* Collects hidden states of sequences: sums of rows by group, f32, on the device. A group of one row is that row. */
typedef struct steer_capture steer_capture;

typedef struct steer_capture_desc {
    uint32_t struct_size;
    steer_site site;
    int32_t groups;
    int32_t layer_count;
    const int32_t *layers; /* ascending; for EMBED the one layer 0 */
    int32_t squares;       /* also sums of squares */
    int32_t reserved;
} steer_capture_desc;

int steer_capture_create(steer_capture **out, steer_model *model, const steer_capture_desc *desc);
void steer_capture_release(steer_capture *capture);
/* The sums [groups, layers, hidden] f32, or those of squares; a new reference. INVALID_ARGUMENT for squares that were not asked for. */
int steer_capture_tensor(steer_tensor **out, steer_capture *capture, int32_t squares);
/* Rows added so far by group, [groups]; borrowed. */
const int64_t *steer_capture_counts(const steer_capture *capture);

/* ---- Sessions ------------------------------------------------------------------------------------------------ */

/* Sequences that run together: one KV cache, one batch a step. */
typedef struct steer_session steer_session;

typedef struct steer_session_desc {
    uint32_t struct_size;
    int32_t sequences;    /* most that run at the same time; more wait */
    int64_t tokens;       /* positions that the KV cache has room for */
    int64_t rows;         /* most rows of a step; 0: 256 on the CPU, 2048 on a GPU */
    int64_t vector_bytes; /* as in steer_engine_desc */
    int32_t no_sharing;   /* 1: equal beginnings are computed for each sequence */
    int32_t no_graphs;    /* 1: steps are launched piece by piece, never as a captured graph */
    int32_t
        reproducible; /* 1: no bit of a sequence depends on what runs beside it, nor on the rows of a step; slower */
} steer_session_desc;

typedef enum steer_sequence_state {
    STEER_SEQUENCE_WAITING = 0, /* for room */
    STEER_SEQUENCE_RUNNING = 1,
    STEER_SEQUENCE_STOPPED = 2, /* by an end token */
    STEER_SEQUENCE_LENGTH = 3,  /* it has all tokens that were asked for */
    STEER_SEQUENCE_FAILED = 4   /* its logits are not finite: see steer_sequence_status.failed_at */
} steer_sequence_state;

/* A sequence: given tokens, the first `prompt_tokens` of which are its prompt, then up to max_tokens generated ones. */
typedef struct steer_sequence_desc {
    uint32_t struct_size;
    int32_t ignore_eos; /* end tokens of the model do not end it */
    int64_t count;      /* given tokens, at least 1 */
    const int32_t *tokens;
    int64_t prompt_tokens;    /* -1: all given ones; those behind are of the phase GENERATION for `where` */
    int64_t max_tokens;       /* 0: none is generated */
    steer_spec *specs[3];     /* by site; NULL: unsteered there */
    float temperature;        /* 0: greedy */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 1: off */
    int32_t top_k;            /* 0: off */
    int32_t stop_count;
    const int32_t *stop_ids; /* more end tokens */
    uint64_t seed;
    int64_t
        logprobs_from; /* index of the first given token whose log probability is wanted, at least 1; -1: none */
    int64_t logits_from;           /* index of the first given token at which logits are wanted; -1: none */
    steer_capture *capture;        /* NULL: none */
    const int32_t *capture_groups; /* [count] group of each given token, -1: none; read with capture */
    int32_t capture_generated;     /* group of generated tokens that are fed back, -1: none */
    int32_t twin;                  /* 1: an unsteered twin runs beside it, fed the same tokens */
    int32_t hold; /* 1: its blocks of the cache stay taken until it is dropped, for others to begin from */
    /* Id of a sequence that is done, held, unsteered and captured after layers, each token in a group of its own; -1: none. As far
     * as both have the same tokens, this one begins with those states, after the last captured layer below which nothing is done
     * to it: the layers up to there are not computed again. Where there is no such layer, it begins as any other. */
    int32_t from;
    int32_t
        apart; /* 1: its blocks of the cache are not there for others to find, so that what nobody reads is not copied */
    const int32_t
        *others; /* [other_count] tokens whose log probabilities in the place of the last given one are */
    int32_t
        other_count; /* wanted too, with logprobs_from and without a twin; at most the session's sequences */
    int32_t reserved;
} steer_sequence_desc;

typedef struct steer_sequence_status {
    uint32_t struct_size;
    steer_sequence_state state;
    int64_t given;     /* tokens */
    int64_t generated; /* tokens so far */
    int64_t computed;  /* positions whose keys and values are in the cache */
    int64_t shared;    /* positions of those that were found there */
    int64_t
        begun; /* positions of those that began after a later layer, with the states of another sequence */
    int64_t failed_at; /* position whose logits were not finite; -1: none */
} steer_sequence_status;

typedef struct steer_session_stats {
    uint32_t struct_size;
    int32_t running, waiting;
    int64_t steps, rows;         /* done so far; rows without padding */
    int64_t blocks, blocks_free; /* of the KV cache, 16 tokens each */
    int64_t shared_blocks;       /* found by their content so far */
    int64_t evictions;
    int64_t cache_bytes;
    int64_t graphs, replays; /* steps that were captured, launches of those */
} steer_session_stats;

/* OUT_OF_MEMORY says what the KV cache needs and what is free. */
int steer_session_create(steer_session **out, steer_model *model, const steer_session_desc *desc);
void steer_session_release(steer_session *session);
/* Adds a sequence, which waits until there is room. INVALID_ARGUMENT names the field: ids out of range, more tokens than the model's
 * context or the cache has room for, a spec for layers that the model lacks; SHAPE_MISMATCH for vectors of another length. */
int steer_session_add(int32_t *id, steer_session *session, const steer_sequence_desc *desc);
/* Runs one step of all that run: a chunk of given tokens or the next token of each. *running: sequences that are not done. On an error
 * (INTERRUPTED too) the session is as before the step. OUT_OF_MEMORY where held sequences leave too few blocks for those that wait. */
int steer_session_step(int32_t *running, steer_session *session);
/* Where a sequence stands. */
int steer_session_status(steer_sequence_status *out, steer_session *session, int32_t id);
/* Copies generated tokens from index `start` on, at most `capacity`, and their log probabilities; *count says how many. */
int steer_session_tokens(int64_t *count, steer_session *session, int32_t id, int64_t start, int64_t capacity,
                         int32_t *tokens, float *logprobs);
/* Copies the log probabilities of the given tokens from logprobs_from on, then those of `others`, [count - logprobs_from + other_count]
 * of them, once the sequence is done with them. */
int steer_session_logprobs(float *out, steer_session *session, int32_t id);
/* What the twin says of the tokens of a sequence that was added with one: those given from logprobs_from on, then the generated ones.
 * Copies from index `start` on, at most `capacity`; *count says how many: kl, in nats, of the twin's distribution from the sequence's
 * (KL(steered || unsteered) over the vocabulary), the token's log probability under the twin, and the token that is likeliest under
 * it. Arrays may be NULL. */
int steer_session_twin(int64_t *count, steer_session *session, int32_t id, int64_t start, int64_t capacity,
                       float *kl, float *logprobs, int32_t *likeliest);
/* The logits [count - logits_from, vocab] f32 of the given tokens' positions; a new reference. */
int steer_session_logits(steer_tensor **out, steer_session *session, int32_t id);
/* Rows of the sequence that were steered so far, by site and layer, [3 * layers]: those that a spec's operations select or, where
 * one of them has a condition, those of them that changed. Rows that were found in the cache count as when they were computed. */
int steer_session_steered(int64_t *out, steer_session *session, int32_t id);
/* A sequence with the tokens of another one so far as given ones, and its settings: what is computed is shared, and its random draws
 * go on where those of the other one are, so that both choose the same tokens while nothing else differs. */
int steer_session_fork(int32_t *id, steer_session *session, int32_t from, int64_t max_tokens);
/* Ends a sequence, keeping its tokens. */
int steer_session_stop(steer_session *session, int32_t id);
/* Gives a sequence other specs: as if it had had them from its start; what was computed otherwise is computed anew.
 * INVALID_ARGUMENT where a capture has rows of it already. */
int steer_session_set_specs(steer_session *session, int32_t id, steer_spec *const *specs);
/* Forgets a sequence; its blocks stay to be found until their room is needed. */
int steer_session_drop(steer_session *session, int32_t id);
/* Says what the session holds and did. */
int steer_session_get_stats(steer_session_stats *out, steer_session *session);

/* ---- Tokenizers ---------------------------------------------------------------------------------------------- */

/* Turns text into token ids and back. Threads may use one tokenizer at the same time. */
typedef struct steer_tokenizer steer_tokenizer;

/* Reads a folder's tokenizer.json (and the tokenizer_config.json beside it), such a file itself, or the metadata of a .gguf file.
 * NOT_FOUND if there is none; FORMAT and UNSUPPORTED name the field: nothing in the file is passed over. */
int steer_tokenizer_open(steer_tokenizer **out, const char *path);
steer_tokenizer *steer_tokenizer_retain(steer_tokenizer *tokenizer);
void steer_tokenizer_release(steer_tokenizer *tokenizer);

/* Ids are 0 .. this - 1; some may be unused. */
int32_t steer_tokenizer_vocab(const steer_tokenizer *tokenizer);
/* Turns UTF-8 into ids: *count says how many there are, of which the first `room` are written. `special`: with the tokens that the
 * tokenizer puts around a text. Texts of special tokens within the text are those tokens in any case. FORMAT names the offset of a
 * byte that is not UTF-8; UNSUPPORTED where a pattern of the tokenizer takes too many steps. */
int steer_tokenizer_encode(int64_t *count, steer_tokenizer *tokenizer, const char *text, size_t size,
                           int32_t special, int32_t *ids, int64_t room);
/* Turns ids into UTF-8: *size says how many bytes there are, of which the first `room` are written. What is no UTF-8 becomes U+FFFD,
 * unused ids are no text. `skip_special`: without special tokens. */
int steer_tokenizer_decode(size_t *size, steer_tokenizer *tokenizer, const int32_t *ids, int64_t count,
                           int32_t skip_special, char *text, size_t room);
/* The text of an id as the vocabulary has it ("\u0120the"), not ended by 0, as long as the tokenizer lives; NULL if it is unused. */
int steer_tokenizer_token(const char **text, size_t *size, const steer_tokenizer *tokenizer, int32_t id);
/* The id of such a text, -1 if no token has it. */
int32_t steer_tokenizer_id(const steer_tokenizer *tokenizer, const char *text, size_t size);
/* 1 if the id is a special token's. */
int32_t steer_tokenizer_is_special(const steer_tokenizer *tokenizer, int32_t id);
/* The id of the token with a role: "bos" (begins a text), "eos" (ends it), "unk", "pad"; -1 if the files name none. */
int32_t steer_tokenizer_named(const steer_tokenizer *tokenizer, const char *role);

/* Turns ids into text one after the other; for one thread. */
typedef struct steer_text_stream steer_text_stream;

int steer_text_stream_create(steer_text_stream **out, steer_tokenizer *tokenizer, int32_t skip_special);
/* Takes the next id and gives the text that is certain now, whole characters only: all texts together are what decode gives. They lie
 * in the stream until its next call. */
int steer_text_stream_push(const char **text, size_t *size, steer_text_stream *stream, int32_t id);
/* The end of the text; the stream is as new then. */
int steer_text_stream_finish(const char **text, size_t *size, steer_text_stream *stream);
void steer_text_stream_release(steer_text_stream *stream);

#ifndef STEER_CDEF
#ifdef __cplusplus
}
#endif
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#endif

#endif
