"""The part of a stream's chunks that is the same for chat and text completions: everything around the choice."""

from __future__ import annotations

import msgspec

from octavo.frontend.server.fields import GenerationFields
from octavo.frontend.server.generation import Generation
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.usage import UsageCounter


class ChunkFrame:
    """Puts encoded choices into chunks, and chunks into server-sent events.

    Attributes:
        usage: the stream's counts so far; the encoder adds to it.
    """

    def __init__(self, kind: str, body: GenerationFields, generation: Generation, options: ServerOptions) -> None:
        self._encode = msgspec.json.Encoder().encode
        wanted = body.stream_options
        self.usage = UsageCounter(options.enable_prompt_tokens_details)
        self._include_usage = options.enable_force_include_usage or bool(wanted and wanted.include_usage)
        self._continuous = self._include_usage and bool(wanted and wanted.continuous_usage_stats)
        head = {"id": generation.id, "object": kind, "created": generation.created, "model": generation.model}
        self._before = b"data: " + self._encode(head)[:-1] + b',"choices":['
        self._after = b"]}\n\n"
        self._fingerprint = b',"system_fingerprint":' + self._encode(generation.fingerprint)

    def event(self, choice: bytes, *, last: bool = False, prompt_token_ids: list[int] | None = None) -> bytes:
        """One choice as an event; `last` when it is the choice's last."""
        if not (last or self._continuous) and prompt_token_ids is None:
            return self._before + choice + self._after
        tail = b"]"
        if last and not self._include_usage:
            tail += self._fingerprint
        if prompt_token_ids is not None:
            tail += b',"prompt_token_ids":' + self._encode(prompt_token_ids)
        if self._continuous:
            tail += b',"usage":' + self._encode(self.usage.usage())
        return self._before + choice + tail + b"}\n\n"

    def usage_event(self) -> bytes:
        """The last chunk, without choices; nothing unless usage was asked for."""
        if not self._include_usage:
            return b""
        return self._before + b'],"usage":' + self._encode(self.usage.usage()) + self._fingerprint + b"}\n\n"
