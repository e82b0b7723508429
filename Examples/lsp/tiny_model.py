"""Writes a model of random weights that fills gaps: a few hundred kilobytes, for tests. python tiny_model.py model.gguf"""
import sys

import gguf
import numpy as np

HIDDEN, HEADS, LAYERS, FEED, CONTEXT = 64, 2, 2, 128, 2048
MARKS = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>"]


def byte_names():
    """The characters that stand for bytes in GPT-2's vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    names = {byte: chr(byte) for byte in shown} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    return [names[byte] for byte in range(256)]


def write(path, seed=0):
    random = np.random.default_rng(seed)
    tokens = byte_names() + MARKS + ["ab"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3] * len(MARKS) + [1])
    writer.add_array("tokenizer.ggml.merges", ["a b"])
    writer.add_eos_token_id(256)

    def add(name, *shape, scale=1.0):
        writer.add_tensor(name, (random.standard_normal(shape) * scale / np.sqrt(shape[-1])).astype(np.float16))

    def add_norm(name):
        writer.add_tensor(name, np.ones(HIDDEN, dtype=np.float32))

    add("token_embd.weight", len(tokens), HIDDEN, scale=8)
    for i in range(LAYERS):
        add_norm(f"blk.{i}.attn_norm.weight")
        for part in ("q", "k", "v", "output"):
            add(f"blk.{i}.attn_{part}.weight", HIDDEN, HIDDEN)
        add_norm(f"blk.{i}.ffn_norm.weight")
        add(f"blk.{i}.ffn_gate.weight", FEED, HIDDEN)
        add(f"blk.{i}.ffn_up.weight", FEED, HIDDEN)
        add(f"blk.{i}.ffn_down.weight", HIDDEN, FEED)
    add_norm("output_norm.weight")
    add("output.weight", len(tokens), HIDDEN, scale=4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(sys.argv[1])
