"""One browser for all tests of the page, a fresh tab for each."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from browser import Chromium, Page, find_chromium, new_page


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium; or name one in OCTAVO_TEST_CHROMIUM)")
    with Chromium(program) as running:
        yield running


@pytest.fixture
async def page(chromium: Chromium) -> AsyncIterator[Page]:
    """A tab, of which neither scripts nor the content security policy complained when the test ends."""
    async with new_page(chromium) as tab:
        yield tab
        assert tab.complaints == []
