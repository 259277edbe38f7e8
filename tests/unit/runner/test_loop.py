"""The loop: timers in order, cancelled ones gone, reused descriptors not confused."""

from __future__ import annotations

import os
import time

from agent.runner.loop import Loop


def test_timers_fire_in_order_and_not_when_cancelled() -> None:
    loop, seen = Loop(), []
    loop.call_in(0.02, lambda: seen.append("b"))
    loop.call_in(0.01, lambda: seen.append("a"))
    loop.call_in(0.01, lambda: seen.append("x")).cancel()
    loop.call_in(0.03, loop.stop)
    loop.run()
    assert seen == ["a", "b"]


def test_cancelled_timers_do_not_pile_up() -> None:
    loop = Loop()
    for _ in range(5_000):
        loop.call_in(3_600, loop.stop).cancel()
    assert len(loop._timers) < 1_000


def test_without_timers_it_sleeps_until_something_comes() -> None:
    loop = Loop()
    assert loop._timeout_s() is None
    loop.call_soon(loop.stop)
    began = time.monotonic()
    loop.run()
    assert time.monotonic() - began < 1


def test_an_event_of_a_closed_descriptor_does_not_reach_its_number_s_next_owner() -> None:
    """Found by a runner that read an empty pipe: two ended in one turn, a third was started."""
    loop, seen = Loop(), []
    pipes = [os.pipe() for _ in range(2)]
    for _, writing in pipes:
        os.write(writing, b"x")
    fresh: list[int] = []

    def replace(other: int) -> None:
        loop.forget(other)
        reading, writing = os.pipe()
        os.dup2(reading, other)  # the same number, nothing to read
        loop.watch(other, lambda _events: seen.append("stale"))
        fresh.extend((reading, writing))

    first, second = pipes[0][0], pipes[1][0]
    loop.watch(first, lambda _events: replace(second) if not fresh else None)
    loop.watch(second, lambda _events: replace(first) if not fresh else None)
    loop.turn()
    assert seen == []
    for fd in (*fresh, *(fd for pair in pipes for fd in pair)):
        os.close(fd)
