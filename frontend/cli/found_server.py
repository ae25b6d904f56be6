"""Looks for a server on this machine that has a model already."""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import Any

from octavo.frontend.cli.address import Address
from octavo.frontend.cli.client import Client, ClientError
from octavo.frontend.cli.starting import wait_until_started
from octavo.sources.short_names import full_name

_LOOK_SECONDS = 2.0


async def find_server(port: int, model: str | None, api_key: str | None) -> Client | None:
    """A client of the server on `port` if it has the model, None if there is none that does.

    Args:
        port: of this machine.
        model: None = whatever it has.
        api_key: the server's, if it wants one; a server that wants another is as good as none, which is said.
    """
    client = Client(Address(f"http://127.0.0.1:{port}"), None, api_key)
    listed: list[dict[str, Any]] = []
    try:
        if await asyncio.wait_for(client.startup(), _LOOK_SECONDS) is not None:
            await wait_until_started(client)
        listed = await asyncio.wait_for(client.models(), _LOOK_SECONDS)
    except TimeoutError:
        pass  # something else than a server of models holds the port
    except ClientError as error:  # nobody listens, most often
        if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            print(
                f"the server on port {port} wants a key (--api-key, OCTAVO_API_KEY): the model runs here instead",
                file=sys.stderr,
            )
    wanted = {model, full_name(model)} if model is not None else None
    for card in listed:
        if wanted is None or card["id"] in wanted or card.get("root") in wanted:
            client.model = card["id"]
            return client
    await client.close()
    return None
