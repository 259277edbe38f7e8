"""What operators do with nodes, with real daemons: labels, freezes, nudges, silence, the end."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import fleet
from tests.fakes.core_process import ROOT, CoreProcess
from tests.fakes.node_process import NodeProcess, wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreProcess]:
    directory = tmp_path_factory.mktemp("nodes")
    process = CoreProcess(directory / "core", silent_after_s=2).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def node(core: CoreProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("n1") / "state"
    directory.mkdir()
    started = NodeProcess(
        directory, core=core.url, token=fleet.enroll_token(core),
        extra=["--label", "env=prod", "--label", "role=db", "--listen", "127.0.0.1:0"],
    ).start()  # fmt: skip
    wait_until(lambda: bool(started.status()["core"]["connected"]), 20, "not connected")
    yield started
    started.clean_up()


def corectl(core: CoreProcess, *arguments: str) -> str:
    """What it prints; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli.corectl", "--core", core.url, "--token-file",
         str(core.token_file), *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def agent(core: CoreProcess) -> dict[str, Any]:
    found: dict[str, Any] = fleet.ask(core, "GET", "/v1/agents/n1")[1]
    return found


def test_labels_come_with_the_report_and_can_be_set_here(
    core: CoreProcess, node: NodeProcess
) -> None:
    wait_until(lambda: agent(core)["labels"].get("env") == "prod", 10, "not reported")
    assert node.status()["labels"] == {"env": "prod", "role": "db"}
    assert "n1" in corectl(core, "agents", "--selector", "env=prod,role in (db,web)")
    assert "no node matches" in corectl(core, "agents", "--selector", "env!=prod")
    assert "rack=r7" in corectl(core, "label", "n1", "env=test", "rack=r7")
    assert "env=test" in corectl(core, "agents")
    assert "env=prod" in corectl(core, "label", "n1", "env-", "rack-")
    assert abs(agent(core)["skew_ms"]) < 5_000


def test_a_frozen_node_starts_nothing_until_it_is_thawed(
    core: CoreProcess, node: NodeProcess
) -> None:
    running = fleet.dispatch(core, "sleep", "n1", payload={"seconds": 3})
    wait_until(lambda: fleet.action(core, running)["phase"] == "RUNNING", 10, "does not run")
    corectl(core, "freeze", "--selector", "role=db", "--reason", "sale", "--for", "1h")
    wait_until(lambda: "1/1" in corectl(core, "freezes"), 10, "the node does not tell")
    [brake] = node.status()["brakes"]
    assert (brake["by"], brake["reason"], brake["kind"]) == ("core:admin", "sale", None)
    held = fleet.dispatch(core, "tiny", "n1")
    wait_until(lambda: node.call("GET", f"/v1/actions/{held}")[0] == 200, 10, "not there")
    assert "holds everything" in node.call("GET", f"/v1/actions/{held}/why")[1]["answer"]
    assert "frozen" in corectl(core, "agents")
    assert told(core, "node_silent") == 0, "an open poll is a sign of life, short as the lease is"
    node.stop()
    node.start()
    wait_until(lambda: fleet.action(core, running)["phase"] == "DONE", 20, "what runs goes on")
    assert node.show(held)["execution_status"] == "NULL", "held across a restart"
    corectl(core, "thaw", "--selector", "role=db")
    node.wait_status(held, "FINISHED")
    wait_until(lambda: not node.status()["brakes"], 10, "still braked")


def test_a_nudge_looks_at_once_where_the_node_can_be_reached(
    core: CoreProcess, node: NodeProcess, tmp_path: Path
) -> None:
    assert "api_url" in corectl(core, "nudge", "n1")
    listen = (node.state_dir / "listen").read_text().strip()
    token = node.state_dir / "api.token"
    corectl(core, "label", "n1", "--api-url", f"http://{listen}", "--api-token-file", str(token))
    assert "looked at" in corectl(core, "nudge", "n1")
    assert "looked at" in corectl(core, "nudge", "--selector", "node")
    done = fleet.dispatch(core, "tiny", "n1")
    assert "looked at" in corectl(core, "nudge", "--action", done)
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-token\n")
    corectl(core, "label", "n1", "--api-token-file", str(wrong))
    assert "401" in corectl(core, "nudge", "n1")
    for url, why in (("http://127.0.0.1:9", "ConnectError"), (core.url, "is that agentd")):
        corectl(core, "label", "n1", "--api-url", url)
        assert why in corectl(core, "nudge", "n1")
    assert "s3cret" not in json.dumps(agent(core))


def test_a_dead_node_is_silent_and_back_when_it_lives(core: CoreProcess, node: NodeProcess) -> None:
    node.kill9()
    later = "2099-01-01T00:00:00Z"
    waiting = fleet.dispatch(core, "tiny", "n1", from_date=later)
    wait_until(lambda: bool(agent(core)["silent"]), 20, "not silent")
    assert fleet.action(core, waiting)["phase"] == "NODE_SILENT"
    assert "(silent)" in corectl(core, "agents")
    node.start()
    wait_until(lambda: not agent(core)["silent"], 20, "still silent")
    assert fleet.action(core, waiting)["phase"] == "SCHEDULED"
    assert told(core, "node_back") == told(core, "node_silent") > 0


def told(core: CoreProcess, kind: str) -> int:
    page = fleet.ask(core, "GET", "/v1/events?limit=500")[1]["events"]
    return sum(event["type"] == kind for event in page)


def test_a_node_out_of_service_is_refused_and_can_come_back(
    core: CoreProcess, node: NodeProcess
) -> None:
    waiting = fleet.dispatch(core, "tiny", "n1", from_date="2099-01-01T00:00:00Z")
    wait_until(lambda: bool(fleet.action(core, waiting)["delivered"]), 10, "not delivered")
    assert "out of service" in corectl(core, "decommission", "n1", "--reason", "scrapped")
    assert "no nodes yet" in corectl(core, "agents")
    assert "n1" in corectl(core, "agents", "--decommissioned")
    assert fleet.action(core, waiting)["phase"] == "CANCELLED"
    wait_until(lambda: "401" in problem(node), 20, lambda: f"not refused: {problem(node)}")
    assert node.show(waiting)["execution_status"] == "NULL", "nobody could tell it yet"
    token = corectl(core, "enroll-token", "--node", "n1").strip()
    assert "open" in corectl(core, "enroll-token", "--list")
    node.stop()
    again = NodeProcess(node.state_dir, core=core.url, token=token)
    try:
        again.start()
        wait_until(lambda: bool(again.status()["core"]["connected"]), 20, "not back")
        again.wait_status(waiting, "WONT_START")
        assert agent(core)["decommissioned_at"] is None
    finally:
        again.clean_up()


def problem(node: NodeProcess) -> str:
    try:
        return str(node.status()["core"]["problem"])
    except (OSError, http.client.HTTPException):
        return ""
