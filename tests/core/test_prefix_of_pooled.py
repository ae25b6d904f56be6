"""What a pooled request may take from the prefix cache: it must see each token that it pools."""

from __future__ import annotations

import pytest

from octavo.core.request import Client, Request
from octavo.wire.messages import EngineRequest
from octavo.wire.pooling_spec import PoolingKind, PoolingSpec
from octavo.wire.sampling_spec import SamplingSpec


@pytest.mark.parametrize(("kind", "most"), [("last", 7), ("mean", 0), ("cls", 0), ("all", 0)])
def test_only_the_last_token_alone_may_skip_the_others(kind: PoolingKind, most: int) -> None:
    message = EngineRequest("r", list(range(8)), SamplingSpec(1, 0), 0.0, pooling=PoolingSpec((kind,)))
    assert Request(message, Client(b"c"), 0, 64, by_priority=False).max_prefix_hit == most
