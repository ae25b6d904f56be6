"""Vectors as a client wants them: bytes of a type and an order, text of them, or numbers in JSON.

Everything goes over whole arrays; numpy lets other threads run meanwhile.
"""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Array = NDArray[Any]
EmbedDtype = Literal["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"]
Endianness = Literal["native", "big", "little"]

_SIGNIFICANT = 9
"""Decimal digits that tell any two float32 apart."""
_MOST_PLACES = 22
"""Powers of ten up to this one are exact in a double, so that a quotient by them is the double nearest to the decimal number."""
_LOWEST_EXPONENT = -149
_SCALES = np.array(
    [
        10.0 ** min(_MOST_PLACES, max(0, _SIGNIFICANT - 1 - math.floor((exponent - 1) * math.log10(2))))
        for exponent in range(_LOWEST_EXPONENT, 130)
    ]
)
"""For each binary exponent of a float32 the power of ten that brings its significant digits before the point."""
_json = msgspec.json.Encoder().encode


def to_bytes(values: Floats, dtype: EmbedDtype, endianness: Endianness) -> bytes:
    """The numbers as `dtype`, one behind the other, rows first.

    Numbers are rounded to the nearest, ties to even. What is too large for float16 and bfloat16 becomes infinite, for the
    8-bit types their largest value.
    """
    order = sys.byteorder if endianness == "native" else endianness
    packed = _PACK[dtype](values)
    return packed.astype(packed.dtype.newbyteorder("<" if order == "little" else ">"), copy=False).tobytes()


def to_base64(values: Floats, dtype: EmbedDtype, endianness: Endianness) -> str:
    """`to_bytes` as text."""
    return base64.b64encode(to_bytes(values, dtype, endianness)).decode("ascii")


def to_json(values: Floats) -> bytes:
    """A JSON list (of lists) of the numbers, each with about 9 digits, which give the same float32 back."""
    if values.ndim > 1:
        # Row by row: nobody else runs while the encoder writes one list.
        return b"[" + b",".join(map(to_json, values)) + b"]"
    return _json(_shortened(values).tolist())


def shortest(values: Floats) -> list[float]:
    """Each float32 as the double with the fewest digits that gives it back; for few numbers (1 µs each), which people read."""
    return [float(str(value)) for value in values.reshape(-1)]


def _shortened(values: Floats) -> NDArray[np.float64]:
    """Of the doubles that are nearest to each float32, one with few decimal digits.

    A float32 written as the double that it equals has 17 digits, half as many bytes again as it needs.
    """
    exact = values.astype(np.float64)
    scale = _SCALES[np.frexp(exact)[1] - _LOWEST_EXPONENT]
    short = np.rint(exact * scale) / scale
    # Too small for as many places as doubles can say exactly: as it is.
    return np.where(short.astype(np.float32) == values, short, exact)


def _bfloat16(values: Floats) -> Array:
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return rounded.astype(np.uint16)


def _float16(values: Floats) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def _fp8(mantissa_bits: int, lowest_exponent: int, largest: float) -> Callable[[Floats], Array]:
    """Packs into 8 bits: a sign, then the exponent above `lowest_exponent`, then the mantissa; the lowest one has no hidden bit."""

    def pack(values: Floats) -> Array:
        size = np.minimum(np.abs(values.astype(np.float64)), largest)
        exponent = np.where(size > 0, np.maximum(np.frexp(size)[1] - 1, lowest_exponent), lowest_exponent)
        steps = np.rint(np.ldexp(size, mantissa_bits - exponent)).astype(np.int64)
        # A mantissa rounded up to the next power carries into the exponent by itself.
        code = ((exponent.astype(np.int64) - lowest_exponent) << mantissa_bits) + steps
        return (code | (np.signbit(values).astype(np.int64) << 7)).astype(np.uint8)

    return pack


_PACK: dict[str, Callable[[Floats], Array]] = {
    "float32": lambda values: values,
    "float16": _float16,
    "bfloat16": _bfloat16,
    "fp8_e4m3": _fp8(mantissa_bits=3, lowest_exponent=-6, largest=448.0),
    "fp8_e5m2": _fp8(mantissa_bits=2, lowest_exponent=-14, largest=57344.0),
}
