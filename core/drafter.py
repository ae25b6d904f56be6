"""Where proposed tokens come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Drafter(Protocol):
    """Guesses how a sequence goes on; a step verifies the guess."""

    max_drafts: int
    """Tokens that it proposes at a time, at most."""

    def propose(self, token_ids: Sequence[int], count: int) -> list[int]:
        """Up to `count` tokens that may follow; none when it has no idea."""
