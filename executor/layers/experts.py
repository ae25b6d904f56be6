"""A feed-forward block of experts, of which each token asks a few."""

from __future__ import annotations

from dataclasses import replace

from octavo.errors import ConfigError
from octavo.executor.layers.linear import PLAIN, ColumnLinear, GatedLinear, Placement, RowLinear
from octavo.executor.layers.mlp import gated_activation
from octavo.executor.layers.module import Module
from octavo.executor.layers.norm import RMSNorm
from octavo.executor.layers.residual import Residual
from octavo.executor.layers.weights import Part
from octavo.kernels.program_ops import Experts


class SparseMLP(Module):
    """The sum of what the chosen experts give, each times its probability; see `ops.experts`.

    Args:
        name: of the block in the checkpoint.
        inner: width of an expert.
        top_k: experts per token.
        renormalize: probabilities of the chosen ones are made to sum to 1.
        parts: names of an expert's gate, up and down.
        fused: name of the block in checkpoints where all experts lie in one tensor; "" = there are none.
    """

    def __init__(
        self,
        name: str,
        hidden: int,
        inner: int,
        num_experts: int,
        top_k: int,
        activation: str,
        renormalize: bool,
        parts: tuple[str, str, str],
        place: Placement,
        fused: str = "",
    ) -> None:
        if not 0 < top_k <= num_experts:
            raise ConfigError(f"config.json asks for {top_k} of {num_experts} experts per token")
        self.top_k, self.renormalize, self.activation = top_k, renormalize, gated_activation(activation)
        # Few numbers that decide much: never quantized.
        self.router = ColumnLinear(hidden, {f"{name}.gate": num_experts}, False, replace(place, method=PLAIN), "router")
        gate, up, down = parts
        names = [f"{name}.experts.{expert}" for expert in range(num_experts)]
        self.gate_up = [GatedLinear(hidden, {f"{e}.{gate}": inner, f"{e}.{up}": inner}, False, place, "experts") for e in names]
        self.down = [RowLinear(f"{e}.{down}", inner, hidden, False, place, "experts") for e in names]
        if fused:
            self._accept_fused(fused, inner)

    def _accept_fused(self, name: str, inner: int) -> None:
        """Experts may lie in two tensors, gates above ups [E, 2 * inner, hidden] and downs [E, hidden, inner]."""
        [router] = self.router.parts
        self.router.others[router] = Part(f"{name}.gate.weight")
        for expert, (first, second) in enumerate(zip(self.gate_up, self.down, strict=True)):
            for row, part in zip((0, inner), first.parts, strict=True):
                first.others[part] = Part(f"{name}.experts.gate_up_proj", expert, row)
            second.others = (Part(f"{name}.experts.down_proj", expert),)

    def __call__(self, residual: Residual, before: RMSNorm | None, after: RMSNorm | None, scale: float) -> None:
        """Record the block: from the residual stream and back.

        Raises:
            ValueError: a norm behind it, or a scale, which no model of experts has.
        """
        if after is not None or scale != 1.0:
            raise ValueError("what experts give goes into the stream as it is")
        x = residual.normed(before)
        out = x.program.value(x.width, x.dtype, x.rows)
        x.program.add(
            Experts, "experts", x=x, router=self.router(x), gate_up=tuple(one.packed for one in self.gate_up),
            down=tuple(one.packed for one in self.down), activation=self.activation, top_k=self.top_k,
            renormalize=self.renormalize, out=out,
        )  # fmt: skip
        residual.add(out)
