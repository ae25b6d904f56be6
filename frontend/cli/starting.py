"""Waits for a server that is starting, and says so meanwhile."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from octavo.frontend.server.status_line import StatusLine

if TYPE_CHECKING:
    from octavo.frontend.cli.client import Client

_INTERVAL = 0.2
_STARTING = "starting"


async def wait_until_started(client: Client) -> None:
    """Until the client's server is past its start; at once where it does not say that it is starting."""
    line = StatusLine(sys.stderr) if sys.stderr.isatty() else None
    told = False
    while (startup := await client.startup()) is not None and startup["phase"] == _STARTING:
        if line is not None:
            line.show(_shown(client, startup))
        elif not told:
            print(f"waiting for {client.address}, which is starting", file=sys.stderr, flush=True)
        told = True
        await asyncio.sleep(_INTERVAL)
    if told and line is not None:
        line.show("")


def _shown(client: Client, startup: dict[str, Any]) -> str:
    step, fraction = startup.get("step"), startup.get("fraction")
    done = f": {step} {fraction:.0%}" if isinstance(step, str) and isinstance(fraction, float) else ""
    return f"waiting for {client.address}, which is starting{done}"
