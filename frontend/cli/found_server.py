"""Looks for a server on this machine that has a model already."""

from __future__ import annotations

import asyncio

from octavo.frontend.cli.address import Address
from octavo.frontend.cli.client import Client, ClientError
from octavo.short_names import full_name

_LOOK_SECONDS = 2.0


async def find_server(port: int, model: str | None, api_key: str | None) -> Client | None:
    """A client of the server on `port` if it has the model, None if there is none that does.

    Args:
        port: of this machine.
        model: None = whatever it has.
        api_key: the server's, if it wants one; a server that wants another is as good as none.
    """
    client = Client(Address(f"http://127.0.0.1:{port}"), None, api_key)
    try:
        listed = await asyncio.wait_for(client.models(), _LOOK_SECONDS)
    except (ClientError, TimeoutError):
        listed = []
    wanted = {model, full_name(model)} if model is not None else None
    for card in listed:
        if wanted is None or card["id"] in wanted or card.get("root") in wanted:
            client.model = card["id"]
            return client
    await client.close()
    return None
