"""What a forecast says beside an instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.domain.schedule.notes import gaps_of, notes_for
from agent.domain.schedule.recurrence import Planned, State, upcoming
from agent.domain.schedule.spec import Schedule

BERLIN = "Europe/Berlin"


def noted(schedule: Schedule, begin: datetime, days: int = 1) -> dict[str, str]:
    """The notes of a day's instants, by UTC time."""
    found: dict[str, str] = {}
    previous: Planned | None = None
    state = State(anchor_at=begin)
    for run in upcoming(schedule, state, begin, begin + timedelta(days=days), zone=BERLIN):
        notes = notes_for(schedule, run, previous, zone=BERLIN)
        if notes:
            found[f"{run.nominal_at:%H:%M}"] = "; ".join(notes)
        previous = run
    return found


GAP, OVERLAP = datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)


def test_a_time_that_the_gap_swallowed_is_said_to_have_moved() -> None:
    notes = noted(Schedule(cron="30 2 * * *"), GAP)
    assert notes == {
        "01:00": "moved by a clock change: 02:30 does not exist on 2026-03-29 in Europe/Berlin; "
        "happens at 03:00"
    }


def test_a_repeated_hour_is_told_for_what_follows_the_clock_and_for_fixed_times() -> None:
    following = noted(Schedule(cron="30 * * * *"), OVERLAP)
    assert sorted(following) == ["00:30", "01:30"]
    assert "this is the first time" in following["00:30"]
    assert "this is the second time" in following["01:30"]
    fixed = noted(Schedule(at="2:30", timezone=BERLIN), OVERLAP)
    assert list(fixed) == ["00:30"]
    assert fixed["00:30"].endswith("this is the first time; happens this time only")


@pytest.mark.parametrize("schedule", [Schedule(cron="0 12 * * *"), Schedule(every="6h")])
def test_other_instants_have_no_notes(schedule: Schedule) -> None:
    assert noted(schedule, GAP) == {}
    assert noted(schedule, OVERLAP) == {}


def test_windows_that_overlap_are_told() -> None:
    notes = noted(Schedule(every="6h", duration_s=8 * 3600), GAP)
    assert len(notes) == 3
    assert "they overlap" in next(iter(notes.values()))


def test_what_follows_the_clock_has_no_instant_in_a_gap() -> None:
    end = GAP + timedelta(days=400)
    told = list(gaps_of(Schedule(cron="*/20 2 * * *"), GAP, end, zone=BERLIN))
    assert told == [
        (datetime(2026, 3, 29, 1, tzinfo=UTC),
         "no instant: 02:00–03:00 does not exist on 2026-03-29 (Europe/Berlin)"),
        (datetime(2027, 3, 28, 1, tzinfo=UTC),
         "no instant: 02:00–03:00 does not exist on 2027-03-28 (Europe/Berlin)"),
    ]  # fmt: skip
    for other in ("*/20 4 * * *", "30 2 * * *", "*/20 2 1 * *"):
        assert not list(gaps_of(Schedule(cron=other), GAP, end, zone=BERLIN))
    assert not list(gaps_of(Schedule(every="20m"), GAP, end, zone=BERLIN))
    assert not list(gaps_of(Schedule(cron="*/20 2 * * *"), GAP, end, zone="UTC"))
