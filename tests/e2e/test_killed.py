"""kill -9 in the middle: none lost, none run twice, every exit code true (P1, P3, P10)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e import stamps
from tests.e2e.conftest import MakeNode
from tests.fakes.node_process import NodeProcess, wait_until

pytestmark = pytest.mark.alone

ACTIONS = 100
SECONDS = 0.5


def submit_many(node: NodeProcess, file: Path) -> None:
    for number in range(ACTIONS):
        payload = {"file": str(file), "seconds": SECONDS, "code": number % 4}
        node.run("stamp", payload, id=f"a{number}")


def in_the_middle(node: NodeProcess) -> None:
    def some_ended() -> bool:
        counts = node.status()["counts"]
        return bool(counts["STARTED"] == 8 and counts["FINISHED"] + counts["FAILED"] >= 8)

    wait_until(some_ended, 30, "never in the middle")
    assert node.status()["counts"]["NULL"] > 40, "some are queued"


def assert_true_results(node: NodeProcess) -> None:
    for number in range(ACTIONS):
        action = node.show(f"a{number}")
        expected = "FINISHED" if number % 4 == 0 else "FAILED"
        assert (action["execution_status"], action["exit_code"]) == (expected, number % 4)


def test_agentd_killed_nothing_lost_nothing_twice(node: NodeProcess, tmp_path: Path) -> None:
    file = tmp_path / "stamps"
    submit_many(node, file)
    in_the_middle(node)
    runner = node.runner_pids.copy()
    node.kill9()
    time.sleep(SECONDS)  # so that some end while nobody listens
    node.start()
    assert node.runner_pids == runner, "the runner outlives agentd"
    node.wait_quiet()
    starts = stamps.read(file, "start")
    assert starts == {(f"a{number}", 1): 1 for number in range(ACTIONS)}
    assert stamps.read(file, "end") == starts
    assert_true_results(node)
    verdicts = [node.show(f"a{number}")["verdict"] for number in range(ACTIONS)]
    assert verdicts.count("finished_while_away") >= 1


def test_agentd_killed_while_it_runs_and_adopted(node: NodeProcess, tmp_path: Path) -> None:
    node.run("stamp", {"file": str(tmp_path / "f"), "seconds": 2, "code": 7}, id="long")
    node.wait_status("long", "STARTED")
    node.kill9()
    node.start()
    shown = node.show("long")
    assert (shown["execution_status"], shown["verdict"]) == ("STARTED", "adopted")
    ended = node.wait_status("long")
    assert (ended["execution_status"], ended["exit_code"], ended["attempt"]) == ("FAILED", 7, 1)
    assert stamps.read(tmp_path / "f", "start") == {("long", 1): 1}


def test_both_killed_the_rule_of_the_seed(node: NodeProcess, tmp_path: Path) -> None:
    """Unknown outcome, window open: started again as the next attempt; nothing else is."""
    file = tmp_path / "stamps"
    submit_many(node, file)
    in_the_middle(node)
    _, page = node.call("GET", "/v1/actions?view=finished&limit=500")
    ended = {action["id"] for action in page["actions"]}
    node.kill9()
    node.kill9_runner()
    node.start()
    node.wait_quiet()
    starts = stamps.read(file, "start")
    assert {action_id for action_id, _ in starts} == {f"a{number}" for number in range(ACTIONS)}
    assert max(starts.values()) == 1, "an attempt was started twice"
    again = {action_id for action_id, attempt in starts if attempt == 2}
    assert 1 <= len(again) <= 8, "only what ran is started again"
    assert not ended & again, "what had ended is not repeated"
    assert_true_results(node)
    for action_id in again:
        reasons = [event.get("reason") for event in node.history(action_id)]
        assert reasons.count("rerun") == 1


def test_both_killed_leftovers_are_ended_before_anything_starts(
    node: NodeProcess, tmp_path: Path
) -> None:
    file = tmp_path / "f"
    node.run("stamp", {"file": str(file), "seconds": 3}, id="left", on_restart="never")
    node.wait_status("left", "STARTED")
    wait_until(lambda: stamps.read(file, "start").total() == 1, 10, "no start")
    node.kill9()
    node.kill9_runner()
    node.start()
    ended = node.wait_status("left")
    assert (ended["execution_status"], ended["reason"]) == ("FAILED", "interrupted")
    time.sleep(3)  # longer than the script would have taken
    assert stamps.read(file, "end").total() == 0, "the leftover ran on"


@pytest.mark.parametrize(
    ("window_s", "status", "reason"),
    [(1.0, "WONT_FINISH", "window_closed"), (60.0, "FINISHED", "exit_zero")],
)
def test_boot_rules_by_the_window(
    node: NodeProcess, tmp_path: Path, window_s: float, status: str, reason: str
) -> None:
    """Seed 002, step 1: end passed while away → WONT_FINISH; still open → started again."""
    until = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + window_s + 1)) + "Z"
    payload = {"file": str(tmp_path / "f"), "seconds": 2}
    node.run("stamp", payload, id="w", to_date=until)
    node.wait_status("w", "STARTED")
    node.kill9()
    node.kill9_runner()
    time.sleep(max(0.0, window_s + 1) if window_s < 5 else 0)
    node.start()
    ended = node.wait_status("w")
    assert (ended["execution_status"], ended["reason"]) == (status, reason)
    assert ended["attempt"] == (1 if window_s < 5 else 2)


def test_a_clean_stop_leaves_scripts_running(node: NodeProcess, tmp_path: Path) -> None:
    file = tmp_path / "f"
    node.run("stamp", {"file": str(file), "seconds": 2, "code": 5}, id="s")
    node.run("sleep", {"seconds": 1}, id="later", from_date="2090-01-01T00:00:00Z")
    node.wait_status("s", "STARTED")
    assert node.stop() == 0
    node.start()
    assert node.wait_status("s")["exit_code"] == 5
    assert node.show("later")["phase"] == "SCHEDULED"
    assert stamps.read(file, "start") == {("s", 1): 1}


def test_two_daemons_on_one_directory_the_second_names_the_first(
    make_node: MakeNode, node: NodeProcess
) -> None:
    second = make_node()
    second.start(wait=False)
    assert second.process is not None
    assert second.process.wait(20) == 5
    assert node.process is not None
    assert f"pid {node.process.pid}" in second.log.read_text()
    assert node.status()["daemon"] == "running"
