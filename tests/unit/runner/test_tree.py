"""Whose process is it: decided over a made-up /proc."""

from __future__ import annotations

from agent.runner.processes import Process, parse_stat
from agent.runner.tree import Mark, members, progress_of

NEVER = frozenset({1, 50})


def process(pid: int, parent: int, session: int, group: int = 0, started: int = 100) -> Process:
    return Process(pid, parent, group or session, session, started, is_dead=False)


def pids(mark: Mark, *found: Process, environ: dict[int, bytes] | None = None) -> set[int]:
    everything = {one.pid: one for one in found}
    marks = environ or {}
    return {
        one.pid for one in members(mark, everything, lambda pid: marks.get(pid, b""), NEVER)
    }  # fmt: skip


MARK = Mark(10, b"/runs/1.1.progress", started=100)


def test_by_session_group_ancestry_and_environment() -> None:
    everything = (
        process(1, 0, 1), process(50, 1, 50), process(10, 50, 10), process(11, 10, 10),
        process(12, 50, 10), process(13, 50, 77, group=10), process(14, 11, 14),
        process(15, 14, 15),
        process(16, 50, 16), process(17, 1, 17), process(18, 17, 18), process(19, 50, 19),
    )  # fmt: skip
    environ = {16: b"A=b\0AGENT_PROGRESS=/runs/1.1.progress\0", 19: b"AGENT_PROGRESS=/runs/1.2.x\0"}
    assert pids(MARK, *everything, environ=environ) == {10, 11, 12, 13, 14, 15, 16}


def test_nothing_older_than_the_main_process_belongs_to_it() -> None:
    environ = {9: b"AGENT_PROGRESS=/runs/1.1.progress\0"}
    assert pids(MARK, process(9, 1, 9, started=99), environ=environ) == set()


def test_the_dead_and_the_untouchable_are_left_out() -> None:
    zombie = Process(10, 50, 10, 10, 100, is_dead=True)
    assert pids(MARK, zombie, process(50, 10, 10), process(11, 10, 10)) == {11}


def test_roots_bring_their_descendants() -> None:
    mark = Mark(None, b"", frozenset({20}))
    assert pids(mark, process(20, 50, 20), process(21, 20, 21), process(22, 50, 22)) == {20, 21}


def test_progress_of_an_environment() -> None:
    assert progress_of(b"AGENT_PROGRESS=/a\0B=c\0") == b"/a"
    assert progress_of(b"B=c\0AGENT_PROGRESS=/a") == b"/a"
    assert progress_of(b"MY_AGENT_PROGRESS=/a\0") is None
    assert progress_of(b"") is None


def test_stat_with_a_hostile_command_name() -> None:
    tail = b"S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 1"
    assert parse_stat(b"42 (a) Z 1 (x)) " + tail) == Process(42, 7, 8, 9, 12345, is_dead=False)
    assert parse_stat(b"") is None
    assert parse_stat(b"42 (a") is None
