"""Bodies of the operator's routes."""

from __future__ import annotations

from typing import Any

import msgspec

from octavo.frontend.server.body import BodyType


class RpcRequest(msgspec.Struct, kw_only=True):
    """A call of the workers by name."""

    method: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    timeout: float | None = None


class AbortRequest(msgspec.Struct, kw_only=True):
    """Ids of answers (cmpl-..., chatcmpl-...) to end; none = all."""

    request_ids: list[str] | None = None


RPC_BODY = BodyType(RpcRequest)
ABORT_BODY = BodyType(AbortRequest)
