"""Incremental detokenization: token ids in, text out, and the pieces joined are the text of all tokens.

Three ways, chosen by the tokenizer's decoder, all with one interface (`push`, `flush`):

- byte-level BPE: every token is some bytes; an incremental UTF-8 decoder puts them together;
- SentencePiece-style with byte fallback: every token is text or one byte; a run of bytes becomes text when it ends, for the
  library decodes a run as a whole (one invalid byte makes every byte of its run a U+FFFD);
- anything else: decode a window of the last tokens and compare with the window before.

Tokens of the prompt before the output matter at the border: a leading space is only dropped at the very start of the
text, and a character may begin in the prompt and end in the output (it belongs to the output then).
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from codecs import utf_8_decode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import tokenizers

REPLACEMENT = "\ufffd"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_MAX_HELD_TOKENS = 32
_TAIL_TOKENS = 8


class Detokenizer(ABC):
    """Text of one sequence, as its tokens come."""

    __slots__ = ()

    @abstractmethod
    def push(self, token_id: int) -> str:
        """Text that this token makes certain; "" while a character is incomplete."""

    @abstractmethod
    def flush(self) -> str:
        """The sequence is over: text of what is still incomplete (U+FFFD for broken characters)."""


class ByteLevelDetokenizer(Detokenizer):
    """GPT-2-style: each token is bytes."""

    __slots__ = ("_pending", "_pieces")

    def __init__(self, pieces: Mapping[int, str | bytes], prompt_token_ids: Sequence[int]) -> None:
        self._pieces = pieces
        self._pending = b""
        self._pending = self._unfinished_tail(prompt_token_ids)

    def push(self, token_id: int) -> str:
        piece = self._pieces[token_id]
        if isinstance(piece, str):
            if not self._pending:
                return piece
            piece = piece.encode()
        data = self._pending + piece
        text, used = utf_8_decode(data, "replace", False)
        self._pending = data[used:]
        return text

    def flush(self) -> str:
        text = utf_8_decode(self._pending, "replace", True)[0]
        self._pending = b""
        return text

    def _unfinished_tail(self, token_ids: Sequence[int]) -> bytes:
        """Bytes of the character the prompt ends in the middle of; at most 3."""
        tail = b""
        for token_id in reversed(token_ids):
            piece = self._pieces[token_id]
            tail = (piece.encode() if isinstance(piece, str) else piece) + tail
            if len(tail) >= 4:
                break
        return tail[utf_8_decode(tail, "replace", False)[1] :]


@dataclass(frozen=True)
class _LeftStrip:
    """The decoder's Strip step: up to `count` times `char` off the start of the whole text."""

    char: str = " "
    count: int = 0


class ByteFallbackDetokenizer(Detokenizer):
    """SentencePiece-style: each token is text, or one byte of a run."""

    __slots__ = ("_pieces", "_run", "_strip_char", "_strip_left")

    def __init__(self, pieces: Mapping[int, str | int | None], strip: _LeftStrip, prompt_token_ids: Sequence[int]) -> None:
        self._pieces = pieces
        self._run = self._unfinished_run(prompt_token_ids)
        self._strip_char = strip.char
        at_start = not any(pieces[i] not in ("", None) for i in reversed(prompt_token_ids)) if strip.count else False
        self._strip_left = strip.count if at_start else 0

    def push(self, token_id: int) -> str:
        piece = self._pieces[token_id]
        if isinstance(piece, int):
            self._run.append(piece)
            return ""
        if piece is None:
            return ""
        if self._run:
            piece = self._end_run() + piece
        return self._strip(piece) if self._strip_left else piece

    def flush(self) -> str:
        text = self._end_run()
        return self._strip(text) if self._strip_left else text

    def _end_run(self) -> str:
        try:
            text = self._run.decode("utf-8")
        except UnicodeDecodeError:
            text = REPLACEMENT * len(self._run)
        self._run.clear()
        return text

    def _strip(self, text: str) -> str:
        while self._strip_left and text.startswith(self._strip_char):
            text = text[1:]
            self._strip_left -= 1
        if text:
            self._strip_left = 0
        return text

    def _unfinished_run(self, token_ids: Sequence[int]) -> bytearray:
        """Bytes of the character the prompt ends in the middle of, if what is before it in its run is whole."""
        run = bytearray()
        for token_id in reversed(token_ids):
            piece = self._pieces[token_id]
            if isinstance(piece, str):
                break
            if piece is not None:
                run.append(piece)
        run.reverse()
        try:
            return run[utf_8_decode(run, "strict", False)[1] :]
        except UnicodeDecodeError:
            return bytearray()


class WindowDetokenizer(Detokenizer):
    """Any decoder: text of the last tokens with the new one, less their text without it.

    Tokens without text (skipped special ones, unknown ids) never enter the window.
    """

    __slots__ = ("_after_added", "_decoder", "_ids", "_prefix_text", "_read")

    def __init__(self, decoder: _WindowDecoder, prompt_token_ids: Sequence[int]) -> None:
        self._decoder = decoder
        tail: list[int] = []
        for token_id in reversed(prompt_token_ids):
            if decoder.has_text(token_id):
                tail.append(token_id)
            if len(tail) == _TAIL_TOKENS:
                break
        self._ids = tail[::-1]
        self._read = len(tail)
        self._prefix_text = decoder.decode(self._ids)
        self._after_added = False

    def push(self, token_id: int) -> str:
        if not self._decoder.has_text(token_id):
            return ""
        joined = self._joined_added_token(token_id)
        if joined is not None:
            return joined
        self._ids.append(token_id)
        text = self._decoder.decode(self._ids)
        incomplete = text.endswith(REPLACEMENT) and len(self._ids) - self._read < _MAX_HELD_TOKENS
        if len(text) <= len(self._prefix_text) or incomplete:
            return ""
        return self._advance(text)

    def flush(self) -> str:
        return self._advance(self._decoder.decode(self._ids))

    def _advance(self, text: str) -> str:
        delta = text[len(self._prefix_text) :]
        self._ids = self._ids[self._read :]
        self._read = len(self._ids)
        self._prefix_text = self._decoder.decode(self._ids)
        return delta

    def _joined_added_token(self, token_id: int) -> str | None:
        """An added token right after another one is written without the decoder's space, when the caller wants that."""
        if not self._decoder.join_added_tokens:
            return None
        after_added, self._after_added = self._after_added, token_id in self._decoder.added_ids
        if not (after_added and self._after_added):
            return None
        pending = self.flush()
        self._ids, self._read = [token_id], 1
        self._prefix_text = self._decoder.decode(self._ids)
        return pending + self._decoder.spelling(token_id)


@dataclass(frozen=True)
class _WindowDecoder:
    """What a WindowDetokenizer asks of the tokenizer."""

    backend: tokenizers.Tokenizer
    skipped_ids: Collection[int]
    added_ids: Collection[int]
    join_added_tokens: bool

    def decode(self, token_ids: list[int]) -> str:
        return self.backend.decode(token_ids, skip_special_tokens=False)

    def has_text(self, token_id: int) -> bool:
        return token_id not in self.skipped_ids and self.backend.id_to_token(token_id) is not None

    def spelling(self, token_id: int) -> str:
        return self.backend.id_to_token(token_id) or ""


class DetokenizerFactory:
    """Makes the detokenizers of one tokenizer; what they learn about single tokens is shared.

    Args:
        backend: the tokenizer.
        special_ids: ids that skip_special_tokens leaves out.
        added_ids: ids of all added tokens.
    """

    def __init__(self, backend: tokenizers.Tokenizer, special_ids: Collection[int], added_ids: Collection[int]) -> None:
        self._backend = backend
        self._special_ids = frozenset(special_ids)
        self._added_ids = frozenset(added_ids)
        self._decoder_steps = _decoder_steps(backend)
        self._fallback = _byte_fallback_rule(self._decoder_steps)
        self._byte_level = [step["type"] for step in self._decoder_steps] == ["ByteLevel"]
        self._bytes_of = {skip: _Pieces(self._byte_piece(skip)) for skip in (False, True)}
        self._fallback_of = {skip: _Pieces(self._fallback_piece(skip)) for skip in (False, True)}

    def new(
        self, prompt_token_ids: Sequence[int], skip_special_tokens: bool = True, spaces_between_special_tokens: bool = True
    ) -> Detokenizer:
        """A detokenizer for the tokens that follow a prompt."""
        if self._byte_level:
            return ByteLevelDetokenizer(self._bytes_of[skip_special_tokens], prompt_token_ids)
        if self._fallback is not None:
            return ByteFallbackDetokenizer(self._fallback_of[skip_special_tokens], self._fallback.strip, prompt_token_ids)
        join = not skip_special_tokens and not spaces_between_special_tokens
        skipped = self._special_ids if skip_special_tokens else frozenset()
        return WindowDetokenizer(_WindowDecoder(self._backend, skipped, self._added_ids, join), prompt_token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of a token in the middle of a text, special or not; b"" outside the vocabulary."""
        if self._byte_level:
            piece = self._bytes_of[False][token_id]
            return piece.encode() if isinstance(piece, str) else piece
        if self._fallback is not None:
            part = self._fallback_of[False][token_id]
            return bytes([part]) if isinstance(part, int) else (part or "").encode()
        once, twice = (self._backend.decode([token_id] * n, skip_special_tokens=False) for n in (1, 2))
        return twice[len(once) :].encode()

    def _byte_piece(self, skip: bool) -> Callable[[int], str | bytes]:
        def make(token_id: int) -> str | bytes:
            token = self._backend.id_to_token(token_id)
            if token is None or (skip and token_id in self._special_ids):
                return ""
            data = _byte_level_bytes(token)
            try:
                return data.decode("utf-8")
            except UnicodeDecodeError:
                return data

        return make

    def _fallback_piece(self, skip: bool) -> Callable[[int], str | int | None]:
        def make(token_id: int) -> str | int | None:
            token = self._backend.id_to_token(token_id)
            if token is None or (skip and token_id in self._special_ids) or self._fallback is None:
                return None
            for old, new in self._fallback.replacements:
                token = token.replace(old, new)
            match = _BYTE_TOKEN.fullmatch(token)
            return token if match is None else int(match[1], 16)

        return make


T = TypeVar("T")


class _Pieces(dict[int, T], Generic[T]):
    """Token id -> piece, filled as ids are met."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make = make

    def __missing__(self, token_id: int) -> T:
        piece = self[token_id] = self._make(token_id)
        return piece


def _decoder_steps(backend: tokenizers.Tokenizer) -> list[dict[str, Any]]:
    """The decoder's steps as tokenizer.json writes them; [] for none."""
    if backend.decoder is None:
        return []
    decoder = json.loads(backend.decoder.__getstate__())
    return list(decoder["decoders"]) if decoder["type"] == "Sequence" else [decoder]


@dataclass(frozen=True)
class _ByteFallbackRule:
    """Decoder of the form Replace*, ByteFallback, Fuse, and maybe a Strip on the left."""

    replacements: tuple[tuple[str, str], ...]
    strip: _LeftStrip


def _byte_fallback_rule(steps: Sequence[dict[str, Any]]) -> _ByteFallbackRule | None:
    """The rule of these decoder steps; None when they have another form."""
    replacements: list[tuple[str, str]] = []
    steps = list(steps)
    while steps and steps[0]["type"] == "Replace" and "String" in steps[0]["pattern"]:
        step = steps.pop(0)
        replacements.append((step["pattern"]["String"], step["content"]))
    if [step["type"] for step in steps[:2]] != ["ByteFallback", "Fuse"]:
        return None
    match steps[2:]:
        case []:
            return _ByteFallbackRule(tuple(replacements), _LeftStrip())
        case [{"type": "Strip", "content": str(char), "start": int(count), "stop": 0}]:
            return _ByteFallbackRule(tuple(replacements), _LeftStrip(char, count))
    return None


def _byte_of_char() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 characters stand for themselves, other bytes for characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF_CHAR = _byte_of_char()


def _byte_level_bytes(token: str) -> bytes:
    """A token of byte-level BPE as bytes; one with characters outside the alphabet (an added token) stands for itself."""
    try:
        return bytes([_BYTE_OF_CHAR[char] for char in token])
    except KeyError:
        return token.encode()
