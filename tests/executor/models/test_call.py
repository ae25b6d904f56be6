"""A whole module of transformers as one op, with our attention: what no op says runs all the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import tiny_hf
from parity.paged import PagedSequences, load
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from octavo.executor.models import registry
from octavo.kernels.program import Program
from octavo.kernels.program_ops import Call
from octavo.kernels.segments import cut_at_calls
from octavo.modeling import (
    Build,
    CacheSpec,
    Generative,
    HfConfig,
    LMHead,
    Module,
    Product,
    Residual,
    RMSNorm,
    Slot,
    TokenEmbedding,
    call,
    ops,
)
from octavo.sources import hf_config

_UNROTATED = torch.tensor([[1.0, 0.0]])


class Body(Module):
    """transformers' own layers, whose attention reads and writes the caches it is given."""

    def __init__(self, config: HfConfig) -> None:
        ALL_ATTENTION_FUNCTIONS.register("octavo", self.attention(None, None))
        settings = transformers.LlamaConfig(**config)
        settings._attn_implementation = "octavo"
        self.model = transformers.LlamaModel(settings).eval()
        self.model.norm = torch.nn.Identity()  # ours follows
        self.hidden_size = settings.hidden_size

    def slots(self) -> Iterator[Slot]:
        for name, parameter in self.model.named_parameters():
            yield Slot(f"model.{name}", parameter.data)

    def __call__(self, tensors: Sequence[torch.Tensor], step: Any, caches: Any) -> list[torch.Tensor]:
        ids, positions = (tensor.T for tensor in tensors)
        ALL_ATTENTION_FUNCTIONS.register("octavo", self.attention(step, caches))
        hidden = self.model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        return [hidden[0]]

    @staticmethod
    def attention(step: Any, caches: Any) -> Any:
        def attend(module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any, scaling: float, **__: Any) -> Any:
            q, k, v = (part[0].transpose(0, 1).contiguous() for part in (q, k, v))
            keys, values = caches[module.layer_idx]
            nowhere = torch.zeros(len(q), dtype=torch.int64)
            ops.rope_and_cache(q, k, v, nowhere, _UNROTATED, step.slot_mapping[0], keys, values)
            out = ops.paged_attention(q, keys, values, step.query_starts, step.seq_lens, step.block_tables[0], scaling)
            return out[None], None

        return attend


class Foreign(Generative):
    """Embedding and layers by transformers, final norm and head by us: a program of three parts."""

    def __init__(self, config: HfConfig, build: Build) -> None:
        super().__init__()
        self.body = Body(config)
        heads = config["num_attention_heads"]
        spec = CacheSpec("full", config["num_key_value_heads"], config["hidden_size"] // heads)
        self.cache_specs = [spec] * config["num_hidden_layers"]
        self.norm = RMSNorm("model.norm", config["hidden_size"], config["rms_norm_eps"], build.place)
        table = TokenEmbedding("unused", 1, 1, 1.0, False, build.place)
        self.head = LMHead(
            "lm_head", table, Product(config["hidden_size"], config["vocab_size"], False, build.place, "head"), 1.0, 0.0
        )

    def record(self, name: str, layer_groups: Sequence[int]) -> Program:
        program = Program(name)
        ids, positions = program.input("ids", 1, torch.int64), program.input("positions", 1, torch.int64)
        [hidden] = call(self.body, [ids, positions], [self.body.hidden_size], torch.float32)
        program.outputs["hidden"] = Residual(hidden).end(self.norm)
        return program

    @torch.inference_mode()
    def forward(self, input_ids: torch.Tensor, positions: torch.Tensor, kv_caches: Any, attn: Any) -> torch.Tensor:
        body = self._programs.get(self.record, "body", kv_caches, attn.layer_groups)
        return body.run({"ids": input_ids, "positions": positions}, attn)["hidden"]


def test_a_module_of_transformers_runs_over_our_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(hf_config, "_registered", set())
    registry.register("ForeignForCausalLM", Foreign)
    reference = tiny_hf.make(tmp_path, "LlamaForCausalLM")
    model: Any = load(tmp_path, hf_overrides={"architectures": ["ForeignForCausalLM"]})
    prompt = tiny_hf.token_ids(14)
    sequences = PagedSequences(model, num_blocks=32)
    sequences.greedy("other", tiny_hf.token_ids(9, seed=1), 4)
    expected = tiny_hf.greedy(reference, prompt, 10)
    assert sequences.greedy("a", prompt, 10) == expected
    assert model.profile(True)
    sequences.step({"a": [5]})
    assert {"call", "norm"} <= set(model.timings())
    chunked = PagedSequences(model, num_blocks=32)
    assert (
        tiny_hf.difference(chunked.logits("b", prompt + expected, chunk=5), tiny_hf.logits(reference, prompt + expected)) < 2e-5
    )


def test_a_program_is_cut_where_functions_are_called() -> None:
    program = Program("cut")
    x = program.input("x", 4, torch.float32)
    program.input("unread", 4, torch.float32)
    [double] = call(lambda tensors, *_: [tensors[0] * 2], [x], [4], torch.float32)
    residual = Residual(double)
    rounded = residual.normed(None)
    [both] = call(lambda tensors, *_: [tensors[0] + tensors[1]], [rounded, x], [4], torch.float32)
    program.outputs.update(both=both, double=double)
    parts = cut_at_calls(program)
    assert [[type(op) is Call for op in part.ops] for part in parts] == [[True], [False, False], [True]]
    assert [set(part.inputs) for part in parts] == [{"%0"}, {"%2"}, {"%0", f"%{rounded.index}"}]
    assert set(parts[0].outputs) == {"%2"}
    from octavo.kernels.compile import compile_program

    ops.use(device="cpu")
    out = compile_program(program, []).run({"x": torch.ones(3, 4), "unread": torch.ones(3, 4)}, NoStep())
    assert torch.equal(out["both"], torch.full((3, 4), 3.0))
    assert torch.equal(out["double"], torch.full((3, 4), 2.0))


class NoStep:
    query_starts = seq_lens = encoder_lens = torch.zeros(1, dtype=torch.int32)
    block_tables = slot_mapping = ()
