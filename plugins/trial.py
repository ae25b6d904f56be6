"""A plugin tried without an engine: its methods in their order, and a function in the model's place. For tests of plugins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from octavo.config.structs import CacheConfig, DeviceConfig, EngineConfig, ModelConfig, SchedulerConfig
from octavo.outputs import CompletionOutput, RequestOutput
from octavo.params import SamplingParams
from octavo.plugins.config_view import vllm_config
from octavo.plugins.generations import Params, PluginCalls, make_plugin
from octavo.plugins.io_processor import ModelOutput
from octavo.plugins.messages import IOProcessorRequest
from octavo.plugins.renderer import Renderer
from octavo.pooling_outputs import PoolingOutput, PoolingRequestOutput

_REQUEST_ID = "pooling-trial"


class Trial:
    """One plugin, made as an engine makes it.

    Args:
        cls: the plugin's class.
        model: gives for a prompt what the model would: an array or tensor for pooling, a text for generating.
        hf_config: what config.json holds.
        tokenizer: what `renderer.get_tokenizer()` gives.
        tensors: give it torch tensors, as a plugin gets them that registers with vLLM.

    Raises:
        Exception: what the plugin's constructor raises.
    """

    def __init__(
        self,
        cls: type,
        model: Callable[[Any], Any],
        *,
        hf_config: Mapping[str, Any] | None = None,
        tokenizer: Any = None,
        tensors: bool = False,
    ) -> None:
        view = vllm_config(trial_config(hf_config or {}))
        self._calls = PluginCalls(cls.__name__, make_plugin(cls, view, Renderer(view, lambda: tokenizer)), tensors=tensors)
        self._model = model
        self.prompts: list[Any] = []
        """What `pre_process` made of the last request."""
        self.params: list[Params] = []
        """And the parameters of each."""

    def ask(self, data: Any, *, online: bool = True, task: str = "plugin", params: Params | None = None) -> Any:
        """What a client gets for `data`: the answer's JSON as a dict, or offline the plugin's output.

        Raises:
            ValidationError: the plugin refuses the data.
            PluginError: the plugin failed.
        """
        request = IOProcessorRequest(data=data, task=task)
        return asyncio.run(self._ask(request, online, task == "generate", params))

    async def _ask(self, request: IOProcessorRequest[Any], online: bool, generate: bool, params: Params | None) -> Any:
        request_id = _REQUEST_ID if online else None
        prepared = await self._calls.prepare(request, request_id, params, online=online, generate=generate)
        self.prompts, self.params = prepared.prompts, prepared.params
        pairs = list(enumerate(zip(prepared.prompts, prepared.params, strict=True)))
        outputs = [(index, self._output(index, prompt, one)) for index, (prompt, one) in pairs]
        outputs.reverse()  # the model need not finish them in order
        done = await self._calls.finish(outputs, request_id, online=online, answer_id=_REQUEST_ID)
        return msgspec.json.decode(done.output) if online else done.output

    def _output(self, index: int, prompt: Any, params: Params) -> ModelOutput:
        made, request_id = self._model(prompt), f"{_REQUEST_ID}-{index}"
        ids = prompt if isinstance(prompt, list) else []
        if isinstance(params, SamplingParams):
            completion = CompletionOutput(0, made, [], finish_reason="stop")
            return RequestOutput(request_id, prompt if isinstance(prompt, str) else None, ids, [completion], finished=True)
        return PoolingRequestOutput(request_id=request_id, outputs=PoolingOutput(made), prompt_token_ids=ids, finished=True)


def trial_config(hf_config: Mapping[str, Any]) -> EngineConfig:
    """The configuration of no engine."""
    hf_config = {"architectures": ["TrialModel"], "hidden_size": 4, "vocab_size": 32, **hf_config}
    model = ModelConfig(
        name="trial", path="trial", format="dummy", hf_config=hf_config, architecture=hf_config["architectures"][0],
        dtype="float32", max_model_len=128, fit_max_model_len=False, vocab_size=hf_config["vocab_size"], eos_token_ids=(),
        generation_config={}, tokenizer_path="trial", served_model_names=("trial",), skip_tokenizer_init=True,
    )  # fmt: skip
    return EngineConfig(
        model=model,
        cache=CacheConfig(16, "float32", 0.25, None, None, enable_prefix_caching=True),
        scheduler=SchedulerConfig(8, 128, True, 0, "fcfs", True, 0, None, 1),
        device=DeviceConfig("cpu", 1, "uni"),
    )
