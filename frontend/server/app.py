"""The application: every route in one table."""

from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from octavo.errors import ConfigError
from octavo.frontend.server import middleware, probes
from octavo.frontend.server.absent import absent_routes
from octavo.frontend.server.chat.serving import chat_completions
from octavo.frontend.server.classify.serving import classify
from octavo.frontend.server.cohere_embed.serving import embed
from octavo.frontend.server.completions.serving import completions
from octavo.frontend.server.dev.serving import DEV_ROUTES
from octavo.frontend.server.embeddings.serving import embeddings
from octavo.frontend.server.generate.serving import generate
from octavo.frontend.server.models.serving import get_model, list_models
from octavo.frontend.server.page.serving import PAGE_PATHS, page_routes, to_root
from octavo.frontend.server.pooling.serving import pooling
from octavo.frontend.server.score.serving import rerank, score
from octavo.frontend.server.state import STATE, ServerState
from octavo.frontend.server.tasks import generating
from octavo.frontend.server.tokenize.serving import detokenize, tokenize, tokenizer_info

ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/health", probes.health),
    ("GET", "/livez", probes.livez),
    ("GET", "/readyz", probes.readyz),
    ("GET", "/startup", probes.startup),
    ("GET", "/ping", probes.health),
    ("POST", "/ping", probes.health),
    ("GET", "/version", probes.version),
    ("GET", "/load", probes.load),
    ("GET", "/metrics", probes.metrics),
    ("GET", "/v1/models", list_models),
    ("GET", "/v1/models/{model:.+}", get_model),
    ("POST", "/v1/chat/completions", generating("Chat Completions", chat_completions)),
    ("POST", "/v1/completions", generating("Completions", completions)),
    ("POST", "/generate", generating("Generate", generate)),
    ("POST", "/v1/embeddings", embeddings),
    ("POST", "/v2/embed", embed),
    ("POST", "/pooling", pooling),
    ("POST", "/classify", classify),
    *(("POST", path, score) for path in ("/score", "/v1/score")),
    *(("POST", path, rerank) for path in ("/rerank", "/v1/rerank", "/v2/rerank")),
    ("POST", "/tokenize", tokenize),
    ("POST", "/detokenize", detokenize),
    ("GET", "/tokenizer_info", tokenizer_info),
    *DEV_ROUTES,
]

OPEN_PATHS = frozenset({"/health", "/livez", "/readyz", "/startup", *PAGE_PATHS})
"""Answered without a key: a load balancer has none, and the page is where one is typed in."""


def make_app(state: ServerState) -> web.Application:
    """All routes, with and without --root-path before them.

    Raises:
        ConfigError: --root-path begins as one of the routes does.
    """
    _check_prefix(state.options.prefix)
    app = web.Application()
    app[STATE] = state
    prefixes = dict.fromkeys(("", state.options.prefix))
    for prefix in prefixes:
        for method, path, handler in (*ROUTES, *absent_routes(), *page_routes(state.options)):
            if method == hdrs.METH_GET:
                app.router.add_get(prefix + path, handler, expect_handler=middleware.expect_nothing)
            else:
                app.router.add_route(method, prefix + path, handler, expect_handler=middleware.expect_nothing)
    open_paths = {prefix + path for prefix in prefixes for path in OPEN_PATHS}
    if state.options.prefix:
        app.router.add_get(state.options.prefix, to_root(state.options.prefix))
        open_paths.add(state.options.prefix)
    middleware.install(app, frozenset(open_paths))
    return app


def _check_prefix(prefix: str) -> None:
    """With /v1 before it, a route could mean another one without it."""
    begins = {path.split("/")[1] for path in (*(path for _, path, _ in ROUTES), *PAGE_PATHS)} - {""}
    if prefix and prefix.split("/")[1] in begins:
        raise ConfigError(f"--root-path must not begin as a route of the server does, got {prefix!r}")
