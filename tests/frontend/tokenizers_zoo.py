"""Small tokenizers of every kind the detokenizer knows, trained here."""

from __future__ import annotations

import json

import tokenizers
from tiny_models import TRAINING_TEXT
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from octavo.frontend.tokenizer import Tokenizer

SPECIAL = ["<s>", "</s>", "<|im_end|>"]
LINES = TRAINING_TEXT.splitlines()


def _finish(backend: tokenizers.Tokenizer) -> Tokenizer:
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    backend.add_tokens([AddedToken("<tool é>", normalized=False), AddedToken("<tool>", normalized=False)])
    return Tokenizer(backend, {}, {})


def byte_level() -> Tokenizer:
    """GPT-2, Llama 3, Qwen."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    return _finish(backend)


def _with_bytes(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A vocabulary with byte fallback: <0x00> to <0xFF> in the vocabulary."""
    state = json.loads(backend.to_str())
    vocab = state["model"]["vocab"]
    for byte in range(256):
        vocab.setdefault(f"<0x{byte:02X}>", len(vocab))
    state["model"]["byte_fallback"] = True
    return tokenizers.Tokenizer.from_str(json.dumps(state))


def _sentencepiece_bpe() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE(unk_token=None))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    ascii_lines = ["".join(char for char in line if ord(char) < 0x400) for line in LINES]
    backend.train_from_iterator(ascii_lines, trainers.BpeTrainer(vocab_size=300, show_progress=False))
    backend = _with_bytes(backend)
    backend.pre_tokenizer = None
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return backend


def byte_fallback() -> Tokenizer:
    """Llama 2, Mistral: the first space of a text is dropped."""
    backend = _sentencepiece_bpe()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _finish(backend)


def byte_fallback_no_strip() -> Tokenizer:
    """Gemma."""
    backend = _sentencepiece_bpe()
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _finish(backend)


def metaspace() -> Tokenizer:
    """T5, XLM-R."""
    backend = _sentencepiece_bpe()
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    return _finish(backend)


def word_piece() -> Tokenizer:
    """BERT."""
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    backend.train_from_iterator(LINES, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]"], show_progress=False))
    return _finish(backend)


def bpe_suffix() -> Tokenizer:
    """CLIP, XLM: words end in </w>."""
    backend = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=None))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.BPEDecoder()
    backend.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=300, end_of_word_suffix="</w>", show_progress=False))
    return _finish(backend)


def no_decoder() -> Tokenizer:
    """Tokens joined by spaces."""
    backend = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.train_from_iterator(LINES, trainers.WordLevelTrainer(vocab_size=100, special_tokens=["[UNK]"], show_progress=False))
    return _finish(backend)


def unusual_sequence() -> Tokenizer:
    """Steps in no known order: the window has to do."""
    backend = _sentencepiece_bpe()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Replace(Regex("▁"), " "), decoders.Fuse()])
    return _finish(backend)


EXACT = [byte_level, byte_fallback, byte_fallback_no_strip, metaspace, word_piece, bpe_suffix, no_decoder]
