"""Hostile inputs written by hand, one module a family. Each is of a kind that has brought some server down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from chaos.corpus import bodies, fields, http, leaving, routes, templates, texts
from chaos.inputs import Input

FAMILIES = (http, routes, bodies, fields, texts, templates, leaving)


def inputs() -> Iterator[Input]:
    """All of them, family by family."""
    for family in FAMILIES:
        yield from family.inputs()


def sample(every: Mapping[str, int], otherwise: int = 1) -> Iterator[Input]:
    """The first and each so-manieth input of a family; of families not in `every` each `otherwise`-th, none when that is 0."""
    seen: Counter[str] = Counter()
    for item in inputs():
        step = every.get(item.family, otherwise)
        if step and seen[item.family] % step == 0:
            yield item
        seen[item.family] += 1
