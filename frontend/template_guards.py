"""Bounds on each thing a template can do with values: operators, methods, filters, tests. Refuse before it is computed.

Whatever walks a value in C (prints, compares, hashes it) weighs it first; whatever makes a string or a list has a bound on its
length; whatever loops in Python over one argument has a bound on that argument.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any

from octavo.frontend.template_budget import (
    CHARS_PER_TICK,
    MAX_ITEMS,
    MAX_TOTAL_BYTES,
    BudgetError,
    Weight,
    check_int,
    check_items,
    check_length,
    made,
    metered,
    tick,
    touch,
    walked,
    weigh,
)

MAX_SORTED = 100_000
MAX_FORMAT_MARKS = 10_000
MAX_ATTRIBUTE_PARTS = 16
MAX_INDENT = 64
MAX_SEPARATOR = 64
MAX_DIGITS = 4300
MAX_PRECISION = 300

_SLOW_ON_TEXT = {"title": 1_000_000, "wordcount": 1_000_000, "urlencode": 1_000_000, "truncate": 1_000_000, "striptags": 10_000}
"""Filters with a Python loop over characters or words (striptags: a quadratic one), and the longest text for each."""
_SHALLOW = frozenset({
    "length", "count", "first", "last", "random", "default", "d", "list", "map", "select", "reject", "selectattr", "rejectattr",
    "items", "batch", "slice", "reverse", "attr", "sum",
})  # fmt: skip
"""Filters that look at the values within their first argument one by one, if at all, and never into them."""
_SORTING = frozenset({"sort", "groupby", "unique", "min", "max", "dictsort"})
_BY_ATTRIBUTE = frozenset({"sort", "groupby", "unique", "min", "max", "sum", "selectattr", "rejectattr", "map", "join"})
_WALKING_TESTS = frozenset({
    "==", "eq", "equalto", "!=", "ne", "<", "lt", "lessthan", "<=", "le", ">", "gt", "greaterthan", ">=", "ge", "in", "lower",
    "upper", "filter", "test",
})  # fmt: skip
_NUMBER_TESTS = frozenset({"odd", "even", "divisibleby"})
_SPLITTING = frozenset({"split", "rsplit", "splitlines"})
_PADDING = frozenset({"center", "ljust", "rjust", "zfill"})
_DIGITS = re.compile(r"\d+")
_NESTED_WIDTH = re.compile(r":[^{}]*\{")


def check_binop(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation whose result would be huge."""
    if type(left) is str and type(right) is str and operator == "+":
        tick(1 + (len(left) + len(right)) // CHARS_PER_TICK)
    elif isinstance(left, int) and isinstance(right, int):
        _check_int_binop(operator, left, right)
    else:
        touch(left)
        touch(right)
        _check_sequence_binop(operator, left, right)


def _check_sequence_binop(operator: str, left: Any, right: Any) -> None:
    if operator == "%" and isinstance(left, str):
        check_format(left, "%", right if isinstance(right, tuple) else (right,))
    elif operator == "*":
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, str) and isinstance(times, int):
                check_length(len(sequence) * times)
            elif isinstance(sequence, list | tuple) and isinstance(times, int):
                check_items(len(sequence) * times)


def _check_int_binop(operator: str, left: int, right: int) -> None:
    tick()
    check_int(left)
    check_int(right)
    if operator == "**":
        check_int(1 << min(left.bit_length() * abs(right), MAX_TOTAL_BYTES))


def check_format(form: str, mark: str, values: Iterable[Any]) -> None:
    """Both "%" and "{}" formats: few marks, each of which may write the widest field and the longest value."""
    values = list(values)
    marks = form.count(mark)
    if marks > MAX_FORMAT_MARKS:
        raise BudgetError(f"it formats with more than {MAX_FORMAT_MARKS} fields")
    if "*" in form or _NESTED_WIDTH.search(form):
        check_widths(values)
        marks += sum(abs(value) for value in values if isinstance(value, int))
    widest = max((int(number[:9]) for number in _DIGITS.findall(form)), default=0)
    longest = max((weigh(value).chars for value in values), default=0)
    check_length(len(form) + marks * (longest + widest))


def check_widths(values: Iterable[Any]) -> None:
    if any(isinstance(value, int) and abs(value) > MAX_ITEMS for value in values):
        raise BudgetError(f"it asks for a width of more than {MAX_ITEMS}")


def checked_arguments(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """What a function that is not a template's own may be called with."""
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if isinstance(owner, str):
        touch(owner)
        if name == "join" and len(args) == 1 and not isinstance(args[0], str):
            args = (list(args[0]),)
    elif isinstance(owner, list | tuple):
        weigh(owner)
    for value in args:
        walked(value)
    for value in kwargs.values():
        walked(value)
    if isinstance(owner, str) and (args or kwargs or name in _SPLITTING):
        _check_str_method(name, owner, args, kwargs)
    return args


def _check_str_method(name: str, text: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    if name == "join" and args:
        _check_join(text, args[0])
    elif name == "replace" and len(args) >= 2 and all(isinstance(arg, str) for arg in args[:2]):
        _check_replace(text, args[0], args[1])
    elif name in _PADDING:
        check_widths(args)
    elif name in _SPLITTING:
        _check_split(name, text, args, kwargs)


def _check_split(name: str, text: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    separator = kwargs.get("sep", args[0] if args and name != "splitlines" else None)
    if isinstance(separator, str) and separator:
        check_items(text.count(separator))
    elif len(text) > 4 * MAX_ITEMS:
        raise BudgetError(f"it splits a text of more than {4 * MAX_ITEMS} characters")


def _check_join(separator: str, items: Any) -> None:
    check_length(len(separator) * (len(items) if isinstance(items, Sized) else 0) + weigh(items).chars)


def _check_replace(text: str, old: str, new: str) -> None:
    if len(new) > len(old):
        check_length(len(text) + text.count(old) * (len(new) - len(old)))


def guarded_test(name: str, test: Any) -> Any:
    """A test within bounds; most look at one value's type, and stay as they are."""
    if name in _NUMBER_TESTS:
        return functools.wraps(test)(lambda *args: test(*map(_number, args)))
    if name not in _WALKING_TESTS:
        return test
    skipped = 1 if hasattr(test, "jinja_pass_arg") else 0

    @functools.wraps(test)
    def guarded(*args: Any) -> Any:
        tick()
        for value in args[skipped:]:
            walked(value)
        return test(*args)

    return guarded


def _number(value: Any) -> Any:
    """Python's % formats where the left side is text."""
    tick()
    if isinstance(value, str):
        raise TypeError(f"a number is wanted, not text ({value[:80]!r})")
    return value


def guarded_filter(name: str, func: Callable[..., Any]) -> Callable[..., Any]:
    """A filter within bounds: its arguments are weighed, its result is charged, and a generator it returns counts its items."""
    skipped = 1 if hasattr(func, "jinja_pass_arg") else 0
    first = touch if name in _SHALLOW else walked
    listing = name in _LISTING
    check = _CHECKS.get(name)

    @functools.wraps(func)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        tick()
        if len(args) > skipped:
            if listing and not isinstance(args[skipped], str | list | tuple | dict):
                args = (*args[:skipped], list(metered(args[skipped])), *args[skipped + 1 :])
            first(args[skipped])
        if kwargs or len(args) > skipped + 1:
            options = [*args[skipped + 1 :], *kwargs.values()]
            for option in options:
                walked(option)
            check_widths(options)
        if check is not None:
            check(name, args[skipped:], kwargs)
        result = func(*args, **kwargs)
        return metered(result) if type(result) is types.GeneratorType else made(result)

    return guarded


_LISTING = _SORTING | {"join", "sum"} - {"dictsort"}
"""Filters that go through their first argument themselves: a generator is taken apart before them, item by item."""


def _options(args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    return [*args[1:], *kwargs.values()]


def _check_sorting(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    if len(args[0]) > MAX_SORTED:
        raise BudgetError(f"it sorts more than {MAX_SORTED} items")
    _check_attribute(name, args, kwargs)


def _check_attribute(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """`a.b.c` is looked up part by part for every item; of `map` only the keyword is an attribute, of `join` not the separator."""
    given = [] if name == "map" else list(args[2 if name == "join" else 1 :])
    for path in (*given, kwargs.get("attribute")):
        if isinstance(path, str) and path.count(".") + path.count(",") >= MAX_ATTRIBUTE_PARTS:
            raise BudgetError(f"it names an attribute of more than {MAX_ATTRIBUTE_PARTS} parts")
    if name == "sum" and any(isinstance(start, list | tuple) for start in _options(args, kwargs)):
        raise BudgetError("sum adds numbers only")


def _check_join_filter(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    _check_attribute(name, args, kwargs)
    _check_join(str(kwargs.get("d", args[1] if len(args) > 1 else "")), args[0])


def _check_slow(name: str, args: Sequence[Any], _: dict[str, Any]) -> None:
    if weigh(args[0]).chars > _SLOW_ON_TEXT[name]:
        raise BudgetError(f"its filter {name} gets more than {_SLOW_ON_TEXT[name]} characters")


def _check_replace_filter(_: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    old, new = kwargs.get("old", args[1] if len(args) > 1 else ""), kwargs.get("new", args[2] if len(args) > 2 else "")
    _check_replace(str(args[0]), str(old), str(new))


def _check_format_filter(_: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    check_format(str(args[0]), "%", _options(args, kwargs))


def _check_indent(_: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    width = kwargs.get("width", args[1] if len(args) > 1 else 4)
    text = str(args[0])
    lines = sum(map(text.count, "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"))
    check_items(lines)
    check_length(len(text) + (lines + 1) * (len(width) if isinstance(width, str) else abs(int(width))))


def _check_tojson(_: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """An indented value writes its indent once a level and item, a separated one its separators once an item."""
    weight: Weight = weigh(args[0])
    unit = 0
    for option in _options(args, kwargs):
        for part in option if isinstance(option, list | tuple) else (option,):
            length = len(part) if isinstance(part, str) else part if isinstance(part, int) else 0
            if length > MAX_INDENT:
                raise BudgetError(f"it writes JSON with an indent or separator of more than {MAX_INDENT} characters")
            unit = max(unit, length)
    check_length(weight.chars + weight.items * (weight.depth + 2) * unit)


def _check_number(name: str, args: Sequence[Any], _: dict[str, Any]) -> None:
    """Digits are bounded by Python in base 10, not in base 16; and 10 ** precision is computed."""
    if isinstance(args[0], str) and len(args[0]) > MAX_DIGITS:
        raise BudgetError(f"its filter {name} gets more than {MAX_DIGITS} digits")
    if name == "round" and any(isinstance(option, int) and abs(option) > MAX_PRECISION for option in args[1:]):
        raise BudgetError(f"it rounds to more than {MAX_PRECISION} digits")


def _check_round(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    _check_number(name, [*args, *kwargs.values()], {})


def _check_separator(_: str, args: Sequence[Any], __: dict[str, Any]) -> None:
    if isinstance(args[0], str) and len(args[0]) > MAX_ITEMS:
        raise BudgetError(f"it makes a list of more than {MAX_ITEMS} characters")


_CHECKS: dict[str, Callable[[str, Sequence[Any], dict[str, Any]], None]] = {
    **dict.fromkeys(_BY_ATTRIBUTE, _check_attribute),
    **dict.fromkeys(_SORTING, _check_sorting),
    **dict.fromkeys(_SLOW_ON_TEXT, _check_slow),
    **dict.fromkeys(("int", "float", "filesizeformat"), _check_number),
    **dict.fromkeys(("list", "batch", "slice"), _check_separator),
    "round": _check_round,
    "join": _check_join_filter,
    "replace": _check_replace_filter,
    "format": _check_format_filter,
    "indent": _check_indent,
    "tojson": _check_tojson,
}
