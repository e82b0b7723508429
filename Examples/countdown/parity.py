"""Writes what PyTorch computes of a model, for the engine's tests: python parity.py countdown.gguf ../../Tests/Fixtures/countdown.json."""
import json
import sys

import torch

from model import END, decode, encode, read
from rules import deals
from search import LIMIT, search


def rounded(value):
    """Seven digits are what 32 bits hold."""
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def sampled(policy, prompt, generator):
    """An answer, drawn token by token."""
    states, past = policy(torch.tensor([encode(prompt)]))
    ids = []
    while len(ids) < LIMIT and END not in ids:
        ids.append(torch.multinomial(policy.output(states[-1][0, -1]).softmax(-1), 1, generator=generator).item())
        states, past = policy(torch.tensor([ids[-1:]]), past)
    return ids


if __name__ == "__main__":
    path, out = sys.argv[1:]
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    policy, channel, recommended = read(path)
    prompts = [prompt for prompt, _, _ in deals("dev", 400, 11)]

    # Sampled answers, token by token.
    answers, generator = [], torch.Generator().manual_seed(7)
    for prompt in prompts[:10]:
        answer = sampled(policy, prompt, generator)
        ids, start = encode(prompt) + answer, len(encode(prompt))
        states, _ = policy(torch.tensor([ids]))
        logprobs = policy.output(states[-1])[0].log_softmax(-1)
        answers.append(dict(prompt=prompt, answer=decode(answer), prompt_tokens=ids[:start], answer_tokens=answer,
                            logprobs=rounded([logprobs[start + i - 1, t].item() for i, t in enumerate(answer)]),
                            rewards=rounded(channel(states)[0, start:, 0].tolist())))

    # Whole searches.
    def runs(**settings):
        found = search(policy, channel, prompts[:200], **settings)
        return [dict(prompt=p, text=a.text.removesuffix("<|end|>"), evaluated_tokens=a.evaluated) for p, a in zip(prompts, found)]

    recommended = {key: recommended[key] for key in ("width", "chunk", "depth", "score", "min_p", "alpha")}
    tables = dict(answers=answers, greedy=runs(), sla=runs(**recommended), sla_mean_2_3_1=runs(width=2, chunk=3, depth=1, score="mean", min_p=0.0))
    with open(out, "w") as file:
        lines = lambda rows: "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]"
        file.write("{" + ",\n".join(f'"{name}":{lines(rows)}' for name, rows in tables.items()) + "}\n")
