"""One sequence that has not ended: all that is needed to have a core go on with it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from octavo.frontend.request_state import RequestState
from octavo.frontend.sequence_output import SequenceOutput
from octavo.wire.messages import EngineRequest


@dataclass(slots=True, eq=False)
class LiveSequence:
    """What was asked of the core, and what has come of it.

    Attributes:
        request: as it was first sent; its prompt is shared with the request's other sequences.
        died_at: output tokens that it had when a core died by itself with it, the last time.
    """

    state: RequestState
    sequence: SequenceOutput
    request: EngineRequest
    died_at: int | None = None

    @property
    def live(self) -> bool:
        """Somebody still waits for it."""
        return not (self.state.finished or self.sequence.finished)

    @property
    def stuck(self) -> bool:
        """It has gained no token since a core died with it."""
        return self.died_at == self.sequence.num_tokens

    def resumed(self) -> EngineRequest:
        """The request for a core that is to go on where another one ended."""
        scored = self.state.num_prompt_logprobs if self.request.sampling.prompt_logprobs is not None else 0
        return msgspec.structs.replace(self.request, output_token_ids=self.sequence.token_ids, num_prompt_logprobs=scored)
