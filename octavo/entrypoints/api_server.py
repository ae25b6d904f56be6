"""`python -m octavo.entrypoints.api_server`: the same as `octavo serve`, whose POST /generate is that server's."""

from __future__ import annotations

import sys

from octavo.entrypoints import run

if __name__ == "__main__":
    sys.exit(run("octavo.entrypoints.api_server"))
