"""A command line becomes a definition, or all of its faults at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
import pytest

from agent.cli.defining import compose
from agent.cli.evidence import in_words as evidence_in_words
from agent.cli.evidence import telling
from agent.cli.rules import describe, in_words, in_zone, state_of
from tests.fakes.board_values import no_options

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)


def made(**given: Any) -> dict[str, Any]:
    return compose(no_options() | given, NOW)


@pytest.mark.parametrize(
    ("given", "schedule"),
    [
        ({"cron": "0 3 * * *", "timezone": "Europe/Berlin"},
         {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}),
        ({"every": "5 minutes", "delay": "10s"}, {"every": "5 minutes", "delay_s": 10.0}),
        ({"at": "monday at 10:15"}, {"at": "monday at 10:15"}),
        ({"at": "10:15 am", "duration": "2h", "jitter": "5m"},
         {"at": "10:15 am", "duration_s": 7200.0, "jitter_s": 300.0}),
        ({"date": "+1h"}, {"date": "2026-01-15T13:00:00Z"}),
        ({"after": "other", "overlap": "queue"}, {"after": "other", "overlap": "queue"}),
        ({"words": "every 5 minutes"}, "every 5 minutes"),
        ({"every": "1h", "catch_up": "all", "catch_up_age": "2d", "catch_up_count": 3,
          "count_from": "completion", "ends_at": "+7d", "max_runs": 9},
         {"every": "1h", "catch_up": {"mode": "all", "max_age_s": 172800.0, "max_count": 3},
          "count_from": "completion", "ends_at": "2026-01-22T12:00:00Z", "max_runs": 9}),
    ],
)  # fmt: skip
def test_schedules(given: dict[str, Any], schedule: Any) -> None:
    assert made(**given) == {"schedule": schedule}


def test_one_start_is_no_schedule() -> None:
    assert made(at="2026-01-15T13:00:00+01:00") == {"from_date": "2026-01-15T12:00:00Z"}
    assert made(delay="10s") == {"from_date": "2026-01-15T12:00:10Z"}
    assert made() == {}


def test_what_bounds_an_action() -> None:
    assert made(attempts=3, on_restart="never", start_deadline="5m", correlation_id="c") == {
        "retry": {"max_attempts": 3}, "on_restart": "never", "start_deadline_s": 300.0,
        "correlation_id": "c",
    }  # fmt: skip


def test_labels_and_apps() -> None:
    given = made(labels=("tier=db", "owner=a=b"), apps=("web",))
    assert given == {"labels": {"tier": "db", "owner": "a=b"}, "app_names": ["web"]}


def test_all_faults_of_a_schedule_come_together() -> None:
    with pytest.raises(click.UsageError) as told:
        made(every="1h", duration="long", ends_at="soon", labels=("x",), begin="later")
    for option in ("--duration:", "--ends-at:", "--label:", "--from:"):
        assert option in told.value.message


def test_a_word_that_is_neither_date_nor_time_of_day_is_refused_here() -> None:
    with pytest.raises(click.UsageError, match=r"--at: .*not a date"):
        made(at="soon")


def test_a_rule_in_words() -> None:
    rule = {
        "id": "nightly", "kind": "backup", "state": "paused", "paused": "freeze",
        "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "duration_s": 7200.0,
                     "catch_up": {"mode": "latest", "max_age_s": 86400.0}},
        "next_at": "2026-01-16T02:00:00Z", "last_nominal_at": None, "run_count": 7,
        "zone": "Europe/Berlin", "ended_at": None,
    }  # fmt: skip
    assert in_words(rule["schedule"]) == "cron 0 3 * * * (Europe/Berlin)"
    assert state_of(rule) == "paused (freeze)"
    lines = "\n".join(describe(rule, NOW))
    assert "next          after resume; were it active: 2026-01-16 03:00:00 CET  (in 14 h)" in lines
    lines = "\n".join(describe({**rule, "state": "active", "offset_s": 60.0}, NOW))
    assert "next          2026-01-16 03:00:00 CET  (in 14 h)" in lines
    assert "here          1 min later, by the jitter" in lines
    assert "window        2 h" in lines
    assert "catch up      latest, missed within 1 d" in lines


def test_an_instant_in_a_zone_nobody_knows_is_shown_in_utc() -> None:
    assert in_zone("2026-01-16T02:00:00Z", "Nowhere/Land") == "2026-01-16T02:00:00.000Z"
    assert in_zone(None, "UTC") == "-"


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        ({"code": 7, "duration_s": 1.25, "late_s": 0.0}, "exit code 7, ran 1.2 s, on time"),
        ({"late_s": 75.0, "held_by": [{"id": "a"}, {"id": "b"}]}, "1 min 15 s late, held by a b"),
        ({"missed": {"first": "2026-01-15T03:00:00Z", "last": "2026-01-15T04:00:00Z", "count": 2,
                     "counted_all": False, "why": "too old"}},
         "at least 2 missed: 2026-01-15T03:00:00.000Z to 2026-01-15T04:00:00.000Z (too old)"),
        ({"revision": 3, "something_new": {"a": 1}, "nothing": None},
         'revision 3, something new {"a": 1}'),
        (None, ""),
    ],
)  # fmt: skip
def test_evidence_in_words(evidence: dict[str, Any] | None, told: str) -> None:
    assert evidence_in_words(evidence) == told


def test_evidence_without_what_stands_beside_it() -> None:
    evidence = {"code": 7, "failure": "exit_nonzero", "failures": 1, "error": "exit code 7",
                "revision": 1}  # fmt: skip
    assert telling(evidence, "exit_nonzero") == {"code": 7}
    assert telling({"failures": 2}, None) == {"failures": 2}
    assert telling(None, None) == {}


def test_an_end_that_has_passed_is_a_slip() -> None:
    with pytest.raises(click.UsageError, match="--until: 2026-01-15T11:00:00Z has passed"):
        made(until="2026-01-15T11:00:00Z")
    assert made(until="+10m")["to_date"] == "2026-01-15T12:10:00Z"


def test_words_that_name_no_instant_are_told_what_words_there_are() -> None:
    blue_moon = made(at="every blue moon")  # the daemon lists what it understands
    assert blue_moon == {"schedule": {"at": "every blue moon"}}
    with pytest.raises(click.UsageError, match="'monday at 10:15'"):
        made(at="tomorrow")
