"""The words for intervals, times of day and cron lines: what is read, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.schedule.at_text import read_at
from agent.domain.schedule.catching_up import walk
from agent.domain.schedule.cron import read_cron
from agent.domain.schedule.local import LocalRule
from agent.domain.schedule.rules import OnTheClock
from agent.domain.schedule.spans import read_every_s, read_span_s

MONDAY = datetime(2026, 3, 2)
DAY_S = 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15m", 900), ("5 minutes", 300), ("every 5 minutes", 300), ("Every 5 Mins", 300),
        ("3 days and 4 hours", 273_600), ("3 days, 4 hours", 273_600), ("2 days", 172_800),
        ("1h30m", 5400), ("1.5 hours", 5400), ("90", 90), ("an hour", 3600), ("hour", 3600),
        ("every day", DAY_S), ("every other day", 2 * DAY_S), ("half an hour", 1800),
        ("PT15M", 900), ("P1DT12H", 129_600), ("P2W", 1_209_600), ("two weeks", 1_209_600),
        ("2000ms", 2), ("1 s", 1),
    ],
)  # fmt: skip
def test_intervals(text: str, seconds: float) -> None:
    assert read_every_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not a length of time"), ("soon", "'soon' is not understood"),
        ("1 month", "write a cron line"), ("every 2 years", "write a cron line"),
        ("500 ms", "shorter than a second"), ("0", "shorter than a second"),
        ("1.5 s", "whole number of seconds"), ("5 minutes 3", "a number without a unit"),
        ("5 3 minutes", "a number without a unit"), ("5 minutes hours", "a unit without a number"),
        ("-5 minutes", "'-' is not understood"), ("999999999 days", "a century"),
        ("5 minutes at 10:15", "not understood"), ("9" * 200, "at most 128"), ("٥ minutes", "not"),
    ],
)  # fmt: skip
def test_what_is_no_interval_is_refused_with_what_is(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_every_s(text)


def test_a_span_may_be_nothing_an_interval_not() -> None:
    assert read_span_s("0s") == 0


def on(local: LocalRule, number: int, since: datetime = MONDAY) -> list[str]:
    rule = OnTheClock(local, UTC)
    start = since.replace(tzinfo=UTC)
    found = islice(walk(rule, start, start + timedelta(days=4000)), number)
    return [f"{moment:%a %m-%d %H:%M:%S}".removesuffix(":00") for moment in found]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("10:15 am", ["Mon 03-02 10:15", "Tue 03-03 10:15"]),
        ("at 10:15 am", ["Mon 03-02 10:15", "Tue 03-03 10:15"]),
        ("at 10:15 AM", ["Mon 03-02 10:15", "Tue 03-03 10:15"]),
        ("22:15", ["Mon 03-02 22:15"]),
        ("at 22:15:30", ["Mon 03-02 22:15:30"]),
        ("10 p.m.", ["Mon 03-02 22:00"]),
        ("12 am", ["Mon 03-02 00:00"]),
        ("at 12:00 pm", ["Mon 03-02 12:00"]),
        ("noon", ["Mon 03-02 12:00"]),
        ("midnight", ["Mon 03-02 00:00"]),
        ("at 5:00,10:00", ["Mon 03-02 05:00", "Mon 03-02 10:00", "Tue 03-03 05:00"]),
        ("at 05:00 and 10:00", ["Mon 03-02 05:00", "Mon 03-02 10:00"]),
        ("at 10:15 am also at 5:15pm except on Tuesday",
         ["Mon 03-02 10:15", "Mon 03-02 17:15", "Wed 03-04 10:15"]),
        ("monday at 10:15", ["Mon 03-02 10:15", "Mon 03-09 10:15"]),
        ("at 10:15 on mondays", ["Mon 03-02 10:15", "Mon 03-09 10:15"]),
        ("every monday and friday at 8:00", ["Mon 03-02 08:00", "Fri 03-06 08:00"]),
        ("tues, thur-sat at 8:00", ["Tue 03-03 08:00", "Thu 03-05 08:00", "Fri 03-06 08:00"]),
        ("fri-mon", ["Mon 03-02 00:00", "Fri 03-06 00:00", "Sat 03-07 00:00"]),
        ("at 10:15am every weekday", ["Mon 03-02 10:15", "Tue 03-03 10:15"]),
        ("every weekend at noon", ["Sat 03-07 12:00", "Sun 03-08 12:00"]),
        ("every day at 8:00 except weekends", ["Mon 03-02 08:00", "Tue 03-03 08:00"]),
        ("every 2 days at 10:15", ["Mon 03-02 10:15", "Wed 03-04 10:15"]),
        ("every other day at 10:15", ["Mon 03-02 10:15", "Wed 03-04 10:15"]),
        ("every 100 days at 10:15", ["Mon 03-02 10:15", "Wed 06-10 10:15"]),
        ("every day except sunday at 8:00", ["Mon 03-02 08:00", "Tue 03-03 08:00"]),
        ("at 10:15am on the 15th day", ["Sun 03-15 10:15", "Wed 04-15 10:15"]),
        ("on the 1st and 15th at 6:00", ["Sun 03-15 06:00", "Wed 04-01 06:00"]),
        ("on the last day of the month", ["Tue 03-31 00:00", "Thu 04-30 00:00"]),
        ("at 11:11am on the 11th day of November", ["Wed 11-11 11:11", "Thu 11-11 11:11"]),
        ("at 10:15am on the last friday of the month", ["Fri 03-27 10:15", "Fri 04-24 10:15"]),
        ("third friday at 9:00", ["Fri 03-20 09:00", "Fri 04-17 09:00"]),
        ("first monday of every month at 4:00", ["Mon 03-02 04:00", "Mon 04-06 04:00"]),
        ("last weekday of the month at 18:00",
         ["Tue 03-31 18:00", "Thu 04-30 18:00", "Fri 05-29 18:00"]),
        ("5th weekday at 9:00", ["Fri 03-06 09:00", "Tue 04-07 09:00", "Thu 05-07 09:00"]),
        ("first weekday",
         ["Mon 03-02 00:00", "Wed 04-01 00:00", "Fri 05-01 00:00", "Mon 06-01 00:00"]),
        ("at 2:10pm and 2:44pm on Wed of March", ["Wed 03-04 14:10", "Wed 03-04 14:44"]),
        ("29th day of february", ["Tue 02-29 00:00", "Sun 02-29 00:00"]),
    ],
)  # fmt: skip
def test_times_of_day(text: str, first: list[str]) -> None:
    assert on(read_at(text).local_rule(MONDAY.date()), len(first)) == first


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "says nothing"), ("at", "names no time"), ("25:00", "there is no 25:00"),
        ("10:60", "there is no 10:60"), ("13 pm", "there is no 13 pm"), ("0 am", "there is no 0"),
        ("at 10", "write 10:00"), ("someday", "'someday' is not understood"),
        ("every 5 minutes", "'every 5 minutes' is not understood"),
        ("every 1 min after 2:00pm and before 3:00pm", "not understood"),
        ("at 10:15 am in 2013", "'2013' is not understood"), ("every 5th day", "not understood"),
        ("monday and the 15th at 9:00", "names its days in two ways"),
        ("31st day of april", "never happens"), ("32nd day", "no month has a day 32"),
        ("6th monday", "no month has a 6th monday"), ("15th-20th", "'-' is not understood"),
        ("10:15 {}", "'{' is not understood"), ("x" * 300, "at most 256"),
        ("every day except mon-sun", "never happens"), ("mon-", "missing"),
        ("monday at 10:15 and tuesday at 11:00", "different times on different days"),
        ("6:00 on the 1st and noon on the 15th", "different times on different days"),
        ("every day at 8:00 except at 9:00", "a time cannot be excepted"),
        ("8:00 except in march", "'march' cannot be excepted"),
        ("8:00 except on the 1st", "'1st' cannot be excepted"),
        ("8:00 except first monday", "'first' cannot be excepted"),
        ("8:00 except every 2 days", "'every 2 days' cannot be excepted"),
        ("8:00 except", "'except' is not understood"), ("every 367 days", "every 367 days"),
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_what_is(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_at(text)


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("*/15 * * * *", ["Mon 03-02 00:00", "Mon 03-02 00:15"]),
        ("5-5/10,50 0 * * MON-MON/2", ["Mon 03-02 00:05", "Mon 03-02 00:50", "Mon 03-09 00:05"]),
        ("30 */10 * * * *", ["Mon 03-02 00:00:30", "Mon 03-02 00:10:30"]),
        ("0 0 L * *", ["Tue 03-31 00:00", "Thu 04-30 00:00"]),
        ("0 0 LW * *", ["Tue 03-31 00:00", "Thu 04-30 00:00"]),
        ("0 0 * * 5L", ["Fri 03-27 00:00", "Fri 04-24 00:00"]),
        ("0 9 * * MON#2", ["Mon 03-09 09:00", "Mon 04-13 09:00"]),
        ("0 9 ? jan-mar/2 MON-FRI", ["Mon 03-02 09:00", "Tue 03-03 09:00"]),
        ("0 0 13 * 5", ["Fri 03-06 00:00", "Fri 03-13 00:00"]),
        ("0 0 13 * */5", ["Fri 03-13 00:00", "Sun 09-13 00:00"]),  # a star: both must match
        ("0 0 29 2 *", ["Tue 02-29 00:00", "Sun 02-29 00:00"]),
        ("@daily", ["Mon 03-02 00:00", "Tue 03-03 00:00"]),
        ("@WEEKLY", ["Sun 03-08 00:00"]),
    ],
)  # fmt: skip
def test_cron_lines(line: str, first: list[str]) -> None:
    assert on(read_cron(line), len(first)) == first


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("* * * *", "has 4 fields"), ("* * * * * * *", "has 7 fields"), ("", "has 0 fields"),
        ("60 * * * *", r"bad minute \(0-59\)"), ("* 24 * * *", "bad hour"),
        ("* * 32 * *", "bad day of the month"), ("* * * 13 *", "bad month"),
        ("* * * * 8", "bad day of the week"), ("61 * * * * *", "bad second"),
        ("*/0 * * * *", "bad minute"), ("5-1 * * * *", "bad minute"), ("a * * * *", "bad minute"),
        ("0 0 30 2 *", "never happens"), ("0 0 31 4,6 *", "never happens"),
        ("* * */20 * 1L", "never happens"), ("0 0 32 2 *", "bad day of the month"),
        ("@reboot", "is not one of @yearly"), ("0 0 * * * " + "1" * 300, "at most 256"),
        ("0 0 * * " + "9" * 100, "bad day of the week"),
    ],
)  # fmt: skip
def test_bad_cron_lines_name_the_field(line: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_cron(line)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    pair = st.tuples(number, number).map(lambda p: f"{min(p)}-{max(p)}")
    longer = pair.filter(lambda text: len(set(text.split("-"))) == 2)  # cronsim has 5-5/10 wrong
    one = st.one_of(
        st.just("*"), number.map(str), pair, st.integers(1, 20).map(lambda n: f"*/{n}"),
        st.tuples(longer, st.integers(1, 9)).map(lambda p: f"{p[0]}/{p[1]}"),
    )  # fmt: skip
    listed = st.lists(st.one_of(number.map(str), pair), min_size=2, max_size=4).map(",".join)
    return st.one_of(one, listed)


DAYS = st.one_of(_field(1, 28), st.sampled_from(["L", "LW", "31", "1,L"]))
WEEKDAYS = st.one_of(_field(0, 7), st.sampled_from(["5L", "MON#1", "SAT#5", "MON-FRI"]))
LINES = st.tuples(
    st.one_of(st.just(""), _field(0, 59)), _field(0, 59), _field(0, 23), DAYS, _field(1, 12),
    WEEKDAYS,
).map(lambda parts: " ".join(parts).strip())  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(LINES, st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1)))
def test_where_no_clock_changes_our_walk_is_cronsims(line: str, since: datetime) -> None:
    try:
        local = read_cron(line)
    except ValueError:
        return  # no such day; said so above
    since = since.replace(microsecond=0)
    theirs = list(islice(CronSim(line, since), 12))
    rule = OnTheClock(local, UTC)
    start = since.replace(tzinfo=UTC) + timedelta(seconds=1)
    ours = list(islice(walk(rule, start, start + timedelta(days=200_000)), len(theirs)))
    assert [moment.replace(tzinfo=None) for moment in ours] == theirs
    if ours:
        assert rule.count(start, ours[-1]) == len(ours) - 1
        assert rule.before(ours[-1] + timedelta(seconds=1)) == ours[-1]
