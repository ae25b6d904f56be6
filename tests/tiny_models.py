"""Tiny random models for tests: real files in the real formats, made in a second, with nothing downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
EOS_TOKEN_ID = 2
VOCAB_SIZE = 576

TRAINING_TEXT = """\
The capital of France is Paris, and the capital of Italy is Rome. A server reads a request, puts it into a queue,
schedules it, runs the model and answers with tokens. Octavo is a format of a book: each sheet is folded three times.
You are a helpful assistant. What is the answer to the question? The quick brown fox jumps over the lazy dog.
user system assistant hello world yes no one two three four five six seven eight nine ten hundred thousand
def function(argument): return value; for item in list: print(item) {"name": "value", "number": 1234567890}
It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.
Grüße aus München, café crème, naïve façade, señor; Привет, мир; 你好，世界; こんにちは; 안녕하세요; emoji 🙂 🚀 👩‍👩‍👧.
"""


def make_tokenizer(folder: Path) -> None:
    """Write a byte-level BPE tokenizer of VOCAB_SIZE tokens that can spell every string, with a ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT.splitlines(), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL_TOKENS[1],
        "eos_token": SPECIAL_TOKENS[2],
        "pad_token": SPECIAL_TOKENS[2],
        "unk_token": SPECIAL_TOKENS[0],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def make_tiny_llama(folder: Path) -> None:
    """Write a random two-layer Llama (float32, GQA, 2048 positions) with its tokenizer into `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    make_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=EOS_TOKEN_ID,
        pad_token_id=EOS_TOKEN_ID,
        tie_word_embeddings=False,
        # Wide enough that greedy outputs vary and no two logits tie.
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(torch.float32)
    model.save_pretrained(folder)
    generation = {"bos_token_id": 1, "eos_token_id": EOS_TOKEN_ID, "pad_token_id": EOS_TOKEN_ID}
    (folder / "generation_config.json").write_text(json.dumps(generation))


BERT_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_word_piece() -> Any:
    """A WordPiece tokenizer as BERT's, with [CLS] and [SEP] around texts and pairs."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix="##"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCAB_SIZE, special_tokens=list(BERT_SPECIAL_TOKENS), show_progress=False)
    tokenizer.train_from_iterator(TRAINING_TEXT.splitlines(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def make_tiny_bert(folder: Path, num_labels: int = 0) -> None:
    """Write a random two-layer BERT (128 positions) with its tokenizer into `folder`.

    It embeds, by the mean of its hidden states made 1 long as sentence-transformers' files say it; or it tells `num_labels` classes apart.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    make_word_piece().save(str(folder / "tokenizer.json"))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), BERT_SPECIAL_TOKENS, strict=True))
    settings = {"tokenizer_class": "BertTokenizerFast", "model_max_length": 128, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    if num_labels:
        config.id2label = {index: f"class {index}" for index in range(num_labels)}
        config.label2id = {name: index for index, name in config.id2label.items()}
    kind = BertForSequenceClassification if num_labels else BertModel
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(config).to(torch.float32).save_pretrained(folder)
    if not num_labels:
        _write_sentence_modules(folder, config.hidden_size)


def _write_sentence_modules(folder: Path, size: int) -> None:
    """What makes a sentence-transformers model of a BERT: mean pooling, then length 1."""
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": size, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
