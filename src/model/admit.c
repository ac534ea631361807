/* admit.c: starts sequences: gives them a slot and the promise of all blocks that they need, and finds what is computed already.
 *
 * A sequence starts only when every block that it will ever need is promised to it, so that nothing runs out of memory on the
 * way; a sequence and its twin start together. Sequences start in the order in which they were added. */
#include "model/session.h"
#include "steering/spec.h"

#include <string.h>

/* Of tokens that nothing steers: how they turn stays. */
static steer_hash unsteered_key(const steer_sequence *sequence) {
    const steer_hash none = {0};
    return sequence->far ? steer_hash_bytes(none, "far", 3) : none;
}

steer_hash steer_sequence_spec_key(const steer_sequence *sequence) {
    steer_hash key = unsteered_key(sequence);
    for (int site = 0; site < STEER_SITE_COUNT; site++) {
        const steer_spec *spec = sequence->specs[site];
        if (!spec || spec->op_count == 0) continue;
        const uint64_t words[3] = {(uint64_t)site, spec->uid,
                                   spec->scope_count ? (uint64_t)sequence->prompt_tokens : 0};
        key = steer_hash_bytes(key, words, sizeof words);
    }
    return key;
}

/* The scopes of a spec that select a position, a bit each. */
static uint64_t scopes_at(const steer_spec *spec, const steer_sequence *sequence, int64_t position) {
    const int64_t id = sequence->tokens[position];
    const steer_request token = {.tokens = 1,
                                 .position = position,
                                 .prompt_tokens = sequence->prompt_tokens,
                                 .token_ids = &id,
                                 .phase =
                                     position < sequence->prompt_tokens ? STEER_PROMPT : STEER_GENERATION};
    uint64_t scopes = 0;
    for (int32_t i = 0; i < spec->scope_count; i++)
        scopes |= (uint64_t)steer_scope_selects(spec->scopes[i], &token, 0) << i;
    return scopes;
}

enum { LEAVES = 0, ACTS = 1, MAY_ACT = 2 };

/* Whether some of the operations from `start` on act on every token or by one of the scopes, or may if a condition holds: beside a
 * note, which changes nothing itself, all do as if they had one, as rows of such programs are compared. */
static int acts(const steer_spec *spec, int32_t start, int32_t count, uint64_t scopes) {
    int found = LEAVES, notes = 0;
    for (int32_t i = start; i < start + count && found < MAY_ACT; i++) {
        const steer_op *op = spec->ops[i];
        if (steer_op_table[op->kind].is_noop(op)) continue;
        if (op->kind == STEER_OP_KEEP_NORM && found == LEAVES) continue; /* nothing to be undone */
        if (spec->op_scope[i] >= 0 && !(scopes >> spec->op_scope[i] & 1)) continue;
        if (op->kind == STEER_OP_NOTE)
            notes = 1;
        else
            found = op->atom_count ? MAY_ACT : ACTS;
    }
    return found == ACTS && notes ? MAY_ACT : found;
}

static int selects_any(const steer_spec *spec, const steer_sequence *sequence, int64_t from, int64_t to) {
    if (acts(spec, 0, spec->op_count, 0)) return 1;
    for (int64_t position = from; position < to; position++)
        if (scopes_at(spec, sequence, position)) return 1;
    return 0;
}

steer_hash steer_sequence_block_key(const steer_sequence *sequence, int32_t block) {
    const int64_t from = (int64_t)block * STEER_KV_BLOCK;
    for (int site = 0; site < STEER_SITE_COUNT; site++) {
        const steer_spec *spec = sequence->specs[site];
        if (spec && selects_any(spec, sequence, from, from + STEER_KV_BLOCK)) return sequence->spec_key;
    }
    return unsteered_key(sequence);
}

/* Positions that need not be computed if their keys and values are known: nothing of them is asked for. */
static int64_t can_skip(const steer_sequence *sequence) {
    int64_t most = sequence->count - 1;
    if (sequence->logprobs_from > 0 && sequence->logprobs_from - 1 < most) most = sequence->logprobs_from - 1;
    if (sequence->logits_from >= 0 && sequence->logits_from < most) most = sequence->logits_from;
    for (int64_t i = 0; sequence->capture && i < sequence->given && i < most; i++)
        if (sequence->capture_groups[i] >= 0) most = i;
    return most;
}

static void find_shared(steer_session *session, steer_sequence *sequence) {
    const int64_t most = session->share ? can_skip(sequence) / STEER_KV_BLOCK : 0;
    while (sequence->hashed < most) {
        const int32_t *tokens = sequence->tokens + (int64_t)sequence->hashed * STEER_KV_BLOCK;
        const steer_hash key = steer_sequence_block_key(sequence, sequence->hashed);
        const steer_hash content = steer_kv_content(sequence->content, key, tokens);
        const int32_t block = steer_kv_find(&session->kv, content, tokens);
        if (block < 0) break;
        sequence->blocks[sequence->block_count++] = block;
        sequence->promised--;
        sequence->content = content;
        sequence->hashed++;
    }
    sequence->shared = sequence->computed = (int64_t)sequence->hashed * STEER_KV_BLOCK;
}

/* Counts positions that were found as steered, as if they had been computed. */
static void count_shared(const steer_session *session, steer_sequence *sequence) {
    for (int site = 0; site < STEER_SITE_COUNT; site++) {
        const steer_spec *spec = sequence->specs[site];
        int64_t *steered = sequence->steered + (int64_t)site * session->model->layers;
        for (int64_t position = 0; spec && position < sequence->shared; position++) {
            const uint64_t scopes = scopes_at(spec, sequence, position);
            for (int32_t i = 0; i < spec->layer_count; i++)
                steered[spec->layers[i].layer] +=
                    acts(spec, spec->layers[i].start, spec->layers[i].count, scopes) == ACTS;
        }
        for (int32_t i = 0; spec && session->fired.before && i < spec->layer_count; i++)
            for (int32_t block = 0; block < sequence->hashed; block++)
                steered[spec->layers[i].layer] += steer_fired_in_block(
                    session, sequence->blocks[block], spec->layers[i].layer, (steer_site)site);
    }
}

/* Sets the bits of the tokens that a repetition penalty is to see. */
static int upload_seen(steer_session *session, const steer_sequence *sequence) {
    if (sequence->how.repetition_penalty == 1) return STEER_OK;
    const steer_device *device = session->model->device;
    const size_t words = (size_t)(session->model->vocab + 31) / 32;
    memset(session->seen_row, 0, words * 4);
    for (int64_t i = 0; i < sequence->count; i++)
        session->seen_row[sequence->tokens[i] / 32] |= 1u << (sequence->tokens[i] % 32);
    return device->backend->upload(device->state, session->seen + (size_t)sequence->slot * words,
                                   session->seen_row, words * 4);
}

static int start(steer_session *session, steer_sequence *sequence, int32_t slot) {
    sequence->slot = slot;
    STEER_TRY(upload_seen(session, sequence));
    sequence->promised = sequence->block_need;
    sequence->block_count = sequence->hashed = sequence->forgotten = 0;
    sequence->content = (steer_hash){0};
    find_shared(session, sequence);
    count_shared(session, sequence);
    sequence->state = STEER_SEQUENCE_RUNNING;
    session->slot[slot] = sequence;
    return STEER_OK;
}

static int32_t free_slot(const steer_session *session, int32_t from) {
    while (from < session->slots && session->slot[from]) from++;
    return from;
}

int steer_session_admit(steer_session *session) {
    int32_t slot = 0;
    for (int32_t i = 0; i < session->all_count; i++) {
        steer_sequence *sequence = session->all[i];
        if (!sequence || sequence->state != STEER_SEQUENCE_WAITING || sequence->leader) continue;
        steer_sequence *twin =
            sequence->twin; /* both or none: one that has room and waits may keep it from others */
        const int32_t need = sequence->block_need + (twin ? twin->block_need : 0);
        slot = free_slot(session, slot);
        const int32_t beside = twin ? free_slot(session, slot + 1) : slot;
        if (beside >= session->slots || !steer_kv_promise(&session->kv, need)) return STEER_OK;
        const int status = start(session, sequence, slot);
        if (status != STEER_OK) {
            sequence->slot = -1;
            steer_kv_give_back(&session->kv, need);
            return status;
        }
        if (twin) STEER_TRY(start(session, twin, beside)); /* which uploads nothing */
    }
    return STEER_OK;
}

void steer_session_retire(steer_session *session, steer_sequence *sequence) {
    if (sequence->slot >= 0) session->slot[sequence->slot] = NULL;
    sequence->slot = -1;
    steer_ahead_leave(session, sequence);
    steer_kv_give_back(&session->kv, sequence->promised);
    sequence->promised = 0;
    if (sequence->hold && !steer_sequence_is_live(sequence)) return;
    /* The last ones first: where room is needed, beginnings are what is worth keeping. */
    for (int32_t i = sequence->block_count - 1; i >= 0; i--)
        if (sequence->blocks[i] >= 0) steer_kv_release(&session->kv, sequence->blocks[i]);
    sequence->block_count = 0;
}
