"""The tokenizer as transformers has it, for programs that want its vocabulary, its call or its chat template.

The engine itself never needs it: it is loaded when a program first asks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from octavo.config import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_hf_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer at `config.tokenizer_path`, converted first where it is a GGUF file or has no tokenizer.json.

    Raises:
        ConfigError: there is none, or it cannot be converted.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = Path(config.tokenizer_path)
    if not (folder / "tokenizer.json").is_file():
        from octavo.frontend.tokenizer_cache import converted_tokenizer

        folder = converted_tokenizer(folder)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (ValueError, KeyError, OSError):
        # A class that transformers does not know, or no config beside tokenizer.json, which says all that is needed.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    return tokenizer
