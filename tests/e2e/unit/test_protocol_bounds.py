"""No request body holds an integer without bounds: what is larger than 64 bits cannot go to the core."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from octavo.frontend.server.chat.protocol import CHAT_BODY
from octavo.frontend.server.classify.protocol import CLASSIFY_BODY
from octavo.frontend.server.cohere_embed.protocol import EMBED_BODY
from octavo.frontend.server.completions.protocol import COMPLETION_BODY
from octavo.frontend.server.embeddings.protocol import EMBEDDING_BODY
from octavo.frontend.server.generate.protocol import GENERATE_BODY
from octavo.frontend.server.pooling.protocol import POOLING_BODY
from octavo.frontend.server.score.protocol import RERANK_BODY, SCORE_BODY
from octavo.frontend.server.tokenize.protocol import DETOKENIZE_BODY, TOKENIZE_BODY

BODIES = [
    CHAT_BODY, COMPLETION_BODY, GENERATE_BODY, DETOKENIZE_BODY, TOKENIZE_BODY, EMBEDDING_BODY, POOLING_BODY, CLASSIFY_BODY, SCORE_BODY,
    RERANK_BODY, EMBED_BODY,
]  # fmt: skip


def integers(info: msgspec.inspect.Type, path: str) -> Iterator[tuple[str, msgspec.inspect.IntType]]:
    """Every integer type within a type, by where it is."""
    if isinstance(info, msgspec.inspect.IntType):
        yield path, info
    if isinstance(info, msgspec.inspect.StructType):
        for field in info.fields:
            yield from integers(field.type, f"{path}.{field.name}")
    for part in getattr(info, "types", ()):
        yield from integers(part, path)
    for name in ("item_type", "key_type", "value_type"):
        part = getattr(info, name, None)
        if part is not None:
            yield from integers(part, f"{path}[{name}]")


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body._decoder.type.__name__)
def test_every_integer_of_a_body_is_bounded(body: object) -> None:
    struct = body._decoder.type  # type: ignore[attr-defined]
    found = dict(integers(msgspec.inspect.type_info(struct), struct.__name__))
    assert found or struct.__name__ == "TokenizeRequest"
    for path, kind in found.items():
        assert kind.ge is not None, path
        assert kind.le is not None, path
        assert -(2**63) <= kind.ge <= kind.le < 2**63, path
