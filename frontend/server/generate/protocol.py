"""`/generate`, the plain protocol: a prompt and sampling parameters in, texts out."""

from __future__ import annotations

import msgspec

from octavo.frontend.server.body import BodyType
from octavo.frontend.server.fields import REFUSED, WITHOUT_EFFECT, GenerationFields, Int64


class GenerateRequest(GenerationFields, kw_only=True):
    """Body of a plain request: the fields of `SamplingParams` beside the prompt."""

    prompt: str
    logprobs: Int64 | None = None
    best_of: Int64 | None = None
    """Sequences to make, of which the `n` most likely are answered."""


GENERATE_BODY = BodyType(GenerateRequest, refused=REFUSED, without_effect=WITHOUT_EFFECT)


class GenerateResponse(msgspec.Struct):
    """For each sequence the prompt and its continuation; a stream sends it again and again, longer each time."""

    text: list[str]
