"""Makes `llama_cpp.json` anew: python tests/parity/gguf_tokenizers/record.py PROGRAM

PROGRAM is `llama_cpp_tokens.cpp`, compiled. Made with the llama.cpp in the source distribution of llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import tokenizers
from parity.gguf_tokenizers import vocabularies
from parity.gguf_tokenizers.texts import texts

from octavo.frontend.gguf_tokenizer.pre_tokenizers import PRE_TOKENIZERS
from octavo.sources.model_source import DEFAULT_MODEL, find_model

BYTES_MERGES, BLOCKS_MERGES = 2400, 1600
LLAMA_CPP_FAILS = {"whitespace"}
OF_BLOCKS = {"gemma4", "granite-embed-multi-311m", "sarvam-moe"}


def digest(ids: Sequence[int]) -> str:
    """Short, and still different for different ids."""
    return hashlib.blake2b(json.dumps(list(ids)).encode(), digest_size=3).hexdigest()


def train(size: int, *, blocks: bool) -> list[str]:
    """Merges of the most frequent neighbours in stretches of text that no pattern would make: they cross every border."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    cut = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]{1,24}"), "isolated")
    to_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = cut if blocks else tokenizers.pre_tokenizers.Sequence([cut, to_bytes])
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator([text.replace(" ", "\u2581") if blocks else text for text in texts()], trainer)
    return [" ".join(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def ids_of(program: str, model: Path, wanted: Sequence[str], *, add_special: bool = True) -> list[list[int]]:
    """What llama.cpp makes of texts."""
    data = b"".join(b"%d\n%b\n" % (len(text.encode()), text.encode()) for text in wanted)
    done = subprocess.run([program, str(model), str(int(add_special))], input=data, capture_output=True, check=True)
    lines = done.stdout.decode().splitlines()[: len(wanted)]
    return [[int(part) for part in line.split()] for line in lines]


def main(program: str) -> None:
    """Write the file."""
    bytes_merges, blocks_merges = train(BYTES_MERGES, blocks=False), train(BLOCKS_MERGES, blocks=True)
    every = [*texts(), *vocabularies.SPECIAL_TEXTS]
    results: list[str] = []
    numbers: dict[str, int] = {}

    def note(name: str, path: Path) -> None:
        result = " ".join(map(digest, ids_of(program, path, every)))
        if result not in results:
            results.append(result)
        numbers[name] = results.index(result)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.gguf"
        for name in sorted(PRE_TOKENIZERS.keys() - LLAMA_CPP_FAILS):
            if name in OF_BLOCKS:
                note(name, vocabularies.scored(path, blocks_merges, model="gpt2", pre=name))
            else:
                note(name, vocabularies.byte_level(path, bytes_merges, pre=name))
        note("no pre", vocabularies.byte_level(path, bytes_merges))
        note("llama", vocabularies.scored(path, blocks_merges))
        note("llama without a space", vocabularies.scored(path, blocks_merges, add_space_prefix=False))
    found = {
        "bytes_merges": bytes_merges,
        "blocks_merges": blocks_merges,
        "pre": numbers,
        "digests": results,
        "default_model": ids_of(program, Path(find_model(DEFAULT_MODEL).path), texts(), add_special=False),
    }
    text = json.dumps(found, ensure_ascii=False, indent=0, separators=(",", ":"))
    vocabularies.RECORD.write_text(text.replace(",\n", ",").replace("],", "],\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
