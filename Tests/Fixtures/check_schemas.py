"""Ask sla for answers by random JSON schemas, and hold them against the jsonschema package.

usage: check_schemas.py [--sla PATH] [--model FILE] [--count N] [--seed N] [--decoders a,b] [--tokens N]

Every answer with the finish_reason `stop` must be JSON that jsonschema accepts; one that was cut off by max_tokens must be the beginning of
JSON. Prints how many there were of each, and exits with 1 when one is wrong.
"""
import argparse
import json
import random
import subprocess
import sys

import jsonschema

DECODERS = {
    "greedy": {"decoder": "greedy"},
    "sample": {"decoder": "sample", "temperature": 1.0, "top_p": 0.95},
    "sla": {"decoder": "sla", "width": 2, "chunk": 4, "depth": 1, "score": "logprob"},
    "beam": {"decoder": "beam", "width": 3},
    "best_of": {"decoder": "best_of", "n": 3, "score": "logprob"},
    "mcts": {"decoder": "mcts", "width": 2, "chunk": 8, "simulations": 4, "score": "logprob"},
}
NAMES = ["a", "b", "id", "name", "größe", "x y", 'q"', "tag\\", "total", "kind", "n\n"]
PATTERNS = ["^[a-z]{1,5}$", "^(foo|bar)-[0-9]{2}$", "^\\d{3}-\\d{4}$", "^[A-F0-9]{4,8}$", "^a.c$", "^(ab|c){1,3}x?$", '^["\\\\]{1,3}$', "^[^a]{2}$"]
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "ipv6", "email", "hostname", "uri", "duration"]


def value(r, depth=0):
    kind = r.randrange(6 if depth < 2 else 4)
    if kind == 0: return r.choice([None, True, False])
    if kind == 1: return r.choice([0, -7, 12, 3.25, 1e3, 12345678901])
    if kind < 4: return r.choice(["", "red", 'a "b"', "\\", "日本", "tab\t"])
    if kind == 4: return [value(r, depth + 1) for _ in range(r.randrange(3))]
    return {n: value(r, depth + 1) for n in r.sample(NAMES, r.randrange(3))}


def schema(r, depth=0, refs=()):
    """A schema whose answers are of bounded length, nearly always."""
    leaf = depth >= 3
    kind = r.randrange(8 if leaf else 15)
    if refs and not leaf and r.randrange(8) == 0: return {"$ref": "#/$defs/" + r.choice(refs)}
    if kind == 0: return {"type": r.choice(["boolean", "null"])}
    if kind == 1:
        low = r.randint(-300, 300)
        high = low + r.choice([0, 1, 7, 90, 2500])
        out = {"type": "integer", r.choice(["minimum", "exclusiveMinimum"]): low - 1}
        if r.randrange(3): out[r.choice(["maximum", "exclusiveMaximum"])] = high + 1
        return out
    if kind == 2:
        low = round(r.uniform(-50, 50), r.randrange(4))
        out = {"type": "number"}
        if r.randrange(3): out[r.choice(["minimum", "exclusiveMinimum"])] = low
        if r.randrange(3): out[r.choice(["maximum", "exclusiveMaximum"])] = round(low + r.choice([0.5, 1, 10.25, 900]), 3)
        return out
    if kind == 3:
        least = r.randrange(4)
        return {"type": "string", "minLength": least, "maxLength": least + r.randrange(6)}
    if kind == 4: return {"type": "string", "pattern": r.choice(PATTERNS)}
    if kind == 5: return {"type": "string", "format": r.choice(FORMATS)}
    if kind == 6: return {"enum": [value(r) for _ in range(r.randint(1, 4))]}
    if kind == 7: return {"const": value(r)} if r.randrange(3) else {"type": ["integer", "null", "boolean"], "minimum": 3}
    if kind < 11:
        names = r.sample(NAMES, r.randint(0, 4))
        out = {"type": "object", "properties": {n: schema(r, depth + 1, refs) for n in names}}
        if r.randrange(4): out["required"] = [n for n in names if r.randrange(2)]
        if r.randrange(6) == 0: out["additionalProperties"] = r.choice([False, {"type": "boolean"}])
        return out
    if kind == 11:
        least = r.randrange(3)
        return {"type": "array", "items": schema(r, depth + 1, refs), "minItems": least, "maxItems": least + r.randrange(3)}
    if kind == 12:
        items = [schema(r, depth + 1, refs) for _ in range(r.randint(1, 3))]
        out = {"type": "array", "prefixItems": items}
        if r.randrange(2): out.update(items=schema(r, depth + 1, refs), minItems=r.randrange(len(items) + 1), maxItems=len(items) + 1)
        return out
    if kind == 13: return {r.choice(["anyOf", "anyOf"]): [schema(r, depth + 1, refs) for _ in range(r.randint(1, 3))]}
    a = {"type": "object", "properties": {"a": schema(r, depth + 1, refs)}, "required": ["a"]}
    b = {"properties": {"b": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": r.choice([[], ["b"]])}
    return r.choice([
        {"allOf": [a, b]},
        {**a, "anyOf": [b, {"properties": {"c": {"type": "boolean"}}}]},
        {"oneOf": [{"type": "integer", "minimum": 0, "maximum": 99}, {"type": "string", "maxLength": 3}, a]},
        {"oneOf": [{"type": "object", "properties": {"kind": {"const": k}, "v": schema(r, depth + 1, refs)}, "required": ["kind"]} for k in ("x", "y")]},
    ])


def root(seed):
    r = random.Random(seed)
    refs = ["one", "two"] if r.randrange(3) == 0 else []
    out = schema(r, 0, refs)
    if refs:
        out = dict(out)
        out["$defs"] = {
            # Comes back to itself, but need not.
            "one": {"type": "object", "properties": {"v": schema(r, 2), "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/one"}]}}, "required": ["v"]},
            "two": {"anyOf": [schema(r, 2), {"type": "array", "items": {"$ref": "#/$defs/two"}, "maxItems": 2}]},
        }
    return out


def is_beginning(text):
    """Whether more text could make JSON of it: Python's decoder fails at the end of it, or within the last word."""
    try:
        json.loads(text)
        return True
    except json.JSONDecodeError as error:
        last = max(text.rfind(c) for c in ',:[{"') + 1
        return error.pos >= last - 1 or error.msg.startswith(("Unterminated", "Invalid \\")) or error.pos >= len(text.rstrip())


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sla", default="sla"); p.add_argument("--model"); p.add_argument("--count", type=int, default=1000)
    p.add_argument("--seed", type=int, default=0); p.add_argument("--decoders", default=",".join(DECODERS)); p.add_argument("--tokens", type=int, default=400)
    p.add_argument("--prompt", default="3 5 7 2>24\n")
    a = p.parse_args()
    decoders = a.decoders.split(",")
    schemas = {}
    lines = []
    for i in range(a.count):
        schemas[i] = root(a.seed + i)
        jsonschema.Draft202012Validator.check_schema(schemas[i])
        name = decoders[i % len(decoders)]
        request = {"id": i, "prompt": a.prompt, "max_tokens": a.tokens, "json_schema": schemas[i], **DECODERS[name]}
        if name == "sample": request["seed"] = i
        lines.append(json.dumps(request, ensure_ascii=i % 2 == 0))
    command = [a.sla, "serve", "--no-timing"] + (["--model", a.model] if a.model else ["--context", "4096"])
    run = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True)
    counts = {}
    wrong = 0
    seen = set()
    for line in run.stdout.splitlines():
        event = json.loads(line)
        if event["type"] not in ("done", "error") or "id" not in event: continue
        i = event["id"]
        seen.add(i)
        name = decoders[i % len(decoders)]
        if event["type"] == "error":
            ending = "refused" if event["code"] == "invalid_request" else "failed"
            print(f"{ending} {i}: {event['message']}: {json.dumps(schemas[i])}"[:400])
            wrong += ending == "failed" or "no value is accepted" not in event["message"]
        else:
            ending = event["finish_reason"]
            text = event["text"]
            try:
                if ending == "stop": jsonschema.Draft202012Validator(schemas[i]).validate(json.loads(text))
                elif not is_beginning(text): raise ValueError("not the beginning of JSON")
            except Exception as error:
                wrong += 1
                print(f"wrong {i} ({name}, {ending}): {text!r} by {json.dumps(schemas[i])}: {str(error)[:200]}")
        counts.setdefault(name, {}).setdefault(ending, 0)
        counts[name][ending] += 1
    for name, endings in counts.items(): print(name, endings)
    if len(seen) != a.count: print(f"{a.count - len(seen)} requests without an answer: {run.stderr[-500:]}")
    print(f"{len(seen)} schemas, {wrong} wrong")
    sys.exit(1 if wrong or len(seen) != a.count else 0)


if __name__ == "__main__":
    main()
