"""Make every generated file of this folder: tiny random models, and what independent implementations say about them.

    python make_fixtures.py [OUT]        (OUT: this folder unless told)

Two runs on one machine give the same bytes. On another machine the last digits of the references may differ (another order
of float32 sums), which is why the tests compare with a tolerance; the weights, quantized blocks and token ids never differ.
"""
import io, json, pathlib, re, sys, tempfile
import gguf, numpy as np, sentencepiece, torch
from gguf import GGMLQuantizationType as Type, GGUFWriter
from gguf.quants import dequantize, quantize
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch.nn.functional import silu
from transformers import (LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

OUT = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
torch.set_num_threads(1)
torch.set_grad_enabled(False)


def write_json(name, **fields):
    """One field a line; numbers with six significant digits."""
    def short(v):
        if isinstance(v, (torch.Tensor, np.ndarray)): v = v.tolist()
        if isinstance(v, list): return [short(x) for x in v]
        return float(f"{v:.6g}") if isinstance(v, float) else v
    lines = (f"{json.dumps(k)}:{json.dumps(short(v), separators=(',', ':'))}" for k, v in fields.items())
    (OUT / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def finish(writer):
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()


# ---------------------------------------------------------------------------------------------------------- tokenizers

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # tokenizer.ggml.token_type, the same numbers as SentencePiece's

# Best first. "xyz" cannot be reached, because no two shorter pieces make it up: bigram merging must not find it.
PIECES = """▁t he in ▁a er on ▁the ing ▁▁ ll en ▁▁▁▁ ld ▁w or ▁wor ▁world He ▁He llo ▁Hello 世界 00 's ▁d ▁de aa xyz é😀
            ▁ e t a o i n s h r l d w H x y z é 世 界 😀 0 '""".split()

# In GPT-2's alphabet for bytes: Ġ is a space, Ċ a newline, Ã© is é, Ìģ the combining acute, ðŁĺĢ the emoji 😀, ä¸ĸ is 世.
MERGES = """Ġ t|h e|i n|r e|o n|Ġt he|e r|Ġ a|l l|in g|a n|Ġ Ġ|ĠĠ ĠĠ|Ċ Ċ|ĊĊ Ċ|1 2|12 3|2 3|0 0|' s|' t|' ll|' re|ð Ł|ðŁ ĺ|ðŁĺ Ģ|Ã ©|Ì ģ
            e Ìģ|ä ¸|ä¸ ĸ|. .|.. .|Ġ .|Ġ w|o r|Ġw or|l d|Ġwor ld|! !|Ġ 1|č Ċ|Â ł|Ġ ="""
MERGES = [tuple(m.split(" ")) for m in re.split(r"\||\n *", MERGES)]
WHOLE = "Ġzebra"  # in the vocabulary but out of the merges' reach: only llama-bpe takes a whole word before it merges

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
SPLITS = {  # tokenizer.ggml.pre: its regular expressions, each of which splits the pieces of the one before
    "llama-bpe": [LLAMA3],
    "qwen2": [LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")],
    "gpt-2": [GPT2 + r"|\s+"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
}


class SentencePieceVocabulary:
    """`tokenizer.ggml.model` = llama; the reference is the sentencepiece package on the same pieces."""
    def __init__(self):
        self.tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + PIECES
        self.types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(PIECES)
        self.scores = [0.0] * 259 + [-float(rank) for rank in range(len(PIECES))]

    def describe(self, w):
        w.add_tokenizer_model("llama"); w.add_tokenizer_pre("default"); w.add_add_space_prefix(True)
        w.add_token_list(self.tokens); w.add_token_scores(self.scores); w.add_token_types(self.types)
        w.add_unk_token_id(0); w.add_bos_token_id(1); w.add_eos_token_id(2); w.add_add_bos_token(True)

    def encoder(self):
        proto = sentencepiece_model_pb2.ModelProto()
        for token, kind, score in zip(self.tokens, self.types, self.scores):
            proto.pieces.add(piece=token, type=kind, score=score)
        proto.trainer_spec.model_type = proto.trainer_spec.BPE
        proto.trainer_spec.byte_fallback = True
        proto.normalizer_spec.name = "identity"
        proto.normalizer_spec.remove_extra_whitespaces = False
        return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString()).encode


class CharacterVocabulary:
    """`tokenizer.ggml.model` = gemma4; the reference is the tokenizers package on the same merges."""
    def __init__(self):
        newlines = ["\n" * n for n in range(1, 5)]
        self.tokens = ["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{b:02X}>" for b in range(256)] + newlines + PIECES
        self.types = [CONTROL] * 3 + [UNKNOWN] + [BYTE] * 256 + [NORMAL] * (len(newlines) + len(PIECES))
        # As converters write SentencePiece's pieces: every way to put a piece together, the better piece first.
        self.merges = [(p[:i], p[i:]) for p in PIECES for i in range(1, len(p)) if p[:i] in PIECES and p[i:] in PIECES]

    def describe(self, w):
        w.add_tokenizer_model("gemma4")
        w.add_token_list(self.tokens); w.add_token_types(self.types); w.add_token_merges([" ".join(m) for m in self.merges])
        w.add_eos_token_id(1); w.add_bos_token_id(2); w.add_unk_token_id(3)

    def encoder(self):
        # llama.cpp has a rule for newlines, the file no merges.
        newlines = [("\n", "\n"), ("\n\n", "\n"), ("\n\n", "\n\n")]
        t = Tokenizer(models.BPE({token: i for i, token in enumerate(self.tokens)}, newlines + self.merges, byte_fallback=True,
                                 unk_token="<unk>"))
        t.normalizer = normalizers.Replace(" ", "▁")
        return lambda text: t.encode(text, add_special_tokens=False).ids


class UnigramVocabulary:
    """`tokenizer.ggml.model` = t5; the reference is the sentencepiece package, which finds the pieces in TEXTS. Some characters are
    replaced, many spaces become one."""
    RULES = {"ﬁ": "fi", "１": "1", "²": "2", "\t": " ", "\u3000": " ", "…": "...", "e\u0301": "é"}

    def __init__(self):
        model = io.BytesIO()
        with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
            for text, replacement in self.RULES.items():
                print(" ".join(f"{ord(c):X}" for c in text), " ".join(f"{ord(c):X}" for c in replacement), sep="\t", file=rules)
            rules.flush()
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sum((t.split("\n") for t in TEXTS if "\0" not in t), []) * 20), model_writer=model, vocab_size=300,
                model_type="unigram", normalization_rule_tsv=rules.name, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1,
                character_coverage=0.98, hard_vocab_limit=False, minloglevel=2)
        self.proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
        self.tokens = [p.piece for p in self.proto.pieces]
        self.types = [p.type for p in self.proto.pieces]

    def describe(self, w):
        w.add_tokenizer_model("t5"); w.add_tokenizer_pre("default"); w.add_add_space_prefix(True); w.add_remove_extra_whitespaces(True)
        w.add_token_list(self.tokens); w.add_token_scores([p.score for p in self.proto.pieces]); w.add_token_types(self.types)
        w.add_eos_token_id(1); w.add_unk_token_id(2); w.add_pad_token_id(0)
        w.add_precompiled_charsmap(self.proto.normalizer_spec.precompiled_charsmap)

    def encoder(self):
        # Of "▁" alone sentencepiece makes nothing, llama.cpp two spaces.
        encode = sentencepiece.SentencePieceProcessor(model_proto=self.proto.SerializeToString()).encode
        return lambda text: [self.tokens.index("▁")] * 2 if text == "▁" else encode(text)


class ByteVocabulary:
    """`tokenizer.ggml.model` = gpt2; the reference is the tokenizers package on the same merges. No Unicode normalization."""
    def __init__(self, pre, controls):
        self.pre, self.controls = pre, controls
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())  # GPT-2's order
        self.tokens = letters + ["".join(m) for m in MERGES] + [WHOLE] + controls
        self.types = [NORMAL] * (len(self.tokens) - len(controls)) + [CONTROL] * len(controls)

    def describe(self, w):
        w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre(self.pre)
        w.add_token_list(self.tokens); w.add_token_types(self.types); w.add_token_merges([" ".join(m) for m in MERGES])
        w.add_bos_token_id(self.tokens.index(self.controls[0])); w.add_eos_token_id(self.tokens.index(self.controls[-1]))
        w.add_add_bos_token(self.pre == "llama-bpe")

    def encoder(self, parse_controls=False):
        t = Tokenizer(models.BPE({token: i for i, token in enumerate(self.tokens)}, MERGES,
                                 ignore_merges=self.pre == "llama-bpe"))
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r), "isolated") for r in SPLITS[self.pre]]
                                                  + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        if parse_controls: t.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in self.controls])
        return lambda text: t.encode(text, add_special_tokens=False).ids


TEXTS = [
    "", " ", "  ", "   ", "    ", "     ", "a", " a", "a ", "  a  ", "\n", "\n\n", "\n\n\n\n", " \n", "\n ", " \n \n  x", "\r\n", "\r\n\r\nx",
    "\r", "\t", "\t\tx", "a\tb", " \t \n\t ", "Hello world", " Hello  world ", "Hello, world!!!", "the the there then others", "ere reer errer",
    "aaaaaaa", "aaaa aaa", "xyz wxyz", "a zebra, zebras, zebra", "inging in ing", "hello\nworld\n", "x  \ny", "x \n\n  y", "x   y", "end.  \n",
    "I'm you're he's we'll they've I'd don't", "I'M YOU'RE HE'S WE'LL THEY'VE I'D DON'T", "'s's 's ''s 'llama 'tis", "rock'n'roll", "’s it’s",
    "0", "12", "123", "1234", "12345678", "1 12 123 1234", "3.14159, 1,000,000.00", "a1b22c333d4444", "１２３４ ٣٤٥ ½ ²³ Ⅷ", "0000 00000", "1231231 x12",
    "..", "... .... .....", "a...b", "!!!!?!", "== != <= >= -> => :: // /* */", "$5 + £6 = €11 ^ ~ | ` ´ §", "(a[0]{1}<b>)", "foo_bar __init__",
    "x=1;\n\tif (y) {\n\t\treturn;\n\t}\n", "def f(x):\n    return x\n\n\nclass A:\n        pass", "https://example.org/a?b=c&d=%20#e", "user@host.net",
    "café", "cafe\u0301", "e\u0301e\u0301", "\u0301", "a\u0301\u0302b", "naïve façade Åse", "ÅÄÖ ßẞ ŒœÆ", "Привет, мир", "Ελληνικά", "שלום עולם",
    "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดี", "世界", "你好，世界。", "世世界界", "こんにちは世界", "안녕하세요 세계", "한글", "😀", "😀😀 😀", "é😀é😀",
    "👩‍👩‍👧‍👦", "👍🏽", "🇫🇷🇩🇪", "☃️", "a😀b", "∑∫√∞ ≤≥≠", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛", "\u00a0", "a\u00a0b", "a \u00a0 b", "x\u3000y", "\u2003\u2003z", "a\u2028b\u2029c",
    "a\u200bb", "\ufeffbom", "soft\u00adhyphen", "\u0000", "a\u0000b", "\u0001\u0002\u001f\u007f", "\u0085x", "\x0b\x0c", "\u001b[31mred", "\ufffd",
    "\U0010ffff", "\ue000", "▁", "▁▁ a▁b", "<0x0A>", "Ġ Ċ", "\\n \\u0041", "\"quoted\" 'single'", "a,b;c:d", "ALL CAPS Title camelCase", "mixed世界and123",
]


def write_tokenizer(name, file, vocabulary):
    """`cases` have no control token in them; in `controlsAsText` one is spelled out and read as ordinary text, in
    `controlsParsed` it is read as the token."""
    encode = vocabulary.encoder()
    cases = lambda texts, encode: [{"text": t, "ids": encode(t)} for t in texts]
    fields = {"gguf": file, "cases": cases(TEXTS, encode)}
    if isinstance(vocabulary, UnigramVocabulary): return write_json(f"tokenizer-{name}.json", **fields)
    controls = [t for t, kind in zip(vocabulary.tokens, vocabulary.types) if kind == CONTROL]
    spelled = [f"{c}Hello{controls[-1]}\n the{c}{c} {c} " for c in controls]
    fields["controlsAsText"] = cases(spelled, encode)
    if isinstance(vocabulary, ByteVocabulary):
        fields["controlsParsed"] = cases(spelled, vocabulary.encoder(parse_controls=True))
    write_json(f"tokenizer-{name}.json", **fields)


# -------------------------------------------------------------------------------------------------------------- blocks

SCALES = {  # bytes of a block, scales at: f16, but MXFP4's is the byte of a power of two and IQ1_M's the high halves of four uint16
    Type.Q8_0: (34, [0]), Type.Q4_0: (18, [0]), Type.Q4_1: (20, [0, 2]), Type.Q5_0: (22, [0]), Type.Q5_1: (24, [0, 2]),
    Type.IQ4_NL: (18, [0]), Type.Q2_K: (84, [80, 82]), Type.Q3_K: (110, [108]), Type.Q4_K: (144, [0, 2]),
    Type.Q5_K: (176, [0, 2]), Type.Q6_K: (210, [208]), Type.IQ4_XS: (136, [0]),
    Type.MXFP4: (17, [0]), Type.TQ2_0: (66, [64]), Type.TQ1_0: (54, [52]),
    Type.IQ2_XXS: (66, [0]), Type.IQ2_XS: (74, [0]), Type.IQ2_S: (82, [0]), Type.IQ3_XXS: (98, [0]), Type.IQ3_S: (110, [0]),
    Type.IQ1_S: (50, [0]), Type.IQ1_M: (56, [48])}
# Of random codes times scales: their deviation, and their mean where the second scale is subtracted.
SPREAD = {Type.Q2_K: (13.9, 1.5), Type.Q3_K: (43, 0), Type.Q4_K: (256, 7.5), Type.Q5_K: (519, 15.5), Type.Q6_K: (1366, 0),
          Type.IQ4_NL: (67, 0), Type.IQ4_XS: (1240, 0)}


def scale_bytes(type, at):
    return [at] if type == Type.MXFP4 else [at + 1, at + 3, at + 5, at + 7] if type == Type.IQ1_M else [at, at + 1]


def random_blocks(type, rows, columns, rng, scales):
    """Any bytes make a valid block as long as its scales are finite. `scales(n, field)` draws them."""
    size, offsets = SCALES[type]
    n = rows * columns // (256 if size > 34 else 32)
    blocks = rng.integers(0, 256, (n, size), np.uint8)
    for field, at in enumerate(offsets):
        raw = scales(n, field).astype(np.uint8 if type == Type.MXFP4 else "<f2").view(np.uint8).reshape(n, -1)
        if type == Type.IQ1_M:
            raw = (raw.view("<u2") >> np.array([0, 4, 8, 12], "<u2") & 15).astype(np.uint8) << 4 | blocks[:, scale_bytes(type, at)] & 15
        blocks[:, scale_bytes(type, at)] = raw
    return blocks.reshape(rows, -1)


def write_quant():
    """A matrix of each format, [4, 512], and its values as float32. Each product of scales and code fits 24 bits, so that there
    is one right answer, fused or not and in any order; only the sign of a zero may depend on the order."""
    rng, rows, columns = np.random.default_rng(40), 4, 512
    w, values = GGUFWriter(OUT / "quant.gguf", "llama"), []
    edges = [0.0, -0.0, -0.5, 2.0**-24, -2.0**-24, 65504.0, -65504.0, 1.0]  # zero, least subnormal, greatest finite
    order = [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_K, Type.Q6_K, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q2_K,
             Type.Q3_K, Type.Q5_K, Type.IQ4_NL, Type.IQ4_XS, Type.MXFP4, Type.TQ2_0, Type.TQ1_0,
             Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S, Type.IQ3_XXS, Type.IQ3_S, Type.IQ1_S, Type.IQ1_M]
    for type in order:
        if type in SCALES:
            def scales(n, field):
                if type == Type.MXFP4: return np.r_[0:4, 252, 127, rng.integers(0, 253, n - 6)]  # denormal, normal, the largest
                d = 0.01 * rng.standard_normal(n)
                d[:8] = edges if field == 0 else edges[::-1]
                return d
            raw = random_blocks(type, rows, columns, rng, scales)
            size, offsets = SCALES[type]
            blocks = raw.reshape(-1, size)
            body = np.setdiff1d(np.arange(size), [b for at in offsets for b in scale_bytes(type, at)])
            for block, byte in ((-1, 0x00), (-2, 0xFF), (-3, 0x80), (-4, 0x7F), (0, 0xFF)):  # extreme codes
                blocks[block][body] = byte
        else:
            x = rng.standard_normal((rows, columns)).astype(np.float32)
            x[0, :8] = edges
            raw = x if type == Type.F32 else quantize(x, type)
        w.add_tensor(type.name.lower(), raw, raw_dtype=type)
        values.append(dequantize(raw, type).astype("<f4"))
        assert values[-1].shape == (rows, columns) and np.isfinite(values[-1]).all()
    finish(w)
    (OUT / "quant.f32").write_bytes(b"".join(v.tobytes() for v in values))
    write_json("quant.json", gguf="quant.gguf", values="quant.f32", rows=rows, columns=columns,
               order=[type.name.lower() for type in order])


# -------------------------------------------------------------------------------------------------------------- models

def permute(x, heads):
    """Rows of a q or k matrix from Hugging Face's rotary halves to the adjacent pairs of GGUF's llama architecture."""
    return x.reshape(heads, 2, -1, x.shape[1]).swapaxes(1, 2).reshape(x.shape)


def unpermute(x, heads):
    return x.reshape(heads, -1, 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)


def write_model(file, kind, vocabulary, seed, types={}, rope=None, heads=4, **shape):
    """Write a random model and return Hugging Face's, which takes its weights from what was stored (quantized or not)."""
    config_type, model_type = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM),
                               "qwen3": (Qwen3Config, Qwen3ForCausalLM)}[kind]
    c = config_type(vocab_size=len(vocabulary.tokens), max_position_embeddings=512, attn_implementation="eager", use_cache=False,
                    rope_parameters={"rope_type": "default", "rope_theta": 10000.0} | (rope or {}), num_hidden_layers=2,
                    num_attention_heads=heads, num_key_value_heads=heads // 2, **shape)
    model = model_type(c).float().eval()
    head_dim = model.model.layers[0].self_attn.head_dim
    rng = np.random.default_rng(seed)

    w = GGUFWriter(OUT / file, kind)
    w.add_name(pathlib.Path(file).stem); w.add_context_length(512); w.add_embedding_length(c.hidden_size)
    w.add_block_count(2); w.add_feed_forward_length(c.intermediate_size); w.add_head_count(heads); w.add_head_count_kv(heads // 2)
    w.add_layer_norm_rms_eps(c.rms_norm_eps); w.add_rope_freq_base(10000.0); w.add_vocab_size(c.vocab_size)
    if head_dim != c.hidden_size // heads: w.add_key_length(head_dim); w.add_value_length(head_dim)
    if kind == "llama": w.add_rope_dimension_count(head_dim)
    vocabulary.describe(w)

    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, kind.upper()), 2)
    for name, p in model.named_parameters():  # a tied output is not listed twice
        stored_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        x = rng.standard_normal(p.shape).astype(np.float32)
        if name.endswith("norm.weight"): x = 1 + 0.2 * x
        elif name.endswith("bias"): x = 0.3 * x
        else: x = x * np.float32((2.0 if "lm_head" in name or "embed" in name else 1.3) * c.hidden_size**-0.5)
        rotary = {"q_proj": heads, "k_proj": heads // 2}.get(name.split(".")[-2]) if kind == "llama" else None
        if rotary: x = permute(x, rotary)
        type = types.get(stored_name, Type.F32)
        if type in SPREAD:  # gguf has no encoder for these; the scales give a deviation near 1/√width
            unit, zero = c.hidden_size**-0.5 / SPREAD[type][0], SPREAD[type][1]
            raw = random_blocks(type, *p.shape, rng, lambda n, field: unit * (zero if field else 1) * rng.uniform(0.7, 1.3, n))
        else:
            raw = x if type == Type.F32 else quantize(x, type)
        w.add_tensor(stored_name, raw, raw_dtype=type)
        x = dequantize(raw, type)
        p.copy_(torch.from_numpy(np.ascontiguousarray(unpermute(x, rotary) if rotary else x)))
    if rope:  # as llama.cpp's converter stores them: what each pair's frequency is divided by
        frequency = 10000.0 ** -(np.arange(0, head_dim, 2) / head_dim)
        turns = rope["original_max_position_embeddings"] * frequency / (2 * np.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        factors = 1 / ((1 - smooth) / rope["factor"] + smooth)
        assert np.allclose(frequency / factors, model.model.rotary_emb.inv_freq.numpy())
        w.add_tensor("rope_freqs.weight", factors.astype(np.float32))
    finish(w)
    return model


def write_channel(kind, model, seed, deep=False):
    """A reward channel for the model, after "Streaming Looking Ahead with Token-level Self-reward" (arXiv 2503.00029), as a
    function of Hugging Face's hidden states: the embedding, the residual after each layer but the last, the last one normed."""
    rng = np.random.default_rng(seed)
    layers, width, r, outputs = model.config.num_hidden_layers, model.config.hidden_size, 24, 2
    file = f"reward-{kind}.gguf"
    w = GGUFWriter(OUT / file, kind)
    w.add_type("adapter"); w.add_string("adapter.type", "reward"); w.add_uint32("reward.width", r); w.add_uint32("reward.outputs", outputs)
    w.add_uint32("reward.block_count", layers); w.add_uint32("reward.embedding_length", width)

    def tensor(name, *shape):
        x = rng.standard_normal(shape).astype(np.float32)
        x = 1 + 0.2 * x if len(shape) == 1 else x * np.float32(1.5 * shape[-1]**-0.5)
        w.add_tensor(name, x)
        return torch.from_numpy(x)

    def norm(x, gain):
        return gain * x * torch.rsqrt((x * x).mean(-1, keepdim=True) + model.config.rms_norm_eps)

    blocks = [(tensor(f"reward.blk.{i}.norm.weight", width + r * (i > 0)), tensor(f"reward.blk.{i}.weight", r, width + r * (i > 0)))
              for i in range(layers)]
    head = ([tensor("reward.head.0.weight", 32, width + r), tensor("reward.head.2.weight", outputs, 32)] if deep else
            [tensor("reward.head.weight", outputs, width + r)])
    finish(w)

    def rewards(h):
        gain, matrix = blocks[0]
        state = silu(norm(h[0], gain) @ matrix.T)
        for i in range(1, layers):
            gain, matrix = blocks[i]
            state = state + silu(norm(torch.cat([h[i], state], -1), gain) @ matrix.T)
        x = torch.cat([h[layers], state], -1) @ head[0].T
        for matrix in head[1:]: x = silu(x) @ matrix.T
        return x
    return file, rewards


def evaluate(model, prompt):
    out = model(torch.tensor([prompt]), output_hidden_states=True)
    hidden = [h[0] for h in out.hidden_states]
    assert torch.equal(model.lm_head(hidden[-1]), out.logits[0])  # the last hidden state is the normed one
    assert torch.equal(hidden[0], model.model.embed_tokens(torch.tensor(prompt)))
    logits = out.logits[0]
    logprobs = logits[:-1].double().log_softmax(-1)[torch.arange(len(prompt) - 1), torch.tensor(prompt[1:])]
    return logits, logprobs, hidden


def write_parity(name, kind, vocabulary, seed, channel=None, **options):
    model = write_model(f"parity-{name}.gguf", kind, vocabulary, seed, hidden_size=32, intermediate_size=64, head_dim=16, **options)
    prompt = np.random.default_rng(seed + 1).integers(3, len(vocabulary.tokens) - 3, 200).tolist()
    logits, logprobs, hidden = evaluate(model, prompt)
    positions = [0, 1, 31, 32, 99, 199]
    fields = dict(gguf=f"parity-{name}.gguf", prompt=prompt, positions=positions, logits=logits[positions], logProbs=logprobs)
    if channel:
        fields["rewardGGUF"], rewards = write_channel(kind, model, seed + 2, deep=channel == "deep")
        fields["rewards"] = rewards(hidden)
    write_json(f"parity-{name}.json", **fields)


def write_quantized(vocabulary):
    types = {"token_embd.weight": Type.Q8_0}  # tied: the output too
    order = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    rows = [(Type.Q4_K, Type.F16, Type.Q4_0, Type.Q4_1, Type.Q5_K, Type.Q5_0, Type.IQ4_XS),
            (Type.IQ4_NL, Type.BF16, Type.Q6_K, Type.Q3_K, Type.Q5_1, Type.Q4_K, Type.Q2_K)]
    for i, row in enumerate(rows):
        types |= {f"blk.{i}.{name}.weight": type for name, type in zip(order, row)}
    model = write_model("quantized-llama.gguf", "llama", vocabulary, 50, types, hidden_size=256, intermediate_size=256,
                        rms_norm_eps=1e-5, tie_word_embeddings=True)
    prompt = np.random.default_rng(51).integers(3, len(vocabulary.tokens), 64).tolist()
    positions = [0, 31, 63]
    logits, logprobs, _ = evaluate(model, prompt)

    # The same model as an engine computes it whose quantized matrices meet 8-bit activations, in blocks of 32.
    def round_input(module, inputs):
        x = inputs[0].unflatten(-1, (-1, 32))
        d = x.abs().amax(-1, keepdim=True) / 127
        return ((x / d.clamp_min(1e-30)).round() * d).flatten(-2)  # torch rounds half to even
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            tied = name == "lm_head"
            stored_name = "token_embd.weight" if tied else names.get_name(name + ".weight", try_suffixes=(".weight",))
            if types[stored_name] not in (Type.F32, Type.F16, Type.BF16): module.register_forward_pre_hook(round_input)
    logits8 = model(torch.tensor([prompt])).logits[0]
    write_json("quantized-llama.json", gguf="quantized-llama.gguf", prompt=prompt, positions=positions, logits=logits[positions],
               logProbs=logprobs, logits8=logits8[positions],
               types={k: v.name for k, v in sorted(types.items())})


def write_vocabulary(file, vocabulary):
    w = GGUFWriter(OUT / file, "gpt2")
    w.add_name(pathlib.Path(file).stem); w.add_vocab_size(len(vocabulary.tokens))
    vocabulary.describe(w)
    finish(w)


def main():
    llama = SentencePieceVocabulary()
    llama3 = ByteVocabulary("llama-bpe", ["<|begin_of_text|>", "<|eot_id|>"])
    qwen = ByteVocabulary("qwen2", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    gpt2 = {pre: ByteVocabulary(pre, ["<|endoftext|>"]) for pre in ("default", "gpt-2")}
    gemma, t5 = CharacterVocabulary(), UnigramVocabulary()

    write_parity("llama", "llama", llama, 10, channel="linear", rms_norm_eps=1e-5)
    write_parity("llama-tied-rope", "llama", llama3, 15, rms_norm_eps=1e-5, tie_word_embeddings=True,
                 rope=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                           original_max_position_embeddings=128))  # one frequency is blended, five are slowed: 200 tokens tell
    write_parity("qwen2", "qwen2", qwen, 20, channel="deep", rms_norm_eps=1e-6, tie_word_embeddings=True,
                 heads=2)  # Qwen2 knows no head dimension but width / heads
    write_parity("qwen3", "qwen3", qwen, 25, channel="linear", rms_norm_eps=1e-6, tie_word_embeddings=True)
    write_quantized(llama)
    write_quant()

    write_vocabulary("tokenizer-gpt2.gguf", gpt2["default"])
    write_vocabulary("tokenizer-gpt2-pre.gguf", gpt2["gpt-2"])
    write_tokenizer("llama", "parity-llama.gguf", llama)
    write_tokenizer("llama-bpe", "parity-llama-tied-rope.gguf", llama3)
    write_tokenizer("qwen2", "parity-qwen2.gguf", qwen)
    write_tokenizer("gpt2", "tokenizer-gpt2.gguf", gpt2["default"])
    write_tokenizer("gpt2-pre", "tokenizer-gpt2-pre.gguf", gpt2["gpt-2"])
    write_vocabulary("tokenizer-gemma4.gguf", gemma)
    write_tokenizer("gemma4", "tokenizer-gemma4.gguf", gemma)
    write_vocabulary("tokenizer-t5.gguf", t5)
    write_tokenizer("t5", "tokenizer-t5.gguf", t5)


main()
