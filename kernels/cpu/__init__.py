"""Native kernels for CPUs: C++17 behind nanobind, working on raw pointers, so one build serves every torch.

The library holds each kernel for several instruction sets and picks the best the processor has; `set_isa` forces a lower
one. Where it was not built (no compiler at install time), `available` is False and everything else needs `require` first.
"""

from __future__ import annotations

from octavo.errors import ConfigError

try:
    from octavo.kernels.cpu import _native
except ImportError as error:
    _missing: str | None = str(error)
else:
    _missing = None
    from octavo.kernels.cpu.ops import *  # noqa: F403

INSTALL_HINT = "install a C++17 compiler (Debian: apt-get install g++) and reinstall octavo"


def available() -> bool:
    """Whether the native library is there."""
    return _missing is None


def require() -> None:
    """Raises:
    ConfigError: the native library is not there, and why.
    """
    if _missing is not None:
        raise ConfigError(f"native CPU kernels are missing ({_missing}): {INSTALL_HINT}")
