"""Every route asked in ways it was not made for: other methods, other spellings, names too long."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from chaos.inputs import Input, get

from octavo.frontend.server.app import ROUTES

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "X")
_NAMES = {
    "empty": "", "slash": "/", "dots": "../../etc/passwd", "encoded dots": "%2e%2e/%2e%2e/etc/passwd", "NUL": "%00", "half a percent": "%",
    "no hexadecimal": "%zz", "no UTF-8": "%ff%fe", "surrogate": "%ed%a0%80", "6 kB": "a" * 6000, "emoji": quote("😀" * 300),
    "line break": "a%0d%0aX-Injected:1", "quotes": "%22%27%3Cscript%3E", "braces": "{model}", "semicolon": ";a=b", "template": "%7B%7B7*7%7D%7D",
}  # fmt: skip


def inputs() -> Iterator[Input]:
    for path in dict.fromkeys(path for _, path, _ in ROUTES):
        for method in _METHODS:
            # No body: POST is a 400 where one is needed, and 200 where none is.
            yield get(f"routes/{method} {path}", path.replace("{model:.+}", "m"), method=method)
    for name, text in _NAMES.items():
        yield get(f"routes/model {name}", f"/v1/models/{text}")
        yield get(f"routes/path {name}", f"/{text}")
        yield get(f"routes/query {name}", f"/v1/models?{text}={text}&{text}")
        yield get(f"routes/fragment {name}", f"/version#{text}")
    for name, headers in {
        "preflight": {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        "preflight without origin": {"Access-Control-Request-Method": "POST"},
        "preflight of nonsense": {
            "Origin": "\xff",
            "Access-Control-Request-Method": "X" * 4000,
            "Access-Control-Request-Headers": "a," * 2000,
        },
    }.items():
        yield get(f"routes/{name}", "/v1/completions", method="OPTIONS", headers=headers)
    yield get("routes/near miss", "/v1/completion", 404)
    yield get("routes/doubled", "/v1/v1/models", 404)
    yield get("routes/slash at the end", "/v1/models/")
