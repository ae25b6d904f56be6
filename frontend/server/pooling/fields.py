"""Fields that the pooling endpoints share, served or not."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from octavo.frontend.server.body import Refused
from octavo.frontend.server.fields import Int64
from octavo.frontend.server.pooling.numbers import EmbedDtype, Endianness
from octavo.params import MAX_INT

EncodingFormat = Literal["float", "base64", "bytes", "bytes_only"]
Limit = Annotated[int, msgspec.Meta(ge=-1, le=MAX_INT)]
"""Of tokens; -1 = as many as the model takes."""


class PoolingFields(msgspec.Struct, kw_only=True):
    """Fields of every pooling endpoint; None = the server's default."""

    model: str | None = None
    truncate_prompt_tokens: Limit | None = None
    truncation_side: Literal["left", "right"] | None = None
    """Which side is cut off; unset = the right one."""
    add_special_tokens: bool | None = None
    """Unset = true for texts, false for conversations, whose template adds them."""
    use_activation: bool | None = None
    priority: Int64 | None = None
    request_id: str | None = None
    cache_salt: str | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Seconds until the request is ended with 504; the server's --request-timeout still holds."""


class InputFields(PoolingFields, kw_only=True):
    """Texts, token ids, or conversations to be pooled."""

    input: str | list[str | Int64 | list[Int64]] | None = None
    """A text, token ids, or several of either."""
    messages: list[dict[str, Any] | list[dict[str, Any]]] | None = None
    """A conversation, or several."""
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class EncodedInputFields(InputFields, kw_only=True):
    """Inputs, and how their vectors are written into the answer."""

    encoding_format: EncodingFormat | None = None
    embed_dtype: EmbedDtype | None = None
    """Type of the numbers in base64 and bytes."""
    endianness: Endianness | None = None


REFUSED: dict[str, Refused] = {
    "normalize": Refused("it was removed; use `use_activation` instead"),
    "activation": Refused("it was removed; use `use_activation` instead"),
    "softmax": Refused("it was removed; use `use_activation` instead"),
    "padding": Refused("prompts are not padded", (None, False, "do_not_pad")),
    "mm_processor_kwargs": Refused("the model takes text only"),
    "media_io_kwargs": Refused("the model takes text only"),
}
"""Known fields that must stay neutral on every pooling endpoint."""

WITHOUT_EFFECT = frozenset({"user", "session_id", "metadata"})
"""Fields that only label a request."""
