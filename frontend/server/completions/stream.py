"""Text completions as server-sent events."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from octavo.frontend.server.chunks import GAP, ChunkFrame, TextEvent
from octavo.frontend.server.completions.choices import ChoiceMaker
from octavo.frontend.server.completions.protocol import CompletionChoice, CompletionRequest
from octavo.frontend.server.errors import ApiError
from octavo.frontend.server.generation import Generation
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.streaming import SSE_END, SSE_KEEP_ALIVE, sse_error
from octavo.outputs import CompletionOutput, RequestOutput


@dataclass(slots=True)
class _Progress:
    """Of one choice.

    Attributes:
        opened: its first chunk is out.
        text_event: set when later chunks bring nothing but text, up to the last.
    """

    opened: bool = False
    text_event: TextEvent | None = None


class CompletionStream:
    """The StreamEncoder of text completions."""

    content_type = "text/event-stream; charset=utf-8"
    keep_alive = SSE_KEEP_ALIVE

    def __init__(self, body: CompletionRequest, generation: Generation, options: ServerOptions, maker: ChoiceMaker) -> None:
        self._frame = ChunkFrame("text_completion", body, generation, options)
        self._maker = maker
        self._num_per_prompt = generation.params.n
        self._progress = [_Progress() for _ in range(generation.num_sequences)]
        self._seen_prompts: set[int] = set()
        self._with_ids = bool(body.return_token_ids)
        self._only_text = not (self._with_ids or body.logprobs is not None or maker.prompt_only or self._frame.continuous)
        self._encode = msgspec.json.Encoder().encode

    def chunk(self, index: int, output: RequestOutput, /) -> bytes:
        if index not in self._seen_prompts:
            self._seen_prompts.add(index)
            self._frame.usage.add_prompt(output)
        if self._only_text and len(output.outputs) == 1:
            completion = output.outputs[0]
            event = self._progress[index * self._num_per_prompt + completion.index].text_event
            if event is not None and completion.finish_reason is None:
                self._frame.usage.completion_tokens += len(completion.token_ids)
                return event.holding(completion.text)
        parts = []
        for completion in output.outputs:
            choice = self._choice(index * self._num_per_prompt + completion.index, output, completion)
            if choice.text or choice.finish_reason is not None or self._with_ids or choice.logprobs:
                parts.append(self._frame.event(self._encode(choice), last=choice.finish_reason is not None))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def end(self) -> bytes:
        return self._frame.usage_event() + SSE_END

    def error(self, error: ApiError) -> bytes:
        return sse_error(error)

    def _choice(self, index: int, output: RequestOutput, completion: CompletionOutput) -> CompletionChoice:
        progress = self._progress[index]
        choice = self._maker.choice(index, output, completion, first=not progress.opened)
        if self._only_text and not progress.opened:
            progress.text_event = TextEvent(self._frame.event(self._encode(CompletionChoice(index, GAP))))
        progress.opened = True
        self._frame.usage.completion_tokens += self._maker.num_generated(completion)
        if choice.finish_reason is None:
            choice.stop_reason = UNSET
        return choice
