"""Approvals and freezes: what nobody allowed does not happen, and what was refused stays so.

Independent: who had to wait is read from the plan, who said yes from what people were seen to ask,
what a node held from its own database.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.fakes.virtual_clock import START_AT
from tests.simulation.checker.starts import Start
from tests.simulation.checker.violation import Violation
from tests.simulation.evidence import Evidence, NodeEvidence
from tests.simulation.observations import Seen
from tests.simulation.people import must_wait

MOMENT_S = 1e-3  # two floats of one instant may differ
REFUSED = frozenset({"rejected", "expired"})


def check_allowed(evidence: Evidence, starts: Sequence[Start]) -> Iterator[Violation]:
    """What waits for a person leaves the core and starts only after a person was seen to say yes.

    A yes is counted from when it was asked for: its answer may be lost, and its effect is not.
    """
    waiting = must_wait(evidence.plan)
    allowed: set[str] = set()
    for seen in evidence.seen.of("asked", "pull_answered", "script_started"):
        if seen.what == "asked":
            allowed |= {seen["id"]} if seen["wish"] == "approve" else set()
        elif seen.what == "script_started":
            if seen["id"] in waiting - allowed:
                text = f"{seen['id']} was started, and nobody had approved it"
                yield Violation("approval", text, seen["id"], seen.at_s)
        else:
            yield from _check_told(seen, waiting, allowed)


def _check_told(seen: Seen, waiting: frozenset[str], allowed: set[str]) -> Iterator[Violation]:
    for name, _, _ in seen["definitions"]:
        if name not in waiting:
            continue
        if name not in allowed:
            text = f"{name} was sent to {seen.node}, and nobody had approved it"
            yield Violation("approval", text, name, seen.at_s)
        elif name not in seen["approved"]:
            text = f"{name} was sent to {seen.node} without the record of its approval"
            yield Violation("approval", text, name, seen.at_s)


def check_refused(evidence: Evidence, starts: Sequence[Start]) -> Iterator[Violation]:
    """Rejected and expired is final, and neither is ever started or sent."""
    if evidence.restored("core_restored"):
        return  # it may have forgotten a refusal, and be asked anew
    now = {
        (row["agent_id"], row["id"]): row["approval_state"]
        for row in evidence.core_actions
        if row["owner"] == "core"
    }
    refused: dict[tuple[str, str], str] = {}
    for sample in evidence.samples:
        for key, state in sample.approvals.items():
            if refused.get(key, state) != state:
                text = f"{key[1]} was {refused[key]} and is {state}"
                yield Violation("approval", text, key[1], sample.at_s)
            if state in REFUSED:
                refused[key] = state
    for key, state in refused.items():
        if now.get(key) != state:
            text = f"{key[1]} was {state} and is {now.get(key)} at the end"
            yield Violation("approval", text, key[1])
    for start in starts:
        if now.get((start.node, start.id)) in REFUSED:
            text = f"{start.id} was started, and it is {now[start.node, start.id]}"
            yield Violation("approval", text, start.id, start.seen.at_s)
    yield from _check_words(evidence, now)


def _check_words(evidence: Evidence, now: dict[tuple[str, str], str]) -> Iterator[Violation]:
    """Whoever was told that it is rejected finds it so, unless it was about a later change."""
    approved = {
        seen["id"] for seen in evidence.seen.of("asked") if seen["wish"] in ("approve", "edit")
    }
    for seen in evidence.seen.of("told"):
        rejected = seen["wish"] == "reject" and seen["answer"] == "done"
        if (
            rejected
            and seen["id"] not in approved
            and now.get((seen.node, seen["id"])) != "rejected"
        ):
            text = f"{seen['id']} was rejected, and is {now.get((seen.node, seen['id']))}"
            yield Violation("P6", text, seen["id"], seen.at_s)


@dataclass(slots=True)
class Held:
    """One freeze as long as a node certainly holds it: from an event's number to an instant."""

    freeze: str
    kind: str | None
    expires_at: datetime | None
    from_seq: int
    until_s: float = field(default=float("inf"))


def check_frozen(evidence: Evidence) -> Iterator[Violation]:
    """Between the commit that holds a freeze and the first word of its end nothing starts."""
    for node, books in evidence.nodes.items():
        spans = _spans(evidence, node)
        for seq, kind, action_id, at in _started(books) if spans else ():
            at_s = (at - START_AT).total_seconds() - evidence.plan.skew_s[node]
            for span in spans:
                holds = span.kind in (None, kind) and span.from_seq < seq
                holds = holds and at_s < span.until_s - MOMENT_S
                if holds and (span.expires_at is None or at < span.expires_at):
                    text = f"{action_id} was started on {node}, which is frozen"
                    yield Violation("freeze", text, action_id, at_s)


def _spans(evidence: Evidence, node: str) -> list[Held]:
    spans: list[Held] = []
    ending: set[str] = set()  # of whose end the node may have heard
    for seen in evidence.seen.of("held", "pull_answered", "lifted_by_hand", "node_restored"):
        if seen.node != node:
            continue
        if seen.what == "node_restored":
            spans, ending = [], set()  # it forgot; and its numbers begin anew
        elif seen.what == "held":
            known = {span.freeze for span in spans if span.until_s == float("inf")}
            for freeze, kind, expires_at in seen["freezes"]:
                if freeze not in known | ending:
                    spans.append(Held(freeze, kind, expires_at, seen["seq"]))
        else:
            _note(seen, spans, ending)
    return spans


def _note(seen: Seen, spans: list[Held], ending: set[str]) -> None:
    for what, freeze in seen["freezes"]:
        if what == "freeze":
            ending.discard(freeze)
            continue
        ending.add(freeze)
        for span in spans:
            if span.freeze == freeze:
                span.until_s = min(span.until_s, seen.at_s)


def _started(books: NodeEvidence) -> Iterator[tuple[int, str, str, datetime]]:
    names = {row["row"]: row for row in books.actions.values()}
    for event in books.events:
        if event["type"] == "transition" and event["body"]["to"] == "STARTED":
            row = names.get(event["row"])
            if row is not None:
                at = datetime(1970, 1, 1, tzinfo=START_AT.tzinfo) + timedelta(
                    microseconds=event["at"]
                )
                yield event["seq"], row["kind"], row["id"], at


def check_lifts(evidence: Evidence) -> Iterator[Violation]:
    """A freeze is told to be lifted on its node only where somebody there did that.

    An old report that arrives late says what was; the next one puts it right.
    """
    if evidence.restored():
        return
    late = {seen.node for seen in evidence.seen.of("network_doubled") if seen["call"] == "node"}
    for event in evidence.core_events:
        if event["type"] == "freeze_lifted_on_node" and event["agent_id"] not in late:
            text = f"{event['agent_id']} is said to have lifted a freeze, and nobody there did"
            at = datetime(1970, 1, 1, tzinfo=START_AT.tzinfo) + timedelta(microseconds=event["at"])
            yield Violation("freeze", text, "", (at - START_AT).total_seconds())


def check_reports(evidence: Evidence) -> Iterator[Violation]:
    """In the end the core shows of each node what holds there, whichever side was put back."""
    late = {seen.node for seen in evidence.seen.of("network_doubled") if seen["call"] == "node"}
    for node, books in evidence.nodes.items():
        if node in late or not evidence.plan.is_tended:
            continue
        report = json.loads(evidence.core_agents[node]["report"] or "null")
        shown = {brake["freeze"] for brake in report["brakes"]} if report else None
        if shown is None or shown != set(books.freezes):
            text = f"{node} holds the freezes {sorted(books.freezes)}; the core shows {shown}"
            yield Violation("P4", text)


def check_found(evidence: Evidence) -> Iterator[Violation]:
    """LOST is taken back as soon as the node is heard of again."""
    if evidence.restored():
        return
    for row in evidence.core_actions:
        books = evidence.nodes[row["agent_id"]]
        if row["lost_at"] is not None and row["id"] in books.actions:
            text = f"{row['id']} is LOST ({row['lost_reason']}), and {row['agent_id']} has it"
            yield Violation("P4", text, row["id"])
