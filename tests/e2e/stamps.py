"""What the `stamp` kind wrote: the scripts' own word on what started and ended."""

from __future__ import annotations

from collections import Counter
from pathlib import Path


def read(file: Path, word: str) -> Counter[tuple[str, int]]:
    """(action id, attempt) → how often `word` (start, end) was written."""
    lines = file.read_text().splitlines() if file.exists() else []
    parts = [line.split() for line in lines]
    return Counter((part[0], int(part[1])) for part in parts if part[2] == word)


def first_after(file: Path, unix_s: float) -> float:
    """Seconds from `unix_s` to the first start after it."""
    parts = [line.split() for line in file.read_text().splitlines()]
    return min(float(p[3]) for p in parts if p[2] == "start" and float(p[3]) > unix_s) - unix_s
