"""Vectors as bytes and JSON, against torch and against themselves."""

from __future__ import annotations

import base64
import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from octavo.frontend.server.cohere_embed.types import written
from octavo.frontend.server.pooling.numbers import Floats, to_base64, to_bytes, to_json

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TORCH = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}


@given(values=hnp.arrays(np.float32, st.integers(0, 40), elements=FLOATS))
def test_json_gives_the_same_numbers_back(values: Floats) -> None:
    back = np.array(json.loads(to_json(values)), dtype=np.float64).astype(np.float32)
    assert back.tobytes() == values.tobytes() or np.array_equal(back, values)  # -0.0 may come as -0.0 or 0.0


def test_json_of_every_exponent_is_short() -> None:
    values = np.ldexp(np.float32(1.2345678), np.arange(-40, 30)).astype(np.float32)
    texts = to_json(values).decode().strip("[]").split(",")
    assert max(map(len, texts)) <= len("1.234567890e-10")
    assert np.array_equal(np.array(texts, dtype=np.float32), values)


def test_json_of_rows() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3) / 4
    assert json.loads(to_json(rows)) == rows.tolist()


@pytest.mark.parametrize("dtype", TORCH)
@settings(max_examples=200)
@given(values=hnp.arrays(np.float32, 24, elements=st.floats(-400, 400, width=32) | st.floats(-(2**-10), 2**-10, width=32)))
def test_bytes_are_torchs(dtype: str, values: Floats) -> None:
    expected = torch.from_numpy(values).to(TORCH[dtype]).view(torch.uint8).numpy().tobytes()
    assert to_bytes(values, dtype, "little") == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["fp8_e4m3", "fp8_e5m2"])
def test_every_value_of_eight_bits_stays_what_it_is(dtype: str) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(TORCH[dtype])
    values = codes.to(torch.float32).numpy()
    finite = np.isfinite(values)
    assert to_bytes(values[finite], dtype, "little") == codes.view(torch.uint8).numpy()[finite].tobytes()  # type: ignore[arg-type]
    largest = values[finite].max()
    assert to_bytes(np.float32([1e30, -1e30]), dtype, "little") == to_bytes(np.float32([largest, -largest]), dtype, "little")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", TORCH)
def test_endianness(dtype: str) -> None:
    values = np.float32([0.1, -2.5, 3e-5])
    little, big = (to_bytes(values, dtype, order) for order in ("little", "big"))  # type: ignore[arg-type]
    size = len(little) // 3
    assert big == b"".join(little[i : i + size][::-1] for i in range(0, len(little), size))
    assert to_bytes(values, dtype, "native") == {"little": little, "big": big}[sys.byteorder]  # type: ignore[arg-type]
    assert base64.b64decode(to_base64(values, dtype, "big")) == big  # type: ignore[arg-type]


def test_coheres_types() -> None:
    vector = np.float32([0.5, -0.25, 0, 1e-9, -1, 0.1, 0.2, -0.3])
    assert json.loads(bytes(written(vector, "float"))) == pytest.approx(vector.tolist())
    assert np.array_equal(np.frombuffer(base64.b64decode(written(vector, "base64")), "<f4"), vector)
    assert written(vector, "ubinary") == [0b10010110]
    assert written(vector, "binary") == [0b10010110 - 128]
    assert written(vector, "int8") == [64, -32, 0, 0, -127, 13, 25, -38]
    assert written(vector, "uint8") == [value + 128 for value in written(vector, "int8")]
    assert written(np.zeros(8, np.float32), "int8") == [0] * 8
    rng = np.random.default_rng(0).standard_normal((2, 384)).astype(np.float32)
    bytes_ = np.array([written(row, "int8") for row in rng], np.float64)
    assert cosine(*bytes_) == pytest.approx(cosine(*rng), abs=2e-3)


def cosine(a: Floats, b: Floats) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
