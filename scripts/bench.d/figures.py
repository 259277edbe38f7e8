"""What a section found: a table, and each target with how far it was met. Values only."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Target:
    """A figure of ours against a bound; `at_least` says on which side it is good."""

    text: str
    found: float
    bound: float
    at_least: bool = False
    unit: str = "×"

    @property
    def is_met(self) -> bool:
        """Whether it is on the good side."""
        return self.found >= self.bound if self.at_least else self.found <= self.bound

    def line(self) -> str:
        """For people."""
        sign = "≥" if self.at_least else "≤"
        mark = "met   " if self.is_met else "MISSED"
        return f"{mark} {self.text}: {self.found:.2f}{self.unit} ({sign} {self.bound:g}{self.unit})"


@dataclass(kw_only=True)
class Section:
    """One measure. `rows` are keyed by system, each a list of texts for `columns`."""

    name: str
    title: str
    columns: list[str]
    rows: dict[str, list[str]] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    bars: dict[str, float] = field(default_factory=dict)
    """For the picture: one figure per system, of what `bars_title` says."""
    bars_title: str = ""
    notes: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def percentile(values: list[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def middle(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over rounds."""
    return {name: median(one[name] for one in rounds) for name in rounds[0]}
