"""hf_model.py: Hugging Face transformers' side of bench/model.lua: decoding and prefill of models with random weights.

Prints a JSON object a line as results come, so that what was measured survives a later failure: an `environment`, then
`variant` lines {section, name, how, wall} and `note` lines for what could not run. `section` is "SHAPE b N" or
"SHAPE prefill"; `how` is eager (a growing cache, as model.generate has by default), graph (a static cache, the step
captured in a CUDA graph) or compiled (a static cache, torch.compile of the model in mode reduce-overhead); `name` is
plain, hook (a forward hook on every decoder layer adds one vector) or hooks (it adds to each sequence a vector of its
own). `wall` is the seconds of a step, sampling included, or of a prefill. The variants of a section take turns.
"""
import contextlib
import time

from torch_timer import OVERHEAD, argument_parser, attempt, emit, first_line, with_torch

BLOCK = 8  # steps of a sample
ROOM = 64  # steps before the cache is wound back
FEWEST, MOST = 5, 200  # samples of a variant


class Shape:
    """A model of a config with random weights on the device."""

    def __init__(self, torch, folder, device, dtype):
        from transformers import AutoConfig, AutoModelForCausalLM
        self.torch, self.device, self.dtype = torch, device, dtype
        self.name = folder.rstrip("/").split("/")[-1]
        self.config = AutoConfig.from_pretrained(folder)
        torch.manual_seed(1)
        with device:
            self.model = AutoModelForCausalLM.from_config(self.config, dtype=dtype).eval()

    def ids(self, sequences, tokens):
        return self.torch.randint(0, self.config.vocab_size, (sequences, tokens), device=self.device)

    @contextlib.contextmanager
    def hooked(self, name, sequences):
        """Hooks of a variant on every decoder layer."""
        handles = []
        for layer in self.model.model.layers if name != "plain" else ():
            rows = sequences if name == "hooks" else 1
            v = 0.01 * self.torch.randn(rows, 1, self.config.hidden_size, device=self.device, dtype=self.dtype)

            def hook(module, arguments, output, v=v):
                return output + v if not isinstance(output, tuple) else (output[0] + v, *output[1:])
            handles.append(layer.register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class Decoder:
    """Steps of a batch whose prompts are computed; winds its cache back when that is full."""

    def __init__(self, shape, sequences, context, static):
        from transformers import DynamicCache, StaticCache
        self.torch, self.model, self.context, self.static = shape.torch, shape.model, context, static
        self.cache = (StaticCache(config=shape.config, max_cache_len=context + ROOM) if static
                      else DynamicCache(config=shape.config))
        self.forward = lambda ids, cache: self.model(input_ids=ids, past_key_values=cache, use_cache=True,
                                                     logits_to_keep=1).logits[:, -1]
        logits = self.forward(shape.ids(sequences, context), self.cache)
        self.next = self.sample(logits)[:, None]
        self.left = ROOM

    def sample(self, logits):
        """A token of each distribution: the greatest of p / e with e exponential is drawn with probability p."""
        p = logits.float().softmax(-1)
        return (p / self.torch.empty_like(p).exponential_(1)).argmax(-1)

    def step(self):
        self.next.copy_(self.sample(self.forward(self.next, self.cache))[:, None])

    def wind_back(self):
        if self.static:
            for layer in self.cache.layers:
                layer.cumulative_length.fill_(self.context)
        else:
            self.cache.crop(self.left - ROOM)
        self.left = ROOM

    def runner(self, step):
        """A function that runs BLOCK steps."""
        def run():
            if self.left < BLOCK:
                self.wind_back()
            self.left -= BLOCK
            for _ in range(BLOCK):
                step()
        return run


def in_turns(runs, timer, parts):
    """Statistics of the seconds of a call of each, divided by `parts`; one call of each is not counted."""
    from samples import describe
    samples = {key: [] for key in runs}
    for run in runs.values():
        timer.seconds_of(run)
    end = time.perf_counter() + timer.seconds * len(runs)
    while runs:
        for key, run in runs.items():
            samples[key].append(timer.seconds_of(run) / parts)
        count = len(samples[key])
        if count >= MOST or (count >= FEWEST and time.perf_counter() > end):
            break
    return {key: describe(values) for key, values in samples.items()}


def emit_all(section, results):
    for (name, how), stats in results.items():
        emit(kind="variant", section=section, name=name, how=how, wall=stats)


def decode(shape, timer, compiler, options, sequences):
    section, runs = f"{shape.name} b {sequences}", {}

    def make(name, how, build):
        try:
            with shape.hooked(name, sequences):
                runs[name, how] = build()
        except Exception as error:  # what cannot be captured or compiled leaves the others
            emit(kind="note", section=section, name=name, how=how, message=first_line(error))

    def eager(name):
        decoder = Decoder(shape, sequences, options.context, static=False)
        run = decoder.runner(decoder.step)

        def hooked():
            with shape.hooked(name, sequences):
                run()
        return hooked if name != "plain" else run

    def graph():
        decoder = Decoder(shape, sequences, options.context, static=True)
        replay = timer.captured(decoder.step, 1)
        decoder.wind_back()
        return decoder.runner(replay)

    def compiled():
        decoder = Decoder(shape, sequences, options.context, static=True)
        call, first = compiler(decoder.forward, (decoder.next, decoder.cache), OVERHEAD)
        decoder.forward = lambda ids, cache: call()
        decoder.wind_back()
        emit(kind="first_calls", section=section, seconds=first)
        return decoder.runner(decoder.step)

    for name in ("plain", "hook", "hooks"):
        make(name, "eager", lambda: eager(name))
        if timer.on_gpu:
            make(name, "graph", graph)
    emit_all(section, in_turns(runs, timer, BLOCK))
    if compiler.wanted and compiler.left > 0:
        runs.clear()
        make("plain", "compiled", compiled)
        emit_all(section, in_turns(runs, timer, BLOCK))


def prefill(shape, timer, options):
    ids = shape.ids(*options.prefill)

    def run():
        logits = shape.model(input_ids=ids, use_cache=True, logits_to_keep=1).logits
        logits.argmax(-1)
    emit_all(f"{shape.name} prefill", in_turns({("plain", "eager"): run}, timer, 1))


def run_shape(torch, timer, compiler, options, folder, device, dtype):
    begin = time.perf_counter()
    shape = Shape(torch, folder, device, dtype)
    timer.wait()
    emit(kind="opened", shape=shape.name, seconds=time.perf_counter() - begin,
         parameters=sum(p.numel() for p in shape.model.parameters()))
    attempt(f"{shape.name} prefill", prefill, shape, timer, options)
    for sequences in options.sequences:
        attempt(f"{shape.name} b {sequences}", decode, shape, timer, compiler, options, sequences)


def body(options):
    def run(torch, timer, compiler, device, dtype):
        import transformers
        emit(kind="transformers", version=transformers.__version__)
        for folder in options.shapes:
            attempt(folder, run_shape, torch, timer, compiler, options, folder, device, dtype)
            if timer.on_gpu:
                torch.cuda.empty_cache()
    return run


def main():
    def numbers(text):
        return [int(word) for word in text.split(",")]
    parser = argument_parser(__doc__)
    parser.add_argument("--shapes", nargs="+", required=True, help="folders with a config.json")
    parser.add_argument("--sequences", type=numbers, default=[1, 64, 256])
    parser.add_argument("--context", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--prefill", type=numbers, default=[8, 1024], help="sequences and tokens of a prefill")
    options = parser.parse_args()
    return with_torch(options, body(options))


if __name__ == "__main__":
    raise SystemExit(main())
