"""Answers that hold vectors, in each of the four forms a request may ask for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from octavo.errors import ValidationError
from octavo.frontend.server.pooling.fields import EncodedInputFields
from octavo.frontend.server.pooling.numbers import Floats, to_base64, to_bytes, to_json
from octavo.frontend.server.pooling.running import PoolingRun
from octavo.frontend.server.responses import encoded, json_bytes_response
from octavo.frontend.server.usage import Usage

MAX_DESCRIBED = 512
"""Vectors that the `metadata` header of encoding_format bytes describes, each in about 100 bytes."""
CHARACTERS_PER_RESULT = 10
"""Characters of text that are tokenized (or ten times as many copied) in the time in which a small result is written."""
METADATA_HEADER = "metadata"

Item = Callable[[int, Any], msgspec.Struct]
"""Index and vector as JSON -> an entry of `data`."""


class ListAnswer(msgspec.Struct):
    """A list of results, in the order of the inputs."""

    id: str
    created: int
    model: str
    data: list[Any]
    usage: Usage
    object: str = "list"


class VectorPlace(msgspec.Struct):
    """Where a vector lies in an answer of bytes."""

    index: int
    embed_dtype: str
    endianness: str
    start: int
    end: int
    shape: list[int]


def check_form(body: EncodedInputFields, num_vectors: int) -> None:
    """Refuse a header that no client reads.

    Raises:
        ValidationError: there would be too many vectors in it.
    """
    if body.encoding_format == "bytes" and num_vectors > MAX_DESCRIBED:
        message = (
            f'encoding_format "bytes" describes each vector in a header, so there may be {MAX_DESCRIBED} of them, got {num_vectors}; '
            'take "bytes_only" or "base64".'
        )
        raise ValidationError(message, parameter="encoding_format", value=body.encoding_format)


def vectors_response(run: PoolingRun, body: EncodedInputFields, arrays: list[Floats], usage: Usage, item: Item) -> web.Response:
    """The whole answer, in the form that the request asks for."""
    if body.encoding_format in ("bytes", "bytes_only"):
        return _bytes_response(run, body, arrays, usage)
    dtype, endianness = body.embed_dtype or "float32", body.endianness or "native"
    if body.encoding_format == "base64":
        data = [item(index, to_base64(array, dtype, endianness)) for index, array in enumerate(arrays)]
    else:
        data = [item(index, msgspec.Raw(to_json(array))) for index, array in enumerate(arrays)]
    return json_bytes_response(encoded(ListAnswer(run.id, run.created, run.model, data, usage)))


def _bytes_response(run: PoolingRun, body: EncodedInputFields, arrays: list[Floats], usage: Usage) -> web.Response:
    dtype, endianness = body.embed_dtype or "float32", body.endianness or "native"
    parts = [to_bytes(array, dtype, endianness) for array in arrays]
    headers = {}
    if body.encoding_format == "bytes":
        places, start = [], 0
        for index, (part, array) in enumerate(zip(parts, arrays, strict=True)):
            places.append(VectorPlace(index, dtype, endianness, start, start + len(part), list(array.shape)))
            start += len(part)
        described = ListAnswer(run.id, run.created, run.model, places, usage)
        # Names may be any text, and a header takes ASCII alone.
        headers[METADATA_HEADER] = json.dumps(msgspec.to_builtins(described), separators=(",", ":"))
    return web.Response(body=b"".join(parts), content_type="application/octet-stream", headers=headers)
