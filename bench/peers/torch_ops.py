"""torch_ops.py: the steering operations as a PyTorch user writes them, timed by the wall clock.

Prints one JSON object: versions, shape and, per variant, the seconds of a call and its wait: n, median, q1, q3, min and
the raw samples. Variants: `add`, `cap`, `ablate` on the whole batch with one vector (the fast path), `cap_loop` on the
slices of the requests, each with a vector of its own (the slow path); with --compile also `cap_compiled` and
`cap_loop_compiled`. The variants take turns, sample by sample.
"""
import argparse
import json
import sys
import time

import torch

from samples import describe

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def add(h, v, scale=0.25):
    return h + scale * v


def cap(h, v, low=-1.0, high=1.0):
    p = h @ v
    return h + (p.clamp(low, high) - p)[:, None] * v


def ablate(h, v):
    return h - (h @ v)[:, None] * v


def cap_loop(h, vectors, tokens):
    """One request after the other, the slices joined at the end."""
    return torch.cat([cap(h[i * tokens:(i + 1) * tokens], v) for i, v in enumerate(vectors)])


def check(h, vectors, tokens):
    """The loop against float64, within the rounding that bf16 products have."""
    got = cap_loop(h, vectors, tokens).double()
    want = cap_loop(h.double(), [v.double() for v in vectors], tokens)
    error = (got - want).abs().max().item()
    if not error < 0.1:
        sys.exit(f"torch_ops: the loop is off by {error}")


def measure(variants, wait, seconds, most):
    """Seconds of a call and the wait for it, in turns of ten calls."""
    for run in variants.values():
        for _ in range(5):
            run()
        wait()
    samples = {name: [] for name in variants}
    end = time.perf_counter() + seconds
    while True:
        for name, run in variants.items():
            for _ in range(10):
                begin = time.perf_counter()
                run()
                wait()
                samples[name].append(time.perf_counter() - begin)
        if time.perf_counter() > end or len(samples[name]) >= most:
            return {name: describe(values) for name, values in samples.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for all variants together")
    parser.add_argument("--samples", type=int, default=2000, help="most samples of a variant")
    parser.add_argument("--compile", action="store_true", help="also torch.compile's versions")
    options = parser.parse_args()
    if options.requests < 1 or options.rows % options.requests:
        parser.error("--rows must be a multiple of --requests")

    device = torch.device(options.device)
    torch.manual_seed(1)
    h = torch.randn(options.rows, options.hidden, device=device).to(DTYPES[options.dtype])
    vectors = torch.randn(options.requests, options.hidden, device=device)
    vectors = list((vectors / vectors.norm(dim=1, keepdim=True)).to(h.dtype))
    tokens = options.rows // options.requests
    v = vectors[0]
    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)

    with torch.inference_mode():
        check(h, vectors, tokens)
        variants = {"add": lambda: add(h, v), "cap": lambda: cap(h, v), "ablate": lambda: ablate(h, v),
                    "cap_loop": lambda: cap_loop(h, vectors, tokens)}
        if options.compile:
            fast, slow = torch.compile(cap), torch.compile(cap_loop)
            variants["cap_compiled"] = lambda: fast(h, v)
            variants["cap_loop_compiled"] = lambda: slow(h, vectors, tokens)
        results = measure(variants, wait, options.seconds, options.samples)

    json.dump({"torch": torch.__version__, "device": options.device,
               "name": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
               "rows": options.rows, "hidden": options.hidden, "requests": options.requests,
               "dtype": options.dtype, "unit": "s", "results": results}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
