"""What a server's model is there for: text, vectors or classes; other routes say so and name the flag to change."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler

from octavo.frontend.server.errors import ApiError
from octavo.frontend.server.state import STATE

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM


def generating(api: str, handler: Handler) -> Handler:
    """A route that generates text, and is refused where the model is served for pooling.

    Args:
        api: the route's name in the refusal.
        handler: answers it.
    """

    async def generate(request: web.Request) -> web.StreamResponse:
        tasks = request.app[STATE].check_accepting().supported_pooling_tasks
        if tasks:
            raise not_supported(api, f"it is served for pooling ({', '.join(tasks)}); --runner generate generates text")
        return await handler(request)

    return generate


def check_pooling(engine: AsyncLLM, api: str, *needed: str) -> str:
    """The first of the `needed` tasks that the model is served for; any will do when none is named.

    Raises:
        ApiError: 501, it is served for none of them.
    """
    tasks = engine.supported_pooling_tasks
    if not tasks:
        raise not_supported(api, "it is served to generate text; --runner pooling makes vectors of it")
    for task in needed or tasks:
        if task in tasks:
            return task
    wanted = " or ".join(needed)
    raise not_supported(
        api, f"that needs the task {wanted}, and it is served for {', '.join(tasks)} (--runner pooling, --convert)"
    )


def not_supported(api: str, why: str) -> ApiError:
    """501 in vLLM's words, and not to be tried again."""
    message = f"The model does not support {api} API: {why}."
    return ApiError(HTTPStatus.NOT_IMPLEMENTED, message, headers={"x-should-retry": "false"})
