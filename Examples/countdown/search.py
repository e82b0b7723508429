"""Greedy decoding and streaming looking ahead in PyTorch, many prompts at once: what the engine's answers are compared with."""
from collections import namedtuple

import torch

from model import END, decode, encode

LIMIT = 32  # tokens an answer may have; a legal one has 18 at most

Answer = namedtuple("Answer", "text evaluated")
# A leaf of a prompt's tree: the ranks of the chunks that lead to it from the first one on, the answer so far, its tokens' rewards (output 0
# of the channel), and the last one's output 1 (0 when there is none).
Leaf = namedtuple("Leaf", "prompt path ids rewards prover")


class Search:
    """Streaming looking ahead over prompts of equal length. All trees grow in step; leaves still growing share one batch."""

    def __init__(self, policy, channel, prompts, width, chunk, depth, score, min_p, alpha):
        self.policy, self.channel = policy, channel
        self.width, self.chunk, self.depth, self.score, self.min_p, self.alpha = width, chunk, depth, score, min_p, alpha
        self.evaluated = [0] * len(prompts)
        self.finished = []
        self.live = [Leaf(i, (), (), (), 0) for i in range(len(prompts))]
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
        if self.score == "progress":  # Q + α V; V at the committed end is the same for all leaves of a prompt
            q, v = torch.tensor([leaf.rewards[-1], leaf.prover], dtype=torch.float64).sigmoid().tolist()
            return q + self.alpha * v
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
        outputs = self.channel(states)[:, 0].tolist()
        going = []
        for row, (leaf, token, (reward, *prover)) in enumerate(zip(self.live, tokens.tolist(), outputs)):
            self.evaluated[leaf.prompt] += 1
            self.live[row] = leaf = leaf._replace(
                ids=leaf.ids + (token,), rewards=leaf.rewards + (reward,), prover=prover[0] if prover else 0)
            if token == END or len(leaf.ids) == LIMIT:
                self.finished.append(leaf)
            else:
                going.append(row)
        if len(going) < len(self.live):
            self.select(going)


@torch.no_grad()
def search(policy, channel, prompts, width=1, chunk=8, depth=0, score="last", min_p=0.0, alpha=1.0):
    """An Answer for every prompt; width 1 is greedy decoding."""
    answers, lengths = {}, {}
    for p in prompts:
        lengths.setdefault(len(encode(p)), []).append(p)
    for group in lengths.values():
        answers.update(zip(group, Search(policy, channel, group, width, chunk, depth, score, min_p, alpha).run()))
    return [answers[p] for p in prompts]

