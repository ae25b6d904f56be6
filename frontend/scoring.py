"""How well texts fit each other: by a classifier of pairs, by the angle of two embeddings, or token by token (MaxSim)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from octavo.errors import ValidationError

T = TypeVar("T")


def paired(first: Sequence[T], second: Sequence[T]) -> tuple[list[T], list[T]]:
    """Each of one list with its partner of the other; a single one goes with all.

    Raises:
        ValidationError: a list is empty, or the lengths do not fit.
    """
    if not first or not second:
        raise ValidationError("At least one text must be given on either side.", parameter="data_1" if not first else "data_2")
    if len(first) == 1:
        first = list(first) * len(second)
    if len(first) != len(second):
        raise ValidationError(
            f"There must be one text on the first side, or as many as on the second: got {len(first)} and {len(second)}.",
            parameter="data_1",
            value=len(first),
        )
    return list(first), list(second)


def cosine(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Of two vectors [D]; 0 where one of them is zero."""
    norms = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(np.dot(first, second)) / norms if norms else 0.0


def max_sim(query: npt.NDArray[Any], document: npt.NDArray[Any]) -> float:
    """Late interaction (Khattab and Zaharia 2020): the best match of each of the query's vectors [tokens, D] in the document's, added up."""
    return float((query @ document.T).max(axis=1).sum())
