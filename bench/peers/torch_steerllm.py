"""torch_steerllm.py: the PyTorch side of bench/steerllm.lua: steering operations and batches, eager and compiled.

Prints a JSON object a line as results come, so that what was measured survives a later failure: an `environment`, then
`variant` lines {section, name, how, wall, queued, graph, first_calls, off} and `note` lines for what could not run.
`wall` is a call and the wait for it; `queued` a call among many, between events; `graph` the same captured in a CUDA
graph; each with n, median, q1, q3, min and raw samples in seconds. `how` is eager, default or reduce-overhead (the
modes of torch.compile); first_calls are the seconds of the first calls of a compiled function, compilation included.
The variants of a section take turns.
"""
import sys

from torch_timer import (DEFAULT, EAGER, OVERHEAD, argument_parser, attempt, emit, first_line, time_variants,
                         with_torch)


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


def run_section(torch, timer, compiler, section, options, device, dtype):
    variants, modes = build_variants(torch, section, options, device, dtype)
    check_alike(variants)
    off = off_exact(torch, variants, dtype) if section == "second" else {}
    time_variants(timer, compiler, section, variants, modes, ways=("queued", "graph"), off=off)


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
    parser = argument_parser(__doc__)
    parser.add_argument("--shrink", type=int, default=1, help="divide rows and requests by this")
    options = parser.parse_args()

    def body(torch, timer, compiler, device, dtype):
        for section in ("operations", "batches", "second"):
            attempt(section, run_section, torch, timer, compiler, section, options, device, dtype)
        run_again(torch, compiler, options, device, dtype)

    return with_torch(options, body)


if __name__ == "__main__":
    sys.exit(main())
