"""Encoders against transformers: hidden states, classes of texts and of tokens; alone, and beside others of other lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import tiny_hf
from parity.pooled import PoolingModel

from octavo.errors import ConfigError
from octavo.pooling_params import PoolingParams

SIZES = {"pad_token_id": 1, "type_vocab_size": 2, "layer_norm_eps": 1e-5}
DISTIL = {"dim": 48, "hidden_dim": 80, "n_layers": 3, "n_heads": 4, "pad_token_id": 0}
FAMILIES: dict[str, dict[str, Any]] = {
    "Bert": SIZES | {"pad_token_id": 0},
    "Roberta": SIZES,
    "XLMRoberta": SIZES,
    "DistilBert": DISTIL,
}
LENGTHS = (1, 33, 7, 100, 64)
TEXTS = [tiny_hf.token_ids(length, seed=length) for length in LENGTHS]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(folder: Path, family: str, suffix: str, **changes: Any) -> Any:
    return tiny_hf.make(folder, family + suffix, **(FAMILIES[family] | changes))


@torch.no_grad()
def theirs(reference: Any, text: list[int], **more: Any) -> Any:
    return reference(torch.tensor([text]), **more)


@pytest.mark.parametrize("suffix", ["Model", "ForMaskedLM"])
def test_hidden_states(family: str, suffix: str, tmp_path: Path) -> None:
    reference = made(tmp_path, family, suffix)
    body = getattr(reference, reference.base_model_prefix, reference)
    model = PoolingModel(tmp_path)
    ours = model.pooled(TEXTS, PoolingParams(task="token_embed", use_activation=False))
    for text, hidden in zip(TEXTS, ours, strict=True):
        torch.testing.assert_close(torch.from_numpy(hidden), theirs(body, text).last_hidden_state[0], rtol=1e-5, atol=2e-5)
        assert np.array_equal(model.pooled([text], PoolingParams(task="token_embed", use_activation=False))[0], hidden)


def test_classes_of_texts(family: str, tmp_path: Path) -> None:
    reference = made(tmp_path, family, "ForSequenceClassification", num_labels=3)
    model = PoolingModel(tmp_path)
    logits = model.pooled(TEXTS, PoolingParams(use_activation=False))
    probabilities = model.pooled(TEXTS)
    for text, ours, shares in zip(TEXTS, logits, probabilities, strict=True):
        expected = theirs(reference, text).logits[0]
        torch.testing.assert_close(torch.from_numpy(ours), expected, rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(torch.from_numpy(shares), expected.softmax(0), rtol=1e-5, atol=1e-5)
        assert np.array_equal(model.pooled([text])[0], shares)


def test_classes_of_tokens(family: str, tmp_path: Path) -> None:
    reference = made(tmp_path, family, "ForTokenClassification", num_labels=4)
    ours = PoolingModel(tmp_path).pooled(TEXTS, PoolingParams(use_activation=False))
    for text, logits in zip(TEXTS, ours, strict=True):
        torch.testing.assert_close(torch.from_numpy(logits), theirs(reference, text).logits[0], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("family_of_pairs", ["Bert"])
def test_token_types_of_pairs(family_of_pairs: str, tmp_path: Path) -> None:
    reference = made(tmp_path, family_of_pairs, "ForSequenceClassification", num_labels=1)
    types = [[int(2 * i >= len(text)) for i in range(len(text))] for text in TEXTS]
    inputs = [{"token_types": np.asarray(each)} for each in types]
    ours = PoolingModel(tmp_path).pooled(TEXTS, inputs=inputs)
    for text, each, score in zip(TEXTS, types, ours, strict=True):
        expected = theirs(reference, text, token_type_ids=torch.tensor([each])).logits[0].sigmoid()
        torch.testing.assert_close(torch.from_numpy(score), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", ["Model"])
def test_padding_tokens_inside_a_text_count_no_position(suffix: str, tmp_path: Path) -> None:
    reference = made(tmp_path, "Roberta", suffix)
    texts = [[5, 1, 9, 1, 1, 30, 8], [1, 4, 4], [7, 8, 9]]
    ours = PoolingModel(tmp_path).pooled(texts, PoolingParams(task="token_embed", use_activation=False))
    for text, hidden in zip(texts, ours, strict=True):
        expected = theirs(reference, text, attention_mask=torch.ones(1, len(text))).last_hidden_state[0]
        torch.testing.assert_close(torch.from_numpy(hidden), expected, rtol=1e-5, atol=2e-5)


def test_roberta_has_fewer_places_than_its_table(tmp_path: Path) -> None:
    made(tmp_path, "Roberta", "Model")
    assert PoolingModel(tmp_path).config.model.max_model_len == tiny_hf.SIZES["max_position_embeddings"] - 2


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_narrow_weights_stay_close(dtype: str, tmp_path: Path) -> None:
    made(tmp_path, "Bert", "Model", initializer_range=0.05)
    exact = PoolingModel(tmp_path).pooled(TEXTS)
    given = {"quantization": "int8"} if dtype == "int8" else {"dtype": dtype}
    for ours, right in zip(PoolingModel(tmp_path, **given).pooled(TEXTS), exact, strict=True):
        assert float(ours @ right) > 0.995


SAYS = {
    "regression": ({"problem_type": "regression"}, "identity"),
    "many labels": ({"problem_type": "multi_label_classification"}, "sigmoid"),
    "one label": ({"num_labels": 1}, "sigmoid"),
    "new key": ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "identity"),
    "old key": ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, "sigmoid"),
}


@pytest.mark.parametrize("says", SAYS)
def test_what_config_json_says_of_a_classifiers_activation(says: str, tmp_path: Path) -> None:
    keys, activation = SAYS[says]
    reference = made(tmp_path, "Bert", "ForSequenceClassification", num_labels=keys.get("num_labels", 3))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {k: v for k, v in keys.items() if k != "num_labels"}))
    expected = theirs(reference, TEXTS[1]).logits[0]
    expected = {"identity": expected, "sigmoid": expected.sigmoid()}[activation]
    torch.testing.assert_close(torch.from_numpy(PoolingModel(tmp_path).pooled([TEXTS[1]])[0]), expected, rtol=1e-5, atol=2e-5)


def test_an_activation_that_is_not_known_is_refused(tmp_path: Path) -> None:
    made(tmp_path, "Bert", "ForSequenceClassification", num_labels=1)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sbert_ce_default_activation_function": "my.module.Odd"}))
    with pytest.raises(
        ConfigError, match=r"the activation 'my\.module\.Odd' is not known; known are Sigmoid, Identity, Softmax"
    ):
        PoolingModel(tmp_path)
