"""The loop that hands on what the core sends, in turns that end: a core may be faster than its frontend for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NoReturn

from octavo.wire.messages import CoreOutputs

if TYPE_CHECKING:
    from octavo.core.client import CoreClient

_TURN = 0.01
"""Seconds for which what the core has sent may be worked on before other tasks of the event loop get their turn."""
_DELIVERY_INTERVAL = 0.05
"""Seconds after which consumers hear of what came, though more is there already."""


async def pump_core(
    client: CoreClient, take: Callable[[CoreOutputs], Awaitable[None]], deliver: Callable[[], Awaitable[None]]
) -> NoReturn:
    """Hand on one core's messages until it is gone.

    Args:
        take: takes a message in.
        deliver: tells consumers of all that was taken in; when nothing more is there, so that several steps go out together.

    Raises:
        EngineDeadError: the core is gone and all it sent has been handed on.
    """
    while True:
        await take(await client.outputs())
        turn_began = delivered = time.monotonic()
        while client.has_outputs:
            if time.monotonic() - turn_began > _TURN:
                await asyncio.sleep(0)
                turn_began = time.monotonic()
            if turn_began - delivered > _DELIVERY_INTERVAL:
                await deliver()
                turn_began = delivered = time.monotonic()
            await take(await client.outputs())
        await deliver()
