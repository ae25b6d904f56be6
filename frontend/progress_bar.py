"""The progress bar of a batch, with token rates."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tqdm.auto import tqdm

from octavo.outputs import RequestOutput

UseTqdm = bool | Callable[..., Any]


class BatchBar:
    """Counts finished prompts; shows prompt and output tokens a second. A context manager.

    Args:
        total: number of prompts.
        use_tqdm: False for no bar, or something to call instead of tqdm.
        description: the bar's label.
    """

    def __init__(self, total: int, use_tqdm: UseTqdm, description: str = "Processed prompts") -> None:
        self._bar: Any = None
        if use_tqdm and total:
            make = use_tqdm if callable(use_tqdm) else tqdm
            self._bar = make(total=total, desc=description, dynamic_ncols=True)
        self._begin = time.monotonic()
        self._prompt_tokens = 0
        self._output_tokens = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, output: RequestOutput) -> None:
        """One more prompt is done."""
        if self._bar is None:
            return
        self._prompt_tokens += len(output.prompt_token_ids)
        self._output_tokens += sum(len(sequence.token_ids) for sequence in output.outputs)
        seconds = max(time.monotonic() - self._begin, 1e-6)
        rates = f"input {self._prompt_tokens / seconds:.1f} tok/s, output {self._output_tokens / seconds:.1f} tok/s"
        self._bar.set_postfix_str(rates, refresh=False)
        self._bar.update(1)
