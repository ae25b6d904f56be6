"""What is refused of a prompt, as text or as ids, with the error code that clients look for."""

from __future__ import annotations

from octavo.errors import ValidationError

CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"


def check_prompt_length(num_tokens: int, max_model_len: int, parameter: str = "prompt") -> None:
    """Refuse a prompt that leaves no room in the context for a token of output.

    Raises:
        ValidationError: naming `parameter`.
    """
    if num_tokens >= max_model_len:
        raise ValidationError(
            f"This model's maximum context length is {max_model_len} tokens, but the {parameter} has {num_tokens}; "
            f"shorten the {parameter} so that at least one token can be generated.",
            parameter=parameter,
            value=num_tokens,
            code=CONTEXT_LENGTH_EXCEEDED,
        )


def check_text_length(num_tokens: int, max_model_len: int, parameter: str = "prompt") -> None:
    """Refuse a text that is longer than the context.

    Raises:
        ValidationError: naming `parameter`.
    """
    if num_tokens > max_model_len:
        raise ValidationError(
            f"This model's maximum context length is {max_model_len} tokens, but the {parameter} has {num_tokens}; "
            f"shorten it, or set truncate_prompt_tokens.",
            parameter=parameter,
            value=num_tokens,
            code=CONTEXT_LENGTH_EXCEEDED,
        )


def check_unicode(name: str, text: str) -> None:
    """Refuse text that cannot be sent anywhere: half of a surrogate pair.

    Raises:
        ValidationError: naming `name`.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(f"{name} is not valid Unicode: {error.reason}.", parameter=name, value=text) from None


def check_identity(request_id: str, priority: int) -> None:
    """Refuse what is no id or no priority of a request.

    Raises:
        ValidationError: naming the parameter.
    """
    if not isinstance(request_id, str):
        raise ValidationError(f"request_id must be a string, got {type(request_id).__name__}.", parameter="request_id")
    check_unicode("request_id", request_id)
    if not isinstance(priority, int) or isinstance(priority, bool) or not -(2**63) <= priority < 2**63:
        raise ValidationError(f"priority must be a 64-bit integer, got {priority!r}.", parameter="priority", value=priority)
