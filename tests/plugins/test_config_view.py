"""The configuration as plugins see it."""

from __future__ import annotations

import pytest
import torch

from octavo.plugins.config_view import vllm_config
from octavo.plugins.trial import trial_config

HF = {"pretrained_cfg": {"data": [1, 2]}, "text_config": {"hidden_size": 4, "vocab_size": 32}, "num_labels": 2}


def test_vllms_names() -> None:
    view = vllm_config(trial_config(HF))
    model = view.model_config
    assert (model.model, model.served_model_name, model.max_model_len) == ("trial", "trial", 128)
    assert model.dtype is torch.float32
    assert (model.get_hidden_size(), model.get_vocab_size()) == (4, 32)
    assert model.hf_config.to_dict()["pretrained_cfg"] == {"data": [1, 2]}
    assert model.hf_config.pretrained_cfg["data"] == [1, 2]
    assert model.hf_config.text_config.hidden_size == 4
    assert model.hf_text_config.hidden_size == 4
    assert getattr(model.hf_config, "nothing", 7) == 7
    assert model.hf_config.get("num_labels") == 2
    assert model.hf_config.get("nothing") is None
    assert (view.cache_config.block_size, view.scheduler_config.max_num_seqs) == (16, 8)
    assert view.lora_config is None


def test_nothing_can_be_changed() -> None:
    view = vllm_config(trial_config(HF))
    for owner in (view, view.model_config, view.model_config.hf_config):
        with pytest.raises(AttributeError, match="cannot be changed by a plugin"):
            owner.model = "another"
        with pytest.raises(AttributeError):
            del owner.model
    view.model_config.hf_config.to_dict()["pretrained_cfg"]["data"].append(3)
    view.model_config.hf_config.pretrained_cfg["data"].append(3)
    assert view.model_config.hf_config.pretrained_cfg == {"data": [1, 2]}


def test_what_is_not_there_says_what_is() -> None:
    with pytest.raises(AttributeError, match=r"model_config has no 'modle' here; it has .*model, "):
        _ = vllm_config(trial_config(HF)).model_config.modle
