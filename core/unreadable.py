"""Who must hear of a message that could not be read: an answer is made for whoever would wait for ever."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from octavo.core.transport import Frame, WireError
from octavo.wire.messages import ControlReply, CoreOutputs, FinishReason, RequestUpdate


def answer_to_client(frames: Sequence[Frame], error: WireError) -> CoreOutputs | ControlReply | None:
    """What the core says to a client whose message it cannot read; None when nobody is seen to wait."""
    match _document(frames):
        case ["add", str(request_id), *_]:
            return failed_requests([request_id], f"the engine core could not read the request: {error}")
        case ["call", int(call_id), *_]:
            return ControlReply(call_id, error=f"the engine core could not read the call: {error}")
    return None


def instead_of(frames: Sequence[Frame], error: WireError) -> CoreOutputs | ControlReply | None:
    """What a client takes a core's message for that it cannot read: its requests have lost tokens, and end."""
    match _document(frames):
        case ["outputs", list(updates), *rest]:
            request_ids = [update[0] for update in updates if isinstance(update, list) and update]
            if len(rest) > 2 and isinstance(rest[2], list) and rest[2] and isinstance(rest[2][0], list):
                request_ids += rest[2][0]
            known = [request_id for request_id in request_ids if isinstance(request_id, str)]
            return failed_requests(known, f"an output of the engine core could not be read: {error}")
        case ["reply", int(call_id), *_]:
            return ControlReply(call_id, error=f"the engine core's reply could not be read: {error}")
    return None


def failed_requests(request_ids: Iterable[str], why: str) -> CoreOutputs:
    """The news that these requests have failed."""
    updates = [RequestUpdate(request_id, finish_reason=FinishReason.ERROR, error=why) for request_id in request_ids]
    return CoreOutputs(updates, time.monotonic())


def _document(frames: Sequence[Frame]) -> Any:
    """What the first frame says, whatever it is; None when it is not even msgpack."""
    try:
        return msgspec.msgpack.decode(frames[0]) if frames else None
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        return None
