"""Vectors in the types of Cohere's API: numbers, bytes, bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from octavo.errors import ValidationError
from octavo.frontend.server.cohere_embed.protocol import EmbeddingType
from octavo.frontend.server.pooling.numbers import Floats, to_base64, to_json

_BITS = 8
_LARGEST = 127


def written(vector: Floats, kind: EmbeddingType) -> Any:
    """A vector as the answer has it.

    - float: as it is; base64: its bytes as little-endian float32.
    - int8: divided by its largest number, times 127, so that cosines stay; uint8: the same plus 128.
    - ubinary: 8 signs a byte, the first one the highest bit, 1 for positive; binary: the same minus 128.

    Raises:
        ValidationError: its signs do not fill bytes.
    """
    if kind in ("binary", "ubinary") and vector.size % _BITS:
        message = f"embedding_types {kind} needs a multiple of {_BITS} dimensions, and the vectors have {vector.size}."
        raise ValidationError(message, parameter="embedding_types", value=kind)
    return _WRITERS[kind](vector)


def _int8(vector: Floats) -> NDArray[np.int16]:
    largest = float(np.abs(vector).max(initial=0.0))
    return np.rint(vector * (_LARGEST / largest if largest else 0.0)).astype(np.int16)


def _bits(vector: Floats) -> NDArray[np.int16]:
    return np.packbits(vector > 0).astype(np.int16)


_WRITERS: dict[EmbeddingType, Callable[[Floats], Any]] = {
    "float": lambda vector: msgspec.Raw(to_json(vector)),
    "base64": lambda vector: to_base64(vector, "float32", "little"),
    "int8": lambda vector: _int8(vector).tolist(),
    "uint8": lambda vector: (_int8(vector) + 128).tolist(),
    "ubinary": lambda vector: _bits(vector).tolist(),
    "binary": lambda vector: (_bits(vector) - 128).tolist(),
}
