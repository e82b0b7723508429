"""Writes chat/published.json: hashes of what transformers renders of the templates in chat/, and of others, in the conversations of
chat/conversations.json.

    pip install -r requirements.txt && python3 make_conversations.py FOLDER_OF_LLAMA_CPP/models/templates [--texts FILE]

Each conversation is rendered in several ways: without tools and with them, with arguments for the template, without the beginning of the
next answer, and, where the assistant spoke last, continued. `--texts` writes the texts themselves, to look at.

What sla hands to a template follows from the same rule, which `forms` and `render` spell out: a conversation as it was given; where
transformers cannot render that, or would write arguments or None into the text as Python does, arguments become JSON text, and then a null
content beside tool calls an empty one.
"""
import argparse
import copy
import datetime
import json
import pathlib

import transformers.utils.chat_template_utils as utils

DATE = datetime.datetime(2026, 1, 9)


class Clock(datetime.datetime):
    """The one day on which all is rendered."""

    @classmethod
    def now(cls, tz=None):
        return DATE


utils.datetime = Clock
folder = pathlib.Path(__file__).parent / "chat"
data = json.loads((folder / "conversations.json").read_text())


def fnv(text):
    value = 0xcbf29ce484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return f"{value:016x}"


def joined(message):
    if isinstance(message.get("content"), list):
        message["content"] = "".join(part["text"] for part in message["content"])
    return message


def calls(messages):
    return [call["function"] for message in messages for call in message.get("tool_calls") or []]


def forms(messages):
    """The conversation in each form, with what the text must not hold then."""
    empty = [message for message in messages if message.get("tool_calls") and message.get("content", "") is None]
    for is_empty in [False, True] if empty else [False]:
        for as_text in [False, True] if calls(messages) else [False]:
            form = copy.deepcopy(messages)
            for message in form:
                if is_empty and message.get("tool_calls") and message.get("content", "") is None:
                    message["content"] = ""
            wrong = ["None"] if empty and not is_empty else []
            for call in calls(form):
                if as_text:
                    call["arguments"] = json.dumps(call["arguments"], ensure_ascii=False)
                elif call["arguments"]:
                    wrong.append(str(call["arguments"]))
            yield form, wrong


def rendered(source, messages, tools, way):
    return utils.render_jinja_template(
        [messages], tools=copy.deepcopy(tools), chat_template=source, add_generation_prompt=way.get("add_generation_prompt", True),
        continue_final_message=way.get("continue", False), bos_token="<s>", eos_token="</s>", **way.get("arguments", {}))[0][0]


def render(source, messages, tools, way):
    """The text, or None where it is refused; and whether it took another form than the one that was given."""
    tried = []
    for form, wrong in forms([joined(message) for message in copy.deepcopy(messages)]):
        try:
            text = rendered(source, form, tools, way)
        except Exception:
            tried.append(None)
            continue
        if not any(word in text for word in wrong):
            return text, len(tried) > 0
        tried.append(text)
    return next((text for text in tried if text is not None), None), False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("templates", type=pathlib.Path, nargs="*")
    parser.add_argument("--texts", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=folder / "published.json")
    options = parser.parse_args()
    hashes, texts, others = {}, {}, {}
    for path in sorted(path for place in [folder, *options.templates] for path in place.glob("*.jinja")):
        source = path.read_text()
        texts[path.name] = []
        for conversation in data["conversations"]:
            for way in data["ways"]:
                isContinued = way.get("continue", False)
                if isContinued and conversation["messages"][-1]["role"] != "assistant":
                    continue
                text, given = render(source, conversation["messages"], data["tools"] if way.get("tools") else None, way)
                texts[path.name].append(text)
                if given and text is not None:
                    others[path.name] = others.get(path.name, 0) + 1
        # One string of all, or the file would be large: "-" stands for a refusal.
        hashes[path.name] = " ".join("-" if text is None else fnv(text)[:8] for text in texts[path.name])
    options.out.write_text(json.dumps(hashes, indent=1, ensure_ascii=False) + "\n")
    if options.texts:
        options.texts.write_text(json.dumps(texts, ensure_ascii=False))
    every = [text for of in texts.values() for text in of]
    print(f"{len(texts)} templates, {len(every)} renderings, {sum(text is None for text in every)} refused, "
          f"{sum(others.values())} in another form:")
    print(", ".join(f"{name} {count}" for name, count in others.items()))


main()
