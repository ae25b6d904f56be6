"""`python -m octavo.entrypoints.openai.api_server`: the same as `octavo serve`."""

from __future__ import annotations

import sys

from octavo.entrypoints import run

if __name__ == "__main__":
    sys.exit(run("octavo.entrypoints.openai.api_server"))
