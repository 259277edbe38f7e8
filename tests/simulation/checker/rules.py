"""Recurring actions: every instant of the confirmed clock has one row, or is in one missed range.

Independent: the instants are counted here again, from the definition alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from tests.simulation.checker.starts import Start
from tests.simulation.checker.violation import Violation
from tests.simulation.evidence import Evidence, NodeEvidence, Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_instants(evidence: Evidence) -> Iterator[Violation]:
    """P2: each instant up to the watermark exactly once; and none that is none."""
    for books in evidence.nodes.values():
        for name, rule in books.rules.items():
            seen = _accounted(books, name, rule)
            expected = set(_instants(rule))
            for at in sorted(seen.keys() | expected):
                if seen[at] != (at in expected):
                    text = f"the instant {at} of {name} is told {seen[at]} times"
                    yield Violation("P2", text, name)
            yield from _check_end(name, rule)


def _check_end(name: str, rule: Row) -> Iterator[Violation]:
    schedule = rule["definition"]["schedule"]
    if rule["run_count"] > schedule.get("max_runs", rule["run_count"]):
        yield Violation("P2", f"{name} ran {rule['run_count']} times", name)
    if rule["parked"] is not None:
        yield Violation("bug", f"{name} is parked: {rule['parked']}", name)
    if rule["ended_reason"] == "ends_at" and rule["last_nominal_at"] is not None:
        after = _instant(rule["last_nominal_at"]) + _step(rule)
        if after < datetime.fromisoformat(schedule["ends_at"]):
            yield Violation("P2", f"{name} ended before {after}, which it should have had", name)


def _accounted(books: NodeEvidence, name: str, rule: Row) -> Counter[datetime]:
    """Instant → how many rows and ranges speak of it."""
    found: Counter[datetime] = Counter()
    for row in books.actions.values():
        if row["recurring_id"] != name:
            continue
        if row["missed"] is None:
            found[_instant(row["nominal_at"])] += 1
            continue
        missed = json.loads(row["missed"])
        at, number = datetime.fromisoformat(missed["first"]), 0
        while at <= datetime.fromisoformat(missed["last"]):
            found[at] += 1
            at, number = at + _step(rule), number + 1
        if number != missed["count"]:
            found[at] += 1000  # a count that is not the range's: told as a violation above
    return found


def _instants(rule: Row) -> Iterator[datetime]:
    """What the definition says, from when it was accepted up to the watermark."""
    if rule["last_nominal_at"] is None:
        return
    at = datetime.fromisoformat(rule["definition"]["from_date"])
    while at <= _instant(rule["last_nominal_at"]):
        if at >= _instant(rule["accepted_at"]):
            yield at
        at += _step(rule)


def _step(rule: Row) -> timedelta:
    return timedelta(seconds=int(rule["definition"]["schedule"]["every"].removesuffix("s")))


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def check_alone(evidence: Evidence, starts: Sequence[Start]) -> Iterator[Violation]:
    """No two occurrences of one recurring action at once, unless it allows it."""
    for index, start in enumerate(starts):
        name = start.id.partition("@")[0]
        rule = evidence.nodes[start.node].rules.get(name)
        if rule is None or rule["definition"]["schedule"]["overlap"] == "allow":
            continue
        for other in starts[:index]:
            same = other.node == start.node and other.id.partition("@")[0] == name
            if same and other.ended_s > start.seen.at_s:
                text = f"{start.id} and {other.id} ran together"
                yield Violation("queue", text, start.id, start.seen.at_s)
