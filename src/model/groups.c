/* groups.c: what a step adds to captures: its rows, sorted by group. */
#include "model/session.h"

/* Group of its capture that a position of a sequence goes to, -1: none. */
static int32_t group_of(const steer_sequence *sequence, int64_t position) {
    return position < sequence->given ? sequence->capture_groups[position] : sequence->capture_generated;
}

void steer_sequence_count(const steer_sequence *sequence) {
    for (int64_t i = 0; sequence->capture && i < sequence->chunk; i++) {
        const int32_t group = group_of(sequence, sequence->computed + i);
        if (group >= 0) sequence->capture->counts[group]++;
    }
}

/* ---- Sorting rows ---------------------------------------------------------------------------------------------- */

/* Calls f(session, captured, row, group) for what the step has for a capture, in the order of the rows. */
static void for_rows(steer_session *session, steer_captured *captured,
                     void (*f)(steer_session *, steer_captured *, int32_t, int32_t)) {
    for (int32_t s = 0; s < session->slots; s++) {
        const steer_sequence *sequence = session->slot[s];
        if (!sequence || sequence->capture != captured->capture) continue;
        for (int64_t i = 0; i < sequence->chunk; i++) {
            const int32_t group = group_of(sequence, sequence->computed + i);
            if (group >= 0) f(session, captured, session->at_host.first[s] + (int32_t)i, group);
        }
    }
}

/* Lists the groups in the order of their first rows. */
static void count_row(steer_session *session, steer_captured *captured, int32_t row, int32_t group) {
    (void)row;
    if (captured->capture->here[group]++ == 0)
        session->at_host.group[captured->group + captured->count++] = group;
}

static void place_row(steer_session *session, steer_captured *captured, int32_t row, int32_t group) {
    session->at_host.group_row[captured->capture->here[group]++] = row;
}

/* Sorts the rows that a capture gets, from place `next` on; returns the place behind them. */
static int32_t sort_rows(steer_session *session, steer_captured *captured, int32_t next) {
    int32_t *here = captured->capture->here, *first = session->at_host.group_first + captured->first;
    const int32_t *group = session->at_host.group + captured->group;
    for_rows(session, captured, count_row);
    for (int32_t i = 0; i < captured->count; i++) {
        const int32_t rows = here[group[i]];
        if (rows > captured->most_rows) captured->most_rows = rows;
        first[i] = here[group[i]] = next;
        next += rows;
    }
    first[captured->count] = next;
    for_rows(session, captured, place_row);
    for (int32_t i = 0; i < captured->count; i++) here[group[i]] = 0;
    return next;
}

void steer_session_group(steer_session *session) {
    int32_t groups = 0, rows = 0, kept = 0;
    for (int32_t i = 0; i < session->capture_count; i++) {
        steer_captured captured = {
            .capture = session->captures[i].capture, .group = groups, .first = groups + kept};
        rows = sort_rows(session, &captured, rows);
        if (captured.count == 0) continue; /* nothing is launched for a capture without rows */
        session->captures[kept++] = captured;
        groups += captured.count;
    }
    session->capture_count = kept;
}

/* ---- Adding them ----------------------------------------------------------------------------------------------- */

int steer_session_captures(const steer_session *session, int32_t layer, steer_site site) {
    for (int32_t i = 0; i < session->capture_count; i++)
        if (steer_capture_place(session->captures[i].capture, layer, site) >= 0) return 1;
    return 0;
}

int steer_session_capture(const steer_session *session, int32_t layer, steer_site site, const void *x) {
    const steer_step_arrays *at = &session->at_device;
    for (int32_t i = 0; i < session->capture_count; i++) {
        const steer_captured *captured = &session->captures[i];
        const int32_t place = steer_capture_place(captured->capture, layer, site);
        const steer_accumulate args = {.count = captured->count,
                                       .most_rows = captured->most_rows,
                                       .group = at->group + captured->group,
                                       .first = at->group_first + captured->first,
                                       .row = at->group_row};
        if (place >= 0) STEER_TRY(steer_capture_add(captured->capture, place, x, args));
    }
    return STEER_OK;
}
