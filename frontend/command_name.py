"""How this program was started, for hints that can be typed as they stand."""

from __future__ import annotations

import os
import shutil
import sys

NAME = "octavo"


def command() -> str:
    """`octavo` where a shell finds this installation's by that name, else its path: `.venv/bin/octavo`."""
    program = sys.argv[0] if os.path.basename(sys.argv[0]) == NAME else os.path.join(os.path.dirname(sys.executable), NAME)
    if not os.path.exists(program):
        return NAME
    found = shutil.which(NAME)
    if found is not None and os.path.samefile(found, program):
        return NAME
    inside = os.path.relpath(program)
    return os.path.abspath(program) if inside.startswith("..") else inside
