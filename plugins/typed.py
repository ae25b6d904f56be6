"""Types that a plugin declares: data made into them, schemas of them, and whether an output is of one.

A type is one that msgspec or pydantic knows: a Struct, a TypedDict, a dataclass, a plain `list[str]`, a pydantic model.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from octavo.errors import PluginInputError

_PLACE = re.compile(r"(.*) - at `\$(.*)`$", re.DOTALL)


def declared_types(cls: type) -> tuple[Any, Any]:
    """Input and output of a class that says `IOProcessor[Input, Output]`; None for what it does not say."""
    for base in cls.__mro__:
        for said in getattr(base, "__orig_bases__", ()):
            if getattr(get_origin(said), "__name__", "") == "IOProcessor":
                first, second = get_args(said)
                return _if_type(first), _if_type(second)
    return None, None


def _if_type(said: Any) -> Any:
    return None if isinstance(said, TypeVar | str) or said is Any else said


def decode(data: Any, declared: Any) -> Any:
    """`data`, as JSON gives it, as the declared type.

    Raises:
        PluginInputError: it does not fit; the message and `parameter` say where.
    """
    if isinstance(declared, type) and isinstance(data, declared):
        return data
    if hasattr(declared, "model_validate"):
        return _decode_pydantic(data, declared)
    try:
        return msgspec.convert(data, declared)
    except msgspec.ValidationError as error:
        found = _PLACE.fullmatch(str(error))
        message, place = (found[1], found[2]) if found else (str(error), "")
        raise _misfit(place, message) from None


def _decode_pydantic(data: Any, declared: Any) -> Any:
    import pydantic

    try:
        return declared.model_validate(data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise _misfit(place, first["msg"]) from None


def _misfit(place: str, message: str) -> PluginInputError:
    return PluginInputError(f"data{place}: {message}.", parameter=f"data{place}")


def schema(declared: Any) -> dict[str, Any] | None:
    """JSON Schema of a type, self-contained; None where there is none."""
    if declared is None:
        return None
    if hasattr(declared, "model_json_schema"):
        made: dict[str, Any] = declared.model_json_schema()
        return made
    try:
        return msgspec.json.schema(declared)
    except TypeError:
        return None


def is_strict(declared: Any) -> bool:
    """Whether values can be held against a type: it is a class with fields, and not a mere hint at what comes."""
    with_fields = ("__struct_fields__", "model_validate", "__dataclass_fields__", "__required_keys__")
    return any(hasattr(declared, name) for name in with_fields)


def fits(value: Any, declared: Any) -> str | None:
    """Why a value is not of a type; None when it is."""
    if not hasattr(declared, "__required_keys__"):
        return None if isinstance(value, declared) else f"it is of type {type(value).__name__}"
    try:
        msgspec.convert(value, declared)
    except msgspec.ValidationError as error:
        return str(error)
    return None
