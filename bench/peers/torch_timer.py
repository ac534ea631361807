"""torch_timer.py: what PyTorch's sides of the studies share: their lines, timers, compilation, start and end."""
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
        from samples import describe
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

    def section(self, runs, named, ways, failed):
        """name -> {wall, and the `ways` on a GPU} of each of the runs; named: way -> the names that it may time."""
        from torch_ops import measure
        results = {name: {"wall": stats}
                   for name, stats in measure(runs, self.wait, self.seconds * len(runs), 1000).items()}
        for way in ways if self.on_gpu else ():
            try:
                chosen = {name: runs[name] for name in named[way]}
                for name, stats in self.between_events(chosen, way == "graph", failed).items():
                    results[name][way] = stats
            except Exception as error:  # the other ways of timing are kept
                failed(next(iter(runs)), f"the section was not timed as {way}: {first_line(error)}")
        return results


def first_line(error):
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


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


def time_variants(timer, compiler, section, variants, modes, ways, off={}):
    """Compiles and times a section's variants in turn and prints a `variant` line for each.

    variants: name -> (function, arguments); modes: mode of torch.compile -> names to compile; ways: of timing on a GPU,
    besides the wall clock; off: name -> what is said of its eager results.
    """
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
    for key, result in timer.section(runs, {"queued": runs, "graph": graphs}, ways, failed).items():
        name, how = keys[key]
        emit(kind="variant", section=section, name=name, how=how, first_calls=first_calls.get(key),
             off=off.get(name) if how == EAGER else None, **result)


def attempt(section, function, *arguments):
    """Calls a function; its failure is a note, and the other sections go on."""
    try:
        function(*arguments)
    except Exception as error:
        emit(kind="note", section=section, message=first_line(error))


def argument_parser(description):
    """The options that every side has."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--device", required=True)
    parser.add_argument("--dtype", choices=["f32", "f16", "bf16"], default="bf16")
    parser.add_argument("--seconds", type=float, default=0.3, help="time for a variant and a way of timing it")
    parser.add_argument("--compile-seconds", type=float, default=50.0,
                        help="no compilation begins after this much compiling")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    return parser


def with_torch(options, body):
    """Calls body(torch, timer, compiler, device, dtype), compiled kernels cached in an empty folder. Gives a status."""
    caches = tempfile.mkdtemp(prefix="steer-torch-")  # empty, so that a first call is one
    os.environ["TORCHINDUCTOR_CACHE_DIR"], os.environ["TRITON_CACHE_DIR"] = caches + "/inductor", caches + "/triton"
    try:
        begin = time.perf_counter()
        try:
            import torch
        except ImportError as error:
            emit(kind="note", section="all", message=f"no PyTorch: {error}")
            return 1
        import_seconds = time.perf_counter() - begin
        device, dtype = torch.device(options.device), {"f32": torch.float32, "f16": torch.float16,
                                                       "bf16": torch.bfloat16}[options.dtype]
        on_gpu = device.type == "cuda"
        begin = time.perf_counter()
        if on_gpu:
            torch.cuda.set_device(device)
        torch.zeros(1, device=device).sum().item()
        emit(kind="environment", import_seconds=import_seconds, device_seconds=time.perf_counter() - begin,
             torch=torch.__version__, cuda=torch.version.cuda,
             name=torch.cuda.get_device_name(device) if on_gpu else "CPU", python=sys.version.split()[0])
        if not hasattr(torch, "compile"):
            emit(kind="note", section="all", message=f"PyTorch {torch.__version__} has no torch.compile")
        timer = Timer(torch, device, options.seconds)
        with torch.no_grad():
            body(torch, timer, Compiler(torch, timer, options), device, dtype)
    finally:
        shutil.rmtree(caches, ignore_errors=True)
    return 0
