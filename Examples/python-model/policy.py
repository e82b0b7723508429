"""Trains the policy beside its tokenizer: python policy.py policy [--steps N] [--fill N].

The rate warms up, stays, and falls in the last fifth of the steps. Until there a run does not depend on how many steps it is to have: what
was stopped goes on from policy/checkpoint.pt, and may be given another --steps, as the time allows. The steps of --fill come last, with
short pieces, most of them with a gap: a row of long ones has one end of a gap in it, from which a model does not learn where gaps end.
"""
import argparse
import math
import os
import pathlib
import random
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import distributed, multiprocessing
from transformers import LlamaConfig, LlamaForCausalLM

from corpus import files, is_test
from tokenizer import END, MIDDLE, PREFIX, SUFFIX

CONTEXT = 512


def make_model(vocabulary, end):
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=192, intermediate_size=512, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=2,
        max_position_embeddings=CONTEXT, tie_word_embeddings=True, bos_token_id=None, eos_token_id=end, pad_token_id=end, use_cache=False))


class Documents:
    """Pieces of files in rows of CONTEXT + 1 tokens: half of them of the library, which is less than the tests, and half with a gap that is
    filled behind them.
    """

    def __init__(self, tokenizer, split="policy"):
        self.tokenizer = tokenizer
        self.end, self.prefix, self.suffix, self.middle = map(tokenizer.token_to_id, (END, PREFIX, SUFFIX, MIDDLE))
        found = list(files(split))
        self.texts = [text for _, text in found]
        # Where lines begin: a piece begins at any of them. Only the policy's split has tests.
        self.lines = [[], []]
        for i, (path, text) in enumerate(found):
            self.lines[is_test(path)] += [(i, at) for at in starts(text)]
        self.lines[1] = self.lines[1] or self.lines[0]

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def piece(self, rng, room, fills):
        """From the beginning of a line to the end of the file, or as much as there is room for."""
        if fills:
            room = min(room, rng.randint(64, 256))
        i, at = rng.choice(self.lines[rng.random() < 0.5])
        text = self.texts[i][at : at + 8 * room]
        found = self.tokenizer.encode(text, add_special_tokens=False)
        if rng.random() < (0.25 if fills else 0.5) or room < 64:
            return [*found.ids, self.end][:room]
        fits = room - 16  # the marks, and what a cut within a token adds
        if len(found.ids) > fits:
            text = text[: found.offsets[fits][0]]
        a, b = gap(text, rng, 0.2 if fills else 0.5)
        return [self.prefix, *self.encode(text[:a]), self.suffix, *self.encode(text[b:]), self.middle, *self.encode(text[a:b]), self.end][:room]

    def row(self, rng, fills=False):
        ids = []
        while len(ids) <= CONTEXT:
            ids += self.piece(rng, CONTEXT + 1 - len(ids), fills)
        return ids


def starts(text):
    at, found = 0, []
    for line in text.splitlines(keepends=True):
        found.append(at)
        at += len(line)
    return found


def gap(text, rng, anywhere):
    """Where a gap begins and ends: anywhere, or from anywhere to the end of one of the next lines, as an editor asks for it."""
    if rng.random() < anywhere:
        return sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
    a = b = rng.randint(0, len(text))
    for _ in range(rng.choice((1, 1, 2, 3, 5, 8))):
        b = text.find("\n", b + 1)
        if b < 0:
            return a, len(text)
    return a, b


class Muon(torch.optim.Optimizer):
    """Momentum whose step is orthogonal, for matrices (Keller Jordan, https://kellerjordan.github.io/posts/muon/), as torch.optim.Muon, but in
    float32: bfloat16 is thirty times slower on a processor that does not have it.
    """

    def __init__(self, matrices, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                change = orthogonal(p.grad.lerp(state["momentum"], group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(change, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonal(x):
    """x with all its singular values near 1: five steps of a Newton-Schulz iteration."""
    if x.shape[0] > x.shape[1]:
        return orthogonal(x.T).T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def loss_of(model, ids, reduction="mean"):
    """Of ids [rows, tokens + 1]."""
    logits = model(input_ids=ids[:, :-1]).logits
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction=reduction)


def save(path, value):
    torch.save(value, f"{path}.new")
    os.replace(f"{path}.new", path)


def train(rank, a, model, documents):
    """`a.steps` steps of `a.size` rows, shared among processes of one thread each, which wait for one another once a step: on a machine that
    does other work too, threads would wait at every matrix. Muon for the blocks' matrices, AdamW for the rest.
    """
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{a.folder.absolute()}/group", rank=rank, world_size=a.processes)
    is_matrix = lambda name, p: ".layers." in name and p.dim() == 2
    parameters = list(model.parameters())
    optimizers = {
        10 * a.rate: Muon([p for name, p in model.named_parameters() if is_matrix(name, p)], 10 * a.rate),
        a.rate: torch.optim.AdamW([p for name, p in model.named_parameters() if not is_matrix(name, p)], betas=(0.9, 0.95), weight_decay=0.01)}
    first, seconds, processor, running = 0, 0.0, 0.0, None
    checkpoint = a.folder / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint)
        first, seconds, processor, running = state["step"], state["seconds"], state["processor"], state["loss"]
        model.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers.values(), state["optimizers"]):
            optimizer.load_state_dict(kept)
    started, worked = time.time() - seconds, time.process_time() - processor
    last = a.steps + a.fill
    for step in range(first, last):
        rng = random.Random(f"{a.seed}, {step}")
        fills = step >= a.steps
        ids = torch.tensor([documents.row(rng, fills) for _ in range(a.size)])[rank :: a.processes]
        loss = loss_of(model, ids)
        loss.backward()
        # The mean of all processes' gradients, and of their losses.
        together = torch.cat([p.grad.flatten() for p in parameters] + [loss.detach()[None]]) / a.processes
        distributed.all_reduce(together)
        *gradients, loss = together.split([p.numel() for p in parameters] + [1])
        for p, gradient in zip(parameters, gradients):
            p.grad = gradient.view_as(p)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        schedule = 0.3 * (last - step) / a.fill if fills else min(1, (step + 1) / 50, (a.steps - step) / (0.2 * a.steps))
        for peak, optimizer in optimizers.items():
            optimizer.param_groups[0]["lr"] = peak * schedule
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        running = 0.98 * running + 0.02 * loss.item() if running else loss.item()
        if rank > 0:
            continue
        if (step + 1) % 20 == 0:
            print(f"step {step + 1} of {last}  {time.time() - started:.0f} s  loss {running:.4f}", flush=True)
        # From before the rate falls, so that another number of steps can be chosen.
        if (step + 1) % a.every == 0 and step + 1 <= 0.8 * a.steps or step + 1 in (a.steps, last):
            save(checkpoint, {"step": step + 1, "seconds": time.time() - started, "processor": time.process_time() - worked, "loss": running,
                              "model": model.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in optimizers.values()]})
    if rank == 0:
        print(f"{last * a.size * CONTEXT} tokens, {time.time() - started:.0f} s, {time.process_time() - worked:.0f} s of processor time each")
        model.save_pretrained(a.folder)


@torch.no_grad()
def measure(model, documents):
    """The loss a token on whole files, and its bits a byte: every file in pieces of CONTEXT tokens, each without what stands before it."""
    total = tokens = 0
    for text in documents.texts:
        ids = [documents.end, *documents.encode(text)]
        for at in range(0, len(ids) - 1, CONTEXT):
            piece = torch.tensor([ids[at : at + CONTEXT + 1]])
            total += loss_of(model, piece, "sum").item()
            tokens += piece.shape[1] - 1
    size = sum(len(text.encode()) for text in documents.texts)
    return f"loss {total / tokens:.4f} a token, {total / size / math.log(2):.4f} bits a byte, {tokens} tokens, {size} bytes"


@torch.no_grad()
def measure_ends(model, documents, count=500):
    """How likely the end is behind what fills a gap, and how often nothing is likelier."""
    rng, chances, first = random.Random(0), [], 0
    while len(chances) < count:
        ids = documents.piece(rng, CONTEXT, True)
        if documents.middle in ids and ids[-1] == documents.end:
            found = model(input_ids=torch.tensor([ids[:-1]])).logits[0, -1].softmax(-1)
            chances.append(found[documents.end].item())
            first += found.argmax().item() == documents.end
    return f"behind {count} gaps' true contents the end has a chance of {sum(chances) / count:.3f}; nothing is likelier behind {first / count:.3f} of them"


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder", type=pathlib.Path)
    a.add_argument("--steps", type=int, default=2200)
    a.add_argument("--fill", type=int, default=150, help="steps behind these, with short pieces and gaps")
    a.add_argument("--size", type=int, default=12, help="rows a step")
    a.add_argument("--rate", type=float, default=2e-3)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--processes", type=int, default=2)
    a.add_argument("--every", type=int, default=50, help="steps between two checkpoints")
    a = a.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    tokenizer = Tokenizer.from_file(str(a.folder / "tokenizer.json"))
    model = make_model(tokenizer.get_vocab_size(), tokenizer.token_to_id(END))
    print(f"{sum(p.numel() for p in model.parameters())} weights", flush=True)
    (a.folder / "group").unlink(missing_ok=True)
    multiprocessing.start_processes(train, (a, model, Documents(tokenizer)), a.processes, start_method="fork")
    model = LlamaForCausalLM.from_pretrained(a.folder).eval()
    dev = Documents(tokenizer, "dev")
    print(f"dev: {measure(model, dev)}; {measure_ends(model, dev)}")
