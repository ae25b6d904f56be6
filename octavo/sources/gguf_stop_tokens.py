"""Which tokens end an answer, by what a GGUF file says and by how they are spelled."""

from __future__ import annotations

from octavo.sources.gguf_arrays import find_strings
from octavo.sources.gguf_file import GGUFFile

_TOKENS = "tokenizer.ggml.tokens"
_END_OF_TURN = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]",
    "<\uff5cend\u2581of\u2581sentence\uff5c>", "<end_of_utterance>", "<turn|>", "<|return|>", "<|call|>",
)  # fmt: skip
_END_OF_MESSAGE = ("<|eom_id|>",)
_HARMONY = frozenset({"<|return|>", "<|call|>"})
"""Where both of these are, <|end|> ends a message that others follow, not the answer."""
_SENTENCEPIECE_EOS = 2


def stop_token_ids(file: GGUFFile, named: dict[str, int | None]) -> list[int]:
    """Ids that end an answer, the end of text first; `named` are those that the file gives for eos, eot and eom.

    Files often name only the end of text, though chats end with another token: where the end of a turn or of a message is
    not named, the tokens that are spelled like one are taken.
    """
    if named["eos"] is None and file.metadata.get("tokenizer.ggml.model") == "llama":
        named = {**named, "eos": _SENTENCEPIECE_EOS}
    wanted = (*(_END_OF_TURN if named["eot"] is None else ()), *(_END_OF_MESSAGE if named["eom"] is None else ()))
    spelled = find_strings(file, _TOKENS, wanted) if wanted else {}
    if spelled.keys() >= _HARMONY:
        spelled.pop("<|end|>", None)
    return list(dict.fromkeys([*(i for i in named.values() if i is not None), *spelled.values()]))
