"""Every error that crosses a room's border.

A client's mistake is a `ValidationError`: it names the parameter, shows the value and says what is allowed, and the
server answers 4xx. Everything else is ours.
"""

from __future__ import annotations

from typing import Any


class OctavoError(Exception):
    """Base of all of Octavo's own errors."""


class ValidationError(OctavoError, ValueError):
    """A value the caller gave is not allowed.

    Attributes:
        parameter: the field's name as the caller wrote it, or None when no single field is at fault.
        value: what was given (shortened in the message).
        code: OpenAI's word for this kind of mistake, where it has one ("context_length_exceeded").
    """

    def __init__(self, message: str, *, parameter: str | None = None, value: Any = None, code: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.value = value
        self.code = code


class PluginInputError(ValidationError):
    """A request's data is not of the type that an IO Processor plugin declares; `parameter` is the place, say `data.boxes[2].x`."""


class ConfigError(OctavoError, ValueError):
    """The engine cannot be set up as asked; the message names the flag to change."""


class QueueFullError(OctavoError):
    """The waiting queue is at its limit. `retry_after` is a hint in seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestTimeoutError(OctavoError):
    """A request ran past its deadline and was aborted."""


class RequestFailedError(OctavoError):
    """The engine failed while working on this one request; others go on."""


class RequestRefusedError(RequestFailedError):
    """Core after core died with this request: it is not tried again, and sending it once more is no use."""


class PluginError(RequestFailedError):
    """An IO Processor plugin failed on this one request, or returned what it must not.

    Attributes:
        plugin: its name.
        method: which of its methods.
    """

    def __init__(self, message: str, *, plugin: str = "", method: str = "") -> None:
        super().__init__(message)
        self.plugin = plugin
        self.method = method


class PluginUnavailableError(OctavoError):
    """An IO Processor plugin cannot be called now: too many of its calls hang, or its workers keep dying."""


class EngineDeadError(OctavoError):
    """The core process is gone: no request can be served by this engine any more."""

    def __init__(self, message: str = "the engine core process has died") -> None:
        super().__init__(message)


class EngineStartError(OctavoError):
    """The core process could not start; the message is the root cause."""
