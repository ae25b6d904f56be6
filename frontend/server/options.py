"""Options of the HTTP server, one field each; `octavo serve` makes its flags from them."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo import envs
from octavo.config.option import flag_name, option
from octavo.errors import ConfigError

DEFAULT_MAX_BODY_SIZE = 32 * 1024 * 1024


@dataclass
class ServerOptions:
    """Where the server listens, whom it lets in, and how it answers."""

    host: str = option("127.0.0.1", "Address to listen on; 0.0.0.0 = every interface.")
    port: int = option(8000, "TCP port; 0 = any free one.")
    uds: str | None = option(None, "Listen on this Unix socket instead of a TCP port.")
    api_key: list[str] | None = option(
        None, "Keys of which clients must send one as a bearer token; also OCTAVO_API_KEY. Given without a key, nothing starts."
    )
    allowed_origins: list[str] = option([], "Origins that browsers may call from (CORS); * = any, none = no browser.")
    allowed_methods: list[str] = option(["*"], "Methods that browsers may use (CORS).")
    allowed_headers: list[str] = option(["*"], "Request headers that browsers may send (CORS).")
    allowed_hosts: list[str] = option(
        [],
        "Host names that requests may be for, besides localhost, --host and addresses, where the server listens on a loopback "
        "address without a key; * = any.",
    )
    root_path: str = option("", "Path prefix under which a proxy publishes the server; routes answer with and without it.")
    ssl_keyfile: str | None = option(None, "Private key file; serves HTTPS together with --ssl-certfile.")
    ssl_certfile: str | None = option(None, "Certificate chain file.")
    ssl_ca_certs: str | None = option(None, "CA file; clients must then show a certificate signed by it.")
    web_ui: bool = option(True, "Answer browsers at / with a page to chat in and a dashboard.")
    max_body_size: int = option(DEFAULT_MAX_BODY_SIZE, "Largest request body in bytes; a larger one is refused with 413.")
    body_timeout: float = option(60.0, "Seconds a client may take to send a request's body; 0 = no limit.")
    request_timeout: float = option(0.0, "Seconds a request may take before it is ended with 504; 0 = no limit.")
    shutdown_timeout: float = option(30.0, "Seconds that running requests get to finish after SIGTERM.")
    keep_alive_timeout: float = option(75.0, "Seconds an idle connection is kept open.")
    max_concurrent_requests: int = option(
        0, "Requests to the model that may be in flight; one more is refused with 429. 0 = only the engine's queue limits."
    )
    strict_params: bool = option(False, "Refuse unknown fields of a request body with 400 instead of warning in a header.")
    log_level: str | None = option(
        None, "Least level of log lines; unset = OCTAVO_LOG_LEVEL, or info.", choices=("debug", "info", "warning", "error")
    )
    log_format: str | None = option(
        None,
        "Form of log lines: text, or one JSON object a line; unset = OCTAVO_LOG_FORMAT, or text.",
        choices=("text", "json"),
    )
    verbose: bool = option(False, "Say on a terminal, too, where the time of the start went; a log always says it.")
    disable_access_log: bool = option(False, "No log line per request.", flag="--disable-uvicorn-access-log")
    metrics_prefix: str = option(
        "octavo", "What metrics' names begin with, before a colon; vllm = dashboards made for vLLM find them."
    )
    enable_request_id_headers: bool = option(True, "Send every answer's request id in X-Request-Id.")
    response_role: str = option("assistant", "Role of the messages that the server answers with.")
    chat_template_content_format: str = option(
        "auto",
        "How the chat template takes a message's content: as a string, or as OpenAI's list of parts; auto asks the template.",
        choices=("auto", "string", "openai"),
    )
    default_chat_template_kwargs: dict[str, Any] = option(
        {}, "JSON of variables for the chat template; a request's chat_template_kwargs go first."
    )
    trust_request_chat_template: bool = option(False, "Let requests bring their own chat template.")
    enable_tokenizer_info_endpoint: bool = option(False, "Answer GET /tokenizer_info: special tokens and the chat template.")
    enable_prompt_tokens_details: bool = option(False, "Report cached prompt tokens in usage.")
    enable_force_include_usage: bool = option(
        False, "Report usage in every chunk of a stream and at its end, as if the client had asked for it."
    )
    enable_per_request_metrics: bool = option(
        False, "Report a request's timings in its answer, or its stream's usage chunk (n = 1)."
    )
    return_tokens_as_token_ids: bool = option(
        False, "Spell tokens in logprobs as token_id:N, for tokens that are no valid text."
    )
    sse_keep_alive_interval: float = option(0.0, "Seconds of silence after which a stream gets a comment line; 0 = never.")

    def check(self) -> None:
        """Raise ConfigError naming the flag whose value cannot work."""
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if choices and value is not None and value not in choices:
                raise ConfigError(f"{flag_name(field.name)} must be one of {', '.join(choices)}, got {value!r}")
        for name, low in _LOWEST.items():
            value = getattr(self, name)
            if not value >= low:
                raise ConfigError(f"{flag_name(name)} must be at least {low}, got {value}")
            if isinstance(value, float) and value > _MOST_SECONDS:
                raise ConfigError(f"{flag_name(name)} must be at most {_MOST_SECONDS:.0f} seconds, got {value}")
        if 0 < self.sse_keep_alive_interval < _SHORTEST_KEEP_ALIVE:
            raise ConfigError(
                f"--sse-keep-alive-interval must be 0 or at least {_SHORTEST_KEEP_ALIVE}, got {self.sse_keep_alive_interval}"
            )
        if not self.response_role.strip() or not self.response_role.isprintable():
            raise ConfigError(f"--response-role must be a name of printable characters, got {self.response_role!r}")
        if self.port > 65535:
            raise ConfigError(f"--port must be at most 65535, got {self.port}")
        if not self.host and self.uds is None:
            raise ConfigError("--host must not be empty; 0.0.0.0 is every interface")
        self._check_protection()
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", self.metrics_prefix):
            raise ConfigError(f"--metrics-prefix must be letters, digits and _, no digit first, got {self.metrics_prefix!r}")
        misplaced = sorted(NOT_TEMPLATE_KWARGS & self.default_chat_template_kwargs.keys())
        if misplaced:
            raise ConfigError(f"--default-chat-template-kwargs may not hold {', '.join(misplaced)}")
        self._check_root_path()
        for flag in ("allowed_origins", "allowed_methods", "allowed_headers"):
            for value in getattr(self, flag):
                if not value.isascii() or not value.isprintable():
                    raise ConfigError(f"{flag_name(flag)} must be printable ASCII, got {value!r}")
        for name in self.allowed_hosts:
            if not _HOST_NAME.fullmatch(name):
                raise ConfigError(f"--allowed-hosts must be names without scheme and port, or *, got {name!r}")

    def _check_root_path(self) -> None:
        """It becomes part of routes and of a redirect: plain segments only."""
        if not self.prefix and self.root_path in ("", "/"):
            return
        if not _ROOT_PATH.fullmatch(self.root_path) or {".", ".."} & set(self.root_path.split("/")):
            raise ConfigError(
                "--root-path must begin with / and have letters, digits, and . _ ~ - in its segments, none of them empty, . or .., "
                f"got {self.root_path!r}"
            )

    def _check_protection(self) -> None:
        """An option that protects holds, or the server does not start: an empty one is most likely a variable that is not set."""
        for name in ("uds", "ssl_keyfile", "ssl_certfile", "ssl_ca_certs"):
            path = getattr(self, name)
            if path == "":
                raise ConfigError(f"{flag_name(name)} must not be empty; leave it out to do without")
            if path is not None and name != "uds" and not Path(path).is_file():
                raise ConfigError(f"{flag_name(name)}: no file {path}")
        if (self.ssl_keyfile is None) != (self.ssl_certfile is None):
            raise ConfigError("--ssl-keyfile and --ssl-certfile must be given together")
        if self.ssl_ca_certs is not None and self.ssl_certfile is None:
            raise ConfigError("--ssl-ca-certs needs --ssl-certfile: without TLS no client shows a certificate")
        if self.api_key is not None and not self.api_key:
            raise ConfigError("--api-key is given without a key; give one, or leave the option out to serve everybody")
        _check_keys("--api-key", self.api_key or [])
        if envs.API_KEY is not None:
            _check_keys(envs.source("API_KEY"), [envs.API_KEY])

    @property
    def prefix(self) -> str:
        """`root_path` without its closing slash."""
        return self.root_path.rstrip("/")

    def time_limit(self, asked: float | None) -> float | None:
        """Seconds that a request may take which asks for `asked` itself; None = no limit."""
        return min((limit for limit in (asked, self.request_timeout) if limit), default=None)

    def key_ring(self) -> KeyRing:
        """The keys of --api-key and OCTAVO_API_KEY."""
        from_environment = envs.API_KEY
        return KeyRing([*(self.api_key or []), *([] if from_environment is None else [from_environment])])


class KeyRing:
    """API keys, kept as digests and compared in constant time; an empty ring lets everyone in."""

    def __init__(self, keys: list[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accepts(self, key: str) -> bool:
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)


def _check_keys(where: str, keys: list[str]) -> None:
    """A key that no client can send protects from its owner, too."""
    for key in keys:
        if not key.strip():
            raise ConfigError(f"{where} must not be empty; leave it out to serve everybody")
        if key != key.strip() or not key.isprintable():
            raise ConfigError(f"{where} holds blanks around a key, or characters that cannot be sent in a header")


NOT_TEMPLATE_KWARGS = frozenset(
    {
        "messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "chat_template", "content_format",
        "tokenize",
    }
)  # fmt: skip
"""What a request says in fields of its own, or not at all."""

PROTECTING = frozenset({"api_key", "ssl_keyfile", "ssl_certfile", "ssl_ca_certs"})
"""Options that must not be taken for left out where a configuration file gives them without a value."""

_ROOT_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+|\*")
_MOST_SECONDS = 1e9
_SHORTEST_KEEP_ALIVE = 0.01
"""Seconds; comment lines at a quicker pace would be work for nothing."""
_LOWEST = {
    "port": 0, "max_body_size": 1, "body_timeout": 0, "request_timeout": 0, "shutdown_timeout": 0, "keep_alive_timeout": 0,
    "max_concurrent_requests": 0, "sse_keep_alive_interval": 0,
}  # fmt: skip
