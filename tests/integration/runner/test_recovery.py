"""kill -9 of the runner at any instant: nothing runs twice, nothing runs on, nothing is made up."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from agent.runner import processes, record
from tests.integration.runner.box import Box, is_alive, wait_for
from tests.integration.runner.client import Client, Refused

pytestmark = pytest.mark.timeout(60)


def test_a_killed_runner_s_scripts_are_ended_before_anyone_is_answered(box: Box) -> None:
    box.kind(
        "tree",
        f"trap '' TERM; setsid sleep 60 & echo $! >> {box.path}/pids;"
        f"echo $$ >> {box.path}/pids; sleep 60 & wait; sleep 60",
    )
    client = box.start()
    client.start(1, "tree")
    wait_for(lambda: len(_pids(box)) == 2)
    box.kill()
    assert all(is_alive(pid) for pid in _pids(box)), "it is the next runner that ends them"
    client = box.start()
    assert not any(is_alive(pid) for pid in _pids(box))
    assert client.hello()["running"] == []
    assert client.hello()["max_row"] == 1
    assert client.ask("claim", row=1, start_no=1, id="a1") == {"state": "unknown"}
    assert client.start(1, "tree") == {"state": "unknown"}
    assert not box.scripts_alive()


def test_a_marker_without_a_pid_is_enough(box: Box) -> None:
    """Killed between the spawn and the note of its pid: the environment tells whose it is."""
    box.kind("sleeps", f"echo $$ >> {box.path}/pids; exec sleep 60")
    client = box.start()
    client.start(1, "sleeps")
    wait_for(lambda: len(_pids(box)) == 1)
    box.kill()
    path = box.runs / "1.1.run"
    data = bytearray(path.read_bytes())
    data[1_024:1_280] = b" " * 256
    path.write_bytes(data)
    client = box.start()
    assert not is_alive(_pids(box)[0])
    assert client.start(1, "sleeps") == {"state": "unknown"}


def test_a_recycled_pid_is_left_alone(box: Box) -> None:
    """The recorded pid now belongs to somebody else: another start time, another process."""
    box.kind("sleeps", "exec sleep 60")
    client = box.start()
    pid = client.start(1, "sleeps")["pid"]
    box.kill()
    os.kill(pid, signal.SIGKILL)
    bystander = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "60")
    try:
        path = box.runs / "1.1.run"
        found = box.run_file(1).process
        assert found is not None
        earlier = {**found, "pid": bystander, "started": found["started"] - 1}  # ticks of 10 ms
        slot = record.encode_slot(record.PROCESS, earlier)
        data = path.read_bytes()
        path.write_bytes(data[:1_024] + slot + data[1_280:])
        box.start()
        assert is_alive(bystander)
    finally:
        os.kill(bystander, signal.SIGKILL)
        os.waitpid(bystander, 0)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\0" * 4_096])
def test_an_unreadable_run_file_never_means_never_started(box: Box, content: bytes) -> None:
    box.runs.mkdir(parents=True)
    (box.runs / "4.1.run").write_bytes(content)
    box.kind("true", "exit 0")
    client = box.start()
    assert client.start(4, "true") == {"state": "unknown"}
    assert client.ask("claim", row=4, start_no=1, id="a4") == {"state": "unknown"}
    assert client.hello()["max_row"] == 4


def test_results_survive_a_kill(box: Box) -> None:
    box.kind("seven", "exit 7")
    client = box.start()
    client.start(1, "seven")
    record = client.notice(1)["record"]
    box.kill()
    answer = box.start().ask("claim", row=1, start_no=1, id="a1")
    assert answer == {"state": "exited", "record": record}


def test_killed_at_random_instants_nothing_runs_twice(box: Box) -> None:
    box.kind("mark", f'echo "$AGENT_ACTION_ID" >> {box.path}/ran; sleep 0.0$((${{#0}} % 3))')
    (box.path / "ran").touch()
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    told: dict[int, str] = {}
    row = 0
    for generation in range(1, 9):
        box.spawn("--stay")
        client = box.connect(box.process, generation)
        for old in range(max(1, row - 20), row + 1):
            told[old] = _start(client, old) or told[old]  # asked again, in doubt
            assert told[old] != "running", (seed, old)
        until = time.monotonic() + rng.uniform(0.005, 0.15)
        while time.monotonic() < until:
            row += 1
            told[row] = _start(client, row) or "?"
        box.kill()
        client.close()
    box.spawn("--stay")
    client = box.connect(box.process, generation=9)
    assert not box.scripts_alive(), seed
    ran = (box.path / "ran").read_text().split()
    assert len(ran) == len(set(ran)), (seed, "something ran twice")
    for number in range(1, row + 1):
        state = client.ask("claim", row=number, start_no=1, id=f"a{number}")["state"]
        assert state in ("exited", "unknown", "never_started"), (seed, number)
        assert not (state == "never_started" and f"a{number}" in ran), (seed, number)


def _start(client: Client, row: int) -> str | None:
    try:
        return str(client.start(row, "mark")["state"])
    except Refused as refused:
        return refused.error


def test_start_times_identify(box: Box) -> None:
    me = processes.read_process(os.getpid())
    assert me is not None
    assert not processes.send(me._replace(started=me.started + 1), signal.SIGKILL)
    assert processes.send(me, signal.SIGCONT)


def _pids(box: Box) -> list[int]:
    path = box.path / "pids"
    return [int(word) for word in path.read_text().split()] if path.exists() else []
