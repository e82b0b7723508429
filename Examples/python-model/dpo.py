"""Tunes the policy on preference pairs of `sla pairs` (DPO, arXiv 2305.18290): python dpo.py python pairs.jsonl tuned

Answers that a limit cut off have no end token behind them here either. Besides DPO's loss the chosen answers are imitated (arXiv 2404.19733), so
that they do not become less likely together with the rejected ones.
"""
import argparse
import json
import math
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from policy import CONTEXT
from tokenizer import END


def load(path, tokenizer, end):
    """(prompt's length, chosen ids, rejected ids): the ids begin with the prompt's."""
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    for pair in map(json.loads, open(path)):
        prompt = encode(pair["prompt"])
        sides = (encode(pair[side]) + [end] * pair.get(f"{side}_eos", True) for side in ("chosen", "rejected"))
        yield len(prompt), *((prompt + side)[:CONTEXT] for side in sides)


def log_probabilities(model, pairs, end):
    """log π(answer | prompt) of the chosen and of the rejected answers, [2, pairs]."""
    rows = [(pair[0], pair[side]) for side in (1, 2) for pair in pairs]
    length = max(len(ids) for _, ids in rows)
    ids = torch.tensor([ids + [end] * (length - len(ids)) for _, ids in rows])
    place = torch.arange(1, length)
    counts = torch.stack([(place >= start) & (place < len(answer)) for start, answer in rows])
    # Logits of the answers alone: the vocabulary is what costs.
    states = model.model(input_ids=ids[:, :-1]).last_hidden_state
    taken = model.lm_head(states[counts]).log_softmax(-1).gather(-1, ids[:, 1:][counts][:, None])[:, 0]
    return torch.zeros(counts.shape).masked_scatter(counts, taken).sum(1).view(2, -1)


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("policy")
    a.add_argument("pairs")
    a.add_argument("out")
    a.add_argument("--beta", type=float, default=0.1)
    a.add_argument("--imitation", type=float, default=0.2)
    a.add_argument("--rate", type=float, default=1e-4)
    a.add_argument("--size", type=int, default=16, help="pairs a step")
    a.add_argument("--epochs", type=int, default=1)
    a.add_argument("--seed", type=int, default=5)
    a.add_argument("--threads", type=int, default=2)
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    tokenizer = Tokenizer.from_file(f"{a.policy}/tokenizer.json")
    end = tokenizer.token_to_id(END)
    # Sorted by length, so that a batch has little padding; batches come in random order.
    pairs = sorted(load(a.pairs, tokenizer, end), key=lambda pair: len(pair[1]))
    batches = [pairs[i : i + a.size] for i in range(0, len(pairs), a.size)]
    model = LlamaForCausalLM.from_pretrained(a.policy)
    with torch.no_grad():
        reference = [log_probabilities(model, batch, end) for batch in batches]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0)
    generator = torch.Generator().manual_seed(a.seed)
    order = [i for _ in range(a.epochs) for i in torch.randperm(len(batches), generator=generator).tolist()]
    started, losses, right = time.time(), 0.0, 0.0
    for step, i in enumerate(order):
        optimizer.param_groups[0]["lr"] = a.rate * min(1, (step + 1) / (0.1 * len(order))) * 0.5 * (1 + math.cos(math.pi * step / len(order)))
        chosen, rejected = log_probabilities(model, batches[i], end)
        margin = a.beta * (chosen - rejected - reference[i][0] + reference[i][1])
        tokens = sum(len(pair[1]) - pair[0] for pair in batches[i])
        loss = -F.logsigmoid(margin).mean() - a.imitation * chosen.sum() / tokens
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses, right = losses + loss.item(), right + (margin > 0).float().mean().item()
        if (step + 1) % 20 == 0:
            print(f"step {step + 1} of {len(order)}  {time.time() - started:.0f} s  loss {losses / 20:.4f}  ordered right {right / 20:.3f}", flush=True)
            losses = right = 0.0
    model.save_pretrained(a.out)
    tokenizer.save(f"{a.out}/tokenizer.json")
