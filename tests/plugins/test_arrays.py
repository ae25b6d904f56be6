"""Arrays in a prompt reach a model that a package brings, across both processes; what does not fit is that request's error alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dist_info import write_dist_info
from plugin_environment import PACKAGES
from safetensors.torch import save_file

from octavo import LLM, PoolingParams
from octavo.errors import RequestFailedError, ValidationError

WIDTH = 32


@pytest.fixture
def array_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, torch.Tensor]:
    """The model's folder, and its weight."""
    site, folder = tmp_path / "site", tmp_path / "model"
    folder.mkdir()
    write_dist_info(site, "array_model", {"octavo.models": {"ArrayModel": "array_model:ArrayModel"}})
    for place in (PACKAGES, site):
        monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", f"{PACKAGES}:{site}")
    sizes = {"vocab_size": 8, "hidden_size": WIDTH, "intermediate_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1}
    (folder / "config.json").write_text(json.dumps({"architectures": ["ArrayModel"], "max_position_embeddings": 64, **sizes}))
    weight = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))
    save_file({"weight.weight": weight}, folder / "model.safetensors")
    return folder, weight


def test_arrays_reach_the_model(array_model: tuple[Path, torch.Tensor]) -> None:
    folder, weight = array_model
    params = PoolingParams(task="token_embed", use_activation=False)
    arrays = [torch.randn(n, WIDTH) for n in (1, 5, 3)]
    prompts = [{"prompt_token_ids": [1] * len(rows), "multi_modal_data": {"rows": rows}} for rows in arrays]
    with LLM(str(folder), dtype="float32", skip_tokenizer_init=True) as llm:
        for rows, output in zip(arrays, llm.encode(prompts, params, use_tqdm=False), strict=True):  # type: ignore[arg-type]
            torch.testing.assert_close(torch.from_numpy(output.outputs.data), rows @ weight.T, rtol=1e-5, atol=1e-5)
        nested = {"prompt_token_ids": [1], "multi_modal_data": {"image": {"rows": arrays[0].numpy().astype(np.float16)}}}
        [half] = llm.encode([nested], params, use_tqdm=False)  # type: ignore[list-item]
        torch.testing.assert_close(
            torch.from_numpy(half.outputs.data), arrays[0].half().float() @ weight.T, rtol=1e-5, atol=1e-5
        )
        with pytest.raises(ValidationError, match="multi_modal_data holds 'pixels'; it reads rows"):
            llm.encode({"prompt_token_ids": [1], "multi_modal_data": {"pixels": arrays[0]}}, params, use_tqdm=False)  # type: ignore[typeddict-unknown-key]
        with pytest.raises(ValidationError, match=r"multi_modal_data\['rows'\] must be an array of numbers, got str"):
            llm.encode({"prompt_token_ids": [1], "multi_modal_data": {"rows": "x"}}, params, use_tqdm=False)  # type: ignore[typeddict-unknown-key]
        with pytest.raises(RequestFailedError, match=r"rows must be \[2, 32\], got \[1, 32\]"):
            llm.encode({"prompt_token_ids": [1, 1], "multi_modal_data": {"rows": arrays[0]}}, params, use_tqdm=False)  # type: ignore[typeddict-unknown-key]
        [again] = llm.encode([prompts[1]], params, use_tqdm=False)  # type: ignore[list-item]
        assert again.outputs.data.shape == (5, WIDTH)
