"""Decoders that pool, against transformers: bodies saved alone, classifiers, and rerankers made of two words of the head."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
import torch
import transformers
from parity import tiny_hf
from parity.pooled import PoolingModel

from octavo.errors import ConfigError
from octavo.pooling_params import PoolingParams

TEXTS = [tiny_hf.token_ids(length, seed=length) for length in (1, 40, 9, 100)]


@pytest.mark.parametrize("architecture", ["Qwen3Model", "MistralModel", "Gemma2Model"])
def test_bodies_saved_alone(architecture: str, tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path, architecture, num_hidden_layers=2, head_dim=16)
    model = PoolingModel(tmp_path)
    assert model.config.model.pooling is not None
    for text, ours in zip(TEXTS, model.pooled(TEXTS), strict=True):
        with torch.no_grad():
            last = reference(torch.tensor([text])).last_hidden_state[0, -1]
        torch.testing.assert_close(torch.from_numpy(ours), last / last.norm(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("architecture", ["LlamaForSequenceClassification", "Qwen2ForSequenceClassification"])
def test_classifiers(architecture: str, labels: int, tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path, architecture, num_hidden_layers=2, num_labels=labels)
    model = PoolingModel(tmp_path)
    for text, ours, shares in zip(
        TEXTS, model.pooled(TEXTS, PoolingParams(use_activation=False)), model.pooled(TEXTS), strict=True
    ):
        reference.config.pad_token_id = reference.config.get_text_config().pad_token_id = 159
        with torch.no_grad():
            logits = reference(torch.tensor([text])).logits[0]
        torch.testing.assert_close(torch.from_numpy(ours), logits, rtol=1e-5, atol=3e-5)
        expected = logits.sigmoid() if labels == 1 else logits.softmax(0)
        torch.testing.assert_close(torch.from_numpy(shares), expected, rtol=1e-5, atol=2e-5)


def test_a_reranker_of_two_words(tmp_path: Path) -> None:
    """As Qwen3-Reranker is served: a model that generates, whose next word is yes or no."""
    reference = tiny_hf.make(
        tmp_path, "Qwen3ForCausalLM", num_hidden_layers=2, vocab_size=576, tie_word_embeddings=True, head_dim=16
    )
    tiny_models.make_tokenizer(tmp_path)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    words = ["a", "s"]
    overrides = {
        "architectures": ["Qwen3ForSequenceClassification"],
        "classifier_from_token": words,
        "is_original_qwen3_reranker": True,
    }
    no, yes = (tokenizer.convert_tokens_to_ids(word) for word in words)
    for text, ours in zip(TEXTS, PoolingModel(tmp_path, hf_overrides=overrides).pooled(TEXTS), strict=True):
        logits = tiny_hf.logits(reference, text)[-1]
        torch.testing.assert_close(torch.from_numpy(ours), (logits[yes] - logits[no]).sigmoid().view(1), rtol=1e-5, atol=2e-5)
    with pytest.raises(ConfigError, match="'nobodysword' is no token of the vocabulary"):
        PoolingModel(tmp_path, hf_overrides=overrides | {"classifier_from_token": ["a", "nobodysword"]})
    with pytest.raises(ConfigError, match="classifier_from_token must be two words"):
        PoolingModel(tmp_path, hf_overrides=overrides | {"classifier_from_token": ["a"]})
