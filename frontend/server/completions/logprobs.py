"""Log-probabilities in the shape of text completions."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.frontend.server.completions.protocol import CompletionLogprobs
from octavo.frontend.server.logprobs import TokenSpelling, best_first, shown_logprob
from octavo.outputs import LogprobsOnePosition


def completion_logprobs(
    token_ids: Sequence[int],
    positions: Sequence[LogprobsOnePosition | None],
    offsets: Sequence[int],
    num_top: int,
    spelling: TokenSpelling,
) -> CompletionLogprobs:
    """Lists over tokens; `offsets` says where their text begins. Only a prompt's first token has no position."""
    shown = CompletionLogprobs(list(offsets), [], [], [])
    for token_id, position in zip(token_ids, positions, strict=True):
        shown.tokens.append(spelling.text(token_id))
        shown.token_logprobs.append(None if position is None else shown_logprob(position[token_id].logprob))
        shown.top_logprobs.append(None if position is None else _top(token_id, position, num_top, spelling))
    return shown


def _top(token_id: int, position: LogprobsOnePosition, num_top: int, spelling: TokenSpelling) -> dict[str, float]:
    """The most likely tokens, and the one that is there even if it is not among them.

    Tokens may be spelled the same (parts of characters all are U+FFFD). The one that is there keeps its spelling, else the
    most likely one does; the others are written as token_id:N.
    """
    entries = best_first(position, num_top)
    if all(other != token_id for other, _ in entries):
        entries.append((token_id, position[token_id]))
    own, top = spelling.text(token_id), {}
    for other, entry in entries:
        key = spelling.text(other)
        if key in top or (key == own and other != token_id):
            key = f"token_id:{other}"
        top[key] = shown_logprob(entry.logprob)
    return top
