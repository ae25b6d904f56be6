"""Conversations to prompt text, by the model's chat template (or one that a user gives)."""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import jinja2

from octavo.config.template_file import read_template
from octavo.errors import ConfigError, ValidationError
from octavo.frontend import template_budget, template_sandbox
from octavo.frontend.chat_messages import check_roles, normalized_messages, plain
from octavo.frontend.text_checks import check_unicode

if TYPE_CHECKING:
    from octavo.frontend.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

ContentFormat = Literal["string", "openai"]

MAX_TEMPLATE_CHARS = 262_144
MAX_REASON = 1000
_KEPT_CHARS = 32_768
"""Characters of the longest template of a request that is kept compiled, which takes some hundred times as many bytes."""
_OWN_VARIABLES = frozenset({
    "messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize",
    "raise_exception", "strftime_now",
})  # fmt: skip
_PROBE = "octavo-content-probe"


@functools.cache
def _environment() -> template_sandbox.TemplateEnvironment:
    return template_sandbox.TemplateEnvironment()


class ChatTemplate:
    """One compiled template.

    Args:
        source: Jinja text.
        special_tokens: bos_token, eos_token, ... that the template may write.

    Raises:
        ValidationError: the source is not a template.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens or {})
        if len(source) > MAX_TEMPLATE_CHARS:
            raise _refused(f"is longer than {MAX_TEMPLATE_CHARS} characters")
        try:
            with template_sandbox.budget(template_budget.COMPILE_SECONDS):
                self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise _refused(f"does not parse: {error.message} (line {error.lineno})") from error
        except (jinja2.TemplateError, RecursionError, ValueError, SyntaxError, MemoryError) as error:
            raise _refused(f"cannot be compiled: {error}") from error

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer, name: str = "default") -> ChatTemplate:
        """The model's own template.

        Raises:
            ValidationError: it has none.
        """
        source = tokenizer.chat_templates.get(name)
        if source is None:
            raise _no_template()
        return cls(source, tokenizer.special_tokens)

    @functools.cached_property
    def accepts_strings(self) -> bool:
        """The template takes message content that is a string."""
        return self._probe(_PROBE)

    @functools.cached_property
    def content_format(self) -> ContentFormat:
        """How the template takes content: "openai" is a list of parts, "string" one text."""
        return "openai" if self._probe([{"type": "text", "text": _PROBE}]) else "string"

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        /,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        content_format: Literal["auto"] | ContentFormat = "auto",
        **variables: Any,
    ) -> str:
        """The prompt's text; special tokens are in it, so tokenize it with add_special_tokens=False.

        Args:
            messages: the conversation, OpenAI's dicts; content a string, a list of text parts, or None.
            tools: function schemas for the template.
            documents: documents for the template.
            add_generation_prompt: end with what begins the assistant's turn.
            continue_final_message: leave the last message open, to be continued.
            content_format: how the template takes content; "auto" finds out.
            variables: more for the template (chat_template_kwargs).

        Raises:
            ValidationError: the conversation is malformed, or the template refuses it or takes too long.
        """
        if add_generation_prompt and continue_final_message:
            raise ValidationError(
                "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
                parameter="add_generation_prompt",
            )
        own = _OWN_VARIABLES & variables.keys()
        if own:
            message = f"chat_template_kwargs may not hold {', '.join(sorted(own))}."
            raise ValidationError(message, parameter="chat_template_kwargs")
        wanted = self.content_format if content_format == "auto" else content_format
        chat = normalized_messages(
            messages, parts=wanted == "openai", strings=content_format != "openai" and self.accepts_strings
        )
        check_roles(chat, self.source)
        ending = _Ending.mark(chat) if continue_final_message else None
        text = self._run(
            {
                **self._special_tokens,
                **{name: plain(value) for name, value in variables.items()},
                "messages": chat,
                "tools": plain(tools) or None,
                "documents": plain(documents) or None,
                "add_generation_prompt": add_generation_prompt,
            }
        )
        check_unicode("The text that the chat template writes", text)
        return text if ending is None else ending.cut(text)

    def _run(self, variables: dict[str, Any]) -> str:
        try:
            return template_sandbox.render(self._template, variables)
        except template_sandbox.BudgetError as error:
            raise _refused(f"was stopped: {error.message}") from error
        except jinja2.TemplateError as error:
            raise ValidationError(
                f"The chat template refuses the conversation: {_short(error.message)}", parameter="messages"
            ) from error
        except Exception as error:
            # Anything Python can raise: the template adds None to a string, recurses, reads a field that is not there.
            logger.debug("a chat template failed", exc_info=True)
            message = f"The chat template fails on the conversation: {type(error).__name__}: {_short(error)}"
            raise ValidationError(message, parameter="messages") from error

    def _probe(self, content: str | list[dict[str, str]]) -> bool:
        """Whether content of this form comes out as text, not as the repr of a list."""
        variables = {"messages": [{"role": "user", "content": content}], "add_generation_prompt": True}
        try:
            text = self._run({**self._special_tokens, **variables})
        except ValidationError:
            return False
        return _PROBE in text and "'type'" not in text and '"type"' not in text


class ChatRenderer:
    """Renders conversations off the event loop with the model's templates, or with one that comes with the call.

    Args:
        templates: sources by name; "tool_use", where there is one, is used when tools are given.
        special_tokens: for the templates.
        threads: where rendering runs.
    """

    def __init__(self, templates: Mapping[str, str], special_tokens: Mapping[str, str], threads: Executor) -> None:
        self._templates = dict(templates)
        self._special_tokens = special_tokens
        self._threads = threads
        self._compiled = functools.lru_cache(maxsize=16)(self._compile)

    @property
    def has_template(self) -> bool:
        """A conversation can be rendered without giving a template."""
        return "default" in self._templates

    @property
    def source(self) -> str | None:
        """Text of the template that is used without giving one; None when there is none."""
        return self._templates.get("default")

    def template(self, source: str | None = None, *, with_tools: bool = False) -> ChatTemplate:
        """The template for a call, compiled.

        Args:
            source: text of one that came with the call; None = the model's.
            with_tools: the call has tools.

        Raises:
            ValidationError: there is none, or it does not compile.
        """
        own = source is None
        if source is None:
            name = "tool_use" if with_tools and "tool_use" in self._templates else "default"
            source = self._templates.get(name)
        if source is None:
            raise _no_template()
        return self._compiled(source) if own or len(source) <= _KEPT_CHARS else self._compile(source)

    async def render(
        self, messages: Sequence[Mapping[str, Any]], /, *, chat_template: str | None = None, **options: Any
    ) -> str:
        """`ChatTemplate.render` in a thread; `chat_template` replaces the model's for this call."""

        def work() -> str:
            return self.template(chat_template, with_tools=bool(options.get("tools"))).render(messages, **options)

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _compile(self, source: str) -> ChatTemplate:
        return ChatTemplate(source, self._special_tokens)


def make_chat_renderer(tokenizer: Tokenizer | None, override: str | None, threads: Executor) -> ChatRenderer:
    """Renderer for a model; `override` is the text or path of a template that replaces the model's.

    Raises:
        ConfigError: the path does not exist, or the template does not compile.
    """
    templates = {} if tokenizer is None else tokenizer.chat_templates
    if override is not None:
        templates = {"default": read_template(override)}
    renderer = ChatRenderer(templates, {} if tokenizer is None else tokenizer.special_tokens, threads)
    if renderer.has_template:
        try:
            renderer.template()
        except ValidationError as error:
            if override is not None:
                raise ConfigError(f"--chat-template: {error}") from error
            logger.warning("The model's own chat template is of no use: %s", error)
    return renderer


def check_template(text_or_path: str | None) -> None:
    """Compile a template that a user gives, so that a faulty one is refused before a model is loaded for it.

    Raises:
        ConfigError: the path does not exist, or the template does not compile.
    """
    if text_or_path is not None:
        try:
            ChatTemplate(read_template(text_or_path))
        except ValidationError as error:
            raise ConfigError(f"--chat-template: {error}") from error


@dataclass(frozen=True)
class _Ending:
    """Where the last message's text ends: a mark is put there before rendering, for its words may come again behind it.

    Attributes:
        text: the mark.
        spaces: white space that follows it; the template may drop it.
    """

    text: str
    spaces: str

    @classmethod
    def mark(cls, chat: list[dict[str, Any]]) -> _Ending:
        """Put a mark into the last message.

        Raises:
            ValidationError: it has no text.
        """
        content = chat[-1].get("content")
        parts = [part for part in content if part.get("type") == "text"] if isinstance(content, list) else []
        text = parts[-1]["text"] if parts else content
        if not isinstance(text, str) or not text.strip():
            raise ValidationError("continue_final_message needs a last message with text.", parameter="continue_final_message")
        # Drawn anew, so that nobody can write it into a conversation.
        ending = cls(f"octavo{secrets.token_hex(16)}", text[len(text.rstrip()) :])
        marked = text.rstrip() + ending.text + ending.spaces
        if parts:
            parts[-1]["text"] = marked
        else:
            chat[-1]["content"] = marked
        return ending

    def cut(self, rendered: str) -> str:
        """Drop what the template put behind the last message, so that the model goes on with it.

        Raises:
            ValidationError: the mark is not there.
        """
        before, mark, after = rendered.rpartition(self.text)
        if not mark:
            raise ValidationError(
                "continue_final_message: the chat template changes the last message, so there is no place to go on from.",
                parameter="continue_final_message",
            )
        return before.replace(self.text, "") + (self.spaces if after.startswith(self.spaces) else "")


def _short(reason: object) -> str:
    """A template's error may quote all that it was given."""
    text = str(reason)
    return text if len(text) <= MAX_REASON else text[:MAX_REASON] + "..."


def _refused(why: str) -> ValidationError:
    return ValidationError(f"The chat template {why}.", parameter="chat_template")


def _no_template() -> ValidationError:
    return ValidationError(
        "This model has no chat template; give one with --chat-template, or use completions with a prompt.",
        parameter="messages",
    )
