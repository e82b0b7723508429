"""Make judges/: tiny random reward models, and what transformers says of conversations.

    python make_judges.py LLAMA_CPP        (a checkout, as for make_archs.py)

`outcome.gguf` is a LlamaForSequenceClassification of one label, `process.gguf` the shape of Qwen2.5-Math-PRM's Qwen2ForProcessRewardModel (Linear, ReLU,
Linear to two labels, read at <extra_0> behind each step). The GGUF is what llama.cpp's converter makes of the policy, with the head beside it.
`reference.json` has for each conversation its ids, and the head's outputs; for `outcome`, also the logits of + and - where an answer begins, and the
chance of + behind each step in RLHFlow's manner.
"""
import pathlib, sys, tempfile
import make_archs, torch, transformers
from make_archs import LETTERS, SIZE, TextModel, VOCABULARY, convert, prepare, subclasses, write

OUT = pathlib.Path(__file__).parent / "judges"
make_archs.MODELS["qwen2"] = ("Qwen2", SIZE | dict(tie_word_embeddings=True))
TAG, END = "<extra_0>", "<end>"
TEMPLATE = ("{%- for m in messages %}{{- 'U:' if m.role == 'user' else 'A:' }}{{- m.content }}{{- '" + END + "' }}{%- endfor %}"
            "{%- if add_generation_prompt %}{{- 'A:' }}{%- endif %}")
CONVERSATIONS = [
    [("user", "HOW>MUCH"), ("assistant", "ONE/TWO/THREE")],
    [("user", "HOW>MUCH"), ("assistant", "ONE/TWO/FOUR")],
    [("user", "HOW>MUCH"), ("assistant", "Z")],
    [("user", "A"), ("assistant", "B"), ("user", "C?"), ("assistant", "D/" + "EFG" * 40)],
]


def ids(text):
    out = []
    while text:
        for i, control in enumerate([TAG, END]):
            if text.startswith(control):
                out.append(LETTERS + i); text = text[len(control):]
                break
        else:
            if text[0] != " ": out.append(ord(text[0]) - 33)  # there is no token for it
            text = text[1:]
    return out


def rendered(turns): return "".join(("U:" if role == "user" else "A:") + text + END for role, text in turns)


def chances(model, turns):
    """As RLHFlow's math-rm/prm_evaluate.py reads a process reward model: each step is a turn, all are answered by +, and the logits before the last + count."""
    asked, found = [], []
    for i, step in enumerate(turns[-1][1].split("/")):
        asked += [("user", turns[-2][1] + " " + step.strip() if i == 0 else step.strip()), ("assistant", "+")]
        tokens = ids(rendered(turns[:-2] + asked))
        logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -3]
        found.append(round(logits[[ord(c) - 33 for c in "+-"]].softmax(-1)[0].item(), 6))
    return found


def make(name, base, head):
    """`head` makes what is behind the last layer; its tensors are called as GGUF files call them."""
    model, _ = prepare(base)
    g = torch.Generator().manual_seed(len(name))
    layers = head(model.config.hidden_size)
    for t in layers.state_dict().values(): t.copy_((torch.randn(t.shape, generator=g) / (t.shape[-1] if t.ndim > 1 else 9) ** 0.5).half())
    names = {"0": "cls.output"} if len(layers) == 1 else {"0": "cls", "2": "cls.output"}

    def describe(self):
        letters = [chr(code) for code in range(33, 33 + LETTERS)]
        w = self.gguf_writer
        w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre("gpt-2"); w.add_token_merges(["a b"])
        w.add_token_list(letters + [TAG, END]); w.add_token_types([1] * LETTERS + [3] * 2)
        w.add_eos_token_id(VOCABULARY - 1); w.add_add_bos_token(False); w.add_chat_template(TEMPLATE)
        w.add_uint32(f"{w.arch}.pooling_type", 4)
        for key, t in layers.state_dict().items():
            layer, kind = key.split(".")
            w.add_tensor(f"{names[layer]}.{kind}", t.numpy())
    make_archs.describe = describe
    with tempfile.TemporaryDirectory() as d:
        model.save_pretrained(d)
        convert(pathlib.Path(d), base, OUT / f"{name}.gguf")
        # The head on transformers' own class, where it has one.
        if name == "outcome":
            judge = transformers.LlamaForSequenceClassification.from_pretrained(d, num_labels=1, pad_token_id=0).float().eval()
            judge.score.weight.copy_(layers[0].weight)

    def hidden(tokens): return model.model(input_ids=torch.tensor([tokens]), use_cache=False).last_hidden_state[0]
    found = []
    for turns in CONVERSATIONS:
        if name == "outcome":
            tokens = ids(rendered(turns))
            score = judge(input_ids=torch.tensor([tokens])).logits[0, 0].item()
            asked = ids(rendered(turns[:-1]) + "A:")
            logits = model(input_ids=torch.tensor([asked]), use_cache=False).logits[0, -1]
            found.append(dict(ids=tokens, outputs=[[round(score, 6)]], plus=[round(logits[ord(c) - 33].item(), 6) for c in "+-"],
                              chances=chances(model, turns)))
        else:
            answer = "".join(step + TAG for step in turns[-1][1].split("/"))
            tokens = ids(rendered(turns[:-1] + [("assistant", answer)]))
            outputs = layers(hidden(tokens))[[i for i, t in enumerate(tokens) if t == LETTERS]]
            found.append(dict(ids=tokens, outputs=[[round(x, 6) for x in pair] for pair in outputs.tolist()]))
    return dict(conversations=[[list(turn) for turn in turns] for turns in CONVERSATIONS], answers=found)


OUT.mkdir(exist_ok=True)
nn = torch.nn
write(OUT / "reference.json", {
    "outcome": make("outcome", "llama", lambda d: nn.Sequential(nn.Linear(d, 1, bias=False))),
    "process": make("process", "qwen2", lambda d: nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 2))),
})
