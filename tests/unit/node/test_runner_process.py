"""Finding a runner, or starting one: nothing that can go wrong there may stop `agentd`."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.node.ports import RunnerAway
from agent.node.runner_process import LOG_BYTES_MAX, OwnRunner, accepts


@pytest.mark.timeout(10)
def test_a_runner_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    """Its backlog is full: a connect that waits would wait for ever."""
    path = tmp_path / "runner.sock"
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(1)
        is_full = False
        while not is_full:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            is_full = waiting.connect_ex(str(path)) != 0
        assert accepts(path)


def test_nobody_there(tmp_path: Path) -> None:
    assert not accepts(tmp_path / "runner.sock")


def own_runner(state_dir: Path) -> OwnRunner:
    """Its socket is in no directory, so it ends at once and says so."""
    return OwnRunner(
        state_dir=state_dir, scripts_dir=state_dir, socket_path=state_dir / "no" / "runner.sock",
        parallel_max=1, output_bytes_max=1 << 30,
    )  # fmt: skip


def test_one_that_cannot_be_started_is_away(tmp_path: Path) -> None:
    (tmp_path / "runner.log").mkdir()
    with pytest.raises(RunnerAway, match=r"runner\.log"):
        asyncio.run(own_runner(tmp_path).ensure())


def test_the_log_of_one_that_never_comes_up_does_not_grow_for_ever(tmp_path: Path) -> None:
    log = tmp_path / "runner.log"
    log.write_bytes(b"x" * (LOG_BYTES_MAX + 1))
    with pytest.raises(RunnerAway, match="ended at once"):
        asyncio.run(own_runner(tmp_path).ensure())
    assert b"cannot listen" in log.read_bytes()
    assert log.stat().st_size < LOG_BYTES_MAX
