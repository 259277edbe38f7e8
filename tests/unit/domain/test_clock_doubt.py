"""Whether the wall clock may be believed: the table of what was seen and what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.domain.clock_doubt import (
    DOUBT_S_MAX,
    Belief,
    CoreDate,
    Mark,
    Reading,
    Settled,
    decode_mark,
    encode_mark,
    judge,
    moment,
)
from tests.unit.domain.builders import NOW, after

HOUR = 3600.0
MARK = Mark(wall=NOW, boottime_s=1000.0, boot_id="b1")
BELIEVED = Belief(mark=MARK, last=MARK)


def reading(wall_s: float, spent_s: float, **fields: Any) -> Reading:
    """What the machine says `spent_s` after the mark, its wall clock `wall_s` after it."""
    values: dict[str, Any] = {"boot_id": "b1", "synchronised": False} | fields
    return Reading(wall=after(wall_s), boottime_s=1000.0 + spent_s, **values)


@pytest.mark.parametrize(
    ("seen", "doubtful"),
    [
        (reading(10, 10), False),
        (reading(-4, 0), False),  # a small step back
        (reading(-6, 0), True),
        (reading(-HOUR, HOUR), True),
        (reading(60, 2 * HOUR), False),  # set back, but not below what was believed
        (reading(HOUR - 1, 0), False),
        (reading(HOUR + 10, 5), True),
        (reading(30 * 24 * HOUR, 30 * 24 * HOUR), False),  # suspended for a month
        (reading(30 * 24 * HOUR, 0, boot_id="b2"), False),  # switched off for a month, perhaps
        (reading(-6, 0, boot_id="b2"), True),  # no battery for its clock
        (reading(-HOUR, 0, synchronised=True), False),
        (reading(9 * HOUR, 0, synchronised=True), False),
    ],
)
def test_when_it_is_in_doubt(seen: Reading, doubtful: bool) -> None:
    found = judge(BELIEVED, seen)
    assert (found.doubt is not None) is doubtful
    assert found.mark == (MARK if doubtful else found.last)


def test_without_a_mark_every_clock_is_believed() -> None:
    first = judge(Belief(), reading(-50 * 365 * 24 * HOUR, 0))
    assert first.doubt is None
    assert first.mark is not None


def test_the_kernel_settles_it() -> None:
    doubted = judge(BELIEVED, reading(5 * HOUR, 1))
    assert doubted.doubt is not None
    assert "5.0 h more" in doubted.doubt.why
    settled = judge(doubted, reading(5 * HOUR + 20, 21, synchronised=True))
    assert (settled.doubt, settled.settled) == (None, Settled.SYNCHRONISED)


@pytest.mark.parametrize(("core_s", "settled"), [(5 * HOUR + 2, True), (12.0, False)])
def test_the_core_settles_it_if_it_agrees(core_s: float, settled: bool) -> None:
    doubted = judge(BELIEVED, reading(5 * HOUR, 0))
    heard = CoreDate(wall=after(core_s), boottime_s=1000.0 + 10)
    found = judge(doubted, reading(5 * HOUR + 30, 30), heard)
    assert (found.settled is Settled.CORE) is settled
    assert (found.doubt is None) is settled


def test_a_clock_that_is_put_right_is_believed_at_once() -> None:
    doubted = judge(BELIEVED, reading(-9 * HOUR, 5))
    found = judge(doubted, reading(20, 20))
    assert (found.doubt, found.settled) == (None, Settled.PLAUSIBLE)


def test_after_ten_minutes_work_goes_on_and_the_new_time_is_the_measure() -> None:
    doubted = judge(BELIEVED, reading(-9 * HOUR, 5))
    assert doubted.doubt is not None
    almost = judge(doubted, reading(-9 * HOUR + DOUBT_S_MAX - 1, 5 + DOUBT_S_MAX - 1))
    assert almost.doubt == doubted.doubt
    found = judge(almost, reading(-9 * HOUR + DOUBT_S_MAX, 5 + DOUBT_S_MAX))
    assert (found.doubt, found.settled) == (None, Settled.TIME_PASSED)
    later = judge(found, reading(-9 * HOUR + DOUBT_S_MAX + 60, 65 + DOUBT_S_MAX))
    assert (later.doubt, later.settled) == (None, None)


def test_a_step_is_measured_against_the_last_reading_believed_or_not() -> None:
    forth = judge(BELIEVED, reading(5 * HOUR + 2, 2))
    assert forth.stepped_s == pytest.approx(5 * HOUR)
    still = judge(forth, reading(5 * HOUR + 3, 3))
    assert still.stepped_s == 0.0
    back = judge(still, reading(4, 4))
    assert back.stepped_s == pytest.approx(-5 * HOUR)
    other_boot = judge(back, reading(9 * HOUR, 4, boot_id="b2"))
    assert other_boot.stepped_s == 0.0


def test_the_mark_survives_being_kept() -> None:
    assert decode_mark(encode_mark(MARK)) == MARK
    for unreadable in ("", "x", "2026-01-01T00:00:00Z now b1", "yesterday 1.0 b1"):
        assert decode_mark(unreadable) is None


def test_why_says_both_times() -> None:
    doubted = judge(replace(BELIEVED), reading(-HOUR, 0))
    assert doubted.doubt is not None
    assert "2026-03-01T11:00:00Z" in doubted.doubt.why
    assert "2026-03-01T12:00:00Z" in doubted.doubt.why


def test_a_delay_written_down_before_a_reboot_is_not_moved_by_years() -> None:
    """Boot without battery: the clock begins in the past, and is put right a minute later."""
    years_s = 6 * 365 * 24 * HOUR
    first = judge(Belief(mark=MARK), reading(-years_s, 20, boot_id="b2"))
    assert first.stepped_s == -years_s
    again = judge(first, reading(-years_s + 60, 80, boot_id="b2"))
    assert again.stepped_s == 0
    right = judge(again, reading(300, 140, boot_id="b2"))
    assert first.stepped_s + right.stepped_s == 300 - 120  # the time that it was off


@pytest.mark.parametrize("seen", [reading(HOUR, 0, boot_id="b2"), reading(-HOUR, 5)])
def test_what_a_first_look_cannot_know_is_no_step(seen: Reading) -> None:
    assert judge(Belief(mark=MARK), seen).stepped_s == 0


def test_the_words_are_of_what_the_clock_shows_since_it_was_set_again() -> None:
    back = judge(BELIEVED, reading(-2 * HOUR, 10))
    ahead = judge(back, reading(9 * HOUR, 20))
    assert ahead.doubt is not None
    assert "9.0 h more" in ahead.doubt.why
    later = judge(ahead, reading(9 * HOUR + 30, 50))
    assert later.doubt == ahead.doubt
    assert back.doubt is not None
    assert ahead.doubt.since_s == back.doubt.since_s


@pytest.mark.parametrize(
    ("seen", "at_s", "doubted"),
    [
        (reading(10, 10), 10, False),
        (reading(9 * HOUR, 20), 20, True),  # ahead: counted on
        (reading(-9 * HOUR, 20), 20, True),  # behind: counted on too
        (reading(9 * HOUR, 20, synchronised=True), 9 * HOUR, False),
        (reading(9 * HOUR, DOUBT_S_MAX), DOUBT_S_MAX, True),  # the engine has not begun to doubt
        (reading(9 * HOUR, 20, boot_id="b2"), 9 * HOUR, False),
        (reading(-9 * HOUR, 20, boot_id="b2"), 1020, True),  # at the least: since boot
    ],
)
def test_what_plans_go_by(seen: Reading, at_s: float, doubted: bool) -> None:
    found = moment(BELIEVED, seen)
    assert (found.at, found.doubted) == (after(at_s), doubted)


def test_who_has_believed_nothing_yet_goes_by_the_clock() -> None:
    assert moment(Belief(), reading(9 * HOUR, 0)).at == after(9 * HOUR)


@pytest.mark.parametrize("boottime", ["nan", "inf", "-inf"])
def test_a_mark_without_a_number_is_none(boottime: str) -> None:
    assert decode_mark(f"2026-03-01T12:00:00Z {boottime} b1") is None
