"""The queue: one exclusive script at a time, no two of one app, bounded parallel ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.simulation.catalogue import EXCLUSIVE, PARALLEL_MAX
from tests.simulation.checker.starts import Start, is_forgotten
from tests.simulation.checker.violation import Violation
from tests.simulation.evidence import Evidence


def check_overlaps(evidence: Evidence, starts: Sequence[Start]) -> Iterator[Violation]:
    """Each start against everything that still ran at that instant.

    A node whose database was put back does not know the scripts that it had started since.
    """
    for index, start in enumerate(starts):
        beside = [
            other
            for other in starts[:index]
            if other.node == start.node
            and other.ended_s > start.seen.at_s
            and not is_forgotten(evidence, other)
        ]
        for other in beside:
            if {start.seen["kind"], other.seen["kind"]} <= EXCLUSIVE:
                text = f"{start.id} and {other.id} are exclusive and ran together"
                yield Violation("queue", text, start.id, start.seen.at_s)
            shared = set(start.seen["apps"]) & set(other.seen["apps"])
            if shared:
                text = f"{start.id} and {other.id} ran together on {', '.join(sorted(shared))}"
                yield Violation("queue", text, start.id, start.seen.at_s)
        parallel = [one for one in (*beside, start) if one.seen["kind"] not in EXCLUSIVE]
        if len(parallel) > PARALLEL_MAX and parallel[-1] is start:
            text = f"{len(parallel)} ran together; at most {PARALLEL_MAX} may"
            yield Violation("queue", text, start.id, start.seen.at_s)
