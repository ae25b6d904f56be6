"""Texts to be compared -> pairs, with the names that errors call them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octavo.errors import ValidationError
from octavo.frontend.server.pooling.prompts import MAX_INPUTS
from octavo.frontend.server.score.protocol import RerankRequest, ScoreRequest, Text

_SIDES = (("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2"))


@dataclass(frozen=True, slots=True)
class Side:
    """The texts on one side of the pairs, each with its name."""

    texts: list[str]
    names: list[str]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Texts that are compared one by one; a single query is compared with every document."""

    queries: Side
    documents: Side

    @property
    def query_of(self) -> list[int]:
        """For each document the index of its query."""
        number = len(self.documents.texts)
        return list(range(number)) if len(self.queries.texts) == number else [0] * number


def score_pairs(body: ScoreRequest) -> Pairs:
    """The pairs of a scoring request.

    Raises:
        ValidationError: they are not there once, or their numbers do not fit.
    """
    given = [(first, second) for first, second in _SIDES if getattr(body, second) is not None]
    names = {name for sides in _SIDES for name in sides if getattr(body, name) is not None}
    if len(given) != 1 or names != set(given[0]):
        choices = ", ".join(f"{first} and {second}" for first, second in _SIDES)
        raise ValidationError(f"give the texts once: {choices}.", parameter=min(names, default="queries"))
    first, second = given[0]
    pairs = Pairs(_side(first, getattr(body, first)), _side(second, getattr(body, second)))
    numbers = len(pairs.queries.texts), len(pairs.documents.texts)
    if numbers[0] not in (1, numbers[1]):
        message = f"Input lengths must be either 1:1, 1:N or N:N, got {numbers[0]}:{numbers[1]}."
        raise ValidationError(message, parameter=first, value=numbers[0])
    return pairs


def rerank_pairs(body: RerankRequest) -> Pairs:
    """A reranking request's query with each document.

    Raises:
        ValidationError: naming the text at fault.
    """
    return Pairs(_side("query", body.query), _side("documents", body.documents))


def _side(name: str, value: Text | Sequence[Text]) -> Side:
    if isinstance(value, str | dict):
        return Side([_text(name, value)], [name])
    if not 1 <= len(value) <= MAX_INPUTS:
        raise ValidationError(f"{name} must hold 1 to {MAX_INPUTS} texts, got {len(value)}.", parameter=name, value=len(value))
    names = [f"{name}[{index}]" for index in range(len(value))]
    return Side([_text(one, text) for one, text in zip(names, value, strict=True)], names)


def _text(name: str, value: Text) -> str:
    """The text of an item, its parts joined by line breaks."""
    if isinstance(value, str):
        return value
    content = value.get("text") if value.get("content") is None else value["content"]
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        return "\n".join(part_text(f"{name}.content[{index}]", part) for index, part in enumerate(content))
    raise ValidationError(f'{name} must be a text, or an object with "text" or "content".', parameter=name)


def part_text(name: str, part: Any) -> str:
    """The text of a part of a content: {"type": "text", "text": ...}.

    Raises:
        ValidationError: it is something else; calls it `name`.
    """
    if isinstance(part, dict) and part.get("type", "text") != "text":
        raise ValidationError(f"{name} is of type {str(part['type'])[:100]!r}; this model takes text only.", parameter=name)
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        raise ValidationError(f'{name} must be an object with a string "text".', parameter=name)
    return part["text"]
