"""`agentctl` while agentd is down, starts, hangs or was never there (DESIGN §6, CHECKLIST 73)."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node_process import ROOT, NodeProcess, clean_environment

BARE_INTERPRETERS_MAX = 20  # an isolated one starts in 10 ms where status takes 0.12 s
TRIES = 5


def ask(node: NodeProcess, *arguments: str) -> dict[str, Any]:
    done = node.agentctl(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_the_state_is_readable_while_the_daemon_is_down(node: NodeProcess, end: str) -> None:
    node.start()
    for code in (0, 5):
        node.agentctl("run", "fail", "--payload", f'{{"code": {code}}}', "--id", f"f{code}",
                      "--wait")  # fmt: skip
    node.run("tiny", id="later", from_date="2090-01-01T00:00:00Z")
    read = ("show f5", "history f5", "why f5", "list --all", "list --since -1h --kind fail")
    live = {name: ask(node, *name.split()) for name in read}
    getattr(node, end)()

    status = ask(node, "status")
    assert (status["daemon"], status["counts"]["FAILED"]) == ("down", 1)
    assert status["next_due_at"] == "2090-01-01T00:00:00Z"
    assert status["core"]["connected"] is False
    for command, told in live.items():
        down = ask(node, *command.split())
        assert down.pop("daemon") == "down"
        assert told.pop("daemon") == "running"
        assert down == told
    readable = node.agentctl("list")
    assert "later" in readable.stdout
    assert "agentd is down" in readable.stderr
    assert "DOWN" in node.agentctl("status").stdout


def test_unknown_ids_and_pages_while_down(node: NodeProcess) -> None:
    node.start()
    for _ in range(7):
        node.run("tiny")
    node.wait_quiet()
    node.stop()
    assert node.agentctl("show", "nope").returncode == 4
    few = ask(node, "list", "--limit", "3", "--finished")
    assert (len(few["actions"]), few["more"]) == (3, True)


@pytest.mark.parametrize("command", [["run", "tiny"], ["cancel", "x"], ["kinds"], ["sync"],
                                     ["logs", "x"]])  # fmt: skip
def test_what_needs_the_daemon_exits_3_and_says_what_to_do(
    node: NodeProcess, command: list[str]
) -> None:
    node.start().stop()
    done = node.agentctl(*command)
    assert done.returncode == 3
    assert "agentd is not running" in done.stderr
    assert "start it" in done.stderr


def test_a_dead_socket_is_told_from_a_missing_one(node: NodeProcess) -> None:
    node.start().kill9()
    done = node.agentctl("run", "tiny", "--json")
    assert done.returncode == 3
    assert "agentd was killed" in done.stderr
    assert json.loads(done.stdout)["error"] == "unreachable"


def test_no_state_directory(node: NodeProcess) -> None:
    for command in ("status", "kinds"):
        done = node.agentctl(command)
        assert done.returncode == 3
        assert "there is no state directory" in done.stderr
        assert "AGENT_STATE_DIR" in done.stderr


def test_a_directory_of_something_else(node: NodeProcess) -> None:
    node.state_dir.mkdir()
    done = node.agentctl("status")
    assert (done.returncode, "is not agentd's state directory" in done.stderr) == (3, True)


AS_NOBODY = """
import os, sys
import agent.cli.node_commands.status, agent.cli.node_commands.kinds, agent.node.offline
from agent.cli.agentctl import main
os.setgroups([]); os.setgid(65534); os.setuid(65534)  # after the imports: nobody reads a checkout
sys.argv[0] = "agentctl"
main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to be")
@pytest.mark.parametrize("command", ["status", "kinds"])
def test_a_stranger_is_told_about_permissions(command: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        node = NodeProcess(Path(place) / "state")
        try:
            node.start()
            done = subprocess.run(
                [sys.executable, "-c", AS_NOBODY, "--state-dir", str(node.state_dir), command],
                capture_output=True, text=True, timeout=30, check=False,
                env=clean_environment(), cwd=ROOT,
            )  # fmt: skip
        finally:
            node.clean_up()
    assert done.returncode == 3, done
    assert "agentctl: no permission" in done.stderr


def test_a_daemon_that_hangs_is_told_from_one_that_is_down(node: NodeProcess) -> None:
    """The lock is held and nobody answers: as while it starts, or after it lost its socket."""
    node.start().stop()
    with (node.state_dir / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in ("status", "kinds"):
            done = node.agentctl(command)
            assert done.returncode == 3
            assert "has locked" in done.stderr
            assert "still starting, or hangs" in done.stderr


def test_a_stopped_process_is_said_to_hang(node: NodeProcess) -> None:
    node.start()
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)
    try:
        done = node.agentctl("status")
    finally:
        node.process.send_signal(signal.SIGCONT)
    assert (done.returncode, "did not answer within" in done.stderr) == (3, True)


def test_a_reader_never_keeps_a_daemon_from_starting(node: NodeProcess) -> None:
    node.start().stop()
    with (node.state_dir / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        node.start(wait=False)
        time.sleep(0.5)  # it waits for us, and must not have given up meanwhile
        assert node.process is not None
        assert node.process.poll() is None
    node.wait_ready()


@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
def test_status_costs_little_more_than_an_interpreter(node: NodeProcess, down: bool) -> None:
    """People wait 0.2 s at most; told as CPU time beside a bare interpreter's, because seconds on a
    busy machine say nothing."""
    node.start()
    if down:
        node.stop()
    node.agentctl("status")  # compiles and caches what a fresh checkout has not yet
    pairs = [(_cpu_s(lambda: node.agentctl("status")), _cpu_s(_bare)) for _ in range(TRIES)]
    ours, bare = (min(pair[side] for pair in pairs) for side in (0, 1))
    assert ours < BARE_INTERPRETERS_MAX * bare, f"{ours:.3f} s of CPU time against {bare:.3f} s"


def _bare() -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-I", "-c", ""], check=True)


def _cpu_s(run: Callable[[], subprocess.CompletedProcess[Any]]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run().returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
