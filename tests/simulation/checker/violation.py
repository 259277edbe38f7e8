"""A broken promise, and how it is shown to a person."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """Which promise, what happened, about which action, and when (virtual seconds)."""

    promise: str
    text: str
    action_id: str = ""
    at_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.promise}: {self.text} (at {self.at_s:.3f} s)"
