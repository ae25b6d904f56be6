"""A GGUF file's tokenizer: what the conversion makes of it is what transformers' own loader makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import tiny_models
from transformers import AutoTokenizer

from octavo.frontend.convert_gguf_tokenizer import convert
from octavo.frontend.tokenizer import Tokenizer


def _write(path: Path, tokenizer: dict[str, dict[str, object]]) -> None:
    """A file with a byte-level tokenizer's vocabulary, and just enough of a model's metadata."""
    vocab = tokenizer["model"]["vocab"]
    assert isinstance(vocab, dict)
    writer = gguf.GGUFWriter(path, "llama")
    for add in (writer.add_context_length, writer.add_embedding_length, writer.add_block_count, writer.add_head_count):
        add(8)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(list(vocab))
    writer.add_token_types([3 if token in tiny_models.SPECIAL_TOKENS else 1 for token in vocab])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])  # type: ignore[union-attr]
    writer.add_eos_token_id(tiny_models.EOS_TOKEN_ID)
    writer.add_chat_template(tiny_models.CHAT_TEMPLATE)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_conversion_is_transformers(tmp_path: Path) -> None:
    tiny_models.make_tokenizer(tmp_path)
    gguf_file = tmp_path / "alone" / "tiny.gguf"
    gguf_file.parent.mkdir()
    _write(gguf_file, json.loads((tmp_path / "tokenizer.json").read_text()))
    convert(gguf_file, tmp_path / "ours")
    AutoTokenizer.from_pretrained(str(gguf_file.parent), gguf_file=gguf_file.name).save_pretrained(str(tmp_path / "theirs"))
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    tokenizer = Tokenizer.from_folder(tmp_path / "ours")
    text = tiny_models.TRAINING_TEXT
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.special_tokens["eos_token"] == "<|im_end|>"
    assert tokenizer.chat_template == tiny_models.CHAT_TEMPLATE
