"""A core that goes away and is killed: every status change arrives once and in order (P4, P8)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import fleet, stamps
from tests.e2e.conftest import MakeNode
from tests.fakes.core_process import CoreProcess
from tests.fakes.node_process import NodeProcess, wait_until


@pytest.fixture
def core(tmp_path: Path) -> Iterator[CoreProcess]:
    process = CoreProcess(tmp_path / "core").start()
    yield process
    process.stop()


@pytest.fixture
def node(core: CoreProcess, make_node: MakeNode) -> NodeProcess:
    started = make_node(core=core.url, token=fleet.enroll_token(core)).start()
    wait_until(lambda: bool(started.status()["core"]["connected"]), 20, "not connected")
    return started


def wait_reported(node: NodeProcess) -> None:
    def reported() -> bool:
        sync = node.status()["core"]
        return bool(sync["connected"] and sync["outbox"] == 0)

    wait_until(reported, 90, lambda: f"not reported: {node.status()['core']}")


def assert_each_once_and_in_order(core: CoreProcess, node: NodeProcess) -> None:
    here, there = fleet.events_at_node(node), fleet.events_of_nodes(core)
    # What was before the enrolment was told as state.
    told = [(e["seq"], e["type"], e.get("action_id"), e.get("to")) for e in there]
    made = [(e["seq"], e["type"], e.get("action_id"), e.get("to")) for e in here]
    assert told == made[-len(told) :]
    assert len({event["seq"] for event in there}) == len(there)


def test_killed_again_and_again(core: CoreProcess, node: NodeProcess, tmp_path: Path) -> None:
    names = [f"d{number}" for number in range(40)]
    for name in names:
        payload = {"file": str(tmp_path / "f"), "seconds": 0.3, "code": 1}
        fleet.dispatch(core, "stamp", "n1", id=name, payload=payload)
    for _ in range(5):
        time.sleep(0.35)
        core.kill()
        core.start()
    fleet.wait_ended(core, names)
    wait_reported(node)
    assert_each_once_and_in_order(core, node)
    assert stamps.read(tmp_path / "f", "start") == {(name, 1): 1 for name in names}
    for name in names:
        known = fleet.action(core, name)
        assert (known["execution_status"], known["exit_code"]) == ("FAILED", 1)


def test_stopped_for_a_while(core: CoreProcess, node: NodeProcess) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    fleet.dispatch(core, "tiny", "n1", id="due-while-away", from_date=soon)
    wait_until(lambda: node.call("GET", "/v1/actions/due-while-away")[0] == 200, 10, "not there")
    assert core.stop() == 0
    node.run("tiny", id="made-here")
    for name in ("due-while-away", "made-here"):
        assert node.wait_status(name)["execution_status"] == "FINISHED"
    core.start()
    wait_reported(node)
    assert_each_once_and_in_order(core, node)
    local = fleet.action(core, "made-here")
    assert (local["owner"], local["phase"]) == ("node", "DONE")
    assert fleet.action(core, "due-while-away")["phase"] == "DONE"


def test_cancelled_while_it_runs_and_stays_cancelled(core: CoreProcess, node: NodeProcess) -> None:
    fleet.dispatch(core, "sleep", "n1", id="long", payload={"seconds": 60})
    node.wait_status("long", "STARTED")
    wait_reported(node)
    refused = fleet.ask(core, "POST", "/v1/actions/long/cancel", {})
    assert refused[0] == 409
    assert fleet.ask(core, "POST", "/v1/actions/long/cancel", {"if_started": "stop"})[0] == 200
    assert node.wait_status("long")["reason"] == "withdrawn"
    wait_until(lambda: fleet.action(core, "long")["phase"] == "CANCELLED", 20, "not told")
    node.kill9()
    node.start()
    assert node.show("long")["phase"] == "CANCELLED"


def test_both_killed_at_once(core: CoreProcess, node: NodeProcess, tmp_path: Path) -> None:
    for number in range(20):
        payload = {"file": str(tmp_path / "f"), "seconds": 0.4, "code": number % 2}
        fleet.dispatch(core, "stamp", "n1", id=f"d{number}", payload=payload)
    wait_until(lambda: node.status()["counts"]["STARTED"] == 8, 20, "not running")
    core.kill()
    node.kill9()
    core.start()
    node.start()
    wait_until(lambda: fleet.action(core, "d19")["execution_status"] == "FAILED", 60, "not told")
    node.wait_quiet()
    wait_reported(node)
    assert_each_once_and_in_order(core, node)
    assert stamps.read(tmp_path / "f", "start") == {(f"d{n}", 1): 1 for n in range(20)}


def test_a_clone_is_fenced_and_keeps_running_what_it_knows(
    core: CoreProcess, node: NodeProcess, make_node: MakeNode, tmp_path: Path
) -> None:
    """Two nodes with one identity: the newer instance goes on, the older one says so."""
    node.stop()
    clone = make_node("clone", core=core.url)
    for file in node.state_dir.iterdir():
        if file.is_file():  # what a copied disk has: database, credential, brakes
            shutil.copy2(file, clone.state_dir / file.name)
    node.start()
    wait_until(lambda: bool(node.status()["core"]["connected"]), 20, "not connected")
    clone.start()
    node.run("sleep", {"seconds": 1}, id="known")
    wait_until(lambda: bool(node.status()["core"]["fenced"]), 70, "the older one is not fenced")
    assert node.wait_status("known")["execution_status"] == "FINISHED"
    wait_until(lambda: bool(clone.status()["core"]["connected"]), 20, "the newer is not connected")
    node_at_core = fleet.ask(core, "GET", "/v1/agents/n1")[1]
    assert node_at_core["fenced_count"] >= 1
    told = fleet.ask(core, "GET", "/v1/events?limit=500")[1]["events"]
    [fenced] = [event for event in told if event["type"] == "node_fenced"]
    assert fenced["instance"] == node_at_core["instance"] != fenced["fenced"]
