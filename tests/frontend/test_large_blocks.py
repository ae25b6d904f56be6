"""What large blocks leave behind when they are freed, in a process that has begun afresh."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from octavo.frontend.heap import give_back_large_blocks

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) // 1024

if sys.argv[1] == "set" and not give_back_large_blocks():
    sys.exit(77)
# Freed once, blocks of this size are no longer large to glibc.
freed = b"a" * (8 << 20)
del freed
before = resident()
blocks, pins = [], []
for _ in range(100):
    blocks.append(b"a" * (3 << 20))
    pins.append(b"a" * 100_000)
del blocks
print(resident() - before)
"""


def kept(how: str) -> int:
    """MiB that stay after 300 MiB of large blocks were freed."""
    result = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=False, timeout=120)
    if result.returncode == 77:
        pytest.skip("the C library is not glibc")
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


def test_large_blocks_go_back() -> None:
    assert kept("set") < 50
    assert kept("as it was") > 200
