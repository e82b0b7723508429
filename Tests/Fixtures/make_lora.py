"""Make lora/: random PEFT adapters of models in archs/, and what PEFT says of the models with the adapters merged in.

    python make_lora.py LLAMA_CPP        (a checkout, as for make_archs.py; beside its packages this wants peft)

Each adapter is a directory as PEFT saves it; `NAME.gguf` is what llama.cpp's convert_lora_to_gguf.py makes of it. `reference.json` has, for each,
the model and its ids, and the log-probabilities of ids 1 to 99 by the merged model in float32.
"""
import os, pathlib, subprocess, sys, tempfile
import peft, torch
from make_archs import LLAMA_CPP, prepare, reference, write

OUT = pathlib.Path(__file__).parent / "lora"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# The model, the configuration, and whether llama.cpp's converter knows all that it says.
ADAPTERS = {
    # Queries and keys that GGUF has in another order.
    "llama": ("llama", dict(r=4, lora_alpha=8, target_modules=ALL), True),
    # Fused matrices.
    "phi3": ("phi3", dict(r=5, lora_alpha=5, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]), True),
    # Scales by the root of the rank, and ranks and alphas of single modules.
    "llama-patterns": ("llama", dict(
        r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"down_proj": 2, r".*\.0\.self_attn\.q_proj": 7}, alpha_pattern={"v_proj": 3}), False),
}


def make(name):
    base, fields, isConverted = ADAPTERS[name]
    model, ids = prepare(base)
    with tempfile.TemporaryDirectory() as d:
        model.save_pretrained(d)
        adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **fields))
        g = torch.Generator().manual_seed(len(name))
        for key, t in adapted.state_dict().items():
            if ".lora_" in key: t.copy_(0.5 * torch.randn(t.shape, generator=g) / t.shape[-1] ** 0.5)
        adapted.save_pretrained(OUT / name)
        os.remove(OUT / name / "README.md")
        if isConverted:
            script = [sys.executable, LLAMA_CPP / "convert_lora_to_gguf.py", "--base", d, "--outfile", OUT / f"{name}.gguf", OUT / name]
            subprocess.run(script, check=True, capture_output=True)
        return dict(model=base, ids=ids, logprobs=reference(adapted.merge_and_unload(), ids))


OUT.mkdir(exist_ok=True)
write(OUT / "reference.json", {name: make(name) for name in ADAPTERS})
