"""P1, P3, P8, windows and true outcomes: what the scripts saw, against what was promised of it.

Independent: reads observations and rows, uses none of the deciders that it judges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from tests.fakes.virtual_clock import START_AT
from tests.simulation.catalogue import NEVER_RERUN
from tests.simulation.checker.violation import Violation
from tests.simulation.evidence import Evidence, Row
from tests.simulation.observations import Seen

LATE_S = 10.0  # the longest that a request to the runner travels
STOPPED_FOR_GOOD = frozenset({"withdrawn", "cancelled_on_node", "window", "overlap"})


@dataclass(slots=True)
class Start:
    """One script as it lived."""

    seen: Seen
    end: Seen | None = None

    @property
    def node(self) -> str:
        return self.seen.node

    @property
    def id(self) -> str:
        return str(self.seen["id"])

    @property
    def is_recorded(self) -> bool:
        """Whether the runner lived to write down how it ended."""
        return self.end is not None and bool(self.end["recorded"])

    @property
    def ended_s(self) -> float:
        return self.end.at_s if self.end is not None else float("inf")


def find_starts(evidence: Evidence) -> list[Start]:
    """All starts in order of time, each with its end."""
    starts: list[Start] = []
    running: dict[tuple[str, int, int], Start] = {}
    for seen in evidence.seen.of("script_started", "script_ended"):
        key = (seen.node, seen["row"], seen["start_no"])
        if seen.what == "script_started":
            starts.append(Start(seen))
            running[key] = starts[-1]
        elif key in running:
            running.pop(key).end = seen
    return starts


def check_at_most_once(evidence: Evidence, starts: Sequence[Start]) -> Iterator[Violation]:
    """P1. By attempt, and by the runner's own key."""
    known: dict[tuple[object, ...], Start] = {}
    for start in starts:
        seen = start.seen
        for key in (
            (start.node, start.id, "attempt", seen["attempt"]),
            (start.node, seen["row"], "start_no", seen["start_no"]),
        ):
            if key in known:
                yield Violation("P1", f"{key} was started twice", start.id, seen.at_s)
            known[key] = start


def is_forgotten(evidence: Evidence, start: Start) -> bool:
    """Its node's database was put back after it: nobody there can know of it any more.

    Or just before it, with the request still on its way from the life that was.
    """
    return any(
        seen.node == start.node and seen.at_s > start.seen.at_s - LATE_S
        for seen in evidence.seen.of("node_restored")
    )


def check_repeats(evidence: Evidence, starts: Sequence[Start]) -> Iterator[Violation]:
    """P3, and that a retry is one that the definition allows."""
    for (node, action_id), mine in _by_action(starts).items():
        failures = 0
        row = evidence.nodes[node].actions.get(action_id)
        for before, after in pairwise(mine):
            if row is None or is_forgotten(evidence, before):
                continue
            failures += before.is_recorded
            text = _wrong_repeat(evidence, row, before, after, failures)
            if text is not None:
                yield Violation("P3", f"{action_id} {text}", action_id, after.seen.at_s)


def _wrong_repeat(
    evidence: Evidence, row: Row, before: Start, after: Start, failures: int
) -> str | None:
    if before.ended_s > after.seen.at_s:
        return "was started while it ran"
    reasons = _reasons_back_to_null(evidence, row, after.node)
    if not before.is_recorded:
        never = row["definition"].get("on_restart") == "never" or row["kind"] in NEVER_RERUN
        if never:
            return "was repeated after an unknown outcome, against on_restart: never"
        return None if "rerun" in reasons else "was repeated without the reason rerun"
    assert before.end is not None, "it is recorded"
    if before.end["cause"] == "none" and before.end["code"] == 0:
        return "was started again after it had finished"
    if before.end["cause"] in STOPPED_FOR_GOOD:
        return f"was started again after it had been stopped ({before.end['cause']})"
    allowed = (row["definition"].get("retry") or {}).get("max_attempts", 1)
    if failures >= allowed:
        return f"failed {failures} times and was tried again; {allowed} attempts are allowed"
    return None if "retry" in reasons else "was repeated without the reason retry"


def _reasons_back_to_null(evidence: Evidence, row: Row, node: str) -> set[str]:
    return {
        event["body"]["reason"]
        for event in evidence.nodes[node].events
        if event["row"] == row["row"]
        and event["type"] == "transition"
        and event["body"]["to"] == "NULL"
    }


def check_withdrawn(evidence: Evidence, starts: Sequence[Start]) -> Iterator[Violation]:
    """P8, and the same for a window's new end: what is acknowledged holds for every start."""
    for start in starts:
        for told in _acknowledged(evidence, start):
            _, wanted, to_date = told
            if not wanted:
                text = f"{start.id} was started after its withdrawal was acknowledged"
                yield Violation("P8", text, start.id, start.seen.at_s)
            elif to_date is not None and _wall(evidence, start) >= _parse(to_date):
                text = f"{start.id} was started after the acknowledged end of its window"
                yield Violation("window", text, start.id, start.seen.at_s)


def _acknowledged(evidence: Evidence, start: Start) -> list[tuple[str, bool, str | None]]:
    """The newest definition of the action that its node had acknowledged before the start."""
    answered: dict[str, list[tuple[str, bool, str | None]]] = defaultdict(list)
    newest: list[tuple[str, bool, str | None]] = []
    for seen in evidence.seen.of("pull_answered", "cursor_presented", "node_restored"):
        if seen.at_s >= start.seen.at_s:
            break
        if seen.node != start.node:
            continue
        if seen.what == "node_restored":
            newest = []  # it forgot what it had acknowledged,
            answered.clear()  # and is told anew what an old cursor had stood for
        elif seen.what == "pull_answered":
            told = [one for one in seen["definitions"] if one[0] == start.id]
            answered[seen["cursor"]] += told
        else:
            newest = answered.pop(seen["cursor"], [])[-1:] or newest
    return newest


def check_windows(evidence: Evidence, starts: Sequence[Start]) -> Iterator[Violation]:
    """No start before `from_date`, none at or after `to_date`, by the node's clock."""
    for start in starts:
        at = _wall(evidence, start)
        if start.seen["to_date"] is not None and at >= start.seen["to_date"]:
            text = f"{start.id} was started {at - start.seen['to_date']} after its window"
            yield Violation("window", text, start.id, start.seen.at_s)
        if start.seen["from_date"] is not None and at < start.seen["from_date"]:
            text = f"{start.id} was started {start.seen['from_date'] - at} before its window"
            yield Violation("window", text, start.id, start.seen.at_s)


def _wall(evidence: Evidence, start: Start) -> datetime:
    shown = START_AT + timedelta(seconds=evidence.plan.skew_s[start.node])
    return shown + timedelta(microseconds=round(start.seen.at_s * 1e6))


def _parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


def check_outcomes(evidence: Evidence, starts: Sequence[Start]) -> Iterator[Violation]:
    """What the node says of the last start is what the script saw."""
    for (node, action_id), mine in _by_action(starts).items():
        row = evidence.nodes[node].actions.get(action_id)
        last = mine[-1]
        if row is None or last.end is None or evidence.restored("node_restored"):
            continue
        text = _wrong_outcome(row, last)
        if text is not None:
            yield Violation("outcome", f"{action_id} {text}", action_id, last.ended_s)
    for node, books in evidence.nodes.items():
        ran = {start.id for start in starts if start.node == node}
        for action_id, row in books.actions.items():
            if row["execution_status"] == "FINISHED" and action_id not in ran:
                yield Violation("outcome", f"{action_id} FINISHED without a start", action_id)


def _wrong_outcome(row: Row, last: Start) -> str | None:
    assert last.end is not None, "the caller looked"
    end, status = last.end, row["execution_status"]
    if not last.is_recorded:
        return "FINISHED with an unknown outcome" if status == "FINISHED" else None
    later = row["verdict"] == "never_started"  # another start was committed, and did not happen
    if not later and (row["exit_code"], row["signal"]) != (end["code"], end["signal"]):
        return f"ended with {end['code']}/{end['signal']}, said {row['exit_code']}/{row['signal']}"
    if end["cause"] == "none" and end["code"] == 0:
        return None if status == "FINISHED" else f"exited with 0 and is {status}"
    if end["cause"] in STOPPED_FOR_GOOD:
        return None if status == "WONT_FINISH" else f"was stopped and is {status}"
    return None if status in ("FAILED", "WONT_FINISH") else f"failed and is {status}"


def _by_action(starts: Sequence[Start]) -> Mapping[tuple[str, str], list[Start]]:
    found: dict[tuple[str, str], list[Start]] = {}
    for start in starts:
        found.setdefault((start.node, start.id), []).append(start)
    return found
