"""JSON text of values, as models write it: letters outside ASCII stay as they are."""

from __future__ import annotations

import json
from typing import Any


def json_text(value: Any) -> str:
    """JSON text that can be sent as UTF-8.

    Raises:
        ValueError: a number is infinite or not a number.
        TypeError: the value has parts that JSON does not know.
        RecursionError: it is nested too deeply.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    # Half of a surrogate pair has no UTF-8, but may be written as an escape.
    return text if text.isascii() or _encodable(text) else json.dumps(value, allow_nan=False)


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
