"""Whether a model generates or pools, and how it pools: from options, the model's files and its architecture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from octavo.checked import Fields
from octavo.config.options import EngineOptions
from octavo.errors import ConfigError
from octavo.pooling_config import ClassActivation, PoolingConfig
from octavo.sources.decoders import CLASSIFIES, FROM_TOKENS, decoder_of
from octavo.sources.encoders import ENCODERS, num_labels
from octavo.sources.sentence_transformers import SentencePooling, read_sentence_pooling
from octavo.wire.pooling_spec import PoolingKind

_TASKS = {
    "generate": ("generate", "none"), "embed": ("pooling", "embed"), "embedding": ("pooling", "embed"),
    "classify": ("pooling", "classify"), "score": ("pooling", "classify"), "reward": ("pooling", "classify"),
}  # fmt: skip
"""--task, as engines had it once -> --runner and --convert."""
_TYPES: dict[str, PoolingKind] = {
    "CLS": "cls", "LAST": "last", "MEAN": "mean", "MAX": "max", "MEAN_SQRT_LEN": "mean_sqrt_len", "WEIGHTEDMEAN": "weightedmean",
}  # fmt: skip
_OLD_SWITCHES = ("normalize", "softmax", "activation")
_CLASS_ACTIVATIONS: dict[str, ClassActivation] = {"Sigmoid": "sigmoid", "Identity": "identity", "Softmax": "softmax"}
_PROBLEMS: dict[str, ClassActivation] = {"regression": "identity", "multi_label_classification": "sigmoid"}


class Work(NamedTuple):
    """What a model is served for."""

    runner: Literal["generate", "pooling"]
    convert: Literal["none", "embed", "classify"]


def work_of(options: EngineOptions, architecture: str) -> Work:
    """What the options and the architecture make of a model.

    Raises:
        ConfigError: it cannot do what was asked; names the flag.
    """
    runner, convert = _TASKS.get(options.task, (options.runner, options.convert))
    encoder = ENCODERS.get(architecture)
    classifies = architecture.endswith(CLASSIFIES) if encoder is None else encoder[1] != "none"
    pools = encoder is not None or decoder_of(architecture) != architecture
    if runner == "auto":
        runner = "pooling" if pools or convert in ("embed", "classify") else "generate"
    if runner == "generate":
        if pools:
            raise ConfigError(f"--runner generate: {architecture} generates no text; leave it out, or use --runner pooling")
        if convert in ("embed", "classify"):
            raise ConfigError(f"--convert {convert} makes a pooling model; it needs --runner pooling")
        return Work("generate", "none")
    if convert == "classify" and not classifies:
        raise ConfigError(
            f"--convert classify: {architecture} has no classifier; its config.json would name one in architectures"
        )
    if convert == "embed" and classifies:
        raise ConfigError(f"--convert embed: {architecture} is a classifier")
    return Work("pooling", "classify" if classifies else "embed")


def pooling_config(
    options: EngineOptions, work: Work, folder: Path, config: Mapping[str, Any], architecture: str, where: str
) -> tuple[PoolingConfig | None, int | None]:
    """How the model pools, and how many tokens of a text its files say are read (None = as many as it holds).

    Raises:
        ConfigError: --pooler-config or a file of the folder says what cannot be; names the key.
    """
    if work.runner == "generate":
        if options.pooler_config:
            raise ConfigError("--pooler-config is of pooling models; it needs --runner pooling")
        return None, None
    own = read_sentence_pooling(folder) if folder.is_dir() else None
    asked = Fields("--pooler-config", options.pooler_config or {})
    _check_known(asked)
    length = None if own is None else own.max_length
    if work.convert == "classify":
        return _classifier(asked, config, architecture, where), length
    return _embedder(asked, own, config, architecture), length


def _embedder(asked: Fields, own: SentencePooling | None, config: Mapping[str, Any], architecture: str) -> PoolingConfig:
    default: PoolingKind = "cls" if architecture in ENCODERS else "last"
    return PoolingConfig(
        task="embed",
        kinds=_asked_kinds(asked) or (own and own.kinds) or (default,),
        dense=own.dense if own is not None else (),
        normalize=own.normalize if own is not None and own.kinds else True,
        dimensions=_dimensions(config),
        use_activation=_use_activation(asked),
    )


def _classifier(asked: Fields, config: Mapping[str, Any], architecture: str, where: str) -> PoolingConfig:
    encoder = architecture in ENCODERS
    per_token = encoder and ENCODERS[architecture][1] == "tokens"
    labels = 1 if config.get(FROM_TOKENS) else num_labels(config, where)
    return PoolingConfig(
        task="classify",
        kinds=_asked_kinds(asked) or (("cls",) if encoder else ("last",)),
        activation=_class_activation(Fields(where, config), labels),
        num_labels=labels,
        per_token=per_token,
        use_activation=_use_activation(asked),
    )


def _class_activation(fields: Fields, labels: int) -> ClassActivation:
    problem = fields.text("problem_type", "")
    if problem in _PROBLEMS:
        return _PROBLEMS[problem]
    newer = fields.mapping("sentence_transformers") or {}
    name = newer.get("activation_fn") or fields.values.get("sbert_ce_default_activation_function")
    if name is None:
        return "sigmoid" if labels == 1 else "softmax"
    last = str(name).rpartition(".")[2]
    if not str(name).startswith("torch.nn.modules.") or last not in _CLASS_ACTIVATIONS:
        raise ConfigError(f"{fields.where}: the activation {name!r} is not known; known are {', '.join(_CLASS_ACTIVATIONS)}")
    return _CLASS_ACTIVATIONS[last]


def _dimensions(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    listed = config.get("matryoshka_dimensions")
    if isinstance(listed, list) and listed and all(type(one) is int and one > 0 for one in listed):
        return tuple(listed)
    return () if config.get("is_matryoshka") is True else None


def _check_known(asked: Fields) -> None:
    known = ("pooling_type", "seq_pooling_type", "tok_pooling_type", "use_activation", "dimensions", *_OLD_SWITCHES)
    for key, value in asked.values.items():
        if key not in known and value is not None:
            raise ConfigError(f"--pooler-config: {key!r} is not supported; known are {', '.join(known)}")
    if asked.text("tok_pooling_type", "ALL").upper() != "ALL":
        raise asked.refuse("tok_pooling_type", "ALL")
    if asked.values.get("dimensions") is not None:
        raise asked.refuse("dimensions", "unset: requests say how many numbers they want")


def _asked_kinds(asked: Fields) -> tuple[PoolingKind, ...]:
    key = "seq_pooling_type" if asked.values.get("seq_pooling_type") is not None else "pooling_type"
    name = asked.text(key, "").upper()
    if not name:
        return ()
    if name not in _TYPES:
        raise asked.refuse(key, f"one of {', '.join(_TYPES)}")
    return (_TYPES[name],)


def _use_activation(asked: Fields) -> bool | None:
    found = [asked.flag(key) for key in ("use_activation", *_OLD_SWITCHES) if asked.values.get(key) is not None]
    return found[0] if found else None
