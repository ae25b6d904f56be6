"""Where and how a model is built: type and device of its weights, how they are packed, tables that layers share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import torch

from octavo.config import ModelConfig
from octavo.config.early_checks import shown_bytes
from octavo.errors import ConfigError
from octavo.executor.layers.linear import Placement
from octavo.executor.layers.quantization import linear_method
from octavo.executor.layers.rotary import cos_sin_table
from octavo.executor.memory import available_bytes
from octavo.sources.rope import Rope

_TABLE_COPIES = 3
"""Tables of rotations that lie in memory at once while one is made: angles, their cosines and sines, both joined."""


@dataclass(frozen=True)
class Build:
    """What a model needs to know beside its config.json.

    Attributes:
        place: of weights.
        max_model_len: longest sequence, in tokens.
    """

    place: Placement
    max_model_len: int
    _tables: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, config: ModelConfig, device: torch.device) -> Build:
        """As the configuration says, on a device."""
        place = Placement(getattr(torch, config.dtype), device, linear_method(config.quantization))
        return cls(place, config.max_model_len)

    def rotations(self, rope: Rope | None, head_dim: int) -> torch.Tensor:
        """The table that queries and keys are rotated by, see `ops.rope_and_cache`; layers with equal parameters share one.

        Args:
            rope: None = nothing is rotated.

        Raises:
            ConfigError: there is no memory for positions of so long sequences.
        """
        key = json.dumps([rope, head_dim], sort_keys=True)
        if key not in self._tables:
            self._check_memory(head_dim)
            self._tables[key] = cos_sin_table(rope, head_dim, self.max_model_len).to(self.place.device)
        return self._tables[key]

    def _check_memory(self, head_dim: int) -> None:
        needed = _TABLE_COPIES * self.max_model_len * head_dim * torch.float32.itemsize
        if needed > available_bytes(torch.device("cpu")):
            raise ConfigError(
                f"positions for --max-model-len {self.max_model_len} need {shown_bytes(needed)}, more than there is: lower it"
            )
