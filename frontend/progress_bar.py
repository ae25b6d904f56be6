"""The progress bar of a batch, with token rates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tqdm.auto import tqdm

from octavo.outputs import RequestOutput
from octavo.pooling_outputs import PoolingOutput, PoolingRequestOutput

UseTqdm = bool | Callable[..., Any]


class BatchBar:
    """Counts finished prompts; shows prompt and output tokens a second. A context manager.

    The bar is drawn by `show`, once the batch is under way, so that an error in the arguments has no bar above it; a batch that is
    done before shows its bar at the end.

    Args:
        total: number of prompts.
        use_tqdm: False for no bar, or something to call instead of tqdm.
        description: the bar's label.
    """

    def __init__(self, total: int, use_tqdm: UseTqdm, description: str = "Processed prompts") -> None:
        self._total, self._use_tqdm, self._description = total, use_tqdm, description
        self._bar: Any = None
        self._lock = threading.Lock()
        self._begin = time.monotonic()
        self._finished = 0
        self._prompt_tokens = 0
        self._output_tokens = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.show()
        if self._bar is not None:
            self._bar.close()

    def show(self) -> None:
        """Draw the bar, in the thread that calls: a notebook has its own idea of where a thread's output belongs."""
        with self._lock:
            if self._bar is None and self._use_tqdm and self._total:
                make = self._use_tqdm if callable(self._use_tqdm) else tqdm
                self._bar = make(total=self._total, desc=self._description, dynamic_ncols=True)
                if self._finished:
                    self._draw(self._finished)

    def update(self, output: RequestOutput) -> None:
        """One more prompt is done."""
        self._count(len(output.prompt_token_ids), sum(len(sequence.token_ids) for sequence in output.outputs))

    def update_pooled(self, output: PoolingRequestOutput[PoolingOutput]) -> None:
        """One more prompt is pooled."""
        self._count(len(output.prompt_token_ids), 0)

    def _count(self, prompt_tokens: int, output_tokens: int) -> None:
        with self._lock:
            self._finished += 1
            self._prompt_tokens += prompt_tokens
            self._output_tokens += output_tokens
            if self._bar is not None:
                self._draw(1)

    def _draw(self, finished: int) -> None:
        seconds = max(time.monotonic() - self._begin, 1e-6)
        rates = f"input {self._prompt_tokens / seconds:.1f} tok/s, output {self._output_tokens / seconds:.1f} tok/s"
        self._bar.set_postfix_str(rates, refresh=False)
        self._bar.update(finished)
