#!/usr/bin/env python3
"""Drives `steer chat` and `steer generate` through a real pseudo-terminal. Standard library only."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import repl_pty
from repl_pty import DEMO, STEER, UP, Session, same, slack

PROMPT = "> "
AT_PROMPT = re.compile(r"(^|\n)> ")


class Folder:
    """A copy of the demo model with a chat template; with a `context` its texts have no end but that."""

    def __init__(self, context=None):
        self.path = tempfile.mkdtemp(prefix="steer-chat-")
        for name in os.listdir(DEMO):
            shutil.copy(os.path.join(DEMO, name), self.path)
        with open(self.file("chat_template.jinja"), "w", encoding="utf-8") as file:
            file.write("{% for m in messages %}{{ m.content }}{% endfor %}")
        if context:
            with open(self.file("config.json"), encoding="utf-8") as file:
                config = json.load(file)
            config["eos_token_id"], config["max_position_embeddings"] = None, context
            with open(self.file("config.json"), "w", encoding="utf-8") as file:
                json.dump(config, file)

    def file(self, name):
        return os.path.join(self.path, name)

    def saved(self, session):
        session.run("/save " + self.file("saved.json"), "saved.json")
        with open(self.file("saved.json"), encoding="utf-8") as file:
            return json.load(file)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)


def chat(folder, *options, **terminal):
    return Session("chat", folder.path, "--temperature", "0", *options, first=AT_PROMPT, prompt=PROMPT, **terminal)


def vectors(folder):
    """A file with a vector for every layer."""
    path = folder.file("v.safetensors")
    script = ("local steer = require 'steer' local v = {} for l = 0, 7 do v['layer.' .. l] = "
              f"steer.tensor.randn({{192}}, {{seed = l}}) end steer.save('{path}', v)")
    subprocess.run([STEER, "-e", script], check=True, env=dict(os.environ, STEER_DEVICE="cpu"))
    return path


def test_a_conversation():
    with Folder() as folder, chat(folder, "--max-tokens", "12") as s:
        shown = s.run("One evening, Ruby went to the")
        same("[cut after 12 tokens" in shown, True, shown)
        s.run("/help", "/compare")
        s.run("/foo", "/foo: unknown, /help lists the commands")
        s.run("/of", "did you mean /off?")
        s.run("\x1b[200~Two lines,\nMia said.\x1b[201~")  # a paste is one message
        s.run("One\x1b\rmore")  # so is what Alt-Enter makes
        s.run(UP + " time")
        messages = folder.saved(s)
        same([m["content"] for m in messages if m["role"] == "user"],
             ["One evening, Ruby went to the", "Two lines,\nMia said.", "One\nmore", "One\nmore time"])
        same(messages[1]["content"] in shown, True, shown)
        s.settle()
        s.send("/com\t")
        time.sleep(0.2 * slack())
        same(s.settle()[1].endswith("/compare"), True, "completion")
        s.send("\x03")
        same(s.end(), 0)


def test_long_input():
    with Folder() as folder, chat(folder, "--max-tokens", "5", columns=40) as s:
        text = ("The little dog looked at the sky. " * 30).rstrip()
        s.run("\x1b[200~" + text + "\x1b[201~", "[cut after 5 tokens")
        same(folder.saved(s)[0]["content"], text)
        shown = s.run("\x1b[200~" + text * 3 + "\x1b[201~")
        same("the model's context is 512: /undo or /reset makes room" in shown, True, shown)
        same(len(folder.saved(s)), 2, "messages after one that did not fit")
        s.run("/undo", "the last turn is forgotten")
        s.run("A bear", "[cut after 5 tokens")


def test_a_full_context_is_said():
    with Folder(context=128) as folder, chat(folder, "--max-tokens", "600") as s:
        s.run("One evening, Ruby went to the", "tokens: the model's context is full, /undo or /reset makes room]")
        s.run("And then", "the model's context is 128: /undo or /reset makes room")
        s.run("/undo", "forgotten")
        s.run("One evening", "the model's context is full")


def test_ctrl_c_keeps_the_answer():
    with Folder(context=40000) as folder, chat(folder, "--max-tokens", "30000") as s:
        s.send("One evening, Ruby went to the\r")
        s.expect(re.compile(r"\w+ \w+ \w+ \w+ \w+ \w+ \w+"))
        time.sleep(0.3)
        start = time.monotonic()
        s.send("\x03")
        s.expect(AT_PROMPT)
        same(time.monotonic() - start < 1 * slack(), True, f"stopped after {time.monotonic() - start:.1f} s")
        messages = folder.saved(s)
        same(len(messages), 2)
        same(20 < len(messages[1]["content"]) < 100000, True, messages[1]["content"])
        s.send("/continue\r")
        s.expect(re.compile(r"\w+ \w+ \w+ \w+"))
        s.send("\x03")
        s.expect(AT_PROMPT)
        longer = folder.saved(s)
        same(len(longer), 2)
        same(longer[1]["content"].startswith(messages[1]["content"]), True, longer)
        same(len(longer[1]["content"]) > len(messages[1]["content"]), True, longer)
        s.send("And then\r")  # the conversation goes on
        s.expect(re.compile(r"\w+ \w+ \w+ \w+"))
        s.send("\x03")
        s.expect(AT_PROMPT)
        same(len(folder.saved(s)), 4)
        s.settle()
        s.send("half a line\x03")
        s.expect(AT_PROMPT)
        same(len(folder.saved(s)), 4)
        same(s.end(), 0)


def test_comparing_side_by_side():
    with Folder() as folder:
        path = vectors(folder)
        with chat(folder, "--max-tokens", "60", "--steer", path + " 2 @5") as s:
            s.run("One evening, Ruby went to the")
            rows = s.run("/compare").splitlines()
            same(all(" | " in row or row.endswith(" |") or len(row) <= 38 for row in rows), True, rows)
            left, right = zip(*((row.removesuffix(" |") + " | ").split(" | ")[:2] for row in rows))
            same(rows[0].endswith("unsteered"), True, rows[0])
            steered, unsteered = (" ".join(" ".join(side[2:]).split()) for side in (left, right))
            same(" ".join(folder.saved(s)[1]["content"].split()), steered)
            s.run("/off", "unsteered")
            s.run("/undo", "forgotten")
            s.run("One evening, Ruby went to the")
            same(" ".join(folder.saved(s)[1]["content"].split()), unsteered)
        with chat(folder, "--max-tokens", "9", "--steer", path + " 2 @5", columns=40) as s:
            s.run("One evening, Ruby went to the")
            s.run("/compare", "--- unsteered")


def test_ctrl_c_in_a_comparison():
    with Folder(context=40000) as folder, chat(folder, "--max-tokens", "30000", "--steer", vectors(folder) + " 1 @5") as s:
        s.send("One evening, Ruby went to the\r")
        time.sleep(0.5)
        s.send("\x03")
        s.expect(AT_PROMPT)
        before = folder.saved(s)
        s.send("/compare\r")
        s.expect(re.compile(r"unsteered\n.*\n.*\w+.* \| .*\w+"))
        s.send("\x03")
        s.expect(AT_PROMPT)
        same(folder.saved(s), before)


def test_generate_keeps_the_text():
    with Folder(context=40000) as folder:
        path = vectors(folder)
        for steering, shown in (((), "the"), (("--steer", path + " 1 @5", "--steer", path + " 2 @5"), None)):
            with Session("generate", folder.path, "Once", "--max-tokens", "30000", *steering, first="") as s:
                if shown:
                    s.expect(re.compile(r"\w+ \w+ \w+ \w+ \w+ \w+ \w+"))
                else:
                    time.sleep(1.5 * slack())
                start = time.monotonic()
                same(s.end("\x03"), 130)
                same(time.monotonic() - start < 1.2 * slack(), True, f"ended after {time.monotonic() - start:.1f} s")
                while s.read(0.1):
                    pass
                if not shown:
                    for title in ("--- unsteered\n", f"--- {path} 1 @5\n", f"--- {path} 2 @5\n"):
                        same(re.search(re.escape(title) + r".*\w+ \w+", s.text) is not None, True, s.text)


def test_a_dumb_terminal():
    with Folder() as folder, Session("chat", folder.path, "--max-tokens", "5", first=AT_PROMPT, prompt=PROMPT,
                                     TERM="dumb") as s:
        s.send("One evening\n")
        s.expect("[cut after 5 tokens")
        s.expect(AT_PROMPT)
        same("\x1b" in s.raw, False, "escapes on a dumb terminal")
        same(s.end(), 0)


if __name__ == "__main__":
    sys.exit(repl_pty.main(globals()))
