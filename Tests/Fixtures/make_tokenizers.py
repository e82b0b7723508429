"""Trains a tokenizer with every part that tokenizer.json can have, and writes what the tokenizers package makes of texts.

    python Tests/Fixtures/make_tokenizers.py                      # Tests/Fixtures/tokenizers/*.json, small
    python Tests/Fixtures/make_tokenizers.py FOLDER 20000         # with 20,000 texts each, for SLA_TEST_TOKENIZERS=FOLDER swift test
    python Tests/Fixtures/make_tokenizers.py FOLDER 2000 VOCAB    # also the vocabularies VOCAB/ggml-vocab-*.gguf as tokenizer.json
"""

import base64
import io
import json
import pathlib
import random
import sys

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

here = pathlib.Path(__file__).parent
P, N, D, Q = pre_tokenizers, normalizers, decoders, processors
MARK = "\u2581"
CORPUS = (
    """The quick brown fox jumps over the lazy dog. It's 12345 o'clock, we'll DON'T you've I'm they'd 1,234,567.89!
def main(argv):\n    return [x**2 for x in range(10) if x % 3 == 0]\n\n\tprint("Hello,  world")\r\n
Füße größer Ÿ ÀÉÎ naïve café Straße ЖУК жук Привет мир Ελληνικά Ωμέγα 日本語のテスト カタカナ 漢字 한국어 시험 ภาษาไทย العربية עברית हिन्दी
ﬁne ﬂow ½ ⅔ Ⅷ ² ³ ① ㎏ ™ № … — “quotes” ‘single’ €100 £5 ¥7 🦙🦙 👩‍👩‍👧 ǅ ǆ İstanbul ıI ſtill \u212bngström e\u0301 a\u0328\u0301
"""
    * 40
).split("\n")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
KIMI = "|".join(
    [
        r"[\p{Han}]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ]
)


def split(pattern, behavior="isolated", invert=False):
    return P.Split(Regex(pattern), behavior, invert)


def bytes_of(tokenizer, *steps, prefix=False, regex=False):
    level = P.ByteLevel(add_prefix_space=prefix, use_regex=regex)
    tokenizer.pre_tokenizer = P.Sequence([*steps, level]) if steps else level
    tokenizer.decoder = D.ByteLevel()
    tokenizer.post_processor = Q.ByteLevel(trim_offsets=False)


def train(tokenizer, size=330, special=("<unk>", "<s>", "</s>"), alphabet=None, unigram=False, **more):
    if unigram:
        trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=list(special), unk_token="<unk>", show_progress=False, **more)
    else:
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(special), initial_alphabet=alphabet or [], show_progress=False, **more
        )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_level(*steps, normalizer=None, size=300, model=None, **level):
    t = Tokenizer(model or models.BPE())
    if normalizer:
        t.normalizer = normalizer
    bytes_of(t, *steps, **level)
    return train(t, size, special=["<|end|>", "<|im_start|>"], alphabet=P.ByteLevel.alphabet())


def bos(t, token="<s>", eos=None):
    specials = [(x, t.token_to_id(x)) for x in (token, eos) if x]
    t.post_processor = Q.TemplateProcessing(single=(f"{token} " if token else "") + "$A" + (f" {eos}" if eos else ""), special_tokens=specials)
    return t


def bytes_tokens():
    return [f"<0x{b:02X}>" for b in range(256)]


def characters(normalizer=None, pre=None, decoder=None, size=420, byte_fallback=False, **model):
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=byte_fallback, **model))
    if normalizer:
        t.normalizer = normalizer
    if pre:
        t.pre_tokenizer = pre
    if decoder:
        t.decoder = decoder
    special = ["<unk>", "<s>", "</s>"] + (bytes_tokens() if byte_fallback else [])
    train(t, size + (256 if byte_fallback else 0), special=special, limit_alphabet=90)
    if byte_fallback:
        # Byte tokens are the model's, not added ones.
        data = json.loads(t.to_str())
        data["added_tokens"] = data["added_tokens"][:3]
        t = Tokenizer.from_str(json.dumps(data))
    return t


def unigram(normalizer=None, pre=None, decoder=None, size=300, byte_fallback=False):
    t = Tokenizer(models.Unigram())
    if normalizer:
        t.normalizer = normalizer
    if pre:
        t.pre_tokenizer = pre
    if decoder:
        t.decoder = decoder
    train(t, size, unigram=True)
    if byte_fallback:
        data = json.loads(t.to_str())
        data["model"]["vocab"] += [[b, 0.0] for b in bytes_tokens()]
        data["model"]["byte_fallback"] = True
        t = Tokenizer.from_str(json.dumps(data))
    return t


def charsmap(rules=None):
    """A normalizer of SentencePiece's: its own for NFKC, or a few rules."""
    out = io.BytesIO()
    more = {}
    if rules:
        path = pathlib.Path("/tmp/rules.tsv")
        path.write_text("".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n" for a, b in rules))
        more["normalization_rule_tsv"] = str(path)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=out, vocab_size=200, hard_vocab_limit=False, character_coverage=0.98, minloglevel=2, **more
    )
    from sentencepiece import sentencepiece_model_pb2 as proto

    return proto.ModelProto.FromString(out.getvalue()).normalizer_spec.precompiled_charsmap


RULES = [("A", "a"), ("ﬁ", "fi"), ("\u0301", ""), ("e\u0301", "é"), ("①", "1"), ("\u3000", " "), ("\t", " "), ("…", "..."), ("K", "k"), ("\r", "")]
LLAMA2_DECODER = D.Sequence([D.Replace(MARK, " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])


def added(t):
    t.add_tokens(
        [
            AddedToken("LEFT", lstrip=True, normalized=False),
            AddedToken("RIGHT", rstrip=True, normalized=False),
            AddedToken("<both>", lstrip=True, rstrip=True, normalized=True),
            AddedToken("Word", single_word=True, normalized=False),
            AddedToken("NoRm", normalized=True),
            AddedToken("RIGHTER", normalized=False),
            AddedToken("  ", normalized=False),
            AddedToken("Ünï", normalized=True, single_word=True),
        ]
    )
    t.add_special_tokens([AddedToken("<|Special|>", normalized=True, special=True), AddedToken("[MASK]", lstrip=True, special=True)])
    return t


def tokenizers(small):
    yield "gpt2", lambda: byte_level(regex=True)
    yield "prefix", lambda: roberta(byte_level(prefix=True, regex=True))
    yield "llama3", lambda: bos(byte_level(split(LLAMA3), model=models.BPE(ignore_merges=True)), "<|im_start|>")
    yield "qwen2", lambda: byte_level(split(QWEN2), normalizer=N.NFC())
    yield "gpt4o", lambda: byte_level(split(GPT4O))
    yield "cl100k", lambda: byte_level(split(CL100K, "removed", True))
    yield "kimi", lambda: byte_level(split(KIMI))
    yield "deepseek3", lambda: byte_level(
        split(r"\p{N}{1,3}"),
        split("[一-龥぀-ゟ゠-ヿ]+"),
        split(
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
        ),
    )
    yield "starcoder", lambda: byte_level(P.Digits(individual_digits=True), regex=True)
    yield "falcon", falcon
    yield "thousands", lambda: byte_level(split(r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"), split(r"(?=\d{2})|(?<=[a-z])(?=\p{Lu})"))
    yield "llama2", lambda: bos(characters(N.Sequence([N.Prepend(MARK), N.Replace(" ", MARK)]), None, LLAMA2_DECODER, byte_fallback=True, fuse_unk=True))
    yield "llama2-strings", lambda: merges_as_strings(
        bos(characters(N.Sequence([N.Prepend(MARK), N.Replace(" ", MARK)]), None, LLAMA2_DECODER, byte_fallback=True, fuse_unk=True), eos="</s>")
    )
    yield "mistral", lambda: bos(
        characters(None, P.Metaspace(prepend_scheme="first", split=False), LLAMA2_DECODER, byte_fallback=True, fuse_unk=True)
    )
    yield "gemma", lambda: characters(
        N.Replace(" ", MARK), P.Split(" ", "merged_with_previous"), D.Sequence([D.Replace(MARK, " "), D.ByteFallback(), D.Fuse()]), byte_fallback=True, fuse_unk=True
    )
    yield "metaspace", lambda: characters(None, P.Metaspace(), D.Metaspace())
    yield "metaspace-never", lambda: characters(None, P.Metaspace(prepend_scheme="never"), D.Metaspace(prepend_scheme="never"), fuse_unk=True)
    yield "unigram", lambda: bos(unigram(None, P.Metaspace(), D.Metaspace()), None, "</s>")
    yield "unigram-bytes", lambda: unigram(
        N.Sequence([N.NFKC(), N.Lowercase(), N.Replace(Regex(" {2,}"), " ")]),
        P.Sequence([P.WhitespaceSplit(), P.Metaspace()]),
        D.Sequence([D.ByteFallback(), D.Metaspace()]),
        byte_fallback=True,
    )
    yield "t5", lambda: unigram(
        N.Sequence([N.Precompiled(charsmap(RULES if small else None)), N.Replace(Regex(" {2,}"), " ")]), P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), D.Metaspace()
    )
    yield "accents", lambda: characters(N.Sequence([N.NFD(), N.StripAccents(), N.Lowercase(), N.Strip()]), P.Whitespace(), fuse_unk=True)
    yield "nmt", lambda: characters(
        N.Sequence([N.NFKD(), N.Nmt(), N.Strip(left=False)]), P.Sequence([P.WhitespaceSplit(), P.Punctuation("merged_with_next")]), size=300
    )
    yield "delimiter", lambda: characters(None, P.Sequence([P.CharDelimiterSplit("-"), P.Digits(), P.Punctuation("contiguous")]), size=300)
    yield "bert", lambda: characters(N.NFC(), P.Sequence([P.BertPreTokenizer(), P.FixedLength(5)]), size=300)
    for behavior in ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]:
        for invert in [False, True]:
            yield f"split-{behavior}" + ("-invert" if invert else ""), lambda: characters(
                None, P.Sequence([split(r"[aeiou\s]|\d*", behavior, invert), P.Split("t", behavior, invert)]), size=220
            )
    yield "anchors", lambda: characters(
        None, P.Sequence([split(r"^\s+|\s+$|(?<=\d)(?=\p{L})|(?<![A-Z\s])\b(?=\w)"), split(r".+?,|(?i:word|Жу|q.*?k)|(?>a+b?)c?|\x{1F999}|\u00e9|[^\W\d_]{2,3}?x")]), size=300
    )
    yield "added", lambda: added(characters(N.Lowercase(), P.Metaspace(prepend_scheme="first"), D.Metaspace()))
    yield "added-plain", lambda: added(byte_level(split(LLAMA3)))
    yield "added-llama2", lambda: added(characters(N.Sequence([N.Prepend(MARK), N.Replace(" ", MARK)]), None, LLAMA2_DECODER, byte_fallback=True))
    yield "no-unknown", lambda: drop_unknown(characters(None, P.Whitespace(), D.Fuse(), size=200))


def roberta(t):
    t.post_processor = Q.Sequence([Q.ByteLevel(trim_offsets=True), Q.RobertaProcessing(("<|end|>", 0), ("<|im_start|>", 1))])
    return t


def falcon():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = P.Sequence(
        [P.Punctuation("contiguous"), P.ByteLevel(add_prefix_space=False), P.Digits(individual_digits=False), split("[0-9][0-9][0-9]")]
    )
    t.decoder = D.ByteLevel()
    return train(t, 300, special=["<|end|>"], alphabet=P.ByteLevel.alphabet())


def merges_as_strings(t):
    data = json.loads(t.to_str())
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    return data


def drop_unknown(t):
    data = json.loads(t.to_str())
    data["model"]["unk_token"] = None
    return data


PIECES = (
    """a b c e t q z A B Z é ß ж Ж ǅ ʰ ª 我 々 の カ ー 한 ㄱ ㆎ ก ិ ١ ع ﷺ Ω K ſ ﬁ ﬂ ½ Ⅷ ² ① ㎏ ™ Å İ ı 0 1 7 9 ٣ 12345 1,234,567 , . ! ? ' " # $ % & ( ) * + - / : ; < =
> @ [ \\ ] ^ _ ` { | } ~ … 、 。 「 “ ’ — ￥ € © ∑ ˆ 🦙 👩‍👩‍👧 'S 's 't 'RE 'Ve 'LL 'd word Word WORD Words fox Quick naïve Straße STRASSE 日本語 한국어 ภาษา हिन्दी <s> </s> <unk> <|end|>
<|im_start|> <|special|> <|Special|> LEFT RIGHT RIGHTER <both> NoRm norm Ünï ünï [MASK] <0x41> Ġ ▁ ▁▁ the The ing""".split()
    + [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u0085", "\u2028", "\u200b", "\u200d", "\u00ad", "\x00", "\x1f", "\x7f", "\ue000", "\ufffd"]
    + ["\u0301", "\u0328", "\u0323", "\u0308", "\u20dd", "\u0338", "\u1161", "\u11a8", "\u0345", "\u3099", "e\u0301", "a\u0328\u0301", "가\u11a8", "\u1100\u1161"]
)


def texts(count, seed):
    r = random.Random(seed)
    yield from ["", " ", "a", " a", "  a b ", "\n", MARK, MARK + "a", "the the", "word Word.Word Words", "a LEFT b  RIGHT  c RIGHTER <both> d"]
    for i in range(count):
        kind = i % 4
        if kind == 3:  # Of all of Unicode.
            yield "".join(chr(c) for c in (r.choice([r.randrange(0x110000), r.randrange(0x3000), r.randrange(0x250)]) for _ in range(r.randrange(1, 12))) if not 0xD800 <= c < 0xE000)
        else:
            yield "".join(r.choice(PIECES) for _ in range(r.randrange(1, 4 + 8 * kind)))


def cases(t, count, seed):
    for text in texts(count, seed):
        ids = t.encode(text, add_special_tokens=False).ids
        decoded = t.decode(ids)
        yield [text, ids] + ([decoded] if "\ufffd" not in decoded else [])


def from_gguf(path):
    """A vocabulary of llama.cpp's as tokenizer.json; None for those that need more than it holds."""
    import gguf

    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields[key].contents() if key in fields else None
    tokens, types, merges = get("tokenizer.ggml.tokens"), get("tokenizer.ggml.token_type"), get("tokenizer.ggml.merges")
    pre = get("tokenizer.ggml.pre")
    if get("tokenizer.ggml.model") == "gpt2":
        steps = {"llama-bpe": [split(LLAMA3)], "qwen2": [split(QWEN2)], "gpt-2": []}[pre]
        vocab = {x: i for i, x in enumerate(tokens) if types[i] == 1}
        t = Tokenizer(models.BPE(vocab, [tuple(m.split(" ")) for m in merges], ignore_merges=pre == "llama-bpe"))
        bytes_of(t, *steps, regex=not steps)
    else:
        # All pairs that make a piece, the piece of the highest score first.
        vocab = {x: i for i, x in enumerate(tokens)}
        scores = get("tokenizer.ggml.scores")
        pairs = [
            (scores[i], x[:k], x[k:]) for x, i in vocab.items() if types[i] == 1 for k in range(1, len(x)) if x[:k] in vocab and x[k:] in vocab
        ]
        pairs.sort(key=lambda p: (-p[0], len(p[1])))
        t = Tokenizer(models.BPE(vocab, [(a, b) for _, a, b in pairs], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        t.normalizer = N.Sequence([N.Prepend(MARK), N.Replace(" ", MARK)])
        t.decoder = LLAMA2_DECODER
    data = json.loads(t.to_str())
    data["added_tokens"] = [
        dict(id=i, content=x, single_word=False, lstrip=False, rstrip=False, normalized=False, special=types[i] != 4)
        for i, x in enumerate(tokens)
        if types[i] in (3, 4) or (types[i] == 2)
    ]
    return data


def write(folder, name, made, count):
    made = made() if callable(made) else made
    data = made if isinstance(made, dict) else json.loads(made.to_str())
    t = Tokenizer.from_str(json.dumps(data))
    out = {"tokenizer": data, "around": t.encode("", add_special_tokens=True).ids, "cases": list(cases(t, count, name))}
    (folder / f"{name}.json").write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")).replace("\u2028", "\\u2028") + "\n")
    print(name, t.get_vocab_size(), len(out["cases"]))


folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "tokenizers"
count = int(sys.argv[2]) if len(sys.argv) > 2 else 40
folder.mkdir(exist_ok=True, parents=True)
for name, make in tokenizers(len(sys.argv) < 3):
    write(folder, name, make, count)
if len(sys.argv) > 3:
    for path in sorted(pathlib.Path(sys.argv[3]).glob("ggml-vocab-*.gguf")):
        write(folder, path.stem, from_gguf(path), count)
