"""What one check of the doctor says. `advice` is what to do next; nothing to do, no advice."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How bad it is: `warn` will hurt later or a little, `fail` hurts now."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant: what was found, in a sentence with its numbers; of several, a line each."""

    name: str
    state: State
    found: str
    advice: str | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "state": self.state.value,
            "found": self.found,
            "advice": self.advice,
        }


def ok(name: str, found: str) -> Check:
    """As it should be."""
    return Check(name, State.OK, found)


def warn(name: str, found: str, advice: str) -> Check:
    """Somebody should look at it."""
    return Check(name, State.WARN, found, advice)


def fail(name: str, found: str, advice: str) -> Check:
    """Somebody must do something."""
    return Check(name, State.FAIL, found, advice)
