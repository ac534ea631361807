"""torch_hook.py: steers the hidden states of a PyTorch module in place, through the C interface of libsteer.

A forward hook wraps the memory of the module's output, and libsteer works on PyTorch's current stream, so nothing is
copied and nothing waits. The batch has four requests: one adds a vector, one is unsteered, one is capped, one is
ablated.
The result is checked against PyTorch's own arithmetic in float64. Runs on the CPU where there is no CUDA.

usage: python3 bench/peers/torch_hook.py [--device cuda:0] [--library build/lib/libsteer.so]
"""
import argparse
import ctypes as ct
import os
import pathlib
import sys

import torch

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
ADD, CAP, ABLATE = 0, 1, 2
INFINITY = float("inf")
LEGACY_STREAM = 1  # PyTorch calls its default stream 0; CUDA's handle of it is 1, and NULL means libsteer's own stream


class OpDesc(ct.Structure):
    _fields_ = [("struct_size", ct.c_uint32), ("kind", ct.c_int), ("vector", ct.c_void_p), ("scale", ct.c_double),
                ("min", ct.c_double), ("max", ct.c_double), ("normalize", ct.c_int32), ("gate", ct.c_int),
                ("gate_vector", ct.c_void_p), ("gate_threshold", ct.c_double), ("gate_cosine", ct.c_int32),
                ("side", ct.c_int32), ("where", ct.c_void_p), ("exclude", ct.c_void_p), ("write", ct.c_void_p),
                ("matrix", ct.c_void_p), ("bias", ct.c_void_p), ("target", ct.c_double), ("degrees", ct.c_double),
                ("threshold", ct.c_double), ("activation", ct.c_int), ("point_count", ct.c_int32),
                ("points", ct.c_void_p), ("condition_count", ct.c_int32), ("note", ct.c_int32),
                ("truth", ct.c_uint64), ("conditions", ct.c_void_p)]


class EngineDesc(ct.Structure):
    _fields_ = [("struct_size", ct.c_uint32), ("dtype", ct.c_int), ("hidden", ct.c_int64), ("device", ct.c_void_p),
                ("vector_bytes", ct.c_int64), ("compile", ct.c_int), ("compile_background", ct.c_int32)]


class Request(ct.Structure):
    _fields_ = [("spec", ct.c_void_p), ("tokens", ct.c_int64), ("position", ct.c_int64), ("prompt_tokens", ct.c_int64),
                ("token_ids", ct.c_void_p), ("phase", ct.c_int), ("reserved", ct.c_int32)]


class PlanDesc(ct.Structure):
    _fields_ = [("struct_size", ct.c_uint32), ("path", ct.c_int), ("rows", ct.c_int64), ("strict", ct.c_int32),
                ("request_count", ct.c_int32), ("requests", ct.POINTER(Request)), ("compile", ct.c_int),
                ("compile_background", ct.c_int32)]


DESCRIPTORS = {"steer_op_desc": OpDesc, "steer_engine_desc": EngineDesc, "steer_request": Request,
               "steer_plan_desc": PlanDesc}
POINTER_OUT = ct.POINTER(ct.c_void_p)
SIGNATURES = {
    "steer_device_open": [POINTER_OUT, ct.c_char_p],
    "steer_device_set_stream": [ct.c_void_p, ct.c_void_p],
    "steer_tensor_wrap": [POINTER_OUT, ct.c_void_p, ct.c_int, ct.c_int32, ct.POINTER(ct.c_int64),
                          ct.POINTER(ct.c_int64), ct.c_void_p],
    "steer_op_create": [POINTER_OUT, ct.POINTER(OpDesc)],
    "steer_spec_create": [POINTER_OUT, ct.c_int32, ct.POINTER(ct.c_int32), POINTER_OUT],
    "steer_engine_create": [POINTER_OUT, ct.POINTER(EngineDesc)],
    "steer_plan_create": [POINTER_OUT, ct.c_void_p, ct.POINTER(PlanDesc)],
    "steer_plan_apply": [ct.c_void_p, ct.c_int32, ct.c_void_p, ct.c_void_p],
}
RELEASES = ["steer_device_release", "steer_tensor_release", "steer_op_release", "steer_spec_release",
            "steer_engine_release", "steer_plan_release"]


class Steer:
    """The few functions of libsteer that a hook needs; a failed call raises RuntimeError with its message."""

    def __init__(self, path):
        self.lib = ct.CDLL(path)
        for name, arguments in SIGNATURES.items():
            function = getattr(self.lib, name)
            function.argtypes, function.restype = arguments, ct.c_int
        for name in RELEASES:
            getattr(self.lib, name).argtypes, getattr(self.lib, name).restype = [ct.c_void_p], None
        self.lib.steer_error_message.restype = ct.c_char_p
        self.lib.steer_sizeof.argtypes, self.lib.steer_sizeof.restype = [ct.c_char_p], ct.c_size_t
        for name, kind in DESCRIPTORS.items():
            if self.lib.steer_sizeof(name.encode()) != ct.sizeof(kind):
                raise RuntimeError(f"{name}: {path} has another layout than this script")

    def call(self, name, *arguments):
        if getattr(self.lib, name)(*arguments) != 0:
            raise RuntimeError(f"{name}: {self.lib.steer_error_message().decode()}")

    def make(self, name, *arguments):
        out = ct.c_void_p()
        self.call(name, ct.byref(out), *arguments)
        return out

    def use_stream_of(self, device, tensor):
        """Orders the thread's work on the device on PyTorch's current stream."""
        if tensor.is_cuda:
            stream = torch.cuda.current_stream(tensor.device).cuda_stream or LEGACY_STREAM
            self.call("steer_device_set_stream", device, stream)

    def wrap(self, device, tensor):
        """A steer tensor over the memory of a PyTorch tensor of one or two dimensions."""
        shape = (ct.c_int64 * tensor.dim())(*tensor.shape)
        strides = (ct.c_int64 * tensor.dim())(*tensor.stride())
        return self.make("steer_tensor_wrap", device, DTYPES[tensor.dtype], tensor.dim(), shape, strides,
                         tensor.data_ptr())

    def spec(self, device, layer, kind, vector, scale=1.0, low=-INFINITY, high=INFINITY):
        """A spec of one operation on one layer; cap and ablate normalise the vector."""
        self.use_stream_of(device, vector)
        wrapped = self.wrap(device, vector)
        desc = OpDesc(struct_size=ct.sizeof(OpDesc), kind=kind, vector=wrapped, scale=scale, min=low, max=high,
                      normalize=int(kind != ADD))
        op = self.make("steer_op_create", ct.byref(desc))
        spec = self.make("steer_spec_create", 1, (ct.c_int32 * 1)(layer), ct.byref(op))
        self.lib.steer_op_release(op)
        self.lib.steer_tensor_release(wrapped)
        return spec


class SteeringHook:
    """A forward hook that steers what a module returns, [..., hidden], in place."""

    def __init__(self, steer, device, dtype, hidden, layer, requests):
        """requests: list of (spec or None, rows) in the order of the rows."""
        self.steer, self.device, self.layer = steer, device, layer
        desc = EngineDesc(ct.sizeof(EngineDesc), DTYPES[dtype], hidden, device, 0)
        self.engine = steer.make("steer_engine_create", ct.byref(desc))
        batch = (Request * len(requests))(*[Request(spec=spec, tokens=rows, prompt_tokens=-1)
                                            for spec, rows in requests])
        plan = PlanDesc(ct.sizeof(PlanDesc), 0, 0, 0, len(requests), batch)
        self.plan = steer.make("steer_plan_create", self.engine, ct.byref(plan))

    def __call__(self, module, inputs, output):
        rows = output.view(-1, output.shape[-1])
        self.steer.use_stream_of(self.device, rows)
        wrapped = self.steer.wrap(self.device, rows)
        try:
            self.steer.call("steer_plan_apply", self.plan, self.layer, wrapped, None)
        finally:
            self.steer.lib.steer_tensor_release(wrapped)

    def close(self):
        self.steer.lib.steer_plan_release(self.plan)
        self.steer.lib.steer_engine_release(self.engine)


def expected(h, v):
    """The same four requests in float64: h is [4, tokens, hidden]."""
    h, v = h.double().clone(), v.double()
    u = v / v.norm()
    h[0] += 2.0 * v
    p = h[2] @ u
    h[2] += (p.clamp(-1.0, 1.0) - p)[:, None] * u
    h[3] -= (h[3] @ u)[:, None] * u
    return h


def run(steer, device, torch_device, dtype):
    """Steers a small module and returns the largest error in units of the dtype's rounding, and whether the unsteered
    request kept its bits."""
    torch.manual_seed(3)
    tokens, hidden, layer = 16, 256, 5
    model = torch.nn.Sequential(torch.nn.Linear(hidden, hidden), torch.nn.GELU(), torch.nn.Linear(hidden, hidden))
    model = model.to(torch_device, torch.float32).to(dtype)
    x = torch.randn(4, tokens, hidden, device=torch_device).to(dtype)
    v = torch.randn(hidden, device=torch_device)
    specs = [steer.spec(device, layer, ADD, v, scale=2.0), None,
             steer.spec(device, layer, CAP, v, low=-1.0, high=1.0), steer.spec(device, layer, ABLATE, v, scale=0.0)]
    hook = SteeringHook(steer, device, dtype, hidden, layer, [(spec, tokens) for spec in specs])

    with torch.no_grad():
        outputs = []
        model[2].register_forward_hook(lambda module, inputs, output: outputs.append(output.clone()))
        model[2].register_forward_hook(hook)
        steered = model(x)
        plain = outputs[0]
    want = expected(plain, v)
    unit = torch.finfo(dtype).eps
    error = ((steered.double() - want).abs() / (unit * want.abs() + 1e-5)).max().item()
    same = torch.equal(steered[1], plain[1])
    hook.close()
    for spec in specs:
        steer.lib.steer_spec_release(spec)
    return error, same


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--library", default=os.environ.get("STEER_LIB", str(root / "build/lib/libsteer.so")))
    options = parser.parse_args()

    steer = Steer(options.library)
    device = steer.make("steer_device_open", options.device.encode())
    failed = False
    streams = ["the default stream"] + (["a stream of its own"] if options.device != "cpu" else [])
    for name in streams:
        own = torch.cuda.Stream(options.device) if name != streams[0] else None
        with torch.cuda.stream(own):  # None leaves the default stream
            for dtype in (torch.float32, torch.bfloat16):
                error, same = run(steer, device, options.device, dtype)
                good = error <= 1.0 and same
                failed = failed or not good
                print(f"{'OK' if good else 'WRONG'}: {dtype} on {options.device}, {name}: largest error {error:.3f} "
                      f"of a rounding unit, the unsteered request {'kept' if same else 'LOST'} its bits")
    steer.lib.steer_device_release(device)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
