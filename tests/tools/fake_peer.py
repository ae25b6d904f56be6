"""A fake server as a process, `fake_peer.py PORT [DELAY]`, with a child in a session of its own, as engines have."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fake_openai import FakeOpenAI

port, delay = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(f"child {child.pid}", flush=True)
with FakeOpenAI(delay=delay, port=port):
    threading.Event().wait()
