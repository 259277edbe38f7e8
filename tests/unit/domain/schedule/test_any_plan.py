"""What holds for every rule, whenever the daemon happens to look."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.schedule.recurrence import (
    Plan,
    State,
    completed,
    jitter_offset_s,
    occurrences_between,
    plan,
    upcoming,
)
from agent.domain.schedule.spec import CatchUp, CatchUpMode, CountFrom, Schedule

START = datetime(2026, 3, 27, 12, 0, 0, 250_000, tzinfo=UTC)  # two days before a clock change
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"])
WHEN = st.sampled_from(
    [
        {"cron": "*/7 * * * *"}, {"cron": "30 2 * * *"}, {"cron": "15,45 */2 * * *"},
        {"cron": "*/20 * * * * *"}, {"at": "2:30 and 15:00"}, {"at": "every 2 days at 1:30"},
        {"every": "47s"}, {"every": "3 hours"}, {"every": "1 day"}, {"cron": "0 3 L * *"},
    ]
)  # fmt: skip
CATCH_UPS = st.builds(
    CatchUp,
    mode=st.sampled_from(list(CatchUpMode)),
    max_age_s=st.sampled_from([0.0, 30.0, 3600.0, 86_400.0]),
    max_count=st.integers(1, 150),
)
SCHEDULES = st.builds(
    lambda when, zone, catch_up, duration_s, max_runs: Schedule(
        **when, timezone=zone, catch_up=catch_up, duration_s=duration_s, max_runs=max_runs
    ),
    WHEN, ZONES, CATCH_UPS, st.sampled_from([None, 20.0, 600.0, 90_000.0]),
    st.sampled_from([None, None, 500]),
)  # fmt: skip
# Mostly little steps, as of a timer that is on time; some of hours and days: a node that was off.
STEPS = st.lists(
    st.one_of(st.floats(0.1, 90), st.floats(1, 4000), st.floats(3600, 90_000)), max_size=12
)


def look(schedule: Schedule, state: State, now: datetime, offset_s: float) -> Plan:
    return plan(schedule, state, now, zone="UTC", offset_s=offset_s, since=START)


@settings(max_examples=80, deadline=None)
@given(SCHEDULES, STEPS, st.sampled_from([0.0, 13.5]))
def test_every_instant_is_run_or_told_exactly_once_whenever_it_is_looked(
    schedule: Schedule, steps: list[float], offset_s: float
) -> None:
    state, now = State(anchor_at=START.replace(microsecond=0) + timedelta(seconds=1)), START
    told: list[tuple[datetime, datetime, int]] = []
    planned = look(schedule, state, now, offset_s)
    for step in [*steps, 100.0]:
        now += timedelta(seconds=step)
        while True:
            planned = look(schedule, state, now, offset_s)
            told += [(miss.first, miss.last, miss.count) for miss in planned.missed]
            told += [(run.nominal_at, run.nominal_at, 1) for run in planned.runs]
            assert all(run.starts_at <= now for run in planned.runs)
            assert all(run.ends_at is None or run.ends_at > now for run in planned.runs)
            state = planned.after
            if planned.next is None or planned.next.starts_at > now:
                break
    if planned.exhausted is None:
        assert planned.next is not None
        assert planned.next.starts_at > now
    assert all(a[1] < b[0] for a, b in pairwise(sorted(told)))
    end = now - timedelta(seconds=offset_s) if planned.exhausted is None else told[-1][1]
    every = list(
        occurrences_between(
            schedule, state.anchor_at, START, end + timedelta(microseconds=1), zone="UTC"
        )
    )
    if schedule.every is not None:  # the first is one interval after the anchor
        every = [instant for instant in every if instant > state.anchor_at]
    assert sum(count for _, _, count in told) == len(every)
    assert {first for first, _, _ in told} <= set(every)
    assert schedule.max_runs is None or state.run_count <= schedule.max_runs


@settings(max_examples=60, deadline=None)
@given(SCHEDULES, STEPS, st.sampled_from([0.0, 13.5]))
def test_however_often_it_is_looked_the_same_instants_are_accounted_for(
    schedule: Schedule, steps: list[float], offset_s: float
) -> None:
    """Which of them run is not the same: who looks seldom finds more of them missed."""
    schedule = replace(schedule, max_runs=None)
    end = START + timedelta(seconds=sum(steps) + 100)
    every_step = [START + timedelta(seconds=sum(steps[:n])) for n in range(1, len(steps) + 1)]
    often, seldom = (
        _accounted(schedule, moments, offset_s) for moments in ([*every_step, end], [end])
    )
    assert often == seldom


def _accounted(
    schedule: Schedule, moments: list[datetime], offset_s: float
) -> tuple[int, datetime | None]:
    """How many instants have been run or told, and up to which: there is no hole before it."""
    state, number = State(anchor_at=START.replace(microsecond=0) + timedelta(seconds=1)), 0
    for now in moments:
        while True:
            planned = look(schedule, state, now, offset_s)
            number += len(planned.runs) + sum(miss.count for miss in planned.missed)
            simply_due = [run for run in planned.runs if not run.catch_up]
            assert simply_due in ([], list(planned.runs[-1:])), "the newest, or none"
            state = planned.after
            if planned.next is None or planned.next.starts_at > now:
                break
    return number, state.last_nominal_at


@settings(max_examples=60, deadline=None)
@given(SCHEDULES, STEPS)
def test_a_clock_that_jumps_about_repeats_nothing_and_always_goes_on(
    schedule: Schedule, steps: list[float]
) -> None:
    state, now, seen = State(anchor_at=START.replace(microsecond=0)), START, []
    for n, step in enumerate(steps):
        now += timedelta(seconds=-step / 2 if n % 3 == 2 else step)
        planned = look(schedule, state, now, 0.0)
        seen += [run.nominal_at for run in planned.runs]
        state = planned.after
        assert planned.exhausted == "max_runs" or planned.next is not None
        if planned.next is not None and state.last_nominal_at is not None:
            assert planned.next.nominal_at > state.last_nominal_at
    assert all(a < b for a, b in pairwise(seen))


@settings(max_examples=60, deadline=None)
@given(SCHEDULES, st.floats(60, 200_000), st.sampled_from([0.0, 7.25]))
def test_the_forecast_is_what_a_punctual_node_runs(
    schedule: Schedule, until_s: float, offset_s: float
) -> None:
    state = State(anchor_at=START.replace(microsecond=0) + timedelta(seconds=1))
    until = min(START + timedelta(seconds=until_s), START + timedelta(hours=30))
    forecast = list(
        upcoming(schedule, state, START, until, zone="UTC", offset_s=offset_s, since=START)
    )[:80]
    for expected in forecast:
        planned = look(schedule, state, expected.starts_at, offset_s)
        assert planned.runs == (expected,)
        assert not planned.missed
        state = planned.after


@settings(max_examples=60, deadline=None)
@given(STEPS, st.floats(0, 4000))
def test_counted_from_completion_one_at_a_time_for_ever(steps: list[float], run_s: float) -> None:
    schedule = Schedule(every="10m", count_from=CountFrom.COMPLETION)
    state, now = State(anchor_at=START.replace(microsecond=0)), START
    for step in steps:
        now += timedelta(seconds=step)
        planned = look(schedule, state, now, 0.0)
        assert len(planned.runs) <= 1
        state = planned.after
        if planned.runs:
            assert planned.next is None
            now += timedelta(seconds=run_s)
            state = completed(schedule, state, now)
            after = look(schedule, state, now, 0.0).next
            assert after is not None
            assert (
                timedelta(0)
                <= after.nominal_at - now - timedelta(minutes=10)
                < timedelta(seconds=1)
            )
        else:
            assert planned.next is not None
            assert planned.next.starts_at > now


@given(st.text(max_size=20), st.text(max_size=20), st.floats(0.001, 604_800))
def test_jitter_is_stable_and_within_its_bound(node: str, name: str, jitter_s: float) -> None:
    assert 0 <= jitter_offset_s(node, name, jitter_s) < jitter_s
    assert jitter_offset_s(node, name, jitter_s) == jitter_offset_s(node, name, jitter_s)
