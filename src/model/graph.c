/* graph.c: steps that generate as graphs: captured for a number of rows, a length of context and the layers that are steered, and
 * replayed for every later batch and specs of that kind, because what changes lies in device memory. */
#include "model/session.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_GRAPHS = 64, WHY_BYTES = 128 };
/* Layers: by folded adds alone, by the plan's kernels, by those with a look at what changed. */
enum { NOT_STEERED = 0, ADDED = 1, STEERED = 2, WATCHED = 3 };

struct steer_step_graph {
    steer_step_shape shape;
    int64_t used;                      /* number of the last step */
    void *captured;                    /* the backend's graph; NULL: such a step was met once */
    uint64_t epochs[STEER_SITE_COUNT]; /* of the batches of plans that are known to be within the envelopes */
    steer_envelope *envelopes;         /* [STEER_SITE_COUNT * layers] */
    char live[];                       /* [STEER_SITE_COUNT * layers] how it is steered */
};

/* ---- Which graph ------------------------------------------------------------------------------------------------ */

static int find_live(steer_session *session, char *live) {
    const int32_t layers = session->model->layers;
    memset(live, 0, (size_t)layers * STEER_SITE_COUNT);
    for (int site = 0; site < STEER_SITE_COUNT; site++) {
        if (!session->live[site]) continue;
        for (int32_t layer = 0; layer < layers; layer++) {
            const steer_layer_choice *choice;
            STEER_TRY(steer_plan_choose(&choice, session->plans[site], layer));
            live[site * layers + layer] = choice->path == STEER_PATH_NONE                 ? NOT_STEERED
                                          : steer_session_only_adds(session, layer, site) ? ADDED
                                          : choice->conditional                           ? WATCHED
                                                                                          : STEERED;
        }
    }
    return STEER_OK;
}

static void release(const steer_session *session, steer_step_graph *graph) {
    const steer_device *device = session->model->device;
    if (graph->captured) device->backend->graph_release(device->state, graph->captured);
    free(graph->envelopes);
    free(graph);
}

/* A place for one more: where there are many, of the one that was not used for longest. */
static int make(steer_step_graph **out, steer_session *session, const char *live) {
    const size_t places = (size_t)session->model->layers * STEER_SITE_COUNT;
    steer_step_graph *graph = calloc(1, sizeof *graph + places);
    steer_envelope *envelopes = calloc(places, sizeof *envelopes);
    if (!session->graphs) session->graphs = calloc(MOST_GRAPHS, sizeof(steer_step_graph *));
    if (!graph || !envelopes || !session->graphs) {
        free(graph);
        free(envelopes);
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "session: no host memory for a graph");
    }
    graph->shape = session->shape;
    graph->envelopes = envelopes;
    memcpy(graph->live, live, places);
    int32_t at = session->graph_count;
    if (at < MOST_GRAPHS) {
        session->graph_count++;
    } else {
        at = 0;
        for (int32_t i = 1; i < MOST_GRAPHS; i++)
            if (session->graphs[i]->used < session->graphs[at]->used) at = i;
        release(session, session->graphs[at]);
    }
    session->graphs[at] = *out = graph;
    return STEER_OK;
}

/* *is_new: no such step came before. */
static int find(steer_step_graph **out, int *is_new, steer_session *session) {
    const size_t places = (size_t)session->model->layers * STEER_SITE_COUNT;
    STEER_TRY(find_live(session, session->live_layers));
    *is_new = 0;
    for (int32_t i = 0; i < session->graph_count; i++) {
        *out = session->graphs[i];
        if (memcmp(&(*out)->shape, &session->shape, sizeof session->shape) == 0 &&
            memcmp((*out)->live, session->live_layers, places) == 0)
            return STEER_OK;
    }
    *is_new = 1;
    return make(out, session, session->live_layers);
}

/* ---- Capturing -------------------------------------------------------------------------------------------------- */

const steer_envelope *steer_step_graph_envelope(steer_session *session, int32_t layer, steer_site site,
                                                const steer_envelope *needs) {
    steer_envelope *envelope = &session->graph->envelopes[site * session->model->layers + layer];
    steer_envelope_widen(envelope, needs, session->shape.rows);
    envelope->rows = session->shape.rows;
    return envelope;
}

int steer_step_graph_steer(steer_session *session, int32_t layer, steer_site site) {
    const steer_layer_choice *choice;
    STEER_TRY(steer_plan_choose(&choice, session->plans[site], layer));
    const steer_envelope *envelope = steer_step_graph_envelope(session, layer, site, &choice->needs);
    return steer_plan_launch(session->plans[site], layer, session->x, NULL, envelope, NULL);
}

static int capture(steer_session *session, steer_step_graph *graph) {
    const steer_device *device = session->model->device;
    int32_t nodes;
    void *captured;
    if (graph->captured) device->backend->graph_release(device->state, graph->captured);
    graph->captured = NULL;
    STEER_TRY(device->backend->graph_begin(device->state));
    session->graph = graph;
    const int status = steer_session_issue(session);
    session->graph = NULL;
    STEER_TRY(device->backend->graph_end(device->state, &captured, &nodes));
    if (status != STEER_OK) {
        device->backend->graph_release(device->state, captured);
        return status;
    }
    graph->captured = captured;
    for (int site = 0; site < STEER_SITE_COUNT; site++)
        graph->epochs[site] = session->live[site] ? session->plans[site]->epoch : 0;
    return STEER_OK;
}

/* Whether the captured launches can steer the batch that the plans have now. */
static int serves(int *out, steer_session *session, steer_step_graph *graph) {
    const int32_t layers = session->model->layers;
    *out = graph->captured != NULL;
    for (int site = 0; site < STEER_SITE_COUNT && *out; site++) {
        if (!session->live[site] || graph->epochs[site] == session->plans[site]->epoch) continue;
        for (int32_t layer = 0; layer < layers && *out; layer++) {
            char why[WHY_BYTES] = "";
            const steer_layer_choice *choice;
            if (graph->live[site * layers + layer] < STEERED)
                continue; /* folded adds run whatever their vectors are */
            STEER_TRY(steer_plan_choose(&choice, session->plans[site], layer));
            steer_envelope_compare(why, sizeof why, layer, &choice->needs,
                                   &graph->envelopes[site * layers + layer]);
            *out = !*why;
        }
        if (*out) graph->epochs[site] = session->plans[site]->epoch;
    }
    return STEER_OK;
}

/* The first step of its kind runs piece by piece: what a first launch sets up is not captured. */
int steer_session_replay(steer_session *session) {
    const steer_device *device = session->model->device;
    steer_step_graph *graph;
    int is_new, is_served;
    STEER_TRY(find(&graph, &is_new, session));
    graph->used = session->steps;
    if (is_new) return steer_session_issue(session);
    STEER_TRY(serves(&is_served, session, graph));
    if (!is_served) STEER_TRY(capture(session, graph));
    session->replays++;
    return device->backend->graph_launch(device->state, graph->captured);
}

int steer_step_graph_is_captured(const steer_step_graph *graph) { return graph->captured != NULL; }

void steer_step_graphs_free(steer_session *session) {
    for (int32_t i = 0; i < session->graph_count; i++) release(session, session->graphs[i]);
    free(session->graphs);
    session->graph_count = 0;
}
