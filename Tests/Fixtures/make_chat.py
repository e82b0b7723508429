"""Writes chat/expected.json: what transformers renders of each template in chat/ with each conversation below, and of each snippet.

    pip install -r requirements.txt && python3 make_chat.py

With a folder that has llama.cpp's ggml-vocab-*.gguf it also writes chat/tokens.json: the tokens that transformers makes of the conversations.
"""
import json
import pathlib
import sys

from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import _compile_jinja_template

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
    "{% generation %}x{% endgeneration %}{{ bos_token + 'a' + eos_token }}{{ strftime_now is defined }}", "{% for i in [1, 2, 3] %}{{ loop.cycle('a', 'b') }}{{ loop.nextitem }}{% endfor %}",
    "{{ missing.x }}", "{{ missing + 'a' }}", "{{ missing < 1 }}", "{{ none.x }}", "{{ none | length }}", "{% for x in none %}{% endfor %}", "{{ 'a' + 1 }}", "{{ 'a' < 1 }}", "{{ 1 / 0 }}",
    "{{ messages[0] + 'x' }}", "{{ [1] | join(missing.y) }}", "{{ 'x' in 1 }}", "{{ raise_exception('no') }}", "{% set messages.x = 1 %}", "{{ missing() }}", "{% if x %}", "{{ 1 + }}", "{% endif %}", "{{ 'a }}", "{{ [1, 2 }}",
]


def render(source, messages, bos, eos):
    environment = _compile_jinja_template("").environment
    # sla has no clock: the same request gives the same tokens on any day.
    environment.globals.pop("strftime_now", None)
    try:
        return environment.from_string(source).render(
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
write("expected.json", dict(conversations=conversations, expected=expected, snippets=snippets))

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
