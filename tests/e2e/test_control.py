"""Pause, drain, brake and `hold` on a real node, across kills of `agentd` (rows 20, 74, 75)."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeNode
from tests.e2e.fleet import ask, enroll_token
from tests.e2e.test_queue import at
from tests.fakes.core_process import CoreProcess
from tests.fakes.node_process import NodeProcess, copy_kinds, wait_until

pytestmark = pytest.mark.timeout(120)


def post(node: NodeProcess, path: str, body: Any = None) -> dict[str, Any]:
    code, answer = node.call("POST", path, body)
    assert code in {200, 201}, answer
    found: dict[str, Any] = answer
    return found


def test_pause_drain_and_resume_survive_a_kill(node: NodeProcess) -> None:
    node.run("sleep", {"seconds": 1.5}, id="runs")
    node.wait_status("runs", "STARTED")
    node.run("sleep", {"seconds": 0}, id="misses", from_date=at(0.2), to_date=at(0.6))
    first = post(node, "/v1/drain", {"wait_s": 0.3, "reason": "upgrade"})
    assert (first["paused"], first["drained"]) == (True, False)
    assert [one["id"] for one in first["running"]] == ["runs"], "what still runs"
    node.run("sleep", {"seconds": 0}, id="waits")
    assert node.show("waits")["phase"] == "PAUSED"

    node.kill9()
    node.start()
    status = node.status()
    assert (status["paused"], status["pause_reason"], status["draining"]) == (True, "upgrade", True)
    assert status["paused_by"] == getpass.getuser()
    assert status["paused_at"] == first["paused_at"]
    again = post(node, "/v1/drain", {"wait_s": 20, "reason": "reboot"})
    assert (again["drained"], again["running"]) == (True, [])
    assert node.status()["pause_reason"] == "reboot", "a new reason counts"
    assert post(node, "/v1/drain", {})["drained"]
    assert node.status()["pause_reason"] == "reboot", "no reason changes nothing"
    assert node.wait_status("misses")["reason"] == "window_passed", "windows close all the same"
    assert node.show("waits")["phase"] == "PAUSED"
    node.run("sleep", {"seconds": 0}, id="cancelled")
    assert node.call("POST", "/v1/actions/cancelled/cancel")[0] == 200
    assert node.wait_status("cancelled")["reason"] == "cancelled_on_node"

    pause = post(node, "/v1/pause", {"reason": "longer"})
    assert (pause["paused_at"], pause["pause_reason"]) == (first["paused_at"], "longer")
    assert not post(node, "/v1/resume")["paused"]
    assert not post(node, "/v1/resume")["paused"], "twice is once"
    assert node.wait_status("waits")["execution_status"] == "FINISHED"
    assert node.wait_status("runs")["attempt"] == 1


def test_a_brake_holds_its_kind_only_and_expires(node: NodeProcess) -> None:
    code, refused = node.call("POST", "/v1/brake", {"until": "2001-01-01T00:00:00Z", "fro": 1})
    assert code == 422
    assert sorted(fault["path"] for fault in refused["faults"]) == [
        "fro",
        "kind",
        "reason",
        "until",
    ]
    made = post(node, "/v1/brake", {"kind": "sleep", "for_s": 300, "reason": "disk"})
    short = post(
        node, "/v1/brake", {"labels": {"tier": "db"}, "for_s": 1.5, "reason": "backup runs"}
    )
    node.run("sleep", {"seconds": 0}, id="held")
    node.run("sleep_exclusive", {"seconds": 0}, id="labelled", labels={"tier": "db"})
    node.run("sleep_exclusive", {"seconds": 0}, id="free")
    node.wait_status("free")
    assert node.show("held")["execution_status"] == "NULL"
    node.kill9()
    node.start()
    found = node.call("GET", "/v1/brake")[1]["brakes"]
    assert made in found, "a brake is durable"
    assert made["by"] == getpass.getuser()
    assert node.status()["brakes"][0]["reason"] == "disk"
    node.wait_status("labelled")
    assert [one["id"] for one in node.call("GET", "/v1/brake")[1]["brakes"]] == [made["id"]]
    assert node.call("DELETE", f"/v1/brake/{short['id']}")[0] == 404
    assert node.show("held")["execution_status"] == "NULL"
    assert node.call("DELETE", f"/v1/brake/{made['id']}") == (200, made)
    node.wait_status("held")


@pytest.fixture
def holding(make_node: MakeNode, tmp_path: Path) -> NodeProcess:
    """A node whose kind `sleep` is a hold, and `brief` one that ends at once."""
    scripts = copy_kinds(tmp_path / "scripts", "sleep", "sleep_exclusive")
    manifest = scripts / "sleep.toml"
    manifest.write_text(manifest.read_text().replace("parallel = true", 'mode = "hold"'))
    brief = scripts / "brief"
    brief.write_text("#!/bin/sh\nexit 0\n")
    brief.chmod(0o755)
    (scripts / "brief.toml").write_text('mode = "hold"\n')
    (scripts / "brief.toml").chmod(0o644)
    return make_node(scripts_dir=scripts).start()


def test_a_hold_ends_with_its_window_while_agentd_is_away(holding: NodeProcess) -> None:
    holding.run("sleep", {"seconds": 60}, id="h", to_date=at(2))
    holding.wait_status("h", "STARTED")
    holding.run("sleep_exclusive", {"seconds": 0}, id="beside")
    assert holding.wait_status("beside")["execution_status"] == "FINISHED", "it takes no place"
    holding.kill9()
    time.sleep(2.5)  # the window closes; the runner alone is there
    holding.start()
    ended = holding.wait_status("h")
    assert (ended["execution_status"], ended["reason"]) == ("FINISHED", "window_closed")
    assert (ended["verdict"], ended["lane"]) == ("finished_while_away", "hold")


def test_a_hold_that_ends_early_is_started_again_later(holding: NodeProcess) -> None:
    holding.run("brief", id="b", to_date=at(3600))

    def waits_again() -> bool:
        return any(event.get("reason") == "hold_restart" for event in holding.history("b"))

    wait_until(waits_again, 10, lambda: str(holding.history("b")))
    shown = holding.show("b")
    assert (shown["execution_status"], shown["attempt"]) == ("NULL", 1)
    assert shown["due_at"] > at(1)
    holding.run("brief", id="short", to_date=at(3))
    assert holding.wait_status("short")["reason"] == "window_closed", "no start would come in time"


def test_the_core_sees_what_a_node_holds_back(make_node: MakeNode, tmp_path: Path) -> None:
    core = CoreProcess(tmp_path / "core").start()
    try:
        node = make_node(core=core.url, token=enroll_token(core)).start()

        def report() -> dict[str, Any]:
            code, answer = ask(core, "GET", "/v1/agents/n1")
            found: dict[str, Any] = answer
            return found if code == 200 else {}

        made = post(node, "/v1/brake", {"kind": "sleep", "reason": "disk"})
        post(node, "/v1/pause", {"reason": "move"})
        wait_until(lambda: report().get("brakes") == [made], 20, lambda: str(report()))
        wait_until(lambda: (report()["pause"] or {}).get("paused") is True, 20, "not told")
        assert report()["pause"]["pause_reason"] == "move"
        assert report()["clock"]["state"] == "trusted"
        node.call("DELETE", f"/v1/brake/{made['id']}")
        post(node, "/v1/resume")
        wait_until(lambda: report()["brakes"] == [], 20, lambda: str(report()))
        wait_until(lambda: report()["pause"]["paused"] is False, 20, lambda: str(report()))
    finally:
        core.stop()
