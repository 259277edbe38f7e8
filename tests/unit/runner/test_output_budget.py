"""All outputs together are bounded: the oldest go, what runs and what is recorded stays."""

from __future__ import annotations

import os
from pathlib import Path

from agent.runner.journal import Journal
from agent.runner.ledger import Ledger
from agent.runner.loop import Loop
from agent.runner.names import Key, output_name, run_name
from agent.runner.output_budget import OutputBudget


class Kept:
    """A runs directory with outputs of known age."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self.path = path
        self.loop = Loop()
        self.busy: set[Key] = set()
        self.budget = OutputBudget(
            self.loop, Ledger(str(path)), Journal(os.open(os.devnull, os.O_WRONLY)), bytes_max,
            self.busy.__contains__,
        )  # fmt: skip

    def output(self, row: int, size: int) -> None:
        path = self.path / output_name(Key(row, 1), "stdout", 0)
        path.write_bytes(b"x" * size)
        os.utime(path, (row, row))
        (self.path / run_name(Key(row, 1))).write_bytes(b"record")

    def settle(self) -> None:
        for _ in range(50):
            self.loop.call_soon(lambda: None)
            self.loop.turn()

    @property
    def rows(self) -> list[int]:
        return sorted(int(path.name.split(".")[0]) for path in self.path.glob("*.out"))


def test_the_oldest_go_when_it_is_too_much(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 1_000)
    for row in range(1, 11):
        kept.output(row, 110)
        kept.budget.add(110)
    kept.settle()
    assert kept.rows == [3, 4, 5, 6, 7, 8, 9, 10]
    assert kept.budget.total == 880
    assert len(list(tmp_path.glob("*.run"))) == 10, "records stay"


def test_within_the_bound_nothing_goes(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 1_000)
    kept.output(1, 900)
    kept.budget.add(2_000)  # what was forgotten meanwhile is not subtracted: counted anew
    kept.settle()
    assert (kept.rows, kept.budget.total) == ([1], 900)


def test_what_runs_stays(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 1_000)
    kept.busy.add(Key(1, 1))
    for row in (1, 2, 3):
        kept.output(row, 400)
    kept.budget.add(1_200)
    kept.settle()
    assert kept.rows == [1, 3]


def test_more_files_than_one_look_takes(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 1_000)
    for row in range(1, 2_601):
        kept.output(row, 1)
    kept.budget.add(2_600)
    for _ in range(3):
        kept.settle()
    assert kept.rows == list(range(1_701, 2_601))
