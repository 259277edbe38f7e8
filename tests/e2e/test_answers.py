"""The daemon's answers, asked from outside: why, metrics, and the door over TCP."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any

import pytest

from agent.node.credential import write_private
from tests.e2e.conftest import MakeNode
from tests.fakes.node_process import NodeProcess


@pytest.fixture
def node(make_node: MakeNode) -> NodeProcess:
    return make_node(extra=("--listen", "127.0.0.1:0")).start()


def by_tcp(node: NodeProcess, path: str, token: str | None, method: str = "GET") -> tuple[int, str]:
    host, _, port = (node.state_dir / "listen").read_text().strip().rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    found = response.status, response.read().decode()
    connection.close()
    return found


def why(node: NodeProcess, action_id: str) -> dict[str, Any]:
    code, answer = node.call("GET", f"/v1/actions/{action_id}/why")
    assert code == 200, answer
    found: dict[str, Any] = answer
    return found


def test_why_follows_an_action_from_its_queue_to_its_end(node: NodeProcess) -> None:
    first = node.run("sleep_exclusive", {"seconds": 60}, id="first")
    node.wait_status(first, "STARTED")
    node.run("sleep_exclusive", {"seconds": 0}, id="second")
    waits = why(node, "second")
    assert waits["now"]["wait"] == "exclusive_busy"
    assert "is taken by first (sleep_exclusive" in waits["answer"]
    node.call("POST", "/v1/pause", {"reason": "an upgrade"})
    assert "This node is paused since" in why(node, "second")["answer"]
    assert "(an upgrade)" in why(node, "second")["answer"]
    node.kill9()
    node.start()
    time.sleep(0.6)  # what starts late by less than half a second is not explained
    adopted = why(node, "first")
    assert "still ran when a new agentd came" in adopted["answer"]
    assert "adopted" in [one["what"] for one in adopted["decisions"]]
    node.call("POST", "/v1/resume")
    node.call("POST", "/v1/actions/first/cancel")
    node.wait_status("second")
    assert why(node, "second")["answer"].startswith("Attempt 1 exited 0 after")
    assert "started late because its place, the exclusive one" in why(node, "second")["answer"]
    told = why(node, "first")["answer"]
    assert told.startswith("It was cancelled on this node while attempt 1 ran, and was stopped")
    node.stop()
    down = node.agentctl("why", "second")
    assert "Attempt 1 exited 0 after" in down.stdout, down.stderr


def test_why_tells_that_term_was_not_enough(node: NodeProcess) -> None:
    node.run("stubborn", {"seconds": 60}, id="deaf", timeout_s=0.6, grace_s=0.4)
    node.wait_status("deaf")
    told = why(node, "deaf")
    assert "its timeout of 0.60 s passed" in told["answer"]
    assert "(TERM after 0.6" in told["answer"]
    assert "s later, as it still ran)" in told["answer"]
    evidence = told["decisions"][-1]["evidence"]
    assert evidence["stopped_at"] < evidence["killed_at"]
    code, answer = node.call("POST", "/v1/actions", {"kind": "sleep", "timout_s": 3})
    assert code == 422
    assert "did you mean 'timeout_s'?" in str(answer["faults"])


def test_a_stranger_learns_nothing_and_a_token_is_rotated_without_a_restart(
    node: NodeProcess,
) -> None:
    old = (node.state_dir / "api.token").read_text().strip()
    strange = [by_tcp(node, path, None) for path in ("/v1/status", "/no/such", "/metrics")]
    strange += [by_tcp(node, "/v1/status", "wrong", "DELETE"), by_tcp(node, "/openapi.json", "x")]
    assert {code for code, _ in strange} == {401}
    assert len({body for _, body in strange if "wrong" not in body}) <= 2, "none tells them apart"
    assert by_tcp(node, "/no/such", old)[0] == 404
    assert by_tcp(node, "/v1/status", old, "DELETE")[0] == 405
    assert "agentd_build_info" in by_tcp(node, "/metrics", old)[1]
    write_private(node.state_dir / "api.token", "a-new-one\n")
    assert by_tcp(node, "/v1/status", old)[0] == 401
    assert by_tcp(node, "/v1/status", "a-new-one")[0] == 200


def test_a_backend_that_waits_is_answered_at_once_when_the_daemon_stops(node: NodeProcess) -> None:
    token = (node.state_dir / "api.token").read_text().strip()
    node.run("tiny", id="a1")
    node.wait_status("a1")
    seq = json.loads(by_tcp(node, "/v1/state", token)[1])["seq"]
    code, gone = by_tcp(node, f"/v1/events?after={seq + 1}", token)
    assert (code, json.loads(gone)["error"]) == (410, "gone")
    answers: list[tuple[int, str]] = []
    waiting = threading.Thread(
        target=lambda: answers.append(by_tcp(node, f"/v1/events?after={seq}&wait=50", token))
    )
    waiting.start()
    time.sleep(0.3)
    begun = time.monotonic()
    assert node.stop() == 0
    waiting.join(10)
    assert time.monotonic() - begun < 3
    code, body = answers[0]
    assert (code, json.loads(body)["events"], json.loads(body)["after"]) == (200, [], seq)
