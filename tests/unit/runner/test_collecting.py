"""A result that nobody collects within a second is made durable, in bounded steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from agent.runner.collecting import Collecting
from agent.runner.journal import Journal
from agent.runner.loop import Timer
from agent.runner.names import Key

KEYS = [Key(row, 1) for row in range(1, 6)]


class FakeLoop:
    """Timers that the test fires."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_in(self, delay_s: float, action: Callable[[], None]) -> Timer:
        self.timers.append((delay_s, action))
        return Timer(0, action)


class FakeLedger:
    """Fsyncs at most two files at a time."""

    def __init__(self) -> None:
        self.synced: list[Key] = []

    def sync(self, keys: Iterable[Key], budget_s: float) -> list[Key]:
        done = list(keys)[: 2 if budget_s < 1 else None]
        self.synced += done
        return done


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    clock = [100.0]
    monkeypatch.setattr("agent.runner.collecting.time.monotonic", lambda: clock[0])
    loop, ledger = FakeLoop(), FakeLedger()
    return clock, loop, ledger, Collecting(loop, ledger, Journal(-1))  # type: ignore[arg-type]


def test_collected_in_time_costs_no_fsync(parts: tuple[Any, ...]) -> None:
    clock, loop, ledger, collecting = parts
    for key in KEYS:
        collecting.add(key)
    assert [delay for delay, _ in loop.timers] == [1.0]
    for key in KEYS:
        collecting.remove(key)
    clock[0] += 1
    loop.timers.pop()[1]()
    assert (ledger.synced, loop.timers, len(collecting)) == ([], [], 0)


def test_the_rest_is_synced_in_steps_and_still_counted(parts: tuple[Any, ...]) -> None:
    clock, loop, ledger, collecting = parts
    for key in KEYS:
        collecting.add(key)
    collecting.remove(KEYS[0])
    clock[0] += 1
    while loop.timers:
        loop.timers.pop()[1]()
    assert ledger.synced == KEYS[1:]
    assert len(collecting) == 4
    collecting.sync_all()
    assert ledger.synced == KEYS[1:], "once is enough"


def test_the_end_of_the_runner_syncs_everything(parts: tuple[Any, ...]) -> None:
    _, _, ledger, collecting = parts
    for key in KEYS:
        collecting.add(key)
    collecting.sync_all()
    assert ledger.synced == KEYS
