#!/usr/bin/env python3
"""Measures what transformers loses by bf16 on the models of tests/fixtures/models, for tests/lua/bf16_spec.lua.

usage: bf16.py > tests/fixtures/bf16.json     (torch 2.8 and transformers 5.17 made it, on a CPU)

For each model: mean, standard error of the mean, and median, over all positions of 24 texts of 48 tokens, of the KL
divergence (nats) from the logits in f32 to those in bf16 with the attention that transformers chooses (sdpa).
"""
import glob
import json
import os

import torch
from transformers import AutoModelForCausalLM, logging

SEQUENCES, LENGTH = 24, 48


def text(vocab, seed):
    """Token ids that the spec makes too: MINSTD's numbers from the seed on."""
    ids = []
    for _ in range(LENGTH):
        seed = seed * 16807 % 2147483647
        ids.append(4 + seed % (vocab - 4))
    return ids


def logits(folder, dtype, batch=None):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    if batch is None:
        vocab = model.get_output_embeddings().weight.shape[0]
        batch = torch.tensor([text(vocab, seed + 1) for seed in range(SEQUENCES)])
    with torch.no_grad():
        return torch.log_softmax(model(batch).logits.double(), -1), batch


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    rows = []
    for folder in sorted(glob.glob("tests/fixtures/models/*")):
        wanted, batch = logits(folder, torch.float32)
        got, _ = logits(folder, torch.bfloat16, batch)
        kl = (wanted.exp() * (wanted - got)).sum(-1).flatten()
        row = {"mean": kl.mean().item(), "error": kl.std().item() / len(kl) ** 0.5, "median": kl.median().item()}
        text_of_row = json.dumps({key: float(f"{value:.4g}") for key, value in row.items()})
        rows.append(f'  "{os.path.basename(folder)}": {text_of_row}')
    print("{\n" + ",\n".join(rows) + "\n}")


main()
