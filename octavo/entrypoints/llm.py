"""vLLM's path of `octavo.LLM`."""

from __future__ import annotations

from octavo.entrypoints import forward

__getattr__ = forward("octavo.entrypoints.llm")
