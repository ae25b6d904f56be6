"""Every format of weights, every type, through the core process as it is started for users: its torch is imported in part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType as Kind
from parity import gguf_files

from octavo import LLM, SamplingParams

PROMPT = {"prompt_token_ids": [5, 80, 3, 99, 42, 7]}
OPTIONS: dict[str, Any] = {
    "device": "cpu", "num_threads": 1, "num_gpu_blocks_override": 16, "max_model_len": 64, "max_num_seqs": 2,
    "skip_tokenizer_init": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model's weights in each format; q8 is quantized."""
    from transformers import LlamaForCausalLM

    folder = tmp_path_factory.mktemp("formats")
    model = LlamaForCausalLM.from_pretrained(tiny_model_dir)
    gguf_files.write(folder / "tiny.gguf", model)
    gguf_files.write(folder / "q8.gguf", model, Kind.Q8_0)
    return {"folder": tiny_model_dir, "gguf": folder / "tiny.gguf", "q8": folder / "q8.gguf"}


def tokens(model: Path, **options: Any) -> list[int]:
    params = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
    with LLM(str(model), **OPTIONS, **options) as llm:
        return list(llm.generate(PROMPT, params, use_tqdm=False)[0].outputs[0].token_ids)


def test_formats_agree(models: dict[str, Path]) -> None:
    expected = tokens(models["folder"], load_format="safetensors", dtype="float32")
    assert tokens(models["gguf"], load_format="gguf", dtype="float") == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("folder", {"load_format": "dummy", "dtype": "float32"}),
        ("folder", {"load_format": "dummy", "dtype": "bfloat16", "quantization": "int8"}),
        ("gguf", {"load_format": "dummy", "dtype": "float16", "kv_cache_dtype": "float32"}),
        ("folder", {"load_format": "safetensors", "dtype": "bfloat16"}),
        ("folder", {"load_format": "auto", "dtype": "half"}),
        ("gguf", {"load_format": "auto", "dtype": "bfloat16"}),
        ("q8", {"load_format": "gguf", "dtype": "float16", "quantization": "gguf"}),
    ],
    ids=str,
)
def test_it_starts_and_generates(models: dict[str, Path], model: str, options: dict[str, Any]) -> None:
    assert len(tokens(models[model], **options)) == 6
