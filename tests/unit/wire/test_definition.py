"""Definitions as JSON: strict in, complete out, all faults together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.definition import Owner, RiskLevel
from agent.domain.errors import InvalidDocument
from agent.wire.definition import decode_definition, decode_submitted, encode_definition

SEED_004 = {
    "action_id": "5f0c", "created_at": 1620000000.0, "proposed_by": "supervisor",
    "correlation_id": "c1", "node": "node-name", "service": "service-name",
    "action_type": "redeploy_service", "risk_level": "guarded", "confidence": 0.9,
    "approval_required": True, "autonomous_eligible": False, "status": "pending",
    "payload": {"a": 1}, "rollback_reference": None,
}  # fmt: skip
FULL: dict[str, Any] = {
    "id": "a1", "kind": "sleep", "owner": "core", "revision": 4, "payload": {"x": [1, 2.5, None]},
    "metadata": {"m": "ü"}, "labels": {"env": "x"}, "from_date": "2026-01-01T00:00:00Z",
    "to_date": "2026-01-02T00:00:00.500000Z", "should_be_executed": False,
    "app_names": ["db", "web"], "timeout_s": 5.0, "grace_s": 1.0,
    "on_restart": "never", "start_deadline_s": 9.0,
    "retry": {"max_attempts": 3, "delay_s": 1.0, "backoff": 2.0, "max_delay_s": 60.0},
    "dry_run": True, "requester": "core_api", "retry_of": "a0", "requires": ["retry"],
    "approval": {"state": "approved", "by": "ann", "at": "2026-01-01T00:00:00Z"},
    "correlation_id": "c", "node": "n1", "service": "s", "risk_level": "safe", "confidence": 1.0,
    "approval_required": False, "autonomous_eligible": True, "proposed_by": "p",
    "created_at": "2026-01-01T00:00:00Z", "rollback_reference": "state:r1", "a_later_field": [1],
}  # fmt: skip


def faults(document: Any) -> dict[str, str]:
    with pytest.raises(InvalidDocument) as caught:
        decode_definition(document)
    return {fault.path: fault.message for fault in caught.value.faults}


def test_everything_survives_the_way_there_and_back() -> None:
    assert encode_definition(decode_definition(FULL)) == FULL
    again = decode_definition(json.loads(json.dumps(encode_definition(decode_definition(FULL)))))
    assert again == decode_definition(FULL)


def test_the_fourteen_fields_of_seed_004_are_taken_as_they_are() -> None:
    definition = decode_definition(SEED_004)
    assert (definition.id, definition.kind) == ("5f0c", "redeploy_service")
    assert definition.risk_level is RiskLevel.GUARDED
    assert definition.created_at is not None
    assert definition.created_at.year == 2021


def test_all_faults_are_told_together() -> None:
    found = faults(
        {
            "id": "-bad", "kind": "Not A Kind", "from_date": "2026-01-01T00:00:00", "payload": [],
            "timeout_s": "5", "retry": {"max_attempts": 0, "delay": 1}, "app_names": "db",
            "should_be_executed": "true", "revision": 1.5, "confidence": 2,
        }
    )  # fmt: skip
    assert set(found) == {
        "id", "kind", "from_date", "payload", "timeout_s", "retry.max_attempts", "retry.delay",
        "app_names", "should_be_executed", "revision", "confidence",
    }  # fmt: skip
    assert "zone" in found["from_date"]
    assert "delay_s" in found["retry.delay"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("fromDate", "from_date"), ("toDate", "to_date"), ("endDate", "to_date"),
     ("shouldBeExecuted", "should_be_executed"), ("appNames", "app_names"),
     ("actionType", "kind"), ("actionId", "id"), ("executionStatus", "execution_status")],
)  # fmt: skip
def test_camel_case_is_refused_with_our_name(theirs: str, ours: str) -> None:
    assert repr(ours) in faults({"id": "a", "kind": "k", theirs: 1})[theirs]


def test_names_that_disagree_and_windows_that_are_none() -> None:
    assert "disagrees" in faults({"id": "a", "action_id": "b", "kind": "k"})["action_id"]
    window = {"from_date": "2026-01-02T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"}
    assert "not after" in faults({"id": "a", "kind": "k", **window})["to_date"]
    assert "status" in faults({"id": "a", "kind": "k", "status": "running"})


def test_a_status_sent_by_the_core_is_ignored() -> None:
    definition = decode_definition({"id": "a", "kind": "k", "execution_status": "FINISHED"})
    assert "execution_status" not in encode_definition(definition)


def test_required_features_that_are_not_here_are_refused() -> None:
    assert "teleport" in faults({"id": "a", "kind": "k", "requires": ["teleport"]})["requires"]


def test_sizes_are_bounded() -> None:
    big = {"id": "a", "kind": "k", "payload": {"x": "y" * 70_000}, "metadata": {"x": "y" * 17_000}}
    assert set(faults(big)) == {"payload", "metadata"}
    assert "" in faults({"id": "a", "kind": "k", "strange": "y" * 17_000})


def test_defaults_stand_in_for_what_is_absent_only() -> None:
    definition = decode_definition({"kind": "k", "owner": "node"}, id="x", owner="core")
    assert (definition.id, definition.owner) == ("x", Owner.NODE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(list(FULL)), json_values, max_size=8) | json_values)
def test_no_document_does_anything_but_decode_or_be_refused(document: Any) -> None:
    try:
        definition = decode_definition(document)
    except InvalidDocument:
        return
    assert decode_definition(encode_definition(definition)) == definition


def test_a_name_that_is_too_long_to_show_is_cut() -> None:
    """Faults travel in events: one must not outgrow what the core takes."""
    with pytest.raises(InvalidDocument) as caught:
        decode_definition({"id": "a", "kind": "k", "retry": {"x" * 1_000_000: 1}})
    assert all(len(str(fault)) < 200 for fault in caught.value.faults)


@pytest.mark.parametrize("status", [[], {}, 7, "RUNNING", True])
def test_a_status_that_no_new_definition_has_is_a_fault(status: Any) -> None:
    with pytest.raises(InvalidDocument, match=r"status: .* cannot be true"):
        decode_definition({"id": "a", "kind": "k", "status": status})


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("timout_s", "timeout_s"), ("form_date", "from_date"), ("lables", "labels"),
        ("timeout", "timeout_s"), ("app_name", "app_names"), ("knd", "kind"),
    ],
)  # fmt: skip
def test_a_slip_of_the_hand_is_refused_where_somebody_writes(slip: str, meant: str) -> None:
    document = {"id": "a", "kind": "tick", slip: 3}
    with pytest.raises(InvalidDocument) as refused:
        decode_submitted(document)
    assert [fault.path for fault in refused.value.faults] == [slip]
    assert f"did you mean '{meant}'?" in refused.value.faults[0].message
    assert decode_definition(document).extra == {slip: 3}  # a newer core may mean it


def test_slips_are_told_with_the_other_faults_and_own_words_are_kept() -> None:
    with pytest.raises(InvalidDocument) as refused:
        decode_submitted({"id": "a", "kind": "no kind!", "timout_s": 3, "fromDate": "x"})
    assert [fault.path for fault in refused.value.faults] == ["kind", "fromDate", "timout_s"]
    own = {"note": "hello", "ticket": 7, "x_timout_s": 3, "colour": "red"}
    assert decode_submitted({"id": "a", "kind": "tick", **own}).extra == own
