"""vLLM's name for where errors are: forwards to `octavo.errors`."""

from __future__ import annotations

from octavo.errors import ValidationError as VLLMValidationError

__all__ = ["VLLMValidationError"]
