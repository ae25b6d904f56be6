"""Embed a document with a server that was started with --io-processor-plugin long_document: python online.py URL FILE."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path


def main(url: str, file: str) -> None:
    """Print the embedding's beginning, and where the time went."""
    data = {"text": Path(file).read_text(encoding="utf-8"), "chunk_tokens": 64, "overlap": 16}
    body = json.dumps({"task": "plugin", "data": data}).encode()
    request = urllib.request.Request(url + "/pooling", body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request) as response:  # noqa: S310
        answer = json.load(response)["data"]
        print(f"{answer['num_chunks']} chunks, {answer['num_tokens']} tokens: {answer['embedding'][:4]}")
        print(response.headers["Server-Timing"])


if __name__ == "__main__":
    main(*sys.argv[1:])
