"""Which process something belongs to. A forked child has a copy of everything, and shares with its parent what lies behind."""

from __future__ import annotations

import os

from octavo.errors import EngineDeadError


class Owner:
    """The process that makes this object: engines, their processes and sockets are its alone.

    A child that ends, or lets go of its copy, must neither end what its parent works with nor wait for threads that were
    not copied.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_elsewhere(self) -> bool:
        """Whether this is a forked child's copy."""
        return os.getpid() != self._pid

    def check(self) -> None:
        """Raises: EngineDeadError: this is a forked child, which cannot use its parent's engine."""
        if self.is_elsewhere:
            raise EngineDeadError(
                f"this engine belongs to process {self._pid}, of which this process, {os.getpid()}, is a forked child; make an "
                "engine of its own here, or hand requests to the parent"
            )
