/* graph.c: graphs of plans: captures the applies of several layers once, replays them as one launch, and captures anew
 * when a batch needs more than was captured. */
#include "steering/jit.h"
#include "tensor/tensor.h"

#include <stdio.h>

enum { WHY_BYTES = sizeof(((steer_plan_graph_stats *)0)->why) };

/* One apply, and what its captured launch can run. */
typedef struct graph_apply {
    int32_t layer;
    int32_t ordinary; /* 1 once a batch has left a specialised kernel: such a layer does without */
    steer_tensor *hidden, *residual; /* retained; residual may be NULL */
    steer_envelope envelope;
    const steer_jit_kernel *kernel; /* the specialised kernel captured, or NULL */
} graph_apply;

struct steer_plan_graph {
    steer_plan *plan; /* retained */
    graph_apply *applies;
    int32_t count;
    int to_capture; /* 0: launches run the applies one by one */
    void *captured; /* the backend's graph, or NULL */
    uint64_t epoch; /* of the last batch that was found to be within what is captured */
    steer_plan_graph_stats stats;
};

/* ---- What a batch needs -------------------------------------------------------------------------------------- */

/* The specialised kernel to capture for an apply. */
static const steer_jit_kernel *kernel_of(steer_plan *plan, const graph_apply *apply) {
    if (plan->compile != STEER_COMPILE_DEFAULT || plan->forced != STEER_PATH_AUTO || apply->ordinary)
        return NULL;
    return steer_jit_kernel_of(plan, apply->layer, apply->residual != NULL);
}

/* A path that is forced, other than the mixed one, is bound to the batch that it was captured with. */
static int is_bound(const steer_plan *plan) {
    return plan->forced == STEER_PATH_UNIFORM || plan->forced == STEER_PATH_LOOP;
}

/* Says in `why`, unless something stands there, what keeps the captured launch from steering the plan's batch. */
static int check_apply(char *why, steer_plan *plan, graph_apply *apply) {
    char reason[WHY_BYTES] = "";
    const steer_layer_choice *choice;
    STEER_TRY(steer_plan_choose(&choice, plan, apply->layer));
    const steer_jit_kernel *kernel = kernel_of(plan, apply);
    if (kernel != apply->kernel) {
        apply->ordinary = apply->kernel != NULL;
        snprintf(reason, WHY_BYTES, "layer %d: %s", apply->layer,
                 apply->kernel ? "other programs than its specialised kernel has"
                               : "a specialised kernel is ready");
    } else if (is_bound(plan)) {
        snprintf(reason, WHY_BYTES, "the forced path is bound to its batch");
    } else {
        steer_envelope_compare(reason, sizeof reason, apply->layer, &choice->needs, &apply->envelope);
    }
    if (!*why) memcpy(why, reason, WHY_BYTES);
    return STEER_OK;
}

/* ---- Capturing ----------------------------------------------------------------------------------------------- */

static int capture_apply(steer_plan *plan, graph_apply *apply) {
    const steer_layer_choice *choice;
    STEER_TRY(steer_plan_choose(&choice, plan, apply->layer));
    if (is_bound(plan)) {
        apply->envelope.rows = choice->needs.rows;
        return steer_plan_run(plan, apply->layer, apply->hidden, apply->residual);
    }
    steer_envelope_widen(&apply->envelope, &choice->needs, plan->rows);
    apply->kernel = kernel_of(plan, apply);
    return steer_plan_launch(plan, apply->layer, apply->hidden, apply->residual, &apply->envelope,
                             apply->kernel);
}

static void drop_capture(steer_plan_graph *graph) {
    const steer_device *device = graph->plan->engine->device;
    if (graph->captured) device->backend->graph_release(device->state, graph->captured);
    graph->captured = NULL;
}

static int capture_applies(steer_plan_graph *graph) {
    const steer_device *device = graph->plan->engine->device;
    void *captured;
    STEER_TRY(device->backend->graph_begin(device->state));
    int status = STEER_OK;
    for (int32_t i = 0; i < graph->count && status == STEER_OK; i++)
        status = capture_apply(graph->plan, &graph->applies[i]);
    STEER_TRY(device->backend->graph_end(device->state, &captured, &graph->stats.nodes));
    if (status == STEER_OK)
        graph->captured = captured;
    else
        device->backend->graph_release(device->state, captured);
    return status;
}

static void narrow(steer_plan_graph *graph) {
    for (int32_t i = 0; i < graph->count; i++) graph->applies[i].envelope = (steer_envelope){0};
}

/* Captures the applies for the plan's batch; on failure nothing is captured. What this batch and earlier ones need
 * together may be more than the device can do: then it is captured for this one alone. */
static int capture(steer_plan_graph *graph) {
    drop_capture(graph);
    int status = capture_applies(graph);
    if (status == STEER_E_UNSUPPORTED) {
        narrow(graph);
        status = capture_applies(graph);
    }
    if (status != STEER_OK) {
        narrow(graph);
        return status;
    }
    graph->epoch = graph->plan->epoch;
    graph->stats.captures++;
    graph->stats.rows = graph->applies[0].envelope.rows;
    return STEER_OK;
}

/* Captures anew if the plan's batch is not within what is captured. Every apply is asked, not only the first that is
 * left behind: one update often changes the programs of all layers. */
static int refresh(steer_plan_graph *graph) {
    char why[WHY_BYTES] = "";
    for (int32_t i = 0; i < graph->count && graph->captured; i++)
        STEER_TRY(check_apply(why, graph->plan, &graph->applies[i]));
    if (*why) memcpy(graph->stats.why, why, WHY_BYTES);
    if (*why || !graph->captured) return capture(graph);
    graph->epoch = graph->plan->epoch;
    return STEER_OK;
}

/* ---- The public functions ------------------------------------------------------------------------------------ */

static int check_arguments(steer_plan *plan, int32_t count, const int32_t *layers,
                           steer_tensor *const *hiddens, steer_tensor *const *residuals) {
    STEER_REQUIRE(plan);
    if (count < 1) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "layers: none, expected 1 or more");
    STEER_REQUIRE(layers);
    STEER_REQUIRE(hiddens);
    for (int32_t i = 0; i < count; i++) {
        int status = steer_plan_check_apply(plan, layers[i], hiddens[i], residuals ? residuals[i] : NULL);
        if (status != STEER_OK) return steer_fail_at(status, i);
    }
    return STEER_OK;
}

/* Whether launches are captured ones; notes why if they are not. */
static int is_to_capture(steer_plan_graph *graph) {
    const steer_plan *plan = graph->plan;
    const steer_device *device = plan->engine->device;
    char *why = graph->stats.why;
    if (!device->backend->graph_begin)
        snprintf(why, WHY_BYTES, "%s captures no graphs", device->id);
    else if (plan->compile == STEER_COMPILE_OFF)
        snprintf(why, WHY_BYTES, "compile is off");
    else if (plan->rows == 0)
        snprintf(why, WHY_BYTES, "the plan has no rows");
    return !*why;
}

int steer_plan_graph_create(steer_plan_graph **out, steer_plan *plan, int32_t count, const int32_t *layers,
                            steer_tensor *const *hiddens, steer_tensor *const *residuals) {
    STEER_ENTER("plan_graph_create");
    STEER_REQUIRE(out);
    STEER_TRY(check_arguments(plan, count, layers, hiddens, residuals));
    steer_plan_graph *graph = calloc(1, sizeof *graph);
    graph_apply *applies = calloc((size_t)count, sizeof *applies);
    if (!graph || !applies) {
        free(graph);
        free(applies);
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "graph: no host memory for %d applies", count);
    }
    steer_refs_add(&plan->refs);
    *graph = (steer_plan_graph){.plan = plan, .applies = applies, .count = count};
    graph->stats.struct_size = sizeof graph->stats;
    graph->stats.layers = count;
    for (int32_t i = 0; i < count; i++) {
        applies[i].layer = layers[i];
        applies[i].hidden = steer_tensor_retain(hiddens[i]);
        applies[i].residual = residuals && residuals[i] ? steer_tensor_retain(residuals[i]) : NULL;
    }
    graph->to_capture = is_to_capture(graph);
    int status = graph->to_capture ? capture(graph) : STEER_OK;
    if (status != STEER_OK) {
        steer_plan_graph_release(graph);
        return status;
    }
    *out = graph;
    return STEER_OK;
}

static int run_each(steer_plan_graph *graph) {
    for (int32_t i = 0; i < graph->count; i++) {
        const graph_apply *apply = &graph->applies[i];
        STEER_TRY(steer_plan_run(graph->plan, apply->layer, apply->hidden, apply->residual));
    }
    graph->stats.launches++;
    return STEER_OK;
}

/* Another capture takes the applies themselves, which run any program there: a captured graph inside it would be bound
 * to what it was captured for. */
int steer_plan_graph_launch(steer_plan_graph *graph) {
    STEER_ENTER("plan_graph_launch");
    STEER_REQUIRE(graph);
    const steer_device *device = graph->plan->engine->device;
    if (!graph->to_capture || steer_device_is_capturing(device)) return run_each(graph);
    if (!graph->captured || graph->epoch != graph->plan->epoch) STEER_TRY(refresh(graph));
    STEER_TRY(device->backend->graph_launch(device->state, graph->captured));
    graph->plan->met = 1;
    graph->stats.launches++;
    steer_plan_count(graph->plan, STEER_COUNT_GRAPH);
    return STEER_OK;
}

int steer_plan_graph_get_stats(steer_plan_graph_stats *out, steer_plan_graph *graph) {
    STEER_ENTER("plan_graph_get_stats");
    STEER_REQUIRE(graph);
    STEER_REQUIRE_STRUCT(out);
    *out = graph->stats;
    out->captured = graph->captured != NULL;
    out->recaptures = out->captures > 1 ? out->captures - 1 : 0;
    return STEER_OK;
}

void steer_plan_graph_release(steer_plan_graph *graph) {
    if (!graph) return;
    drop_capture(graph);
    for (int32_t i = 0; i < graph->count; i++) {
        steer_tensor_release(graph->applies[i].hidden);
        steer_tensor_release(graph->applies[i].residual);
    }
    steer_plan_release(graph->plan);
    free(graph->applies);
    free(graph);
}
