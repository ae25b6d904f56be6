"""Where an unknown path may have been meant to go."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from octavo.frontend.server.errors import ApiError

_SHOWN = 200
_COMPARED = 100
"""Characters of a path that are compared; comparing takes time with the square of them."""
_ALIKE = 0.6


def unknown_route(method: str, path: str, routes: Iterable[tuple[str, str]]) -> ApiError:
    """404 that names what was asked for and the nearest route.

    Args:
        method: the request's.
        path: the request's, not decoded.
        routes: (method, path) of those there are.
    """
    nearest = nearest_route(method, path, routes)
    hint = f"; did you mean {nearest}?" if nearest else ""
    return ApiError(404, f"there is no route {method} {path[:_SHOWN]}{hint}")


def nearest_route(method: str, path: str, routes: Iterable[tuple[str, str]]) -> str | None:
    """The route that a path misspells, with its method where that differs; None when nothing is like it."""
    known: dict[str, str] = {}
    for one, pattern in routes:
        if "{" not in pattern and (pattern not in known or one == method):
            known[pattern] = one
    plain = path.rstrip("/").lower()[:_COMPARED]
    # A base URL given with /v1 where it should be without, or the other way round, is the commonest mistake.
    candidates = [pattern for pattern in known if plain.endswith(pattern) or (plain and pattern.endswith(plain))]
    candidates = sorted(candidates, key=lambda pattern: abs(len(pattern) - len(plain))) or difflib.get_close_matches(
        plain, known, n=1, cutoff=_ALIKE
    )
    if not candidates:
        return None
    best = candidates[0]
    return best if known[best] == method else f"{known[best]} {best}"
