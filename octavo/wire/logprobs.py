"""Log-probabilities as they cross processes."""

from __future__ import annotations

import msgspec
import numpy as np


class TokenLogprobs(msgspec.Struct, array_like=True):
    """Log-probabilities for consecutive tokens of one request.

    Shapes: [T, 1 + K], column 0 being the sampled (or prompt) token, then the top K (or the ids asked for).
    """

    token_ids: np.ndarray
    """int32 [T, 1 + K]"""
    logprobs: np.ndarray
    """float32 [T, 1 + K]"""
    ranks: np.ndarray
    """int32 [T]; 1 = the token at column 0 was the most likely one."""
