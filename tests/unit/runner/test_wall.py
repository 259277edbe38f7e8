"""A wall clock that leaps ahead ends no window at once, one that merely goes does."""

from __future__ import annotations

from agent.runner.limits import WALL_DOUBT_S, WALL_LEAP_S
from agent.runner.wall import Wall


class Clocks:
    """Both clocks, turned by hand."""

    def __init__(self) -> None:
        self.wall_s, self.boot_s = 1_000_000.0, 500.0
        self.wall = Wall(lambda: self.wall_s, lambda: self.boot_s)

    def pass_time(self, seconds: float) -> None:
        self.wall_s += seconds
        self.boot_s += seconds


def test_time_that_passes_is_no_leap_however_much() -> None:
    clocks = Clocks()
    clocks.pass_time(100 * 86_400)  # a suspend, too: that clock counts it
    assert clocks.wall.is_believed()


def test_a_leap_ahead_is_doubted_for_a_while() -> None:
    clocks = Clocks()
    clocks.wall_s += WALL_LEAP_S + 1
    assert not clocks.wall.is_believed()
    clocks.pass_time(WALL_DOUBT_S - 1)
    assert not clocks.wall.is_believed()
    clocks.pass_time(2)
    assert clocks.wall.is_believed()
    assert clocks.wall.is_believed(), "once accepted it stays so"


def test_the_doubt_ends_when_it_is_set_back_or_trusted_elsewhere() -> None:
    clocks = Clocks()
    clocks.wall_s += WALL_LEAP_S + 1
    assert not clocks.wall.is_believed()
    clocks.wall_s -= WALL_LEAP_S
    assert clocks.wall.is_believed()
    clocks.wall_s += WALL_LEAP_S + 1
    assert not clocks.wall.is_believed()
    clocks.wall.confirm()
    assert clocks.wall.is_believed()


def test_many_small_steps_are_no_leap() -> None:
    clocks = Clocks()
    for _ in range(10):
        clocks.wall_s += WALL_LEAP_S / 2
        assert clocks.wall.is_believed()
