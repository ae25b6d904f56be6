"""What a plugin of a later generation gets beside the configuration: the way to the model's tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Renderer:
    """The tokenizer as transformers has it.

    Args:
        config: the configuration's view, as the plugin gets it.
        make: loads the tokenizer; may return None.
    """

    def __init__(self, config: Any, make: Callable[[], Any]) -> None:
        self.config = config
        self.model_config = config.model_config
        self._make = make
        self._tokenizer: Any = None

    def load(self) -> None:
        """Load the tokenizer now, if there is one."""
        if self._tokenizer is None:
            self._tokenizer = self._make()

    @property
    def tokenizer(self) -> Any:
        """None with skip_tokenizer_init."""
        self.load()
        return self._tokenizer

    def get_tokenizer(self) -> Any:
        """The model's tokenizer.

        Raises:
            ValueError: the engine runs without one (skip_tokenizer_init).
        """
        if self.tokenizer is None:
            raise ValueError("there is no tokenizer: the engine runs with skip_tokenizer_init")
        return self.tokenizer
