"""Log-probabilities in the shape of text completions."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.frontend.server.completions.protocol import CompletionLogprobs
from octavo.frontend.server.logprobs import TokenSpelling, best_first, shown_logprob
from octavo.outputs import LogprobsOnePosition


def completion_logprobs(
    token_ids: Sequence[int],
    positions: Sequence[LogprobsOnePosition | None],
    num_top: int,
    spelling: TokenSpelling,
    offset: int = 0,
) -> CompletionLogprobs:
    """Lists over tokens; `offset` is where the first token's text begins. Only a prompt's first token has no position."""
    shown = CompletionLogprobs([], [], [], [])
    for token_id, position in zip(token_ids, positions, strict=True):
        token = spelling.text(token_id)
        shown.text_offset.append(offset)
        shown.tokens.append(token)
        shown.token_logprobs.append(None if position is None else shown_logprob(position[token_id].logprob))
        shown.top_logprobs.append(None if position is None else _top(token_id, position, num_top, spelling))
        offset += len(token)
    return shown


def _top(token_id: int, position: LogprobsOnePosition, num_top: int, spelling: TokenSpelling) -> dict[str, float]:
    """The most likely tokens, and the one that is there even if it is not among them."""
    entries = best_first(position, num_top)
    if all(other != token_id for other, _ in entries):
        entries.append((token_id, position[token_id]))
    return {spelling.text(other): shown_logprob(entry.logprob) for other, entry in entries}
