"""An engine output -> a choice of a text completion, whole or (streamed) a piece of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from octavo.frontend.server.completions.logprobs import completion_logprobs
from octavo.frontend.server.completions.protocol import CompletionChoice, CompletionLogprobs, CompletionRequest
from octavo.frontend.server.completions.text_offsets import TextOffsets, completion_offsets, prompt_offsets
from octavo.frontend.server.logprobs import TokenSpelling, num_shown, shown_prompt_logprobs
from octavo.outputs import CompletionOutput, LogprobsOnePosition, RequestOutput
from octavo.params import SamplingParams

if TYPE_CHECKING:
    from octavo.frontend.tokenizer import Tokenizer


class ChoiceMaker:
    """Knows what one request wants in its choices.

    Attributes:
        prompt_only: echo with max_tokens 0: the engine makes one token, which is not shown.
    """

    def __init__(
        self,
        body: CompletionRequest,
        params: SamplingParams,
        tokenizer: Tokenizer | None,
        spelling: TokenSpelling,
        prompt_texts: list[str],
        num_per_prompt: int,
    ) -> None:
        self.prompt_only = bool(body.echo) and body.max_tokens == 0
        self._echo = bool(body.echo)
        self._num_top = None if body.logprobs is None else num_shown(body.logprobs, body.logprob_token_ids)
        self._absent = UNSET if body.stream else None
        """What a field holds that is not asked for: a chunk leaves it out."""
        self._with_ids = bool(body.return_token_ids)
        self._with_prompt_logprobs = body.prompt_logprobs is not None
        self._params = params
        self._tokenizer = tokenizer
        self._spelling = spelling
        self._prompt_texts = prompt_texts
        self._num_per_prompt = num_per_prompt
        self._offsets: dict[int, TextOffsets] = {}
        """Of the choices under way."""

    def num_generated(self, completion: CompletionOutput) -> int:
        return 0 if self.prompt_only else len(completion.token_ids)

    def choice(
        self, index: int, output: RequestOutput, completion: CompletionOutput, *, first: bool = True
    ) -> CompletionChoice:
        """Choice `index` of the answer; of a streamed one, the pieces in order.

        Args:
            first: nothing of this choice was shown yet: the echoed prompt goes before it.
        """
        echoed = self._echo and first
        text = "" if self.prompt_only else completion.text
        return CompletionChoice(
            index=index,
            text=self._prompt_texts[index // self._num_per_prompt] + text if echoed else text,
            logprobs=None if self._num_top is None else self._logprobs(index, output, completion, echoed),
            finish_reason="length" if self.prompt_only and completion.finish_reason else completion.finish_reason,
            stop_reason=None if self.prompt_only else completion.stop_reason,
            token_ids=self._absent if not self._with_ids else [] if self.prompt_only else completion.token_ids,
            prompt_token_ids=output.prompt_token_ids if self._with_ids and first else self._absent,
            prompt_logprobs=shown_prompt_logprobs(output.prompt_logprobs)
            if self._with_prompt_logprobs and first
            else self._absent,
            routed_experts=self._absent,
        )

    def _logprobs(
        self, index: int, output: RequestOutput, completion: CompletionOutput, echoed: bool
    ) -> CompletionLogprobs | None:
        token_ids: list[int] = []
        positions: list[LogprobsOnePosition | None] = []
        offsets: list[int] = []
        if echoed:
            token_ids += output.prompt_token_ids
            positions += output.prompt_logprobs or []
            offsets += self._prompt_offsets(index, output)
        if not self.prompt_only:
            token_ids += completion.token_ids
            positions += completion.logprobs or []
            offsets += self._completion_offsets(index, output, completion.token_ids)
        if not token_ids:
            return None
        return completion_logprobs(token_ids, positions, offsets, self._num_top or 0, self._spelling)

    def _prompt_offsets(self, index: int, output: RequestOutput) -> list[int]:
        if self._tokenizer is None:
            return [0] * len(output.prompt_token_ids)
        return prompt_offsets(self._tokenizer, output.prompt_token_ids, self._prompt_texts[index // self._num_per_prompt])

    def _completion_offsets(self, index: int, output: RequestOutput, token_ids: list[int]) -> list[int]:
        if self._tokenizer is None:
            return [0] * len(token_ids)
        if index not in self._offsets:
            start = len(self._prompt_texts[index // self._num_per_prompt]) if self._echo else 0
            self._offsets[index] = completion_offsets(self._tokenizer, output.prompt_token_ids, self._params, start)
        return [self._offsets[index].next(token_id) for token_id in token_ids]
