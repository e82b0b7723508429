"""The Reward Transformer as its authors' training code saves it: a Llama with a narrow reward channel beside it.

    python reward_transformer.py policy pairs.jsonl rewarded      # train the channel on pairs, the policy frozen, and save the two
    python reward_transformer.py --score rewarded pairs.jsonl     # the rewards of the first pairs' answers, to hold sla's against

With h_0 the embedding's output, h_i the stream behind layer i and h_L the last one behind the final norm:

    r_1 = silu(W_1 · norm(h_0))    r_{i+1} = r_i + silu(W_{i+1} · norm([h_i ; r_i]))    rewards = head · [h_L ; r_L]

The first of the rewards is the one that counts. Source: Zhang, Hong, Yu, Streaming Looking Ahead with Token-level Self-reward, arXiv
2503.00029; the names are the format's.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm


class RewardLayer(nn.Module):
    def __init__(self, inputs, outputs, eps):
        super().__init__()
        self.tt_layernorm = LlamaRMSNorm(inputs, eps=eps)
        self.tt_linear = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x):
        return F.silu(self.tt_linear(self.tt_layernorm(x)))


class LlamaForCausalLMRewardTransformer(LlamaForCausalLM):
    """A Llama whose `config` also has tt_hidden_size (512), sr_out_dim (2), sr_head_layer (1) and sr_hidden_size_rate (1)."""

    def __init__(self, config):
        super().__init__(config)
        width, narrow = config.hidden_size, getattr(config, "tt_hidden_size", 512)
        outputs, depth = getattr(config, "sr_out_dim", 2), getattr(config, "sr_head_layer", 1)
        self.tt_layers = nn.ModuleList(
            RewardLayer(width + (narrow if i else 0), narrow, config.rms_norm_eps) for i in range(config.num_hidden_layers)
        )
        widths = [width + narrow] + [getattr(config, "sr_hidden_size_rate", 1) * width] * (depth - 1) + [outputs]
        maps = [nn.Linear(a, b, bias=False) for a, b in zip(widths, widths[1:])]
        # Of one map sr_head.weight, of several sr_head.0.weight, sr_head.2.weight, …, with silu between.
        self.sr_head = maps[0] if depth == 1 else nn.Sequential(*[m for x in maps for m in (x, nn.SiLU())][:-1])
        self.post_init()

    def rewards(self, input_ids, attention_mask=None):
        """[texts, tokens, outputs]"""
        # The last of these is behind the final norm.
        states = self.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True).hidden_states
        stream = self.tt_layers[0](states[0])
        for layer, state in zip(self.tt_layers[1:], states[1:]):
            stream = stream + layer(torch.cat((state, stream), -1))
        return self.sr_head(torch.cat((states[-1], stream), -1))


def rows_of(tokenizer, path):
    """Of each pair the two answers, as ids and where in them the answer begins: behind the assistant's header."""
    for pair in map(json.loads, open(path)):
        head = tokenizer(tokenizer.apply_chat_template(pair["prompt"], add_generation_prompt=True, tokenize=False), add_special_tokens=False)
        head = head["input_ids"]
        yield [
            (head + tokenizer(pair[side][0]["content"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id], len(head))
            for side in ("chosen", "rejected")
        ]


def masked(rows, pad):
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in rows])
    place = torch.arange(longest)
    return ids, torch.stack([(place >= start) & (place < len(row)) for row, start in rows])


def train(policy, pairs, folder, steps=150, size=32):
    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(policy)
    config = LlamaConfig.from_pretrained(policy)
    config.update({"tt_hidden_size": 64, "sr_out_dim": 2, "sr_head_layer": 1, "sr_hidden_size_rate": 1})
    model = LlamaForCausalLMRewardTransformer.from_pretrained(policy, config=config)
    channel = [p for name, p in model.named_parameters() if "tt_layers" in name or "sr_head" in name]
    model.requires_grad_(False)
    for parameter in channel:
        parameter.requires_grad_(True)
    rows = list(rows_of(tokenizer, pairs))
    optimizer = torch.optim.AdamW(channel, lr=2e-3)
    started, losses, right = time.time(), 0.0, 0.0
    for step in range(steps):
        some = [rows[i] for i in torch.randint(len(rows), (size,)).tolist()]
        ids, mask = masked([row[0] for row in some] + [row[1] for row in some], tokenizer.eos_token_id)
        scores = model.rewards(ids)[..., 0]
        means = (scores * mask).sum(1) / mask.sum(1)
        loss = -F.logsigmoid(means[:size] - means[size:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses, right = losses + loss.item(), right + (means[:size] > means[size:]).float().mean().item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {steps}  {time.time() - started:.0f} s  loss {losses / 50:.3f}  ordered right {right / 50:.3f}", flush=True)
            losses = right = 0.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def score(folder, pairs, count=8):
    """Lines {"prompt": ids, "completion": ids, "rewards": […]}."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLMRewardTransformer.from_pretrained(folder, dtype=torch.float32)
    for pair, _ in zip(rows_of(tokenizer, pairs), range(count)):
        for ids, start in pair:
            rewards = model.rewards(torch.tensor([ids]))[0, start:, 0]
            print(json.dumps({"prompt": ids[:start], "completion": ids[start:], "rewards": rewards.tolist()}))


if __name__ == "__main__":
    score(*sys.argv[2:4]) if sys.argv[1] == "--score" else train(*sys.argv[1:4])
