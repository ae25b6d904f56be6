"""Pooling as a plain script sees it: a real engine around a tiny encoder, a classifier of pairs, and a decoder that embeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from parity import tiny_hf

from octavo import LLM, PoolingParams, SamplingParams
from octavo.errors import ConfigError, ValidationError

TEXTS = [
    "The capital of France is Paris.",
    "x",
    "a server reads a request and puts it into a queue " * 2,
    "hello world",
    "yes no one two",
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    tiny_models.make_tiny_bert(folder)
    return folder


@pytest.fixture(scope="module")
def embedder(bert: Path) -> Iterator[LLM]:
    with LLM(str(bert), dtype="float32", max_num_seqs=4) as llm:
        yield llm


def vectors(llm: LLM, texts: list[str], **options: object) -> np.ndarray:
    return np.stack([output.outputs.data for output in llm.encode(texts, use_tqdm=False, **options)])  # type: ignore[arg-type]


def test_embeddings_are_transformers(embedder: LLM, bert: Path) -> None:
    reference = transformers.BertModel.from_pretrained(bert).eval()
    outputs = embedder.embed(TEXTS, use_tqdm=False)
    for output in outputs:
        with torch.no_grad():
            mean = reference(torch.tensor([output.prompt_token_ids])).last_hidden_state[0].mean(0)
        torch.testing.assert_close(torch.tensor(output.outputs.embedding), mean / mean.norm(), rtol=1e-5, atol=1e-5)
        assert output.finished
        assert output.prompt_token_ids[0] == 2


def test_orders_and_mixes_do_not_show(embedder: LLM) -> None:
    whole = vectors(embedder, TEXTS)
    assert np.array_equal(vectors(embedder, TEXTS[::-1]), whole[::-1])
    assert np.array_equal(np.concatenate([vectors(embedder, [text]) for text in TEXTS]), whole)


def test_every_length_returns_and_one_too_long_is_named(embedder: LLM) -> None:
    longest = embedder.config.model.max_model_len
    lengths = [1, 5, longest - 1, longest, 2]
    outputs = embedder.encode([[7] * length for length in lengths], use_tqdm=False)
    assert [len(output.prompt_token_ids) for output in outputs] == lengths
    with pytest.raises(ValidationError, match=f"maximum context length is {longest} tokens, but the prompt has {longest + 1}"):
        embedder.encode([[7], [7] * (longest + 1)], use_tqdm=False)
    [cut] = embedder.encode([[7] * (longest + 9)], PoolingParams(truncate_prompt_tokens=-1), use_tqdm=False)
    assert len(cut.prompt_token_ids) == longest
    [text] = embedder.encode(["hello " * 500], use_tqdm=False, tokenization_kwargs={"truncate_prompt_tokens": 10})
    assert (len(text.prompt_token_ids), text.prompt_token_ids[0], text.prompt_token_ids[-1]) == (10, 2, 3)


def test_tasks(embedder: LLM) -> None:
    assert embedder.supported_pooling_tasks == ("embed", "token_embed", "plugin")
    [tokens] = embedder.encode([TEXTS[0]], pooling_task="token_embed", use_tqdm=False)
    assert tokens.outputs.data.shape == (len(tokens.prompt_token_ids), 64)
    with pytest.raises(ValidationError, match=r"Unsupported task: 'classify'\. The model supports embed, token_embed, plugin"):
        embedder.classify(TEXTS, use_tqdm=False)
    with pytest.raises(ValidationError, match="are for the task 'token_embed', and pooling_task is 'embed'"):
        embedder.embed(TEXTS, pooling_params=PoolingParams(task="token_embed"), use_tqdm=False)


def test_scores_of_embeddings_are_cosines(embedder: LLM) -> None:
    a, b, c = vectors(embedder, TEXTS[:3])
    scores = [one.outputs.score for one in embedder.score(TEXTS[0], TEXTS[1:3], use_tqdm=False)]
    assert scores == pytest.approx([float(a @ b), float(a @ c)], abs=1e-6)
    with pytest.raises(ValidationError, match="got 2 and 3"):
        embedder.score(TEXTS[:2], TEXTS[:3], use_tqdm=False)


def test_a_model_that_pools_generates_nothing(embedder: LLM) -> None:
    with pytest.raises(ValidationError, match="pools and generates no text"):
        embedder.generate("x", SamplingParams(max_tokens=1), use_tqdm=False)


def test_parameters_that_cannot_be() -> None:
    for wrong, said in (
        ({"task": "score"}, "task must be one of embed, classify"),
        ({"dimensions": 0}, "dimensions must be an integer from 1"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens must be at least 1, or -1"),
        ({"use_activation": 1}, "use_activation must be true or false"),
        ({"truncation_side": "middle"}, "truncation_side must be one of left, right"),
    ):
        with pytest.raises(ValidationError, match=said):
            PoolingParams(**wrong)  # type: ignore[arg-type]


def test_a_classifier_of_pairs(tmp_path: Path) -> None:
    tiny_models.make_tiny_bert(tmp_path, num_labels=1)
    reference = transformers.BertForSequenceClassification.from_pretrained(tmp_path).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    with LLM(str(tmp_path), dtype="float32") as llm:
        outputs = llm.score(TEXTS[0], TEXTS[1:], use_tqdm=False)
    for text, output in zip(TEXTS[1:], outputs, strict=True):
        pair = tokenizer(TEXTS[0], text)
        assert output.prompt_token_ids == pair["input_ids"]
        types = tokenizer.backend_tokenizer.encode(TEXTS[0], text).type_ids
        with torch.no_grad():
            logits = reference(torch.tensor([pair["input_ids"]]), token_type_ids=torch.tensor([types])).logits[0]
        assert output.outputs.score == pytest.approx(float(logits.sigmoid()), abs=1e-5)


def test_a_classifier_of_pairs_that_reads_no_token_types(tmp_path: Path) -> None:
    reference = tiny_hf.make(tmp_path, "LlamaForSequenceClassification", num_hidden_layers=1, vocab_size=576, num_labels=1)
    tiny_models.make_tokenizer(tmp_path)
    with LLM(str(tmp_path), dtype="float32") as llm:
        [output] = llm.score(TEXTS[0], TEXTS[3], use_tqdm=False)
    with torch.no_grad():
        logits = reference(torch.tensor([output.prompt_token_ids])).logits[0]
    assert output.outputs.score == pytest.approx(float(logits.sigmoid()), abs=1e-5)


def test_a_decoder_embeds_and_its_cached_prefix_changes_nothing(tiny_model_dir: Path) -> None:
    prompt = [*range(5, 105)]
    with LLM(str(tiny_model_dir), dtype="float32", runner="pooling", num_gpu_blocks_override=64) as llm:
        [first] = llm.encode([prompt], use_tqdm=False)
        [again] = llm.encode([prompt], use_tqdm=False)
        [other] = llm.encode([[*prompt[:-1], 7]], use_tqdm=False)
        [tokens] = llm.encode([prompt], use_tqdm=False, pooling_task="token_embed")
    assert (first.num_cached_tokens, tokens.num_cached_tokens) == (0, 0)
    assert min(again.num_cached_tokens, other.num_cached_tokens) > 0
    assert np.array_equal(first.outputs.data, again.outputs.data)
    assert not np.allclose(first.outputs.data, other.outputs.data)
    assert len(tokens.outputs.data) == len(prompt)


def test_an_encoder_is_not_asked_to_generate(bert: Path) -> None:
    with pytest.raises(ConfigError, match="--runner generate: BertModel generates no text"):
        LLM(str(bert), runner="generate")
