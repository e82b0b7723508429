"""Make directories/: tiny random models as Hugging Face's save_pretrained writes them, and what transformers says of them; some with rewards.

    python make_directories.py

The policies are transformers' own classes. The reward channel is written here from its description (arXiv 2503.00029, and what the authors'
training code saves), in PyTorch and without a look at the engine. Only the vocabulary is ours, 62 letters and two control tokens. Two runs on
one machine give the same bytes; elsewhere the last digits of the references may differ.
"""
import json, os, pathlib, re, shutil
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import numpy as np, torch, transformers
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

OUT = pathlib.Path(__file__).parent / "directories"
VOCABULARY, LETTERS, LENGTH = 64, 62, 60
torch.set_num_threads(1)
torch.set_grad_enabled(False)
transformers.logging.disable_progress_bar()

SIZE = dict(
    hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)

# Class, settings, type, and what its rewards are: the ending of the class's name, the stream's width, layers of the head, their width.
MODELS = {
    # Shards; pairs to be turned about; rope factors that become a tensor; tied output.
    "llama": ("Llama", SIZE | dict(tie_word_embeddings=True, rope_parameters=LLAMA3), torch.bfloat16, None),
    # Experts that are stacked, norms of heads.
    "qwen3moe": ("Qwen3Moe", SIZE | dict(
        head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True), torch.float16, None),
    # Matrices stored as their transposes, all in one.
    "gpt2": ("GPT2", dict(n_positions=128, n_embd=32, n_layer=2, n_head=2), torch.float32, None),
    # The formats of the paper's authors.
    "reward-llama": ("Llama", SIZE | dict(tie_word_embeddings=False), torch.bfloat16, ("RewardTransformer", 16, 1, 1)),
    "reward-qwen3": ("Qwen3", SIZE | dict(head_dim=16), torch.float32, ("RewardTransformer", 16, 3, 2)),
    "reward-gemma": ("Gemma", SIZE | dict(head_dim=16), torch.float32, ("ThinkTransformer", 32, 1, 1)),
    "reward-qwen2": ("Qwen2", SIZE, torch.float16, ("SelfReward", 0, 1, 1)),
    "reward-deep": ("Llama", SIZE, torch.float32, ("SelfReward", 0, 2, 1)),
}


class Norm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x): return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


class Layer(nn.Module):
    def __init__(self, size, width, eps):
        super().__init__()
        self.tt_layernorm, self.tt_linear = Norm(size, eps), nn.Linear(size, width, bias=False)

    def forward(self, x): return F.silu(self.tt_linear(self.tt_layernorm(x)))


class Channel(nn.Module):
    """r_1 = silu(W_1 norm(h_0)); r_{i+1} = r_i + silu(W_{i+1} norm([h_i ; r_i])); outputs = head [h_L ; r_L]."""

    def __init__(self, d, layers, width, outputs, head_layers, rate, eps):
        super().__init__()
        if width: self.tt_layers = nn.ModuleList(Layer(d + width if i else d, width, eps) for i in range(layers))
        hidden = int(rate * d)
        sizes = [d + width] + [hidden] * (head_layers - 1) + [outputs]
        maps = [nn.Linear(a, b, bias=False) for a, b in zip(sizes, sizes[1:])]
        if head_layers == 1: self.sr_head = maps[0]
        else: self.sr_head = nn.Sequential(*[m for pair in zip(maps, [nn.SiLU() for _ in maps]) for m in pair][:-1])

    def forward(self, states):
        last = states[-1]  # behind the final norm
        if not hasattr(self, "tt_layers"): return self.sr_head(last)
        r = self.tt_layers[0](states[0])
        for i, layer in enumerate(self.tt_layers[1:], 1): r = r + layer(torch.cat([states[i], r], -1))
        return self.sr_head(torch.cat([last, r], -1))


def randomise(module, seed, dtype):
    """Norms near what they begin with, matrices that keep a vector's length, all rounded to what the file holds."""
    g = torch.Generator().manual_seed(seed)
    done = set()
    for name, t in module.state_dict().items():
        if not t.is_floating_point() or t.data_ptr() in done: continue
        done.add(t.data_ptr())
        noise = torch.randn(t.shape, generator=g)
        if name.endswith("bias"): t.copy_(0.2 * noise)
        elif t.ndim == 1: t.add_(0.15 * noise)
        elif re.search("embed|wte|wpe", name): t.copy_(0.7 * noise)
        else: t.copy_(1.5 * noise / t.shape[-1] ** 0.5)
        t.copy_(t.to(dtype))


def write_tokenizer(directory):
    byte_level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    added = [
        dict(id=i, content=f"<control{i}>", single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        for i in range(LETTERS, VOCABULARY)]
    model = dict(
        type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False,
        byte_fallback=False, ignore_merges=False, vocab={chr(33 + i): i for i in range(LETTERS)}, merges=[])
    file = dict(
        version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None, pre_tokenizer=byte_level, post_processor=None,
        decoder=byte_level, model=model)
    (directory / "tokenizer.json").write_text(json.dumps(file))
    (directory / "tokenizer_config.json").write_text(json.dumps(dict(
        tokenizer_class="PreTrainedTokenizerFast", eos_token=f"<control{VOCABULARY - 1}>", add_bos_token=False)))


def make(name):
    kind, fields, dtype, rewards = MODELS[name]
    seed = sum(map(ord, name))
    ids = np.random.default_rng(seed).integers(0, LETTERS, LENGTH).tolist()
    common = dict(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=VOCABULARY - 1, pad_token_id=None)
    config = getattr(transformers, kind + "Config")(**common | fields)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    randomise(model, seed, dtype)
    said = model(input_ids=torch.tensor([ids]), use_cache=False, output_hidden_states=True)
    rows = torch.log_softmax(said.logits[0].double(), -1)
    reference = dict(ids=ids, logprobs=[round(rows[i, ids[i + 1]].item(), 6) for i in range(LENGTH - 1)])
    directory = OUT / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    shards = dict(max_shard_size="12KB") if name == "llama" else {}
    model.to(dtype).save_pretrained(directory, **shards)
    write_tokenizer(directory)
    if name == "llama":
        (directory / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        (directory / "generation_config.json").write_text(json.dumps(dict(eos_token_id=[63, 62, 5, 6], temperature=0.6, top_k=20)))
    if rewards:
        ending, width, layers, rate = rewards
        channel = Channel(config.hidden_size, config.num_hidden_layers, width, 2, layers, rate, config.rms_norm_eps)
        randomise(channel, seed + 1, dtype)
        outputs = channel([h[0].float() for h in said.hidden_states])
        # A token's reward is read where the token is.
        reference["rewards"] = [round(x, 6) for x in outputs[1:, 0].tolist()]
        tensors = {k: v.contiguous() for k, v in model.state_dict().items() if not (k == "lm_head.weight" and config.tie_word_embeddings)}
        tensors |= {k: v.to(dtype).contiguous() for k, v in channel.state_dict().items()}
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        path = directory / "config.json"
        given = json.loads(path.read_text())
        given["architectures"] = [given["architectures"][0] + ending]
        given |= dict(sr_out_dim=2, sr_head_layer=layers, sr_hidden_size_rate=rate)
        if width: given["tt_hidden_size"] = width
        path.write_text(json.dumps(given, indent=2))
    if name != "llama": (directory / "generation_config.json").unlink(missing_ok=True)
    return reference


OUT.mkdir(exist_ok=True)
references = {name: make(name) for name in MODELS}
lines = (f"{json.dumps(n)}:{json.dumps(r, separators=(',', ':'))}" for n, r in sorted(references.items()))
(OUT / "reference.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
