"""`corectl show` says why an action is where it is, also where only the core can know it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.cli.core_sentences import asked_for_by, explain_at_core
from agent.cli.event_sentences import told
from agent.domain.phase import Phase

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
BEFORE = "2026-01-15T11:59:00Z"
LATER = "2026-01-15T12:05:00Z"


def action(**members: Any) -> dict[str, Any]:
    return {
        "id": "a", "node": "n", "kind": "k", "phase": "QUEUED", "execution_status": "NULL",
        "reason": None, "attempt": 0, "created_at": BEFORE, "started_at": None, "delivered": True,
        "requested": None, **members,
    }  # fmt: skip


def approval(state: str, **members: Any) -> dict[str, Any]:
    return {"state": state, "by": "olga", "at": BEFORE, **members}


ASKED = {
    "type": "approval_requested", "approval_id": "q", "why": "it is guarded", "is_edit": False,
}  # fmt: skip
CANCEL = {"type": "cancel_requested", "requested_by": "ann", "at": BEFORE, "why": "too late"}
FREEZE = {"id": "f", "state": "frozen", "kind": None, "by": "ann", "reason": "a move"}


@pytest.mark.parametrize(
    ("members", "events", "node", "expected"),
    [
        ({"phase": "PENDING_APPROVAL", "approval": approval("pending", expires_at=LATER)}, [ASKED],
         None, ("It waits for a person: it is guarded. Nobody has decided, and the question ends "
         "in 5 min (corectl approve a, or reject).")),
        ({"phase": "REJECTED", "approval": approval("rejected", reason="not now")}, [ASKED], None,
         "olga rejected it 1 min ago: not now. It never left the core."),
        ({"phase": "EXPIRED", "approval": approval("expired", reason="nobody decided")}, [], None,
         "Its approval expired 1 min ago: nobody decided. It never left the core."),
        ({"phase": "REJECTED", "execution_status": "WONT_START", "reason": "rejected"}, [], None,
         "It was rejected."),
        ({"phase": "CANCELLED"}, [CANCEL], None,
         "ann withdrew it 1 min ago: too late. It had not started."),
        ({"phase": "CANCELLED", "execution_status": "WONT_FINISH", "reason": "withdrawn",
          "started_at": BEFORE}, [CANCEL], None,
         "ann withdrew it 1 min ago: too late. It was stopped while it ran."),
        ({"phase": "CANCELLED", "execution_status": "WONT_START", "reason": "cancelled_on_node"},
         [], None, "It was cancelled on its node."),
        ({"phase": "CANCELLED"}, [], None, "It was withdrawn."),
        ({"phase": "NOT_STARTED",
          "refused": {"faults": [{"path": "kind", "message": "is not known"}]}}, [], None,
         "Its node did not take it: kind: is not known."),
        ({"phase": "LOST", "execution_status": "STARTED", "lost_at": BEFORE,
          "lost_reason": "node_decommissioned"}, [], None,
         ("It was lost 1 min ago: its node was taken out of service. It had started, and how it "
         "ended is not known.")),
        ({"phase": "NODE_SILENT"}, [], {"last_seen_at": BEFORE},
         ("Nothing has been heard of n for 1 min. Its node has it and starts it by itself; "
         "that is told when it is back.")),
        ({"phase": "NODE_SILENT", "delivered": False}, [], None,
         ("Nothing has been heard of n. It has not got there; it goes there as soon as its node is "
         "back.")),
        ({"phase": "NODE_SILENT", "execution_status": "STARTED"}, [], None,
         ("Nothing has been heard of n. It was running then; how it goes is not known before its "
         "node is back.")),
        ({"phase": "SCHEDULED", "from_date": LATER}, [], None, "It starts in 5 min on n."),
        ({"phase": "SCHEDULED", "from_date": LATER, "delivered": False}, [], None,
         "It starts in 5 min; n has not got it yet."),
        ({}, [], {}, "It has been due for 1 min and waits for its turn on n."),
        ({"delivered": False}, [], {"last_seen_at": BEFORE},
         "It has been due for 1 min; n has not got it yet (last heard of 1 min ago)."),
        ({}, [], {"freezes": [FREEZE], "brakes": [{"freeze": "f", "kind": "k"}]},
         "It has been due for 1 min and waits for its turn on n, which is frozen by ann: a move."),
        ({}, [], {"freezes": [{**FREEZE, "kind": "other"}],
                  "pause": {"paused": True, "pause_reason": "a reboot"}},
         "It has been due for 1 min and waits for its turn on n, which is paused: a reboot."),
        ({"attempt": 2}, [], {}, "Its attempt 2 is over, and it is to be tried again on n."),
        ({"phase": "SCHEDULED", "from_date": LATER}, [{**ASKED, "is_edit": True}], {},
         "It starts in 5 min on n. A change of it waits for approval (corectl approvals show q)."),
        ({"phase": "SCHEDULED", "from_date": LATER},
         [{**ASKED, "is_edit": True}, {"type": "rejected", "approval_id": "q"}], {},
         "It starts in 5 min on n."),
        ({"phase": "RUNNING", "execution_status": "STARTED", "started_at": BEFORE,
          "requested": {"type": "cancel", "at": BEFORE, "requested_by": "ann"}}, [], None,
         ("It has been running for 1 min. ann asked to cancel it 1 min ago; its node has not "
         "answered yet.")),
    ],
)  # fmt: skip
def test_what_the_core_knows_is_told(
    members: dict[str, Any], events: list[dict[str, Any]], node: dict[str, Any] | None,
    expected: str,
) -> None:  # fmt: skip
    assert explain_at_core(action(**members), events, node, NOW) == expected


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_is_a_sentence_and_none_claims_a_turn_that_never_comes(phase: Phase) -> None:
    told_ = explain_at_core(action(phase=phase.value), [], None, NOW)
    assert told_[0].isupper()
    assert told_.endswith((".", ")"))
    over = {Phase.REJECTED, Phase.EXPIRED, Phase.LOST, Phase.CANCELLED, Phase.PENDING_APPROVAL}
    assert phase not in over or "waits for its turn" not in told_


def test_who_asked_and_what_a_rule_made_of_it() -> None:
    event = {"type": "dispatched", "requested_by": "ann", "rule": "r", "result": "schedule"}
    assert asked_for_by([{"type": "x"}, event]) == "ann; rule r: schedule"
    assert asked_for_by([{"type": "dispatched", "requested_by": "ann"}]) == "ann"
    assert asked_for_by([]) is None


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({**ASKED, "action_id": "a", "expires_at": LATER},
         f"a: it waits for approval: it is guarded; ends at {LATER}"),
        ({"type": "rejected", "decided_by": "olga", "why": "not now", "is_edit": True},
         "olga rejected the change: not now"),
        ({"type": "approval_expired", "why": "nobody decided"},
         "the question about it is over: nobody decided"),
        (CANCEL, "ann withdraws it: too late"),
        ({"type": "rescheduled", "requested_by": "ann", "from_date": LATER, "waits": True},
         f"ann moves it to {LATER}, if that is approved"),
        ({"type": "suppressed", "requested_by": "ann", "kind": "k", "rule": "r", "reason": "no"},
         "k of ann was not stored, by the rule r: no"),
        ({"type": "dispatched", "requested_by": "ann", "kind": "k", "approval": "pending"},
         "k was dispatched by ann, and waits for approval"),
        (
            {"type": "frozen", "requested_by": "ann", "selector": "role=web", "reason": "a move"},
            "ann freezes role=web: a move",
        ),
        (
            {"type": "decommissioned", "requested_by": "ann", "reason": "sold"},
            "ann takes it out of service: sold",
        ),
        ({"type": "labels_changed", "changed": {"env": "prod", "rack": None}},
         "labels changed: env=prod, rack-"),
    ],
)  # fmt: skip
def test_the_cores_own_events_are_sentences(event: dict[str, Any], expected: str) -> None:
    assert told(event) == expected
