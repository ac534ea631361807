"""llama_cpp_model.py: llama.cpp's side of bench/cpu_model.lua: steps of decoding a GGUF file on the CPU.

Prints a JSON object a line: an `environment`, then `variant` lines {section, name, how, wall}, where `section` is
"FILE b N" and `wall` the seconds of a step in which each of N sequences gets its next token, the greatest logit's. With
--make-bf16 it first writes the file's weights as bf16 to that path, unless it is there.
"""
import argparse
import json
import os
import sys
import time

from samples import describe


def emit(**line):
    print(json.dumps(line), flush=True)


def make_bf16(lib, source, target):
    """Writes the tensors of a GGUF file as bf16."""
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = lib.LLAMA_FTYPE_MOSTLY_BF16, True
    if lib.llama_model_quantize(source.encode(), (target + ".part").encode(), params):
        sys.exit(f"llama_cpp_model: {source} could not be written as bf16")
    os.rename(target + ".part", target)


class Batch:
    """Sequences that decode together."""

    def __init__(self, lib, model, sequences, context, steps, threads):
        import numpy
        self.lib, self.numpy, self.n = lib, numpy, sequences
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = sequences * (context + steps + 8), 512, 512
        params.n_seq_max, params.n_threads, params.n_threads_batch = sequences, threads, threads
        self.context = lib.llama_init_from_model(model, params)
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        self.batch = lib.llama_batch_init(max(sequences, context), 0, 1)
        self.next, self.at = [], context
        for sequence in range(sequences):
            tokens = [(7919 * (sequence + 1) + 16807 * i) % self.vocab for i in range(context)]
            self.run([(token, i, sequence, i + 1 == context) for i, token in enumerate(tokens)])
            self.next.append(self.greatest(context - 1))

    def run(self, rows):
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted
            batch.seq_id[i][0] = sequence
        if self.lib.llama_decode(self.context, batch):
            sys.exit("llama_cpp_model: llama_decode failed")

    def greatest(self, row):
        logits = self.lib.llama_get_logits_ith(self.context, row)
        return int(self.numpy.ctypeslib.as_array(logits, (self.vocab,)).argmax())

    def step(self):
        self.run([(token, self.at, sequence, True) for sequence, token in enumerate(self.next)])
        self.next = [self.greatest(row) for row in range(self.n)]
        self.at += 1

    def close(self):
        self.lib.llama_batch_free(self.batch)
        self.lib.llama_free(self.context)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--sequences", type=lambda text: [int(word) for word in text.split(",")], default=[1, 8])
    parser.add_argument("--context", type=int, default=32)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--make-bf16", help="path of the first file's weights as bf16; it is measured too")
    options = parser.parse_args()
    try:
        import llama_cpp as lib
    except ImportError as error:
        emit(kind="note", section="all", message=f"no llama.cpp: {error}")
        return 1
    quiet = lib.llama_log_callback(lambda level, text, data: None)  # kept: C calls it
    lib.llama_log_set(quiet, None)
    lib.llama_backend_init()
    emit(kind="environment", version=lib.__version__, threads=options.threads)
    if options.make_bf16:
        if not os.path.exists(options.make_bf16):
            make_bf16(lib, options.files[0], options.make_bf16)
        options.files.append(options.make_bf16)
    for path in options.files:
        model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        if not model:
            emit(kind="note", section=path, message="llama.cpp did not open it")
            continue
        for sequences in options.sequences:
            batch, samples = Batch(lib, model, sequences, options.context, options.steps, options.threads), []
            for _ in range(options.steps):
                begin = time.perf_counter()
                batch.step()
                samples.append(time.perf_counter() - begin)
            batch.close()
            emit(kind="variant", section=f"{os.path.basename(path)} b {sequences}", name="plain", how="llama.cpp",
                 wall=describe(samples[2:]))
        lib.llama_model_free(model)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
