"""Does an output go round in circles? Told token by token, at a price that does not depend on what the tokens are."""

from __future__ import annotations

import numpy as np

from octavo.params import RepetitionDetection


class RepetitionWatch:
    """Looks whether an output closes with one pattern `min_count` times over, for every size of pattern at once.

    A pattern of size s closes it so often if each of the last s * (min_count - 1) tokens equals the one s before it. So what
    is kept is, for each size, how many tokens up to the last have done so without a break: one comparison a size and token.

    Args:
        detection: active, that is with max_pattern_size > 0.
        max_output: tokens the output may come to; larger patterns cannot come round.
    """

    __slots__ = ("_matches", "_needed", "_newest", "_num_tokens", "_recent", "_smallest")

    def __init__(self, detection: RepetitionDetection, max_output: int) -> None:
        largest = min(detection.max_pattern_size, max_output // detection.min_count)
        self._smallest = max(1, detection.min_pattern_size)
        self._num_tokens = 0
        # Entry i is of size i + 1.
        self._matches = np.zeros(largest, np.int32)
        self._needed = np.arange(1, largest + 1, dtype=np.int64) * (detection.min_count - 1)
        # The last tokens, newest first, from `_newest` on; moved to the buffer's end when they have come to its beginning.
        self._recent = np.zeros(2 * largest, np.int32)
        self._newest = 2 * largest

    def catch_up(self, token_ids: list[int], begin: int, end: int) -> bool:
        """Take in what is new of the output `token_ids[begin:end]`; whether it repeats itself with the last token."""
        repeats = False
        for place in range(begin + self._num_tokens, end):
            repeats = self.add(token_ids[place])
        return repeats

    def add(self, token_id: int) -> bool:
        """Take in the next token; whether the output repeats itself with it."""
        num_sizes = min(self._num_tokens, len(self._matches))
        self._num_tokens += 1
        if not len(self._matches):
            return False
        matches = self._matches[:num_sizes]
        matches += 1
        matches *= self._recent[self._newest : self._newest + num_sizes] == token_id
        self._push(token_id)
        first = self._smallest - 1
        return bool((matches[first:] >= self._needed[first:num_sizes]).any())

    def _push(self, token_id: int) -> None:
        if self._newest == 0:
            largest = len(self._matches)
            self._recent[largest:] = self._recent[:largest]
            self._newest = largest
        self._newest -= 1
        self._recent[self._newest] = token_id
