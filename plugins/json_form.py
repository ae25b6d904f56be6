"""A plugin's output as JSON: what has a JSON form gets it, whatever library it is of."""

from __future__ import annotations

from typing import Any

import msgspec

_encoder: msgspec.json.Encoder


def to_json(value: Any) -> bytes:
    """JSON of plain values, msgspec and pydantic models, dataclasses, numpy arrays and torch tensors (as lists).

    Raises:
        TypeError: something has no JSON form.
    """
    return _encoder.encode(value)


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    as_list = getattr(value, "tolist", None)
    if as_list is not None:
        return as_list()
    raise TypeError(f"{type(value).__name__} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
