"""The workers of one plugin: who gets the next call, and who takes a lost one's place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from octavo.errors import OctavoError, PluginUnavailableError, QueueFullError
from octavo.frontend.io_processing.host import Host
from octavo.plugins.generations import Schemas

logger = logging.getLogger(__name__)

MOST_ABANDONED = 4
"""Threads of a plugin that may hang; with so many there is no successor, until one of them ends."""


class WorkerPool:
    """Workers of a plugin; used from one event loop after `start`.

    Args:
        name: of the plugin.
        make: makes a worker, not started.
        number: of workers.
        most_calls: calls that may wait and run at a time; 0 = no limit.
    """

    def __init__(self, name: str, make: Callable[[], Host], number: int, most_calls: int = 0) -> None:
        self._name, self._make, self._number, self._most_calls = name, make, number, most_calls
        self._hosts: list[Host] = [make() for _ in range(number)]
        self._abandoned: list[Host] = []
        self._starting = asyncio.Lock()
        self._closed = False
        self.replaced = 0
        """Workers that took a lost one's place."""

    def start(self) -> None:
        """Make the plugin in each worker; blocks.

        Raises:
            ConfigError: it cannot be made.
        """
        with ThreadPoolExecutor(self._number, thread_name_prefix="octavo-plugin-start") as threads:
            list(threads.map(lambda host: host.start(), self._hosts))

    @property
    def schemas(self) -> Schemas:
        """What the plugin declares."""
        return self._hosts[0].schemas

    async def pick(self) -> Host:
        """The worker with the fewest calls.

        Raises:
            PluginUnavailableError: too many calls hang, or no worker can be started.
            QueueFullError: too many calls wait.
        """
        if any(host.lost for host in self._hosts):
            await self._replace()
        if self._most_calls and sum(host.load for host in self._hosts) >= self._most_calls:
            raise QueueFullError(f"{self._most_calls} calls of the IO Processor plugin {self._name!r} wait already")
        return min(self._hosts, key=lambda host: host.load)

    def close(self) -> None:
        """End all workers; idempotent, from any thread."""
        self._closed = True
        for host in [*self._hosts, *self._abandoned]:
            host.close()

    async def _replace(self) -> None:
        async with self._starting:
            for place, host in enumerate(self._hosts):
                if host.lost and not self._closed:
                    self._check_abandoned()
                    self._hosts[place] = await self._successor()
                    self._abandoned.append(host)
                    self.replaced += 1
        if self._closed:
            raise PluginUnavailableError("the engine has been shut down")

    def _check_abandoned(self) -> None:
        self._abandoned = [host for host in self._abandoned if host.hangs]
        hanging = len(self._abandoned) + sum(host.hangs for host in self._hosts)
        if hanging > MOST_ABANDONED:
            raise PluginUnavailableError(
                f"{hanging} calls of the IO Processor plugin {self._name!r} hang, and no more is tried until one ends; processes, "
                "which can be killed, do not have that limit (--io-processor-workers)"
            )

    async def _successor(self) -> Host:
        host = self._make()
        try:
            await asyncio.to_thread(host.start)
        except OctavoError as error:
            logger.exception("the IO Processor plugin %s cannot be started again", self._name)
            raise PluginUnavailableError(f"the IO Processor plugin {self._name!r} cannot be started again: {error}") from error
        return host
