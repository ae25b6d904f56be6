"""What a sentence-transformers folder says of pooling, in the layout of version 6 and in those before.

Modules are known by the last part of their type's name, under which both generations and subclasses have them. What is not known is
refused: to leave a module out would give other vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.checked import Fields, is_number, shown
from octavo.errors import ConfigError
from octavo.pooling_config import DenseActivation, DenseConfig
from octavo.strict_json import read_list, read_object
from octavo.wire.pooling_spec import PoolingKind

_OLD_MODES: dict[str, PoolingKind] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "last",
}
"""Switches of old folders, in the order in which several of them are joined."""
_MODES: dict[str, PoolingKind] = {
    "cls": "cls", "max": "max", "mean": "mean", "mean_sqrt_len_tokens": "mean_sqrt_len", "weightedmean": "weightedmean", "lasttoken": "last",
}  # fmt: skip
_ACTIVATIONS: dict[str, DenseActivation] = {
    "Identity": "identity", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "Sigmoid": "sigmoid",
}  # fmt: skip
_LARGEST = 1 << 20


@dataclass(frozen=True)
class SentencePooling:
    """What stands behind the model.

    Attributes:
        kinds: how a text's hidden states become one vector; () = the folder has no Pooling.
        dense: layers behind it.
        normalize: a Normalize is the last.
        max_length: tokens of a text that are read; None = the folder does not say.
    """

    kinds: tuple[PoolingKind, ...]
    dense: tuple[DenseConfig, ...]
    normalize: bool
    max_length: int | None


def read_sentence_pooling(folder: Path) -> SentencePooling | None:
    """What modules.json and the modules' folders say; None where there is no modules.json.

    Raises:
        ConfigError: a file is malformed, or asks for what is not known; names it.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return None
    kinds: tuple[PoolingKind, ...] = ()
    dense: list[DenseConfig] = []
    normalize = False
    for number, (kind, place) in enumerate(_modules(path)):
        if normalize or (kind != "Transformer" and number == 0):
            raise ConfigError(f"{path}: {kind} cannot stand at place {number}; a Transformer is first, a Normalize last")
        if kind == "Pooling":
            kinds = _kinds(place / "config.json")
        elif kind == "Dense":
            dense.append(_dense(place))
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise ConfigError(
                f"{path}: a module of the type {kind} is not known; known are Transformer, Pooling, Dense, Normalize"
            )
    return SentencePooling(kinds, tuple(dense), normalize, _max_length(folder))


def _modules(path: Path) -> list[tuple[str, Path]]:
    """Kind and folder of each module, in order."""
    modules = []
    for entry in read_list(path):
        if not isinstance(entry, dict):
            raise ConfigError(f"{path} must hold objects, got {shown(entry)}")
        fields = Fields(str(path), entry)
        place = Path(fields.text("path", ""))
        if place.is_absolute() or ".." in place.parts:
            raise fields.refuse("path", "a folder inside the model's")
        modules.append((fields.text("type").rpartition(".")[2], path.parent / place))
    return modules


def _kinds(path: Path) -> tuple[PoolingKind, ...]:
    config = read_object(path)
    fields = Fields(str(path), config)
    if fields.flag("include_prompt", True) is False:
        raise fields.refuse("include_prompt", "true: prompts' tokens are pooled too")
    if "pooling_mode" not in config:
        return tuple(kind for key, kind in _OLD_MODES.items() if fields.flag(key, False)) or ("mean",)
    given = config["pooling_mode"]
    modes = given if isinstance(given, list) else [given]
    if not modes or not all(isinstance(mode, str) and mode in _MODES for mode in modes):
        raise fields.refuse("pooling_mode", f"one or several of {', '.join(_MODES)}")
    return tuple(kind for name, kind in _MODES.items() if name in modes)


def _dense(folder: Path) -> DenseConfig:
    config = read_object(folder / "config.json")
    fields = Fields(str(folder / "config.json"), config)
    for key, wanted in (("module_input_name", "sentence_embedding"), ("module_output_name", "sentence_embedding")):
        if fields.text(key, wanted) not in (wanted, ""):
            raise fields.refuse(key, wanted)
    if fields.flag("use_residual", False):
        raise fields.refuse("use_residual", "false")
    name = fields.text("activation_function", "torch.nn.modules.activation.Tanh").rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise fields.refuse("activation_function", f"one of {', '.join(_ACTIVATIONS)}")
    return DenseConfig(
        folder=str(folder),
        in_features=fields.integer("in_features", 1, _LARGEST),
        out_features=fields.integer("out_features", 1, _LARGEST),
        bias=fields.flag("bias", True),
        activation=_ACTIVATIONS[name],
    )


def _max_length(folder: Path) -> int | None:
    """sentence_bert_config.json, or what the tokenizer says: since version 6 the length stands there."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = _optional(folder / name).get(key)
        if is_number(value) and 0 < value < 1 << 31:
            return int(value)
    return None


def _optional(path: Path) -> Mapping[str, Any]:
    return read_object(path) if path.is_file() else {}
