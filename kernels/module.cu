/* module.cu: the vtable of the CUDA backend and the entry point of its module. */
#include "cuda.cuh"

const steer_host *steer_cuda_host;

static const steer_model_ops *model_ops() {
    static steer_model_ops ops;
    ops.embed = steer_cuda_embed;
    ops.residual = steer_cuda_residual;
    ops.steers = steer_cuda_steers;
    ops.norm_parts = steer_cuda_norm_parts;
    ops.linear = steer_cuda_linear;
    ops.fuses = steer_cuda_fuses;
    ops.rope = steer_cuda_rope;
    ops.attention_work = steer_cuda_attention_work;
    ops.attention = steer_cuda_attention;
    ops.activate = steer_cuda_activate;
    ops.mixture_work = steer_cuda_mixture_work;
    ops.mixture = steer_cuda_mixture;
    ops.gather = steer_cuda_gather;
    ops.accumulate = steer_cuda_accumulate;
    ops.join = steer_cuda_join;
    ops.changed = steer_cuda_changed;
    ops.notes = steer_cuda_notes;
    ops.logits = steer_cuda_logits;
    ops.sample_work = steer_cuda_sample_work;
    ops.sample = steer_cuda_sample;
    ops.logprob = steer_cuda_logprob;
    ops.divergence = steer_cuda_divergence;
    return &ops;
}

extern "C" __attribute__((visibility("default"))) const steer_backend *
steer_backend_entry(const steer_host *host) {
    static steer_backend backend;
    if (!host || host->abi != STEER_BACKEND_ABI) return nullptr;
    steer_cuda_host = host;
    backend.abi = STEER_BACKEND_ABI;
    backend.name = "cuda";
    backend.probe = steer_cuda_probe;
    backend.open = steer_cuda_open;
    backend.close = steer_cuda_close;
    backend.describe = steer_cuda_describe;
    backend.allocate = steer_cuda_allocate;
    backend.release = steer_cuda_release;
    backend.free_bytes = steer_cuda_free_bytes;
    backend.upload = steer_cuda_upload;
    backend.pinned_allocate = steer_cuda_pinned_allocate;
    backend.pinned_release = steer_cuda_pinned_release;
    backend.send = steer_cuda_send;
    backend.receive = steer_cuda_receive;
    backend.event_wait = steer_cuda_event_wait;
    backend.event_order = steer_cuda_event_order;
    backend.download = steer_cuda_download;
    backend.synchronize = steer_cuda_synchronize;
    backend.set_stream = steer_cuda_set_stream;
    backend.is_capturing = steer_cuda_is_capturing;
    backend.copy = steer_cuda_copy;
    backend.fill = steer_cuda_fill;
    backend.arange = steer_cuda_arange;
    backend.random = steer_cuda_random;
    backend.unary = steer_cuda_unary;
    backend.binary = steer_cuda_binary;
    backend.scalar = steer_cuda_scalar;
    backend.where = steer_cuda_where;
    backend.reduce = steer_cuda_reduce;
    backend.normalize = steer_cuda_normalize;
    backend.softmax = steer_cuda_softmax;
    backend.cumsum = steer_cuda_cumsum;
    backend.sort = steer_cuda_sort;
    backend.take = steer_cuda_take;
    backend.matmul = steer_cuda_matmul;
    backend.steer = steer_cuda_steer;
    backend.name_kernels = steer_cuda_name_kernels;
    backend.kernel_ready = steer_cuda_kernel_ready;
    backend.kernel_text = steer_cuda_kernel_text;
    backend.kernel_build = steer_cuda_kernel_build;
    backend.kernel_load = steer_cuda_kernel_load;
    backend.kernel_launch = steer_cuda_kernel_launch;
    backend.reference = steer_cuda_reference;
    backend.event_create = steer_cuda_event_create;
    backend.event_release = steer_cuda_event_release;
    backend.event_record = steer_cuda_event_record;
    backend.event_elapsed = steer_cuda_event_elapsed;
    backend.graph_begin = steer_cuda_graph_begin;
    backend.graph_end = steer_cuda_graph_end;
    backend.graph_launch = steer_cuda_graph_launch;
    backend.graph_release = steer_cuda_graph_release;
    backend.model = model_ops();
    return &backend;
}
