"""`/classify`: what comes in and what goes out."""

from __future__ import annotations

import msgspec

from octavo.frontend.server.body import BodyType
from octavo.frontend.server.pooling.fields import REFUSED, WITHOUT_EFFECT, InputFields


class ClassifyRequest(InputFields, kw_only=True):
    """Body of a classification request."""


CLASSIFY_BODY = BodyType(ClassifyRequest, refused=REFUSED, without_effect=WITHOUT_EFFECT)


class Classification(msgspec.Struct):
    """What one input is.

    Attributes:
        label: the most probable class, by its name in the model's config.
        probs: of each class.
    """

    index: int
    label: str | None
    probs: list[float]
    num_classes: int
