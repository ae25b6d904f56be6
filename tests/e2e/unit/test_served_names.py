"""Names that a served model answers to."""

from __future__ import annotations

import msgspec
import pytest
from local_server import LocalServer

FULL = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.mark.parametrize(("name", "status"), [("smollm2", 200), ("SmolLM2:135m", 200), (FULL, 200), ("smollm3", 404)])
async def test_a_short_name(server: LocalServer, name: str, status: int) -> None:
    config = server.engine.config
    server.engine.config = msgspec.structs.replace(
        config, model=msgspec.structs.replace(config.model, served_model_names=(FULL,))
    )
    answered, _ = await server.post("/v1/completions", {"model": name, "prompt": "one", "max_tokens": 1})
    assert answered == status
