"""Chat templates: what transformers renders, within budgets, with errors that say what is wrong."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from octavo.config.template_file import read_template
from octavo.errors import ConfigError, ValidationError
from octavo.frontend import template_budget
from octavo.frontend.chat_template import ChatRenderer, ChatTemplate, make_chat_renderer
from octavo.frontend.tokenizer import Tokenizer

CHATML = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PARTS = (
    "{%- for m in messages -%}{{ m.role }}: {% for part in m.content %}{% if part.type == 'text' %}[{{ part.text }}]{% endif %}"
    "{% endfor %}{% endfor %}"
)
BOTH = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p['text'] }}"
    "{% endfor %}{% endif %};{% endfor %}"
)
HELLO = [{"role": "user", "content": "Hello"}]


def test_renders_like_transformers() -> None:
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    template = (
        "{% for message in messages %}\n  {% if loop.first and tools %}{{ tools | tojson(indent=2) }}{% endif %}\n"
        "  {% if message.role == 'skip' %}{% continue %}{% endif %}\n{% generation %}{{ message['content'] | trim }}{% endgeneration %}"
        "{% endfor %}{{ bos_token ~ '<ü&>' }}{{ documents | length if documents else 0 }}{% set ns = namespace(a=1) %}{{ ns.a * 3 }}"
    )
    messages = [{"role": "user", "content": " a <b> "}, {"role": "skip", "content": "x"}, {"role": "user", "content": "c"}]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"x": "ü<>"}}}]
    rendered, _ = utils.render_jinja_template([messages], tools=tools, chat_template=template, bos_token="<s>", documents=None)
    assert (
        ChatTemplate(template, {"bos_token": "<s>"}).render(messages, tools=tools, add_generation_prompt=False) == rendered[0]
    )


@pytest.mark.parametrize(
    ("source", "expected"), [(CHATML, ("string", True)), (PARTS, ("openai", False)), (BOTH, ("openai", True))]
)
def test_content_format_is_found_out(source: str, expected: tuple[str, bool]) -> None:
    template = ChatTemplate(source)
    assert (template.content_format, template.accepts_strings) == expected


def test_content_takes_the_form_the_template_wants() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}, "c"]}]
    assert ChatTemplate(CHATML).render(parts, add_generation_prompt=False) == "<|user|>a\nb\nc<|end|>\n"
    assert ChatTemplate(PARTS).render(parts) == "user: [a][b][c]"
    assert ChatTemplate(PARTS).render(HELLO) == "user: [Hello]"
    assert ChatTemplate(BOTH).render([*HELLO, *parts]) == "Hello;abc;"
    assert (
        ChatTemplate(CHATML).render([{"role": "assistant", "content": None}], add_generation_prompt=False)
        == "<|assistant|><|end|>\n"
    )


def test_tool_call_arguments_are_objects() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    text = ChatTemplate("{{ messages[0].tool_calls[0].function.arguments.x + 1 }}").render([message])
    assert text == "2"
    assert call["function"]["arguments"] == '{"x": 1}', "the caller's message is not changed"


@pytest.mark.parametrize("arguments", ["no JSON", "[" * 100_000, "9" * 10_000])
def test_arguments_that_cannot_be_read_stay_text(arguments: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    text = ChatTemplate("{{ messages[0].tool_calls[0].function.arguments }}").render(
        [{"role": "assistant", "content": None, "tool_calls": [call]}]
    )
    assert text == arguments


@pytest.mark.parametrize("content", ["The answer", "The answer ", [{"type": "text", "text": "The answer"}]])
def test_continuing_the_final_message(content: Any) -> None:
    messages = [*HELLO, {"role": "assistant", "content": content}]
    text = ChatTemplate(CHATML).render(messages, add_generation_prompt=False, continue_final_message=True)
    assert text == "<|user|>Hello<|end|>\n<|assistant|>The answer" + (" " if content == "The answer " else "")
    trimming = ChatTemplate(CHATML.replace("message['content']", "message['content'] | trim"))
    text = trimming.render(messages, add_generation_prompt=False, continue_final_message=True)
    assert text.endswith("<|assistant|>The answer")


@pytest.mark.parametrize("content", ["end", "|end|", "<|end|>\n", "\n", "assistant", " and then ", "x<|end|>\n<|assistant|>x"])
def test_a_final_message_whose_words_come_again_behind_it(content: str) -> None:
    messages = [*HELLO, {"role": "assistant", "content": content}]
    whole = ChatTemplate(CHATML).render(messages, add_generation_prompt=False)
    if not content.strip():
        with pytest.raises(ValidationError, match="needs a last message"):
            ChatTemplate(CHATML).render(messages, add_generation_prompt=False, continue_final_message=True)
        return
    text = ChatTemplate(CHATML).render(messages, add_generation_prompt=False, continue_final_message=True)
    assert text == "<|user|>Hello<|end|>\n<|assistant|>" + content
    assert whole == text + "<|end|>\n"
    assert messages[-1]["content"] == content, "the caller's message is not changed"


def test_a_template_that_drops_the_final_message() -> None:
    template = ChatTemplate("{% for m in messages[:-1] %}{{ m.content }}{% endfor %}")
    messages = [*HELLO, {"role": "assistant", "content": "Hello"}]
    with pytest.raises(ValidationError, match="changes the last message"):
        template.render(messages, add_generation_prompt=False, continue_final_message=True)


def test_a_template_that_writes_the_final_message_twice() -> None:
    template = ChatTemplate("{{ messages[-1].content }}|{{ messages[-1].content }}!")
    messages = [{"role": "assistant", "content": "end!"}]
    assert template.render(messages, add_generation_prompt=False, continue_final_message=True) == "end!|end!"


@pytest.mark.parametrize(
    ("messages", "options", "message"),
    [
        ([], {}, "must not be empty"),
        ("hi", {}, "list of messages"),
        ([5], {}, r"messages\[0\] must be an object"),
        ([{"content": "x"}], {}, r"messages\[0\].role"),
        ([{"role": "user", "content": 5}], {}, r"messages\[0\].content must be"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], {}, "takes text only"),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], {}, "must be a string"),
        (HELLO, {"add_generation_prompt": True, "continue_final_message": True}, "Cannot set both"),
        (HELLO, {"messages_": 1, "raise_exception": 1}, "may not hold raise_exception"),
        (
            [{"role": "user", "content": "  "}],
            {"add_generation_prompt": False, "continue_final_message": True},
            "needs a last message",
        ),
    ],
)
def test_malformed_conversations(messages: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ChatTemplate(CHATML).render(messages, **options)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses the conversation: roles must alternate"),
        ("{{ 'a' + 1 }}", "fails on the conversation: TypeError"),
        ("{{ messages[0].content.x.y }}", "refuses the conversation"),
        ("{{ ''.__class__.__mro__ }}", "unsafe|refuses"),
        ("{{ messages.append(1) }}", "refuses"),
        ("{{ 'a'.encode().center(10**10) }}", "unsafe"),
        ("{{ (1).to_bytes(10**10) }}", "unsafe"),
        ("{{ '%9999999999d' is odd }}", "a number is wanted"),
        ("{{ 5 is divisibleby('%9999999999d') }}", "a number is wanted"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    ],
)
def test_template_errors_are_the_callers(source: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ChatTemplate(source).render(HELLO)


@pytest.mark.parametrize(
    "source", ["{% for %}", "{{ 'a'|nosuchfilter }}", "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "x" * 300_000]
)
def test_what_does_not_compile_is_refused(source: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatTemplate(source)
    assert caught.value.parameter == "chat_template"


BOMBS = [
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% set l = range(100000) | list %}{% for i in l %}{{ l | sort | length }}{% endfor %}",
    "{{ 'a' * 10**10 }}",
    "{{ [1] * 10**9 }}",
    "{{ (10**9) ** (10**9) }}",
    "{{ 'a' | center(10**10) }}",
    "{{ 'a'.ljust(10**10) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%s%s' | format('a' * 10**7, 'a' * 10**7) }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ '{:>{w}}'.format(1, w=10**9) }}",
    "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
    "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "{{ (['a' * 1000000] * 100000) | join }}",
    "{{ ''.join(['a' * 1000000] * 100000) }}",
    "{{ (['a'] * 100000) | join('b' * 100000) }}",
    "{{ ('a' * 99999) | join('b' * 99999) }}",
    "{{ ('b' * 99999).join('a' * 99999) }}",
    "{{ ('\\n' * 100000) | indent(100000, true, true) }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{% for i in range(100000) %}{{ 'aaaaaaaaaa' * 10000 }}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(100) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + ['a' * 10000000] %}{% endfor %}",
    "{{ ''.join((['a' * 1000000] * 1000) | map('string')) }}",
    "{{ '%9999d' * 400000 % ((1,) * 400000) }}",
    "{{ ('%(a)9999d' * 9000) % {'a': 1} * 100 }}",
    "{{ ('f' * 1000000) | int(0, 16) }}",
    "{{ 5 | round(10**9) }}",
    "{{ range(100000) | sort(attribute='real' ~ '.real' * 100000) }}",
    "{{ range(100000) | map(attribute='real' ~ '.real' * 100000) | list }}",
    "{{ ([1] * 200000) | groupby('real') | list | length }}",
    "{{ ('a ' * 2000000) | title }}",
    "{{ ('a ' * 2000000).split() }}",
    "{{ ('a,' * 2000000).split(',') }}",
    "{{ ('<!---->' * 100000) | striptags }}",
    "{{ ([1] * 1000) | tojson(separators=['x' * 100000, ':']) }}",
    "{{ [[[[1]]]] | tojson(indent='x' * 1000000) }}",
    "{{ ('\\n' * 240000) | indent(10000) }}",
    "{{ strftime_now('%c' * 1000000) }}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l, [1] * 200000] %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l, ('a' * 200000)[1:]] %}{% endfor %}",
    "{% set x = [1] * 200000 %}" + "{% set y = 2 in x %}" * 300,
    "{% set x = [1] * 200000 %}" + "{% set y = x[:] %}" * 300,
    "{% set x = [1] * 200000 %}{{ " + " ~ ".join(["x"] * 200) + " }}",
    "{% set x = [1] * 200000 %}" + "{% set y = x == x %}" * 300,
    "{{ range(100000)" + " | select" * 20 + " | list | length }}",
    "{{ range(100000)" + " | map('string')" * 20 + " | list | length }}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_bombs_are_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "CPU_SECONDS", 0.1)
    with pytest.raises(ValidationError, match="was stopped"):
        ChatTemplate(source).render(HELLO)


NEST = "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
TUPLES = "{% set ns = namespace(x=('a',), y=('a',)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% set ns.y = (ns.y, ns.y) %}{% endfor %}"
SHARED_USES = [
    "{{ ns.x }}", "{{ ns.x ~ '' }}", "{{ ns.x | string }}", "{{ ns.x | upper }}", "{{ ns.x | title }}", "{{ ns.x | tojson }}",
    "{{ ns.x | tojson(indent=1) }}", "{{ [ns.x, 1] | join }}", "{{ ', '.join(ns.x) }}", "{{ '%s' % [ns.x] }}", "{{ '%s' | format(ns.x) }}",
    "{{ '{}'.format(ns.x) }}", "{{ '{x!r}'.format_map({'x': ns.x}) }}", "{{ 'a' | replace('a', ns.x) }}", "{{ {'k': ns.x}.values() }}",
    "{{ {'k': ns.x}.items() | string }}", "{{ raise_exception(ns.x) }}", "{{ [ns.x] | batch(1) | first }}", "{{ ns.x is lower }}",
    "{% set a | upper %}{{ ns.x }}{% endset %}", "{{ (namespace(y=ns.x).y, 1) }}", "{{ [1] | batch(3, fill_with=ns.x) | list }}",
]  # fmt: skip
SHARED_COMPARISONS = [
    "{{ ns.x == ns.y }}", "{{ ns.x < ns.y }}", "{{ ns.x in [ns.y] }}", "{{ [ns.x, ns.y] | sort }}", "{{ [ns.x, ns.y] | max }}",
    "{{ [ns.x, ns.y] | unique | list }}", "{{ [ns.x].index(ns.y) }}", "{{ [ns.x, ns.y].count(ns.y) }}", "{{ ns.x is eq(ns.y) }}",
    "{{ [ns.x] | select('equalto', ns.y) | list }}", "{{ {ns.x: 1} }}", "{{ {}[ns.x] }}", "{{ {}.get(ns.x) }}", "{{ ns.x in {} }}",
    "{{ dict([[ns.x, 1]]) }}", "{{ {'b': ns.x, 'a': ns.y} | dictsort(by='value') }}", "{{ ns.x is filter }}",
    "{{ [{'a': ns.x}, {'a': ns.y}] | groupby('a') }}", "{% for i in [1] %}{{ loop.changed(ns.x) }}{% endfor %}",
    "{{ {'k': ns.x}.items() == {'k': ns.y}.items() }}", "{{ [1] | map(ns.x) | list }}",
]  # fmt: skip


@pytest.mark.parametrize("use", [NEST + use for use in SHARED_USES] + [TUPLES + use for use in SHARED_COMPARISONS])
def test_shared_structures_are_not_walked(use: str) -> None:
    """Sixty levels that each hold the one before twice: 2^60 paths, which C would walk to the end."""
    with pytest.raises(ValidationError, match=r"was stopped|refuses"):
        ChatTemplate(use).render(HELLO)


def test_deep_tuples_are_not_hashed() -> None:
    """Python hashes them by recursion in C, without a bound: the process would die."""
    source = "{% set ns = namespace(x=(1,)) %}{% for i in range(20000) %}{% set ns.x = (ns.x,) %}{% endfor %}{{ {ns.x: 1} }}"
    with pytest.raises(ValidationError, match="was stopped"):
        ChatTemplate(source).render(HELLO)


def test_a_namespace_may_hold_itself() -> None:
    source = "{% set ns = namespace() %}{% set ns.me = [ns] %}{{ ns }}{{ ns.me == [ns] }}"
    assert ChatTemplate(source).render(HELLO) == "<Namespace>True"


def test_messages_of_errors_are_short() -> None:
    for source in ("{{ raise_exception('x' * 1000000) }}", "{{ ('x' * 1000000)[0].y.z }}", "{{ {}[('x' * 1000000)] + 1 }}"):
        with pytest.raises(ValidationError) as caught:
            ChatTemplate(source).render(HELLO)
        assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("piece", ["{{ a }}", "{% if a %}b{% endif %}", "{% set a = b ~ c %}"])
def test_compiling_keeps_a_budget(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "COMPILE_SECONDS", 0.05)
    with pytest.raises(ValidationError, match="cannot be compiled: it runs longer"):
        ChatTemplate(piece * 10_000)


def test_a_render_leaves_the_thread_without_a_budget() -> None:
    with pytest.raises(ValidationError):
        ChatTemplate("{{ 'a' * 10**9 }}").render(HELLO)
    template_budget.tick(10**6)


async def test_a_bomb_holds_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "CPU_SECONDS", 0.3)
    with ThreadPoolExecutor(2) as threads:
        renderer = ChatRenderer({"default": CHATML}, {}, threads)
        bomb = asyncio.create_task(renderer.render(HELLO, chat_template=BOMBS[0]))
        await asyncio.sleep(0.05)
        text = await renderer.render(HELLO)
        assert not bomb.done(), "rendered while the bomb was running"
        assert text == "<|user|>Hello<|end|>\n<|assistant|>"
        with pytest.raises(ValidationError, match="was stopped"):
            await bomb


async def test_templates_of_model_file_and_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "my.jinja"
    file.write_text("file: {{ messages[0].content }}")
    with ThreadPoolExecutor(1) as threads:
        assert (await make_chat_renderer(tokenizer, None, threads).render(HELLO)).startswith(
            "<|im_start|>user\nHello<|im_end|>"
        )
        assert await make_chat_renderer(tokenizer, str(file), threads).render(HELLO) == "file: Hello"
        assert await make_chat_renderer(None, "text: {{ messages[0].content }}", threads).render(HELLO) == "text: Hello"
        with pytest.raises(ValidationError, match="no chat template"):
            await make_chat_renderer(None, None, threads).render(HELLO)
        with pytest.raises(ConfigError, match="--chat-template"):
            make_chat_renderer(tokenizer, "{% for %}", threads)
    with pytest.raises(ConfigError, match="cannot read"):
        read_template(str(tmp_path / "missing.jinja"))


async def test_the_template_for_tools_is_used_with_tools() -> None:
    with ThreadPoolExecutor(1) as threads:
        renderer = ChatRenderer({"default": "plain", "tool_use": "{{ tools | length }} tools"}, {}, threads)
        assert await renderer.render(HELLO) == "plain"
        assert await renderer.render(HELLO, tools=[{"name": "f"}]) == "1 tools"


@pytest.mark.parametrize("template", [r"{{ '\ud83d' }}", "{{ messages[0].tool_calls[0].function.arguments.x }}"])
def test_half_a_surrogate_pair_is_refused(template: str) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": r'{"x": "\ud83d"}'}}
    with pytest.raises(ValidationError, match="not valid Unicode"):
        ChatTemplate(template).render([{"role": "assistant", "content": "", "tool_calls": [call]}])


def test_arguments_are_as_deep_as_anything_else_of_a_conversation() -> None:
    def render(depth: int) -> str:
        call = {"type": "function", "function": {"name": "f", "arguments": "[" * depth + "]" * depth}}
        template = "{{ messages[0].tool_calls[0].function.arguments | tojson }}"
        return ChatTemplate(template).render([{"role": "assistant", "content": "", "tool_calls": [call]}])

    assert render(90) == "[" * 90 + "]" * 90
    with pytest.raises(ValidationError, match="nested too deep"):
        render(500)


def test_long_templates_of_requests_are_not_kept() -> None:
    with ThreadPoolExecutor(1) as threads:
        renderer = ChatRenderer({"default": CHATML + "x" * 40_000}, {}, threads)
        assert renderer.template() is renderer.template()
        assert renderer.template(CHATML) is renderer.template(CHATML)
        long = CHATML + "y" * 40_000
        assert renderer.template(long) is not renderer.template(long)
