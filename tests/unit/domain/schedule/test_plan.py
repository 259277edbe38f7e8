"""What falls due, what was missed and why, what comes next: one turn at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from agent.domain.instants import format_instant
from agent.domain.schedule.recurrence import (
    RUNS_PER_PLAN_MAX,
    Plan,
    Planned,
    State,
    Why,
    completed,
    first_state,
    following,
    jitter_offset_s,
    occurrence_id,
    occurrences_between,
    plan,
    ran,
    upcoming,
)
from agent.domain.schedule.spec import CatchUp, CatchUpMode, CountFrom, Schedule

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # a Monday
SKIP, ALL = CatchUp(mode=CatchUpMode.SKIP), CatchUp(mode=CatchUpMode.ALL)
HOURLY = Schedule(cron="0 * * * *")
FOREVER = datetime.max.replace(tzinfo=UTC)


def at(text: str) -> datetime:
    """`12:30` on the first day, `+1 12:30` on the day after."""
    days, _, clock = text.rpartition(" ")
    hour, minute, *second = (int(part) for part in clock.split(":"))
    moment = NOW.replace(hour=hour, minute=minute, second=second[0] if second else 0)
    return moment + timedelta(days=int(days or 0))


def turn(schedule: Schedule, now: datetime, state: State | None = None, **more: Any) -> Plan:
    state = state or first_state(schedule, NOW, more.get("not_before"))
    return plan(schedule, state, now, zone="UTC", **({"since": NOW} | more))


def nominals(planned: Plan) -> list[datetime]:
    return [run.nominal_at for run in planned.runs]


def test_nothing_is_due_before_its_time_and_the_next_is_told() -> None:
    planned = turn(HOURLY, at("12:30"), since=at("12:00:01"))
    assert (planned.runs, planned.missed, planned.exhausted) == ((), (), None)
    assert planned.next == Planned(nominal_at=at("13:00"), starts_at=at("13:00"))
    assert planned.last_nominal_at is None


def test_what_is_at_most_a_minute_late_is_simply_due() -> None:
    planned = turn(HOURLY, at("13:01"), State(anchor_at=NOW, last_nominal_at=NOW))
    assert planned.runs == (Planned(nominal_at=at("13:00"), starts_at=at("13:00")),)
    assert not planned.missed
    assert planned.after == State(anchor_at=NOW, last_nominal_at=at("13:00"), run_count=1)
    assert planned.next is not None
    assert planned.next.nominal_at == at("14:00")


@pytest.mark.parametrize(
    ("catch_up", "runs", "missed"),
    [
        (SKIP, ["+2 12:00"], [("13:00", "+2 11:00", 47, Why.POLICY)]),
        (CatchUp(), ["+2 12:00"],
         [("13:00", "+1 11:00", 23, Why.AGE), ("+1 12:00", "+2 11:00", 24, Why.POLICY)]),
        (CatchUp(mode=CatchUpMode.ALL, max_age_s=3 * 3600, max_count=9),
         ["+2 09:00", "+2 10:00", "+2 11:00", "+2 12:00"], [("13:00", "+2 08:00", 44, Why.AGE)]),
        (CatchUp(mode=CatchUpMode.ALL, max_count=2),
         ["+2 10:00", "+2 11:00", "+2 12:00"],
         [("13:00", "+1 11:00", 23, Why.AGE), ("+1 12:00", "+2 09:00", 22, Why.COUNT)]),
    ],
)  # fmt: skip
def test_after_two_days_down_the_policy_decides_and_every_instant_is_told(
    catch_up: CatchUp, runs: list[str], missed: list[tuple[str, str, int, Why]]
) -> None:
    schedule = Schedule(cron="0 * * * *", catch_up=catch_up)
    state = State(anchor_at=NOW, last_nominal_at=NOW)
    planned = turn(schedule, at("+2 12:00"), state)
    assert nominals(planned) == [at(text) for text in runs]
    assert [run.catch_up for run in planned.runs] == [True] * (len(runs) - 1) + [False]
    assert [(m.first, m.last, m.count, m.cause) for m in planned.missed] == [
        (at(first), at(last), count, cause) for first, last, count, cause in missed
    ]
    assert all(m.counted_all and m.why for m in planned.missed)
    assert planned.last_nominal_at == at("+2 12:00")


def test_latest_runs_the_latest_missed_one_where_none_is_on_time() -> None:
    planned = turn(HOURLY, at("15:30"), State(anchor_at=NOW, last_nominal_at=NOW))
    assert [(run.nominal_at, run.catch_up) for run in planned.runs] == [(at("15:00"), True)]
    assert [(m.first, m.last, m.count) for m in planned.missed] == [(at("13:00"), at("14:00"), 2)]


def test_a_storm_of_misses_is_counted_not_walked() -> None:
    every_second = Schedule(cron="* * * * * *", catch_up=SKIP)
    planned = turn(
        every_second, NOW + timedelta(days=3650), State(anchor_at=NOW, last_nominal_at=NOW)
    )
    assert [m.count for m in planned.missed] == [3650 * 86_400 - 1]
    assert len(planned.runs) == 1


TICKS = (10, 30, 59, 75)


@pytest.mark.parametrize("seconds", TICKS)
def test_only_the_newest_is_simply_due_and_latest_folds_the_others(seconds: int) -> None:
    state = State(anchor_at=NOW, last_nominal_at=NOW)
    planned = turn(Schedule(every="1s"), NOW + timedelta(seconds=seconds), state)
    newest = NOW + timedelta(seconds=seconds)
    assert [(run.nominal_at, run.catch_up) for run in planned.runs] == [(newest, False)]
    assert [(m.count, m.cause) for m in planned.missed] == [(seconds - 1, Why.POLICY)]
    assert format_instant(newest) in planned.missed[0].why, "which one runs instead"
    assert planned.after.run_count == 1


def test_skip_runs_the_newest_only_if_it_is_simply_due() -> None:
    state = State(anchor_at=NOW, last_nominal_at=NOW)
    schedule = Schedule(cron="0,20 * * * * *", catch_up=SKIP)
    on_time = turn(schedule, at("12:02:30"), state)
    assert nominals(on_time) == [at("12:02:20")]
    assert [m.count for m in on_time.missed] == [4]
    late = turn(Schedule(cron="0 * * * *", catch_up=SKIP), at("15:01:01"), state)
    assert (late.runs, [m.count for m in late.missed]) == ((), [3])


def test_all_runs_the_earlier_ones_as_late_and_then_the_newest() -> None:
    state = State(anchor_at=NOW, last_nominal_at=NOW)
    planned = turn(Schedule(every="4s", catch_up=ALL), at("12:00:21"), state)
    assert [(run.nominal_at.second, run.catch_up) for run in planned.runs] == [
        (4, True), (8, True), (12, True), (16, True), (20, False),
    ]  # fmt: skip
    assert not planned.missed


def test_the_newest_never_comes_alone_behind_what_is_caught_up() -> None:
    schedule = Schedule(every="1s", catch_up=CatchUp(mode=CatchUpMode.ALL, max_count=1000))
    now = NOW + timedelta(seconds=RUNS_PER_PLAN_MAX + 1)
    first = turn(schedule, now, State(anchor_at=NOW, last_nominal_at=NOW))
    rest = turn(schedule, now, first.after)
    assert (len(first.runs), len(rest.runs)) == (RUNS_PER_PLAN_MAX - 1, 2)
    assert [run.catch_up for run in rest.runs] == [True, False]


def test_more_runs_than_one_transaction_bears_are_left_to_the_next_call() -> None:
    schedule = Schedule(cron="* * * * *", catch_up=CatchUp(mode=CatchUpMode.ALL, max_count=250))
    state, now, seen = State(anchor_at=NOW, last_nominal_at=NOW), at("22:00:30"), []
    for size in (RUNS_PER_PLAN_MAX, RUNS_PER_PLAN_MAX, 51, 0):
        planned = turn(schedule, now, state)
        assert len(planned.runs) == size
        assert planned.next is not None
        assert (planned.next.starts_at <= now) == (size == RUNS_PER_PLAN_MAX)
        seen += nominals(planned)
        state = planned.after
    assert seen == [at("17:50") + timedelta(minutes=n) for n in range(251)]


def test_a_window_that_has_ended_is_missed_whatever_the_policy() -> None:
    schedule = Schedule(cron="0 * * * *", duration_s=1800, catch_up=ALL)
    state = State(anchor_at=NOW, last_nominal_at=NOW)
    planned = turn(schedule, at("15:30"), state)
    assert planned.runs == ()
    assert [(m.count, m.cause) for m in planned.missed] == [(3, Why.WINDOW)]
    planned = turn(schedule, at("15:29"), state)
    assert [(run.nominal_at, run.ends_at) for run in planned.runs] == [(at("15:00"), at("15:30"))]


def test_a_window_shorter_than_our_lateness_counts_too() -> None:
    schedule = Schedule(cron="0 * * * *", duration_s=10)
    planned = turn(schedule, at("13:00:20"), State(anchor_at=NOW, last_nominal_at=NOW))
    assert (planned.runs, planned.missed[0].cause) == ((), Why.WINDOW)


def test_overnight_windows_and_windows_longer_than_the_interval() -> None:
    night = turn(Schedule(at="22:00", duration_s=8 * 3600), at("22:00"))
    assert night.runs[0].ends_at == at("+1 06:00")
    both = turn(Schedule(cron="0 * * * *", duration_s=7200, catch_up=ALL), at("14:30"))
    assert [run.ends_at for run in both.runs] == [at("14:00"), at("15:00"), at("16:00")][1:]


def test_jitter_moves_the_start_not_the_end_and_nothing_starts_before_it() -> None:
    schedule = Schedule(cron="0 * * * *", duration_s=1800, jitter_s=600)
    state = State(anchor_at=NOW, last_nominal_at=NOW)
    assert turn(schedule, at("13:04"), state, offset_s=300).runs == ()
    planned = turn(schedule, at("13:05"), state, offset_s=300)
    assert planned.runs == (
        Planned(nominal_at=at("13:00"), starts_at=at("13:05"), ends_at=at("13:30")),
    )


def test_from_date_to_date_and_ends_at_bound_a_rule() -> None:
    schedule = Schedule(cron="0 * * * *", ends_at=at("15:00"))
    planned = turn(schedule, at("12:30"), not_before=at("13:30"))
    assert planned.next is not None
    assert planned.next.nominal_at == at("14:00")
    last = turn(schedule, at("15:00"), State(anchor_at=NOW, last_nominal_at=at("14:00")))
    assert (nominals(last), last.exhausted, last.next) == ([at("15:00")], "ends_at", None)
    over = turn(
        HOURLY,
        at("13:30"),
        State(anchor_at=NOW, last_nominal_at=at("13:00")),
        not_after=at("14:00"),
    )
    assert over.exhausted == "to_date"


def test_after_to_date_what_was_missed_is_told_and_not_run() -> None:
    planned = turn(
        HOURLY, at("15:30"), State(anchor_at=NOW, last_nominal_at=NOW), not_after=at("15:00")
    )
    assert (planned.runs, planned.exhausted) == ((), "to_date")
    assert [(m.last, m.count, m.cause) for m in planned.missed] == [(at("14:00"), 2, Why.WINDOW)]


def test_a_window_ends_with_to_date_at_the_latest() -> None:
    planned = turn(Schedule(at="22:00", duration_s=8 * 3600), at("22:00"), not_after=at("23:00"))
    assert planned.runs[0].ends_at == at("23:00")


def test_max_runs_counts_runs_only() -> None:
    schedule = Schedule(cron="0 * * * *", max_runs=2, catch_up=SKIP)
    planned = turn(schedule, at("15:00"), State(anchor_at=NOW, last_nominal_at=NOW))
    assert (planned.after.run_count, planned.exhausted) == (1, None)
    planned = turn(schedule, at("16:00"), planned.after)
    assert (len(planned.runs), planned.exhausted, planned.next) == (1, "max_runs", None)
    assert turn(schedule, at("17:00"), planned.after).exhausted == "max_runs"


def test_a_past_date_is_told_as_missed_and_a_recent_one_is_caught_up() -> None:
    long_ago = turn(Schedule(date=NOW - timedelta(days=9)), NOW)
    assert [(m.count, m.cause) for m in long_ago.missed] == [(1, Why.AGE)]
    assert (long_ago.runs, long_ago.exhausted) == ((), "once")
    recent = turn(Schedule(date=NOW - timedelta(hours=1)), NOW)
    assert (len(recent.runs), recent.exhausted) == (1, "once")
    assert turn(Schedule(date=NOW - timedelta(hours=1)), NOW, recent.after).runs == ()


def test_a_delay_alone_runs_once_after_it() -> None:
    schedule = Schedule(delay_s=90)
    waiting = turn(schedule, NOW)
    assert waiting.next is not None
    assert waiting.next.nominal_at == at("12:01:30")
    assert turn(schedule, at("12:02")).exhausted == "once"


def test_where_an_interval_starts() -> None:
    half = NOW + timedelta(milliseconds=500)

    def first(schedule: Schedule, **more: Any) -> datetime | None:
        state = first_state(schedule, half, more.get("not_before"))
        coming = turn(schedule, half, state, since=half, **more).next
        return coming.nominal_at if coming is not None else None

    assert first(Schedule(every="5 minutes")) == at("12:05:01")  # whole seconds, one interval later
    assert first(Schedule(every="5 minutes"), not_before=at("12:30")) == at("12:30")
    assert first(Schedule(every="5 minutes", delay_s=10)) == at("12:00:11")
    assert first(Schedule(every="5 minutes", date=at("13:00"))) == at("13:00")
    assert first(Schedule(cron="* * * * *", delay_s=3600)) == at("13:01")
    assert first(Schedule(cron="* * * * *", date=at("14:00:30"))) == at("14:01")


def test_an_interval_is_elapsed_time_across_a_clock_change() -> None:
    eve = datetime(2026, 3, 28, 12, tzinfo=UTC)
    found = upcoming(
        Schedule(every="1 day", timezone="Europe/Berlin"),
        State(anchor_at=eve), eve, eve + timedelta(days=3), zone="UTC",
    )  # fmt: skip
    assert [run.nominal_at.hour for run in found] == [12, 12, 12]


def test_an_old_from_date_does_not_make_a_flood() -> None:
    old = NOW - timedelta(days=2000, minutes=7)
    schedule = Schedule(every="15m")
    planned = turn(schedule, NOW, first_state(schedule, NOW, old), not_before=old)
    assert not planned.missed
    assert planned.next is not None
    assert planned.next.nominal_at == at("12:08")


def test_a_clock_set_back_repeats_nothing() -> None:
    state = State(anchor_at=NOW, last_nominal_at=at("15:00"), run_count=3)
    planned = turn(HOURLY, at("13:30"), state)
    assert (planned.runs, planned.missed) == ((), ())
    assert planned.next is not None
    assert planned.next.nominal_at == at("16:00")


def test_counted_from_completion_the_end_says_when() -> None:
    schedule = Schedule(every="10m", count_from=CountFrom.COMPLETION)
    first = turn(schedule, at("12:10"))
    assert nominals(first) == [at("12:10")]
    assert first.next is None
    running = turn(schedule, at("14:00"), first.after)
    assert (running.runs, running.missed, running.next, running.exhausted) == ((), (), None, None)
    assert not list(upcoming(schedule, first.after, NOW, at("+1 12:00"), zone="UTC"))
    ended = completed(schedule, first.after, at("14:00") + timedelta(milliseconds=1))
    again = turn(schedule, at("14:01"), ended)
    assert again.next is not None
    assert again.next.nominal_at == at("14:10:01")
    assert len(list(upcoming(schedule, ended, NOW, at("+1 12:00"), zone="UTC"))) == 1


def test_completion_with_a_clock_set_back_does_not_stop_the_rule() -> None:
    schedule = Schedule(every="10m", count_from=CountFrom.COMPLETION)
    state = completed(schedule, turn(schedule, at("12:10")).after, at("11:00"))
    planned = turn(schedule, at("11:00"), state)
    assert planned.next is not None
    assert planned.next.nominal_at == at("12:20")


def test_counted_from_completion_misses_go_on_by_the_grid() -> None:
    schedule = Schedule(every="10m", count_from=CountFrom.COMPLETION, catch_up=SKIP)
    planned = turn(schedule, at("13:15"))
    assert (planned.runs, [m.count for m in planned.missed]) == ((), [7])
    assert planned.next is not None
    assert planned.next.nominal_at == at("13:20")
    latest = turn(Schedule(every="10m", count_from=CountFrom.COMPLETION), at("13:15"))
    assert (nominals(latest), [m.count for m in latest.missed]) == ([at("13:10")], [6])
    assert latest.next is None
    assert nominals(turn(schedule, at("13:20"), planned.after)) == [at("13:20")]


@pytest.mark.parametrize(
    ("words", "from_date", "first"),
    [
        ({}, None, "12:10"),
        ({}, NOW, "12:00"),
        ({"delay_s": 0.0}, None, "12:00"),
        ({"delay_s": 60.0}, None, "12:01"),
        ({"delay_s": 0.0}, at("12:05"), "12:05"),
        ({"date": at("12:03")}, None, "12:03"),
    ],
)
def test_however_it_begins_completion_waits_for_each_end_and_then_an_interval(
    words: dict[str, Any], from_date: datetime | None, first: str
) -> None:
    schedule = Schedule(every="10m", count_from=CountFrom.COMPLETION, **words)
    begun = turn(schedule, at(first), not_before=from_date)
    assert nominals(begun) == [at(first)]
    running = turn(schedule, at("14:00"), begun.after, not_before=from_date)
    assert (running.runs, running.missed, running.next, running.exhausted) == ((), (), None, None)
    day = (NOW, at("+1 12:00"))
    assert not list(upcoming(schedule, begun.after, *day, zone="UTC", not_before=from_date))
    for ended_at in (at(first), at("14:00")):  # one that took no time at all, too
        state = completed(schedule, begun.after, ended_at)
        coming = turn(schedule, ended_at, state, not_before=from_date).next
        assert coming is not None
        assert coming.nominal_at == ended_at + timedelta(minutes=10)


@pytest.mark.parametrize(
    ("words", "from_date", "coming"),
    [({}, NOW, "13:20"), ({"delay_s": 0.0}, None, "13:20"), ({"date": NOW}, None, "13:20")],
)
def test_however_it_begins_misses_do_not_stop_what_counts_from_completion(
    words: dict[str, Any], from_date: datetime | None, coming: str
) -> None:
    schedule = Schedule(every="10m", count_from=CountFrom.COMPLETION, catch_up=SKIP, **words)
    last = None
    for late in ("12:05", "13:15"):
        planned = turn(schedule, at(late), not_before=from_date)
        assert (planned.runs, len(planned.missed)) == ((), 1)
        last = planned.next
        assert last is not None
        again = turn(schedule, last.starts_at, planned.after, not_before=from_date)
        assert nominals(again) == [last.nominal_at]
    assert last is not None
    assert last.nominal_at == at(coming)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(date=FOREVER, duration_s=100, jitter_s=50),
        Schedule(every="1 d", date=FOREVER, duration_s=100),
        Schedule(cron="* * * * *", ends_at=FOREVER, delay_s=3600),
        Schedule(date=datetime(1, 1, 1, tzinfo=UTC), duration_s=100, jitter_s=50),
        Schedule(every="1 d", delay_s=60),
        Schedule(at="every 2 days at 5:00", timezone="Asia/Kolkata"),
        Schedule(at="every 2 days at 5:00", timezone="America/New_York"),
    ],
)
@pytest.mark.parametrize("from_date", [None, datetime(1, 1, 1, tzinfo=UTC), FOREVER])
def test_the_ends_of_the_calendar_are_dates_like_others(
    schedule: Schedule, from_date: datetime | None
) -> None:
    """`9999-12-31` is how people write "never"; `0001-01-01` is many a program's "no date"."""
    limits: dict[str, Any] = {"offset_s": 40.0, "not_before": from_date}
    planned = turn(schedule, NOW, first_state(schedule, NOW, from_date), **limits)
    assert not planned.runs
    runs = islice(upcoming(schedule, planned.after, NOW, FOREVER, zone="UTC", **limits), 3)
    assert all(run.starts_at > NOW for run in runs)


def test_a_date_before_1970_is_told_as_missed_too() -> None:
    planned = turn(Schedule(date=datetime(1, 1, 1, tzinfo=UTC)), NOW)
    assert ([m.count for m in planned.missed], planned.exhausted) == ([1], "once")


def test_after_another_action_follows_its_end() -> None:
    schedule = Schedule(after="backup", delay_s=60, max_runs=2)
    state = first_state(schedule, NOW, None)
    assert turn(schedule, at("15:00"), state).next is None
    one = following(schedule, state, at("13:00"))
    assert one == Planned(nominal_at=at("13:01"), starts_at=at("13:01"))
    state = ran(state, one)
    two = following(schedule, state, at("12:00"))  # the clock was set back
    assert two is not None
    assert two.nominal_at > one.nominal_at
    state = ran(state, two)
    assert following(schedule, state, at("16:00")) is None
    assert turn(schedule, at("16:00"), state).exhausted == "max_runs"
    assert turn(Schedule(after="x"), at("16:00"), not_after=at("15:00")).exhausted == "to_date"


def test_the_forecast_is_the_plan() -> None:
    schedule = Schedule(cron="30 2 * * *", timezone="Europe/Berlin", max_runs=5)
    begin = datetime(2026, 3, 27, tzinfo=UTC)
    state = State(anchor_at=begin, run_count=2)
    seen = list(
        upcoming(schedule, state, begin, begin + timedelta(days=30), zone="UTC", offset_s=60)
    )
    assert [f"{run.starts_at:%d %H:%M}" for run in seen] == ["27 01:31", "28 01:31", "29 01:01"]
    for run in seen:
        planned = plan(schedule, state, run.starts_at, zone="UTC", offset_s=60, since=begin)
        assert planned.runs == (run,)
        state = planned.after
    assert state.run_count == 5


def test_a_backfill_finds_past_instants_of_every_form() -> None:
    day = (at("-3 00:00"), at("-2 00:00"))
    assert len(list(occurrences_between(HOURLY, NOW, *day, zone="UTC"))) == 24
    assert len(list(occurrences_between(Schedule(every="6h"), NOW, *day, zone="UTC"))) == 4
    assert list(occurrences_between(Schedule(date=day[0]), NOW, *day, zone="UTC")) == [day[0]]
    assert list(occurrences_between(Schedule(date=day[1]), NOW, *day, zone="UTC")) == []


def test_names_and_offsets_of_occurrences() -> None:
    assert occurrence_id("nightly", NOW) == "nightly@2026-03-02T12:00:00Z"
    assert occurrence_id("nightly", NOW, 2) == "nightly@2026-03-02T12:00:00Z.b2"
    assert jitter_offset_s("n1", "nightly", None) == 0
    offsets = {jitter_offset_s(f"n{n}", "nightly", 600) for n in range(200)}
    assert len(offsets) > 190
    assert all(0 <= offset < 600 for offset in offsets)
    assert jitter_offset_s("n1", "nightly", 600) == 182.795
