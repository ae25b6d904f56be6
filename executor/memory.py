"""How much memory there is for the KV cache."""

from __future__ import annotations

import torch

from octavo.available_memory import available_host_bytes


def available_bytes(device: torch.device) -> int:
    """Memory this process could still take on `device`; on a CPU also within the limits of its cgroups."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_host_bytes()
