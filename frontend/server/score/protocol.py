"""`/score` and `/rerank`: what comes in and what goes out."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from octavo.frontend.server.body import BodyType, Refused
from octavo.frontend.server.pooling.fields import REFUSED as POOLING_REFUSED
from octavo.frontend.server.pooling.fields import WITHOUT_EFFECT, PoolingFields
from octavo.frontend.server.usage import Usage
from octavo.params import MAX_INT

Text = str | dict[str, Any]
"""A text, or an object with it: {"text": ...}, or {"content": a text or a list of parts}."""
Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_INT)]


class PairFields(PoolingFields, kw_only=True):
    """Fields of the endpoints that compare texts."""

    max_tokens_per_query: Number | None = None
    """Tokens of each query that are read; 0 = all."""
    max_tokens_per_doc: Number | None = None


class ScoreRequest(PairFields, kw_only=True):
    """Body of a scoring request: pairs under one of their four names, one text to one, one to many, or many to as many."""

    queries: Text | list[Text] | None = None
    documents: Text | list[Text] | None = None
    items: Text | list[Text] | None = None
    data_1: Text | list[Text] | None = None
    data_2: Text | list[Text] | None = None
    text_1: Text | list[Text] | None = None
    text_2: Text | list[Text] | None = None


class RerankRequest(PairFields, kw_only=True):
    """Body of a reranking request."""

    query: Text
    documents: list[Text]
    top_n: Number | None = None
    """Results to answer with, the best ones; 0 = all."""
    return_documents: bool | None = None
    """Unset = true."""


_PLAIN = "the model takes plain pairs of texts"
_REFUSED = {
    **POOLING_REFUSED,
    "instruction": Refused(_PLAIN),
    "chat_template": Refused(_PLAIN),
    "chat_template_kwargs": Refused(_PLAIN, (None, {})),
}
SCORE_BODY = BodyType(ScoreRequest, refused=_REFUSED, without_effect=WITHOUT_EFFECT)
RERANK_BODY = BodyType(
    RerankRequest,
    refused={
        **_REFUSED,
        "rank_fields": Refused('documents have one field, "text"', (None, [], ["text"])),
        "max_chunks_per_doc": Refused("documents are not split into chunks; use truncate_prompt_tokens", (None, 1)),
    },
    without_effect=WITHOUT_EFFECT,
)


class Score(msgspec.Struct):
    """How well the texts of a pair go together."""

    index: int
    score: float
    object: str = "score"


class Document(msgspec.Struct):
    """A document as it came."""

    text: str
    multi_modal: None = None


class RerankResult(msgspec.Struct):
    """A document's place among the others; `index` is where it was in the request."""

    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class ApiVersion(msgspec.Struct):
    """The version of Cohere's API that an answer follows."""

    version: str = "2"


class RerankMeta(msgspec.Struct):
    """What Cohere's clients read of the cost of a request."""

    billed_units: dict[str, int]
    tokens: dict[str, int]
    api_version: ApiVersion = msgspec.field(default_factory=ApiVersion)


class RerankAnswer(msgspec.Struct):
    """Documents, the best first, for clients of Jina (`usage`), Cohere (`meta`) and vLLM (`model`)."""

    id: str
    model: str
    usage: Usage
    results: list[RerankResult]
    meta: RerankMeta
    object: str = "list"
