"""What an installer leaves of a package with entry points."""

from __future__ import annotations

from pathlib import Path


def write_dist_info(folder: Path, name: str, groups: dict[str, dict[str, str]]) -> None:
    """What an installer leaves of a package with entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    sections = (f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups.items())
    (info / "entry_points.txt").write_text("\n".join(sections))
