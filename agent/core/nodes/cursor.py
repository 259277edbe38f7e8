"""The node's place in its stream of deliveries: `epoch.seq.mark`, opaque to the node. Pure.

The mark proves that both sides mean the same delivery: after either side was restored from a
backup, the same number may stand for another one. A fourth part, `a<row>` or `q<row>`, is a
place inside a full answer that did not fit into one: the first three then say where the stream
goes on after it, and acknowledge nothing yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_TEXT = re.compile(
    r"([0-9a-f]{1,16})\.(\d{1,18})\.([0-9a-f]{1,16})(?:\.([qa])(\d{1,18}))?", re.ASCII
)


class List(StrEnum):
    """The two lists of a full answer, in their order."""

    ACTIONS = "a"
    REQUESTS = "q"


@dataclass(frozen=True, slots=True)
class Resume:
    """Everything up to `row` of this list (and all of the lists before it) was answered."""

    part: List
    row: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in one node's stream."""

    epoch: str
    seq: int
    mark: str
    resume: Resume | None = None

    def __str__(self) -> str:
        base = f"{self.epoch}.{self.seq}.{self.mark}"
        return base if self.resume is None else f"{base}.{self.resume.part}{self.resume.row}"


@dataclass(frozen=True, slots=True)
class Stream:
    """What the core knows of the same stream; `head_mark` is the mark of its newest delivery."""

    epoch: str
    acked_seq: int
    acked_mark: str
    head_seq: int
    head_mark: str

    @property
    def head(self) -> Cursor:
        """The cursor of who has everything."""
        return Cursor(self.epoch, self.head_seq, self.head_mark)


class Place(StrEnum):
    """Where a presented cursor stands."""

    KNOWN = "known"  # everything up to it is on the node: acknowledge, and go on from there
    INSIDE_FULL = "inside_full"  # go on with the full answer
    RESTART = "restart"  # nothing is known of it: a full answer, and no side effect
    FORK = "fork"  # two histories: a full answer, and a new epoch


def parse_cursor(text: str) -> Cursor | None:
    """The cursor, or None for the empty text and for anything that is not one of ours."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    epoch, seq, mark, part, row = match.groups()
    resume = Resume(List(part), int(row)) if part else None
    return Cursor(epoch, int(seq), mark, resume)


def place_of(cursor: Cursor, stream: Stream, mark_at: str | None) -> Place:
    """Where the cursor stands; `mark_at` is the core's mark of the same seq, if it still has one.

    One that is older than what was acknowledged may be a delayed duplicate of an old request, or
    a node restored from a backup: the answer serves both, and must disturb nothing.
    """
    if cursor.epoch != stream.epoch or cursor.seq < stream.acked_seq:
        return Place.RESTART
    if cursor.seq > stream.head_seq or cursor.mark != mark_at:
        return Place.FORK
    return Place.KNOWN if cursor.resume is None else Place.INSIDE_FULL
