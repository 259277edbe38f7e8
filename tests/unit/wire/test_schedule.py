"""Schedules as JSON: our fields, plain texts and bree's words; all faults together."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.errors import InvalidDocument
from agent.domain.instants import parse_instant
from agent.domain.schedule.spec import CatchUp, CatchUpMode, CountFrom, Overlap, Schedule
from agent.wire.definition import decode_definition, encode_definition
from agent.wire.schedule import decode_schedule, encode_schedule

FULL: dict[str, Any] = {
    "every": "15 minutes", "date": "2026-01-15T03:00:00Z", "timezone": "Europe/Berlin",
    "duration_s": 600.0, "jitter_s": 60.0, "ends_at": "2026-06-01T00:00:00Z", "max_runs": 7,
    "overlap": "queue", "catch_up": {"mode": "all", "max_age_s": 3600.0, "max_count": 5},
    "count_from": "completion",
}  # fmt: skip


def faults(value: Any) -> dict[str, str]:
    with pytest.raises(InvalidDocument) as caught:
        decode_schedule(value)
    return {fault.path: fault.message for fault in caught.value.faults}


def test_everything_survives_the_way_there_and_back() -> None:
    assert encode_schedule(decode_schedule(FULL)) == FULL
    again = decode_schedule(json.loads(json.dumps(encode_schedule(decode_schedule(FULL)))))
    assert again == decode_schedule(FULL)


@pytest.mark.parametrize(
    ("value", "schedule"),
    [
        ("every 5 minutes", Schedule(every="every 5 minutes")),
        ("2 days", Schedule(every="2 days")),
        ("at 10:15 am", Schedule(at="at 10:15 am")),
        ("monday at 10:15", Schedule(at="monday at 10:15")),
        ("every weekday", Schedule(at="every weekday")),
        ("every 2 days at 10:15", Schedule(at="every 2 days at 10:15")),
        ("*/5 * * * *", Schedule(cron="*/5 * * * *")),
        (" @daily ", Schedule(cron="@daily")),
        ("2026-01-15T03:00:00Z", Schedule(date=parse_instant("2026-01-15T03:00:00Z"))),
        ({"cron": "0 3 * * *"}, Schedule(cron="0 3 * * *")),
        ({"every": 90}, Schedule(every="90")),
        ({"every": "1h", "overlap": "allow"}, Schedule(every="1h", overlap=Overlap.ALLOW)),
        ({"after": "backup"}, Schedule(after="backup")),
        ({"delay": "90 s"}, Schedule(delay_s=90.0)),
        ({"at": "22:00", "duration": "8h", "jitter": "10 min"},
         Schedule(at="22:00", duration_s=28800.0, jitter_s=600.0)),
        ({"at": "22:00", "catch_up": "skip"},
         Schedule(at="22:00", catch_up=CatchUp(mode=CatchUpMode.SKIP))),
        ({"every": "1h", "count_from": "completion"},
         Schedule(every="1h", count_from=CountFrom.COMPLETION)),
        ({"cron": "* * * * *", "timezone": None, "date": None}, Schedule(cron="* * * * *")),
        # bree's words
        ({"interval": 300_000}, Schedule(every="300")),
        ({"interval": "5 minutes"}, Schedule(every="5 minutes")),
        ({"interval": "at 10:15 am"}, Schedule(at="at 10:15 am")),
        ({"timeout": 5000}, Schedule(delay_s=5.0)),
        ({"timeout": "3 days and 4 hours"}, Schedule(delay_s=273_600.0)),
        ({"interval": "1h", "timeout": 0}, Schedule(every="1h", delay_s=0.0)),
        ({"interval": "1h", "timeout": False}, Schedule(every="1h")),
        ({"cron": "0 0 3 * * *", "hasSeconds": True, "timezone": "local"},
         Schedule(cron="0 0 3 * * *")),
        ({"date": "2026-01-15T03:00:00Z", "interval": "1h"},
         Schedule(every="1h", date=parse_instant("2026-01-15T03:00:00Z"))),
        ({"date": "2026-01-15T03:00:00Z", "interval": 0},
         Schedule(date=parse_instant("2026-01-15T03:00:00Z"))),
    ],
)  # fmt: skip
def test_what_is_accepted(value: Any, schedule: Schedule) -> None:
    assert decode_schedule(value) == schedule
    assert decode_schedule(encode_schedule(schedule)) == schedule


@pytest.mark.parametrize(
    ("value", "path", "told"),
    [
        (7, "", "must be an object or a text"),
        ({}, "", "does not say when"),
        ({"interval": 0}, "", "does not say when"),
        ("every now and then", "", "not understood"),
        ({"every": 10**400}, "every", "outside 0 to"), ({"every": -5}, "every", "outside 0 to"),
        ({"every": float("nan")}, "every", "outside 0 to"),
        ("every 5 moments", "", "'moments' is not understood; write 15m"),
        ("* * * *", "", "has 4 fields"),
        ({"cron": "0 0 30 2 *"}, "cron", "never happens"),
        ({"cron": "* * * * *", "every": "5m"}, "every", "cannot stand beside cron"),
        ({"cron": "* * * * *", "interval": 5000}, "interval", "cannot stand beside cron"),
        ({"date": "2026-01-15T03:00:00Z", "timeout": 5}, "timeout", "cannot stand beside date"),
        ({"date": "2026-01-15T03:00:00Z", "delay_s": 5}, "delay_s", "cannot stand beside date"),
        ({"date": "2026-01-15T03:00:00Z", "after": "x"}, "date", "cannot stand beside after"),
        ({"every": "5m", "interval": 5000}, "interval", "say the same"),
        ({"every": "5m", "delay": 1, "delay_s": 2}, "delay", "say the same"),
        ({"interval": -1}, "interval", "outside"),
        ({"interval": 500}, "interval", "shorter than a second"),
        ({"interval": {"schedules": []}}, "interval", "later's schedule objects"),
        ({"timeout": "at 10:15 am"}, "timeout", "for a time of day write at"),
        ({"timeout": True}, "timeout", "must be a number"),
        ({"cron": "* * * * *", "hasSeconds": True}, "hasSeconds", "the line has 5 fields"),
        ({"cron": "* * * * *", "hasSeconds": "yes"}, "hasSeconds", "must be true or false"),
        ({"cron": "* * * * *", "closeWorkerAfterMs": 5}, "closeWorkerAfterMs", "write timeout_s"),
        ({"cron": "* * * * *", "maxRuns": 5}, "maxRuns", "is called 'max_runs'"),
        ({"cron": "* * * * *", "time_zone": "UTC"}, "time_zone", "did you mean 'timezone'"),
        ({"at": "every 5 minutes"}, "at", "write it as every"),
        ({"every": "1 month"}, "every", "write a cron line"),
        ({"every": True}, "every", "must be text"),
        ({"date": "2026-01-15"}, "date", "RFC 3339"),
        ({"every": "5m", "timezone": "Europe/Berln"}, "timezone", "did you mean 'Europe/Berlin'"),
        ({"every": "5m", "timezone": "../../etc/passwd"}, "timezone", "not in this node's zone"),
        ({"every": "5m", "jitter_s": 301}, "jitter_s", "longer than the interval"),
        ({"at": "8:00", "duration_s": 60, "jitter_s": 60}, "jitter_s", "leaves nothing"),
        ({"at": "8:00", "count_from": "completion"}, "count_from", "with every only"),
        ({"at": "8:00", "overlap": "skp"}, "overlap", "did you mean 'skip'"),
        ({"at": "8:00", "catch_up": {"mode": "all", "max": 3}}, "catch_up.max", "not known"),
        ({"at": "8:00", "max_runs": 0}, "max_runs", "outside 1"),
        ({"at": "8:00", "timeout_s": 5}, "timeout_s", "beside the schedule"),
        ({"every": "5m", "date": "2026-01-15T03:00:00Z", "ends_at": "2026-01-15T02:00:00Z"},
         "ends_at", "nothing would ever run"),
    ],
)  # fmt: skip
def test_what_is_refused_says_where_and_what_to_do(value: Any, path: str, told: str) -> None:
    assert told in faults(value)[path]


def test_all_faults_come_together_with_their_paths() -> None:
    document = {
        "id": "x" * 97, "kind": "k", "to_date": "soon",
        "schedule": {"cron": "61 * * * *", "interval": 5, "overlap": "no", "colour": "red"},
    }  # fmt: skip
    with pytest.raises(InvalidDocument) as caught:
        decode_definition(document)
    paths = {fault.path for fault in caught.value.faults}
    assert paths == {
        "id", "to_date", "schedule.cron", "schedule.interval", "schedule.overlap",
        "schedule.colour",
    }  # fmt: skip


def test_a_rule_has_a_short_id_and_is_no_occurrence() -> None:
    document = {
        "id": "x" * 97, "kind": "k", "schedule": "1h", "recurring_id": "r",
        "nominal_at": "2026-01-15T03:00:00Z",
    }  # fmt: skip
    with pytest.raises(InvalidDocument) as caught:
        decode_definition(document)
    assert {fault.path for fault in caught.value.faults} == {"id", "schedule"}


def test_definitions_with_a_schedule_and_their_occurrences_survive() -> None:
    rule = {"id": "r", "kind": "k", "schedule": FULL, "requires": ["schedule"]}
    occurrence = {
        "id": "r@2026-01-15T03:00:00Z", "kind": "k", "recurring_id": "r",
        "nominal_at": "2026-01-15T03:00:00Z",
    }  # fmt: skip
    for document in (rule, occurrence):
        definition = decode_definition(document)
        encoded = encode_definition(definition)
        assert decode_definition(json.loads(json.dumps(encoded))) == definition
        assert document.items() <= encoded.items()


WORDS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**6), 10**12), st.floats(), st.text(max_size=40),
    st.sampled_from(["every 5 minutes", "* * * * *", "0 0 * * MON#1", "at 10:15 am", "UTC"]),
    st.text(alphabet="0123456789*/,-L# @:apmevryondt", max_size=40),
)  # fmt: skip
KEYS = st.sampled_from([*FULL, "cron", "at", "after", "interval", "timeout", "hasSeconds", "delay"])


@given(st.one_of(WORDS, st.dictionaries(KEYS, WORDS, max_size=4)))
def test_whatever_is_written_is_either_read_or_refused_with_faults(value: Any) -> None:
    try:
        schedule = decode_schedule(value)
    except InvalidDocument as error:
        told = error.faults
    else:
        assert decode_schedule(encode_schedule(schedule)) == schedule
        return
    assert told


def test_definitions_without_a_schedule_load_neither_cron_nor_zones() -> None:
    """`agentctl` starts within a fraction of a second, and a node without rules stays small."""
    code = (
        "import sys, agent.wire.definition as d; d.decode_definition({'id': 'a', 'kind': 'k'}); "
        "print([m for m in ('cronsim', 'zoneinfo', 'agent.wire.schedule') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
