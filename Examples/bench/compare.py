"""Compare sla with llama.cpp on the same GGUF files, with the same number of threads, turn by turn in one run.

    python compare.py [--types Q8_0,F16] [--rounds 5] [--peer "NAME=llama-bench FLAGS"] [MODEL.gguf ...]

Peers are programs that are spoken to as llama.cpp's `llama-bench` is. Without MODELs it makes them: random weights in the shape of Qwen2-0.5B,
quantized by llama.cpp. Each figure is measured once a round by sla and right after it by llama.cpp; printed are medians, and the ratio's
median, least and most over the rounds. No tokens are guessed ahead but where the table says so, and then by both.
"""
import argparse, ctypes, json, os, pathlib, platform, shlex, statistics, subprocess, tempfile, time

import llama_cpp
import numpy as np
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

SEQUENCES = 8
silent = llama_cpp.llama_log_callback(lambda level, text, data: None)  # kept, or its memory would be used again
llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))


class Llama:
    """llama.cpp through its C interface. A context for each prompt, so that none pays for another's cache."""

    def __init__(self, path, threads):
        self.threads = threads
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(2048, 0, 1)

    def context(self, tokens):
        p = llama_cpp.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch = tokens, 2048, 512
        p.n_threads = p.n_threads_batch = self.threads
        p.n_seq_max, p.kv_unified = SEQUENCES + 1, True  # one cache: sequences share the cells of their common prefix
        context = llama_cpp.llama_init_from_model(self.model, p)
        if not context:
            raise SystemExit("llama.cpp cannot make a context")
        return context

    def step(self, context, rows):
        """One batch of (token, position, sequence, wanted); the likeliest next token of each row that is wanted."""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i], b.seq_id[i][0], b.logits[i] = token, position, 1, sequence, wanted
        if llama_cpp.llama_decode(context, b) != 0:
            raise SystemExit("llama_decode failed")
        return [int(np.argmax(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), (self.vocabulary,))))
                for i, row in enumerate(rows) if row[3]]

    def prefill(self, context, prompt):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        for start in range(0, len(prompt), 2048):
            piece = range(start, min(start + 2048, len(prompt)))
            next = self.step(context, [(prompt[p], p, 0, p + 1 == len(prompt)) for p in piece])
        return next[0]

    def generate(self, context, prompt, tokens):
        """Seconds to the first token, and from it to the last."""
        started = time.perf_counter()
        token = self.prefill(context, prompt)
        first = time.perf_counter()
        for i in range(tokens - 1):
            token = self.step(context, [(token, len(prompt) + i, 0, True)])[0]
        return first - started, time.perf_counter() - first

    def again(self, context, prompt):
        """Seconds to the first token of a prompt that the context holds."""
        started = time.perf_counter()
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(context), 0, len(prompt) - 1, -1)
        self.step(context, [(prompt[-1], len(prompt) - 1, 0, True)])
        return time.perf_counter() - started

    def branches(self, context, prompt, tokens):
        """Seconds for `tokens` steps over sequences that share the prompt, which the context holds."""
        memory = llama_cpp.llama_get_memory(context)
        llama_cpp.llama_memory_seq_rm(memory, 0, len(prompt) - 1, -1)
        for s in range(1, SEQUENCES):
            llama_cpp.llama_memory_seq_cp(memory, 0, s, -1, -1)
        last = self.step(context, [(s, len(prompt) - 1, s, True) for s in range(SEQUENCES)])
        started = time.perf_counter()
        for i in range(tokens):
            last = self.step(context, [(last[s], len(prompt) + i, s, True) for s in range(SEQUENCES)])
        took = time.perf_counter() - started
        for s in range(1, SEQUENCES):
            llama_cpp.llama_memory_seq_rm(memory, s, -1, -1)
        return took

    @staticmethod
    def start(path, threads):
        """Seconds to load a model and be ready to decode. The process and its libraries are there already."""
        started = time.perf_counter()
        other = Llama(path, threads)
        context = other.context(4096)
        took = time.perf_counter() - started
        llama_cpp.llama_free(context)
        other.free()
        return took

    def free(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_model_free(self.model)


class SLA:
    """`sla serve`, spoken to as any client does."""

    def __init__(self, program, path, threads):
        self.process = subprocess.Popen([program, "serve", "--model", path, "--threads", str(threads), "--cache-mib", "2048"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.read()  # ready

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("sla ended early")
        event = json.loads(line)
        if event["type"] == "error":
            raise SystemExit(f"sla: {event['message']}")
        return event

    def send(self, *requests):
        self.process.stdin.write("".join(json.dumps(r) + "\n" for r in requests).encode())
        self.process.stdin.flush()

    def generate(self, prompts, tokens, guesses=False):
        """Seconds until every prompt has its first token, and from then until all have their last."""
        started = time.perf_counter()
        fields = {"max_tokens": tokens, "ignore_eos": True, "decoder": "greedy"} | ({} if guesses else {"speculate": 0})
        self.send(*({"id": i, "prompt": p} | fields for i, p in enumerate(prompts)))
        waiting, first = set(range(len(prompts))), started
        done = 0
        while done < len(prompts):
            event = self.read()
            if event["type"] == "token" and event["id"] in waiting:
                waiting.discard(event["id"])
                first = time.perf_counter()
            done += event["type"] == "done"
        return first - started, time.perf_counter() - first

    def clear(self):
        self.send({"type": "clear_cache"})
        while self.read()["type"] != "cleared":
            pass

    def end(self):
        self.process.stdin.close()
        self.process.wait()

    @staticmethod
    def start(program, path, threads):
        """Seconds from the start of the process to its `ready`."""
        started = time.perf_counter()
        other = SLA(program, path, threads)
        took = time.perf_counter() - started
        other.end()
        return took


class LlamaLookup:
    """llama.cpp by llama-cpp-python's own class, which guesses what followed the same two tokens before."""

    def __init__(self, path, threads):
        self.model = llama_cpp.Llama(path, n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False,
                                     draft_model=LlamaPromptLookupDecoding())

    def generate(self, prompt, tokens):
        """Seconds from the first token to the last."""
        answer = self.model.generate(prompt, temp=0.0, repeat_penalty=1.0)
        next(answer)
        first = time.perf_counter()
        for _ in range(tokens - 1):
            next(answer)
        return time.perf_counter() - first


class Peer:
    """A `llama-bench` with its flags, given as NAME=COMMAND."""

    def __init__(self, text):
        self.name, separator, command = text.partition("=")
        self.command = shlex.split(command)
        if not separator or not self.name or not self.command:
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COMMAND, such as 'llama.cpp=build/bin/llama-bench -fa 0'")

    def measure(self, path, threads, prompt, tokens):
        """Tokens a second of a prompt, or of tokens one after another with nothing before them."""
        command = [*self.command, "-m", path, "-t", str(threads), "-p", str(prompt), "-n", str(tokens), "-r", "1", "-o", "json"]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            return json.loads(ended.stdout)[0]["avg_ts"]
        except (OSError, subprocess.CalledProcessError, ValueError, LookupError) as error:
            raise SystemExit(f"{shlex.join(command)}: {getattr(error, 'stderr', None) or error}")


def compare(program, path, threads, rounds, shared, peers):
    """The table's rows for a model: title and peer, unit, sla's values, the peer's, whether more is better."""
    rows = {}

    def add(title, unit, ours, theirs, more=True, peer="llama.cpp, in process"):
        _, all_ours, all_theirs, _ = rows.setdefault((title, peer), (unit, [], [], more))
        all_ours.append(ours)
        all_theirs.append(theirs)

    for _ in range(rounds):
        add("start to ready", "ms", 1e3 * SLA.start(program, path, threads), 1e3 * Llama.start(path, threads), more=False)
    ours, theirs = SLA(program, path, threads), Llama(path, threads)
    rng = np.random.default_rng(1)

    def prompt(count):
        return rng.integers(0, theirs.vocabulary, count).tolist()

    # Random weights soon say the same again and again.
    lookup = LlamaLookup(path, threads)
    for _ in range(rounds):
        repeating = prompt(64)
        add("128 tokens that repeat themselves, guessed", "tokens/s", 128 / ours.generate([repeating], 129, guesses=True)[1],
            128 / lookup.generate(repeating, 129))
    lookup.model.close()

    cached = prompt(2048)
    common = {count: prompt(count) for count in shared}
    contexts = {count: theirs.context(count + SEQUENCES * 64) for count in {512, 2048, *shared}}
    theirs.prefill(contexts[2048], cached)
    for count in shared:
        if count not in (512, 2048):
            theirs.prefill(contexts[count], common[count])
    for _ in range(rounds):
        short = prompt(512)
        ours.clear()
        first, rest = ours.generate([short], 129)
        their_first, their_rest = theirs.generate(contexts[512], short, 129)
        add("prefill of 512", "tokens/s", 512 / first, 512 / their_first)
        add("decode of 128", "tokens/s", 128 / rest, 128 / their_rest)
        for peer in peers:
            ours.clear()
            first, _ = ours.generate([short], 1)
            add("prefill of 512", "tokens/s", 512 / first, peer.measure(path, threads, 512, 0), peer=peer.name)
            _, rest = ours.generate([prompt(1)], 129)
            add("decode of 128 from the start", "tokens/s", 128 / rest, peer.measure(path, threads, 0, 128), peer=peer.name)

        ours.generate([cached], 1)
        add("first token, 2048 cached", "ms", 1e3 * ours.generate([cached], 1)[0], 1e3 * theirs.again(contexts[2048], cached), more=False)

        for count in shared:
            prefix = common[count]
            if count in (512, 2048):
                theirs.prefill(contexts[count], prefix)
            ours.generate([prefix], 1)
            branches = [prefix[:-1] + [s] for s in range(SEQUENCES)]
            add(f"{SEQUENCES} sequences, {count} shared", "tokens/s", SEQUENCES * 32 / ours.generate(branches, 33)[1],
                SEQUENCES * 32 / theirs.branches(contexts[count], prefix, 32))
            if count == 2048:
                theirs.prefill(contexts[2048], cached)
    ours.end()
    for context in contexts.values():
        llama_cpp.llama_free(context)
    theirs.free()
    return rows


def make_models(program, types, folder):
    """Random weights in F16, and llama.cpp's quantizations of them; those that are there are taken as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "qwen2-0.5b-F16.gguf"
    if not source.exists():
        subprocess.run([program, "bench", "--shape", "qwen2-0.5b", "--type", "f16", "--save", source], check=True)
    paths = []
    for type in types:
        paths.append(folder / f"qwen2-0.5b-{type}.gguf")
        if paths[-1].exists():
            continue
        p = llama_cpp.llama_model_quantize_default_params()
        p.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{type}", None)
        if p.ftype is None:
            raise SystemExit(f"llama.cpp has no type {type}")
        partial = paths[-1].with_suffix(".part")
        if llama_cpp.llama_model_quantize(str(source).encode(), str(partial).encode(), ctypes.byref(p)) != 0:
            raise SystemExit(f"llama.cpp cannot quantize to {type}")
        partial.rename(paths[-1])
    return paths


def processor():
    try:
        return next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", nargs="*", metavar="MODEL.gguf")
    arguments.add_argument("--sla", default=os.environ.get("SLA", "sla"), help="the sla command (default: $SLA, else sla)")
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--types", default="Q8_0,Q4_0,Q4_K_M,F16", help="of the models that are made")
    arguments.add_argument("--peer", action="append", default=[], type=Peer, metavar="NAME=COMMAND",
                           help="a llama-bench with its flags to compare prefill and decode with too; may be given several times")
    arguments.add_argument("--shared", default="512,4096", help="lengths of the prompts that sequences share")
    arguments.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "sla-bench",
                           help="where models are made")
    a = arguments.parse_args()
    models = [pathlib.Path(m) for m in a.models] or make_models(a.sla, a.types.split(","), a.folder)
    version = subprocess.run([a.sla, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{version}; llama.cpp of llama-cpp-python {llama_cpp.__version__}; {processor()}, {a.threads} threads; "
          f"load average before: {os.getloadavg()[0]:.1f}\n")
    print("| model | what | peer | sla | peer's | ratio | its range |\n| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for path in models:
        shared = [int(s) for s in a.shared.split(",")]
        for (title, peer), (unit, ours, theirs, more) in compare(a.sla, str(path), a.threads, a.rounds, shared, a.peer).items():
            ratios = [x / y if more else y / x for x, y in zip(ours, theirs)]  # above 1: sla is faster
            print(f"| {path.stem} | {title} | {peer} | {statistics.median(ours):.4g} {unit} | {statistics.median(theirs):.4g} {unit} "
                  f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |", flush=True)


if __name__ == "__main__":
    main()
