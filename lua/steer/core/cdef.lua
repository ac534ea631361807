-- The declarations of src/steer.h and src/steer_model.h for LuaJIT. Written by scripts/gen_cdef: do not edit.
-- luacheck: ignore 631
return [[
enum {
    STEER_ABI_VERSION = 1,
    STEER_MAX_DIMS = 8,
    STEER_MAX_HIDDEN = 32768,
    STEER_MAX_LAYERS = 1024,
    STEER_MAX_OPS = 256,
    STEER_MAX_REQUESTS = 65536
};
typedef enum steer_status {
    STEER_OK = 0,
    STEER_E_INVALID_ARGUMENT = -1,
    STEER_E_SHAPE_MISMATCH = -2,
    STEER_E_DTYPE_MISMATCH = -3,
    STEER_E_DEVICE_MISMATCH = -4,
    STEER_E_OUT_OF_MEMORY = -5,
    STEER_E_NOT_FOUND = -6,
    STEER_E_IO = -7,
    STEER_E_FORMAT = -8,
    STEER_E_UNSUPPORTED = -9,
    STEER_E_CLOSED = -10,
    STEER_E_INTERRUPTED = -11,
    STEER_E_NO_EFFECT = -12,
    STEER_E_DEVICE = -13
} steer_status;
uint32_t steer_abi_version(void);
const char *steer_version(void);
size_t steer_sizeof(const char *type);
int steer_error_code(void);
const char *steer_error_op(void);
const char *steer_error_message(void);
const char *steer_error_message_from(int32_t first);
const char *steer_error_where(void);
const char *steer_status_name(int status);
int steer_interrupt_install(uint32_t exit_after_ms);
void steer_interrupt_raise(void);
int steer_interrupt_pending(void);
void steer_interrupt_clear(void);
double steer_clock(void);
int32_t steer_cpu_threads(void);
typedef struct steer_device steer_device;
typedef struct steer_backend_info {
    uint32_t struct_size;
    int32_t device_count;
    char name[16];
    char detail[240];
} steer_backend_info;
typedef struct steer_device_info {
    uint32_t struct_size;
    int32_t compute_major;
    int32_t compute_minor;
    int32_t processors;
    int64_t total_bytes;
    int64_t free_bytes;
    int64_t l2_bytes;
    int32_t clock_khz;
    int32_t driver;
    char id[16];
    char name[128];
} steer_device_info;
typedef struct steer_memory_info {
    uint32_t struct_size;
    uint32_t reserved;
    int64_t live_bytes;
    int64_t peak_bytes;
    int64_t live_allocations;
    int64_t total_allocations;
} steer_memory_info;
int32_t steer_backend_count(void);
int steer_backend_describe(steer_backend_info *out, int32_t index);
int32_t steer_device_count(void);
int steer_device_describe(steer_device_info *out, int32_t index);
int steer_device_open(steer_device **out, const char *id);
steer_device *steer_device_retain(steer_device *device);
void steer_device_release(steer_device *device);
const char *steer_device_id(const steer_device *device);
int steer_device_synchronize(steer_device *device);
int steer_device_memory(steer_memory_info *out, steer_device *device);
int steer_device_set_stream(steer_device *device, void *stream);
int steer_device_fail_allocation(steer_device *device, int64_t n);
typedef struct steer_tensor steer_tensor;
typedef enum steer_dtype {
    STEER_F32 = 0,
    STEER_F16 = 1,
    STEER_BF16 = 2,
    STEER_I32 = 3,
    STEER_I64 = 4,
    STEER_U8 = 5,
    STEER_DTYPE_COUNT = 6
} steer_dtype;
typedef enum steer_unary {
    STEER_EXP = 0,
    STEER_LOG = 1,
    STEER_SQRT = 2,
    STEER_ABS = 3,
    STEER_SIGMOID = 4,
    STEER_TANH = 5,
    STEER_ASIN = 6,
    STEER_ACOS = 7
} steer_unary;
typedef enum steer_binary {
    STEER_ADD = 0,
    STEER_SUB = 1,
    STEER_MUL = 2,
    STEER_DIV = 3,
    STEER_LOWER = 4,
    STEER_UPPER = 5,
    STEER_POW = 6,
    STEER_EQ = 7,
    STEER_NE = 8,
    STEER_LT = 9,
    STEER_LE = 10,
    STEER_GT = 11,
    STEER_GE = 12
} steer_binary;
typedef enum steer_reduce {
    STEER_SUM = 0,
    STEER_MEAN = 1,
    STEER_MAX = 2,
    STEER_MIN = 3,
    STEER_ARGMAX = 4,
    STEER_NORM = 5,
    STEER_VAR = 6,
    STEER_STD = 7,
    STEER_POPULATION_VAR = 8,
    STEER_POPULATION_STD = 9,
    STEER_ARGMIN = 10
} steer_reduce;
typedef enum steer_random { STEER_UNIFORM = 0, STEER_NORMAL = 1 } steer_random;
size_t steer_dtype_size(steer_dtype dtype);
const char *steer_dtype_name(steer_dtype dtype);
int steer_tensor_create(steer_tensor **out, steer_device *device, steer_dtype dtype, int32_t ndim,
                        const int64_t *shape);
int steer_tensor_wrap(steer_tensor **out, steer_device *device, steer_dtype dtype, int32_t ndim,
                      const int64_t *shape, const int64_t *strides, void *data);
int steer_tensor_from_dlpack(steer_tensor **out, void *managed);
int steer_tensor_to_dlpack(void **out, steer_tensor *tensor);
steer_tensor *steer_tensor_retain(steer_tensor *tensor);
void steer_tensor_release(steer_tensor *tensor);
int32_t steer_tensor_ndim(const steer_tensor *tensor);
int64_t steer_tensor_size(const steer_tensor *tensor, int32_t dim);
int64_t steer_tensor_stride(const steer_tensor *tensor, int32_t dim);
int64_t steer_tensor_numel(const steer_tensor *tensor);
steer_dtype steer_tensor_dtype(const steer_tensor *tensor);
steer_device *steer_tensor_device(const steer_tensor *tensor);
void *steer_tensor_data(const steer_tensor *tensor);
int32_t steer_tensor_is_contiguous(const steer_tensor *tensor);
int steer_tensor_narrow(steer_tensor **out, steer_tensor *tensor, int32_t dim, int64_t start, int64_t length);
int steer_tensor_select(steer_tensor **out, steer_tensor *tensor, int32_t dim, int64_t index);
int steer_tensor_transpose(steer_tensor **out, steer_tensor *tensor, int32_t dim0, int32_t dim1);
int steer_tensor_reshape(steer_tensor **out, steer_tensor *tensor, int32_t ndim, const int64_t *shape);
int steer_tensor_copy(steer_tensor *dst, steer_tensor *src);
int steer_tensor_fill(steer_tensor *dst, double value);
int steer_tensor_arange(steer_tensor *dst, double start, double step);
int steer_tensor_random(steer_tensor *dst, steer_random kind, uint64_t seed);
int steer_tensor_unary(steer_tensor *dst, steer_tensor *a, steer_unary op);
int steer_tensor_binary(steer_tensor *dst, steer_tensor *a, steer_tensor *b, steer_binary op, double alpha);
int steer_tensor_scalar(steer_tensor *dst, steer_tensor *a, steer_binary op, double value);
int steer_tensor_where(steer_tensor *dst, steer_tensor *mask, steer_tensor *a, steer_tensor *b);
int steer_tensor_reduce(steer_tensor *dst, steer_tensor *src, steer_reduce op, int32_t dim);
int steer_tensor_normalize(steer_tensor *dst, steer_tensor *src, int32_t dim);
int steer_tensor_softmax(steer_tensor *dst, steer_tensor *src, int32_t dim);
int steer_tensor_cumsum(steer_tensor *dst, steer_tensor *src, int32_t dim);
int steer_tensor_sort(steer_tensor *values, steer_tensor *indices, steer_tensor *src, int32_t dim,
                      int32_t descending);
int steer_tensor_gather(steer_tensor *dst, steer_tensor *src, steer_tensor *index, int32_t dim, int64_t base);
int steer_tensor_matmul(steer_tensor *dst, steer_tensor *a, steer_tensor *b);
int steer_tensor_get(double *out, steer_tensor *tensor, const int64_t *index);
int steer_tensor_set(steer_tensor *tensor, const int64_t *index, double value);
typedef struct steer_map steer_map;
typedef struct steer_file steer_file;
int steer_map_open(steer_map **out, const char *path);
void steer_map_release(steer_map *map);
const uint8_t *steer_map_data(const steer_map *map);
int64_t steer_map_size(const steer_map *map);
int steer_map_tensor(steer_tensor **out, steer_map *map, steer_dtype dtype, int32_t ndim,
                     const int64_t *shape, int64_t offset);
int steer_map_doubles(steer_tensor **out, steer_map *map, int32_t ndim, const int64_t *shape, int64_t offset);
int steer_map_inflate(steer_map **out, steer_map *map, int64_t offset, int64_t size, int64_t raw_size,
                      uint32_t crc);
int steer_file_create(steer_file **out, const char *path);
int steer_file_write(steer_file *file, const void *data, int64_t size);
int steer_file_write_tensor(steer_file *file, steer_tensor *tensor);
int steer_file_commit(steer_file *file);
void steer_file_release(steer_file *file);
typedef struct steer_op steer_op;
typedef struct steer_spec steer_spec;
typedef enum steer_op_kind {
    STEER_OP_ADD = 0,
    STEER_OP_CAP = 1,
    STEER_OP_ABLATE = 2,
    STEER_OP_SET = 3,
    STEER_OP_MAP = 4,
    STEER_OP_ROTATE = 5,
    STEER_OP_ANGLE = 6,
    STEER_OP_TURN = 7,
    STEER_OP_SAE = 8,
    STEER_OP_AFFINE = 9,
    STEER_OP_REPLACE = 10,
    STEER_OP_KEEP_NORM = 11,
    STEER_OP_NOTE = 12,
    STEER_OP_KIND_COUNT = 13
} steer_op_kind;
typedef enum steer_feature {
    STEER_FEATURE_LINEAR = 0,
    STEER_FEATURE_RELU = 1,
    STEER_FEATURE_COUNT = 2
} steer_feature;
typedef enum steer_phase { STEER_PROMPT = 0, STEER_GENERATION = 1 } steer_phase;
typedef struct steer_selector {
    uint32_t struct_size;
    int32_t prompt_all;
    int32_t generation_all;
    int32_t has_prompt_window;
    int32_t has_generation_window;
    int32_t prompt_position_count;
    int32_t generation_position_count;
    int32_t token_id_count;
    int64_t prompt_window[2];
    int64_t generation_window[2];
    const int64_t *prompt_positions;
    const int64_t *generation_positions;
    const int64_t *token_ids;
} steer_selector;
typedef enum steer_gate {
    STEER_GATE_NONE = 0,
    STEER_GATE_ABOVE = 1,
    STEER_GATE_BELOW = 2
} steer_gate;
typedef struct steer_condition {
    steer_tensor *vector;
    double threshold;
    steer_gate gate;
    int32_t cosine;
    int32_t noted;
    int32_t reserved;
} steer_condition;
enum { STEER_MAX_CONDITIONS = 6, STEER_MAX_RANK = 64, STEER_MAX_NOTES = 64, STEER_PROMPT_NOTES = 32 };
typedef struct steer_op_desc {
    uint32_t struct_size;
    steer_op_kind kind;
    steer_tensor *vector;
    double scale;
    double min;
    double max;
    int32_t normalize;
    steer_gate gate;
    steer_tensor *gate_vector;
    double gate_threshold;
    int32_t gate_cosine;
    int32_t side;
    const steer_selector *where;
    const steer_selector *exclude;
    steer_tensor *write;
    steer_tensor *matrix;
    steer_tensor *bias;
    double target;
    double degrees;
    double threshold;
    steer_feature activation;
    int32_t point_count;
    const double *points;
    int32_t condition_count;
    int32_t note;
    uint64_t truth;
    const steer_condition *conditions;
} steer_op_desc;
int steer_op_create(steer_op **out, const steer_op_desc *desc);
steer_op *steer_op_retain(steer_op *op);
void steer_op_release(steer_op *op);
int steer_spec_create(steer_spec **out, int32_t count, const int32_t *layers, steer_op *const *ops);
steer_spec *steer_spec_retain(steer_spec *spec);
void steer_spec_release(steer_spec *spec);
int64_t steer_spec_hidden(const steer_spec *spec);
typedef struct steer_engine steer_engine;
typedef struct steer_plan steer_plan;
typedef enum steer_compile {
    STEER_COMPILE_INHERIT = 0,
    STEER_COMPILE_OFF = 1,
    STEER_COMPILE_DEFAULT = 2,
    STEER_COMPILE_REDUCE_OVERHEAD = 3
} steer_compile;
typedef struct steer_engine_desc {
    uint32_t struct_size;
    steer_dtype dtype;
    int64_t hidden;
    steer_device *device;
    int64_t vector_bytes;
    steer_compile compile;
    int32_t
        compile_background;
} steer_engine_desc;
typedef struct steer_engine_stats {
    uint32_t struct_size;
    int32_t live_plans;
    int64_t vectors;
    int64_t vector_bytes;
    int64_t vector_budget;
    int64_t vector_hits;
    int64_t vector_misses;
    int64_t vector_evictions;
    int64_t programs;
    int64_t program_hits;
    int64_t plans;
    int64_t updates;
    int64_t applies;
    int64_t launches_uniform;
    int64_t launches_mixed;
    int64_t launches_loop;
    int64_t applies_none;
    int64_t launches_graph;
    int64_t launches_compiled;
    int64_t compiles;
    int64_t memory_hits;
    int64_t disk_hits;
    int64_t failures;
} steer_engine_stats;
int steer_engine_create(steer_engine **out, const steer_engine_desc *desc);
void steer_engine_release(steer_engine *engine);
int steer_engine_get_stats(steer_engine_stats *out, steer_engine *engine);
typedef struct steer_request {
    steer_spec *spec;
    int64_t tokens;
    int64_t position;
    int64_t
        prompt_tokens;
    const int64_t *token_ids;
    steer_phase phase;
    int32_t reserved;
} steer_request;
typedef enum steer_path {
    STEER_PATH_AUTO = 0,
    STEER_PATH_UNIFORM = 1,
    STEER_PATH_MIXED = 2,
    STEER_PATH_LOOP = 3,
    STEER_PATH_NONE = 4
} steer_path;
typedef struct steer_plan_desc {
    uint32_t struct_size;
    steer_path path;
    int64_t rows;
    int32_t strict;
    int32_t request_count;
    const steer_request *requests;
    steer_compile compile;
    int32_t compile_background;
} steer_plan_desc;
typedef enum steer_compile_state {
    STEER_COMPILE_STATE_OFF = 0,
    STEER_COMPILE_STATE_NONE = 1,
    STEER_COMPILE_STATE_COMPILING = 2,
    STEER_COMPILE_STATE_READY = 3,
    STEER_COMPILE_STATE_NOT_CHOSEN = 4,
    STEER_COMPILE_STATE_FAILED = 5
} steer_compile_state;
typedef enum steer_compile_source {
    STEER_COMPILE_SOURCE_NONE = 0,
    STEER_COMPILE_SOURCE_COMPILED = 1,
    STEER_COMPILE_SOURCE_MEMORY = 2,
    STEER_COMPILE_SOURCE_DISK = 3
} steer_compile_source;
typedef struct steer_explain {
    uint32_t struct_size;
    steer_path path;
    int64_t rows;
    int64_t steered_rows;
    int32_t programs;
    int32_t ops;
    int32_t max_ops;
    int32_t groups;
    int32_t launches;
    int32_t idle_specs;
    int64_t bytes;
    double expected_us;
    char why[160];
    char kernels[200];
    steer_compile compile;
    steer_compile_state compile_state;
    steer_compile_source compile_source;
    int32_t reserved;
    double compile_ms;
    double ordinary_us;
    double compiled_us;
    int64_t pays_back;
    char compile_why[160];
} steer_explain;
typedef struct steer_group {
    uint32_t struct_size;
    int32_t program;
    int64_t start;
    int64_t rows;
    int32_t request;
    int32_t adds;
    int32_t projections;
    int32_t source_ops;
} steer_group;
int steer_plan_create(steer_plan **out, steer_engine *engine, const steer_plan_desc *desc);
void steer_plan_release(steer_plan *plan);
int steer_plan_update(steer_plan *plan, int32_t request_count, const steer_request *requests);
int steer_plan_apply(steer_plan *plan, int32_t layer, steer_tensor *hidden, steer_tensor *residual);
int32_t steer_plan_is_missed(const steer_plan *plan);
int steer_plan_explain(steer_explain *out, steer_plan *plan, int32_t layer);
int steer_plan_group(steer_group *out, steer_plan *plan, int32_t layer, int32_t index);
int steer_plan_idle_spec(int32_t *out, steer_plan *plan, int32_t index);
typedef struct steer_plan_graph steer_plan_graph;
typedef struct steer_plan_graph_stats {
    uint32_t struct_size;
    int32_t captured;
    int32_t layers;
    int32_t nodes;
    int64_t rows;
    int64_t launches;
    int64_t captures;
    int64_t recaptures;
    char why[160];
} steer_plan_graph_stats;
int steer_plan_graph_create(steer_plan_graph **out, steer_plan *plan, int32_t count, const int32_t *layers,
                            steer_tensor *const *hiddens, steer_tensor *const *residuals);
int steer_plan_graph_launch(steer_plan_graph *graph);
int steer_plan_graph_get_stats(steer_plan_graph_stats *out, steer_plan_graph *graph);
void steer_plan_graph_release(steer_plan_graph *graph);
typedef struct steer_event steer_event;
typedef struct steer_graph steer_graph;
typedef enum steer_reference {
    STEER_REFERENCE_EMPTY = 0,
    STEER_REFERENCE_STREAM = 1
} steer_reference;
int steer_event_create(steer_event **out, steer_device *device);
void steer_event_release(steer_event *event);
int steer_event_record(steer_event *event);
int steer_event_elapsed(double *out, steer_event *start, steer_event *stop);
int steer_graph_begin(steer_device *device);
int steer_graph_end(steer_graph **out, steer_device *device);
int steer_graph_launch(steer_graph *graph);
void steer_graph_release(steer_graph *graph);
int steer_reference_run(steer_tensor *tensor, steer_reference kind);
typedef struct steer_model steer_model;
typedef struct steer_loader steer_loader;
typedef enum steer_site {
    STEER_SITE_EMBED = 0,
    STEER_SITE_ATTENTION =
        1,
    STEER_SITE_LAYER = 2,
    STEER_SITE_COUNT = 3
} steer_site;
typedef struct steer_model_desc {
    uint32_t struct_size;
    int32_t dtype;
    steer_device *device;
    int32_t
        random;
    int32_t reserved;
    uint64_t seed;
} steer_model_desc;
typedef struct steer_model_info {
    uint32_t struct_size;
    steer_dtype dtype;
    int32_t layers;
    int32_t heads, kv_heads, head_dim;
    int64_t hidden, vocab, context;
    int64_t bytes;
    int64_t token_bytes;
    int32_t bos, pad;
    int32_t eos_count;
    int32_t eos[16];
    char family[32];
} steer_model_info;
int steer_loader_create(steer_loader **out, const char *path, const steer_model_desc *desc);
int steer_loader_step(double *done, steer_loader *loader);
int steer_loader_finish(steer_model **out, steer_loader *loader);
void steer_loader_release(steer_loader *loader);
steer_model *steer_model_retain(steer_model *model);
void steer_model_release(steer_model *model);
int steer_model_describe(steer_model_info *out, const steer_model *model);
const char *steer_model_config(const steer_model *model);
const char *steer_model_path(const steer_model *model);
steer_device *steer_model_device(const steer_model *model);
int steer_model_logits(steer_tensor **out, steer_model *model, steer_tensor *hidden);
typedef struct steer_capture steer_capture;
typedef struct steer_capture_desc {
    uint32_t struct_size;
    steer_site site;
    int32_t groups;
    int32_t layer_count;
    const int32_t *layers;
    int32_t squares;
    int32_t reserved;
} steer_capture_desc;
int steer_capture_create(steer_capture **out, steer_model *model, const steer_capture_desc *desc);
void steer_capture_release(steer_capture *capture);
int steer_capture_tensor(steer_tensor **out, steer_capture *capture, int32_t squares);
const int64_t *steer_capture_counts(const steer_capture *capture);
typedef struct steer_session steer_session;
typedef struct steer_session_desc {
    uint32_t struct_size;
    int32_t sequences;
    int64_t tokens;
    int64_t rows;
    int64_t vector_bytes;
    int32_t no_sharing;
    int32_t no_graphs;
    int32_t
        reproducible;
} steer_session_desc;
typedef enum steer_sequence_state {
    STEER_SEQUENCE_WAITING = 0,
    STEER_SEQUENCE_RUNNING = 1,
    STEER_SEQUENCE_STOPPED = 2,
    STEER_SEQUENCE_LENGTH = 3,
    STEER_SEQUENCE_FAILED = 4
} steer_sequence_state;
typedef struct steer_sequence_desc {
    uint32_t struct_size;
    int32_t ignore_eos;
    int64_t count;
    const int32_t *tokens;
    int64_t prompt_tokens;
    int64_t max_tokens;
    steer_spec *specs[3];
    float temperature;
    float top_p;
    float min_p;
    float repetition_penalty;
    int32_t top_k;
    int32_t stop_count;
    const int32_t *stop_ids;
    uint64_t seed;
    int64_t
        logprobs_from;
    int64_t logits_from;
    steer_capture *capture;
    const int32_t *capture_groups;
    int32_t capture_generated;
    int32_t twin;
    int32_t hold;
    int32_t from;
    int32_t
        apart;
    const int32_t
        *others;
    int32_t
        other_count;
    int32_t reserved;
} steer_sequence_desc;
typedef struct steer_sequence_status {
    uint32_t struct_size;
    steer_sequence_state state;
    int64_t given;
    int64_t generated;
    int64_t computed;
    int64_t shared;
    int64_t
        begun;
    int64_t failed_at;
} steer_sequence_status;
typedef struct steer_session_stats {
    uint32_t struct_size;
    int32_t running, waiting;
    int64_t steps, rows;
    int64_t blocks, blocks_free;
    int64_t shared_blocks;
    int64_t evictions;
    int64_t cache_bytes;
    int64_t graphs, replays;
} steer_session_stats;
int steer_session_create(steer_session **out, steer_model *model, const steer_session_desc *desc);
void steer_session_release(steer_session *session);
int steer_session_add(int32_t *id, steer_session *session, const steer_sequence_desc *desc);
int steer_session_step(int32_t *running, steer_session *session);
int steer_session_status(steer_sequence_status *out, steer_session *session, int32_t id);
int steer_session_tokens(int64_t *count, steer_session *session, int32_t id, int64_t start, int64_t capacity,
                         int32_t *tokens, float *logprobs);
int steer_session_logprobs(float *out, steer_session *session, int32_t id);
int steer_session_twin(int64_t *count, steer_session *session, int32_t id, int64_t start, int64_t capacity,
                       float *kl, float *logprobs, int32_t *likeliest);
int steer_session_logits(steer_tensor **out, steer_session *session, int32_t id);
int steer_session_steered(int64_t *out, steer_session *session, int32_t id);
int steer_session_fork(int32_t *id, steer_session *session, int32_t from, int64_t max_tokens);
int steer_session_stop(steer_session *session, int32_t id);
int steer_session_set_specs(steer_session *session, int32_t id, steer_spec *const *specs);
int steer_session_drop(steer_session *session, int32_t id);
int steer_session_get_stats(steer_session_stats *out, steer_session *session);
typedef struct steer_tokenizer steer_tokenizer;
int steer_tokenizer_open(steer_tokenizer **out, const char *path);
steer_tokenizer *steer_tokenizer_retain(steer_tokenizer *tokenizer);
void steer_tokenizer_release(steer_tokenizer *tokenizer);
int32_t steer_tokenizer_vocab(const steer_tokenizer *tokenizer);
int steer_tokenizer_encode(int64_t *count, steer_tokenizer *tokenizer, const char *text, size_t size,
                           int32_t special, int32_t *ids, int64_t room);
int steer_tokenizer_decode(size_t *size, steer_tokenizer *tokenizer, const int32_t *ids, int64_t count,
                           int32_t skip_special, char *text, size_t room);
int steer_tokenizer_token(const char **text, size_t *size, const steer_tokenizer *tokenizer, int32_t id);
int32_t steer_tokenizer_id(const steer_tokenizer *tokenizer, const char *text, size_t size);
int32_t steer_tokenizer_is_special(const steer_tokenizer *tokenizer, int32_t id);
int32_t steer_tokenizer_named(const steer_tokenizer *tokenizer, const char *role);
typedef struct steer_text_stream steer_text_stream;
int steer_text_stream_create(steer_text_stream **out, steer_tokenizer *tokenizer, int32_t skip_special);
int steer_text_stream_push(const char **text, size_t *size, steer_text_stream *stream, int32_t id);
int steer_text_stream_finish(const char **text, size_t *size, steer_text_stream *stream);
void steer_text_stream_release(steer_text_stream *stream);
]]
