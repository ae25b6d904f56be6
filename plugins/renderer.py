"""What a plugin of a later generation gets beside the configuration: the way to the model's tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Renderer:
    """The tokenizer as transformers has it, loaded when a plugin first asks.

    Args:
        config: the configuration's view, as the plugin gets it.
        load: loads the tokenizer; may return None.
    """

    def __init__(self, config: Any, load: Callable[[], Any]) -> None:
        self.config = config
        self.model_config = config.model_config
        self._load = load
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> Any:
        """None with skip_tokenizer_init."""
        if self._tokenizer is None:
            self._tokenizer = self._load()
        return self._tokenizer

    def get_tokenizer(self) -> Any:
        """The model's tokenizer.

        Raises:
            ValueError: the engine runs without one (skip_tokenizer_init).
        """
        if self.tokenizer is None:
            raise ValueError("there is no tokenizer: the engine runs with skip_tokenizer_init")
        return self.tokenizer
