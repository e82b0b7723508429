#!/usr/bin/env python3
"""Types into a Vim in a terminal that runs the plugin, mostly with an engine of canned answers.

    SLA=.build/release/sla python3 Examples/vim/test/test_sla.py
    SLA_SEED=1 SLA_SESSIONS=500 python3 Examples/vim/test/test_sla.py Sessions

Vim tells what it holds over a channel, and what is on its screen too. $SLA, else sla on the path, is the real engine.
"""
import contextlib
import fcntl
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import termios
import threading
import time
import unicodedata
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ENGINE = os.path.join(HERE, "..", "..", "emacs", "test", "engine.py")
PROGRAM = shutil.which(os.environ.get("SLA", "sla"))
ROWS, COLUMNS = 20, 70
PATIENCE = float(os.environ.get("SLA_PATIENCE", "10"))  # seconds
VIMRC = """
set nocompatible encoding=utf-8 noswapfile hidden nomore backspace=indent,eol,start
set notimeout ttimeout ttimeoutlen=5 shortmess+=I runtimepath^=%s
let g:sla = json_decode($SLA_OPTIONS)
let g:synced = 0
noremap <F12> <Cmd>let g:synced += 1<CR>
noremap! <F12> <Cmd>let g:synced += 1<CR>
runtime plugin/sla.vim
function Buffers()
  return map(getbufinfo({'bufloaded': 1, 'buflisted': 1}), {_, b -> [b.bufnr, join(getbufline(b.bufnr, 1, '$'), "\\n")]})
endfunction
function Ghosts()
  let ghosts = []
  for buffer in getbufinfo({'bufloaded': 1})
    for prop in prop_list(1, {'end_lnum': -1, 'bufnr': buffer.bufnr})
      call add(ghosts, [buffer.bufnr, prop.lnum, prop.col, prop.type])
    endfor
  endfor
  return ghosts
endfunction
function State()
  return {'buffers': Buffers(), 'ghosts': Ghosts(), 'shown': sla#Shown(), 'mode': mode(1), 'buffer': bufnr(),
    \\ 'lnum': line('.'), 'col': col('.'), 'messages': execute('messages'), 'mapped': maparg('<Tab>', 'i') =~ 'sla#Press',
    \\ 'status': sla#Status(), 'room': winwidth(0) == &columns ? &columns - virtcol('.') : 0}
endfunction
function Screen()
  redraw
  return map(range(1, &lines), {_, row -> join(map(range(1, &columns), {_, column -> screenstring(row, column)}), '')})
endfunction
" What is shown as keys come, which no event of the engine's can change before.
function Step(keys)
  let shown = sla#Shown()
  call feedkeys(eval('"' .. a:keys .. '"') .. "\\<F12>", 't')
  return shown
endfunction
let g:channel = ch_open('127.0.0.1:' .. $SLA_PORT, {'mode': 'json'})
""" % os.path.normpath(os.path.join(HERE, "..")).replace(" ", "\\ ")


class Vim:
    """A Vim in a terminal of its own."""

    def __init__(self, options):
        self.folder = tempfile.mkdtemp()
        with open(os.path.join(self.folder, "vimrc"), "w") as file:
            file.write(VIMRC)
        listener = socket.create_server(("127.0.0.1", 0))
        environment = {
            **os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "SLA_OPTIONS": json.dumps(options),
            "SLA_PORT": str(listener.getsockname()[1]), "HOME": self.folder,
        }
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.execvpe("vim", ["vim", "-N", "-i", "NONE", "-u", os.path.join(self.folder, "vimrc")], environment)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        threading.Thread(target=self.drain, daemon=True).start()
        listener.settimeout(10)
        self.channel, _ = listener.accept()
        listener.close()
        self.received, self.last, self.synced = b"", 0, 0
        self.decoder = json.JSONDecoder()
        wait("Vim to start", lambda: self.call("eval", "v:vim_did_enter") == 1)
        self.sync()

    def drain(self):
        try:
            while os.read(self.terminal, 65536):
                pass
        except OSError:
            pass

    def call(self, function, *arguments):
        """What a function of Vim's returns."""
        self.last -= 1
        self.channel.sendall(json.dumps(["call", function, list(arguments), self.last]).encode() + b"\n")
        end = time.monotonic() + 10
        while time.monotonic() < end:
            text = self.received.decode(errors="ignore").lstrip()
            if text:
                try:
                    (name, value), used = self.decoder.raw_decode(text)
                    self.received = text[used:].encode()
                    if name == self.last:
                        return value
                    continue
                except ValueError:
                    pass
            if select.select([self.channel], [], [], 0.1)[0]:
                self.received += self.channel.recv(1 << 16)
        raise AssertionError(f"Vim does not answer {function}{arguments}")

    def execute(self, command):
        return self.call("execute", command)

    def keys(self, keys):
        """Types keys and waits until Vim has handled them."""
        os.write(self.terminal, keys.encode())
        if keys.endswith("\x1b"):
            time.sleep(0.02)
        self.sync()

    def sync(self):
        os.write(self.terminal, b"\x1b[24~")
        self.synced += 1
        wait("the keys", lambda: self.call("eval", "g:synced") >= self.synced)

    def state(self):
        return self.call("State")

    def text(self):
        state = self.state()
        return dict(state["buffers"])[state["buffer"]]

    def shown(self):
        return self.call("sla#Shown")

    def screen(self):
        return [row.rstrip() for row in self.call("Screen")]

    def end(self):
        self.channel.close()
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.terminal)
        shutil.rmtree(self.folder)


def wait(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError("waited in vain for " + what)


def answer(*texts):
    tokens = [{"type": "token", "index": i, "token": 1, "text": t, "logprob": -1.0, "reward": 0.5} for i, t in enumerate(texts)]
    return tokens + [{"type": "done", "finish_reason": "stop", "text": "".join(texts), "reward": 0.5}]


NEW = {"fill": True, "chat": True}
DEMAND = {"delay": -1}
TRIGGER, TAB, SHIFT_TAB, WORD, NEXT, PREVIOUS, DISMISS = "\x06", "\t", "\x1b[Z", "\x1b[1;5C", "\n", "\x0b", "\x1d"


class Case(unittest.TestCase):
    def start(self, *answers, model=NEW, command=None, **options):
        """A Vim in insert mode with a fake engine of canned answers."""
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.log = os.path.join(self.folder, "log")
        script = os.path.join(self.folder, "script")
        with open(script, "w") as file:
            json.dump({"model": model, "answers": answers}, file)
        command = command or [sys.executable, ENGINE, "--script", script, "--log", self.log]
        self.vim = Vim({"command": command, **DEMAND, **options})
        self.addCleanup(self.vim.end)
        self.vim.keys("i")
        return self.vim

    def sent(self):
        if not os.path.exists(self.log):
            return []
        with open(self.log) as file:
            return [json.loads(line) for line in file.read().splitlines()]

    def wait_shown(self, text):
        try:
            wait("a suggestion", lambda: self.vim.shown() == text)
        except AssertionError:
            self.assertEqual(text, self.vim.shown(), self.vim.state()["messages"])

    def complete(self, text, shown):
        """Types a text, asks, and waits until all of the answer is there."""
        self.vim.keys(text + TRIGGER)
        self.wait_shown(shown)
        wait("the end of the answer", lambda: "…" not in self.vim.state()["status"])

    def assert_gone(self):
        state = self.vim.state()
        self.assertEqual(([], "", False), (state["ghosts"], state["shown"], state["mapped"]))


class Manners(Case):
    @unittest.skipUnless(PROGRAM, "there is no sla")
    def test_completes_and_accepts(self):
        vim = self.start(command=PROGRAM)
        self.complete("3 5 7 2>24\r", "3*5=15;2+15=17;7+17=24")
        self.assertEqual("3*5=15;2+15=17;7+17=24", vim.screen()[1])
        vim.keys(TAB)
        self.assertEqual("3 5 7 2>24\n3*5=15;2+15=17;7+17=24", vim.text())
        vim.keys("\x1bu")
        self.assertEqual("3 5 7 2>24\n", vim.text())
        self.assert_gone()

    def test_asks_by_itself_when_typing_rests(self):
        vim = self.start(answer("bc"), delay=50)
        vim.keys("xa")
        self.wait_shown("bc")
        (request,) = self.sent()
        self.assertEqual("xa", request["prompt"])
        self.assertEqual("left", request["truncate"])
        self.assertEqual("xabc", vim.screen()[0])

    def test_filetypes_switch_it_off(self):
        vim = self.start(answer("bc"), delay=10, filetypes={"text": False})
        vim.execute("setlocal filetype=text")
        vim.keys("xa")
        time.sleep(0.2)
        self.assertEqual([], self.sent())
        self.complete("", "bc")

    def test_tab_is_what_it_was(self):
        vim = self.start(answer("b"), answer("c"))
        vim.execute("inoremap <Tab> <lt>global>")
        self.complete("\ta", "b")
        vim.keys("x\t")
        self.assertEqual("<global>ax<global>", vim.text())
        vim.execute("inoremap <buffer> <expr> <Tab> '<lt>' .. 'buffer>'")
        self.complete("", "c")
        vim.keys("x\t")
        self.assertEqual("<global>ax<global>x<buffer>", vim.text())
        self.assert_gone()

    def test_tab_typed_with_a_letter_is_a_tab(self):
        vim = self.start(answer("b"))
        self.complete("a", "b")
        vim.keys("x\t")
        self.assertEqual("ax\t", vim.text())

    def test_whatever_else_drops_it_and_cancels(self):
        for keys in ["\x1b", "\x1b[D", "z", "\x7f", DISMISS, "\x0f:new\r", "\x1b[A"]:
            with self.subTest(keys=keys):
                vim = self.start([{"type": "draft", "text": "b"}, {"sleep": 0.05}])
                vim.keys("x\ra" + TRIGGER)
                self.wait_shown("b")
                vim.keys(keys)
                self.assert_gone()
                wait("the cancel", lambda: len(self.sent()) == 2)
                self.assertEqual(("cancel", self.sent()[0]["id"]), (self.sent()[1]["type"], self.sent()[1]["target"]))

    def test_typing_along_keeps_it(self):
        vim = self.start([{"type": "draft", "text": "nai"}, {"sleep": 0.05}, {"type": "draft", "text": "naïve\n\txé"}])
        vim.keys("a" + TRIGGER)
        self.wait_shown("naïve\n\txé")
        self.assertEqual(["anaïve", "        xé"], vim.screen()[:2])
        for typed, rest in [("n", "aïve\n\txé"), ("aïv", "e\n\txé"), ("e\r", "\txé")]:
            vim.keys(typed)
            self.assertEqual(rest, vim.shown())
        self.assertEqual(["anaïve", "        xé"], vim.screen()[:2])
        vim.keys("z")
        self.assert_gone()
        self.assertEqual("anaïve\nz", vim.text())

    def test_a_draft_that_leaves_what_was_typed_is_dropped(self):
        vim = self.start([{"type": "draft", "text": "foo"}, {"sleep": 0.3}, {"type": "draft", "text": "bar"}, {"sleep": 5}])
        vim.keys("a" + TRIGGER)
        self.wait_shown("foo")
        vim.keys("f")
        self.assertEqual("oo", vim.shown())
        wait("the end", lambda: vim.state()["ghosts"] == [])
        self.assert_gone()

    def test_takes_words_and_lines(self):
        vim = self.start(answer(" one (two", ")\n  three\nfour"))
        self.complete("a", " one (two)\n  three\nfour")
        vim.keys(WORD)
        self.assertEqual("a one", vim.text())
        vim.keys(SHIFT_TAB)
        self.assertEqual("a one (two)", vim.text())
        vim.keys(SHIFT_TAB)
        self.assertEqual("a one (two)\n  three", vim.text())
        self.assertEqual("\nfour", vim.shown())
        vim.keys(TAB + "\x1bu")
        self.assertEqual("a one (two)\n  three", vim.text())

    def test_shows_what_was_dropped(self):
        def token(index, text):
            return {"type": "token", "index": index, "token": 1, "text": text, "logprob": -1.0, "reward": 1}

        def commit(index, *texts):
            rejected = [{"text": text, "tokens": [1], "score": 0} for text in texts]
            return {"type": "commit", "index": index, "from": index, "to": index + 1, "score": 1, "rejected": rejected}

        vim = self.start([token(0, "ab"), commit(0, "ax", "y"), token(1, "c"), commit(1, "d\n")] + answer()[-1:])
        self.complete(">", "abc")
        self.assertEqual("SLA[1/4]", vim.state()["status"])
        vim.keys(NEXT)
        self.assertEqual("ax", vim.shown())
        self.assertEqual(">ax", vim.screen()[0])
        vim.keys(PREVIOUS + PREVIOUS)
        self.assertEqual("abd\n", vim.shown())
        vim.keys("a")
        self.assertEqual("bd\n", vim.shown())
        vim.keys(NEXT)
        self.assertEqual("x", vim.shown())
        vim.keys(TAB)
        self.assertEqual(">ax", vim.text())

    def test_what_repeats_the_text_behind_is_cut(self):
        vim = self.start(answer("alpha, ", "beta)"), answer("x)\ny"))
        for text, after, rest in [
            ("alpha, beta))", "))", "alpha, beta"), ("f(x)", ")", "f(x)"), ("f(x))", "))", "f(x)"), ('say"', '")', "say"),
            ('"say"', '"', '"say"'), ("b)\n    return c", ")\nx", "b"), ("one()\ntwo()", "\ntwo()\nthree()", "one()"),
            ("one\n", "\ntwo", "one"), ("xa", "abc", "xa"), ("x abc", "abc", "x "), ("é)", ")", "é"), ("", ")", ""),
        ]:
            self.assertEqual(rest, vim.call("sla#WithoutRepetition", text, after), (text, after))
        self.complete("f()\x1b[D", "alpha, beta")
        self.assertEqual("f(alpha, beta)", vim.screen()[0])
        vim.keys(TAB)
        self.assertEqual("f(alpha, beta)", vim.text())

    def test_answers_may_hold_any_character(self):
        vim = self.start(answer("a\0b", "\\u0000\x1b\u2028c\x01"))
        vim.keys(">" + TRIGGER)
        wait("the end of the answer", lambda: vim.state()["status"] == "SLA" and vim.shown() != "")
        shown = vim.shown()
        self.assertRegex(shown, r"^a.*\\u0000\x1b\u2028c\x01$")
        vim.keys(TAB)
        self.assertEqual(">" + shown, vim.text())
        self.assertEqual("", vim.state()["messages"].strip())

    def test_more_lines_wait_until_nothing_follows_in_the_line(self):
        vim = self.start(answer("one\ntwo"))
        self.complete("a c\x1b[D", "one")
        vim.keys(TAB)
        self.assertEqual("a onec", vim.text())
        self.assertEqual("\n", self.sent()[0]["stop"])

    def test_nothing_is_taken_that_was_not_shown(self):
        vim = self.start(answer(*[f"{i}\n" for i in range(40)]))
        vim.keys("a" + TRIGGER)
        wait("the end of the answer", lambda: vim.state()["status"] == "SLA" and vim.shown() != "")
        shown = vim.shown()
        rows = shown.split("\n")
        self.assertEqual(ROWS - 1, len(rows))
        self.assertEqual(["a0"] + rows[1:], vim.screen()[: len(rows)])
        vim.keys(TAB)
        self.assertEqual("a" + shown, vim.text())

    def test_known_suggestions_come_at_once(self):
        vim = self.start(answer("bcd"), delay=100000)
        self.complete("a", "bcd")
        vim.keys("x")
        self.assert_gone()
        vim.keys("\x7f")
        self.assertEqual("bcd", vim.shown())
        vim.keys("bx\x7f")
        self.assertEqual("cd", vim.shown())
        vim.keys(TAB)
        self.assertEqual("abcd", vim.text())
        self.assertEqual(1, len(self.sent()))

    def test_menus_of_completions_come_first(self):
        vim = self.start(answer("x"))
        self.complete("cab cad ca", "x")
        vim.keys("\x10")
        self.assertEqual(1, vim.call("pumvisible"))
        self.assert_gone()
        vim.keys(TRIGGER)
        self.assert_gone()

    def test_old_engines_get_no_new_fields(self):
        self.start(answer("b"), model={})
        self.complete("a)\x1b[D", "b")
        self.assertEqual({"id", "type", "prompt", "max_tokens", "include", "stop"}, set(self.sent()[0]))

    def test_gaps_and_pieces_of_other_files(self):
        vim = self.start(answer("b"), request={"stop": ["x", "y"], "width": 3}, deadline_ms=500)
        other = os.path.join(self.folder, "other.txt")
        with open(other, "w") as file:
            file.write("(one)\n(two)\n")
        vim.execute(f"edit {other} | set filetype= | edit {self.folder}/this.py | set filetype=")
        self.complete("(a )\x1b[D", "b")
        request = self.sent()[0]
        self.assertEqual((")", 128, ["x", "y"], 3, 500), tuple(request[k] for k in ("suffix", "suffix_tokens", "stop", "width", "deadline_ms")))
        self.assertEqual("this.py", request["path"])
        self.assertEqual([{"path": "other.txt", "text": "(one)\n(two)\n"}], request["context"])

    def test_the_prompt_s_start_moves_in_strides(self):
        vim = self.start(*[answer("b")] * 41, prefix_size=1000)
        self.complete("a", "b")
        vim.keys("\x1b")
        vim.call("setline", 1, [f"{i:09}" for i in range(400)])
        starts = set()
        for line in range(200, 360, 4):
            vim.keys(f"{line}GA")
            vim.keys(TRIGGER)
            vim.keys("\x1b")
        wait("all requests", lambda: sum("prompt" in request for request in self.sent()) == 41)
        for prompt in [request["prompt"] for request in self.sent() if "prompt" in request][1:]:
            self.assertTrue(990 <= len(prompt) <= 1260, len(prompt))
            starts.add(prompt[:9])
        self.assertLessEqual(len(starts), 8)

    def test_the_engine_s_death_is_survived(self):
        vim = self.start([{"type": "draft", "text": "b"}, {"sleep": 0.05}, {"exit": 3}])
        vim.keys("a" + TRIGGER)
        wait("the message", lambda: "ended with 3" in vim.state()["messages"])
        self.assertIn("told to end", vim.state()["messages"])
        self.assert_gone()
        vim.keys(TRIGGER)
        self.wait_shown("b")
        vim.keys(TAB)
        self.assertEqual("ab", vim.text())

    def test_an_engine_that_cannot_start_is_told_once(self):
        vim = self.start(command=["sh", "-c", "echo no such model >&2; exit 1"], delay=10)
        vim.keys("a")
        wait("the message", lambda: "no such model" in vim.state()["messages"])
        vim.keys("b")
        time.sleep(0.2)
        self.assertEqual(1, vim.state()["messages"].count("no such model"))
        self.assertEqual("SLA!", vim.state()["status"])

    def test_wrong_options_are_named(self):
        for options, message in [
            ({"max_token": 5}, "there is no option max_token;"), ({"max_tokens": "many"}, "max_tokens is 'many'"),
            ({"keys": {"axept": "x"}}, "there is no option keys.axept"), ({"command": "no-such-engine"}, "there is no program no-such-engine"),
        ]:
            vim = self.start(**options)
            vim.keys("a" + TRIGGER)
            self.assertIn(message, vim.state()["messages"])

    @unittest.skipUnless(PROGRAM, "there is no sla")
    def test_errors_are_told(self):
        vim = self.start(command=PROGRAM, request={"widht": 3}, delay=10)
        vim.keys("a" + TRIGGER)
        wait("the message", lambda: "widht" in vim.state()["messages"])
        self.assert_gone()
        vim.keys("b")
        time.sleep(0.2)
        self.assertEqual(1, vim.state()["messages"].count("there is no field widht"))

    def test_undo_brings_no_suggestion_back(self):
        vim = self.start(answer("b cd"), answer("b cd"))
        for keys in ["\x1bu", "\x0fu"]:
            self.complete("a", "b cd")
            vim.keys(WORD)
            vim.keys("x")  # Vim keeps the line for undo as it was, with the suggestion
            vim.keys(keys)
            self.assertEqual("ab", vim.text())
            self.assert_gone()
            vim.keys("\x1b")
            vim.keys("cc")

    def test_all_buffers_share_an_engine(self):
        vim = self.start(answer("b"), answer("c"))
        self.complete("a", "b")
        vim.keys("\x1b")
        vim.keys(":new\ri")
        self.complete("x", "c")
        self.assertEqual(["a", "x"], [request["prompt"] for request in self.sent() if "prompt" in request])

    def test_the_status_is_shown(self):
        vim = self.start([{"type": "draft", "text": "b"}, {"sleep": 0.3}] + answer("b"))
        vim.execute("set laststatus=2 statusline=%{sla#Status()}")
        self.assertEqual("SLA", vim.screen()[ROWS - 2])
        vim.keys("a" + TRIGGER)
        wait("the mark", lambda: vim.screen()[ROWS - 2] == "SLA…")
        wait("its end", lambda: vim.screen()[ROWS - 2] == "SLA")

    def test_changes_by_others_drop_it(self):
        vim = self.start(answer("b"))
        self.complete("x a", "b")
        vim.call("setline", 1, "xx a")
        vim.keys(TAB)
        self.assertEqual("xx \ta", vim.text())
        self.assert_gone()

    def test_from_normal_mode(self):
        vim = self.start(answer("b"))
        vim.keys("ac\x1b0:SlaComplete\r")
        self.wait_shown("b")
        self.assertEqual("i", vim.state()["mode"])

    def test_everything_compiles(self):
        vim = self.start()
        vim.execute(f"source {HERE}/../autoload/sla.vim")
        with open(f"{HERE}/../autoload/sla.vim") as source, open(f"{self.folder}/all.vim", "w") as file:
            file.write(source.read() + "\ndefcompile\n")
        vim.execute(f"source {self.folder}/all.vim")
        self.assertNotIn("E1", vim.state()["messages"])
        vim.execute(f"helptags {HERE}/../doc")
        vim.execute("help sla-options")


PIECES = ["a", "b", "x", "(", ")", "é", "世", "🙂", " ", '"', "\r", "e"]


class Sessions(unittest.TestCase):
    """SLA_SESSIONS random editing sessions, from SLA_SEED on."""

    def test_random_sessions(self):
        first, count = int(os.environ.get("SLA_SEED", 1)), int(os.environ.get("SLA_SESSIONS", 5))
        print(f"random sessions: seeds {first} to {first + count - 1}", flush=True)
        for seed in range(first, first + count):
            real = PROGRAM and seed % 5 == 0
            vim = Vim({"command": PROGRAM if real else [sys.executable, ENGINE, "--seed", str(seed)], "delay": 1})
            trail = []
            try:
                self.session(vim, random.Random(seed), trail)
            except AssertionError as problem:
                raise AssertionError(f"seed {seed}: {problem}\n" + "\n".join(map(repr, trail[-8:])))
            finally:
                vim.end()

    def session(self, vim, chance, trail):
        vim.execute("edit one | edit two | edit three")
        vim.keys("i")
        texts = dict(vim.state()["buffers"])
        pasts = {buffer: {text} for buffer, text in texts.items()}
        for _ in range(60):
            state = vim.state()
            buffer, text = state["buffer"], texts[state["buffer"]]
            lines = text.encode().split(b"\n")
            at = len(b"\n".join(lines[: state["lnum"] - 1] + [lines[state["lnum"] - 1][: state["col"] - 1]]).decode())
            before, after = text[:at], text[at:]
            kind, put = chance.randrange(16), None
            trail.append((kind, buffer, before, after, state["shown"]))
            if kind in (0, 1, 2):
                put = chance.choice(PIECES)
                vim.keys(put)
            elif kind in (3, 4):  # typing along, one key after the other or all at once
                put, rest = "", chance.randint(1, 4)
                while rest > 0 and (shown := vim.shown()) and not shown[0] == "\t":
                    count = rest if chance.random() < 0.5 else 1
                    typed = shown[:count].split("\t")[0].replace("\n", "\r")
                    if unicodedata.combining(typed[-1]) or len(shown) > len(typed) and unicodedata.combining(shown[len(typed)]):
                        break  # a cursor does not stop there
                    vim.keys(typed)
                    put, rest = put + typed, rest - len(typed)
                    pasts[buffer] |= {before + put[:i].replace("\r", "\n") + after for i in range(len(put) + 1)}
            elif kind in (5, 6):
                put = self.step(vim, TAB) or "\t"
            elif kind == 7:
                put = self.step(vim, "x" + TAB)
                put = put if put.startswith("x") and put != "x" else "x\t"  # of "x" nothing is left for the tab
                pasts[buffer].add(before + "x" + after)
            elif kind == 8:
                shown = self.step(vim, r"\<S-Tab>")
                put = re.match("\n?[^\n]*", shown).group()
                if not shown:  # Vim's own is a tab
                    put = "\t"
            elif kind == 9:
                if vim.shown() and "…" not in vim.state()["status"]:
                    shown = self.step(vim, r"\<C-Right>")  # it may have gone since
                    now = dict(vim.state()["buffers"])[buffer]
                    put = now[len(before) : len(now) - len(after)]
                    self.assertTrue(shown.startswith(put) and bool(put) == bool(shown), (shown, now))
            elif kind == 10:
                if vim.shown():
                    self.step(vim, chance.choice([r"\<C-J>", r"\<C-K>"]) if vim.state()["mapped"] else "")
                    put = None
                    if dict(vim.state()["buffers"])[buffer] != text:  # the ghost went before the key came
                        put = "\n"
            elif kind == 11:
                vim.keys(chance.choice(["\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B", "\x1b[H", "\x1b[F"]))
            elif kind == 12:
                vim.keys("\x7f")
                while before and unicodedata.combining(before[-1]):
                    before = before[:-1]
                text = texts[buffer] = before[:-1] + after
            elif kind == 13:
                vim.keys("\x1b")
                vim.keys("ui")
                texts[buffer] = dict(vim.state()["buffers"])[buffer]
                self.assertIn(texts[buffer], pasts[buffer], "undo")
            elif kind == 14:
                vim.keys("\x1b")
                vim.keys(f":buffer {chance.choice(list(texts))}\ra")
            else:
                what = chance.randrange(4)
                if what == 0:
                    for process in vim.call("eval", "map(job_info(), {_, j -> job_info(j).process})"):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(process, signal.SIGKILL)
                    if chance.random() < 0.7:
                        vim.execute("SlaRestart")
                elif what == 1:
                    vim.keys(TRIGGER)
                elif what == 2:
                    vim.keys("\x1b")
                    vim.keys(chance.choice([":split\ri", ":only\ri", ":vsplit\ri"]))
                elif vim.state()["mapped"]:
                    self.step(vim, r"\<C-]>")
            if put is not None:
                texts[buffer] = before + put.replace("\r", "\n") + after
            pasts[buffer].add(texts[buffer])
            time.sleep(chance.choice([0, 0.002, 0.01, 0.03]))
            self.check(vim, texts)

    def step(self, vim, keys):
        """Types keys, and what was shown as they came."""
        vim.synced += 1
        shown = vim.call("Step", keys)
        wait("the keys", lambda: vim.call("eval", "g:synced") >= vim.synced)
        return shown

    def check(self, vim, texts):
        state = vim.state()
        self.assertEqual(texts, dict(state["buffers"]))
        self.assertEqual({(state["buffer"], state["lnum"])} if state["shown"] else set(), {tuple(g[:2]) for g in state["ghosts"]}, "a stale ghost")
        self.assertEqual(state["shown"] != "", state["mapped"])
        for message in state["messages"].split("\n"):
            self.assertNotRegex(message, r"^E\d|Error|no event", state["messages"])
        first = state["shown"].split("\n")[0]
        # screenstring() is not sure of what is in the second cells of wide characters.
        if first and first.isascii() and "\t" not in first and state["room"] > 2 * len(first):  # in one row of the screen
            screen, again = vim.screen(), vim.state()["shown"]
            if again == state["shown"]:
                self.assertIn(first.rstrip(), "\n".join(screen))


if __name__ == "__main__":
    unittest.main()
