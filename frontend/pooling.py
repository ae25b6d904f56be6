"""From what a caller says to what the core works with, for pooling: prompt and PoolingParams in, token ids and PoolingSpec out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from octavo.config import ModelConfig
from octavo.errors import ValidationError
from octavo.frontend.cut_tokenization import PairForm, TokenPair, encode_within, encoded, pair_joiner
from octavo.frontend.input_processor import InputProcessor, ProcessedInput, prompt_parts
from octavo.frontend.tokenization import parse_tokenization
from octavo.params import RequestOutputKind, SamplingParams
from octavo.pooling_config import PoolingConfig
from octavo.pooling_params import PoolingParams
from octavo.wire.pooling_spec import PoolingSpec
from octavo.wire.sampling_spec import SamplingSpec

TOKEN_TYPES = "token_types"
"""The input that says of each token which of a pair's texts it is of."""


def supported_tasks(model: ModelConfig) -> tuple[str, ...]:
    """Pooling tasks of the model that is served; none where it generates text."""
    config = model.pooling
    if config is None:
        return ()
    if config.task == "embed":
        return ("embed", "token_embed", "plugin")
    return ("token_classify", "plugin") if config.per_token else ("classify", "plugin")


def pooling_spec(model: ModelConfig, params: PoolingParams) -> PoolingSpec:
    """What a request asks of the model.

    Raises:
        ValidationError: the model cannot do that; names the field, or the flag that would change it.
    """
    config = model.pooling
    if config is None:
        message = "The model generates text and is not served for pooling; start it with --runner pooling."
        raise ValidationError(message, parameter="task", value=params.task)
    task, default = params.task, supported_tasks(model)[0]
    if task is None or task == "plugin":
        task = default  # type: ignore[assignment]
    if task not in supported_tasks(model):
        message = f"Unsupported task: {task!r}. The model supports {', '.join(supported_tasks(model))}."
        raise ValidationError(message, parameter="task", value=task)
    per_token = str(task).startswith("token_")
    return PoolingSpec(
        kinds=("all",) if per_token else config.kinds,
        head=config.task,
        activate=_activate(config, params),
        dimensions=_dimensions(model, config, params),
    )


async def pooling_input(processor: InputProcessor, model: ModelConfig, prompt: Any, params: PoolingParams) -> ProcessedInput:
    """Check and convert one request.

    Args:
        prompt: as `InputProcessor.process` takes it; a dict may hold `multi_modal_data` (arrays by name, of a model that takes such) and
            `token_type_ids`, and `prompt` may be a pair of texts.

    Raises:
        ValidationError: naming what is wrong.
    """
    if not isinstance(params, PoolingParams):
        message = f"pooling_params must be PoolingParams, got {type(params).__name__}."
        raise ValidationError(message, parameter="pooling_params")
    spec = pooling_spec(model, params)
    fields = dict(prompt) if isinstance(prompt, Mapping) else {}
    inputs = _arrays(fields.pop("multi_modal_data", None))
    processor.check_inputs(inputs)
    types = fields.pop("token_type_ids", None)
    text = fields.get("prompt") if fields else prompt
    if isinstance(text, tuple) and len(text) == 2 and all(isinstance(one, str) for one in text):
        parts = prompt_parts({**fields, "prompt": text[0]})
        pair = await _encode_pair(processor, text, params)
        ids, types = pair.ids, pair.type_ids if types is None else types
    else:
        parts = prompt_parts(fields or prompt)
        if parts.token_ids is None:
            ids = await _encode(processor, parts.text or "", params)
        else:
            ids = _cut(parts.token_ids, _limit(processor, params), params.truncation_side)
    processor.check_whole_prompt(ids)
    # A tokenizer gives them for every pair; most models read none.
    if types is not None and processor.reads(TOKEN_TYPES):
        inputs[TOKEN_TYPES] = _types(types, len(ids))
    return ProcessedInput(parts.text, ids, _PARAMS, _SPEC, parts.cache_salt, spec, inputs)


def with_tokenization(params: PoolingParams, options: Mapping[str, Any] | None) -> PoolingParams:
    """The parameters, with what one call wants of its prompts' tokenization.

    Raises:
        ValidationError: naming an option that is not known or not allowed.
    """
    if not options or not isinstance(params, PoolingParams):
        return params
    how = parse_tokenization(options)
    if not how.add_special_tokens:
        message = "tokenization_kwargs: add_special_tokens must be true of a pooling model; send token ids without them."
        raise ValidationError(message, parameter="tokenization_kwargs")
    side = options.get("truncation_side") or params.truncation_side
    limit = params.truncate_prompt_tokens if how.limit is None else how.limit
    return msgspec.structs.replace(params, truncate_prompt_tokens=limit, truncation_side=side)


_PARAMS = SamplingParams(max_tokens=1, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)
_SPEC = SamplingSpec(max_tokens=1, seed=0)
"""What a pooled request has in the place of what says how tokens are sampled: none are."""


def _activate(config: PoolingConfig, params: PoolingParams) -> bool:
    for said in (params.use_activation, config.use_activation):
        if said is not None:
            return said
    return config.normalize if config.task == "embed" else True


def _dimensions(model: ModelConfig, config: PoolingConfig, params: PoolingParams) -> int | None:
    wanted = params.dimensions
    if wanted is None or (config.task == "embed" and wanted == vector_size(model)):
        return None
    if config.task != "embed" or config.dimensions is None:
        message = f"Model {model.served_model_names[0]!r} does not support matryoshka representation: dimensions must be unset."
        raise ValidationError(message, parameter="dimensions", value=wanted)
    if config.dimensions and wanted not in config.dimensions:
        message = f"dimensions must be one of {', '.join(map(str, config.dimensions))}, got {wanted}."
        raise ValidationError(message, parameter="dimensions", value=wanted)
    most = vector_size(model)
    if wanted > most:
        raise ValidationError(f"dimensions must be from 1 to {most}, got {wanted}.", parameter="dimensions", value=wanted)
    return wanted


def vector_size(model: ModelConfig) -> int:
    """Numbers of an embedding of the model."""
    text = model.hf_config.get("text_config") or model.hf_config
    config = model.pooling
    if config is not None and config.dense:
        return config.dense[-1].out_features
    return int(text["hidden_size"]) * (len(config.kinds) if config is not None else 1)


async def _encode(processor: InputProcessor, text: str, params: PoolingParams) -> list[int]:
    """Token ids of a text, cut as the parameters say."""
    pool, limit, left = processor.texts, _limit(processor, params), params.truncation_side == "left"
    if limit is None:
        return await pool.encode(text)
    cut = await pool.cut_to_fit(text, keep_end=left)
    work = partial(encode_within, limit=limit, keep_end=left, add_special_tokens=True)
    return await pool.run(len(cut), work, pool.need_tokenizer("prompt"), cut, "prompt")


async def _encode_pair(processor: InputProcessor, texts: tuple[str, str], params: PoolingParams) -> TokenPair:
    """Two texts as one prompt, cut as the parameters say."""
    pool, form = processor.texts, PairForm(whole=_limit(processor, params), keep_ends=params.truncation_side == "left")
    tokenizer = pool.need_tokenizer("prompt")
    if form.whole is not None:
        texts = (
            await pool.cut_to_fit(texts[0], keep_end=form.keep_ends),
            await pool.cut_to_fit(texts[1], keep_end=form.keep_ends),
        )
    for text in texts:
        await pool.check_text(text)

    def joined() -> TokenPair:
        first, second = (encoded(tokenizer, text, "prompt") for text in texts)
        return pair_joiner(tokenizer, form)(first, second)

    return await pool.run(sum(map(len, texts)), joined)


def _limit(processor: InputProcessor, params: PoolingParams) -> int | None:
    limit = params.truncate_prompt_tokens
    if limit is None:
        return None
    most = processor.max_model_len
    if limit > most:
        message = f"truncate_prompt_tokens must be at most the context of {most} tokens, got {limit}."
        raise ValidationError(message, parameter="truncate_prompt_tokens", value=limit)
    return most if limit == -1 else limit


def _cut(ids: list[int], limit: int | None, side: str | None) -> list[int]:
    if limit is None or len(ids) <= limit:
        return ids
    return ids[-limit:] if side == "left" else ids[:limit]


def _arrays(data: Any) -> dict[str, np.ndarray]:
    """Arrays by name; those of one modality may be a dict of their own."""
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise ValidationError(f"multi_modal_data must be a dict, got {type(data).__name__}.", parameter="multi_modal_data")
    arrays: dict[str, np.ndarray] = {}
    for name, value in data.items():
        if not isinstance(name, str):
            raise ValidationError(
                f"multi_modal_data must have names that are strings, got {name!r:.60}.", parameter="multi_modal_data"
            )
        arrays |= _arrays(value) if isinstance(value, Mapping) else {name: _array(name, value)}
    return arrays


def _array(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind in "iub":
        array = array.astype(np.int64, copy=False)
    else:
        message = f"multi_modal_data[{name!r}] must be an array of numbers, got {type(value).__name__}."
        raise ValidationError(message, parameter="multi_modal_data")
    return np.ascontiguousarray(array)


def _types(types: Any, length: int) -> np.ndarray:
    fits = isinstance(types, Sequence) and len(types) == length and all(type(one) is int and 0 <= one < 256 for one in types)
    if not fits:
        raise ValidationError(
            f"token_type_ids must hold one small integer for each of the {length} tokens.", parameter="token_type_ids"
        )
    return np.asarray(types, np.int64)
