"""Where a plugin lives: a thread for its synchronous methods, and one with an event loop for the others.

Of the two, one runs at a time: methods follow each other, as their authors expect, and asynchronous ones interleave where they
wait. A call that is over its time is cancelled; one that does not even notice is abandoned, with its threads, and its neighbours
are told to go elsewhere.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from octavo import envs
from octavo.errors import OctavoError, PluginError, PluginUnavailableError, RequestTimeoutError
from octavo.frontend.io_processing.code_thread import CodeThread
from octavo.plugins.generations import Done, Outside, Params, PluginCalls, Prepared, Schemas
from octavo.plugins.io_processor import ModelOutput
from octavo.plugins.messages import IOProcessorRequest

logger = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds in which a cancelled call may end by itself."""

Work = Callable[[PluginCalls, Outside], Awaitable[Any]]


class HostLostError(OctavoError):
    """The plugin's worker is gone for another call's sake, and what it knew of this one too: try again with its successor."""


class Host(Protocol):
    """A plugin's worker: `ThreadHost` or `ProcessHost`."""

    @property
    def lost(self) -> bool:
        """It takes no calls any more."""

    @property
    def hangs(self) -> bool:
        """Lost, and still holding on to what it has."""

    @property
    def load(self) -> int:
        """Calls that have not ended."""

    @property
    def schemas(self) -> Schemas:
        """`PluginCalls.schemas`, once it is started."""

    def start(self) -> None:
        """Make the plugin; blocks. Raises: OctavoError: it cannot be made."""

    async def prepare(
        self, request: IOProcessorRequest[Any], request_id: str | None, params: Params | None, *, online: bool, generate: bool
    ) -> Prepared:
        """See `PluginCalls.prepare`. Raises: RequestTimeoutError, HostLostError, too."""

    async def finish(
        self, outputs: Sequence[tuple[int, ModelOutput]], request_id: str | None, *, online: bool, answer_id: str
    ) -> Done:
        """See `PluginCalls.finish`. Raises: RequestTimeoutError, HostLostError, too."""

    def forget(self, request_id: str | None) -> None:
        """Have the plugin forget a request that has ended otherwise; returns at once."""

    def close(self) -> None:
        """End it; what it works at is lost. May be called from any thread."""


def start_timed_out(name: str) -> PluginUnavailableError:
    """A plugin's constructor does not end."""
    return PluginUnavailableError(
        f"the IO Processor plugin {name!r} was not made within {envs.START_TIMEOUT:g} s (OCTAVO_START_TIMEOUT)"
    )


@dataclass(eq=False)
class _Call:
    work: Work
    number: int
    on_begin: Callable[[], None]
    future: concurrent.futures.Future[Any] = field(default_factory=concurrent.futures.Future)
    began: float | None = None
    task: asyncio.Task[None] | None = None
    expired: bool = False
    abandoned: bool = False
    """Its caller has gone."""

    def settle(self, result: Any = None, error: BaseException | None = None) -> None:
        """Give the result, unless another was given before."""
        try:
            if error is None:
                self.future.set_result(result)
            else:
                self.future.set_exception(error)
        except concurrent.futures.InvalidStateError:
            logger.debug("a plugin's call ended after its time")


class _Steps:
    """An awaitable that says before and after each stretch of code between two waits that it runs."""

    def __init__(self, work: Awaitable[Any], before: Callable[[], None], after: Callable[[], None]) -> None:
        self._work, self._before, self._after = work, before, after

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._work.__await__()
        advance = partial(steps.send, None)
        while True:
            self._before()
            try:
                waits_for = advance()
            except StopIteration as end:
                return end.value
            finally:
                self._after()
            try:
                advance = partial(steps.send, (yield waits_for))
            except BaseException as error:  # noqa: BLE001  (thrown into the work, as a cancellation is)
                advance = partial(steps.throw, error)


class ThreadHost:
    """A plugin in this process.

    Args:
        name: of the plugin.
        make: makes the plugin, in the thread for synchronous code.
        timeout: seconds each call may take, from its begin.
        on_lost: called, on the event loop that calls come from, when the threads are abandoned.
        on_step: called, in either thread, before code of a call runs, with the call's number, and with 0 after it.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], PluginCalls],
        timeout: float,
        on_lost: Callable[[], None] = lambda: None,
        on_step: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._name, self._make, self._timeout, self._on_lost, self._on_step = name, make, timeout, on_lost, on_step
        self._turn = threading.Lock()
        self._running: _Call | None = None
        self._code: CodeThread | None = None
        self._loop = asyncio.new_event_loop()
        self._plugin: concurrent.futures.Future[PluginCalls] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name=f"octavo-plugin-{name}", daemon=True)
        self._calls: set[_Call] = set()
        self._watches: set[asyncio.Task[None]] = set()
        self._lost = False

    @property
    def lost(self) -> bool:
        return self._lost

    @property
    def hangs(self) -> bool:
        return self._lost and (self._thread.is_alive() or (self._code is not None and self._code.is_alive()))

    @property
    def load(self) -> int:
        return len(self._calls)

    @property
    def schemas(self) -> Schemas:
        return self._plugin.result().schemas

    def start(self) -> None:
        self._code = CodeThread(f"octavo-plugin-{self._name}-code")
        self._plugin = self._code.submit(self._make)
        try:
            self._plugin.result(envs.START_TIMEOUT)
            self._thread.start()
        except TimeoutError:
            self._lost = True
            raise start_timed_out(self._name) from None

    async def prepare(
        self, request: IOProcessorRequest[Any], request_id: str | None, params: Params | None, *, online: bool, generate: bool
    ) -> Prepared:
        prepared: Prepared = await self.call(
            lambda plugin, outside: plugin.prepare(
                request, request_id, params, online=online, generate=generate, outside=outside
            )
        )
        return prepared

    async def finish(
        self, outputs: Sequence[tuple[int, ModelOutput]], request_id: str | None, *, online: bool, answer_id: str
    ) -> Done:
        done: Done = await self.call(
            lambda plugin, outside: plugin.finish(outputs, request_id, online=online, answer_id=answer_id, outside=outside)
        )
        return done

    def forget(self, request_id: str | None) -> None:
        if self._lost:
            return
        forgetting = asyncio.get_running_loop().create_task(self._forgotten(request_id))
        self._watches.add(forgetting)
        forgetting.add_done_callback(self._watches.discard)

    async def _forgotten(self, request_id: str | None) -> None:
        try:
            await self.call(lambda plugin, outside: plugin.forget(request_id, outside=outside))
        except OctavoError as error:
            logger.warning("the plugin %s did not forget a request: %s", self._name, error)

    async def call(self, work: Work, number: int = 0, began: Callable[[], None] = lambda: None) -> Any:
        """Do something with the plugin, in its threads.

        Args:
            work: what to do.
            number: for `on_step`.
            began: called in one of the threads when the call's turn has come.

        Raises:
            RequestTimeoutError: it took too long.
            HostLostError: the threads were abandoned, because of another call.
            Exception: what the work raises.
        """
        if self._lost:
            raise HostLostError("the plugin's thread was abandoned")
        call = _Call(work, number, began)
        self._calls.add(call)
        ended = asyncio.wrap_future(call.future)
        self._loop.call_soon_threadsafe(self._begin, call)
        watch = asyncio.get_running_loop().create_task(self._watch(call, ended))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            call.abandoned = True
            self._cancel(call)
            raise

    def close(self) -> None:
        hung = self._lost
        self._lose(PluginUnavailableError("the engine has been shut down"))
        for thread in (self._thread, self._code):
            if thread is not None and thread.is_alive() and not hung:
                thread.join(GRACE)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        if not self._lost:
            self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _begin(self, call: _Call) -> None:
        if not call.abandoned:
            call.task = self._loop.create_task(self._do(call))
        else:
            call.settle(error=HostLostError("its caller has gone"))

    async def _do(self, call: _Call) -> None:
        work = call.work(self._plugin.result(), partial(self._outside, call))
        try:
            call.settle(await _Steps(work, partial(self._enter, call), self._leave))
        except OctavoError as error:
            call.settle(error=error)
        except asyncio.CancelledError:
            call.settle(error=self._over_time() if call.expired else self._fault("was cancelled"))
        except BaseException as error:  # noqa: BLE001  (raised where the call is waited for; SystemExit must not end the thread)
            call.settle(error=self._fault(f"raised {type(error).__name__}: {error}"))

    async def _outside(self, call: _Call, code: Callable[[], Any]) -> Any:
        """Run synchronous code of a call in the thread for it."""

        def in_turn() -> Any:
            self._enter(call)
            try:
                return code()
            finally:
                self._leave()

        if self._code is None:
            raise HostLostError("the plugin has not been started")
        return await self._code.run(in_turn)

    def _enter(self, call: _Call) -> None:
        """The call's code runs from now on, and no other's: what hangs or dies is at nobody else's fault."""
        self._turn.acquire()
        if call.began is None:
            call.began = time.monotonic()
            call.on_begin()
        self._running = call
        self._on_step(call.number)

    def _leave(self) -> None:
        self._running = None
        self._on_step(0)
        self._turn.release()

    def _fault(self, what: str) -> PluginError:
        return PluginError(f"the IO Processor plugin {self._name!r} {what}"[:2000], plugin=self._name)

    async def _watch(self, call: _Call, ended: asyncio.Future[Any]) -> None:
        """End a call whose time is over, also when nobody waits for it any more: others wait for their turn."""
        try:
            while not call.future.done():
                left = self._timeout if call.began is None else call.began + self._timeout - time.monotonic()
                if left <= 0:
                    await self._expire(call, ended)
                    return
                await asyncio.wait([ended], timeout=left)
        finally:
            self._calls.discard(call)
            if ended.done() and not ended.cancelled():
                ended.exception()  # it is heard of here where its caller has gone

    async def _expire(self, call: _Call, ended: asyncio.Future[Any]) -> None:
        call.expired = True
        self._cancel(call)
        await asyncio.wait([ended], timeout=min(GRACE, self._timeout))
        if call.future.done():
            return
        running = self._running
        if running is not None and running is not call:
            # Another call keeps the thread from ending this one, and its own watch abandons the thread.
            await asyncio.wait([ended])
            return
        call.settle(error=self._over_time())
        if running is not None or not await self._turns():
            logger.error("a call of the plugin %s hangs; its thread is abandoned", self._name)
            self._lose(HostLostError("the plugin's thread was abandoned, because another call hangs"))
            self._on_lost()

    async def _turns(self) -> bool:
        """Whether the event loop still does: code in tasks of a plugin's own is no call's."""
        turned: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._loop.call_soon_threadsafe(turned.set_result, None)
        return bool((await asyncio.wait([asyncio.wrap_future(turned)], timeout=GRACE))[0])

    def _cancel(self, call: _Call) -> None:
        if call.task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call.task.cancel)

    def _over_time(self) -> RequestTimeoutError:
        return RequestTimeoutError(
            f"the IO Processor plugin {self._name!r} took more than {self._timeout:g} s (--io-processor-timeout)"
        )

    def _lose(self, error: OctavoError) -> None:
        self._lost = True
        for call in list(self._calls):
            call.settle(error=error)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
        if self._code is not None:
            self._code.stop()
