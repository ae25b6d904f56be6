"""Messages of a conversation, checked and in the form a chat template takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from octavo.errors import ValidationError

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "thinking": "thinking", "refusal": "refusal"}
"""Part types that are text, and the key it is under."""


def normalized_messages(messages: Any, *, parts: bool, strings: bool) -> list[dict[str, Any]]:
    """Copies of the messages with content as the template wants it and tool call arguments as objects.

    Args:
        messages: OpenAI's message dicts.
        parts: the template takes content as a list of parts.
        strings: it takes content as a string. With both, content stays what it is.

    Raises:
        ValidationError: naming the message that is malformed.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise ValidationError("messages must be a list of messages.", parameter="messages")
    if not messages:
        raise ValidationError("messages must not be empty.", parameter="messages", value=[])
    return [_normalized(message, f"messages[{i}]", parts=parts, strings=strings) for i, message in enumerate(messages)]


def check_roles(messages: Sequence[Mapping[str, Any]], template: str) -> None:
    """Refuse a message whose role neither OpenAI's API nor the template knows: templates drop such messages, or mistake them.

    Args:
        messages: as `normalized_messages` returns them.
        template: the template's source; a role that it names in quotes is one of its own.

    Raises:
        ValidationError: naming the role's place.
    """
    for index, message in enumerate(messages):
        role = message["role"]
        if role not in _ROLES and f"'{role}'" not in template and f'"{role}"' not in template:
            where = f"messages[{index}].role"
            rule = f"must be one of {', '.join(_ROLES)}, or one that the chat template names"
            raise ValidationError(f"{where} {rule}, got {role[:100]!r}.", parameter=where, value=role)


def plain(value: Any, depth: int = 0) -> Any:
    """A value out of JSON's types only: templates get nothing with methods of its own.

    Raises:
        ValidationError: nested too deep.
    """
    if depth > 100:
        raise ValidationError("The conversation is nested too deep.", parameter="messages")
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    return str(value)


def _normalized(message: Any, where: str, *, parts: bool, strings: bool) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise ValidationError(f"{where} must be an object with role and content.", parameter=where, value=message)
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise ValidationError(f"{where}.role must be a string.", parameter=f"{where}.role", value=role)
    result: dict[str, Any] = plain({key: value for key, value in message.items() if key != "content" and value is not None})
    result["content"] = _content(message.get("content"), f"{where}.content", parts=parts, strings=strings)
    reasoning = result.get("reasoning_content", result.get("reasoning"))
    if reasoning is not None:
        result["reasoning"] = result["reasoning_content"] = reasoning
    calls = result.get("tool_calls") or []
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise ValidationError(f"{where}.tool_calls must be a list of objects.", parameter=f"{where}.tool_calls", value=calls)
    for call in calls:
        _parse_arguments(call)
    return result


def _content(content: Any, where: str, *, parts: bool, strings: bool) -> str | list[dict[str, Any]]:
    if content is None:
        content = ""
    if isinstance(content, str):
        return content if strings or not parts else [{"type": "text", "text": content}]
    if not isinstance(content, Sequence):
        raise ValidationError(f"{where} must be a string or a list of parts.", parameter=where, value=content)
    texts = [_part_text(part, f"{where}[{i}]") for i, part in enumerate(content)]
    return [{"type": "text", "text": text} for text in texts] if parts else "\n".join(texts)


def _part_text(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else None
    key = _TEXT_PARTS.get(kind) if isinstance(kind, str) else None
    if key is None:
        raise ValidationError(f"{where} is of type {kind!r}; this model takes text only.", parameter=where, value=kind)
    text = part.get(key)
    if not isinstance(text, str):
        raise ValidationError(f"{where}.{key} must be a string.", parameter=f"{where}.{key}", value=text)
    return text


def _parse_arguments(call: dict[str, Any]) -> None:
    """OpenAI sends a call's arguments as JSON text; templates want the object. What is no JSON stays text."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return
    try:
        function["arguments"] = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return
    plain(function["arguments"])  # as deep as anything else of a conversation
