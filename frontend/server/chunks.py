"""The part of a stream's chunks that is the same for chat and text completions: everything around the choice."""

from __future__ import annotations

import msgspec

from octavo.frontend.server.fields import GenerationFields
from octavo.frontend.server.generation import Generation
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.per_request_metrics import per_request_metrics
from octavo.frontend.server.usage import UsageCounter

_encode = msgspec.json.Encoder().encode
GAP = "\0text\0"
"""Stands in an event for the text of a `TextEvent`."""


class TextEvent:
    """A choice's event that brings nothing but text: made once, with a gap where the text goes.

    Args:
        event: the choice's event for the text GAP.
    """

    __slots__ = ("_after", "_before")

    def __init__(self, event: bytes) -> None:
        self._before, _, self._after = event.rpartition(_encode(GAP))

    def holding(self, text: str) -> bytes:
        """The event for `text`; nothing when that is empty."""
        return self._before + _encode(text) + self._after if text else b""


class ChunkFrame:
    """Puts encoded choices into chunks, and chunks into server-sent events.

    Attributes:
        usage: the stream's counts so far; the encoder adds to it.
        continuous: every event reports them.
    """

    def __init__(self, kind: str, body: GenerationFields, generation: Generation, options: ServerOptions) -> None:
        wanted = body.stream_options
        self.usage = UsageCounter(options.enable_prompt_tokens_details)
        forced = options.enable_force_include_usage
        self._include_usage = forced or bool(wanted and wanted.include_usage)
        self.continuous = forced or (self._include_usage and bool(wanted and wanted.continuous_usage_stats))
        self._record = generation.record
        self._with_metrics = options.enable_per_request_metrics and generation.num_sequences == 1
        head = {"id": generation.id, "object": kind, "created": generation.created, "model": generation.model}
        self._before = b"data: " + _encode(head)[:-1] + b',"choices":['
        self._after = b"]}\n\n"
        self._fingerprint = b',"system_fingerprint":' + _encode(generation.fingerprint)

    def event(self, choice: bytes, *, last: bool = False, prompt_token_ids: list[int] | None = None) -> bytes:
        """One choice as an event; `last` when it is the choice's last."""
        if not (last or self.continuous) and prompt_token_ids is None:
            return self._before + choice + self._after
        tail = b"]"
        if last and not self._include_usage:
            tail += self._fingerprint
        if prompt_token_ids is not None:
            tail += b',"prompt_token_ids":' + _encode(prompt_token_ids)
        if self.continuous:
            tail += b',"usage":' + _encode(self.usage.usage())
        return self._before + choice + tail + b"}\n\n"

    def usage_event(self) -> bytes:
        """The last chunk, without choices; nothing unless usage was asked for."""
        if not self._include_usage:
            return b""
        event = self._before + b'],"usage":' + _encode(self.usage.usage()) + self._fingerprint
        times = self._record.metrics
        if self._with_metrics and times is not None:
            event += b',"metrics":' + _encode(per_request_metrics(times))
        return event + b"}\n\n"
