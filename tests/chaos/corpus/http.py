"""HTTP that is not, almost, or too much: malformed lines, smuggling, floods of headers, clients slower than patience."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.inputs import Input, head, raw

_BODY = b'{"prompt": "a", "max_tokens": 1}'
_POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_GET = b"GET /version HTTP/1.1\r\nHost: localhost\r\n"
_LAST_GET = _GET + b"Connection: close\r\n\r\n"
_CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(190))
_ANY = (200, 400, 403, 404, 405, 408, 411, 413, 414, 415, 417, 431, 501, 505)
"""A parser may refuse these in more than one right way, or read them charitably."""


def inputs() -> Iterator[Input]:
    yield from _lines()
    yield from _headers()
    yield from _lengths()
    yield from _chunks()
    yield from _pipelines()
    yield from _slow()


def _one(name: str, *pieces: bytes | float, **options: object) -> Input:
    return raw(f"http/{name}", *pieces, expected=_ANY, silent=True, **options)  # type: ignore[arg-type]


def _lines() -> Iterator[Input]:
    lines = {
        "garbage": b"\x00\xff\xfe garbage\r\n\r\n",
        "a hundred empty lines": b"\r\n" * 100 + _LAST_GET,
        "tls hello": _CLIENT_HELLO,
        "http2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        "http 0.9": b"GET /version\r\n\r\n",
        "version 3": b"GET /version HTTP/3.0\r\nHost: localhost\r\n\r\n",
        "version 1.1.1": b"GET /version HTTP/1.1.1\r\nHost: localhost\r\n\r\n",
        "version of a thousand digits": b"GET /version HTTP/1." + b"1" * 1000 + b"\r\nHost: localhost\r\n\r\n",
        "small method": b"get /version HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "method of 8 kB": b"G" * 8192 + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "method with colon": b"GE:T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "no path": b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "path without slash": b"GET version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "path with space": b"GET /ver sion HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "path with NUL": b"GET /ver\x00sion HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "path with bytes above 127": b"GET /\xff\xc3\x28 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "path of 1 MB": b"GET /" + b"a" * 2**20 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "query of 1 MB": b"GET /version?" + b"a=b&" * 2**18 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "absolute uri": b"GET http://127.0.0.2:1/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "absolute uri with bad port": b"GET http://[::1]:99999999/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "absolute uri that is none": b"GET http://[ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "connect": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "options asterisk": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "bare line feeds": _LAST_GET.replace(b"\r\n", b"\n"),
        "bare carriage returns": _LAST_GET.replace(b"\r\n", b"\r"),
        "a gigabyte promised in one line": b"GET /" + b"a" * 60_000,
    }
    for name, data in lines.items():
        yield _one(name, data, leaves_after=2.0 if name.startswith("a gigabyte") else None)


def _headers() -> Iterator[Input]:
    end = b"Connection: close\r\n\r\n"
    headers = {
        "no host": b"",
        "two hosts": b"Host: a\r\nHost: b\r\n",
        "host that is none": b"Host: [::::]:x\r\n",
        "header without colon": b"Host: localhost\r\nNonsense\r\n",
        "space before colon": b"Host: localhost\r\nContent-Length : 3\r\n",
        "empty name": b"Host: localhost\r\n: x\r\n",
        "folded header": b"Host: localhost\r\nX: a\r\n b\r\n\tc\r\n",
        "NUL in a value": b"Host: localhost\r\nX: a\x00b\r\n",
        "CR in a value": b"Host: localhost\r\nX: a\rb\r\n",
        "bytes above 127": b"Host: localhost\r\nX: \xff\xfe\xc3\x28\r\n",
        "request id with bytes above 127": b"Host: localhost\r\nX-Request-Id: \xff\xfe\r\n",
        "request id of 8 kB": b"Host: localhost\r\nX-Request-Id: " + b"a" * 8000 + b"\r\n",
        "value of 8 kB": b"Host: localhost\r\nX: " + b"a" * 8000 + b"\r\n",
        "value of 1 MB": b"Host: localhost\r\nX: " + b"a" * 2**20 + b"\r\n",
        "name of 64 kB": b"Host: localhost\r\n" + b"a" * 2**16 + b": x\r\n",
        "ten thousand headers": b"Host: localhost\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(10_000)),
        "the same header a thousand times": b"Host: localhost\r\n" + b"X: y\r\n" * 1000,
        "cookies": b"Host: localhost\r\nCookie: " + b"a=b; " * 1500 + b"\r\n",
        "cookies that are none": b'Host: localhost\r\nCookie: \x01=\x02; ;;=;"\r\n',
        "keys of all kinds": b"Host: localhost\r\nAuthorization: Basic \xff\r\nAuthorization: Bearer\r\n",
        "expect nonsense": b"Host: localhost\r\nExpect: 200-maybe\r\n",
        "upgrade to websocket": b"Host: localhost\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n",
        "upgrade to h2c": b"Host: localhost\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "ranges": b"Host: localhost\r\nRange: bytes=" + b"0-1," * 500 + b"\r\n",
        "dates": b"Host: localhost\r\nIf-Modified-Since: Thu, 99 Foo 99999 99:99:99 GMT\r\n",
        "origin": b"Host: localhost\r\nOrigin: null\r\nAccess-Control-Request-Method: \x7f\r\n",
        "content type of 4 kB": b"Host: localhost\r\nContent-Type: " + b"a/" * 2000 + b";" * 50 + b"\r\n",
    }
    for name, data in headers.items():
        yield _one(name, b"GET /v1/models HTTP/1.1\r\n" + data + end)


def _lengths() -> Iterator[Input]:
    lengths = {
        "negative": b"-1", "not a number": b"abc", "signed": b"+32", "hexadecimal": b"0x20", "two in one": b"32, 32", "empty": b"",
        "of forty digits": b"9" * 40, "of five thousand digits": b"9" * 5000, "one underscore": b"3_2", "arabic": "٣٢".encode(),
    }  # fmt: skip
    for name, value in lengths.items():
        yield _one(
            f"length {name}", _POST + b"Connection: close\r\nContent-Length: " + value + b"\r\n\r\n" + _BODY, leaves_after=2.0
        )
    yield _one("two lengths", _POST + b"Content-Length: 32\r\nContent-Length: 5\r\nConnection: close\r\n\r\n" + _BODY)
    yield _one("a terabyte promised", _POST + b"Content-Length: 1099511627776\r\n\r\n" + _BODY)
    yield _one("no length", _POST + b"Connection: close\r\n\r\n" + _BODY)
    yield _one("body of a GET", _GET + b"Connection: close\r\nContent-Length: 32\r\n\r\n" + _BODY)
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n"
    yield _one("smuggling: length and chunked", _POST + both)
    for coding in (
        b"xchunked",
        b"chunked, identity",
        b"identity, chunked",
        b"\x0bchunked",
        b"gzip, chunked",
        b"chunked, chunked",
        b"CHUNKED",
    ):
        name = coding.decode("latin-1").strip("\x0b")
        yield _one(
            f"coding {name}{' behind a tab' * coding.startswith(bytes([11]))}",
            _POST + b"Transfer-Encoding: " + coding + b"\r\nConnection: close\r\n\r\n20\r\n" + _BODY + b"\r\n0\r\n\r\n",
            leaves_after=2.0,
        )


def _chunks() -> Iterator[Input]:
    start = _POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    end = b"\r\n0\r\n\r\n"
    chunks = {
        "size that is no number": b"zz\r\n" + _BODY + end,
        "negative size": b"-20\r\n" + _BODY + end,
        "size with 0x": b"0x20\r\n" + _BODY + end,
        "size of forty digits": b"F" * 40 + b"\r\n" + _BODY + end,
        "size of 64 kB": b"0" * 2**16 + b"20\r\n" + _BODY + end,
        "size with a space": b"20 \r\n" + _BODY + end,
        "size then a bare line feed": b"20\n" + _BODY + end,
        "extension of 64 kB": b"20;" + b"a" * 2**16 + b"\r\n" + _BODY + end,
        "chunk shorter than said": b"40\r\n" + _BODY + end,
        "chunk longer than said": b"5\r\n" + _BODY + end,
        "trailers": b"20\r\n" + _BODY + b"\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        "trailer that sets a length": b"20\r\n" + _BODY + b"\r\n0\r\nContent-Length: 5\r\n\r\n",
        "a million chunks of a byte": b"".join(b"1\r\n%c\r\n" % c for c in b'{"prompt": "' + b"a" * 1_000_000) + end,
        "no last chunk": b"20\r\n" + _BODY + b"\r\n",
    }
    for name, data in chunks.items():
        yield _one(name, start + data, leaves_after=2.0 if "last" in name or "said" in name else None)


def _pipelines() -> Iterator[Input]:
    post = _POST + b"Content-Length: %d\r\n\r\n" % len(_BODY) + _BODY
    yield _one("two hundred GETs at once", (_GET + b"\r\n") * 199 + _LAST_GET)
    yield _one("fifty POSTs at once", post * 50 + _LAST_GET)
    yield _one("POSTs at once, client gone", post * 50, leaves_after=0.05, resets=True)
    yield _one("good, then garbage", post + b"\x00\x01\x02\r\n\r\n")
    yield _one("twenty thousand GETs, nothing read", (_GET + b"\r\n") * 20_000, leaves_after=1.0, resets=True)


def _slow() -> Iterator[Input]:
    """Clients that never finish; the server has to end them, within its deadlines, and serve all others meanwhile."""
    start = _POST + b"Content-Length: %d\r\n\r\n" % (len(_BODY) + 10)
    waits = _ANY
    yield raw("slow/nothing at all", 0.0, expected=waits, silent=True, patience=150)
    yield raw("slow/an empty line", b"\r\n\r\n", expected=waits, silent=True, patience=150)
    yield raw("slow/half a line", b"GET /vers", expected=waits, silent=True, patience=150)
    yield raw("slow/half the headers", _POST, expected=waits, silent=True, patience=150)
    yield raw("slow/no body", start, expected=waits, silent=True, patience=150)
    yield raw("slow/half a body", start + _BODY, expected=waits, silent=True, patience=150)
    yield raw(
        "slow/half a chunk",
        _POST + b"Transfer-Encoding: chunked\r\n\r\n40\r\n" + _BODY,
        expected=waits,
        silent=True,
        patience=150,
    )
    drip = [piece for byte in _BODY for piece in (bytes([byte]), 0.1)]
    yield raw("slow/a byte at a time", start, *drip, expected=waits, silent=True, patience=150)
    yield raw("slow/headers, one at a time", _POST, *[p for i in range(40) for p in (b"X-%d: y\r\n" % i, 0.1)], expected=waits,
              silent=True, patience=150)  # fmt: skip
    yield raw(
        "slow/expects 100, then nothing",
        head("POST", "/v1/completions", {"Content-Type": "application/json", "Content-Length": "50", "Expect": "100-continue"}),
        expected=(100, *waits),
        silent=True,
        patience=150,
    )
