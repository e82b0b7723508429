"""Writes json.json: texts, in hexadecimal digits, and what Python's json module says of them.

    python3 make_json.py

A text is `valid`, `invalid`, or `repeated`: an object of it has a name twice. Beside what the module refuses, NaN and the infinities,
halves of surrogate pairs and byte order marks are refused.
"""

import json
import random


def verdict(text: bytes) -> str:
    repeated = False

    def pairs(items):
        nonlocal repeated
        names = [name for name, _ in items]
        repeated |= len(set(names)) < len(names)
        return items

    def constant(word):
        raise ValueError(word)

    try:
        value = json.loads(text.decode(), parse_constant=constant, object_pairs_hook=pairs)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, UnicodeError):
        return "invalid"
    return "repeated" if repeated else "valid"


def value(r: random.Random, depth: int = 0) -> str:
    def space() -> str:
        return r.choice(["", "", "", " ", "\t", "\r\n "])

    kind = r.randrange(8 if depth < 4 else 6)
    if kind == 0:
        return r.choice(["true", "false", "null"])
    if kind in (1, 2):
        return r.choice(["0", "-0", "12", "-7", "0.5", "1e5", "1E+05", "-2.5e-3", "1e999", "9" * 40, "10", "1.0"])
    if kind in (3, 4, 5):
        pieces = ["a", "é", "e\u0301", "日", "😀", "\\n", "\\\"", "\\\\", "\\/", "\\u00e9", "\\uD83D\\ude00", "\u007f", " ", "//", "'", ","]
        return '"' + "".join(r.choice(pieces) for _ in range(r.randrange(5))) + '"'
    if kind == 6:
        return "[" + ",".join(space() + value(r, depth + 1) + space() for _ in range(r.randrange(4))) + "]"
    names = ['"a"', '"b"', '"c"', '"d"', '"\\u0061"', '""', '"é"', '"e\u0301"']
    fields = [space() + r.choice(names) + space() + ":" + space() + value(r, depth + 1) + space() for _ in range(r.randrange(4))]
    return "{" + ",".join(fields) + "}"


def damaged(r: random.Random, text: bytes) -> bytes:
    text = bytearray(text)
    for _ in range(r.randrange(1, 3)):
        place = r.randrange(len(text) + 1)
        pieces = [b",", b":", b"[", b"]", b"{", b"}", b'"', b"\\", b"0", b"-", b"+", b".", b"e", b" ", b"\n", b"\x00", b"\x01", b"\x0b",
                  b"\xc2\xa0", b"\xff", b"/*x*/", b"//", b"'", b"\\u12", b"\\ud800", b"NaN", b"Infinity", b"\xef\xbb\xbf", b"x", b"1"]
        if r.random() < 0.6 or not text:
            text[place:place] = r.choice(pieces)
        else:
            del text[place:place + r.randrange(1, 3)]
    return bytes(text)


def main() -> None:
    r = random.Random(1)
    by_hand = ["", " ", "{}", "[]", '{"a":1,}', "[1,2,]", "[,1]", "{,}", "[1,,2]", "01", "-", "-01", "1.", ".5", "+1", "1e", "1e+", "0x10",
               "tru", "nulll", "NaN", "-Infinity", "'a'", "{a:1}", '{"a":1}x', '{"a" 1}', '{"a":}', '{"a":1 "b":2}', "[1 2]", "1 2",
               '"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"', '"\\ud83d\\ude00"', '"\\x41"', '"\\u12g4"', '"\t"', '"\\', '"', "\ufeff{}",
               '/*c*/{"a":1}', '{"a":1}//c', '{"a":1,"a":2}', '{"a":1,"\\u0061":2}', '[{"b":{"c":1,"c":1}}]', '{"é":1,"e\u0301":2}',
               "[" * 100 + "]" * 100, '{"a":' * 100 + "1" + "}" * 100, "[" * 100 + "]" * 99, "[" * 99 + "]" * 100, "\u00a01", "\x0c1",
               "1\x00", '"\u2028\x7f"']
    cases = [text.encode() for text in by_hand] + [b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"']
    while len(cases) < 1500:
        text = (r.choice(["", " "]) + value(r)).encode()
        cases.append(text if r.random() < 0.35 else damaged(r, text))
    with open("json.json", "w") as file:
        lines = [json.dumps([case.hex(), verdict(case)]) for case in cases]
        file.write("[\n" + ",\n".join(lines) + "\n]\n")


main()
