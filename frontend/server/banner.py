"""What a person reads when the server is ready: what serves, where, and what to try."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.command_name import command
from octavo.frontend.server.options import ServerOptions
from octavo.sources.model_facts import model_facts, scaled
from octavo.version import __version__


def banner(engine: AsyncLLM, url: str, seconds: float, options: ServerOptions) -> str:
    """The banner, without a line end.

    Args:
        engine: ready to serve.
        url: of the server, as `url_of` gives it.
        seconds: the start took.
        options: of the server.
    """
    near = _near(url)
    rows = [
        ("model", _model(engine)),
        ("device", engine.ready.device),
        ("context", _context(engine)),
        ("API", f"{near if near.startswith('unix:') else near + '/v1'}  ({_key(options)})"),
    ]
    if options.web_ui and not near.startswith("unix:"):
        rows.append(("browser", near + "/"))
    rows += [("try", line) for line in things_to_try(url, options, engine.supported_pooling_tasks)]
    rows.append(("stop", "Ctrl-C"))
    title = f"Octavo {__version__} is ready after {seconds:.1f} s: {engine.config.model.name}"
    lines, before = [title, ""], ""
    for name, text in rows:
        lines.append(f"  {'' if name == before else name:<8} {text}")
        before = name
    return "\n".join(lines)


def _model(engine: AsyncLLM) -> str:
    model = engine.config.model
    facts = model_facts(model.path, model.format)
    if not facts.parameters:
        return f"{model.architecture}, random weights, computed in {model.dtype}"
    how = {"int8": "8-bit products", "gguf": "products with its blocks", None: model.dtype}[model.quantization]
    return f"{model.architecture}, {scaled(facts.parameters)} parameters, {facts.weights} in {how}"


def _context(engine: AsyncLLM) -> str:
    cache = engine.ready.num_cache_tokens
    return f"{engine.ready.max_model_len} tokens a request{f', KV cache for {cache}' if cache else ''}"


def _key(options: ServerOptions) -> str:
    return "an API key is needed" if options.key_ring() else "no API key: everyone who reaches it may use it"


def _near(url: str) -> str:
    """The URL as this machine's own programs reach it."""
    return url.replace("://0.0.0.0:", "://127.0.0.1:", 1).replace("://[::]:", "://[::1]:", 1)


def things_to_try(url: str, options: ServerOptions, tasks: Sequence[str] = ()) -> list[str]:
    """Commands that ask the server at `url`: a chat, and curl; of a model that pools, which has `tasks`, curl alone."""
    near = _near(url)
    key = "OCTAVO_API_KEY=KEY " if options.key_ring() else ""
    default = near in ("http://127.0.0.1:8000", "http://[::1]:8000")
    cacert = f" --cacert {options.ssl_certfile}" if options.ssl_certfile else ""
    chat = f"{key}{command()} chat{'' if default else f' --url {near}'}{cacert}"
    socket, root = "", near
    if near.startswith("unix:"):
        socket, root = f" --unix-socket {near.removeprefix('unix:')}", "http://localhost"
    header = " -H 'Authorization: Bearer KEY'" if key else ""
    path, body = _example(tasks)
    curl = f"curl{socket}{cacert} {root}{path} -H 'Content-Type: application/json'{header} -d '{body}'"
    return [curl] if tasks else [chat, curl]


def _example(tasks: Sequence[str]) -> tuple[str, str]:
    """Path and body of a request that the model can answer."""
    if not tasks:
        return "/v1/chat/completions", '{"messages": [{"role": "user", "content": "Name three rivers."}]}'
    path = {"embed": "/v1/embeddings", "classify": "/classify"}.get(tasks[0], "/pooling")
    return path, '{"input": "Three rivers meet here."}'
