"""torch_compile.py: the PyTorch side of bench/compile.lua: operations, programs and layers, eager and compiled.

Prints `environment`, `variant` and `note` lines as torch_steerllm.py does (ways: wall, queued). Sections are the shapes
that --shape names, and `layers`. A shape's variants: `add`, `cap`, `ablate` with one vector on the whole batch, `rows` (a
cap, the vectors of the requests gathered by row) and `program 8` (eight operations, one vector each). A variant of
`layers` is a number of layers in a row, a cap with gathered vectors each, at the last shape named `B`.
"""
import sys

from torch_timer import DEFAULT, OVERHEAD, argument_parser, attempt, time_variants, with_torch

LAYERS = (1, 8, 32)
PROGRAM = 8
PROGRAM_NAME = f"program {PROGRAM}"


def cap_rows(h, own, of_row, low=-1.0, high=1.0):
    v = own[of_row]
    p = (h * v).sum(dim=-1, keepdim=True)
    return h + (p.clamp(low, high) - p) * v


def program(h, vectors, kinds):
    """Operations of the kinds in turn, one for each vector."""
    for i, v in enumerate(vectors):
        h = kinds[i % len(kinds)](h, v)
    return h


def layers(h, own, of_row, count):
    """A cap per layer, into bounds that change from layer to layer."""
    for layer in range(count):
        h = cap_rows(h, own, of_row, *((2.0, 3.0) if layer % 2 == 0 else (-3.0, -2.0)))
    return h


def make_data(torch, rows, hidden, requests, device, dtype):
    """Hidden states, the requests' vectors, the request of each row, vectors of a program."""
    torch.manual_seed(1)
    h = torch.randn(rows, hidden, device=device, dtype=dtype)
    vectors = torch.randn(requests + PROGRAM, hidden, device=device)
    vectors = (vectors / vectors.norm(dim=1, keepdim=True)).to(dtype)
    of_row = (torch.arange(rows, device=device) // max(1, rows // requests)).clamp(max=requests - 1)
    return h, vectors[:requests].clone(), of_row, [v.clone() for v in vectors[requests:]]


def check(torch, variants):
    """Raises an error unless each variant's first rows agree with float64, within what bf16 products and sums lose."""
    for name, (function, arguments) in variants.items():
        got = function(*arguments)[:16].double()
        h, *rest = arguments
        rest = [x[:16] if torch.is_tensor(x) and not x.is_floating_point() else x for x in rest]
        want = function(h[:16].double(), *(double(torch, x) for x in rest))
        error = (got - want).abs().max().item()
        if not error < 0.2:
            raise ValueError(f"{name} is off by {error}")


def double(torch, x):
    if isinstance(x, list):
        return [v.double() for v in x]
    return x.double() if torch.is_tensor(x) and x.is_floating_point() else x


def run_shape(torch, timer, compiler, shape, device, dtype):
    import torch_ops as ops
    name, rows, hidden, requests = shape
    h, own, of_row, vectors = make_data(torch, int(rows), int(hidden), int(requests), device, dtype)
    variants = {"cap": (ops.cap, (h, vectors[0])), "rows": (cap_rows, (h, own, of_row)),
                "add": (ops.add, (h, vectors[0])), "ablate": (ops.ablate, (h, vectors[0])),
                PROGRAM_NAME: (program, (h, vectors, (ops.cap, ops.add, ops.ablate)))}
    check(torch, variants)
    modes = {DEFAULT: list(variants) if name == "A" else ["cap", "rows", PROGRAM_NAME], OVERHEAD: ["cap", "rows"]}
    time_variants(timer, compiler, name, variants, modes, ("queued",))


def run_layers(torch, timer, compiler, shape, device, dtype):
    _, rows, hidden, requests = shape
    h, own, of_row, _ = make_data(torch, int(rows), int(hidden), int(requests), device, dtype)
    variants = {str(count): (layers, (h, own, of_row, count)) for count in LAYERS}
    check(torch, {"1 layer": (layers, (h, own, of_row, 1))})
    time_variants(timer, compiler, "layers", variants, {OVERHEAD: ["32", "8", "1"], DEFAULT: ["32", "8", "1"]},
                  ("queued",))


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--shape", nargs=4, action="append", required=True,
                        metavar=("NAME", "ROWS", "HIDDEN", "REQUESTS"))
    options = parser.parse_args()

    def body(torch, timer, compiler, device, dtype):
        deep = [shape for shape in options.shape if shape[0] == "B"]
        if deep:
            attempt("layers", run_layers, torch, timer, compiler, deep[-1], device, dtype)
        for shape in options.shape:
            attempt(shape[0], run_shape, torch, timer, compiler, shape, device, dtype)

    return with_torch(options, body)


if __name__ == "__main__":
    sys.exit(main())
