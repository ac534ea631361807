"""Writes tests/fixtures/steering: files of steering as their own libraries write them, and what those compute.

    pip install torch transformers safetensors gguf scikit-learn matplotlib datasets
    pip install --no-deps pyvene==0.1.8 pyreft==0.1.0 repeng==0.4.0 saklas==5.3.0
    python tests/peers/steering_files.py tests/fixtures/steering

repeng.gguf, saklas.safetensors (.json), saklas.gguf and the folders under pyreft come from these libraries. GLP has no
package: its files are written with gguf-py after its specification (github.com/msuiche/weightless, spec/GLP.md), as
is easysteer.gguf after EasySteer's export_gguf, llama.gguf after llama.cpp's cvector-generator (whose tensors ascend
and are named one above the layer) and ibm.svec after activation-steering's SteeringVector.save. easysteer*.json are
specs and payloads of EasySteer's API; what they compute is EasySteer's formulas in NumPy. lm_steer.pt has the layout of
LM-Steer's published gpt2.pt.
"""
import base64
import json
import pathlib
import shutil
import sys

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

HIDDEN, LAYERS, RANK = 8, 4, 2
np.float_ = np.float64  # of NumPy 1, which repeng asks for
numbers = np.random.default_rng(19)


def vectors(layers, unit=True):
    found = {}
    for layer in layers:
        v = numbers.standard_normal(HIDDEN)
        found[layer] = (v / np.linalg.norm(v) if unit else v).astype(np.float32)
    return found


def control_vector(path, tensors, **metadata):
    """tensors: name -> vector; metadata: key with __ for a dot -> value, integers as uint32."""
    writer = gguf.GGUFWriter(str(path), "controlvector")
    for key, value in metadata.items():
        key = key.replace("__", ".")
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_string(key, value)
    for name, vector in tensors.items():
        writer.add_tensor(name, vector)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def directions(found, first=0):
    return {f"direction.{layer + first}": v for layer, v in found.items()}


def glp(path, tensors, layers, mode="project", hook="residual_stream_post_layer", **more):
    control_vector(path, tensors, general__type="controlvector", glp__mode=mode, glp__hook_point=hook,
                   glp__layer_ids_zero_based=",".join(map(str, layers)),
                   general__base_model__0__name="Demo-3M", general__base_model__0__version="0123abc", **more)


def write_glp(folder):
    one = vectors([1, 3])
    glp(folder / "glp.gguf", directions(one), [1, 3], glp__spec_version=1, glp__rank=1, glp__alpha_default=4.0)
    glp(folder / "glp_add.gguf", directions(one), [1, 3], mode="add", glp__spec_version=1, glp__rank=1)
    glp(folder / "glp_writer.gguf", directions(one), [1, 3], hook="ffn_out_pre_residual", glp__spec_version=1)
    glp(folder / "glp_turn.gguf", directions(one), [1, 3], mode="turn", glp__spec_version=1)
    glp(folder / "glp_shifted.gguf", directions(one), [0, 2], glp__spec_version=1)
    glp(folder / "glp_long.gguf", directions({1: one[1] * 2, 3: one[3]}), [1, 3], glp__spec_version=1)
    tensors = {}
    for layer in (1, 3):
        basis = np.linalg.qr(numbers.standard_normal((HIDDEN, RANK)))[0].T.astype(np.float32)
        tensors[f"direction.{layer}"], tensors[f"direction.{layer}.1"] = basis
    scales = {"glp__dir_scales": "1.0,0.5", "glp__layer_scales": "3:2.0"}
    glp(folder / "glp_rank2.glp", tensors, [1, 3], glp__spec_version=2, glp__rank=2, glp__orthonormal=True,
        glp__alpha_default=0.5, **scales)
    glp(folder / "glp_rank2_v1.gguf", tensors, [1, 3], glp__spec_version=1, glp__rank=2, glp__orthonormal=True)


def write_control_vectors(folder):
    from repeng import ControlVector
    from saklas.core.profile import Profile

    ControlVector("qwen2", vectors([3, 2, 1])).export_gguf(folder / "repeng.gguf")
    baked = {layer: torch.from_numpy(v) for layer, v in vectors([0, 2], unit=False).items()}
    profile = Profile(baked, metadata={"method": "manifold_pca", "concept": "demo"})
    profile.save(folder / "saklas.safetensors")
    profile.to_gguf(folder / "saklas.gguf", model_hint="llama")
    found = vectors([0, 1, 2])
    control_vector(folder / "easysteer.gguf", directions(found), controlvector__model_hint="unknown",
                   controlvector__method="diffmean", controlvector__layer_count=3, controlvector__normalize=1.0)
    control_vector(folder / "llama.gguf", directions(found, 1), controlvector__model_hint="llama",
                   controlvector__layer_count=3)
    svec = {"model_type": "llama", "directions": {k: v.tolist() for k, v in vectors([1, 2]).items()},
            "explained_variances": {1: 0.5, 2: 0.25}}
    (folder / "ibm.svec").write_text(json.dumps(svec))


def payload(kind, tensors, **extra):
    """As EasySteer's Payload.to_wire, with the bytes in base64."""
    wire = {name: {"shape": list(a.shape), "data": base64.b64encode(a.astype("<f4").tobytes()).decode()}
            for name, a in tensors.items()}
    return {"version": 1, "kind": kind, "tensors": wire, "extra": extra, "sha256": "0" * 64}


def write_easysteer(folder):
    """Steering specs as EasySteer's servers take them, and the projectors of LM-Steer, with what they compute."""
    everywhere = {"prompt": "all", "generation": "all"}
    r = np.linalg.qr(numbers.standard_normal((HIDDEN, RANK)))[0].astype(np.float32)
    w, b, p, q = (numbers.standard_normal(s).astype(np.float32) for s in ((RANK, HIDDEN), RANK, (HIDDEN, RANK),
                                                                          (HIDDEN, RANK)))
    h1, h2, h = (numbers.standard_normal(s).astype(np.float32) for s in (HIDDEN, HIDDEN, (3, HIDDEN)))
    a = (2 * np.eye(HIDDEN) + 0.5 * p @ q.T).astype(np.float32)
    simple = [
        {"source": "easysteer.gguf", "algorithm": "direct", "scale": 2.0, "layers": [1, 2], "name": "happy",
         "apply": {"prompt_positions": [-1], "prompt_window": [-5, None], "generation_tokens": [7],
                   "prompt_tokens": [7], "exclude_generation_window": [0, 4]}},
        {"source": "easysteer.gguf", "algorithm": "erase", "layers": [1], "apply": {"prompt_tokens": [3, 4]}},
    ]
    (folder / "easysteer.json").write_text(json.dumps({"vectors": simple, "conflict": "sequential"}))
    reft = payload("reft", {"rotate_layer": r, "learned_source_weight": w, "learned_source_bias": b}, layer=1)
    pair = payload("concept_pair", {"h1.layer.2": h1, "h2.layer.2": h2})
    maps = [
        {"data": reft, "algorithm": "loreft", "scale": 0.5, "apply": everywhere},
        {"data": pair, "algorithm": "concept_replace", "normalize": True, "apply": everywhere},
        {"data": payload("lowrank", {"projector1": p, "projector2": q}), "algorithm": "lm_steer", "scale": -2.0,
         "layers": [0], "apply": everywhere},
        {"data": payload("linear", {"weight": a, "bias": h2}), "algorithm": "linear", "scale": 0.5, "layers": [4],
         "apply": everywhere},
        {"data": payload("direction", {"layer.3": h1}), "algorithm": "replace", "scale": 3.0, "apply": everywhere},
    ]
    (folder / "easysteer_maps.json").write_text(json.dumps({"vectors": maps}))
    torch.save([{"epsilon": 1e-3}, {"projector1": torch.from_numpy(p), "projector2": torch.from_numpy(q)}],
               folder / "lm_steer.pt")
    torch.save(torch.from_numpy(h1), folder / "direction.pt")
    replaced = h + (h @ h1 / (h1 @ h1))[:, None] * (h2 - h1)
    replaced *= (np.linalg.norm(h, axis=1) / np.linalg.norm(replaced, axis=1))[:, None]
    save_file({"in": torch.from_numpy(h), **{f"out.{i}": torch.from_numpy(np.ascontiguousarray(x, "f4")) for i, x in (
        (0, h - 2 * h @ p @ q.T), (1, h + 0.5 * (h @ w.T + b - h @ r) @ r.T), (2, replaced),
        (3, np.tile(3 * h1, (3, 1))), (4, 0.5 * (h @ a.T + h2)))}}, str(folder / "easysteer_golden.safetensors"))


def write_pyreft(folder):
    """One folder a class, with its input and its output; the folder of LoReFT has two layers."""
    import pyreft
    import pyvene
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(vocab_size=16, hidden_size=HIDDEN, intermediate_size=16,
                                         num_hidden_layers=LAYERS, num_attention_heads=2))
    golden = {}
    for name in ("Loreft", "Noreft", "Consreft", "Lobireft", "Direft", "Nodireft"):
        layers = [1, 3] if name == "Loreft" else [2]
        kind = getattr(pyreft.interventions, name + "Intervention")
        dtype = torch.bfloat16 if name == "Direft" else torch.float32
        config = pyreft.ReftConfig(representations=[{
            "layer": layer, "component": "block_input" if name == "Nodireft" else "block_output",
            "low_rank_dimension": RANK,
            "intervention": kind(embed_dim=HIDDEN, low_rank_dimension=RANK, add_bias=True, dtype=dtype),
        } for layer in layers])
        reft = pyreft.get_reft_model(model, config, set_device=False)
        for at, (layer, found) in enumerate(zip(layers, reft.interventions.values())):
            with torch.no_grad():
                for key, value in found.named_parameters():  # as if trained, with an orthogonal matrix of its own
                    if "parametrizations" in key:
                        value += 0.3 * torch.randn_like(value).tril(-1)
                    else:
                        value.copy_(torch.randn_like(value))
                h = torch.randn(3, HIDDEN)
                golden[f"{name.lower()}.{layer}.in"] = h
                golden[f"{name.lower()}.{layer}.out"] = found(h).contiguous()
        reft.save(str(folder / name.lower()))
    save_file(golden, str(folder / "golden.safetensors"))


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(19)
    write_control_vectors(folder)
    write_glp(folder)
    write_easysteer(folder)
    write_pyreft(folder / "pyreft")
    for left in folder.glob("**/.locks"):
        shutil.rmtree(left)


main()
