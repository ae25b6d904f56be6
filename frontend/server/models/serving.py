"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from aiohttp import web

from octavo.frontend.server.models.protocol import ModelCard, ModelList, ModelPermission
from octavo.frontend.server.responses import json_response
from octavo.frontend.server.state import STATE, ServerState


async def list_models(request: web.Request) -> web.Response:
    """Every name that requests may ask for."""
    state = request.app[STATE]
    return json_response(ModelList([model_card(state, name) for name in state.engine.config.model.served_model_names]))


async def get_model(request: web.Request) -> web.Response:
    """One of them."""
    state = request.app[STATE]
    return json_response(model_card(state, state.check_model(request.match_info["model"])))


def model_card(state: ServerState, name: str) -> ModelCard:
    engine = state.engine
    permission = ModelPermission(f"modelperm-{name}", state.created)
    return ModelCard(name, state.created, engine.config.model.name, engine.max_model_len, [permission])
