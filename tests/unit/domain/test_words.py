"""Ids, instants and phases."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.definition import Approval, ApprovalState
from agent.domain.ids import is_id, is_kind, new_id
from agent.domain.instants import (
    format_instant,
    from_us,
    parse_instant,
    parse_span_s,
    to_us,
)
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.phase import Phase, phase_of
from tests.unit.domain.builders import NOW, after, make_definition

moments = st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)
)


@given(moments)
def test_instants_survive_text_and_disk(moment: datetime) -> None:
    assert parse_instant(format_instant(moment)) == moment
    assert from_us(to_us(moment)) == moment


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("2026-01-15T12:00:00", "zone"),
        ("2026-01-15", "not a date"),
        ("yesterday", "not a date"),
        ("\u0662\u0660\u0662\u0666-01-15T12:00:00Z", "not a date"),
        ("2026-01-15T12:00:00+0\uff12:00", "not a date"),
        ("2026-02-30T12:00:00Z", "day is out of range"),
        ("2026-01-15T12:00:00+25:00", "offset"),
        ("0001-01-01T00:00:00+10:00", "outside"),
    ],
)
def test_a_date_that_is_none_says_what_is_missing(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_instant(text)


def test_zones_are_taken_to_utc() -> None:
    assert parse_instant("2026-01-15T12:00:00.25+02:30") == datetime(
        2026, 1, 15, 9, 30, 0, 250_000, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("1h30m", 5400), ("2 d", 172800), ("1.5", 1.5), ("0", 0)]
)
def test_spans(text: str, seconds: float) -> None:
    assert parse_span_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "10x", "1h-3m", "nan", "inf", "1e300", "\u0665", "\u0665m"]
)
def test_spans_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_span_s(text)


def test_new_ids_sort_by_time_and_are_uuids() -> None:
    bits = random.Random(1).getrandbits
    made = [new_id(NOW + timedelta(milliseconds=n), bits) for n in range(50)]
    pattern = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert made == sorted(made)
    assert all(re.fullmatch(pattern, one) and is_id(one) for one in made)


@pytest.mark.parametrize("text", ["", "-a", "a b", "ä", "a/b", "a" * 129, "a\n"])
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text)


@pytest.mark.parametrize("text", ["Up", ".hidden", "../etc/passwd", "a/b", "a" * 65, "a\n", "-x"])
def test_what_is_no_kind(text: str) -> None:
    assert not is_kind(text)


@pytest.mark.parametrize(
    ("status", "reason", "phase"),
    [
        (ExecutionStatus.STARTED, "due", Phase.RUNNING),
        (ExecutionStatus.FINISHED, "exit_zero", Phase.DONE),
        (ExecutionStatus.FAILED, "timeout", Phase.FAILED),
        (ExecutionStatus.WONT_FINISH, "window_closed", Phase.NOT_FINISHED),
        (ExecutionStatus.WONT_FINISH, Reason.WITHDRAWN.value, Phase.CANCELLED),
        (ExecutionStatus.WONT_START, Reason.CANCELLED_ON_NODE.value, Phase.CANCELLED),
        (ExecutionStatus.WONT_START, Reason.REJECTED.value, Phase.REJECTED),
        (ExecutionStatus.WONT_START, Reason.EXPIRED.value, Phase.EXPIRED),
        (ExecutionStatus.WONT_START, "a_reason_of_a_later_version", Phase.NOT_STARTED),
    ],
)
def test_phase_of_what_started_or_ended(status: ExecutionStatus, reason: str, phase: Phase) -> None:
    assert phase_of(make_definition(), status, reason, None, NOW) is phase


def test_phase_of_what_waits() -> None:
    null = ExecutionStatus.NULL
    pending = make_definition(approval=Approval(state=ApprovalState.PENDING))
    assert phase_of(pending, null, None, None, NOW) is Phase.PENDING_APPROVAL
    assert phase_of(make_definition(), null, None, after(1), NOW) is Phase.SCHEDULED
    assert phase_of(make_definition(), null, None, NOW, NOW) is Phase.QUEUED
    assert phase_of(make_definition(), null, None, NOW, NOW, paused=True) is Phase.PAUSED
    gone = make_definition(should_be_executed=False)
    assert phase_of(gone, null, None, None, NOW) is Phase.CANCELLED
