"""Dates and spans as people write and read them, under a clock that stands still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.defining import compose
from agent.cli.door import Node
from agent.cli.times import clock_time, duration, read_when, relative, span
from agent.domain.instants import format_instant
from tests.fakes.board_values import no_options

NOW = datetime(
    2026, 3, 29, 0, 59, 30, tzinfo=UTC
)  # half a minute before Europe's clocks go forward
GIVEN = no_options()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("now", 0), ("+10m", 600), ("+1h30m", 5400), ("+2d", 172800), ("+90", 90)],
)
def test_relative_dates_count_from_now(text: str, seconds: int) -> None:
    assert read_when(text, NOW) == NOW + timedelta(seconds=seconds)


def test_a_date_keeps_its_zone() -> None:
    assert read_when("2026-03-29T03:00:00+02:00", NOW) == datetime(2026, 3, 29, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-03-29T03:00:00", "2026-03-29 03:00"])
def test_a_local_time_is_refused_and_shown_with_its_zone(text: str) -> None:
    with pytest.raises(ValueError, match=r"the zone is missing.*if local time was meant: 2026-03-"):
        read_when(text, NOW)


@pytest.mark.parametrize("text", ["tomorrow", "10m", "+soon", "", "2026-13-01T00:00:00Z"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_when(text, NOW)


@freeze_time(NOW)
def test_in_ten_seconds_is_ten_seconds_later_whatever_the_local_clock_does() -> None:
    node = Node("/nowhere", as_json=False)
    assert node.now() == NOW
    document = compose(GIVEN | {"delay": "1h", "until": "+2h"}, node.now())
    assert document["from_date"] == "2026-03-29T01:59:30Z"
    assert document["to_date"] == "2026-03-29T02:59:30Z"


def test_the_clock_ticks_and_what_is_shown_follows() -> None:
    due = format_instant(NOW + timedelta(seconds=90))
    node = Node("/nowhere", as_json=False)
    with freeze_time(NOW) as clock:
        assert relative(due, node.now()) == "in 1 min 30 s"
        clock.tick(90)
        assert relative(due, node.now()) == "now"
        clock.tick(timedelta(hours=2, seconds=1))
        assert relative(due, node.now()) == "2 h ago"


def test_faults_of_several_options_come_together() -> None:
    bad = GIVEN | {"at": "soon", "delay": "3x", "payload": "{", "timeout": "long"}
    with pytest.raises(click.UsageError) as told:
        compose(bad, NOW)
    for option in ("--at and --in", "--at:", "--in:", "--payload:", "--timeout:"):
        assert option in told.value.message


@given(st.floats(0, 10**9))
def test_a_span_has_at_most_two_units(seconds: float) -> None:
    assert 1 <= len(span(seconds).split()) / 2 <= 2


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0.00 s"),
        (9.96, "10.0 s"),
        (59.6, "1 min"),
        (3600, "1 h"),
        (86700, "1 d"),
        (-5, "-5.0 s"),
    ],
)
def test_spans(seconds: float, told: str) -> None:
    assert span(seconds) == told


def test_clock_time_and_duration() -> None:
    assert clock_time("2026-03-29T01:00:00.123999+01:00") == "2026-03-29T00:00:00.123Z"
    assert clock_time(None) == "-"
    assert duration("2026-03-29T00:00:00Z", "2026-03-29T00:00:01.5Z") == 1.5
    assert duration(None, "2026-03-29T00:00:01.5Z") is None
