/* test_head.c: logits of hidden states: those after the last layer give the model's own, bit for bit; bad input. */
#include "golden.h"

#include "tensor/tensor.h"

enum { TOKENS = 7 };

/* Hidden states after the last layer [TOKENS, 1, hidden] and logits of a sequence. */
static void run(steer_model *model, steer_tensor **states, steer_tensor **logits) {
    int32_t ids[TOKENS], groups[TOKENS], id, running = 1;
    const int32_t last = model->layers - 1;
    for (int32_t i = 0; i < TOKENS; i++) ids[i] = 4 + 3 * i, groups[i] = i;
    const steer_session_desc session_desc = {
        .struct_size = sizeof session_desc, .sequences = 1, .tokens = 64};
    const steer_capture_desc capture_desc = {.struct_size = sizeof capture_desc,
                                             .site = STEER_SITE_LAYER,
                                             .groups = TOKENS,
                                             .layer_count = 1,
                                             .layers = &last};
    steer_session *session;
    steer_capture *capture;
    CHECK_OK(steer_session_create(&session, model, &session_desc));
    CHECK_OK(steer_capture_create(&capture, model, &capture_desc));
    const steer_sequence_desc desc = {.struct_size = sizeof desc,
                                      .count = TOKENS,
                                      .tokens = ids,
                                      .prompt_tokens = -1,
                                      .top_p = 1,
                                      .repetition_penalty = 1,
                                      .logprobs_from = -1,
                                      .from = -1,
                                      .capture = capture,
                                      .capture_groups = groups,
                                      .capture_generated = -1};
    CHECK_OK(steer_session_add(&id, session, &desc));
    while (running > 0) CHECK_OK(steer_session_step(&running, session));
    CHECK_OK(steer_session_logits(logits, session, id));
    CHECK_OK(steer_capture_tensor(states, capture, 0));
    steer_capture_release(capture);
    steer_session_release(session);
}

static void test_model(const char *path, steer_device *device, int32_t dtype) {
    steer_model *model;
    steer_tensor *states, *expected, *got, *rows;
    CHECK_OK(load_model(&model, path, device, dtype));
    run(model, &states, &expected);
    const int64_t shape[2] = {TOKENS, model->hidden}, n = TOKENS * model->vocab;
    steer_view view = states->view;
    steer_view_set_contiguous(&view, 2, shape);
    CHECK_OK(steer_tensor_view(&rows, states, &view));
    CHECK_OK(steer_model_logits(&got, model, rows));
    CHECK(got->view.shape[0] == TOKENS && got->view.shape[1] == model->vocab);
    CHECK(memcmp(got->view.data, expected->view.data, (size_t)n * sizeof(float)) == 0);
    CHECK_FAILS(steer_model_logits(&got, model, states), STEER_E_SHAPE_MISMATCH, "hidden: [7, 1, ");
    CHECK_FAILS(steer_model_logits(&got, model, expected), STEER_E_SHAPE_MISMATCH, "expected [n, ");
    CHECK_FAILS(steer_model_logits(&got, model, NULL), STEER_E_INVALID_ARGUMENT, "hidden");
    steer_tensor *whole;
    CHECK_OK(steer_tensor_make(&whole, device, STEER_I32, 2, shape));
    CHECK_FAILS(steer_model_logits(&got, model, whole), STEER_E_DTYPE_MISMATCH, "hidden: i32");
    steer_tensor_release(whole);
    steer_tensor_release(got);
    steer_tensor_release(rows);
    steer_tensor_release(states);
    steer_tensor_release(expected);
    steer_model_release(model);
}

int main(void) {
    steer_device *device;
    CHECK_OK(steer_device_open(&device, "cpu"));
    const char *const names[] = {"llama", "gemma2", "gpt2", "phi", "cohere", "granite"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[200];
        snprintf(path, sizeof path, "tests/fixtures/models/%s", names[i]);
        for (int32_t dtype = 0; dtype < 3; dtype++) test_model(path, device, dtype);
    }
    steer_device_release(device);
    return check_result();
}
