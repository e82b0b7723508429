"""The demo's two networks, their vocabulary, and the GGUF file they are served from.

Policy:  a small Llama (RMSNorm, rotary positions on (even, odd) pairs as GGUF's `llama` has them, grouped queries, SwiGLU).
Channel: a Reward Transformer's narrow channel (arXiv 2503.00029): reads the policy's states after every layer. `sla train` trains it.
"""
import re
from dataclasses import dataclass, replace

import gguf
import torch
import torch.nn.functional as F
from torch import nn

# ---- Vocabulary: 256 bytes, then one token for every number from 10 to 300 (no play goes above 288), then the end of an answer.

TOP = 300
END = 256 + TOP - 10 + 1
VOCABULARY = END + 1


def number_id(n):
    return ord(str(n)) if n < 10 else 246 + n


def number(token):
    return int(chr(token)) if token < 256 else token - 246


def encode(text):
    ids = []
    for t in re.findall(r"300|[12][0-9]{2}|[1-9][0-9]?|0|[^0-9]", text):
        ids += [number_id(int(t))] if "0" <= t[0] <= "9" else t.encode()
    return ids


def decode(ids):
    return "".join("<|end|>" if i == END else str(number(i)) if i >= 256 else chr(i) for i in ids)


def byte_characters():
    """GPT-2's printable character for each byte: itself where printable, else the next one from 256 up."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b if b in printable else next(spare)) for b in range(256)]


def tokens_and_merges():
    """Byte-level BPE in which every number up to TOP becomes one token whichever of its digits merge first."""
    tokens = byte_characters() + [str(n) for n in range(10, TOP + 1)] + ["<|end|>"]
    known = set(tokens)
    merges = [f"{n // 10} {n % 10}" for n in range(10, 100)]
    for text in map(str, range(100, TOP + 1)):
        merges += [f"{a} {b}" for a, b in ((text[:2], text[2:]), (text[:1], text[1:])) if b in known]
    return tokens, merges


# ---- Networks

@dataclass
class Shape:
    width: int = 128
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 320
    context: int = 128
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head(self):
        return self.width // self.heads


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


class Norm(nn.RMSNorm):
    def __init__(self, width, epsilon):
        super().__init__(width, eps=epsilon)


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.attn_norm, self.ffn_norm = Norm(s.width, s.epsilon), Norm(s.width, s.epsilon)
        self.attn_q, self.attn_output = linear(s.width, s.width), linear(s.width, s.width)
        self.attn_k, self.attn_v = (linear(s.width, s.kv_heads * s.head) for _ in range(2))
        self.ffn_gate, self.ffn_up = (linear(s.width, s.feed_forward) for _ in range(2))
        self.ffn_down = linear(s.feed_forward, s.width)

    def forward(self, h, rotation, past):
        """h: [batch, tokens, width]; past: (keys, values) of the tokens before, or None. Returns h and the longer past."""
        s, (batch, tokens, _) = self.s, h.shape
        x = self.attn_norm(h)
        q = rotate(self.attn_q(x).view(batch, tokens, s.heads, s.head), rotation).transpose(1, 2)
        k = rotate(self.attn_k(x).view(batch, tokens, s.kv_heads, s.head), rotation).transpose(1, 2)
        v = self.attn_v(x).view(batch, tokens, s.kv_heads, s.head).transpose(1, 2)
        if past is not None:  # then there is one new token, and it sees everything
            k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        grown, group = (k, v), s.heads // s.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        with torch.autocast("cpu", enabled=False):  # PyTorch's bfloat16 attention is several times slower on a CPU than its float32
            a = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=past is None)
        h = h + self.attn_output(a.transpose(1, 2).reshape(batch, tokens, s.width))
        x = self.ffn_norm(h)
        return h + self.ffn_down(F.silu(self.ffn_gate(x)) * self.ffn_up(x)), grown


def rotate(x, rotation):
    """Turns each (even, odd) pair of x [batch, tokens, heads, head] by its position's angle."""
    cos, sin = rotation
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Policy(nn.Module):
    def __init__(self, s=None):
        super().__init__()
        self.s = s = s or Shape()
        self.token_embd = nn.Embedding(VOCABULARY, s.width)
        self.blk = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.output_norm, self.output = Norm(s.width, s.epsilon), linear(s.width, VOCABULARY)
        angles = torch.arange(s.context)[:, None] * s.rope_base ** (-torch.arange(0, s.head, 2) / s.head)
        self.register_buffer("cos", angles.cos()[:, None], persistent=False)
        self.register_buffer("sin", angles.sin()[:, None], persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02 if "_output" not in name and "down" not in name else 0.02 / (2 * s.layers) ** 0.5)

    def forward(self, ids, past=None):
        """ids [batch, tokens] to the states the channel reads, h_0 … h_L (the last one normed), and the past for the next call."""
        start = past[0][0].shape[2] if past else 0
        rotation = self.cos[start : start + ids.shape[1]], self.sin[start : start + ids.shape[1]]
        h = self.token_embd(ids)
        states, grown = [h], []
        for i, block in enumerate(self.blk):
            h, kv = block(h, rotation, past[i] if past else None)
            states.append(h)
            grown.append(kv)
        states[-1] = self.output_norm(h)
        return states, grown


def taller(policy, layers):
    """The policy with at least so many layers, those on top adding nothing yet."""
    found = Policy(replace(policy.s, layers=max(layers, policy.s.layers)))
    found.load_state_dict(policy.state_dict(), strict=False)
    for block in found.blk[policy.s.layers :]:
        nn.init.zeros_(block.attn_output.weight)
        nn.init.zeros_(block.ffn_down.weight)
    return found


class Channel(nn.Module):
    def __init__(self, s, width=128, outputs=1):
        super().__init__()
        inputs = [s.width] + [s.width + width] * (s.layers - 1)
        self.norm = nn.ModuleList(Norm(i, s.epsilon) for i in inputs)
        self.blk = nn.ModuleList(linear(i, width) for i in inputs)
        self.head = linear(s.width + width, outputs)

    def forward(self, states):
        """The outputs for every token, [..., outputs], from the policy's states h_0 … h_L, each [..., width]; output 0 is the reward."""
        r = F.silu(self.blk[0](self.norm[0](states[0])))
        for norm, blk, h in zip(self.norm[1:], self.blk[1:], states[1:]):
            r = r + F.silu(blk(norm(torch.cat((h, r), -1))))
        return self.head(torch.cat((states[-1], r), -1))


# ---- GGUF

def stored(p):
    """Matrices as F16, norms as F32."""
    return (p.detach().half() if p.dim() == 2 else p.detach().float()).numpy()


def write(path, policy):
    w, s = gguf.GGUFWriter(path, "llama"), policy.s
    w.add_name("countdown")
    w.add_context_length(s.context)
    w.add_embedding_length(s.width)
    w.add_block_count(s.layers)
    w.add_feed_forward_length(s.feed_forward)
    w.add_head_count(s.heads)
    w.add_head_count_kv(s.kv_heads)
    w.add_rope_dimension_count(s.head)
    w.add_rope_freq_base(s.rope_base)
    w.add_layer_norm_rms_eps(s.epsilon)
    w.add_vocab_size(VOCABULARY)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    tokens, merges = tokens_and_merges()
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("default")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.NORMAL] * END + [gguf.TokenType.CONTROL])
    w.add_token_merges(merges)
    w.add_eos_token_id(END)
    w.add_add_bos_token(False)
    for name, p in policy.named_parameters():
        w.add_tensor(name, stored(p))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def read(path):
    """The policy and the channel (None when there is none) of a GGUF, with the stored weights in float32, and its search settings."""
    r = gguf.GGUFReader(path)
    value = lambda key: r.fields[key].contents()
    tensors = {t.name: torch.tensor(t.data).float() for t in r.tensors}
    policy = Policy(Shape(width=value("llama.embedding_length"), layers=value("llama.block_count"),
                          heads=value("llama.attention.head_count"), kv_heads=value("llama.attention.head_count_kv"),
                          feed_forward=value("llama.feed_forward_length"), context=value("llama.context_length"),
                          rope_base=value("llama.rope.freq_base"), epsilon=value("llama.attention.layer_norm_rms_epsilon")))
    policy.load_state_dict({name: t for name, t in tensors.items() if not name.startswith("reward.")})
    if "reward.width" not in r.fields:
        return policy.eval(), None, {}
    channel = Channel(policy.s, value("reward.width"), value("reward.outputs"))
    channel.load_state_dict({re.sub(r"reward\.blk\.(\d+)\.norm", r"reward.norm.\1", name).removeprefix("reward."): t
                             for name, t in tensors.items() if name.startswith("reward.")})
    return policy.eval(), channel.eval(), {key.removeprefix("reward.sla."): value(key) for key in r.fields if "reward.sla." in key}
