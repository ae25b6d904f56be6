"""The housekeeping half of `AsyncLLM`, under vLLM's names: pause, sleep, caches, profiles, calls of the workers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from octavo import envs
from octavo.config import EngineConfig
from octavo.errors import EngineDeadError, ValidationError
from octavo.frontend.hf_tokenizer import load_hf_tokenizer
from octavo.frontend.log_stats import LoggingStatLogger
from octavo.frontend.output_stream import OutputStream
from octavo.frontend.stats import StatLogger
from octavo.frontend.tokenization import tokenized_prompt
from octavo.inputs import PromptType
from octavo.not_served import ASYNC_LLM_METHODS, NotServedError, check_arguments
from octavo.params import SamplingParams

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from octavo.core.client import CoreClient
    from octavo.core.supervisor import CoreSupervisor
    from octavo.frontend.admission import Admission
    from octavo.frontend.input_processor import InputProcessor
    from octavo.frontend.output_processor import OutputProcessor
    from octavo.frontend.request_state import RequestState
    from octavo.frontend.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

_RESTART_POLL = 0.05
"""Seconds between two looks whether there is a core again."""
PAUSE_MODES = ("abort", "wait", "keep")


class EngineControl:
    """What is asked of an engine now and then; `AsyncLLM` has the rest.

    Attributes:
        accepting: cleared while `pause_generation` waits for what runs: new requests wait at the door.
    """

    config: EngineConfig
    tokenizer: Tokenizer | None
    input_processor: InputProcessor
    _outputs: OutputProcessor
    _admission: Admission
    _supervisor: CoreSupervisor
    _stat_loggers: Sequence[StatLogger]

    def __init__(self) -> None:
        self.accepting = asyncio.Event()
        self.accepting.set()
        self._rest: tuple[Any, ...] | None = None
        """The call that brings a new core into the state of the old one: paused, or asleep."""
        self._hf_tokenizer: PreTrainedTokenizerBase | None = None

    # ---- what AsyncLLM brings -------------------------------------------------------------------------------------

    @property
    def _client(self) -> CoreClient:
        raise NotImplementedError

    @property
    def restarting(self) -> bool:
        raise NotImplementedError

    @property
    def is_running(self) -> bool:
        raise NotImplementedError

    def _ensure_running(self) -> None:
        raise NotImplementedError

    def _abort_in_core(self, core_ids: list[str]) -> None:
        raise NotImplementedError

    async def abort(self, request_id: str | Sequence[str]) -> None:
        raise NotImplementedError

    async def _submit(
        self, prompt: PromptType, params: SamplingParams, request_id: str, priority: int, arrival_time: float
    ) -> RequestState:
        raise NotImplementedError

    # ---- requests -------------------------------------------------------------------------------------------------

    async def add_request(
        self,
        request_id: str,
        prompt: PromptType,
        params: SamplingParams,
        arrival_time: float | None = None,
        *,
        priority: int = 0,
        tokenization_kwargs: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> OutputStream:
        """Submit a request now and take its outputs later; see `AsyncLLM.generate`.

        Args:
            arrival_time: on the monotonic clock; None = now.

        Raises:
            ValidationError: prompt or parameters are not allowed.
            QueueFullError: too much is waiting.
            EngineDeadError: the engine is gone.
        """
        check_arguments("add_request", others)
        if tokenization_kwargs:
            prompt = await tokenized_prompt(self.input_processor, prompt, tokenization_kwargs, params)
        state = await self._submit(prompt, params, request_id, priority, arrival_time or time.monotonic())
        return OutputStream(state, lambda: self._abort_in_core(self._outputs.abort(state)))

    # ---- pause and sleep ------------------------------------------------------------------------------------------

    async def pause_generation(
        self, *, mode: str = "abort", wait_for_inflight_requests: bool = False, clear_cache: bool = True
    ) -> None:
        """Compute nothing until `resume_generation`; new requests wait.

        Args:
            mode: what becomes of requests that run: "abort" ends them, "wait" lets them end first, "keep" has them stop where
                they are and go on later.
            wait_for_inflight_requests: an older name for "wait".
            clear_cache: forget cached prefixes, too.

        Raises:
            ValidationError: an unknown mode.
        """
        mode = "wait" if wait_for_inflight_requests else mode
        if mode not in PAUSE_MODES:
            raise ValidationError(f"mode must be one of {', '.join(PAUSE_MODES)}, got {mode!r}.", parameter="mode", value=mode)
        self._ensure_running()
        if mode == "wait":
            await self._pause_when_idle()
        else:
            if mode == "abort":
                await self.abort_all()
            await self._ask("pause")
        self._rest = ("pause",)
        if clear_cache:
            await self.reset_prefix_cache()

    async def resume_generation(self) -> None:
        """Go on after `pause_generation`.

        Raises:
            ValidationError: the engine sleeps: `wake_up` it.
        """
        await self._ask("resume")
        self._rest = None

    async def is_paused(self) -> bool:
        """Whether nothing is computed until `resume_generation` (or `wake_up`)."""
        return bool(await self._ask("is_paused"))

    async def sleep(self, level: int = 1, mode: str = "abort") -> None:
        """Pause, and give memory back.

        Args:
            level: 0 gives none back; 1 the KV cache (on a GPU the weights, too); 2 both. Weights are loaded again by `wake_up`.
            mode: see `pause_generation`.

        Raises:
            ValidationError: an unknown level or mode.
        """
        if level not in (0, 1, 2):
            raise ValidationError(f"level must be 0, 1 or 2, got {level!r}.", parameter="level", value=level)
        await self.pause_generation(mode=mode, clear_cache=level > 0)
        await self._ask("sleep", level)
        self._rest = ("sleep", level)
        self._tell_sleep(level)

    async def wake_up(self, tags: Sequence[str] | None = None) -> None:
        """Take back what `sleep` gave, and go on.

        Args:
            tags: only these of "weights", "kv_cache" and "scheduling"; None = all.

        Raises:
            ValidationError: an unknown tag, or a part that needs another one first.
        """
        await self._ask("wake_up", None if tags is None else list(tags))
        if not await self.is_sleeping():
            self._tell_sleep(0)
            self._rest = ("pause",) if await self.is_paused() else None

    async def is_sleeping(self) -> bool:
        """Whether memory was given back and not taken again."""
        return bool(await self._ask("is_sleeping"))

    async def release_kv_cache_memory(self) -> None:
        """Pause as "keep" does, and give the KV cache's memory back; `wake_up` takes it again."""
        await self._ask("release_kv_cache")
        self._rest = ("release_kv_cache",)
        self._tell_sleep(1)

    async def abort_all(self) -> None:
        """End every request, with finish reason "abort"."""
        await self.abort(self._outputs.request_ids)

    # ---- caches ---------------------------------------------------------------------------------------------------

    async def reset_prefix_cache(self, reset_running_requests: bool = False, reset_connector: bool = False) -> bool:  # noqa: ARG002
        """Forget cached prefixes; always True, for blocks that running requests hold are theirs and found by nobody else.

        Args:
            reset_running_requests: have them computed again, too.
            reset_connector: there is no cache outside the engine.
        """
        return bool(await self._ask("reset_prefix_cache", reset_running_requests))

    async def reset_mm_cache(self) -> None:
        """Nothing to do: the model takes text only."""
        self._ensure_running()

    async def reset_encoder_cache(self) -> None:
        """Nothing to do: the model takes text only."""
        self._ensure_running()

    # ---- workers --------------------------------------------------------------------------------------------------

    async def collective_rpc(
        self,
        method: str | Callable[..., Any],
        timeout: float | None = None,  # noqa: ASYNC109
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Have every worker do something by name: describe, memory, start_profile or stop_profile.

        Args:
            method: the name; nothing is pickled between processes, so it cannot be code.
            timeout: seconds to wait for the answers.
            args: plain data.
            kwargs: plain data.

        Returns:
            One answer a worker.

        Raises:
            ValidationError: `method` is code, or no worker knows it, or it refuses.
            TimeoutError: no answer in time.
        """
        if not isinstance(method, str):
            raise NotServedError(f"collective_rpc takes no code: {ASYNC_LLM_METHODS['apply_model']}.", parameter="method")
        return list(await self._ask("collective_rpc", method, list(args), dict(kwargs or {}), timeout=timeout))

    async def start_profile(self, profile_prefix: str | None = None) -> None:
        """Begin a profile of the workers, to be written into OCTAVO_PROFILER_DIR.

        Raises:
            ValidationError: one is running, or there is no folder.
        """
        await self.collective_rpc("start_profile", args=[profile_prefix])

    async def stop_profile(self) -> list[str]:
        """End the profile; the paths of the traces, one a worker.

        Raises:
            ValidationError: none is running.
        """
        return await self.collective_rpc("stop_profile")

    # ---- facts ----------------------------------------------------------------------------------------------------

    @property
    def is_stopped(self) -> bool:
        """Whether no request can be served any more."""
        return not self.is_running

    async def check_health(self) -> None:
        """Return if the engine works.

        Raises:
            EngineDeadError: it does not.
        """
        self._ensure_running()

    def check_room(self) -> None:
        """Return if a new request may wait for its turn; to be asked before work is done for one.

        Raises:
            QueueFullError: too much is waiting already.
            EngineDeadError: the engine is gone.
        """
        self._ensure_running()
        self._admission.check()

    check_admission = check_room

    async def core_stats(self) -> dict[str, Any]:
        """The core's own numbers, asked for now."""
        return dict(await self._ask("stats"))

    def get_tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The model's tokenizer as transformers has it, loaded when first asked for; None with skip_tokenizer_init.

        Raises:
            ConfigError: transformers cannot load it.
        """
        if self._hf_tokenizer is None and self.tokenizer is not None:
            self._hf_tokenizer = load_hf_tokenizer(self.config.model)
        return self._hf_tokenizer

    async def get_supported_tasks(self) -> tuple[str, ...]:
        """What the model does."""
        return ("generate",)

    async def is_tracing_enabled(self) -> bool:
        """Whether traces are sent somewhere."""
        return False

    async def do_log_stats(self) -> None:
        """Log the line of statistics now."""
        for logger in self._stat_loggers:
            if isinstance(logger, LoggingStatLogger):
                logger.log()

    async def _pause_when_idle(self) -> None:
        """Let running requests end, holding back those that come meanwhile."""
        self.accepting.clear()
        try:
            await self._outputs.idle.wait()
            await self._ask("pause")
        finally:
            self.accepting.set()

    async def _ask(self, method: str, *args: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as wait_for has it
        """A control call; while there is no core it waits for the next one."""
        limit = envs.START_TIMEOUT if timeout is None else timeout
        while True:
            self._ensure_running()
            if not self.restarting:
                try:
                    return await self._client.call(method, *args, timeout=limit)
                except EngineDeadError:
                    if not self._supervisor.may_restart:
                        raise
            await asyncio.sleep(_RESTART_POLL)

    async def _rest_again(self) -> None:
        """Pause the core, or have it sleep, which took the place of one that did."""
        if self._rest is not None:
            method, *args = self._rest
            try:
                await self._client.call(method, *args, timeout=envs.START_TIMEOUT)
            except EngineDeadError as error:
                logger.warning("%s before it could %s again; the next one will", error, method)

    def _tell_sleep(self, level: int) -> None:
        for logger in self._stat_loggers:
            note = getattr(logger, "record_sleep_state", None)
            if note is not None:
                note(level)
