"""Chat templates: what transformers renders, within budgets, with errors that say what is wrong."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import ConfigError, ValidationError
from octavo.frontend import template_sandbox
from octavo.frontend.chat_template import ChatRenderer, ChatTemplate, make_chat_renderer, read_template
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
    "{{ ('\\n' * 100000) | indent(100000, true, true) }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{% for i in range(100000) %}{{ 'aaaaaaaaaa' * 10000 }}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(100) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + ['a' * 10000000] %}{% endfor %}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_bombs_are_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_sandbox, "CPU_SECONDS", 0.1)
    with pytest.raises(ValidationError, match="was stopped"):
        ChatTemplate(source).render(HELLO)


async def test_a_bomb_holds_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_sandbox, "CPU_SECONDS", 0.3)
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


def test_tokenizer_applies_its_template(tokenizer: Tokenizer) -> None:
    text = tokenizer.apply_chat_template(HELLO, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.apply_chat_template(HELLO, tokenize=True) == tokenizer.encode(text, add_special_tokens=False)
