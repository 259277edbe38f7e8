"""Who may use a node's API: over TCP whoever holds its token, and nobody else (row 10)."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any

import pytest

from tests.e2e.conftest import MakeNode
from tests.fakes.node_process import NodeProcess


@pytest.fixture
def node(make_node: MakeNode) -> NodeProcess:
    return make_node(extra=("--listen", "127.0.0.1:0")).start()


def call(node: NodeProcess, path: str, token: str | None) -> tuple[int, Any]:
    host, _, port = (node.state_dir / "listen").read_text().strip().rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    found = response.status, json.loads(response.read())
    connection.close()
    return found


def test_tcp_needs_the_token(node: NodeProcess) -> None:
    file = node.state_dir / "api.token"
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text().strip()
    assert call(node, "/v1/status", token)[1]["agent_id"] == "n1"
    for wrong in (None, "", "wrong", token[:-1], token + "x"):
        for path in ("/v1/status", "/v1/actions", "/v1/events", "/v1/state", "/v1/kinds"):
            code, answer = call(node, path, wrong)
            assert (code, answer["error"]) == (401, "unauthorized")
            assert "n1" not in json.dumps(answer)
    assert call(node, "/healthz", None) == (200, {"ok": True})
    assert token not in node.log.read_text()


def test_a_backend_pulls_the_state_and_then_the_events(node: NodeProcess) -> None:
    token = (node.state_dir / "api.token").read_text().strip()
    node.run("tiny", id="a1")
    node.wait_status("a1")
    _, state = call(node, "/v1/state", token)
    assert [one["execution_status"] for one in state["actions"]] == ["FINISHED"]
    node.run("tiny", id="a2")
    told: list[dict[str, Any]] = []
    after = state["seq"]
    while not told or told[-1].get("to") != "FINISHED":
        _, page = call(node, f"/v1/events?after={after}&wait=5", token)
        told += page["events"]
        after = page["after"]
    assert [(one["action_id"], one.get("to")) for one in told] == [
        ("a2", None), ("a2", "STARTED"), ("a2", "FINISHED"),
    ]  # fmt: skip


def test_a_stop_does_not_wait_for_those_who_wait(node: NodeProcess) -> None:
    node.run("sleep", {"seconds": 30}, id="long")
    node.wait_status("long", "STARTED")
    answers: list[tuple[int, Any]] = []
    waiting = threading.Thread(
        target=lambda: answers.append(node.call("GET", "/v1/actions/long?wait=50"))
    )
    waiting.start()
    time.sleep(0.3)
    begun = time.monotonic()
    assert node.stop() == 0
    waiting.join(10)
    assert time.monotonic() - begun < 3
    assert answers[0][1]["execution_status"] == "STARTED"
