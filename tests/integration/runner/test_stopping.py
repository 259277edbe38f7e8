"""A stop: the whole tree, in the grace, verified; and who ended it is told truly."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.integration.runner.box import Box, is_alive, wait_for
from tests.integration.runner.client import Client

pytestmark = pytest.mark.timeout(30)


def stop(client: Client, row: int, grace_s: float, cause: str = "withdrawn") -> dict[str, object]:
    return client.ask("stop", row=row, start_no=1, id=f"a{row}", cause=cause, grace_s=grace_s)


def pids(path: Path, count: int) -> list[int]:
    """Pids that the script's processes wrote, one per line."""

    def read() -> list[int]:
        words = path.read_text().split() if path.exists() else []
        return [int(word) for word in words] if len(words) >= count else []

    found: list[int] = wait_for(read)
    return found


def test_term_is_enough_for_the_polite(box: Box) -> None:
    box.kind(
        "polite", f"trap 'exit 9' TERM; echo $$ > {box.path}/pid; while :; do sleep 0.05; done"
    )
    client = box.start()
    client.start(1, "polite")
    pids(box.path / "pid", 1)
    began = time.monotonic()
    assert stop(client, 1, grace_s=20)["state"] == "running"
    record = client.notice(1)["record"]
    assert time.monotonic() - began < 5
    assert (record["code"], record["stop_cause"], record["survivors"]) == (9, "withdrawn", 0)
    assert record["started_at"] < record["stopped_at"] <= record["ended_at"]
    assert record["killed_at"] is None
    assert not box.scripts_alive()


def test_kill_after_the_grace_for_the_deaf(box: Box) -> None:
    box.kind("deaf", f"trap '' TERM; echo $$ > {box.path}/pid; while :; do sleep 0.1; done")
    client = box.start()
    client.start(1, "deaf")
    pids(box.path / "pid", 1)
    stop(client, 1, grace_s=0.3)
    record = client.notice(1)["record"]
    assert (record["code"], record["signal"]) == (None, 9)
    assert record["duration_s"] >= 0.3
    assert record["stopped_at"] + 0.25 < record["killed_at"] <= record["ended_at"]
    kept = box.run_file(1).exit
    assert kept is not None
    assert kept["killed_at"] == record["killed_at"]
    assert not box.scripts_alive()


def test_a_second_stop_only_shortens(box: Box) -> None:
    box.kind("deaf", f"trap '' TERM; echo $$ > {box.path}/pid; while :; do sleep 0.1; done")
    client = box.start()
    client.start(1, "deaf")
    pids(box.path / "pid", 1)
    stop(client, 1, grace_s=600, cause="overlap")
    stop(client, 1, grace_s=0.1, cause="withdrawn")
    stop(client, 1, grace_s=600)
    assert client.notice(1)["record"]["stop_cause"] == "overlap", "the first cause stands"


TREE = """#!/usr/bin/env python3
# A grandchild in a session of its own, one with a cleared environment, and a double-forked one
# that has both and no parent here.
import os, signal, sys, time
path = "{path}"
def note():
    with open(path, "a") as file:
        file.write(f"{{os.getpid()}}\\n")
def forever():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note()
    while True:
        time.sleep(1)
if len(sys.argv) > 1:
    forever()
if os.fork() == 0:
    os.setsid()
    forever()
if os.fork() == 0:
    os.execve(sys.executable, ["python3", __file__, "x"], {{}})
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, ["python3", "{script}", "x"], {{}})
    os._exit(0)
note()
{end}
"""


@pytest.mark.parametrize("is_leader_gone", [False, True])
def test_nothing_of_the_tree_survives(box: Box, is_leader_gone: bool) -> None:
    end = "while len(open(path).readlines()) < 4: time.sleep(0.01)"
    if not is_leader_gone:
        end += "\ntime.sleep(60)"
    script = box.scripts / "tree"
    box.kind("tree", TREE.format(path=box.path / "pids", script=script, end=end))
    client = box.start()
    client.start(1, "tree", grace_s=0.2)
    found = pids(box.path / "pids", 4)
    if not is_leader_gone:
        stop(client, 1, grace_s=0.2)
    record = client.notice(1)["record"]
    assert record["stop_cause"] == ("none" if is_leader_gone else "withdrawn")
    if is_leader_gone:
        assert record["code"] == 0
        wait_for(lambda: not any(is_alive(pid) for pid in found))
    assert not [pid for pid in found if is_alive(pid)]


def test_a_stop_harms_no_other_run(box: Box) -> None:
    box.kind("sleeps", f"echo $$ >> {box.path}/pids; exec sleep 30")
    client = box.start()
    client.start(1, "sleeps")
    client.start(2, "sleeps")
    pids(box.path / "pids", 2)
    stop(client, 1, grace_s=5)
    client.notice(1)
    assert [entry["row"] for entry in client.hello()["running"]] == [2]
    assert client.ask("claim", row=2, start_no=1, id="a2")["state"] == "running"


def test_the_cause_is_written_before_the_signal(box: Box) -> None:
    box.kind(
        "looks",
        f"trap 'cp \"${{AGENT_PROGRESS%.progress}}.run\" {box.path}/seen; exit 0' TERM;"
        f"echo $$ > {box.path}/pid; while :; do sleep 0.05; done",
    )
    client = box.start()
    client.start(1, "looks")
    pids(box.path / "pid", 1)
    stop(client, 1, grace_s=10, cause="cancelled_on_node")
    client.notice(1)
    assert b'"cause":"cancelled_on_node"' in (box.path / "seen").read_bytes()


def test_who_ended_before_the_stop_was_not_stopped(box: Box) -> None:
    box.kind("quick", "exit 0")
    client = box.start()
    client.start(1, "quick")
    client.notice(1)
    answer = stop(client, 1, grace_s=0)
    assert answer["state"] == "exited"
    assert answer["record"]["stop_cause"] == "none"  # type: ignore[index]


def test_the_end_is_the_main_process_end(box: Box) -> None:
    """A child that holds stdout open delays nothing, and is stopped behind the result."""
    box.kind("holds", f"echo before; sleep 60 & echo $! > {box.path}/pid; exit 4")
    client = box.start()
    began = time.monotonic()
    client.start(1, "holds")
    record = client.notice(1)["record"]
    assert time.monotonic() - began < 3
    assert (record["code"], record["stop_cause"]) == (4, "none")
    assert record["output"]["stdout"]["bytes"] == len("before\n")
    [pid] = pids(box.path / "pid", 1)
    wait_for(lambda: not is_alive(pid))


def test_leftovers_stay_where_the_manifest_says_so(box: Box) -> None:
    box.kind(
        "leaves", f"sleep 60 >/dev/null 2>&1 & echo $! > {box.path}/pid", 'leftovers = "leave"'
    )
    box.kind("true", "exit 0")
    client = box.start()
    client.start(1, "leaves")
    client.notice(1)
    [pid] = pids(box.path / "pid", 1)
    client.start(2, "true")
    client.notice(2)
    assert is_alive(pid)
    box.kill()
    box.start()  # its recovery leaves alone what stayed on purpose
    assert is_alive(pid)


def test_timeout_needs_no_agentd(box: Box) -> None:
    box.kind("sleeps", "exec sleep 30")
    client = box.start()
    client.start(1, "sleeps", timeout_s=0.3)
    client.close()
    wait_for(lambda: box.run_file(1).exit is not None)
    record = box.connect(generation=2).ask("claim", row=1, start_no=1, id="a1")["record"]
    assert (record["stop_cause"], record["timed_out_after_s"]) == ("timeout", 0.3)
    assert record["signal"] == 15


def test_the_manifest_may_shorten_the_timeout(box: Box) -> None:
    box.kind("sleeps", "exec sleep 30", "timeout_s = 0.2")
    client = box.start()
    client.start(1, "sleeps", timeout_s=20)
    assert client.notice(1)["record"]["timed_out_after_s"] == 0.2


def test_the_window_closes_without_agentd(box: Box) -> None:
    box.kind("sleeps", "exec sleep 30")
    client = box.start()
    client.start(1, "sleeps", stop_at=time.time() + 0.3)
    record = client.notice(1)["record"]
    assert (record["stop_cause"], record["timed_out_after_s"]) == ("window", None)


def test_the_window_may_be_moved_both_ways_and_lifted(box: Box) -> None:
    box.kind("sleeps", "exec sleep 30")
    client = box.start()
    soon = time.time() + 0.3
    for row, stop_at in ((1, None), (2, soon), (3, soon + 600)):
        client.start(row, "sleeps", stop_at=stop_at)
    for row, stop_at in ((1, soon), (2, None), (3, soon)):
        answer = client.ask("deadline", row=row, start_no=1, id=f"a{row}", stop_at=stop_at)
        assert answer["state"] == "running"
    for row in (1, 3):
        assert client.notice(row)["record"]["stop_cause"] == "window"
    assert [entry["row"] for entry in client.hello()["running"]] == [2]
    stop(client, 2, grace_s=5, cause="overlap")
    client.ask("deadline", row=2, start_no=1, id="a2", stop_at=0)
    assert client.notice(2)["record"]["stop_cause"] == "overlap"


@pytest.mark.parametrize("number", [15, 2])
def test_a_stopped_runner_stops_everything_and_says_so(box: Box, number: int) -> None:
    box.kind("sleeps", f"echo $$ >> {box.path}/pids; exec sleep 30")
    client = box.start()
    for row in (1, 2, 3):
        client.start(row, "sleeps")
    pids(box.path / "pids", 3)
    assert box.terminate(number) == 0
    for row in (1, 2, 3):
        found = box.run_file(row).exit
        assert found is not None
        assert (found["stop_cause"], found["signal"]) == ("runner_stop", 15)
    assert not box.scripts_alive()
    assert not box.socket.exists()
