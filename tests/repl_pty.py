#!/usr/bin/env python3
"""Drives `steer` through a real pseudo-terminal, as a person at the keyboard would. Standard library only."""
import errno
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import sys
import tempfile
import termios
import time
import traceback
from random import Random

STEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scripts", "steer")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PROMPT = "steer> "
UP, DOWN, RIGHT, LEFT = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D"


def slack():
    """How many times as long things may take now, where other programs use the cores."""
    return 1 + int(os.getloadavg()[0] / os.cpu_count())


class Session:
    """A running `steer` on a terminal of its own."""

    def __init__(self, *arguments, columns=80, rows=24, state=None, first=PROMPT, prompt=PROMPT, **environment):
        self.prompt = prompt
        self.state = state or tempfile.mkdtemp(prefix="steer-repl-")
        self.owns_state = state is None
        self.raw = self.text = ""
        self.blanks = " " * columns + "\r"  # written before a prompt
        variables = dict(os.environ, TERM="xterm", XDG_STATE_HOME=self.state, STEER_DEVICE="cpu")
        variables.pop("NO_COLOR", None)
        variables.update(environment)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(STEER, [STEER, *arguments], variables)
        self.expect(first)

    def send(self, keys):
        os.write(self.fd, keys.encode())

    def read(self, timeout):
        """Reads what is there; False at the end of the output or after `timeout` seconds of silence."""
        if not select.select([self.fd], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        self.raw += data.decode("utf-8", "replace")
        self.text = ESCAPES.sub("", self.raw).replace(self.blanks, "").replace("\r", "")
        return data != b""

    def resize(self, columns, rows):
        """Gives the terminal another size, as its window does."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.blanks = " " * columns + "\r"

    def expect(self, wanted, timeout=10):
        """Waits until `wanted` (text or a compiled pattern) is shown; gives what was shown until then and drops it."""
        pattern = wanted if isinstance(wanted, re.Pattern) else re.compile(re.escape(wanted))
        deadline = time.monotonic() + timeout * slack()
        while True:
            match = pattern.search(self.text)
            if match:
                before, rest = self.text[: match.end()], self.text[match.end():]
                self.raw = self.text = rest
                return before
            if time.monotonic() > deadline or not self.read(deadline - time.monotonic()):
                raise AssertionError(f"expected {pattern.pattern!r}, the terminal shows:\n{self.text}")

    def run(self, line, wanted=None):
        """Types a line and Enter; gives what is shown up to the next prompt, the line itself left out."""
        self.settle()
        self.send(line + "\r")
        self.expect("\n")
        shown = self.expect(re.compile(r"(^|\n)" + re.escape(self.prompt)))
        if wanted is not None and wanted not in shown:
            raise AssertionError(f"{line!r}: expected {wanted!r}, got:\n{shown}")
        return shown[: -len(self.prompt)]

    def settle_more(self):
        """Waits until nothing more is shown, and keeps it."""
        while self.read(0.15):
            pass

    def settle(self):
        """Waits until nothing more is shown and forgets what was."""
        while self.read(0.05):
            pass
        shown, self.raw, self.text = (self.raw, self.text), "", ""
        return shown

    def end(self, keys="\x04"):
        """Sends keys that end the session and gives its exit status."""
        self.send(keys)
        deadline = time.monotonic() + 10 * slack()
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = None
                return os.waitstatus_to_exitcode(status)
            self.read(0.02)
        raise AssertionError(f"the session does not end; the terminal shows:\n{self.text}")

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)
        if self.owns_state:
            shutil.rmtree(self.state)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def same(got, wanted, what=""):
    if got != wanted:
        raise AssertionError(f"{what}: expected {wanted!r}, got {got!r}")


def history(state):
    with open(os.path.join(state, "steer", "history"), encoding="utf-8") as file:
        return file.read().splitlines()


# ---- Results ------------------------------------------------------------------------------------------------------


def test_expressions_print_themselves():
    with Session() as s:
        same(s.run("1 + 1"), "2\n")
        same(s.run("1, nil, 'two'"), '1\nnil\n"two"\n')
        same(s.run("x = 41"), "")
        same(s.run("x + 1;"), "")
        same(s.run("x + 1 -- ;"), "42\n")
        same(s.run("_ + 1"), "43\n")
        same(s.run("local kept = 7"), "")
        same(s.run("kept"), "7\n")
        same(s.run("(function() end)()"), "")
        same(s.run("{1, {a = 2}, 'x'}"), '{ 1, { a = 2 }, "x" }\n')
        s.run("steer.tensor.arange(3)", "0  1  2\n[tensor 3 f32 cpu]\n")


def test_large_values_print_at_once():
    with Session() as s:
        start = time.monotonic()
        shown = s.run("steer.tensor.zeros({3000, 3000})", "[tensor 3000x3000 f32 cpu]")
        same(len(shown.splitlines()) < 30, True, "lines of a large tensor")
        shown = s.run("(function() local t = {} for i = 1, 1e6 do t[i] = i end return t end)()", "more")
        same(len(shown) < 4000, True, "text of a large table")
        s.run("t = {} t.t = t")
        s.run("t", "{ t = { itself } }")
        same(time.monotonic() - start < 5 * slack(), True, "time")


def test_results_pin_no_memory():
    with Session() as s:
        s.run("steer.tensor.zeros({1000, 1000})", "1000x1000")
        s.run("_:sum()", "0\n")
        s.run("steer.tensor.zeros({1000, 1000});")
        s.run("steer.tensor.zeros({1000, 1000}), steer.tensor.zeros({1000, 1000})")
        s.run("collectgarbage() collectgarbage()")
        same(s.run("steer.device('cpu'):memory().live_bytes"), "0\n", "bytes held")


def test_errors_leave_the_session():
    with Session() as s:
        shown = s.run("steer.tensor.zeros({2, -1})")
        same("invalid_argument: tensor_zeros: shape: dimension 2 is -1" in shown and "traceback" not in shown, True, shown)
        same("lua/steer" in shown, False, "the library's frames are shown: " + shown)
        shown = s.run("steer.tensor.ones({2}):summ()", 'a tensor has no "summ"; did you mean "sum"?')
        same("traceback" in shown, False, shown)
        s.run("function f() error('boom') end")
        shown = s.run("f()", "<input 3>:1: boom\nstack traceback:")
        same("in function 'f'" in shown and "repl" not in shown, True, shown)
        s.run("x = = 1", "unexpected symbol near '='")
        s.run("error()", "nil")
        s.run("error({code = 3})", "{ code = 3 }")
        s.run("error(setmetatable({}, {__tostring = function() error 'no' end}))", "an error whose tostring fails")
        s.run("setmetatable({}, {__tostring = function() error 'not printable' end})", "not printable")
        s.run("local function g() return 1 + g() end g()", "stack overflow")
        s.run("type = nil print = nil", "")
        s.run("steer.tensor.zeros({1})", "[tensor 1 f32 cpu]")


# ---- Input --------------------------------------------------------------------------------------------------------


def test_input_of_several_lines():
    with Session() as s:
        s.send("for i = 1, 2 do\r")
        s.expect("    .. ")
        s.send("print(i * 10)\r")
        s.expect("    .. ")
        s.send("end\r")
        s.expect("\n10\n20\n" + PROMPT)
        s.send("x = [[a\r")
        s.expect("    .. ")
        s.run("b]]")
        s.run("x", '"a\\nb"')


def test_a_pasted_block_is_one_input():
    with Session() as s:
        s.send("\x1b[200~local a = 1\rlocal b = 2\n\nif a then\n\tprint(a + b)\nend\n\x1b[201~")
        s.expect("end")
        same("3\n" in s.settle()[1], False, "the paste ran before Enter")
        s.send("\r")
        s.expect(re.compile(r"\n3\n" + PROMPT))
        same(history(s.state), ["local a = 1\\nlocal b = 2\\n\\nif a then\\n\tprint(a + b)\\nend"])


def test_a_block_taller_than_the_screen():
    with Session(rows=8) as s:
        s.send("\x1b[200~" + "".join(f"x{i} = {i}\n" for i in range(40)) + "\x1b[201~")
        s.expect("x39 = 39")
        s.send(UP * 39 + "\x01y = 5 \r")
        s.run("y + x0 + x39", "44\n")


def test_editing_keys():
    cases = {  # keys, and what the edited line gives
        "23\x011\x05 + 0": "123", "124\x7f3": "123", "12x3\x1b[D\x02\x1b[C\x7f": "123", "x123\x01\x04": "123",
        "1 + 2\x0b\x01\x1b[3~\x1b[3~\x1b[3~\x1b[3~\x1b[3~123": "123", "9 9 9\x15123": "123", "123 + bad\x17-0": "123",
        "123 - oops\x1bb\x02\x02\x0b": "123", "a 123\x01\x1bd": "123", "oops 123\x1b[D\x1b[D\x1b[D\x15": "123",
        "213\x02\x02\x14": "123", "23\x1b[H1\x1b[F": "123", "12\x15\x19" + "3": "123", "1 2 3\x17\x17\x17\x19\x01\x0b123": "123",
        "123 abc def\x1b\x7f\x1b\x7f": "123", "#'ä€𝄞'\x02\x7f\x05 + 118": "123", "#'äöü'\x1b[D\x1b[D\x7f\x05 + 119": "123",
        "x\x00\x1b[99;9~\x1b[1;5D\x1b[3~123": "123",
    }
    with Session() as s:
        for keys, wanted in cases.items():
            same(s.run(keys), wanted + "\n", repr(keys))


def test_long_lines_wrap():
    with Session(columns=20) as s:
        s.send("x = '" + "ab" * 30 + "'" + "\x01" + RIGHT * 5 + "Z" + "\r")
        s.expect(re.compile(r"\n" + PROMPT))
        s.run("#x, x:sub(1, 2)", '61\n"Za"\n')


def test_the_input_is_drawn_anew_when_the_terminal_is_resized():
    with Session(columns=40) as s:
        s.send("if true then\rx = '" + "日本語 " * 8)
        s.settle()
        s.resize(24, 10)
        deadline = time.monotonic() + 2 * slack()
        while "語" not in s.text and time.monotonic() < deadline:
            s.read(0.05)  # no key is needed
        s.settle_more()
        rows = s.text.split("\n")
        same(rows[0], PROMPT + "if true then")
        same(rows[1], "    .. x = '日本語 日本")
        same("".join(rows[1:]), "    .. x = '" + "日本語 " * 8)
        s.resize(100, 30)
        s.settle()
        s.send("' end\r")
        s.run("#x", "80\n")
        s.resize(5, 2)  # narrower than the prompt
        s.settle()
        s.resize(80, 24)
        s.run("1 + 1", "2\n")


def test_leaving():
    for word in (":q", ":quit", "exit", "quit()", ":exit"):
        with Session() as s:
            same(s.end(word + "\r"), 0, word)
    with Session() as s:
        s.run("exit = 5")
        same(s.run("exit"), "5\n")


def test_random_keys_do_no_harm():
    seed = int(os.environ.get("STEER_TEST_SEED", "20240229"))
    random = Random(seed)
    keys = ["steer.add(x, 1, {", "where = {", "at = '"] + [chr(i) for i in range(32) if chr(i) not in "\x03\x04\x1a\r\n"] + list("ab._:'\"(){}[] ä世\u0301")
    keys += [UP, DOWN, LEFT, RIGHT, "\x1b\r", "\x1b[3~", "\x1bb", "\x1bd", "\x1b[200~a\nb\x1b[201~", "\x1b[1;5D"]
    with Session(columns=20, rows=6) as s:
        s.run("some_text = 'abc'")
        for _ in range(20):
            s.send("".join(random.choice(keys) for _ in range(100)))
            s.settle()
            s.send("\x1b[201~\x03\x03")  # whatever was begun ends
            s.settle()
            same(s.run("1 + 1"), "2\n", f"after random keys (STEER_TEST_SEED={seed})")


def test_completion():
    folder = tempfile.mkdtemp()
    for name in ("weights one.npy", "other.npy", "other.txt"):
        open(os.path.join(folder, name), "w").close()
    with Session() as s:
        s.run("table_of_mine = {alpha = 1, beta = function() end} t = steer.tensor.zeros({2})")
        s.run("e = steer.engine{hidden = 8}")
        for keys, wanted in {
            "steer.ten\t.ze\t": "steer.tensor.zeros", "table_of_m\t.al\t": "table_of_mine.alpha",
            "table_of_mine:\t": "table_of_mine:beta", "t:narr\t": "t:narrow", "t.dev\t": "t.device", "pri\t": "print",
            "e:pl\t": "e:plan", "string.for\t": "string.format", "x = io.open('%s/wei\t" % folder:
            "x = io.open('%s/weights one.npy" % folder, ":dev\t": ":devices", ":help tensor:narr\t": ":help tensor:narrow",
            ":load %s/other.t\t" % folder: ":load %s/other.txt" % folder, "steer.nothing.\t": "steer.nothing.",
            "steer.add(t, 1, {whe\tr\t": "steer.add(t, 1, {where", "steer.add(t, 1, {at=\"att\t": "steer.add(t, 1, {at=\"attention",
            "x = t:nar\t": "x = t:narrow", "('x'):up\t": "('x'):up",
        }.items():
            s.settle()
            s.send(keys)
            deadline = time.monotonic() + 1 * slack()  # help is read when it is first asked for
            while not s.text.replace("\n", "").endswith(wanted) and time.monotonic() < deadline:
                s.read(0.05)
            shown = s.settle()[1]
            same(shown.replace("\n", "").endswith(wanted), True, f"{keys!r} gives {shown!r}")
            s.send("\x15")
        s.settle()
        s.send("steer.tensor.z\t\t")
        s.expect(re.compile(r"zeros\s+zeros_like"))
        s.send("\x15")
        s.settle()
        s.send("\tx")
        s.expect("    x")
    shutil.rmtree(folder)


def test_history_persists():
    with Session() as s:
        s.run("first = 1")
        s.run("\x1b[200~second =\n'a\\\\b'\x1b[201~")
        s.run("first = 1")
        s.run("first = 1")
        wanted = ["first = 1", "second =\\n'a\\\\\\\\b'", "first = 1"]
        same(history(s.state), wanted)
        with Session(state=s.state) as other:
            other.run("other = 2")
            s.run("third = 3")
            same(history(s.state), wanted + ["other = 2", "third = 3"])
            other.run(UP + UP + UP + DOWN + UP)  # the one of two lines
            other.run("second", '"a\\\\b"')
            other.run("\x12irst\x05 + 5")
            other.run("first", "6")
            other.run("1 + " + UP + "x" + DOWN + "1", "2\n")  # what was typed is there on the way back
            other.send("\x12nothing like it")
            other.expect("nothing found")
            other.send("\x07")
            same(other.run("\x12thi\x03" + "1 + 1"), "2\n", "a search that is dropped")
        with Session(state=s.state) as later:
            later.run("\x12thi")
            later.run("third", "3\n")


def test_a_torn_history_is_not_made_worse():
    state = tempfile.mkdtemp()
    os.mkdir(os.path.join(state, "steer"))
    with open(os.path.join(state, "steer", "history"), "wb") as file:
        file.write(b"x = 4\n\xff\\\n\n1 + ")
    with Session(state=state) as s:
        s.run("x = 5")
        s.run("x", "5\n")
        s.run(UP + UP + UP + " 6", "7\n")  # the torn one, made whole
    with open(os.path.join(state, "steer", "history"), "rb") as file:
        same(file.read(), b"x = 4\n\xff\\\n\n1 + \nx = 5\nx\n1 +  6\n")
    shutil.rmtree(state)


def test_history_that_cannot_be_written():
    state = tempfile.mkdtemp()
    with open(os.path.join(state, "steer"), "w"):
        pass  # a file where the folder should be
    with Session(state=state) as s:
        s.run("1 + 1", "the history is not kept")
        same(s.run("1 + 2"), "3\n", "the warning comes once")
        s.run(UP + UP, "2\n")
    shutil.rmtree(state)


def test_history_that_is_a_pipe():
    state = tempfile.mkdtemp()
    os.mkdir(os.path.join(state, "steer"))
    os.mkfifo(os.path.join(state, "steer", "history"))
    with Session(state=state) as s:
        s.run("1 + 1", "the history is not kept: " + os.path.join(state, "steer", "history: is a pipe"))
        same(s.run("1 + 2"), "3\n", "the warning comes once")
    shutil.rmtree(state)


def test_a_huge_history_is_read_from_its_end():
    state = tempfile.mkdtemp()
    os.mkdir(os.path.join(state, "steer"))
    with open(os.path.join(state, "steer", "history"), "wb") as file:
        file.seek(1 << 40)  # with a hole
        file.write(b"\nx = 4\n")
    with Session(state=state) as s:
        s.run(UP)
        s.run("x + 1", "5\n")
    shutil.rmtree(state)


# ---- Ctrl-C and Ctrl-D --------------------------------------------------------------------------------------------


def test_ctrl_c_at_the_prompt_drops_the_line():
    with Session() as s:
        s.send("x = 'lost'\x03")
        s.expect("^C\n" + PROMPT)
        s.send("for i = 1, 3 do\r\x03\x03\x03")
        s.settle()
        same(s.run("x"), "nil\n")


def test_ctrl_c_stops_work():
    endless = os.path.join(tempfile.mkdtemp(), "endless.lua")
    with open(endless, "w", encoding="utf-8") as file:
        file.write("local n = 0\nwhile true do n = (n + 1) % 7 end\n")
    loops = {
        "while true do end": 1, "while true do pcall(error) end": 1,
        "while true do pcall(steer.tensor.zeros, {10}) end": 1,
        "a = steer.tensor.zeros({10}) while true do pcall(function() a:add_(a) end) end": 1,
        "a = steer.tensor.ones({1500, 1500}) while true do a:matmul(a) end": 1.5,
        "coroutine.wrap(function() while true do end end)()": 1,
        "loadstring('while true do end')()": 1,
        "package.preload.endless = loadstring('while true do end') require 'endless'": 1,
        "dofile '%s'" % endless: 1,
        "setmetatable({}, {__tostring = function() while true do end end})": 1,
        ":time (function() while true do end end)()": 1,
    }
    with Session() as s:
        for line, limit in loops.items():
            s.settle()
            s.send(line + "\r")
            time.sleep(0.4)
            start = time.monotonic()
            s.send("\x03")
            s.expect(re.compile(r"interrupted\n(.*\n)*" + PROMPT))
            same(time.monotonic() - start < limit * slack(), True, f"{line}: stopped after {time.monotonic() - start:.1f} s")
            same(s.run("1 + 1"), "2\n", "after " + line)
    shutil.rmtree(os.path.dirname(endless))


def test_ctrl_c_twice_never_ends_the_session():
    with Session() as s:
        for _ in range(3):
            s.send("while true do steer.tensor.zeros({10}) end\r")
            time.sleep(0.2)
            s.send("\x03")
            s.send("\x03\x03")
            s.expect(re.compile(r"interrupted\n(.*\n)*" + PROMPT))
        s.settle()
        os.kill(s.pid, signal.SIGINT)
        same(s.run("1 + 1"), "2\n")


def test_ctrl_d_leaves_and_restores_the_terminal():
    with Session() as s:
        s.run("x = 1")
        s.send("y\x01\x04\x04")  # the first one deletes, the second one leaves
        same(s.end(""), 0)
    with Session() as s:
        same(s.end(":quit\r"), 0)
    with Session("-i", os.devnull) as s:
        same(s.end(), 0)


def test_the_terminal_is_a_normal_one_while_work_is_done():
    with Session() as s:
        before = termios.tcgetattr(s.fd)
        s.send("print('ready') for i = 1, 1e7 do end io.write('no newline')\r")
        s.expect("\nready")
        flags = termios.tcgetattr(s.fd)[3]
        same(bool(flags & termios.ISIG) and bool(flags & termios.ICANON), True, "signals and lines")
        s.expect("no newline" + PROMPT)
        s.settle()
        same(termios.tcgetattr(s.fd), before, "attributes at the prompt")


# ---- Commands, scripts, terminals --------------------------------------------------------------------------------


def test_commands():
    with Session() as s:
        s.run(":help", ":source function")
        s.run(":help tensor:narrow", "tensor:narrow(dim, start, length)\n")
        s.run(":help steer.add", "scale")
        s.run(":help plan:aply", "did you mean 'plan:apply'?")
        s.run("t = steer.tensor.zeros({1})")
        s.run(":help t:sum", "tensor:sum(dim, opts)")
        s.run(":hlep", "did you mean :help?")
        s.run(":time steer.tensor.ones({10}):sum()", "10\ntime: ")
        s.run(":time", "time: expression: missing")
        s.run(":time x =", "'<eof>'")
        s.run(":mem", "cpu ")
        s.run(":devices", "(default)")
        s.run("function twice(x)\r return 2 * x end")
        s.settle()
        s.run(":source twice", "function twice(x)\n return 2 * x end\n")
        s.run(":source steer.tensor.zeros", "function T.zeros(shape, opts)")
        s.run(":source string.rep", "has no Lua source")
        s.run(":source nowhere", "nothing of the name nowhere")
        s.run(":load /nonexistent.lua", "cannot open /nonexistent.lua")


def test_a_script_first():
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write("--- Doubles.\n-- @param x a number\nfunction double(x) return 2 * x end\nargument = ...\nname = arg[0]\n")
        file.flush()
        with Session("-i", file.name, "word") as s:
            same(s.run("double(4), argument, name"), f'8\n"word"\n"{file.name}"\n')
            s.run(":help double", "double(x)\n  Doubles.")
            s.run("double = nil")
            s.run(":load " + file.name)
            same(s.run("double(5)"), "10\n")
        file.write("error('half way')\n")
        file.flush()
        with Session("-i", file.name) as s:
            same(s.run("double(6)"), "12\n", "what ran before the error is there")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write("print('ready') ran = true while true do end")
        file.flush()
        with Session("-i", file.name, first="ready\n") as s:
            s.send("\x03\x03")
            s.expect(re.compile(r"interrupted\n(.*\n)*" + PROMPT))
            same(s.run("ran"), "true\n")


def test_plain_terminals():
    with Session(TERM="dumb") as s:
        same(s.run("1 + 1"), "2\n")
        s.send("for i = 1, 2 do\n")
        s.expect("    .. ")
        s.send("print(i) end\n")
        s.expect("1\n2\n")
        s.send("x = 'lost'\x03")
        s.send("while true do end\n")
        time.sleep(0.3)
        s.send("\x03")
        s.expect("interrupted")
        s.expect(PROMPT)
        s.send("x\n")
        s.expect("nil")
        same("\x1b" in s.raw, False, "escapes on a dumb terminal")
        same(s.end(), 0)
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        with Session(**environment) as s:
            s.send("error('x')\r")
            time.sleep(0.3)
            same("\x1b[31m" in s.settle()[0], coloured, f"colours with {environment}")


# ---- Models -------------------------------------------------------------------------------------------------------

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures", "demo-model")


def test_models():
    with Session() as s:
        s.run("lm = steer.model '%s'" % DEMO)
        for keys, wanted in {"lm:gen\t": "lm:generate", "lm.con\tf\t": "lm.config", "lm.tokenizer:enc\t":
                             "lm.tokenizer:encode", "steer.mo\t": "steer.model", ":help model:dir\t":
                             ":help model:direction", "steer.spec{}:lay\t": "steer.spec{}:lay"}.items():
            s.settle()
            s.send(keys)
            time.sleep(0.2 * slack())
            shown = s.settle()[1]
            same(shown.replace("\n", "").endswith(wanted), True, f"{keys!r} gives {shown!r}")
            s.send("\x15")
        s.run("lm", "model %s: llama, 8 layers, hidden 192" % DEMO)
        for topic in ("lm:generate", "lm:score", "model:direction", "session:set_spec", "lm"):
            s.run(":help " + topic, topic.replace("lm", "model"))
        shown = s.run("lm:generate{ {prompt = 'One day, Ruby', max_tokens = 20} }")
        same('text = " went to the' in shown and "finish = \"length\"" in shown and len(shown.splitlines()) < 20, True, shown)


def test_ctrl_c_keeps_what_was_generated():
    slow = "function(i, piece) io.write(piece) for i = 1, 1e6 do end end"  # an interrupt may come here or in the library
    with Session() as s:
        s.run("lm = steer.model '%s'" % DEMO)
        for request in ("{prompt = 'Once', max_tokens = 500, ignore_eos = true}, on_token = " + slow,
                        "{prompt = 'Once', max_tokens = 500, ignore_eos = true}, {prompt = 'A', max_tokens = 9}"):
            s.run("lm.last = nil")
            s.settle()
            s.send("for _ = 1, 1e3 do out = lm:generate{ %s } end\r" % request)
            s.expect("end\n")
            if "on_token" in request:
                s.expect(re.compile(r"\w+ \w+"))  # the text comes while it is made
            time.sleep(0.2)
            start = time.monotonic()
            s.send("\x03")
            s.expect(re.compile(r"interrupted\n(.*\n)*" + PROMPT))
            same(time.monotonic() - start < 1 * slack(), True, f"stopped after {time.monotonic() - start:.1f} s")
            s.run("lm.last[1].finish == 'interrupted' and #lm.last[1].tokens < 500, #lm.last[1].text > 0", "true\ntrue\n")
            s.run("#lm:generate{ {prompt = 'Once', max_tokens = 5} }[1].tokens", "5\n")


AT_ONCE = 3  # tests, which mostly wait


def run_apart(name, test):
    """Begins a test in a process of its own, whose status is 0 if it passed."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    start, status = time.monotonic(), 1
    try:
        test()
        text, status = f"ok      {name} ({time.monotonic() - start:.1f} s)\n", 0
    except Exception:  # report every test
        text = f"FAILED  {name}\n{traceback.format_exc()}"
    os.write(1, text.encode())
    os._exit(status)


def main(tests=None):
    wanted, running, failed = sys.argv[1:], 0, 0
    for name, test in list((tests or globals()).items()) + [(None, None)] * AT_ONCE:
        if name and (not name.startswith("test_") or wanted and name not in wanted):
            continue
        if running and (running == AT_ONCE or not name):
            failed, running = failed + (os.wait()[1] != 0), running - 1
        if name:
            run_apart(name, test)
            running += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
