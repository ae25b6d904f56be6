"""Request bodies: bytes -> the endpoint's Struct, with every misfit named.

Decoding holds the interpreter, and the event loop with it, wherever it runs. So what a body may make of itself is bounded by
counting its brackets and commas first, which is quick, and a large body is decoded in a thread.

Numbers and switches may be text, and switches 0 and 1, as pydantic's lax mode takes them; a body that is strictly right costs
nothing for that.

A field is served (it is in the Struct), refused (known, but this version cannot honour it), accepted without effect, or
unknown: then the answer carries a warning header, or the request is refused with --strict-params.
"""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web

from octavo.errors import ValidationError
from octavo.frontend import heap
from octavo.frontend.server.body_reader import Data, read_bytes
from octavo.frontend.server.errors import ApiError, SchemaError
from octavo.frontend.server.record import RECORD
from octavo.frontend.server.state import STATE

T = TypeVar("T", bound=msgspec.Struct)

LARGE_BODY = 64 * 1024
"""Bytes from which a body is worked on in a thread."""
_HUGE_BODY = 1024 * 1024
"""Bytes from which what a body leaves behind is worth tidying."""
_MARKS: tuple[tuple[bytes, int, str], ...] = (
    (b"[", 250_000, "lists"),
    (b"{", 250_000, "objects"),
    (b'":', 250_000, "fields"),
    (b",", 4_000_000, "values"),
)
"""What begins or parts values in JSON, and how often it may be there, in texts too: more than any model's context holds. In bytes
such as these a megabyte can become a hundred, and take seconds."""
_PATH = re.compile(r"`\$\.?([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True)
class Refused:
    """A known field that must keep one of its neutral values, and why."""

    why: str
    neutral: tuple[Any, ...] = (None,)


class BodyType(Generic[T]):
    """How to read one endpoint's body.

    Args:
        struct: the served fields.
        refused: known fields this version cannot honour.
        without_effect: fields that may be sent and change nothing.
    """

    def __init__(
        self, struct: type[T], *, refused: dict[str, Refused] | None = None, without_effect: frozenset[str] = frozenset()
    ) -> None:
        self.names = frozenset(struct.__struct_encode_fields__)
        self.refused = refused or {}
        self._without_effect = without_effect
        self._decoder = msgspec.json.Decoder(struct)
        self._lax_decoder = msgspec.json.Decoder(struct, strict=False)

    def decode(self, data: Data) -> tuple[T, list[str]]:
        """The body, and the names of its unknown fields.

        Raises:
            ApiError: 413, it holds more values than can be meant.
            SchemaError: no JSON, or a field is missing or of the wrong type.
            ValidationError: a field of `refused` asks for something.
        """
        _check_number_of_values(data)
        try:
            # Skipped values are not checked for UTF-8 by the decoder.
            data.decode()
            body = self._decode(data)
            others = {name: raw for name, raw in _raw_fields.decode(data).items() if name not in self.names}
            for name in others.keys() & self.refused.keys():
                self._check_neutral(name, others[name])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise _schema_error(error) from None
        return body, [name for name in others if name not in self.refused and name not in self._without_effect]

    def _decode(self, data: Data) -> T:
        try:
            return self._decoder.decode(data)
        except msgspec.ValidationError:
            return self._decode_lax(data)

    def _decode_lax(self, data: Data) -> T:
        """A body whose numbers and switches are text, or switches numbers, as pydantic's lax mode takes them.

        Raises:
            msgspec.ValidationError: what is wrong even then.
        """
        body = self._lax_decoder.decode(data)
        given = _raw_fields.decode(data)
        for name in self.names & given.keys():
            value = getattr(body, name)
            # The decoder takes the text "null" for null, and "nan" for a number, which nobody would expect to be let through.
            if (value is None and bytes(given[name]) != b"null") or not _is_finite(value):
                raise msgspec.ValidationError(f"Expected a finite number or null, got `str` - at `$.{name}`")
        return body

    def _check_neutral(self, name: str, raw: msgspec.Raw) -> None:
        value = msgspec.json.decode(raw)
        rule = self.refused[name]
        if not any(value == neutral and type(value) is type(neutral) for neutral in rule.neutral):
            message = f"{name} is not supported: {rule.why}."
            raise ValidationError(message, parameter=name, value=value, code="unsupported_parameter")


async def read_body(request: web.Request, body_type: BodyType[T]) -> T:
    """Read, decode and check a request's JSON body.

    Raises:
        ApiError: 408, 413 or 415, see `read_bytes` and `BodyType.decode`.
        SchemaError, ValidationError: see `BodyType.decode`; also unknown fields with --strict-params.
    """
    options = request.app[STATE].options
    if "Content-Type" in request.headers and not _is_json(request.content_type):
        raise SchemaError(f"the Content-Type must be application/json, got {request.content_type[:100]!r}")
    data = await read_bytes(request)
    if len(data) < LARGE_BODY:
        body, unknown = body_type.decode(data)
    else:
        threads = request.app[STATE].body_threads
        body, unknown = await asyncio.get_running_loop().run_in_executor(threads, body_type.decode, data)
        if len(data) > _HUGE_BODY:
            heap.tidy_soon()
    if unknown:
        shown = ", ".join(_printable(name) for name in unknown[:20])
        if options.strict_params:
            raise ValidationError(f"unknown fields: {shown} (--strict-params)", parameter=unknown[0])
        request[RECORD].warnings.append(f"unknown fields: {shown}")
    return body


def _is_finite(value: Any) -> bool:
    """Whether no number in it, however deep, is infinite or none."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, msgspec.Struct):
        return all(_is_finite(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if isinstance(value, list) else True


def _check_number_of_values(data: Data) -> None:
    if len(data) < LARGE_BODY:
        return
    for mark, limit, what in _MARKS:
        if data.count(mark) > limit:
            raise ApiError(413, f"the request body holds too many {what}: {mark.decode()} may be in it {limit} times")


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or content_type.endswith("+json")


def _printable(name: str) -> str:
    return re.sub(r"[^!-~]", "?", name[:64])


def _schema_error(error: Exception) -> SchemaError:
    """A decoder's complaint, with its "$.path" as the parameter."""
    if isinstance(error, RecursionError):
        return SchemaError("the body is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return SchemaError(f"the body is not valid UTF-8 (byte {error.start})")
    message = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return SchemaError(f"the body is not valid JSON: {message}")
    path = _PATH.search(message)
    names = [path[1]] if path and path[1] else []
    if missing := _MISSING.search(message):
        names.append(missing[1])
    parameter = ".".join(names).replace("[...]", "").strip(".") or None
    return SchemaError(message, parameter=parameter, code="missing_required_parameter" if missing else None)
