"""A Jinja environment in which a template can neither reach the interpreter nor hold the server.

Templates come with models, or even with requests. Jinja's immutable sandbox keeps them from Python's internals; what it does
not bound, this module does: time (processor seconds, checked at every loop turn, call and filter) and the size of every
string and list a template can make. A thread cannot be killed, so it has to find out by itself that it is over budget.
"""

from __future__ import annotations

import functools
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_CHARS = 16_000_000
"""Longest string a template may make."""
MAX_TOTAL_CHARS = 128_000_000
"""All long strings it makes, together."""
MAX_ITEMS = 1_000_000
"""Longest list, largest width."""
CPU_SECONDS = 0.5
_MAX_INT_BITS = 4096
_TICKS_PER_CHECK = 64
_SIZE_PER_TICK = 256
_LONG = 4096
_UNSAFE_STR_METHODS = frozenset({"translate", "maketrans", "expandtabs"})
_REMOVED_FILTERS = ("wordwrap", "xmlattr", "urlize", "pprint")
_BIG_NUMBER = re.compile(r"\d{5,}")
_NESTED_WIDTH = re.compile(r":[^{}]*\{")


class BudgetError(jinja2.TemplateError):
    """The template takes too long or makes too much."""


class _Budget(threading.local):
    """What the render that runs in this thread has left."""

    deadline = float("inf")
    chars_left = 0
    ticks = 0


_budget = _Budget()


def render(template: jinja2.Template, variables: dict[str, Any]) -> str:
    """Render within the budgets.

    Raises:
        BudgetError: over budget.
        jinja2.TemplateError: the template's own errors.
    """
    parts, length = [], 0
    with budget():
        for part in template.generate(variables):
            parts.append(part)
            length += len(part)
            if length > MAX_CHARS:
                raise BudgetError(f"it writes more than {MAX_CHARS} characters")
            tick()
    return "".join(parts)


class budget:  # noqa: N801  (reads as a statement: with budget())
    """The block may use CPU_SECONDS of this thread and MAX_TOTAL_CHARS."""

    def __enter__(self) -> None:
        _budget.deadline = time.thread_time() + CPU_SECONDS
        _budget.chars_left = MAX_TOTAL_CHARS
        _budget.ticks = 0

    def __exit__(self, *_: object) -> None:
        _budget.deadline = float("inf")


def tick(value: Any = None) -> None:
    """One unit of work, more on a large value; now and then looks at the clock."""
    size = len(value) if isinstance(value, str | list | tuple | dict) else 0
    _budget.ticks += 1 + size // _SIZE_PER_TICK
    if _budget.ticks >= _TICKS_PER_CHECK:
        _budget.ticks = 0
        if time.thread_time() > _budget.deadline:
            raise BudgetError(f"it runs longer than {CPU_SECONDS:g} s")


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Jinja as chat templates expect it (transformers' options, filters and globals), with budgets."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols])
        self.filters["tojson"] = _tojson
        for name in _REMOVED_FILTERS:
            del self.filters[name]
        self.filters = {name: _bounded_filter(name, func) for name, func in self.filters.items()}
        self.filters["_metered"] = _metered
        del self.globals["lipsum"]
        self.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
        self.concat = _bounded_concat  # type: ignore[method-assign]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = _filtered(loop.iter, "_metered")
        for concat in list(tree.find_all(nodes.Concat)):
            # a ~ b is compiled to a function nobody can replace; [a, b] | join is the same with a bound.
            concat.nodes = [_filtered(nodes.List(concat.nodes, lineno=concat.lineno), "join")]
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return super().is_safe_attribute(obj, attr, value) and not (isinstance(obj, str) and attr in _UNSAFE_STR_METHODS)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapper = super().wrap_str_format(value)
        if wrapper is None:
            return None
        form = str(value.__self__)

        def bounded(*args: Any, **kwargs: Any) -> str:
            _check_format(form, "{", [*args, *kwargs.values()])
            return wrapper(*args, **kwargs)

        return bounded

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        tick(left)
        _check_binop(operator, left, right)
        return _charged(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063
        owner = getattr(__obj, "__self__", None)
        tick(owner)
        if isinstance(owner, str):
            _check_str_call(getattr(__obj, "__name__", ""), owner, args)
        return _charged(super().call(__context, __obj, *args, **kwargs))


class _GenerationTag(Extension):
    """{% generation %}...{% endgeneration %} marks the assistant's tokens for training; here it is only its body."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _filtered(value: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno, environment=value.environment)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own escapes HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _metered(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        tick()
        yield item


def _charged(value: Any) -> Any:
    """Count a result that was just made, if it is long."""
    if isinstance(value, str) and len(value) > _LONG:
        _budget.chars_left -= len(value)
        _check_length(len(value))
        if _budget.chars_left < 0:
            raise BudgetError(f"it makes more than {MAX_TOTAL_CHARS} characters")
    elif isinstance(value, list | tuple) and len(value) > MAX_ITEMS:
        raise BudgetError(f"it makes a list of more than {MAX_ITEMS} items")
    return value


def _check_length(length: int) -> None:
    if length > MAX_CHARS:
        raise BudgetError(f"it makes a string of more than {MAX_CHARS} characters")


def _check_width(values: Iterable[Any]) -> None:
    if any(isinstance(value, int) and abs(value) > MAX_ITEMS for value in values):
        raise BudgetError(f"it asks for a width of more than {MAX_ITEMS}")


def _bounded_concat(parts: Iterable[str]) -> str:
    """What blocks and macros end with."""
    parts = list(parts)
    _check_length(sum(map(len, parts)))
    return str(_charged("".join(parts)))


def _check_binop(operator: str, left: Any, right: Any) -> None:
    """Refuse, before it is computed, a result that would be huge."""
    if operator == "%" and isinstance(left, str):
        _check_format(left, "%", right if isinstance(right, tuple) else (right,))
    elif operator == "*":
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, str | list | tuple) and isinstance(times, int):
                _check_length(len(sequence) * times * (1 if isinstance(sequence, str) else MAX_CHARS // MAX_ITEMS))
    if operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() + right.bit_length() if operator == "*" else left.bit_length() * abs(right)
        if bits > _MAX_INT_BITS:
            raise BudgetError("it computes a number that is too large")


def _check_format(form: str, mark: str, values: Iterable[Any]) -> None:
    """Both "%" and "{}" formats: no huge widths, and each mark may write the longest value."""
    values = list(values)
    if _BIG_NUMBER.search(form):
        raise BudgetError("it asks for a huge field width")
    _check_width(values if "*" in form or _NESTED_WIDTH.search(form) else ())
    longest = max(map(_size_of, values), default=0)
    _check_length(form.count(mark) * longest)


def _size_of(value: Any) -> int:
    """Rough length of a value's text, without making it."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_size_of(v) + _size_of(k) for k, v in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_size_of, value))
    return 32


def _check_join(separator: str, items: Sequence[Any]) -> None:
    _check_length(len(separator) * len(items) + sum(map(_size_of, items)))


def _check_replace(text: str, old: str, new: str) -> None:
    if len(new) > len(old):
        _check_length(len(text) + (text.count(old)) * (len(new) - len(old)))


def _check_str_call(name: str, text: str, args: Sequence[Any]) -> None:
    if name == "join" and args and isinstance(args[0], list | tuple):
        _check_join(text, args[0])
    elif name == "replace" and len(args) >= 2 and all(isinstance(arg, str) for arg in args[:2]):
        _check_replace(text, args[0], args[1])
    elif name in ("center", "ljust", "rjust", "zfill"):
        _check_width(args)


def _bounded_filter(name: str, func: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that ticks, whose arguments are no widths beyond reason, and whose result is counted."""
    passes_context = hasattr(func, "jinja_pass_arg")

    @functools.wraps(func)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        own = list(args[1:] if passes_context else args)
        tick(own[0] if own else None)
        if name == "join":
            own = _listed_join(own, kwargs)
        _check_filter(name, own, kwargs)
        return _charged(func(*([args[0], *own] if passes_context else own), **kwargs))

    return bounded


def _listed_join(args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
    """The items of a join, which may be a generator, as a list that can be measured."""
    args[0] = list(args[0])
    separator = args[1] if len(args) > 1 else kwargs.get("d", "")
    _check_join(str(separator), args[0])
    return args


def _check_filter(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    options = [*args[1:], *kwargs.values()]
    _check_width(options)
    value = args[0] if args else ""
    if name == "replace" and isinstance(value, str) and len(args) >= 3:
        _check_replace(value, str(args[1]), str(args[2]))
    elif name == "format":
        _check_format(str(value), "%", options)
    elif name in ("indent", "tojson"):
        widths = [len(o) if isinstance(o, str) else o for o in options if isinstance(o, int | str)]
        _check_length((_size_of(value) + 1) * max(widths, default=1) if max(widths, default=0) > 64 else 0)
    elif name == "sum" and any(not isinstance(o, int | float | str) for o in options):
        raise BudgetError("sum adds numbers only")
