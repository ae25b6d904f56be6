"""An engine output -> a choice of a text completion, whole or (streamed) a piece of it."""

from __future__ import annotations

from msgspec import UNSET

from octavo.frontend.server.completions.logprobs import completion_logprobs
from octavo.frontend.server.completions.protocol import CompletionChoice, CompletionLogprobs, CompletionRequest
from octavo.frontend.server.logprobs import TokenSpelling, num_shown, shown_prompt_logprobs
from octavo.outputs import CompletionOutput, LogprobsOnePosition, RequestOutput


class ChoiceMaker:
    """Knows what one request wants in its choices.

    Attributes:
        prompt_only: echo with max_tokens 0: the engine makes one token, which is not shown.
    """

    def __init__(self, body: CompletionRequest, spelling: TokenSpelling, prompt_texts: list[str], num_per_prompt: int) -> None:
        self.prompt_only = bool(body.echo) and body.max_tokens == 0
        self._echo = bool(body.echo)
        self._num_top = None if body.logprobs is None else num_shown(body.logprobs, body.logprob_token_ids)
        self._absent = UNSET if body.stream else None
        """What a field holds that is not asked for: a chunk leaves it out."""
        self._with_ids = bool(body.return_token_ids)
        self._with_prompt_logprobs = body.prompt_logprobs is not None
        self._spelling = spelling
        self._prompt_texts = prompt_texts
        self._num_per_prompt = num_per_prompt

    def num_generated(self, completion: CompletionOutput) -> int:
        return 0 if self.prompt_only else len(completion.token_ids)

    def choice(
        self, index: int, output: RequestOutput, completion: CompletionOutput, *, first: bool = True, offset: int = 0
    ) -> CompletionChoice:
        """Choice `index` of the answer.

        Args:
            first: nothing of this choice was shown yet: the echoed prompt goes before it.
            offset: characters already shown.
        """
        echoed = self._echo and first
        text = "" if self.prompt_only else completion.text
        return CompletionChoice(
            index=index,
            text=self._prompt_texts[index // self._num_per_prompt] + text if echoed else text,
            logprobs=None if self._num_top is None else self._logprobs(output, completion, echoed, offset),
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
        self, output: RequestOutput, completion: CompletionOutput, echoed: bool, offset: int
    ) -> CompletionLogprobs | None:
        token_ids: list[int] = []
        positions: list[LogprobsOnePosition | None] = []
        if echoed:
            token_ids += output.prompt_token_ids
            positions += output.prompt_logprobs or []
        if not self.prompt_only:
            token_ids += completion.token_ids
            positions += completion.logprobs or []
        if not token_ids:
            return None
        return completion_logprobs(token_ids, positions, self._num_top or 0, self._spelling, offset)
