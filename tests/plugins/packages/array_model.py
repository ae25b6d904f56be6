"""A model that a package brings, which reads an array beside its tokens: token i of a request becomes row i of the array, times a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from octavo.modeling import AttentionMetadata, Encoder, Program, RowLinear


class ArrayModel(Encoder):
    """hidden = rows of the array [tokens, width] times a matrix; zeros stand in where a request brings no array."""

    row_inputs: Sequence[str] = ("rows",)

    def __init__(self, config: Mapping[str, Any], build: Any) -> None:
        super().__init__()
        self.width, self.dtype = config["hidden_size"], build.place.dtype
        self.weight = RowLinear("weight", self.width, self.width, False, build.place, "weight")

    def body(self, program: Program) -> None:
        program.outputs["hidden"] = self.weight(program.input("rows", self.width, self.dtype))

    def inputs(self, input_ids: torch.Tensor, positions: torch.Tensor, attn: AttentionMetadata) -> dict[str, torch.Tensor]:
        lengths = (attn.query_starts[1:] - attn.query_starts[:-1]).tolist()
        rows = [each.get("rows", torch.zeros(n, self.width)) for each, n in zip(attn.row_inputs, lengths, strict=True)]
        return {"rows": torch.cat(rows).to(self.dtype)}

    def check_inputs(self, inputs: Mapping[str, torch.Tensor], num_tokens: int) -> None:
        super().check_inputs(inputs, num_tokens)
        if inputs["rows"].shape != (num_tokens, self.width):
            raise ValueError(f"rows must be [{num_tokens}, {self.width}], got {list(inputs['rows'].shape)}")
