"""Requests whose grammars are being compiled, on a thread of its own, while the loop goes on with the others."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from octavo.core.constraint import Constraint
from octavo.core.core_io import Compiled, Inbox
from octavo.core.grammar import Grammars
from octavo.wire.messages import EngineRequest, Vocabulary

logger = logging.getLogger(__name__)


class GrammarQueue:
    """A request with a grammar that is not known comes back through the inbox when it is. For the core's thread."""

    def __init__(self, vocab_size: int, inbox: Inbox) -> None:
        self._grammars = Grammars(vocab_size)
        self._inbox = inbox
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="octavo-grammar")
        self._waiting: dict[tuple[bytes, str], EngineRequest] = {}

    def set_vocabulary(self, vocabulary: Vocabulary) -> None:
        """What tokens are: comes before the first request that has a grammar."""
        self._grammars.set_vocabulary(vocabulary)

    def keeps(self, identity: bytes, message: EngineRequest) -> bool:
        """Whether the request has to wait for its grammar; a `Compiled` follows then."""
        grammar = message.sampling.grammar
        if grammar is None or self._grammars.knows(grammar):
            return False
        self._waiting[identity, message.request_id] = message
        self._pool.submit(self._compile, identity, message, grammar)
        return True

    def wants(self, identity: bytes, compiled: Compiled) -> bool:
        """Whether the request still waits; what was compiled is known from now on in either case."""
        message, matcher = compiled.message, compiled.matcher
        if matcher is not None and message.sampling.grammar is not None:
            self._grammars.keep(message.sampling.grammar, matcher)
        key = identity, message.request_id
        return self._waiting.get(key) is message and self._waiting.pop(key) is message

    def forget(self, identity: bytes, request_ids: Iterable[str] | None = None) -> None:
        """These requests of a client, or all of them, are not wanted any more."""
        ids = [name for client, name in self._waiting if client == identity] if request_ids is None else request_ids
        for request_id in ids:
            self._waiting.pop((identity, request_id), None)

    def constraint(self, message: EngineRequest) -> Constraint | None:
        """What a request's output keeps to. Raises: ValueError: its grammar is none."""
        return self._grammars.constraint(message)

    def _compile(self, identity: bytes, message: EngineRequest, grammar: str) -> None:
        try:
            compiled = Compiled(message, self._grammars.compiled(grammar), "")
        except Exception as error:  # the thread has nobody else to tell
            logger.error("the grammar of request %s could not be compiled", message.request_id, exc_info=error)
            compiled = Compiled(message, None, f"its grammar could not be compiled: {error}")
        self._inbox.put((identity, compiled))
