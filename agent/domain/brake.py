"""The brake: a node's operator holds a kind or a label back, with a reason and an expiry. Pure.

A freeze of the core's is a brake like any other, which may hold every kind.

It decides about starts only. What runs goes on, what is withdrawn or too late ends as ever, and
nothing is lost: what a brake holds waits, visibly, until the brake is lifted or expires.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

BRAKES_MAX = 100  # each is compared with each candidate for a start; and people have to read them
FREEZES_MAX = 100  # the core's, beside the node's own: neither may keep the other out
LABELS_MAX = 16  # of one brake
REASON_CHARS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """One brake. It holds the actions of `kind`, or those that carry all of `labels`, or, where
    both are given, those that fit both. `by` is who asked; `expires_at` None means until lifted.
    `elapses`: it was given for a length of time, which a clock that is set does not change.
    `freeze`: the id of the core's freeze that it is; such a one may be without kind and labels, and
    then holds everything.
    """

    id: int
    kind: str | None = None
    labels: Mapping[str, str]
    reason: str
    by: str
    created_at: datetime
    expires_at: datetime | None = None
    elapses: bool = False
    freeze: str | None = None

    def has_expired(self, now: datetime) -> bool:
        """Whether it holds nothing any more. The window of a brake is [created_at, expires_at)."""
        return self.expires_at is not None and now >= self.expires_at

    def holds(self, kind: str, labels: Mapping[str, str]) -> bool:
        """Whether an action of this kind with these labels is held back by it."""
        if self.kind is not None and self.kind != kind:
            return False
        return all(labels.get(key) == value for key, value in self.labels.items())

    @property
    def what(self) -> str:
        """What it holds, for people: `kind redeploy`, `tier=db`, `everything`."""
        told = [f"kind {self.kind}"] if self.kind is not None else []
        told += [f"{key}={value}" for key, value in sorted(self.labels.items())]
        return ", ".join(told) or "everything"


def find_brake(brakes: Iterable[Brake], kind: str, labels: Mapping[str, str]) -> Brake | None:
    """The oldest brake that holds such an action back, or None."""
    for brake in brakes:
        if brake.holds(kind, labels):
            return brake
    return None
