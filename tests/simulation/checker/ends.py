"""P2, P6 and agreement: at the end what was accepted has ended, and both sides say so."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.checker.violation import Violation
from tests.simulation.evidence import FINAL, Evidence, Row


def check_quiet(evidence: Evidence) -> Iterator[Violation]:
    """Liveness: with every fault repaired, everything comes to its end within the bound."""
    if not evidence.is_quiet:
        newest = evidence.samples[-1]
        text = f"{newest.open} rows still open, {newest.unsent} numbers not acknowledged"
        yield Violation("P2", f"after all faults it never became quiet: {text}")


def check_no_bugs(evidence: Evidence) -> Iterator[Violation]:
    """No loop of a daemon ends by an error, no request ends in a traceback, whatever breaks."""
    for seen in evidence.seen.of("daemon_died", "core_bug"):
        yield Violation("bug", f"{seen.node or 'core'} {seen.what}: {seen['error']}", "", seen.at_s)
    for seen in evidence.seen.of("log"):
        if seen["event"] == "task_died":
            yield Violation("bug", f"{seen.node}: {seen['error']}", "", seen.at_s)


def check_ended(evidence: Evidence) -> Iterator[Violation]:
    """P2 and P6: what somebody was told is there, and has ended on its node."""
    for node, books in evidence.nodes.items():
        for action_id, row in books.actions.items():
            if row["execution_status"] not in FINAL:
                text = f"{action_id} on {node} is {row['execution_status']} at the end"
                yield Violation("P2", text, action_id)
    for seen in evidence.seen.of("told"):
        if seen["answer"] != "done" or seen["wish"] not in ("dispatch", "submit", "submit_rule"):
            continue
        books = evidence.nodes[seen.node]
        known = seen["id"] in books.actions or seen["id"] in books.rules
        if not known and not _lost(evidence, seen.node):
            text = f"{seen['id']} was accepted and {seen.node} does not have it"
            yield Violation("P6", text, seen["id"], seen.at_s)


def _lost(evidence: Evidence, node: str) -> bool:
    """Whether an accepted action may be gone with a database that was put back."""
    return evidence.restored()


def check_agreement(evidence: Evidence) -> Iterator[Violation]:
    """Statuses and revisions are the same on both sides."""
    known = {(row["agent_id"], row["id"], row["owner"]): row for row in evidence.core_actions}
    for node, books in evidence.nodes.items():
        for action_id, row in books.actions.items():
            owner = row["owner"]
            if "definition_lost" in row["definition"].get("requires", ()):
                # Known from its run record alone: whose it was went with the database.
                owner = "core" if (node, action_id, "core") in known else "node"
            other = known.pop((node, action_id, owner), None)
            if other is None:
                if not _is_conflict(known, node, action_id):
                    yield Violation("P4", f"the core never heard of {action_id}", action_id)
                continue
            if evidence.restored("node_restored") and other["status"] in FINAL:
                continue  # the node forgot how it ended; the core did not, and final is final
            text = _disagreement(row, other, revised=not evidence.restored())
            if text is not None:
                yield Violation("P4", f"{action_id} on {node}: {text}", action_id)
    for (node, action_id, _), row in known.items():
        accounted = row["status"] in FINAL or row["lost_at"] or row["refused"]
        accounted = accounted or action_id in evidence.nodes[node].rules or stayed_here(row)
        if not accounted and not (evidence.restored() and row["wanted"] == 0):
            yield Violation(
                "P2", f"{action_id} is unknown on {node}, and not called lost", action_id
            )


def stayed_here(row: Row) -> bool:
    """Refused or withdrawn before it was sent: it ended at the core, and its status stays NULL."""
    refused = row["approval_state"] in ("rejected", "expired")
    return refused or (row["wanted"] == 0 and row["delivered_seq"] is None)


def _is_conflict(known: dict[tuple[str, str, str], Row], node: str, action_id: str) -> bool:
    """A core that was put back knows a core action only from the node's reports."""
    return (node, action_id, "node") in known


def _disagreement(ours: Row, theirs: Row, *, revised: bool) -> str | None:
    """`revised`: a revision that came too late must be there, too."""
    pairs = {
        "status": (ours["execution_status"], theirs["status"]),
        "reason": (ours["reason"], theirs["reason"]),
        "attempt": (ours["attempt"], theirs["attempt"]),
    }
    known = theirs["refused"] is None and theirs["definition"] is not None
    if known and (revised or theirs["status"] not in FINAL):
        pairs["revision"] = (ours["revision"], theirs["revision"])
    wrong = [f"{name} {a} here, {b} at the core" for name, (a, b) in pairs.items() if a != b]
    return "; ".join(wrong) or None
