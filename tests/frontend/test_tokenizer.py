"""The tokenizer reads a model's folder as transformers does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_models
import tokenizers
from fake_core import make_config
from tokenizers.processors import TemplateProcessing

from octavo.errors import ConfigError
from octavo.frontend.tokenizer import Tokenizer, load_tokenizer
from octavo.frontend.tokenizer_cache import converted_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_models.make_tokenizer(tmp_path)
    return tmp_path


def change_settings(folder: Path, **settings: object) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_special_tokens_and_ids(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.special_tokens["eos_token"] == "<|im_end|>"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.all_special_ids == {0, 1, 2}
    assert tokenizer.vocab_size == 576
    assert tokenizer.decode([1, *tokenizer.encode("Hi"), 2], skip_special_tokens=True) == "Hi"
    assert tokenizer.id_to_token(2) == "<|im_end|>"
    assert tokenizer.id_to_token(99999) is None
    assert tokenizer.token_to_id("<|im_end|>") == 2


def test_special_tokens_may_be_objects(folder: Path) -> None:
    change_settings(folder, eos_token={"content": "<|endoftext|>", "lstrip": False})
    assert Tokenizer.from_folder(folder).eos_token_id == 0


def test_bos_and_eos_are_added_as_by_transformers(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for adds_bos in (False, True):
        if adds_bos:
            template = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
            backend.post_processor = template
            backend.save(str(folder / "tokenizer.json"))
        for settings in ({}, {"add_bos_token": not adds_bos, "add_eos_token": True}):
            change_settings(folder, **settings)
            theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
            ours = Tokenizer.from_folder(folder)
            for text in ("Hello world", "", "<|im_start|>user\n"):
                assert ours.encode(text) == theirs(text).input_ids
                assert ours.encode(text, add_special_tokens=False) == theirs(text, add_special_tokens=False).input_ids


def test_tokens_that_only_the_settings_know_are_added(folder: Path) -> None:
    added = {
        "576": {"content": "<think>", "special": False, "normalized": False},
        "577": {"content": "<|extra|>", "special": True},
        "900": {"content": "<|gap|>", "special": True},
    }
    change_settings(folder, added_tokens_decoder=added)
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.encode("<think><|extra|>") == [576, 577]
    assert tokenizer.decode([576, 577], skip_special_tokens=True) == "<think>"
    assert tokenizer.token_to_id("<|gap|>") is None


def test_truncation_and_padding_of_the_file_are_off(folder: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    backend.save(str(folder / "tokenizer.json"))
    assert len(Tokenizer.from_folder(folder).encode("a b c d e f g")) > 2
    assert len(Tokenizer.from_folder(folder).encode("a")) == 1


def test_chat_templates_by_name_and_place(folder: Path) -> None:
    assert Tokenizer.from_folder(folder).chat_template == tiny_models.CHAT_TEMPLATE
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    change_settings(folder, chat_template=named)
    assert Tokenizer.from_folder(folder).chat_templates == {"default": "d", "tool_use": "t"}
    (folder / "chat_template.jinja").write_text("file")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("r")
    assert Tokenizer.from_folder(folder).chat_templates == {"default": "file", "tool_use": "t", "rag": "r"}


def test_no_prompt_is_longer_than_its_tokens_allow(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    for text in (tiny_models.TRAINING_TEXT, "<|endoftext|>" * 50, "é" * 100, " " * 500):
        assert len(text) <= len(tokenizer.encode(text)) * tokenizer.max_chars_per_token


def test_what_is_missing_or_broken_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no tokenizer.json.*--tokenizer"):
        Tokenizer.from_folder(tmp_path)
    with pytest.raises(ConfigError, match="no tokenizer in"):
        load_tokenizer(make_config(str(tmp_path)).model)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot read"):
        Tokenizer.from_folder(tmp_path)


def test_other_kinds_are_converted_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_CACHE_DIR", str(tmp_path / "cache"))
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "vocab.json").write_text(json.dumps(model["vocab"]))
    (slow / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(merge) for merge in model["merges"]))
    (slow / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"}))
    (slow / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    made = converted_tokenizer(slow)
    assert made.is_relative_to(tmp_path / "cache")
    text = "The capital of France"
    assert Tokenizer.from_folder(made).encode(text) == Tokenizer.from_folder(folder).encode(text)
    monkeypatch.setattr("octavo.frontend.tokenizer_cache._run_child", lambda *_: pytest.fail("converted again"))
    assert converted_tokenizer(slow) == made
    assert [path.name for path in made.parent.iterdir()] == [made.name], "nothing half-made is left"


def test_a_failed_conversion_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "tokenizer.model").write_bytes(b"not sentencepiece")
    with pytest.raises(ConfigError, match="cannot convert the tokenizer"):
        converted_tokenizer(tmp_path / "slow")
    assert list((tmp_path / "cache" / "tokenizers").iterdir()) == []
