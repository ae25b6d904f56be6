"""Log-probabilities in the shape of chat completions."""

from __future__ import annotations

from octavo.frontend.server.chat.protocol import ChoiceLogprobs, TokenLogprob, TopLogprob
from octavo.frontend.server.logprobs import TokenSpelling, best_first, shown_logprob
from octavo.outputs import LogprobsOnePosition, SampleLogprobs


def chat_logprobs(token_ids: list[int], positions: SampleLogprobs, num_top: int, spelling: TokenSpelling) -> ChoiceLogprobs:
    """The sampled tokens with their `num_top` rivals (-1 = all that are known)."""
    pairs = zip(token_ids, positions, strict=True)
    return ChoiceLogprobs([_token_logprob(token_id, position, num_top, spelling) for token_id, position in pairs])


def _token_logprob(token_id: int, position: LogprobsOnePosition, num_top: int, spelling: TokenSpelling) -> TokenLogprob:
    top = [
        TopLogprob(spelling.text(other), shown_logprob(entry.logprob), spelling.bytes(other))
        for other, entry in best_first(position, num_top)
    ]
    logprob = shown_logprob(position[token_id].logprob)
    return TokenLogprob(spelling.text(token_id), logprob, spelling.bytes(token_id), top)
