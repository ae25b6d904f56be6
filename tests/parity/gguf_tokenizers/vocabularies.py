"""Small vocabularies as GGUF files: what a text becomes with them shows every border between words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf

RECORD = Path(__file__).with_name("llama_cpp.json")
"""Vocabularies, and what llama.cpp's tokenizer makes of the texts with them; made by `record.py`."""

SPECIAL = {"<s>": 3, "</s>": 3, "<unk>": 2, "<|user|>": 3, "<\uff5cUser\uff5c>": 3, "<tool call>": 4, "[PAD7]": 5}
"""Spelling -> `tokenizer.ggml.token_type`; these come first."""
SPECIAL_TEXTS = (
    "<|user|>hi</s>", "a <tool call> b", "<\uff5cUser\uff5c>Hello<\uff5cUser\uff5c>", "<s>x", "x <s> y  </s>\n", "[PAD7]", "<unk>",
)  # fmt: skip
IDS = {"bos_token_id": 0, "eos_token_id": 1, "unknown_token_id": 2}
_TYPES = {str: gguf.GGUFValueType.STRING, bool: gguf.GGUFValueType.BOOL, int: gguf.GGUFValueType.UINT32}


def record() -> dict[str, Any]:
    """The file's content."""
    value: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return value


def alphabet() -> list[str]:
    """GPT-2's 256 characters that stand for bytes, in the order of the bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def byte_level(path: Path, merges: list[str], **metadata: str | bool | int) -> Path:
    """A file whose tokens are bytes and what the merges make of them; metadata is under `tokenizer.ggml.`."""
    tokens = list(dict.fromkeys([*SPECIAL, *alphabet(), *(merge.replace(" ", "") for merge in merges)]))
    types = [SPECIAL.get(token, 1) for token in tokens]
    return write(path, tokens, types, merges=merges, **({"model": "gpt2"} | IDS | metadata))


def scored(path: Path, merges: list[str], **metadata: str | bool | int) -> Path:
    """A file as SentencePiece's: bytes, merged pieces in the order of their scores, then single characters.

    With model="gpt2" it has the merges, too.
    """
    made = list(dict.fromkeys(merge.replace(" ", "") for merge in merges))
    single = dict.fromkeys(char for merge in merges for char in merge.replace(" ", ""))
    tokens = list(dict.fromkeys([*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *made, *single]))
    types = [SPECIAL.get(token, 6 if token.startswith("<0x") else 1) for token in tokens]
    if metadata.get("model") == "gpt2":
        return write(path, tokens, types, merges=merges, **(IDS | metadata))
    first = len(SPECIAL) + 256
    scores = [float(first - i) if i >= first else 0.0 for i in range(len(tokens))]
    return write(path, tokens, types, scores=scores, **({"model": "llama"} | IDS | metadata))


def write(
    path: Path,
    tokens: list[str],
    types: list[int] | None,
    merges: list[str] | None = None,
    scores: list[float] | None = None,
    name: str = "",
    **metadata: str | bool | int | None,
) -> Path:
    """A file with a vocabulary and just enough of a model's metadata."""
    writer = gguf.GGUFWriter(path, "llama")
    for add in (writer.add_context_length, writer.add_embedding_length, writer.add_block_count, writer.add_head_count):
        add(8)
    if name:
        writer.add_name(name)
    writer.add_token_list(tokens)
    if types is not None:
        writer.add_token_types(types)
    if merges is not None:
        writer.add_token_merges(merges)
    if scores is not None:
        writer.add_token_scores(scores)
    for key, value in metadata.items():
        if value is not None:
            writer.add_key_value(f"tokenizer.ggml.{key}", value, _TYPES[type(value)])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
