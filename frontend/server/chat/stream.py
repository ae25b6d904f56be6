"""Chat completions as server-sent events.

The bytes before and after a chunk's choice are the same all through a stream, so they are made once.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from octavo.frontend.server.chat.logprobs import chat_logprobs
from octavo.frontend.server.chat.protocol import ChatRequest, Delta, DeltaChoice
from octavo.frontend.server.chunks import GAP, ChunkFrame, TextEvent
from octavo.frontend.server.errors import ApiError
from octavo.frontend.server.generation import Generation
from octavo.frontend.server.logprobs import TokenSpelling, num_shown
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.streaming import SSE_END, SSE_KEEP_ALIVE, sse_error
from octavo.outputs import CompletionOutput, RequestOutput


class ChatStream:
    """The StreamEncoder of chat completions."""

    content_type = "text/event-stream; charset=utf-8"
    keep_alive = SSE_KEEP_ALIVE

    def __init__(
        self,
        body: ChatRequest,
        generation: Generation,
        options: ServerOptions,
        spelling: TokenSpelling,
        role: str,
        echoed: str,
    ) -> None:
        self._frame = ChunkFrame("chat.completion.chunk", body, generation, options)
        self._role = role
        self._echoed = echoed
        self._num_top = num_shown(body.top_logprobs or 0, body.logprob_token_ids) if body.logprobs else None
        self._spelling = spelling
        self._with_ids = bool(body.return_token_ids)
        self._encode = msgspec.json.Encoder().encode
        self._num_choices = generation.num_sequences
        self._opened = False
        only_text = not (self._with_ids or body.logprobs or self._frame.continuous)
        self._text_events = [self._text_event(index) for index in range(self._num_choices)] if only_text else []

    def chunk(self, _index: int, output: RequestOutput, /) -> bytes:
        if self._opened and self._text_events and len(output.outputs) == 1 and output.outputs[0].finish_reason is None:
            choice = output.outputs[0]
            self._frame.usage.completion_tokens += len(choice.token_ids)
            return self._text_events[choice.index].holding(choice.text)
        parts = [] if self._opened else self._open(output)
        for choice in output.outputs:
            self._frame.usage.completion_tokens += len(choice.token_ids)
            if choice.text or choice.finish_reason is not None or self._with_ids or choice.logprobs:
                last = choice.finish_reason is not None
                parts.append(self._frame.event(self._encode(self._choice(choice)), last=last))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def end(self) -> bytes:
        return self._frame.usage_event() + SSE_END

    def error(self, error: ApiError) -> bytes:
        return sse_error(error)

    def _open(self, output: RequestOutput) -> list[bytes]:
        """The chunks that name each choice's role (and repeat the message to go on from)."""
        self._opened = True
        self._frame.usage.add_prompt(output)
        prompt_ids = output.prompt_token_ids if self._with_ids else None
        parts = []
        for index in range(self._num_choices):
            opening = DeltaChoice(index, Delta("", self._role))
            parts.append(self._frame.event(self._encode(opening), prompt_token_ids=prompt_ids))
            if self._echoed:
                parts.append(self._frame.event(self._encode(DeltaChoice(index, Delta(self._echoed)))))
        return parts

    def _text_event(self, index: int) -> TextEvent:
        return TextEvent(self._frame.event(self._encode(DeltaChoice(index, Delta(GAP)))))

    def _choice(self, choice: CompletionOutput) -> DeltaChoice:
        logprobs = None
        if self._num_top is not None and choice.logprobs:
            logprobs = chat_logprobs(choice.token_ids, choice.logprobs, self._num_top, self._spelling)
        return DeltaChoice(
            choice.index,
            Delta(choice.text),
            logprobs,
            choice.finish_reason,
            choice.stop_reason if choice.finish_reason is not None else UNSET,
            choice.token_ids if self._with_ids else UNSET,
        )
