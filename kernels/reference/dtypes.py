"""The type operations compute in."""

import torch


def compute_type(dtype: torch.dtype) -> torch.dtype:
    """float32 for the types models are stored in, float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32
