"""What somebody who mistyped a name most likely meant."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean serve?)`, or "" when nothing known is near."""
    import difflib  # late: nobody needs it who spells well

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f" (did you mean {near[0]}?)" if near else ""
