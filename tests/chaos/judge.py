"""What is wrong with a server's answers to an input."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from chaos.send import Answer, Result

GATEWAY_TIMEOUT = 504
"""The one status of the 500s that can be the client's own doing: it asked for a `timeout`."""


class Fault(NamedTuple):
    """One thing that should not have happened, of a `kind` that the table counts."""

    kind: str
    input: str
    detail: str


class Judge:
    """Judges results, and remembers which error types each status came with.

    Args:
        documented: hold answers against Octavo's documentation: expected statuses, the exact shape of errors, one type a
            status. Without it only what any OpenAI-compatible server must do counts.
    """

    def __init__(self, documented: bool) -> None:
        self._documented = documented
        self._types: defaultdict[int, dict[str, str]] = defaultdict(dict)

    def faults(self, result: Result) -> Iterator[Fault]:
        """What is wrong, each kind once."""
        seen = set()
        for kind, detail in self._wrong(result):
            if kind not in seen:
                seen.add(kind)
                yield Fault(kind, result.input.name, detail)

    def faults_of_all(self) -> Iterator[Fault]:
        """What only the whole run shows: a status whose errors are of more than one type."""
        for status, types in self._types.items():
            if len(types) > 1:
                yield Fault("shape", next(iter(types.values())), f"status {status} has several types, first seen with {types}")

    def _wrong(self, result: Result) -> Iterator[tuple[str, str]]:
        item = result.input
        if result.refused:
            yield "refused", "nobody listens"
        elif result.hung:
            yield "hung", f"no answer and no end after {result.ended - result.began:.0f} s"
        elif not result.answers and not item.silent and item.leaves_after is None:
            yield "no answer", "the connection was closed without one"
        for answer in result.answers:
            yield from self._wrong_answer(result, answer)

    def _wrong_answer(self, result: Result, answer: Answer) -> Iterator[tuple[str, str]]:
        status, shown = answer.status, f"{answer.status} {answer.body[:300]!r}"
        if status >= 500 and status != GATEWAY_TIMEOUT and status != 501:
            yield "5xx", shown
        elif self._documented and result.input.expected and status not in result.input.expected:
            yield "status", f"{shown} instead of {sorted(result.input.expected)}"
        if not answer.whole:
            if result.input.leaves_after is None and not result.hung:
                yield "cut off", shown
        elif (status >= 400 and (wrong := self._error_shape(result.input.name, answer))) or (
            status == 200 and (wrong := success_shape(answer))
        ):
            yield "shape", f"{wrong}: {shown}"

    def _error_shape(self, name: str, answer: Answer) -> str:
        """Why this is no error as documented; "" when it is one."""
        if not answer.body and "content-length" in answer.headers and answer.headers["content-length"] != "0":
            return ""  # of a HEAD
        try:
            error = json.loads(answer.body)["error"]
            message, kind = error["message"], error["type"]
        except (ValueError, LookupError, TypeError):
            return "no OpenAI error"
        if not self._documented:
            return ""
        if not (isinstance(message, str) and message and isinstance(kind, str) and kind):
            return "no message or no type"
        if error.keys() != {"message", "type", "param", "code"}:
            return f"keys {sorted(error)}"
        if not isinstance(error["param"], str | None) or not isinstance(error["code"], int | str):
            return "param or code of another type"
        if isinstance(error["code"], int) and error["code"] != answer.status:
            return f"code {error['code']} with status {answer.status}"
        if not answer.headers.get("content-type", "").startswith("application/json"):
            return f"content type {answer.headers.get('content-type')}"
        self._types[answer.status].setdefault(kind, name)
        return ""


def success_shape(answer: Answer) -> str:
    """Why this is no whole answer of its content type; "" when it is one."""
    kind = answer.headers.get("content-type", "")
    try:
        if kind.startswith("application/json") and answer.body:
            # A plain stream is a document a line.
            for line in answer.body.splitlines() if b"\n{" in answer.body else [answer.body]:
                json.loads(line)
        elif kind.startswith("text/event-stream"):
            events = [event for event in answer.body.split(b"\n\n") if event and not event.startswith(b":")]
            if events[-1] != b"data: [DONE]":
                return "a stream without [DONE]"
            for event in events[:-1]:
                json.loads(event.removeprefix(b"data: "))
    except (ValueError, LookupError):
        return "no JSON"
    return ""
