"""What a bench's page says of its circumstances."""

from __future__ import annotations

import re

from octavo.tools.bench_local import LocalOptions, bench_words
from octavo.tools.measured import circumstances, command_line, facts_table, machine


def test_no_key_gets_onto_a_page() -> None:
    words = ["/usr/bin/octavo", "bench", "serve", "--api-key", "k1", "--header", "A=k2", "B=k3", "--api_key=k4", "--seed", "7"]
    line = command_line(words)
    assert line == "octavo bench serve --api-key ... --header ... ... --api_key=... --seed 7"


def test_the_machine_and_the_date() -> None:
    facts = circumstances(["octavo", "bench", "a b"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", facts["date"])
    assert facts["command line"] == "octavo bench 'a b'"
    assert facts["machine"] == machine()
    assert re.search(r", \d+ of \d+ processors, [\d.]+ GiB of memory, Linux ", machine())


def test_facts_are_text() -> None:
    assert "<b>" not in facts_table({"a": "<b>"})


def test_a_local_bench_says_how_it_served() -> None:
    words = bench_words(LocalOptions(), 1234, ["serve", "m", "--port", "1234"])
    assert "--metadata=server_flags=serve m --port 1234" in words
