"""Writes Sources/SLAText/UnicodeTables.swift: what the tokenizers package takes for Unicode's normal forms and scripts.

    python Tests/Fixtures/make_unicode.py > Sources/SLAText/UnicodeTables.swift

Neither the machine's libraries nor their versions have a say in what a text's tokens are.
"""

import textwrap
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

SCRIPTS = ("Han Hiragana Katakana Hangul Thai Lao Khmer Myanmar Cyrillic Greek Latin Arabic Hebrew Devanagari Bengali Tamil Telugu").split()
points = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
nfd, nfc, nfkd = normalizers.NFD(), normalizers.NFC(), normalizers.NFKD()


def decompositions(form, skip):
    """Code points with what they become; those that follow each other and become single ones that do are one entry."""
    entries = []
    for c in points:
        if 0xAC00 <= c < 0xD7A4:  # Hangul is computed.
            continue
        text = form.normalize_str(chr(c))
        if text == chr(c) or text == skip(c):
            continue
        to = [ord(x) for x in text]
        excluded = form is nfd and nfc.normalize_str(chr(c)) != chr(c)
        last = entries[-1] if entries else None
        if last and len(to) == 1 and len(last[2]) == 1 and last[1] == c - 1 and to[0] == last[2][0] + c - last[0] and last[3] == excluded:
            last[1] = c
        else:
            entries.append([c, c, to, excluded])
    return " ".join(
        ("!" if excluded else "") + f"{a:x}" + (f"-{b:x}" if b > a else "") + ":" + ",".join(f"{x:x}" for x in to)
        for a, b, to, excluded in entries
    )


def classes():
    """Combining classes: of Python's those that the package goes by."""
    runs = []
    for c in points:
        k = unicodedata.combining(chr(c))
        if k == 0 or len(nfd.normalize_str(chr(c))) > 1:
            continue
        other = "\u0301" if k < 230 else "\u0334"
        before, behind = ("a" + other + chr(c), "a" + chr(c) + other) if k < 230 else ("a" + chr(c) + other, "a" + other + chr(c))
        if nfd.normalize_str(before) != nfd.normalize_str(behind) or nfd.normalize_str(before) == before:
            continue
        if runs and runs[-1][1] == c - 1 and runs[-1][2] == k:
            runs[-1][1] = c
        else:
            runs.append([c, c, k])
    return " ".join(f"{a:x}" + (f"-{b:x}" if b > a else "") + f":{k:x}" for a, b, k in runs)


def marks():
    """What the package leaves out as accents."""
    strip = normalizers.StripAccents()
    gone = "".join(chr(c) for c in points if strip.normalize_str(chr(c)) == "")
    return " ".join(f"{ord(run[0]):x}" + (f"-{ord(run[-1]):x}" if len(run) > 1 else "") for run in runs_of(gone))


def script(name):
    text = "".join(map(chr, points))
    split = pre_tokenizers.Split(Regex(r"\p{%s}+" % name), "removed", invert=True)
    return " ".join(
        f"{ord(piece[0]):x}" + (f"-{ord(piece[-1]):x}" if len(piece) > 1 else "") for run, _ in split.pre_tokenize_str(text) for piece in runs_of(run)
    )


def runs_of(text):
    start = 0
    for i in range(1, len(text) + 1):
        if i == len(text) or ord(text[i]) != ord(text[i - 1]) + 1:
            yield text[start:i]
            start = i


def literal(name, comment, text):
    lines = textwrap.wrap(text, 138, break_long_words=False, break_on_hyphens=False)
    print(f"    /// {comment}\n    static let {name} = \"\"\"")
    for i, line in enumerate(lines):
        print("        " + line + (" \\" if i < len(lines) - 1 else ""))
    print('        """')


print("// Written by Tests/Fixtures/make_unicode.py.\n")
print("/// Numbers are hexadecimal, `first-last` is a range, and a `:` stands before what becomes of it.")
print("enum UnicodeTables {")
canonical = {c: nfd.normalize_str(chr(c)) for c in points}
literal("canonical", "Canonical decompositions, whole; those behind `!` are never composed.", decompositions(nfd, lambda c: None))
literal("compatible", "Compatibility decompositions, whole, where they are others.", decompositions(nfkd, canonical.get))
literal("combining", "Canonical combining classes.", classes())
literal("accents", "Combining marks.", marks())
print("    /// Scripts as regular expressions name them.")
print("    static let scripts = [")
for name in SCRIPTS:
    text = script(name)
    lines = textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)
    print(f'        "{name.lower()}":')
    print("\n".join(f'            {"+ " if i else ""}"{line}{" " if i < len(lines) - 1 else ""}"' for i, line in enumerate(lines)) + ",")
print("    ]\n}")
