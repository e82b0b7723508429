"""Make conversion.gguf, a model's file of random numbers, and conversion.json, what llama.cpp makes of it and of others' names.

    pip install gguf==0.19.0 llama-cpp-python==0.3.36
    python make_conversion.py

The numbers are of many kinds, so that the searches for scales take every way. The model cannot be run: llama-quantize does not ask for that.
"""
import base64, ctypes, json, pathlib, tempfile
import gguf, numpy as np
import llama_cpp
from gguf import GGMLQuantizationType as Type

OUT = pathlib.Path(__file__).parent
FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q5_1": 9, "q5_0": 8, "q4_1": 3, "q4_0": 2, "q6_k": 18, "q5_k_m": 17, "q5_k_s": 16,
              "q4_k_m": 15, "q4_k_s": 14, "q3_k_l": 13, "q3_k_m": 12, "q3_k_s": 11, "q2_k": 10, "q2_k_s": 21}
BLOCKS = [Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.F16, Type.BF16]


def quantize(source, target, file_type, weights=()):
    """llama-quantize. q2_k_s wants an importance matrix: `weights`, the names and sizes it is to have; every number counts the same."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = FILE_TYPES[file_type], 1
    if weights:
        ones = (ctypes.c_float * max(size for _, size in weights))(*[1] * max(size for _, size in weights))
        Entry = llama_cpp.llama_cpp.llama_model_imatrix_data
        entries = (Entry * (len(weights) + 1))(*[Entry(name.encode(), ones, size) for name, size in weights])
        params.imatrix = ctypes.cast(entries, ctypes.POINTER(Entry))
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) != 0:
        raise SystemExit(f"llama.cpp does not make {file_type} of {source}")


def fnv(data):
    value = 0xcbf29ce484222325
    for byte in data: value = (value ^ byte) * 0x100000001b3 & (1 << 64) - 1
    return f"{value:016x}"


def numbers(kind, n, random):
    x = random.standard_normal(n).astype(np.float32)
    match kind % 14:
        case 0 | 1: return x * np.float32(0.02)
        case 2: return (x ** 5).astype(np.float32)
        case 3: return np.where(random.random(n) < 0.9, 0, x)
        case 4: return abs(x) + np.float32(1)
        case 5: return -abs(x) - np.float32(1)
        case 6: return random.integers(-3, 4, n)
        case 7: return np.repeat(x[::32], 32)
        case 8: return x * np.repeat(np.exp2(random.integers(-30, 8, n // 16)), 16)
        case 9: return x * np.float32(1e-20)
        case 10: return np.where(np.repeat(random.random(n // 16) < 0.5, 16), 0, x)
        case 11: return 1 + x * np.float32(1e-7)
        case 12: return x * np.float32(1e-36)
        case 13: return x * np.float32(1e4)


def finish(writer):
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()


def describe(path, architecture, layers, heads, kv_heads, experts=0):
    w = gguf.GGUFWriter(path, architecture)
    w.add_name("conversion"); w.add_context_length(64); w.add_embedding_length(256); w.add_block_count(layers)
    w.add_feed_forward_length(256); w.add_head_count(heads); w.add_head_count_kv(kv_heads); w.add_layer_norm_rms_eps(1e-5)
    w.add_layer_norm_eps(1e-5); w.add_rope_dimension_count(32)
    w.add_key_length(32); w.add_value_length(32)
    if experts: w.add_expert_count(experts); w.add_expert_used_count(2)
    return w


def make_model():
    random = np.random.default_rng(1)
    layers = 3
    w = describe(OUT / "conversion.gguf", "llama", layers, 8, 4)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_BF16); w.add_tokenizer_model("no_vocab")
    kind = 0
    def add(name, rows, dtype, columns=256):
        nonlocal kind
        values = np.stack([np.asarray(numbers(kind + i, 256, random), np.float32)[:columns] for i in range(rows)])
        kind += rows
        if dtype == Type.F32: w.add_tensor(name, values if rows > 1 else values[0])
        elif dtype == Type.F16: w.add_tensor(name, np.clip(values, -60000, 60000).astype(np.float16))
        else: w.add_tensor(name, gguf.quants.quantize(values, Type.BF16), raw_dtype=Type.BF16)
    add("token_embd.weight", 3, Type.BF16)
    for i in range(layers):
        add(f"blk.{i}.attn_norm.weight", 1, Type.F32)
        for j, part in enumerate(["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"]):
            add(f"blk.{i}.{part}.weight", 2, [Type.F32, Type.BF16, Type.F16][(i + j) % 3])
        # Rows that do not divide into blocks of 256, or into any.
        add(f"blk.{i}.ffn_down.weight", 2, Type.F32, [256, 96, 48][i])
    add("output_norm.weight", 1, Type.F32)
    add("output.weight", 3, Type.F16)
    finish(w)


def make_blocks():
    """Rows of every kind of number, and ggml's blocks of them."""
    random = np.random.default_rng(2)
    values = np.concatenate([np.asarray(numbers(i, 256, random), np.float32) for i in range(1, 14)])
    ggml = ctypes.CDLL(str(pathlib.Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    def blocks(kind):
        size, bytes_each = gguf.GGML_QUANT_SIZES[kind]
        made = np.zeros(values.size // size * bytes_each, np.uint8)
        ggml.ggml_quantize_chunk(int(kind), values.ctypes.data, made.ctypes.data, 0, 1, values.size, None)
        return base64.b64encode(made.tobytes()).decode()
    return {"values": base64.b64encode(values.astype("<f4").tobytes()).decode()} | {kind.name: blocks(kind) for kind in BLOCKS}


def make_mixtures():
    """Which type llama.cpp gives to every tensor of models that its rules tell apart."""
    dense = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    fused = ["attn_qkv", "attn_output", "ffn_up", "ffn_down"]
    expert = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"]
    latent = ["attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b", "attn_output", "ffn_gate_inp", "ffn_down_exps", "ffn_down_shexp"]
    # Architecture, layers, heads, heads of keys and values, experts, parts, columns, whether the output has a matrix of its own.
    models = [("llama", 32, 32, 32, 0, dense, 256, True), ("llama", 32, 32, 8, 0, dense, 256, True), ("llama", 80, 64, 8, 0, dense, 256, True),
              ("llama", 80, 64, 64, 0, dense, 256, True), ("llama", 32, 32, 8, 8, expert, 256, True), ("qwen2", 24, 14, 2, 0, dense, 896, False),
              ("qwen2", 80, 64, 8, 0, dense, 256, True), ("qwen3moe", 48, 32, 4, 128, expert, 256, True), ("falcon", 32, 71, 1, 0, fused, 256, True),
              ("phi3", 32, 32, 32, 0, fused, 256, True), ("bloom", 24, 16, 16, 0, fused, 256, False), ("gemma3", 26, 4, 1, 0, dense, 1152, False),
              ("deepseek2", 27, 16, 16, 64, latent, 256, True), ("qwen2", 4, 4, 2, 0, dense, 80, True), ("llama", 7, 9, 3, 0, dense, 576, False)]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder) / "in.gguf", pathlib.Path(folder) / "out.gguf"
        for architecture, layers, heads, kv_heads, experts, parts, columns, has_output in models:
            w = describe(source, architecture, layers, heads, kv_heads, experts)
            w.add_sliding_window(64); w.add_vocab_size(8); w.add_expert_feed_forward_length(256); w.add_leading_dense_block_count(0)
            w.add_q_lora_rank(256); w.add_kv_lora_rank(256); w.add_expert_shared_count(1); w.add_expert_weights_scale(1)
            w.add_max_alibi_bias(8)
            names = ["token_embd.weight"] + (["output.weight"] if has_output else [])
            names += [f"blk.{i}.{part}.weight" for part in parts for i in range(layers)]
            # Not by the layers' numbers, as files of some converters.
            for name in sorted(names):
                shape = (2, 2, columns) if "_exps" in name else (2, columns)
                w.add_tensor(name, np.ones(shape, np.float32))
            finish(w)
            types = {}
            for file_type in FILE_TYPES:
                weights = [(n, columns * (2 if "_exps" in n else 1)) for n in names] if file_type == "q2_k_s" else []
                quantize(source, target, file_type, weights)
                made = {t.name: t.tensor_type.name for t in gguf.GGUFReader(target).tensors}
                runs = []
                for name in names:
                    if runs and runs[-1][1] == made[name]: runs[-1][0] += 1
                    else: runs.append([1, made[name]])
                types[file_type] = " ".join(f"{n}*{t}" for n, t in runs)
            results.append({"architecture": architecture, "layers": layers, "heads": heads, "kvHeads": kv_heads, "experts": experts,
                            "parts": parts, "columns": columns, "hasOutput": has_output, "types": types})
    return results


def make_files():
    """Hashes of the whole files that llama-quantize writes."""
    with tempfile.TemporaryDirectory() as folder:
        target = pathlib.Path(folder) / "out.gguf"
        def made(file_type):
            quantize(OUT / "conversion.gguf", target, file_type)
            return fnv(target.read_bytes())
        return {file_type: made(file_type) for file_type in FILE_TYPES if file_type != "q2_k_s"}


make_model()
parts = {"files": make_files(), "blocks": make_blocks(), "mixtures": make_mixtures()}
lines = [f'"{key}": ' + ("[\n" + ",\n".join(map(json.dumps, part)) + "\n]" if isinstance(part, list) else json.dumps(part))
         for key, part in parts.items()]
(OUT / "conversion.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
