"""P4, P5, P7: the node's own events against the core's, final statuses, revisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.simulation.checker.violation import Violation
from tests.simulation.evidence import FINAL, Evidence, Row

_HEAD = frozenset({"seq", "mark", "type", "at", "action_id"})


def check_delivery(evidence: Evidence) -> Iterator[Violation]:
    """P4. Without a restore both books are the same list; with one, nothing is missing or double.

    What the core has put down as a visible gap counts as told; without a restore, only what was
    before the enrolment may be one.
    """
    for node, books in evidence.nodes.items():
        mine = [event for event in evidence.core_events if event["agent_id"] == node]
        stored = [event for event in mine if event["seq"] is not None]
        gaps = _gaps(evidence, mine)
        ours = [event for event in books.events if event["seq"] not in gaps]
        yield from _check_marks(node, stored)
        if not evidence.restored("node_restored"):
            yield from _check_same(node, ours, stored)
            continue
        known = {event["mark"] for event in stored}
        for event in ours:
            if event["mark"] not in known:
                yield Violation("P4", f"{node}: event {event['seq']} never reached the core")


def _gaps(evidence: Evidence, events: Sequence[Row]) -> set[int]:
    """Numbers that the core says are missing, and may say so."""
    allowed = {"before_enrolment"} | ({"nobody_holds_it"} if evidence.restored() else set())
    found: set[int] = set()
    for event in events:
        body = event["body"]
        if event["type"] == "gap" and body.get("reason") in allowed:
            found.update(range(body["first"], body["last"] + 1))
    return found


def _check_marks(node: str, stored: Sequence[Row]) -> Iterator[Violation]:
    """No event twice, and in rising order within each epoch."""
    seen: set[str] = set()
    newest: dict[str, int] = {}
    for event in stored:
        if event["mark"] in seen:
            yield Violation("P4", f"{node}: event {event['seq']} is stored twice")
        seen.add(event["mark"])
        if event["seq"] <= newest.get(event["epoch"], 0):
            yield Violation("P4", f"{node}: event {event['seq']} is stored out of order")
        newest[event["epoch"]] = event["seq"]


def _check_same(node: str, ours: Sequence[Row], stored: Sequence[Row]) -> Iterator[Violation]:
    for index in range(max(len(ours), len(stored))):
        left = _comparable(ours[index]) if index < len(ours) else None
        right = _comparable(stored[index]) if index < len(stored) else None
        if left != right:
            text = f"{node}: event {index + 1} is {left} on the node and {right} at the core"
            yield Violation("P4", text, str((left or right or ("", "", "", {}))[3].get("id", "")))
            return


def _comparable(event: Row) -> tuple[int, str, str, dict]:
    body = {name: value for name, value in event["body"].items() if name not in _HEAD}
    return event["seq"], event["mark"], event["type"], body


def check_final(evidence: Evidence) -> Iterator[Violation]:
    """P5, in the node's history and in what was seen of both sides on the way."""
    for books in evidence.nodes.values():
        status: dict[int, str] = {}
        names = {row["row"]: action_id for action_id, row in books.actions.items()}
        for event in books.events:
            if event["type"] != "transition":
                continue
            row, body = event["row"], event["body"]
            before = status.get(row, "NULL")
            name = names.get(row, "?")
            if before in FINAL:
                yield Violation("P5", f"{name} left {before} for {body['to']}", name)
            elif body["from"] != before:
                yield Violation("P4", f"{name}: from {body['from']}, but it was {before}", name)
            status[row] = body["to"]
        for row, last in status.items():
            now = books.actions.get(names.get(row, ""), {}).get("execution_status")
            if now is not None and now != last:
                yield Violation("P4", f"{names[row]} is {now}; its events say {last}", names[row])
    yield from _check_samples(evidence)


def _check_samples(evidence: Evidence) -> Iterator[Violation]:
    """P5 and P7 by looking now and then. A restored side may go back; that is what it is."""
    kept = {"core": evidence.restored("core_restored"), "node": evidence.restored("node_restored")}
    newest: dict[tuple[str, str], tuple[str, int]] = {}
    for sample in evidence.samples:
        for key, (status, revision) in sample.statuses.items():
            side = "core" if key[0].startswith("core/") else "node"
            before = newest.get(key)
            newest[key] = (status, revision)
            if before is None or kept[side]:
                continue
            if before[0] in FINAL and status != before[0]:
                text = f"{key[1]} at {key[0]} left {before[0]} for {status}"
                yield Violation("P5", text, key[1], sample.at_s)
            if revision < before[1]:
                text = f"{key[1]} at {key[0]} went from revision {before[1]} to {revision}"
                yield Violation("P7", text, key[1], sample.at_s)
