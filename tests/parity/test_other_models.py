"""Models that are no plain decoders, against transformers: experts, an encoder without cache, a decoder with cross-attention."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import tiny_hf
from parity.paged import PagedSequences, load
from safetensors.torch import load_file, save_file

from octavo.errors import ConfigError
from octavo.executor.attention import AttentionMetadata
from octavo.executor.layers.linear import Placement
from octavo.executor.models.bert import TOKEN_TYPES, Bert
from octavo.executor.models.build import Build
from octavo.executor.models.registry import Keys
from octavo.executor.models.whisper import WhisperDecoder
from octavo.kernels import ops
from octavo.kernels.interpreter import Interpreter

TOLERANCE = 2e-5


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("changes", [{}, {"num_local_experts": 5, "num_experts_per_tok": 3, "sliding_window": 9}])
def test_mixtral(changes: dict[str, Any], tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path, "MixtralForCausalLM", **({"num_local_experts": 4} | changes))
    prompt = tiny_hf.token_ids(24)
    expected = tiny_hf.greedy(reference, prompt, 24)
    theirs = tiny_hf.logits(reference, prompt + expected)
    sequences = PagedSequences(load(tmp_path))
    assert sequences.greedy("generated", prompt, 24) == expected
    assert tiny_hf.difference(sequences.logits("whole", prompt + expected), theirs) < TOLERANCE
    assert tiny_hf.difference(sequences.logits("chunks", prompt + expected, chunk=5), theirs) < TOLERANCE


def test_experts_may_lie_in_one_tensor(tmp_path: Path) -> None:
    """As a model's own state_dict has them since transformers 5, whatever it writes."""
    reference = tiny_hf.make(tmp_path, "MixtralForCausalLM", num_local_experts=4)
    ids = tiny_hf.token_ids(30)
    apart = PagedSequences(load(tmp_path)).logits("a", ids)
    save_file({name: tensor.contiguous() for name, tensor in reference.state_dict().items()}, tmp_path / "model.safetensors")
    assert torch.equal(PagedSequences(load(tmp_path)).logits("a", ids), apart)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.experts.down_proj"
    save_file(tensors | {name: tensors[name][:3].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"experts\.3\.w2\.weight is missing"):
        load(tmp_path)


def test_experts_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    tiny_hf.make(tmp_path, "MixtralForCausalLM", num_local_experts=4)
    sequences = PagedSequences(load(tmp_path))
    ids = {name: tiny_hf.token_ids(length, seed=length) for name, length in (("a", 19), ("b", 7), ("c", 30))}
    alone = {name: sequences.logits(f"{name} alone", tokens) for name, tokens in ids.items()}
    together = sequences.step(ids)
    for name in ids:
        assert torch.equal(together[name], alone[name])


def filled(model: Bert | WhisperDecoder, folder: Path) -> None:
    """The checkpoint's tensors in the model."""
    tensors = load_file(folder / "model.safetensors")
    for part in model.parts():
        for slot in part.slots():
            slot.target.copy_(tensors[slot.name])
        part.finish()


def build() -> Build:
    if not ops.current():
        ops.use(device="cpu")
    return Build(Placement(torch.float32, torch.device("cpu")), 64)


def metadata(lengths: list[int], **changes: Any) -> AttentionMetadata:
    """Of requests that are all there, without caches."""
    starts = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    sizes = torch.tensor(lengths, dtype=torch.int32)
    plain = AttentionMetadata(starts, sizes, torch.zeros_like(sizes), (), (), ())
    return replace(plain, **changes)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_bert(activation: str, native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"num_hidden_layers": 3, "hidden_act": activation, "pad_token_id": 0}
    reference = tiny_hf.make(tmp_path, "BertModel", **sizes)
    model = Bert(Keys(reference.config.to_dict()), build())
    filled(model, tmp_path)
    program = model.record("body")
    whole, lacking = ops.native_program(program, [])
    assert (whole is None, lacking) == (ops.current() == "reference", "")
    lengths = [1, 33, 128, 2, 64]
    texts = [tiny_hf.token_ids(length, seed=length) for length in lengths]
    types = [[i % 2 for i in range(length)] for length in lengths]
    given = {
        "ids": torch.tensor(list(chain.from_iterable(texts))),
        "positions": torch.cat([torch.arange(length) for length in lengths]),
        "types": torch.tensor(list(chain.from_iterable(types))),
    }
    if native:
        brought = [{TOKEN_TYPES: torch.tensor(each)} for each in types]
        hidden = model.forward(given["ids"], given["positions"], [], metadata(lengths, row_inputs=brought))
    else:
        hidden = Interpreter(program, []).run(given, metadata(lengths))["hidden"]
    start = 0
    for text, kinds in zip(texts, types, strict=True):
        with torch.no_grad():
            theirs = reference(torch.tensor([text]), token_type_ids=torch.tensor([kinds])).last_hidden_state[0]
        torch.testing.assert_close(hidden[start : start + len(text)], theirs, rtol=1e-5, atol=1e-5)
        start += len(text)


def test_bert_alone_and_in_a_batch(tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path, "BertModel", num_hidden_layers=2, pad_token_id=0)
    model = Bert(Keys(reference.config.to_dict()), build())
    filled(model, tmp_path)

    def run(lengths: list[int]) -> torch.Tensor:
        ids = torch.tensor([token for length in lengths for token in tiny_hf.token_ids(length, seed=length)])
        positions = torch.cat([torch.arange(length) for length in lengths])
        return model.forward(ids, positions, [], metadata(lengths))

    batch = run([5, 70, 1, 33])
    for start, length in ((0, 5), (5, 70), (75, 1), (76, 33)):
        assert torch.equal(batch[start : start + length], run([length]))


WHISPER = {
    "d_model": 48, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 80, "decoder_ffn_dim": 80, "max_source_positions": 40, "max_target_positions": 64, "num_mel_bins": 8,
    "vocab_size": 160, "decoder_start_token_id": 3, "init_std": 0.2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


class Listening(PagedSequences):
    """Sequences that each attend to an encoder's output of their own."""

    def __init__(self, model: WhisperDecoder) -> None:
        super().__init__(model)  # type: ignore[arg-type]
        self.sounds: dict[str, int] = {}

    def listen(self, name: str, features: torch.Tensor) -> None:
        """Keep keys and values of an encoder's output [length, H]."""
        self.sounds[name] = len(features)
        self._grow(name, len(features))
        self.lengths[name] = 0
        where = [torch.arange(len(features))]
        self.model.keep(features, self.caches, self._metadata([name], [0, len(features)], where))  # type: ignore[attr-defined]

    def _metadata(self, names: list[str], starts: list[int], positions: list[torch.Tensor]) -> AttentionMetadata:
        lens = torch.tensor([self.sounds.get(name, 0) for name in names], dtype=torch.int32)
        return replace(super()._metadata(names, starts, positions), encoder_lens=lens)


def test_whispers_decoder(tmp_path: Path) -> None:
    transformers.set_seed(1)
    reference = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**WHISPER)).float().eval()
    for parameter in reference.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    reference.save_pretrained(tmp_path)
    model = WhisperDecoder(Keys(reference.config.to_dict()), build())
    filled(model, tmp_path)
    sequences = Listening(model)
    lengths = {"short": 7, "long": 40, "silent": 1}
    sounds = {
        name: torch.randn(length, 48, generator=torch.Generator().manual_seed(length)) for name, length in lengths.items()
    }
    prompts = {name: tiny_hf.token_ids(length, seed=length) for name, length in (("short", 5), ("long", 1), ("silent", 20))}
    for name, sound in sounds.items():
        sequences.listen(name, sound)

    def theirs(name: str, ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            given = transformers.modeling_outputs.BaseModelOutput(sounds[name].unsqueeze(0))
            return reference(encoder_outputs=given, decoder_input_ids=torch.tensor([ids])).logits[0]

    expected = {name: list(ids) for name, ids in prompts.items()}
    for _ in range(12):
        for name, ids in expected.items():
            ids.append(int(theirs(name, ids)[-1].argmax()))
    ours = {name: list(ids) for name, ids in prompts.items()}
    work = dict(prompts)
    for _ in range(12):
        for name, logits in sequences.step(work).items():
            assert tiny_hf.difference(logits, theirs(name, ours[name])[-len(logits) :]) < TOLERANCE
            work[name] = [int(logits[-1].argmax())]
            ours[name] += work[name]
    assert ours == expected
    assert len({*chain.from_iterable(expected.values())}) > 8, "one token for all proves little"
