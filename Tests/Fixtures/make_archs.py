"""Make archs/: a tiny random model of each family of architectures, and what Hugging Face transformers says of it.

    python make_archs.py LLAMA_CPP [NAME...]        (LLAMA_CPP: a checkout, for its converter; all models unless some are named)

Nothing here was written for the engine: the configurations are transformers' own classes, the GGUF is what llama.cpp's converter
makes of the saved model. Only the vocabulary is ours, 62 letters and two control tokens, because a converter wants a known one.
Two runs on one machine give the same bytes; elsewhere the last digits of the references may differ.
"""
import json, logging, os, pathlib, re, sys, tempfile

LLAMA_CPP = pathlib.Path(sys.argv[1])
sys.path[:0] = [str(LLAMA_CPP), str(LLAMA_CPP / "gguf-py")]
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import gguf, numpy as np, torch, transformers
from conversion import ModelBase, ModelType, TextModel, get_model_architecture, get_model_class

OUT = pathlib.Path(__file__).parent / "archs"
VOCABULARY, LETTERS, LENGTH = 64, 62, 100
torch.set_num_threads(1)
torch.set_grad_enabled(False)
transformers.logging.disable_progress_bar()
logging.disable(logging.WARNING)


# -------------------------------------------------------------------------------------------------------------- models

WINDOW, FULL = "sliding_attention", "full_attention"
SIZE = dict(
    hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256)
WIDE = SIZE | dict(head_dim=32)  # the heads together are wider than the model
WINDOWS = dict(sliding_window=24)
SCALES = dict(embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.4, attention_multiplier=0.2)


def layers(count): return SIZE | dict(num_hidden_layers=count)
def rope(kind="default", theta=10000.0, **others): return dict(rope_type=kind, rope_theta=theta, **others)
def yarn(**others): return rope("yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=32.0, beta_slow=1.0, **others)


# What each covers, by its class in transformers and what is set there.
MODELS = {
    # Biases everywhere, llama3 rope factors, tied output.
    "llama": ("Llama", WIDE | dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, rope_parameters=rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64))),
    # Soft-caps, norms before and after, windows on every second layer, scaled embeddings, tanh GELU.
    "gemma2": ("Gemma2", WIDE | WINDOWS | dict(query_pre_attn_scalar=32)),
    # Query and key norms per head, a rope base for windowed layers and a scaled one for the sixth.
    "gemma3": ("Gemma3Text", layers(6) | WINDOWS | dict(head_dim=16, query_pre_attn_scalar=16, rope_parameters={
        WINDOW: rope(), FULL: rope("linear", 1e6, factor=8.0)})),
    # Fused query, key and value, fused gate and up, longrope (long factors: the context is longer than the original one).
    "phi3": ("Phi3", SIZE | dict(original_max_position_embeddings=64, rope_parameters=rope(
        "longrope", short_factor=[1 + i / 20 for i in range(8)], long_factor=[1 + i / 2 for i in range(8)]))),
    # Attention sinks, YaRN that is not rounded, clamped SwiGLU, softmax over the chosen experts, a bias for each expert.
    "gpt-oss": ("GptOss", SIZE | WINDOWS | dict(
        head_dim=16, num_local_experts=4, num_experts_per_tok=2, rope_parameters=yarn(truncate=False))),
    # Layer norm with biases, a plain feed-forward layer.
    "starcoder2": ("Starcoder2", SIZE | dict(use_bias=True)),
    # One norm before attention and feed-forward side by side, layer norm without bias, rope in windows only, scaled logits.
    "cohere2": ("Cohere2", layers(4) | WINDOWS | dict(head_dim=16, logit_scale=0.25)),
    # Rope over half of the head in neighbouring pairs, norms before and after.
    "glm4": ("Glm4", WIDE | dict(attention_bias=True, rope_parameters=rope(partial_rotary_factor=0.5))),
    # ALiBi with a number of heads that is no power of two, a norm on the embeddings.
    "bloom": ("Bloom", dict(seq_length=256, hidden_size=48, n_layer=1, n_head=3)),
    # Learned positions.
    "gpt2": ("GPT2", dict(n_positions=128, n_embd=32, n_layer=2, n_head=2)),
    # Norms after only, query and key norms over the whole projection.
    "olmo2": ("Olmo2", SIZE),
    # Attention and feed-forward side by side after one layer norm, exact GELU, one head of keys and values, fused.
    "falcon": ("Falcon", dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_kv_heads=1, multi_query=True, parallel_attn=True)),
    # Layer norm whose weight is stored less one, squared ReLU.
    "nemotron": ("Nemotron", SIZE | dict(head_dim=16, rope_parameters=rope(partial_rotary_factor=0.5))),
    # Softmax over all experts, normalised over the chosen.
    "qwen3moe": ("Qwen3Moe", SIZE | dict(
        head_dim=16, num_local_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True)),
    # Softmax over all experts, not normalised; a shared expert with a gate.
    "qwen2moe": ("Qwen2Moe", SIZE | dict(
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=48)),
    # Latent attention, sigmoid gates with a bias for choice, groups of experts, a leading dense layer, a shared expert, YaRN.
    "deepseek2": ("DeepseekV3", SIZE | dict(
        num_key_value_heads=2, q_lora_rank=32, kv_lora_rank=32, qk_rope_head_dim=16, qk_nope_head_dim=16, v_head_dim=16,
        n_routed_experts=8, num_experts_per_tok=3, n_group=4, topk_group=2, n_shared_experts=1, moe_intermediate_size=16,
        first_k_dense_replace=1, routed_scaling_factor=2.5, rope_parameters=yarn(mscale=1.0, mscale_all_dim=1.0))),
    # Gated DeltaNet, attention with an output gate.
    "qwen35": ("Qwen3_5Text", WIDE | dict(
        layer_types=["linear_attention", FULL], full_attention_interval=2, linear_conv_kernel_dim=4, linear_key_head_dim=16,
        linear_value_head_dim=16, linear_num_key_heads=1, linear_num_value_heads=2,
        rope_parameters=rope(partial_rotary_factor=0.5, mrope_section=[3, 3, 2], mrope_interleaved=True))),
    # Short convolutions.
    "lfm2": ("Lfm2", SIZE | dict(layer_types=["conv", FULL], block_auto_adjust_ff_dim=False, conv_L_cache=3)),
    # Mamba, attention without rope, experts on every second layer.
    "jamba": ("Jamba", SIZE | dict(
        num_experts=4, num_experts_per_tok=2, expert_layer_period=2, expert_layer_offset=1, attn_layer_period=2,
        attn_layer_offset=1, use_mamba_kernels=False, mamba_d_state=16, mamba_dt_rank=4)),
    # Mamba-2, scales of embeddings, residual, attention and logits, a shared expert without a gate.
    "granitehybrid": ("GraniteMoeHybrid", SIZE | SCALES | dict(
        num_local_experts=4, num_experts_per_tok=2, shared_intermediate_size=48, layer_types=["mamba", "attention"],
        position_embedding_type="nope", mamba_n_heads=4, mamba_d_head=16, mamba_d_state=16, mamba_n_groups=1, mamba_chunk_size=32)),
}

# What the released models' configurations say and transformers' classes do not write (any more), for the converter.
FOR_CONVERTER = {
    "cohere2": lambda c: c.update(rotary_pct=1.0),
    "gpt2": lambda c: c.update(n_ctx=128),
    "deepseek2": lambda c: c.update(scoring_func="sigmoid"),
    "granitehybrid": lambda c: c.update(layer_types=["mamba", "attention"]),
}


# ---------------------------------------------------------------------------------------------------------------- making

def build(name):
    kind, fields = MODELS[name]
    common = dict(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=VOCABULARY - 1, pad_token_id=None)
    config = getattr(transformers, kind + "Config")(**common | fields)
    torch.manual_seed(0)
    try: return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    except ValueError: return transformers.AutoModelForCausalLM.from_config(config).float().eval()


def randomise(model, seed):
    """Norms near what they begin with, matrices that keep a vector's length, attention that is sure of something."""
    g = torch.Generator().manual_seed(seed)
    done = set()
    for name, t in model.state_dict().items():
        if not t.is_floating_point() or t.data_ptr() in done: continue
        done.add(t.data_ptr())
        noise = torch.randn(t.shape, generator=g)
        if name.endswith("sinks"): t.copy_(1.5 * noise)
        elif name.endswith("bias"): t.copy_(0.2 * noise)
        elif t.ndim == 1 or "norm" in name: t.add_(0.15 * noise)
        elif re.search("embed|wte|wpe", name): t.copy_(0.7 * noise)
        else: t.copy_((1.6 if re.search(r"(q|k|qkv)_proj|query_key|c_attn", name) else 1.0) * noise / t.shape[-1] ** 0.5)
        if name.endswith("gate_up_proj") and t.ndim == 3: t.mul_(2)  # some values beyond the clamp


def log_probabilities(model, ids):
    return torch.log_softmax(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double(), -1)


def spread(model, ids):
    """Scales the output so that logits differ by 2 or so, and rounds matrices to what the file holds."""
    for _ in range(4):
        head = (model.get_output_embeddings() or model.get_input_embeddings()).weight
        head.mul_(2 / log_probabilities(model, ids).std(-1).mean())
    for t in model.state_dict().values():
        if t.is_floating_point(): t.copy_(t.half())


def describe(self):
    """The vocabulary, in place of a converter's own `set_vocab`."""
    letters = [chr(code) for code in range(33, 33 + LETTERS)]
    controls = [f"<control{i}>" for i in range(VOCABULARY - LETTERS)]
    w = self.gguf_writer
    w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre("gpt-2"); w.add_token_merges(["a b"])
    w.add_token_list(letters + controls); w.add_token_types([1] * LETTERS + [3] * len(controls))
    w.add_eos_token_id(VOCABULARY - 1); w.add_add_bos_token(False)


def subclasses(c): return [s for direct in c.__subclasses__() for s in [direct, *subclasses(direct)]]


def convert(directory, name, out):
    change = FOR_CONVERTER.get(name, lambda c: None)
    read = ModelBase.load_hparams
    def changed(*arguments, **named):
        fields = read(*arguments, **named)
        change(fields)
        return fields
    ModelBase.load_hparams = staticmethod(changed)
    try:
        kind = get_model_class(get_model_architecture(changed(directory, False), ModelType.TEXT))
        for c in [TextModel, *subclasses(TextModel)]: c.set_vocab = describe
        kind.no_mtp = True
        # Some classes read config.json themselves.
        given = json.loads((directory / "config.json").read_text())
        change(given)
        (directory / "config.json").write_text(json.dumps(given))
        tokens = {str(i): i for i in range(VOCABULARY)}  # only counted
        (directory / "tokenizer.json").write_text(json.dumps({"model": {"vocab": tokens}, "added_tokens": []}))
        kind(directory, gguf.LlamaFileType.MOSTLY_F16, out, model_name="tiny").write()
    finally: ModelBase.load_hparams = read


def prepare(name):
    """The model of that name, and the ids that it is asked about."""
    seed = sum(map(ord, name))
    ids = np.random.default_rng(seed).integers(0, LETTERS, LENGTH).tolist()
    model = build(name)
    randomise(model, seed)
    spread(model, ids)
    return model, ids


def reference(model, ids):
    rows = log_probabilities(model, ids)
    return [round(rows[i, ids[i + 1]].item(), 6) for i in range(LENGTH - 1)]


def write(path, references):
    lines = (f"{json.dumps(n)}:{json.dumps(r, separators=(',', ':'))}" for n, r in sorted(references.items()))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def make(name):
    model, ids = prepare(name)
    with tempfile.TemporaryDirectory() as d:
        directory = pathlib.Path(d)
        model.save_pretrained(directory)
        convert(directory, name, OUT / f"{name}.gguf")
    return dict(ids=ids, logprobs=reference(model, ids))


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    path = OUT / "reference.json"
    references = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[2:] or MODELS: references[name] = make(name)
    write(path, references)
