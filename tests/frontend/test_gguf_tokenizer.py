"""What a GGUF file says of its tokenizer: flags, special tokens, templates, other kinds, and files that are no good."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
from parity.gguf_tokenizers import vocabularies
from tiny_models import TRAINING_TEXT
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from octavo.errors import ConfigError
from octavo.frontend.gguf_tokenizer.convert import convert_gguf
from octavo.frontend.tokenizer import Tokenizer
from octavo.frontend.tokenizer_cache import converted_tokenizer
from octavo.sources.gguf_config import generation_config
from octavo.sources.gguf_file import read_gguf

RECORD = vocabularies.record()
MERGES: list[str] = RECORD["bytes_merges"][:300]
BOS, EOS = 0, 1


def converted(path: Path) -> Tokenizer:
    folder = path.parent / "converted"
    folder.mkdir(exist_ok=True)
    convert_gguf(read_gguf(path), folder)
    return Tokenizer.from_folder(folder)


def byte_level(folder: Path, **metadata: Any) -> Tokenizer:
    return converted(vocabularies.byte_level(folder / "x.gguf", MERGES, **metadata))


@pytest.mark.parametrize(
    ("metadata", "first", "last"),
    [
        ({"pre": "llama-bpe"}, [BOS], []),
        ({"pre": "llama-bpe", "add_bos_token": False}, [], []),
        ({"pre": "qwen2"}, [], []),
        ({"pre": "qwen2", "add_bos_token": True}, [BOS], []),
        ({"pre": "qwen2", "add_eos_token": True}, [], [EOS]),
        ({"pre": "tekken", "add_eos_token": True}, [BOS], [EOS]),
        ({"pre": "gemma4", "add_bos_token": False}, [BOS], []),
    ],
)
def test_what_is_put_around_prompts(metadata: dict[str, Any], first: list[int], last: list[int], tmp_path: Path) -> None:
    tokenizer = byte_level(tmp_path, **metadata)
    plain = tokenizer.encode("ab", add_special_tokens=False)
    assert plain
    assert tokenizer.encode("ab") == [*first, *plain, *last]
    assert tokenizer.vocab_size == len(set(tokenizer.backend.get_vocab())), "nothing is added past the vocabulary"


def test_a_wanted_bos_that_the_file_does_not_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = vocabularies.byte_level(tmp_path / "x.gguf", MERGES, pre="llama-bpe", bos_token_id=10**6)
    tokenizer = converted(path)
    assert tokenizer.encode("ab") == tokenizer.encode("ab", add_special_tokens=False)
    assert tokenizer.bos_token_id is None
    assert "bos token" in caplog.text


def test_special_tokens_are_one_id_each(tmp_path: Path) -> None:
    tokenizer = byte_level(tmp_path, pre="qwen2")
    for token in ("<|user|>", "<\uff5cUser\uff5c>", "<tool call>"):
        [token_id] = tokenizer.encode(token)
        assert tokenizer.encode(f"a{token}b")[1] == token_id
        assert tokenizer.decode([token_id]) == token
        shown = tokenizer.decode([token_id], skip_special_tokens=True)
        assert shown == (token if token == "<tool call>" else ""), "user-defined tokens are text"
        assert (token_id in tokenizer.all_special_ids) == (shown == "")
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (BOS, EOS)
    assert len(tokenizer.encode("[PAD7]")) > 1, "an unused token is nothing one can write"


def test_tokens_that_only_look_like_control_tokens(tmp_path: Path) -> None:
    tokens = [*vocabularies.alphabet(), "<|im_end|>", "<|eot_id|>", "<other>"]
    path = vocabularies.write(tmp_path / "x.gguf", tokens, [1] * len(tokens), ["a b"], model="gpt2", pre="qwen2")
    tokenizer = converted(path)
    assert tokenizer.encode("a<|im_end|>") == [tokens.index("a"), 256]
    assert tokenizer.all_special_ids == {256, 257}
    assert len(tokenizer.encode("<other>")) == 7


def test_ignore_merges(tmp_path: Path) -> None:
    """A word that is a token, though no merges lead to it."""
    tokens = [*vocabularies.alphabet(), "ab", "abc"]
    files = {
        flag: vocabularies.write(
            tmp_path / f"{flag}.gguf",
            tokens,
            None,
            ["a b"],
            model="gpt2",
            pre="llama-bpe",
            ignore_merges=flag,
            add_bos_token=False,
        )
        for flag in (True, False)
    }
    assert converted(files[True]).encode("abc") == [257]
    assert converted(files[False]).encode("abc") == [256, tokens.index("c")]


def test_merges_that_lead_nowhere_are_left_out(tmp_path: Path) -> None:
    path = vocabularies.write(
        tmp_path / "x.gguf", [*vocabularies.alphabet(), "ab", ""], None, ["a c", "zz b", "a b", "x"], model="gpt2", pre="qwen2"
    )
    tokenizer = converted(path)
    assert tokenizer.encode("ab") == [256]
    assert tokenizer.id_to_token(257) == "[EMPTY_257]"


def test_phi3s_tokens_take_the_space_behind_them(tmp_path: Path) -> None:
    def ids(name: str, text: str) -> list[int]:
        path = tmp_path / "x.gguf"
        vocabularies.write(
            path, ["<s>", "</s>", "<|user|>", "\u2581", "a"], [3, 3, 3, 1, 1], scores=[0.0, 0.0, 0.0, -2.0, -1.0], name=name,
            model="llama", add_space_prefix=False, bos_token_id=0, eos_token_id=1,
        )  # fmt: skip
        return converted(path).encode(text)

    assert ids("Phi-3 mini", "<|user|> a<s> a") == [0, 2, 4, 0, 3, 4]
    assert ids("Other", "<|user|> a<s> a") == [0, 2, 3, 4, 0, 3, 4]


def test_bytes_of_a_scored_vocabulary(tmp_path: Path) -> None:
    tokenizer = converted(vocabularies.scored(tmp_path / "x.gguf", RECORD["blocks_merges"][:50]))
    newline, zero = (tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in (0x0A, 0x00))
    assert tokenizer.encode("\x00\x02")[-2:] == [zero, tokenizer.token_to_id("<0x02>")]
    assert newline is not None
    assert tokenizer.token_bytes(newline) == b"\n"
    for text in ("a\x00b", "\U0001f642\U0001f642", "  \x01", "<0x0A>"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_scores_that_are_all_the_same_leave_it_to_the_merges(tmp_path: Path) -> None:
    tokens = ["<unk>", "<s>", "</s>", "a", "b", "c", "bc", "ab"]
    path = vocabularies.write(
        tmp_path / "x.gguf",
        tokens,
        [2, 3, 3, 1, 1, 1, 1, 1],
        ["b c", "a b"],
        [-1000.0] * 8,
        model="llama",
        add_space_prefix=False,
    )
    assert converted(path).encode("abc") == [1, 3, 6]


def test_templates(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabularies.alphabet())
    writer.add_token_merges(["a b"])
    writer.add_chat_template([{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert converted(path).chat_templates == {"default": "plain", "tool_use": "tools"}


def _bert() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(
        TRAINING_TEXT.splitlines(), trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return backend


def test_word_pieces(tmp_path: Path) -> None:
    reference = _bert()
    tokens = [reference.id_to_token(i) for i in range(reference.get_vocab_size())]
    stored = [t if i < 5 else t[2:] if t.startswith("##") else "\u2581" + t for i, t in enumerate(tokens)]
    path = vocabularies.write(
        tmp_path / "x.gguf", stored, [3] * 5 + [1] * (len(tokens) - 5), model="bert",
        bos_token_id=2, seperator_token_id=3, unknown_token_id=1, padding_token_id=0, mask_token_id=4,
    )  # fmt: skip
    tokenizer = converted(path)
    for text in [*TRAINING_TEXT.splitlines(), "[MASK] Café, 你好 unknowable"]:
        assert tokenizer.encode(text) == reference.encode(text).ids
        assert tokenizer.decode(tokenizer.encode(text)) == reference.decode(
            reference.encode(text).ids, skip_special_tokens=False
        )
    assert tokenizer.special_tokens["mask_token"] == "[MASK]"


def test_unigrams(tmp_path: Path) -> None:
    reference = tokenizers.Tokenizer(models.Unigram())
    reference.normalizer = normalizers.Sequence([
        normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), " "), normalizers.Prepend("\u2581"),
        normalizers.Replace(" ", "\u2581"),
    ])  # fmt: skip
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    reference.train_from_iterator(TRAINING_TEXT.splitlines(), trainer)
    pieces = json.loads(reference.to_str())["model"]["vocab"]
    path = vocabularies.write(
        tmp_path / "x.gguf", [piece for piece, _ in pieces], [3, 3, 2] + [1] * (len(pieces) - 3), scores=[score for _, score in pieces],
        model="t5", add_space_prefix=True, remove_extra_whitespaces=True, eos_token_id=1, unknown_token_id=2,
    )  # fmt: skip
    tokenizer = converted(path)
    for text in [*TRAINING_TEXT.splitlines(), "  two   spaces  "]:
        assert tokenizer.encode(text) == [*reference.encode(text).ids, 1]


@pytest.mark.parametrize(
    ("tokens", "types", "metadata", "message"),
    [
        (["a"], None, {}, "no tokenizer in the file"),
        (["a"], None, {"model": "rwkv"}, r"tokenizer.ggml.model is 'rwkv'; known are bert, gemma4, gpt2, llama, t5"),
        (["a", "b", "a"], None, {"model": "llama"}, "tokens 0 and 2 are both 'a'"),
        (["a", "b"], [1], {"model": "llama"}, "token_type has 1 entries for 2 tokens"),
        (["a", "b"], None, {"model": "gpt2"}, "tokenizer.ggml.merges is missing"),
    ],
)
def test_what_is_no_tokenizer(
    tokens: list[str], types: list[int] | None, metadata: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = vocabularies.write(tmp_path / "x.gguf", tokens, types, **metadata)
    with pytest.raises(ConfigError, match=message):
        converted(path)


@pytest.mark.parametrize("key", ["tokens", "token_type", "merges", "scores"])
def test_arrays_of_the_wrong_kind(key: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama" if key == "scores" else "gpt2")
    parts: dict[str, list[Any]] = {"tokens": ["a", "b"], "token_type": [1, 1], "merges": ["a b"], "scores": [0.0, 1.0]}
    parts[key] = [1.5] if isinstance(parts[key][0], str) else ["x", "y"]
    for name, values in parts.items():
        writer.add_array(f"tokenizer.ggml.{name}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ConfigError, match=rf"tokenizer\.ggml\.{key} should be an array of"):
        converted(path)


def test_an_array_that_runs_past_the_end(tmp_path: Path) -> None:
    path = vocabularies.write(tmp_path / "x.gguf", [str(i) for i in range(2000)], [1] * 2000, model="llama")
    header = read_gguf(path)
    path.write_bytes(path.read_bytes()[: header.metadata["tokenizer.ggml.token_type"].end - 1])
    with pytest.raises(ConfigError, match="token_type runs past its end"):
        convert_gguf(header, tmp_path)


def test_scores_must_fit(tmp_path: Path) -> None:
    path = vocabularies.write(tmp_path / "x.gguf", ["a", "b"], None, scores=[1.0], model="llama")
    with pytest.raises(ConfigError, match="scores has 1 entries for 2 tokens"):
        converted(path)


@pytest.mark.parametrize(("pre", "said"), [("nobody-knows", "'nobody-knows', which is not known"), (None, "pre is missing")])
def test_an_unknown_way_to_cut_is_said_at_every_start(
    pre: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OCTAVO_CACHE_DIR", str(tmp_path / "cache"))
    path = vocabularies.byte_level(tmp_path / "x.gguf", MERGES, **({} if pre is None else {"pre": pre}))
    for _ in range(2):
        caplog.clear()
        folder = converted_tokenizer(path)
        [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert said in warning.getMessage()
    known = vocabularies.byte_level(tmp_path / "known.gguf", MERGES, pre="default")
    caplog.clear()
    same = Tokenizer.from_folder(converted_tokenizer(known))
    assert not caplog.records or all(record.levelno < logging.WARNING for record in caplog.records)
    assert Tokenizer.from_folder(folder).encode("a1234 b!?") == same.encode("a1234 b!?")


def test_a_failed_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_CACHE_DIR", str(tmp_path / "cache"))
    path = vocabularies.write(tmp_path / "x.gguf", ["a"], None, model="rwkv")
    with pytest.raises(ConfigError, match="rwkv"):
        converted_tokenizer(path)
    assert list((tmp_path / "cache" / "tokenizers").iterdir()) == []


@pytest.mark.parametrize("many", [0, 2000])
@pytest.mark.parametrize(
    ("tokens", "ids", "stops"),
    [
        (["<|im_end|>", "<|endoftext|>"], {"eos": 1}, [1, 0]),
        (["<|im_end|>", "<|endoftext|>"], {"eos": 1, "eot": 1}, [1]),
        (["x", "<|eot_id|>", "<|eom_id|>"], {"eos": 0}, [0, 1, 2]),
        (["x", "<|eot_id|>", "<|eom_id|>"], {"eos": 0, "eot": 1, "eom": 2}, [0, 1, 2]),
        (["<end_of_turn>", "<eos>"], {"eos": 1}, [1, 0]),
        (["<|end|>", "<|return|>", "<|call|>"], {"eos": 1}, [1, 2]),
        (["<|end|>", "x"], {"eos": 1}, [1, 0]),
        (["x", "y", "</s>"], {}, [2]),
    ],
)
def test_what_ends_an_answer(tokens: list[str], ids: dict[str, int], stops: list[int], many: int, tmp_path: Path) -> None:
    """Long vocabularies are searched where they lie in the file, short ones are in the header."""
    rest = [f"token <|im_end {i}" for i in range(many)]
    metadata = {f"{name}_token_id": i for name, i in ids.items()}
    path = vocabularies.write(tmp_path / "x.gguf", [*tokens, *rest], None, model="llama", **metadata)
    assert generation_config(read_gguf(path))["eos_token_id"] == stops
