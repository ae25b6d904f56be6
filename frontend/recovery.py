"""Which sequences a new core gets in the place of a dead one, and when; and who is to blame for a death.

As a rule all of them go into the next core at once, each with the tokens it has. Only when cores die by themselves again
and again is one request perhaps the reason. A request is refused when two cores died with it, no token gained between,
and it was alone the second time. Where several were there, they are tried one after the other in the next core, each
until it has gained a token; the others wait. Kills from outside put the blame on nobody.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from octavo.core.death import Death
from octavo.frontend.input_processor import ProcessedInput
from octavo.frontend.live_sequence import LiveSequence
from octavo.frontend.request_state import RequestState


class Recovery:
    """What is held back from the core, and why.

    Args:
        max_num_seqs: sequences that a core has in its steps at most.

    Attributes:
        holding: sequences are not sent to the core as they come, for there is none, or one is on trial.
    """

    def __init__(self, max_num_seqs: int) -> None:
        self.holding = False
        self._max_num_seqs = max_num_seqs
        self._held: set[str] = set()
        self._trials: deque[LiveSequence] = deque()
        self._on_trial: LiveSequence | None = None

    @property
    def on_trial(self) -> bool:
        """A sequence is in the core to show whether it survives; ask `next_to_send` whenever something has happened."""
        return self._on_trial is not None

    def hold_back(self, core_id: str) -> None:
        """A sequence has not been sent to the core; `next_to_send` will name it."""
        self._held.add(core_id)

    def core_died(self, live: Sequence[LiveSequence], death: Death) -> RequestState | None:
        """A core is dead: from now on everything is held back.

        Args:
            live: every sequence that has not ended, in the order they came.

        Returns:
            The request to refuse, if it is clear which one killed the core.
        """
        there = self._scheduled([one for one in live if one.request.request_id not in self._held])
        on_trial, self._on_trial = self._on_trial, None
        self.holding = True
        self._held = {one.request.request_id for one in live}
        if death.from_outside:
            if on_trial is not None:
                self._trials.appendleft(on_trial)
            return None
        again = [one for one in there if one.stuck]
        for one in there:
            one.died_at = one.sequence.num_tokens
        culprit = _culprit(there, again, on_trial)
        self._trials = deque(again if culprit is None else ())
        return culprit

    def next_to_send(self, live: Iterable[LiveSequence]) -> list[LiveSequence]:
        """What to send now to the core that runs."""
        if self._on_trial is not None and self._on_trial.live and self._on_trial.stuck:
            return []
        self._on_trial = None
        while self._trials:
            one = self._trials.popleft()
            if one.live and one.stuck:
                self._on_trial = one
                self._held.discard(one.request.request_id)
                return [one]
        held, self._held = self._held, set()
        self.holding = False
        return [one for one in live if one.request.request_id in held]

    def _scheduled(self, sent: list[LiveSequence]) -> list[LiveSequence]:
        """Those the core may have been computing: it tells of a sequence's first step only afterwards."""
        known = [one for one in sent if one.sequence.scheduled]
        waiting = sorted((one for one in sent if not one.sequence.scheduled), key=lambda one: one.request.priority)
        return known + waiting[: max(0, self._max_num_seqs - len(known))]


def _culprit(there: list[LiveSequence], again: list[LiveSequence], on_trial: LiveSequence | None) -> RequestState | None:
    """The request that was on trial, or alone, when a second core died with it."""
    if on_trial is not None:
        return on_trial.state if on_trial in again else None
    return again[0].state if again and all(one.state is again[0].state for one in there) else None


def fingerprint(processed: ProcessedInput) -> str:
    """16 hexadecimal digits for a prompt and its parameters: the same request again has the same ones.

    A seed that the caller did not choose does not count.
    """
    spec = processed.spec
    if processed.params.seed is None:
        spec = msgspec.structs.replace(spec, seed=0)
    document = msgspec.msgpack.encode((processed.prompt_token_ids, spec, processed.params.n))
    return hashlib.blake2b(document, digest_size=8).hexdigest()
