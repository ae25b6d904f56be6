"""What a caller of a pooling model gets back, with vLLM's names.

The numbers of a `PoolingOutput` are a numpy array of float32, which torch takes without a copy (`torch.from_numpy`); the classes for one
task hold Python's floats, as vLLM's do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from octavo.errors import ValidationError

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class PoolingOutput:
    """What pooling gave.

    Attributes:
        data: float32 [D], or [tokens, D] of the tasks per token; or what a plugin makes of it.
    """

    data: Any


@dataclass(slots=True)
class EmbeddingOutput:
    """One vector per prompt."""

    embedding: list[float]

    @classmethod
    def from_base(cls, output: PoolingOutput) -> Self:
        """Raises: ValidationError: the output is not one vector."""
        return cls(_vector(output, "an embedding").tolist())

    @property
    def hidden_size(self) -> int:
        return len(self.embedding)


@dataclass(slots=True)
class ClassificationOutput:
    """One number per class."""

    probs: list[float]

    @classmethod
    def from_base(cls, output: PoolingOutput) -> Self:
        """Raises: ValidationError: the output is not one vector."""
        return cls(_vector(output, "a classification").tolist())

    @property
    def num_classes(self) -> int:
        return len(self.probs)


@dataclass(slots=True)
class ScoringOutput:
    """How well two texts fit each other."""

    score: float

    @classmethod
    def from_base(cls, output: PoolingOutput) -> Self:
        """Raises: ValidationError: the output is not one number."""
        numbers = _vector(output, "a score")
        if len(numbers) != 1:
            raise ValidationError(f"a score is one number, and the model gives {len(numbers)}")
        return cls(float(numbers[0]))


def _vector(output: PoolingOutput, what: str) -> npt.NDArray[np.float32]:
    data = np.asarray(output.data, np.float32)
    if data.ndim == 0:
        data = data.reshape(1)
    if data.ndim != 1:
        raise ValidationError(f"{what} is one vector, and pooling gave an array {list(data.shape)}")
    return data


@dataclass(slots=True)
class PoolingRequestOutput(Generic[T]):
    """What one request has produced.

    Attributes:
        outputs: a `PoolingOutput`, or that of one task; what a plugin made where one was asked.
        num_cached_tokens: prompt tokens found in the prefix cache.
    """

    request_id: str
    outputs: T
    prompt_token_ids: list[int]
    finished: bool = True
    num_cached_tokens: int = 0

    @classmethod
    def of_task(cls, base: PoolingRequestOutput[PoolingOutput], outputs: T) -> Self:
        """The same request with the outputs of one task."""
        return cls(base.request_id, outputs, base.prompt_token_ids, base.finished, base.num_cached_tokens)


class EmbeddingRequestOutput(PoolingRequestOutput[EmbeddingOutput]):
    """A prompt's embedding."""

    @classmethod
    def from_base(cls, base: PoolingRequestOutput[PoolingOutput]) -> Self:
        """Raises: ValidationError: see `EmbeddingOutput.from_base`."""
        return cls.of_task(base, EmbeddingOutput.from_base(base.outputs))


class ClassificationRequestOutput(PoolingRequestOutput[ClassificationOutput]):
    """A prompt's classification."""

    @classmethod
    def from_base(cls, base: PoolingRequestOutput[PoolingOutput]) -> Self:
        """Raises: ValidationError: see `ClassificationOutput.from_base`."""
        return cls.of_task(base, ClassificationOutput.from_base(base.outputs))


class ScoringRequestOutput(PoolingRequestOutput[ScoringOutput]):
    """How well a pair of texts fit."""

    @classmethod
    def from_base(cls, base: PoolingRequestOutput[PoolingOutput]) -> Self:
        """Raises: ValidationError: see `ScoringOutput.from_base`."""
        return cls.of_task(base, ScoringOutput.from_base(base.outputs))
