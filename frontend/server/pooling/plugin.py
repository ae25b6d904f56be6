"""What answers `/pooling` requests with `data`: the hook for IO Processor plugins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from octavo.frontend.server.pooling.protocol import PoolingRequest

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM


@dataclass(frozen=True, slots=True)
class PluginAnswer:
    """A plugin's whole answer.

    Attributes:
        body: JSON.
        headers: to send with it.
    """

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class PluginPooling(Protocol):
    """A server's plugins; `ServerState.plugins` has them."""

    async def answer(self, engine: AsyncLLM, request: PoolingRequest, request_id: str) -> PluginAnswer:
        """Have a plugin and the model do one request. Who stops waiting aborts it.

        Args:
            engine: runs the prompts that the plugin makes.
            request: its `data` is any JSON, null too.
            request_id: of the answer, "pooling-..."; prompts have it with their index behind.

        Raises:
            ValidationError: the plugin or the engine refuses the request, naming a field.
            OctavoError: what else goes wrong, with the status of `errors.describe`.
        """
