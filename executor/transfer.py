"""The one place where arrays cross between host and device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def to_device(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    """`array` as a tensor on `device`. On a CPU the tensor shares the array's memory."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.to(device)


def to_host(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """`tensor` as an array, once the device has computed it. On a CPU the array shares the tensor's memory."""
    array: np.ndarray[Any, Any] = tensor.numpy() if tensor.device.type == "cpu" else tensor.cpu().numpy()
    return array
