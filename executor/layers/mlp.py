"""The gated feed-forward block."""

from __future__ import annotations

from octavo.errors import ConfigError
from octavo.executor.layers.linear import GatedLinear, Placement, RowLinear
from octavo.executor.layers.module import Module
from octavo.executor.layers.norm import RMSNorm
from octavo.executor.layers.residual import Residual
from octavo.kernels.program_ops import Activation

_ACTIVATIONS: dict[str, Activation] = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu", "gelu_new": "gelu"}
"""Names as in config.json."""


def gated_activation(name: str) -> Activation:
    """The op's word for config.json's. Raises: ConfigError: there is none; lists those that there are."""
    if name not in _ACTIVATIONS:
        raise ConfigError(f"activation {name!r} is not one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


class GatedMLP(Module):
    """down(activation(gate(x)) * up(x))."""

    def __init__(self, name: str, hidden: int, inner: int, activation: str, bias: bool, fused: bool, place: Placement) -> None:
        """`fused`: the checkpoint holds gate and up in one tensor, gate_up_proj."""
        parts = {"gate_up_proj": 2 * inner} if fused else {"gate_proj": inner, "up_proj": inner}
        self.gate_up = GatedLinear(hidden, {f"{name}.{part}": rows for part, rows in parts.items()}, bias, place, "gate_up")
        self.down = RowLinear(f"{name}.down_proj", inner, hidden, bias, place, "down")
        self.activation = gated_activation(activation)

    def __call__(self, residual: Residual, before: RMSNorm | None, after: RMSNorm | None, scale: float) -> None:
        """Record the block: from the residual stream and back, through the norms before and after it."""
        residual.leave(residual.enter(before, self.gate_up, self.activation), self.down, after, scale)
