"""Which architecture is built by which page.

A plugin adds one with an entry point in the group `octavo.models`, named like the architecture in config.json and
pointing to a page (see `contract.Page`); a program adds one with `register`. Either may replace a built-in one.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any, NoReturn

import torch

from octavo.config import EngineConfig
from octavo.errors import ConfigError
from octavo.executor.models.build import Build
from octavo.executor.models.contract import Model, Page
from octavo.sources.hf_config import ARCHITECTURE_PLUGINS, add_architecture, known_architectures

ARCHITECTURES = {
    "Gemma2ForCausalLM": "gemma.Gemma2",
    "Gemma3ForCausalLM": "gemma.Gemma3",
    "GemmaForCausalLM": "gemma.Gemma",
    "GraniteForCausalLM": "granite.Granite",
    "LlamaForCausalLM": "llama.Llama",
    "MistralForCausalLM": "mistral.Mistral",
    "MixtralForCausalLM": "mixtral.Mixtral",
    "Olmo2ForCausalLM": "olmo.Olmo2",
    "Phi3ForCausalLM": "phi.Phi3",
    "Qwen2ForCausalLM": "qwen.Qwen2",
    "Qwen3ForCausalLM": "qwen.Qwen3",
    "SmolLM3ForCausalLM": "smollm.SmolLM3",
    "BertModel": "bert.Bert",
    "BertForMaskedLM": "bert.BertForMaskedLM",
    "BertForSequenceClassification": "bert.BertForSequenceClassification",
    "BertForTokenClassification": "bert.BertForTokenClassification",
    "DistilBertModel": "distilbert.DistilBert",
    "DistilBertForMaskedLM": "distilbert.DistilBertForMaskedLM",
    "DistilBertForSequenceClassification": "distilbert.DistilBertForSequenceClassification",
    "DistilBertForTokenClassification": "distilbert.DistilBertForTokenClassification",
    "RobertaModel": "bert.Roberta",
    "RobertaForMaskedLM": "bert.RobertaForMaskedLM",
    "RobertaForSequenceClassification": "bert.RobertaForSequenceClassification",
    "RobertaForTokenClassification": "bert.RobertaForTokenClassification",
    "XLMRobertaModel": "bert.Roberta",
    "XLMRobertaForMaskedLM": "bert.RobertaForMaskedLM",
    "XLMRobertaForSequenceClassification": "bert.RobertaForSequenceClassification",
    "XLMRobertaForTokenClassification": "bert.RobertaForTokenClassification",
}
"""Architecture -> module of this package and class, imported when a model asks for it."""

_registered: dict[str, Page] = {}


class Keys(dict[str, Any]):
    """config.json whose missing keys are errors of the configuration."""

    def __missing__(self, key: str) -> NoReturn:
        raise ConfigError(f"config.json lacks {key!r}")


def register(name: str, page: Page) -> None:
    """Add an architecture, or replace one.

    Args:
        name: as in config.json's `architectures`.
        page: builds the model.
    """
    _registered[name] = page
    add_architecture(name)


def build_model(config: EngineConfig, device: torch.device) -> Model:
    """The model that config.json names, weights uninitialized.

    Raises:
        ConfigError: nothing is registered for the architecture; names those that are.

    """
    hf_config = config.model.hf_config
    page = _page(config.model.architecture, config.model.name)
    pooling = config.model.pooling
    if pooling is not None and pooling.task == "classify" and not config.model.is_encoder:
        from octavo.executor.models.classifying import classifying

        page = classifying(page)
    return page(Keys(hf_config.get("text_config") or hf_config), Build.of(config.model, device))


def built_in(name: str) -> Page:
    """The page of an architecture that comes with Octavo."""
    module, _, page = ARCHITECTURES[name].partition(".")
    found: Page = getattr(importlib.import_module(f"octavo.executor.models.{module}"), page)
    return found


def _page(name: str, model: str) -> Page:
    for entry in entry_points(group=ARCHITECTURE_PLUGINS, name=name):
        register(name, entry.load())
    if name in _registered:
        return _registered[name]
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"architecture {name!r} of model {model!r} is not supported; known are {', '.join(known_architectures())}"
        )
    return built_in(name)
