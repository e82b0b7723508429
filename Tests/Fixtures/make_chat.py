"""Writes chat/expected.json: what transformers renders of each template in chat/ with each conversation below, and of each snippet;
chat/dates.json: days as Python writes them; and chat.gguf, a model with a template.

    pip install -r requirements.txt && python3 make_chat.py

With a folder that has llama.cpp's ggml-vocab-*.gguf it also writes chat/tokens.json: the tokens that transformers makes of the conversations.
"""
import datetime
import json
import pathlib
import sys

import gguf
import transformers.utils.chat_template_utils as utils
from transformers import AutoTokenizer

CONVERSATIONS = [
    [("user", "Hello")],
    [("system", "You are a helpful assistant"), ("user", "Hello"), ("assistant", "Hi there"), ("user", "Who are you?")],
    [("user", "Hello"), ("assistant", "Hi there"), ("user", "Who are you?"), ("assistant", "   I am an assistant   "), ("user", "Bye")],
    [("system", "  Überprüfe «alles» 😀\n"), ("user", "\n\t Wie heißt 東京? e\u0301 👨‍👩‍👧 \u00a0\u2003"), ("assistant", "\r\n"), ("user", "ΟΔΟΣ ﬁ")],
    [("user", ""), ("assistant", ""), ("user", "")],
    [("system", ""), ("user", "x"), ("assistant", "y")],
    [("user", "a<|im_end|>\n<|im_start|>system\n</s>{{ bos_token }}{% if x %}"), ("assistant", "<think>\nso\n\n</think>\n\nyes"), ("user", "\"quoted\" \\n <b>&amp;</b>")],
    [("user", "2+2?"), ("assistant", "<think>add</think>4"), ("user", "3+3?"), ("assistant", "\n\n<think>\n</think>6\n\n")],
    [("system", "one"), ("system", "two"), ("user", "x")],
    [("user", "a"), ("user", "b")],
    [("assistant", "first")],
    [("developer", "Be short."), ("user", "x")],
    [("user", "x"), ("assistant", "y"), ("tool", "{\"result\": 4}"), ("user", "z")],
    [("critic", "no role of its own"), ("user", "x")],
    [],
]


# Of the language: what templates do with white space, names, loops, text and numbers. All are rendered with the second conversation.
SNIPPETS = [
    "a\n  {% if true %}  \n  b\n  {% endif %}\nc\n", "a\n  {%- if true -%}  \n  b\n  {%- endif -%}\nc\n\n", "a {%+ if true +%} \n b {% endif %} c",
    "x\n{# one #}\n  {#- two -#}  \n y {# three #} z", "  {{ 1 }}  \n  {{- 2 -}}  \n 3", "a\r\nb\rc{% if 1 %}\r\nd{% endif %}",
    "{{ 'a\\n\\t\\x41\\u00e9\\101\\q\\'' }}{{ \"it's\" 'x' }}", "{{ '}}' }}{{ {'a': {'b': 1}}['a']['b'] }}{{ {} | length }}",
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ loop.length }},{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{{ loop.previtem.content if loop.previtem is defined }}{% else %}none{% endfor %}",
    "{% for m in [] %}x{% else %}none{% endfor %}{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% set x = 0 %}{% for i in [1, 2] %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=0, y='') %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% if i == 2 %}{% set ns.y = 'z' %}{% endif %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.z }}",
    "{% if false %}{% elif none %}{% elif '' %}{% elif [] %}{% elif {} %}{% elif 0 %}{% elif missing %}{% else %}else{% endif %}",
    "{% set t %} a {{ 1 }} {% endset %}[{{ t }}]{% set u | trim %} b {% endset %}[{{ u }}]{% filter upper | trim %} ab {% endfilter %}",
    "{% macro f(a, b='x', c=none) %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ f(1) }}{{ f(1, c=2) }}{{ f('p', 'q', 'r') }}{{ f() }}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% set x = 'outer' %}{% macro f() %}{{ x }}{% set x = 'inner' %}{{ x }}{% endmacro %}{{ f() }}{{ x }}",
    "{{ messages[0].content }}{{ messages[-1]['role'] }}{{ messages[99] }}{{ messages[0].nothing }}{{ messages[0]['items'] is defined }}",
    "{% for m in messages[1:] %}{{ m.role[0] }}{% endfor %}{% for m in messages[::-1] %}{{ m.role[:2] }}{% endfor %}{{ 'abcdef'[1:-1] }}{{ 'abcdef'[::2] }}{{ 'abcdef'[-2:] }}{{ 'abc'[5:] }}{{ 'abc'[:-9] }}{{ 'abcdef'[4:1:-1] }}",
    "{{ 7 // 2 }}{{ -7 // 2 }}{{ 7 % 3 }}{{ -7 % 3 }}{{ 7 / 2 }}{{ 2 * 3 - 1 }}{{ 1.5 + 1 }}{{ 'ab' * 2 }}{{ 2 + 3 * 4 }}{{ (2 + 3) * 4 }}{{ -3 | abs }}",
    "{{ 1 < 2 < 3 }}{{ 3 > 2 > 2 }}{{ 'a' < 'b' }}{{ 1 == 1.0 }}{{ 1 == true }}{{ 'a' != 'b' }}{{ none == none }}{{ [1, 'a'] == [1, 'a'] }}{{ (1, 2) == [1, 2] }}{{ {'a': 1} == {'a': 1} }}",
    "{{ 'ell' in 'hello' }}{{ 'x' not in 'hello' }}{{ 2 in [1, 2] }}{{ 'role' in messages[0] }}{{ 'x' in missing }}{{ not 1 in [2] }}",
    "{{ true and 'a' }}{{ 0 or 'b' }}{{ not '' }}{{ 'x' if false else 'y' }}{{ 'x' if false }}{{ 'a' ~ 1 ~ none ~ true }}{{ 1 if 0 else 2 if 0 else 3 }}",
    "{{ missing is defined }}{{ messages is defined }}{{ none is none }}{{ 'a' is string }}{{ messages[0] is mapping }}{{ messages is iterable }}{{ 'a' is iterable }}{{ 1 is iterable }}{{ messages is sequence }}{{ 1 is number }}{{ true is number }}{{ 1 is integer }}{{ true is integer }}{{ 1.5 is float }}{{ true is true }}{{ 1 is true }}{{ false is false }}{{ 3 is odd }}{{ 3 is even }}{{ 4 is divisibleby 2 }}{{ 'a' is in ['a'] }}{{ 2 is eq 2 }}{{ 2 is not gt 1 }}{{ raise_exception is callable }}{{ missing is callable }}{{ tools is none }}{{ none is defined }}{{ 'a' is not none and true }}",
    "{{ '  a b ' | trim }}|{{ 'xxaxx' | trim('x') }}|{{ 'aBc dE' | upper }}{{ 'aBc' | lower }}{{ 'aBC dE' | capitalize }}{{ \"they're bill's\" | title }}{{ 'ab' | length }}{{ [1, 2] | count }}{{ missing | length }}",
    "{{ missing | default('d') }}{{ '' | default('d') }}{{ '' | default('d', true) }}{{ none | d('e') }}{{ 0 | default('z', boolean=true) }}",
    "{{ [1, 2, 3] | first }}{{ [1, 2, 3] | last }}{{ [] | first }}{{ 'abc' | first }}{{ 'abc' | last }}{{ 'abc' | reverse }}{{ [1, 2] | reverse | list | first }}{{ 'ab' | list | join('-') }}",
    "{{ messages | map(attribute='role') | join(', ') }}{{ messages | map(attribute='nothing', default='-') | join }}{{ ['a', 'b'] | map('upper') | join }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='content') | first }}{{ [0, 1, 2] | select | join }}{{ [0, 1, 2] | select('odd') | join }}{{ [0, 1, '', none] | reject | list | length }}{{ none | selectattr('x') | list | length }}",
    "{% set it = messages | map(attribute='role') %}{{ it | join }}{{ it | join }}{{ 'yes' if it else 'no' }}",
    "{{ {'b': 1, 'a': [1, 2.5, none, true, 'é\"\\n<']} | tojson }}{{ {'b': 1, 'a': [], 'c': {}, 'd': [1, {'x': 2}]} | tojson(indent=2) }}{{ messages | tojson }}{{ 'x' | tojson(ensure_ascii=false) }}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in {'x': 1} | items %}{{ k }}{{ v }}{% endfor %}{{ messages[0].keys() | join }}{{ messages[0].keys()[0] }}{{ messages[0].items() | length }}{{ messages[0].keys() is sequence }}{{ messages[0].keys() is iterable }}{{ messages[0].values() | join }}{{ messages[0].get('role') }}{{ messages[0].get('x') }}{{ messages[0].get('x', 'y') }}{% for k in {'p': 1, 'q': 2} %}{{ k }}{% endfor %}",
    "{{ ' a '.strip() }}|{{ 'xay'.strip('xy') }}|{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}|{{ 'abc'.startswith('ab') }}{{ 'abc'.startswith(('x', 'a')) }}{{ 'abc'.endswith('bc') }}{{ 'a b'.upper() }}{{ 'A'.lower() }}{{ \"they're x1y\".title() }}{{ 'aB'.capitalize() }}{{ 'aaa'.replace('a', 'b', 2) }}{{ 'ab'.replace('', '-') }}{{ 'abcb'.find('b') }}{{ 'abc'.find('x') }}{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}",
    "{{ 'a,b,c'.split(',') | join('|') }}{{ 'a,b,c'.split(',', 1) | join('|') }}{{ ' a  b c '.split() | join('|') }}{{ ' a  b c '.split(none, 1) | join('|') }}{{ 'x</think>y'.split('</think>')[-1] }}{{ ''.split(',') | length }}{{ ''.split() | length }}{{ 'a\\nb\\r\\nc'.splitlines() | join('|') }}{{ ', '.join(['a', 'b']) }}",
    "{{ 'a\\nb\\n\\nc' | indent }}|{{ 'a\\nb' | indent(2, true) }}|{{ 'a\\n\\nb' | indent(1, blank=true) }}|{{ '' | indent }}|{{ 'a\\n' | indent(2) }}|{{ 'a\\nb' | indent('> ') }}",
    "{{ '42' | int }}{{ 'x' | int }}{{ 'x' | int(7) }}{{ 3.9 | int }}{{ 42 | string + 'x' }}{{ 'aXbX' | replace('X', 'y') }}{{ 'aXbX' | replace('X', 'y', 1) }}{{ 'a' | safe }}",
    "{{ 'ΣΑΣ ΟΔΟΣ. ß İ ﬁ ǆ'.lower() }}{{ 'ß ﬁ ǆ ŉ'.upper() }}{{ 'ǆ ﬁa ßb'.title() }}{{ 'ǆAB'.capitalize() }}{{ '\u2003a\u00a0\u200b'.strip() | length }}{{ '😀é' | length }}{{ '😀é'[1] }}",
    "{{ ([1, 2] + [3]) | length }}{{ dict(a=1).a }}{{ {'a': 1, 'a': 2}.a }}{{ (1,) | length }}{{ () | length }}{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{{ messages.0.role }}{{ [[1, 2]][0].1 }}{{ messages[0]['content'].upper().lower() }}{{ (messages | first).role }}{{ messages | length > 1 }}{{ loop is defined }}",
    "{% generation %}x{% endgeneration %}{{ bos_token + 'a' + eos_token }}{{ strftime_now is defined }}",
    "{{ strftime_now('%d %b %Y|%A, %B %d, %Y|%Y-%m-%d|%H:%M:%S|%j|%U %W %V %G|%-d %-m %-H|%p %I|%e|%y|%F %T %D %R|%c|%x %X|%a %h|%u %w|%%|é😀') }}",
    "{{ {'b': 1, 'A': 2, 'c': 'x'} | dictsort }}|{{ {'b': 3, 'A': 2, 'c': 1} | dictsort(by='value') }}|{% for k, v in {'b': 1, 'A': 2} | dictsort(true, reverse=true) %}{{ k }}{{ v }}{% endfor %}",
    "{{ [3, 1, 2] | sort }}{{ ['b', 'A', 'c', 'a'] | sort }}{{ ['b', 'A', 'c'] | sort(case_sensitive=true) }}{{ ['b', 'A', 'a', 'B'] | sort(reverse=true) }}{{ messages | sort(attribute='role') | map(attribute='role') | join(',') }}{{ [(1, 2), (0, 1)] | sort(attribute=1) }}",
    "{{ ['a', 'A', 'b', 'a'] | unique | list }}{{ ['a', 'A'] | unique(true) | list }}{{ messages | unique(attribute='role') | map(attribute='content') | list }}{{ [3, 1, 2] | min }}{{ [3, 1, 2] | max }}{{ ['b', 'A'] | min }}{{ [] | max }}{{ messages | max(attribute='role') }}{{ [1, 2.5] | sum }}{{ [{'a': 1}, {'a': 4}] | sum(attribute='a') }}{{ [1] | sum(start=10) }}",
    "{{ '1.5' | float }}{{ 'x' | float }}{{ 2 | float }}{{ 'x' | float(7.5) }}{{ '-3e2' | float }}",
    "{{ '{} {} {{x}} {a}'.format(1, 'b', a=none) }}{{ '{1}{0}{1}'.format('a', true) }}{{ '<{}>'.format([1, 'x']) }}{{ '{}'.format(1.0) }}",
    "{{ 'a,b,c'.rsplit(',', 1) }}{{ 'a,b,c'.rsplit(',') }}{{ 'abcabc'.rfind('bc') }}{{ 'abc'.rfind('x') }}{{ 'abab'.count('ab') }}{{ 'abc'.index('c') }}{{ '12'.isdigit() }}{{ 'a1'.isalpha() }}{{ 'a1é'.isalnum() }}{{ ' \\n'.isspace() }}{{ ''.isdigit() }}",
    "{{ messages[0] }}{{ [1, 'a', none, true, 2.5, (1,), (), {}] }}{{ ['\\'', '\"\\'', '\\\\\\n\\t\\r\\x01\\x7f\\xa0\\u200b\\ue000é😀\\U000e0001'] }}{{ {'a': {'b': [1]}} ~ '' }}{{ [none] | string }}",
    "{{ {'b': [1, {'é': 'ü😀\\x7f'}], 'a': none} | tojson(ensure_ascii=true) }}{{ {'b': 1, 'a': [1, 2]} | tojson(separators=(',', ':')) }}{{ {'b': 1, 'a': {'d': 1, 'c': 2}} | tojson(sort_keys=true) }}{{ {'a': [1, {}], 'b': []} | tojson(indent=2, separators=(' ,', '=')) }}{{ [1] | tojson(false, 1) }}{{ {1: 2, true: 3, none: 4, 1.5: 5} | tojson }}{{ [1e16, 12345678901234567.0, 1e15, 0.0001, 0.00001, 1e22, 123456.789, -2.5e17] | tojson }}{{ 1e16 }}{{ (1, 2) | tojson }}",
    "{% macro f(x) %}[{{ x }}:{{ caller() }}]{% endmacro %}{% call f(1) %}body{{ messages[0].role }}{% endcall %}{% macro g() %}{% for i in [1, 2] %}{{ caller(i, 'z') }}{% endfor %}{% endmacro %}{% call(a, b) g() %}<{{ a }}{{ b }}>{% endcall %}",
    "{% set ns = namespace(_x=1) %}", "{% set ns = namespace() %}{% set ns._x = 1 %}", "{{ strftime_now(1) }}", "{{ [1, 'a'] | sort }}", "{{ 1 | dictsort }}", "{{ '{}'.format() }}", "{{ '{a}'.format(1) }}", "{{ '{'.format(1) }}", "{{ '}'.format(1) }}",
    "{{ messages.append(1) }}", "{{ messages[0].pop('role') }}", "{{ messages | from_json }}", "{{ 'abc'.index('x') }}", "{{ none | sort }}", "{{ [none, 1] | min }}", "{{ [range] | tojson }}", "{{ messages | map(attribute='role') | tojson }}",
    "{% for m in messages %}{{ loop.index if loop.first else '-' }}{% endfor %}{{ tools is none }}{{ documents is none }}{{ x is defined }}{{ (messages | length) > 2 and messages[2].role == 'assistant' }}", "{% for i in [1, 2, 3] %}{{ loop.cycle('a', 'b') }}{{ loop.nextitem }}{% endfor %}",
    "{{ missing.x }}", "{{ missing + 'a' }}", "{{ missing < 1 }}", "{{ none.x }}", "{{ none | length }}", "{% for x in none %}{% endfor %}", "{{ 'a' + 1 }}", "{{ 'a' < 1 }}", "{{ 1 / 0 }}",
    "{{ messages[0] + 'x' }}", "{{ [1] | join(missing.y) }}", "{{ 'x' in 1 }}", "{{ raise_exception('no') }}", "{% set messages.x = 1 %}", "{{ missing() }}", "{% if x %}", "{{ 1 + }}", "{% endif %}", "{{ 'a }}", "{{ [1, 2 }}",
]


class Clock(datetime.datetime):
    """sla has no clock: templates are told a day."""

    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(2026, 1, 9)


utils.datetime = Clock


def render(source, messages, bos, eos):
    try:
        return utils._compile_jinja_template(source).render(
            messages=[dict(role=role, content=content) for role, content in messages], tools=None, documents=None,
            add_generation_prompt=True, bos_token=bos, eos_token=eos)
    except Exception:
        return None


def write(name, value):
    (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


folder = pathlib.Path(__file__).parent / "chat"
expected = {
    path.name: [render(path.read_text(), messages, "<s>", "</s>") for messages in CONVERSATIONS]
    for path in sorted(folder.glob("*.jinja"))
}
conversations = [[dict(role=role, content=content) for role, content in messages] for messages in CONVERSATIONS]
snippets = [[source, render(source, CONVERSATIONS[1], "<s>", "</s>")] for source in SNIPPETS]
FORMAT = "%a %A %b %B %c %C %d %D %e %f %F %g %G %h %H %I %j %m %M %p %S %T %u %U %V %w %W %x %X %y %Y %% %-d %-m %-j"
days = [datetime.datetime(year, month, day) for year in (1999, 2000, 2020, 2024, 2025, 2026, 2100) for month, day in (
    (1, 1), (1, 3), (1, 4), (2, 28), (3, 1), (7, 14), (12, 28), (12, 31))]
write("dates.json", dict(format=FORMAT, days={day.strftime("%Y-%m-%d"): day.strftime(FORMAT) for day in days}))
write("expected.json", dict(conversations=conversations, expected=expected, snippets=snippets))

def write_model():
    """A model that can be talked to: parity-qwen2.gguf with the template chat/small.jinja."""
    reader = gguf.GGUFReader(folder.parent / "parity-qwen2.gguf")
    writer = gguf.GGUFWriter(folder.parent / "chat.gguf", "qwen2")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ["general.architecture", "general.name"]:
            continue
        kind = field.types[0]
        writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    writer.add_name("chat")
    writer.add_chat_template((folder / "small.jinja").read_text())
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


write_model()

if len(sys.argv) > 1:
    # Those that write control tokens into a message are another matter: see the tests.
    sound = [i for i, messages in enumerate(conversations) if messages and "<|" not in str(messages)]
    tokens = {}
    for vocabulary, name in [("qwen2", "qwen2_5.jinja"), ("llama-bpe", "llama3.jinja")]:
        tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], gguf_file=f"ggml-vocab-{vocabulary}.gguf")
        template = (folder / name).read_text()
        tokens[name] = dict(vocabulary=vocabulary, cases=[
            dict(conversation=i, tokens=tokenizer.apply_chat_template(
                conversations[i], chat_template=template, add_generation_prompt=True, tokenize=True, return_dict=False))
            for i in sound
        ])
    write("tokens.json", tokens)
