"""Greedy decoding and streaming looking ahead in PyTorch, many prompts at once, to choose the settings the GGUF recommends.

    python search.py countdown.gguf --prompts 1000 --settings 2,6,2,last,0.1 3,7,1,last,0.05

prints, on prompts of the dev split, what each setting (width, chunk, depth, score, min_p) does against greedy.
"""
import argparse
from collections import namedtuple

import torch

from model import END, decode, encode, read
from rules import deals, judge

LIMIT = 32  # tokens an answer may have; a legal one has 18 at most

Answer = namedtuple("Answer", "text evaluated")
# A leaf of a prompt's tree: the ranks of the chunks that lead to it from the first one on, the answer so far, and its tokens' rewards.
Leaf = namedtuple("Leaf", "prompt path ids rewards")


class Search:
    """Streaming looking ahead over prompts of equal length. All trees grow in step; leaves still growing share one batch."""

    def __init__(self, policy, channel, prompts, width, chunk, depth, score, min_p):
        self.policy, self.channel = policy, channel
        self.width, self.chunk, self.depth, self.score, self.min_p = width, chunk, depth, score, min_p
        self.evaluated = [0] * len(prompts)
        self.finished = []
        self.live = [Leaf(i, (), (), ()) for i in range(len(prompts))]
        states, self.past = policy(torch.tensor([encode(p) for p in prompts]))
        self.logits = policy.output(states[-1][:, -1])

    def run(self):
        answers = {}
        for _ in range(self.depth):
            self.grow()
        level = 0
        while self.live or self.finished:
            self.grow()
            best = {}
            for leaf in self.finished + self.live:
                key = (-self.value(leaf), leaf.path)
                best[leaf.prompt] = min(best.get(leaf.prompt, key), key)
            level += 1
            chosen = {p: path[:level] for p, (_, path) in best.items()}
            for leaf in self.finished:  # a finished leaf that is itself the committed candidate is the answer
                if leaf.path == chosen[leaf.prompt] and len(leaf.path) == level:
                    answers[leaf.prompt] = leaf.ids
            keep = lambda leaf: leaf.prompt not in answers and leaf.path[:level] == chosen[leaf.prompt]
            self.finished = [leaf for leaf in self.finished if keep(leaf)]
            self.select([row for row, leaf in enumerate(self.live) if keep(leaf)])
        return [Answer(decode(answers[p]).removesuffix("<|end|>"), n) for p, n in enumerate(self.evaluated)]

    def value(self, leaf):
        return leaf.rewards[-1] if self.score == "last" else sum(leaf.rewards) / len(leaf.rewards)

    def select(self, rows):
        self.live = [self.live[row] for row in rows]
        self.past = [(k[rows], v[rows]) for k, v in self.past]
        self.logits = self.logits[rows]

    def grow(self):
        """Every live leaf becomes its children, each one chunk long."""
        if not self.live:
            return
        p, tokens = self.logits.softmax(-1).topk(self.width)
        allowed = p >= self.min_p * p[:, :1]
        rows, ranks = allowed.nonzero(as_tuple=True)
        first = tokens[rows, ranks]
        self.select(rows.tolist())
        self.live = [leaf._replace(path=leaf.path + (rank,)) for leaf, rank in zip(self.live, ranks.tolist())]
        self.step(first)
        for _ in range(self.chunk - 1):
            if self.live:
                self.step(self.logits.argmax(-1))

    def step(self, tokens):
        states, self.past = self.policy(tokens[:, None], self.past)
        self.logits = self.policy.output(states[-1][:, 0])
        rewards = self.channel(states)[:, 0].tolist()
        going = []
        for row, (leaf, token, reward) in enumerate(zip(self.live, tokens.tolist(), rewards)):
            self.evaluated[leaf.prompt] += 1
            self.live[row] = leaf = leaf._replace(ids=leaf.ids + (token,), rewards=leaf.rewards + (reward,))
            if token == END or len(leaf.ids) == LIMIT:
                self.finished.append(leaf)
            else:
                going.append(row)
        if len(going) < len(self.live):
            self.select(going)


@torch.no_grad()
def search(policy, channel, prompts, width=1, chunk=8, depth=0, score="last", min_p=0.0):
    """An Answer for every prompt; width 1 is greedy decoding."""
    answers, lengths = {}, {}
    for p in prompts:
        lengths.setdefault(len(encode(p)), []).append(p)
    for group in lengths.values():
        answers.update(zip(group, Search(policy, channel, group, width, chunk, depth, score, min_p).run()))
    return [answers[p] for p in prompts]


def measure(policy, channel, games, settings):
    """A line for greedy and for every setting."""
    prompts = [prompt for prompt, _, _ in games]
    base = None
    print("setting                exact  points  illegal  evaluated  won/tied/lost  share of decided won")
    for setting in [(1, 8, 0, "last", 0.0)] + settings:
        answers = search(policy, channel, prompts, *setting)
        points = [judge(n, t, a.text) for (_, n, t), a in zip(games, answers)]
        base = base or points
        won, lost = (sum(x > y for x, y in pairs) for pairs in (list(zip(points, base)), list(zip(base, points))))
        count = len(games)
        print(f"{','.join(map(str, setting)):22} {points.count(10) / count:6.3f} {sum(points) / count:7.2f} {points.count(0) / count:8.3f} "
              f"{sum(a.evaluated for a in answers) / count:10.1f}  {won}/{count - won - lost}/{lost}  {won / max(1, won + lost):.3f}", flush=True)


def setting(text):
    n, k, d, score, min_p = text.split(",")
    return int(n), int(k), int(d), score, float(min_p)


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("gguf")
    a.add_argument("--prompts", type=int, default=1000)
    a.add_argument("--split", default="dev")
    a.add_argument("--seed", type=int, default=2)
    a.add_argument("--settings", nargs="*", type=setting, default=[])
    a.add_argument("--threads", type=int, default=1)
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    policy, channel, recommended = read(a.gguf)
    settings = a.settings or [tuple(recommended[key] for key in ("width", "chunk", "depth", "score", "min_p"))]
    measure(policy, channel, deals(a.split, a.prompts, a.seed), settings)
