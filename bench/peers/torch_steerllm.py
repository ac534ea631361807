"""torch_steerllm.py: the PyTorch side of bench/steerllm.lua: steering operations and batches, eager and compiled.

Prints a JSON object a line as results come, so that what was measured survives a later failure: an `environment`, then
`variant` lines {section, name, how, wall, queued, graph, first_calls, off} and `note` lines for what could not run.
`wall` is a call and the wait for it; `queued` a call among many, between events; `graph` the same captured in a CUDA
graph; each with n, median, q1, q3, min and raw samples in seconds. `how` is eager, default or reduce-overhead (the
modes of torch.compile); first_calls are the seconds of the first calls of a compiled function, compilation included.
The variants of a section take turns.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import types

EAGER, DEFAULT, OVERHEAD = "eager", "default", "reduce-overhead"
FIRST_CALLS = 5


def emit(**line):
    print(json.dumps(line), flush=True)


def build_variants(torch, section, options, device, dtype):
    """The section's variants: name -> (function, arguments), and the names that are compiled in each mode."""
    import torch_ops as ops

    hidden, requests = 2048, 32
    rows = {"operations": 1472, "batches": 2048, "second": 512}[section]
    rows, requests = max(4, rows // options.shrink), max(2, requests // options.shrink)
    rows -= rows % requests if section == "batches" else 0
    torch.manual_seed(1)
    h = torch.randn(rows, hidden, device=device).to(dtype)
    vectors = torch.randn(3 * requests, hidden, device=device)
    vectors = (vectors / vectors.norm(dim=1, keepdim=True)).to(dtype)
    v = vectors[0].clone()

    def cap_sum(h, v, low=-1.0, high=1.0):
        p = (h * v).sum(dim=-1, keepdim=True)
        return h + (torch.clamp(p, low, high) - p) * v

    def ablate_sum(h, v):
        return h - (h * v).sum(dim=-1, keepdim=True) * v

    if section == "operations":
        variants = {"add": (ops.add, (h, v)), "cap": (ops.cap, (h, v)), "ablate": (ops.ablate, (h, v))}
        return variants, {DEFAULT: list(variants), OVERHEAD: list(variants)}
    if section == "second":
        variants = {"cap": (ops.cap, (h, v)), "ablate": (ops.ablate, (h, v)),
                    "cap_sum": (cap_sum, (h, v)), "ablate_sum": (ablate_sum, (h, v))}
        return variants, {DEFAULT: list(variants), OVERHEAD: []}

    tokens = rows // requests
    own = vectors[:requests].clone()
    listed, every = list(own), [list(vectors[i * requests:(i + 1) * requests]) for i in range(3)]
    of_row = torch.arange(rows, device=device) // tokens
    indices = [torch.arange(i * tokens, (i + 1) * tokens, device=device) for i in range(requests)]
    everything = torch.arange(rows, device=device)

    def gather(h, groups):
        out = torch.empty_like(h)
        for index, v in groups:
            out.index_copy_(0, index, ops.cap(h.index_select(0, index), v))
        return out

    def cap_rows(h, own, of_row):
        return cap_sum(h, own[of_row])

    def cap_batched(h, own):
        x = h.view(own.shape[0], -1, h.shape[1])
        p = torch.bmm(x, own[:, :, None])
        return (x + (p.clamp(-1.0, 1.0) - p) * own[:, None, :]).view_as(h)

    def three_loop(h, every):
        parts = []
        for i, (a, c, b) in enumerate(zip(*every)):
            parts.append(ops.ablate(ops.cap(ops.add(h[i * tokens:(i + 1) * tokens], a), c), b))
        return torch.cat(parts)

    def three_rows(h, a, c, b, of_row):
        return ablate_sum(cap_sum(ops.add(h, a[of_row]), c[of_row]), b[of_row])

    stacked = [torch.stack(x) for x in every]
    variants = {
        "fast": (ops.cap, (h, v)), "loop": (ops.cap_loop, (h, listed, tokens)),
        "gather_one": (gather, (h, [(everything, v)])),
        "gather_each": (gather, (h, list(zip(indices, listed)))),
        "rows": (cap_rows, (h, own, of_row)), "batched": (cap_batched, (h, own)),
        "three_loop": (three_loop, (h, every)), "three_rows": (three_rows, (h, *stacked, of_row)),
    }
    return variants, {DEFAULT: ["fast", "rows", "batched", "three_rows", "loop"], OVERHEAD: []}


def caller(function, arguments):
    return lambda: function(*arguments)


def repeated(run, count):
    def launch():
        for _ in range(count):
            run()  # its result is dropped at once, as in a model
    return launch


def fresh(function):
    """The function with a code object of its own, so that no other compilation is found for it."""
    return types.FunctionType(function.__code__.replace(co_name=function.__name__ + "_"), function.__globals__,
                              function.__name__, function.__defaults__, function.__closure__)


class Timer:
    """Times the variants of a section in turn."""

    def __init__(self, torch, device, seconds):
        self.torch, self.device, self.seconds = torch, device, seconds
        self.on_gpu = device.type == "cuda"
        self.wait = (lambda: torch.cuda.synchronize(device)) if self.on_gpu else (lambda: None)

    def seconds_of(self, run):
        begin = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - begin

    def captured(self, run, count):
        """A CUDA graph of `count` calls, as a function that replays it."""
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(count):
                run()
        return graph.replay

    def between_events(self, runs, in_graphs, failed):
        """Samples of the seconds of a call between two events, behind as many calls that keep the device busy."""
        from torch_ops import describe
        torch, launches, counts, samples = self.torch, {}, {}, {}
        for name, run in runs.items():
            seconds = min(self.seconds_of(run) for _ in range(3))
            counts[name] = min(100, max(4, int(1e-3 / seconds)))
            if not in_graphs:
                launches[name] = repeated(run, counts[name])
                continue
            try:
                launches[name] = self.captured(run, counts[name])
            except Exception as error:  # a graph that cannot be captured leaves the other variants
                failed(name, f"no CUDA graph: {first_line(error)}")
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        samples = {name: [] for name in launches}
        for launch in launches.values():
            launch()
            self.wait()
        end = time.perf_counter() + self.seconds * len(launches)
        while launches:
            for name, launch in launches.items():
                launch()
                start.record()
                launch()
                stop.record()
                stop.synchronize()
                samples[name].append(start.elapsed_time(stop) / 1e3 / counts[name])
            if time.perf_counter() > end or len(samples[name]) >= 300:
                break
        return {name: describe(values) for name, values in samples.items()}

    def section(self, runs, graphs, failed):
        """name -> {wall, queued, graph} of each of the runs; `graphs` are the names that may be captured."""
        from torch_ops import measure
        results = {name: {"wall": stats}
                   for name, stats in measure(runs, self.wait, self.seconds * len(runs), 1000).items()}
        for way, names in {"queued": runs, "graph": graphs}.items() if self.on_gpu else ():
            try:
                chosen = {name: runs[name] for name in names}
                for name, stats in self.between_events(chosen, way == "graph", failed).items():
                    results[name][way] = stats
            except Exception as error:  # the other ways of timing are kept
                failed(next(iter(runs)), f"the section was not timed as {way}: {first_line(error)}")
        return results


def first_line(error):
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def off_exact(torch, variants, dtype):
    """Percent of the elements that are not the exact result, in float64 of the same vectors, rounded once."""
    off = {}
    for name, (function, arguments) in variants.items():
        want = function(*(x.double() for x in arguments)).to(dtype)
        off[name] = (function(*arguments) != want).double().mean().item() * 100
    return off


ALIKE = [("fast", "gather_one"), ("loop", "gather_each"), ("loop", "rows"), ("loop", "batched"),
         ("three_loop", "three_rows")]


def check_alike(variants):
    """Raises an error unless the ways of steering one batch agree, within what bf16 products and sums may lose."""
    for one, other in ALIKE if "loop" in variants else ():
        results = [variants[name][0](*variants[name][1]).double() for name in (one, other)]
        error = (results[0] - results[1]).abs().max().item()
        if not error < 0.2:
            raise ValueError(f"{one} and {other} differ by {error}")


class Compiler:
    """Compiles functions as long as the time for it lasts."""

    def __init__(self, torch, timer, options):
        self.torch, self.timer, self.left = torch, timer, options.compile_seconds
        self.wanted = options.compile and hasattr(torch, "compile")

    def __call__(self, function, arguments, mode):
        """The compiled function as a caller and the seconds of its first calls."""
        if self.left <= 0:
            raise TimeoutError("left out: the time for compiling was over")
        begin = time.perf_counter()
        try:
            run = caller(self.torch.compile(fresh(function), mode=mode, dynamic=False), arguments)
            return run, [self.timer.seconds_of(run) for _ in range(FIRST_CALLS)]
        finally:
            self.left -= time.perf_counter() - begin


def run_section(torch, timer, compiler, section, options, device, dtype):
    variants, modes = build_variants(torch, section, options, device, dtype)
    check_alike(variants)
    runs, first_calls, keys = {}, {}, {}

    def failed(key, message):
        emit(kind="note", section=section, name=keys[key][0], how=keys[key][1], message=message)

    for name, (function, arguments) in variants.items():
        runs[name], keys[name] = caller(function, arguments), (name, EAGER)
        runs[name]()
    for mode, names in modes.items() if compiler.wanted else ():
        for name in names:
            key = f"{name} {mode}"
            keys[key] = (name, mode)
            try:
                runs[key], first_calls[key] = compiler(*variants[name], mode)
            except Exception as error:  # no compiler, no Triton, no time: the eager variants go on
                failed(key, first_line(error))
    graphs = [key for key in runs if keys[key][1] != OVERHEAD]  # reduce-overhead replays graphs of its own
    results = timer.section(runs, graphs, failed)
    off = off_exact(torch, variants, dtype) if section == "second" else {}
    for key, result in results.items():
        name, how = keys[key]
        emit(kind="variant", section=section, name=name, how=how, first_calls=first_calls.get(key),
             off=off.get(name) if how == EAGER else None, **result)


def run_again(torch, compiler, options, device, dtype):
    """The first calls of a cap once more, when the caches on disk know its kernels."""
    variants, _ = build_variants(torch, "operations", options, device, dtype)
    for mode in (DEFAULT, OVERHEAD) if compiler.wanted else ():
        try:
            torch._dynamo.reset()
            emit(kind="again", name="cap", how=mode, first_calls=compiler(*variants["cap"], mode)[1])
        except Exception as error:
            emit(kind="note", section="warmup", name="cap", how=mode, message=first_line(error))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", required=True)
    parser.add_argument("--dtype", choices=["f32", "f16", "bf16"], default="bf16")
    parser.add_argument("--seconds", type=float, default=0.3, help="time for a variant and a way of timing it")
    parser.add_argument("--compile-seconds", type=float, default=50.0,
                        help="no compilation begins after this much compiling")
    parser.add_argument("--shrink", type=int, default=1, help="divide rows and requests by this")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    options = parser.parse_args()
    caches = tempfile.mkdtemp(prefix="steer-torch-")  # of compiled kernels: empty, so that a first call is one
    os.environ["TORCHINDUCTOR_CACHE_DIR"], os.environ["TRITON_CACHE_DIR"] = caches + "/inductor", caches + "/triton"
    try:
        try:
            begin = time.perf_counter()
            import torch
            import_seconds = time.perf_counter() - begin
        except ImportError as error:
            emit(kind="note", section="all", message=f"no PyTorch: {error}")
            return 1
        device, dtype = torch.device(options.device), {"f32": torch.float32, "f16": torch.float16,
                                                       "bf16": torch.bfloat16}[options.dtype]
        on_gpu = device.type == "cuda"
        begin = time.perf_counter()
        if on_gpu:
            torch.cuda.set_device(device)
        torch.zeros(1, device=device).sum().item()
        emit(kind="environment", import_seconds=import_seconds, device_seconds=time.perf_counter() - begin, torch=torch.__version__, cuda=torch.version.cuda,
             name=torch.cuda.get_device_name(device) if on_gpu else "CPU", python=sys.version.split()[0])
        if not hasattr(torch, "compile"):
            emit(kind="note", section="all", message=f"PyTorch {torch.__version__} has no torch.compile")
        timer = Timer(torch, device, options.seconds)
        compiler = Compiler(torch, timer, options)
        with torch.no_grad():
            for section in ("operations", "batches", "second"):
                try:
                    run_section(torch, timer, compiler, section, options, device, dtype)
                except Exception as error:  # the other sections go on
                    emit(kind="note", section=section, message=first_line(error))
            run_again(torch, compiler, options, device, dtype)
    finally:
        shutil.rmtree(caches, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
