/* session.h: sequences that run together: what a session and its sequences are made of, for the files of the session. */
#ifndef STEER_MODEL_SESSION_H
#define STEER_MODEL_SESSION_H

#include "model/capture.h"
#include "model/forward.h"
#include "model/kv.h"
#include "steering/plan.h"

typedef struct steer_step_graph steer_step_graph;

typedef struct steer_sequence {
    int32_t id;
    steer_sequence_state state;
    int32_t slot; /* its place in the batch while it runs, else -1 */

    int32_t *tokens; /* [given + max_tokens], `count` of them are known */
    int64_t given, count, max_tokens, prompt_tokens;
    float *logprobs;    /* [max_tokens] of the generated ones */
    steer_sampling how; /* its draw is that of the first token that it chooses: those of a fork go on */
    int32_t ignore_eos, stop_count, *stop_ids;

    steer_spec *specs[STEER_SITE_COUNT]; /* retained */
    int32_t far;                         /* its tokens turn by the far rows of the rotations */
    steer_hash spec_key;                 /* what steers and turns its tokens, for contents of blocks */
    int64_t *steered;                    /* [STEER_SITE_COUNT * layers] */

    int64_t computed; /* positions whose keys and values are in the cache */
    int64_t shared;   /* of those, found there */
    int32_t *blocks;  /* [block_need], block_count of them are taken; -1: forgotten */
    int32_t block_count, block_need, promised;
    steer_hash content; /* of its first `hashed` blocks */
    int32_t hashed, forgotten;

    int64_t logprobs_from, logits_from; /* -1: none */
    float *given_logprobs;              /* [given - logprobs_from + other_count] */
    int32_t *others, other_count;       /* in the place of the last given token */
    steer_tensor *logits;               /* [given - logits_from, vocab] */
    steer_capture *capture;             /* retained, or NULL */
    int32_t *capture_groups, capture_generated;
    int64_t failed_at;
    struct steer_sequence *twin, *leader; /* the unsteered sequence beside it; of a twin: whose it is */
    struct steer_judgement *judgements;   /* with a twin: of tokens from twin_from on */
    int64_t twin_from;

    struct steer_sequence
        *from;            /* whose states its first `reach` tokens begin from after layer `start`; or NULL */
    int64_t reach, begun; /* `begun`: positions that did */
    int32_t start;        /* -1: its specs leave no layer */
    int32_t hold;         /* its blocks stay taken until it is dropped */
    int32_t apart;        /* they are not published */

    int64_t chunk;   /* positions of this step, from `computed` on */
    int64_t output;  /* index of its first output of this step */
    int64_t outputs; /* how many, of neighbouring positions that end at the chunk's end */
    int64_t more;    /* and behind those, of one position: of `others` */
} steer_sequence;

/* 1 while it waits or runs: it has not ended. */
static inline int steer_sequence_is_live(const steer_sequence *sequence) {
    return sequence->state == STEER_SEQUENCE_WAITING || sequence->state == STEER_SEQUENCE_RUNNING;
}

/* What a twin says of a token. */
typedef struct steer_judgement {
    float kl, logprob;
    int32_t likeliest;
} steer_judgement;

/* Results of a step's twins, [outputs] each; made when a sequence first has one. */
typedef struct steer_twins {
    float *kl, *logprob, *kl_device, *logprob_device;
    int32_t *likeliest, *likeliest_device;
    int live; /* in this step */
} steer_twins;

/* Arrays of a step, of the same layout on the host and on the device: one upload, to `end` where nothing is captured. */
typedef struct steer_step_arrays {
    steer_sampling *how;                                 /* [outputs] */
    int32_t *ids, *sequence, *positions, *turns, *slots; /* [rows] */
    int32_t *first;                                      /* [slots + 1] */
    int32_t *generated;                                  /* [slots] */
    int32_t *blocks;                                     /* [slots, blocks_stride] */
    int32_t *output, *output_slot,
        *target;     /* [outputs] row; slot that a token is chosen for or -1; target of logprob or -1 */
    int32_t *twin;   /* [outputs] the twin's output, -1: none */
    int32_t *from;   /* [slots] block whose word of notes the rows of a sequence begin with, -1: none */
    int32_t *origin; /* [rows] where a row's kept states are, in a step that begins from such */
    int32_t *group, *group_first, *group_row; /* what is captured, see steer_captured */
    char *end;
} steer_step_arrays;

/* What goes into a capture in a step: rows by group, as steer_accumulate has them, in the step's arrays group, group_first and
 * group_row from these places on. */
typedef struct steer_captured {
    steer_capture *capture;
    int32_t group, first; /* places; rows are counted through all captures */
    int32_t count;        /* of groups */
    int32_t most_rows;    /* of a group */
} steer_captured;

/* Sizes that shape the launches of a step: bounds of what it has. */
typedef struct steer_step_shape {
    int64_t rows, outputs, most_rows, most_context;
    int64_t notes; /* what is done with words of notes, see notes.c */
} steer_step_shape;

/* What a request is to a plan, where its spec steers all tokens alike. */
typedef struct steer_planned {
    uint64_t spec; /* its uid, 0: none */
    int64_t tokens;
} steer_planned;

/* Where programs have conditions, on which rows they act; made when a sequence first has one. */
typedef struct steer_fired {
    int32_t *
        place; /* [STEER_SITE_COUNT * layers] in `flags` of this step, -1: no program there has a condition */
    int32_t count;  /* of places */
    uint8_t *flags; /* [count, shape.rows] 1: the row changed */
    uint8_t
        *of_block; /* [blocks of the cache, STEER_SITE_COUNT * layers] rows that changed by such a program */
    uint64_t *before; /* device, [rows] */
    uint8_t *flags_device;
} steer_fired;

/* Results of a step that only generates, and the event that they are there: [2, shape.outputs] tokens and log probabilities. */
typedef struct steer_arrival {
    void *results, *event;
} steer_arrival;

/* A sequence whose next token is being chosen, and which output it is. */
typedef struct steer_awaited {
    steer_sequence *sequence;
    int64_t output;
} steer_awaited;

/* Where log probabilities of given tokens of a sequence are among a step's results. */
typedef struct steer_judged {
    steer_sequence *sequence;  /* NULL: it is gone */
    int64_t at, count, output; /* given_logprobs[at ...], of `count` outputs */
    int64_t more, more_output; /* of its `others` */
} steer_judged;

/* What the last step judged and nobody has noted yet. */
typedef struct steer_late {
    steer_arrival arrivals[2]; /* [scratch.outputs] log probabilities, in turn */
    int32_t arrival;           /* of the last such step */
    int32_t count;
    steer_judged *judged; /* [slots], `count` of them; NULL: no results come by themselves */
} steer_late;

enum { STEER_TOKEN_CHOSEN = -1 }; /* a token that the device has chosen and the host does not know yet */
enum { STEER_STEP_CAPTURES = 8 }; /* captures that one step can serve: sequences of others wait */

struct steer_session {
    steer_model *model; /* retained */
    steer_engine *engine;
    steer_scratch scratch;
    steer_cache cache;
    steer_kv kv;
    steer_tensor *x; /* over scratch.x, for plans */
    int share;

    int32_t slots, blocks_stride;
    steer_sequence **slot; /* [slots], NULL: empty */
    steer_sequence **all;  /* [all_room] by id, NULL: dropped */
    int32_t all_count, all_room;

    steer_plan *plans[STEER_SITE_COUNT]; /* made when a spec first needs one */
    int live[STEER_SITE_COUNT];          /* the plan has specs in this step */
    steer_planned
        *planned[STEER_SITE_COUNT]; /* [2 * slots] the batch of the plan, if planned_count is not -1 */
    int32_t planned_count[STEER_SITE_COUNT];
    steer_request *requests;     /* [2 * slots] of this step */
    steer_sequence **request_of; /* NULL: it has left since the step was issued */
    int32_t request_count;
    int64_t *wide_ids; /* [rows] ids of this step for plans */

    void *host, *device;
    steer_step_arrays at_host, at_device;
    steer_step_shape shape;
    int only_generates; /* each row of this step is a sequence's last token, of which the next one is chosen and nothing else is wanted */
    int generating;     /* and it is a graph */
    int32_t start;      /* -1; or the layer after which the rows of this step begin */
    steer_capture *origin;                        /* from states in this capture */
    steer_captured captures[STEER_STEP_CAPTURES]; /* that have rows in this step */
    int32_t capture_count;

    int32_t *last; /* device, [slots] */
    /* [3, shape.outputs] chosen tokens, their log probabilities, log probabilities of targets */
    void *results, *results_device;
    uint32_t *seen;     /* device, [slots, ceil(vocab / 32)] */
    uint32_t *seen_row; /* host, one row of it */
    void *sample_work;
    struct {
        void *data;
        size_t bytes;
    } memory[10]; /* of the device */
    int32_t memory_count;
    int64_t rows, outputs; /* of this step */
    int chooses, judges;   /* among its outputs are tokens to choose, and targets to judge */
    int64_t steps, rows_done;
    steer_twins twins;
    steer_fired fired;
    uint64_t *notes, *verdicts; /* device, [rows] and [blocks of the cache] */

    int ahead;                 /* the step of these arrays is issued and belongs to the next call */
    steer_arrival arrivals[2]; /* in turn */
    int32_t arrival;           /* of this step, -1: its results are fetched */
    steer_awaited *awaited;    /* [slots], NULL: no step is issued ahead */

    steer_late late;

    int no_graphs, reproducible;
    steer_step_graph **graphs; /* [graph_count] */
    char *live_layers;         /* [STEER_SITE_COUNT * layers] of this step, while its graph is looked for */
    steer_step_graph *graph;   /* that is being captured, or NULL */
    int32_t graph_count;
    int64_t replays;
};

/* session.c: places the arrays of a step, as small as they may be where every row generates. */
void steer_session_lay_out(steer_session *session, int generating);

/* sequence.c */
void steer_sequence_free(steer_sequence *sequence);
/* Has a running sequence wait again, nothing of it computed. */
void steer_sequence_restart(steer_session *session, steer_sequence *sequence);

/* step.c: 1 if all that steers at a site are folded adds. */
int steer_session_only_adds(steer_session *session, int32_t layer, steer_site site);
/* Launches a step of session->shape, whose arrays are on the device; waits for nothing. */
int steer_session_issue(steer_session *session);

/* ahead.c: room, on a device with receive(), for two steps' results of so many bytes each; under_way: which of them is awaited, or -1. */
int steer_arrivals_create(const steer_session *session, steer_arrival arrivals[2], int64_t results,
                          size_t size);
void steer_arrivals_free(const steer_session *session, const steer_arrival arrivals[2], int32_t under_way);
/* What lets a step be issued before the results of the one before are known. */
int steer_ahead_create(steer_session *session);
void steer_ahead_free(steer_session *session);
/* Has the results of the step that was issued come by themselves, if it only generates. */
int steer_ahead_receive(steer_session *session);
int steer_ahead_wait(const steer_session *session, int32_t arrival);
/* Makes the step that was issued ahead the one of this call. */
int steer_ahead_enter(steer_session *session);
/* Whether the next step can be issued before the results of this one are known. */
int steer_ahead_can(const steer_session *session);
/* Lets sequences of this step have the tokens that are being chosen, whose outputs go to `awaited`: how many; and takes them back. */
int32_t steer_ahead_assume(steer_session *session);
void steer_ahead_forget(steer_session *session, int32_t count);
/* Has the step that is ahead do without a sequence. */
void steer_ahead_leave(steer_session *session, const steer_sequence *sequence);

/* late.c: which results of a step that is issued are log probabilities of a sequence's given tokens; notes them, from [outputs] of
 * the step. */
steer_judged steer_judged_of(steer_sequence *sequence);
void steer_judged_note(const steer_judged *judged, const float *results);
int steer_late_create(steer_session *session);
void steer_late_free(steer_session *session);
/* Whether a step's results can be noted late. */
int steer_late_can(const steer_session *session);
/* Has those of the step that was issued come by themselves, if so. */
int steer_late_receive(steer_session *session);
/* Makes the step that was issued the last one, and adds what a sequence has of it. */
void steer_late_begin(steer_session *session);
void steer_late_add(steer_session *session, steer_sequence *sequence);
/* Has the device wait until the results of the last step are out of the next one's way. */
int steer_late_order(const steer_session *session);
/* Waits for the last step and notes what it judged. */
int steer_late_settle(steer_session *session);
/* Has nothing noted of a sequence. */
void steer_late_leave(steer_session *session, const steer_sequence *sequence);

/* graph.c: issues a step that generates as a graph, if a step like it came before. */
int steer_session_replay(steer_session *session);
/* While a graph is captured: widens what it can run at a site, and steers there. */
const steer_envelope *steer_step_graph_envelope(steer_session *session, int32_t layer, steer_site site,
                                                const steer_envelope *needs);
int steer_step_graph_steer(steer_session *session, int32_t layer, steer_site site);
int steer_step_graph_is_captured(const steer_step_graph *graph);
void steer_step_graphs_free(steer_session *session);

/* admit.c: starts waiting sequences that there is room for. */
int steer_session_admit(steer_session *session);
/* Takes a running sequence out of the batch; its full blocks stay to be found. */
void steer_session_retire(steer_session *session, steer_sequence *sequence);
/* What steers a sequence, for contents of its blocks. */
steer_hash steer_sequence_spec_key(const steer_sequence *sequence);
/* What steers the tokens of one of its full blocks: nothing where its specs select none of them, so that an unsteered beginning is
 * the same whatever is done to later tokens. */
steer_hash steer_sequence_block_key(const steer_sequence *sequence, int32_t block);

/* begin.c: whether a sequence can be begun from; INVALID_ARGUMENT says why not. */
int steer_begin_check(const steer_session *session, int32_t from);
/* Has a sequence, and its twin, begin from another one (NULL: from the start) as far as their tokens are the same. */
void steer_begin_from(const steer_session *session, steer_sequence *sequence, steer_sequence *from);
/* Chooses the layer again after its specs have changed. */
void steer_begin_again(const steer_session *session, steer_sequence *sequence);
/* Has nobody begin from it any more. */
void steer_begin_forget(steer_session *session, const steer_sequence *from);
/* The layer after which its next position begins, -1: with the embedding. */
int32_t steer_begin_layer(const steer_sequence *sequence);
/* Row of the kept states that a position begins with, layers side by side. */
int32_t steer_begin_origin(const steer_sequence *sequence, int64_t position);
/* Copies what lies below the layers of this step into the blocks of its sequences. */
int steer_begin_copy(const steer_session *session);

/* batch.c: chooses the rows of a step and writes its arrays and requests; session->rows is 0 if nothing runs. */
int steer_session_batch(steer_session *session);
/* Positions of a sequence that are to be computed: all that are known, less the last where only the token itself is judged. */
int64_t steer_sequence_end(const steer_sequence *sequence);

/* groups.c: sorts the rows of a step that are captured by capture and group. */
void steer_session_group(steer_session *session);
/* Adds them to their sums at a layer's site, where x are the states of the step's rows. */
int steer_session_capture(const steer_session *session, int32_t layer, steer_site site, const void *x);
int steer_session_captures(const steer_session *session, int32_t layer, steer_site site);
/* Counts a sequence's rows of the step that was issued. */
void steer_sequence_count(const steer_sequence *sequence);

/* twin.c: checks that a sequence and its twin fit, and makes what holds their results. */
int steer_twin_prepare(steer_session *session, const steer_sequence_desc *desc);
void steer_twin_free(steer_session *session);
/* Ties a twin to its sequence. */
int steer_twin_join(steer_sequence *leader, steer_sequence *twin);
/* Finds the outputs of a step's twins, compares logits, and keeps what came of a sequence's. */
void steer_twin_pair(steer_session *session);
int steer_twin_judge(steer_session *session);
int64_t steer_twin_known(const steer_sequence *leader); /* tokens that are judged so far */
void steer_twin_note(const steer_session *session,
                     steer_sequence *leader); /* its chunk is counted as computed */
/* Gives twins the tokens that were chosen, and ends them with their sequences. */
void steer_twin_follow(steer_session *session);

/* fired.c: makes room for what specs with conditions need, and finds the layers of a planned step that have such programs. */
int steer_fired_prepare(steer_session *session, steer_spec *const *specs);
void steer_fired_free(steer_session *session);
int steer_fired_plan(steer_session *session);
/* Before a layer's operations, and after them. */
int steer_fired_mark(steer_session *session, int32_t layer, steer_site site, int after);
/* Waits for the step and adds to what its sequences count as steered. */
int steer_fired_count(steer_session *session);
/* Rows of a block that programs with conditions changed, when it was computed. */
int64_t steer_fired_in_block(const steer_session *session, int32_t block, int32_t layer, steer_site site);

/* notes.c: memory for words of notes. */
int steer_notes_create(steer_session *session);
void steer_notes_free(steer_session *session);
/* INVALID_ARGUMENT if specs ask for a verdict of the prompt, or note one, that cannot be found. */
int steer_notes_check(steer_spec *const *specs, int64_t prompt_tokens);
/* 1 if its specs find a verdict of the prompt: no chunk goes past the end of that. */
int steer_notes_decide(const steer_sequence *sequence);
/* The block whose word its next rows begin with, -1: none. */
int32_t steer_notes_from(const steer_sequence *sequence);
/* What a planned step does with words of notes, as part of its shape; and that, before the layers and after them. */
void steer_notes_plan(steer_session *session);
int steer_notes_move(const steer_session *session, const steer_rows *rows, int after);

/* Gives a step's batch to the plans of the sites that it needs. */
int steer_session_plan(steer_session *session);

#endif
