"""A real core and what a test asks of it as an operator would."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from typing import Any

from tests.fakes.core_process import CoreProcess
from tests.fakes.node_process import FINAL, NodeProcess, wait_until


def ask(core: CoreProcess, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One call of the operator API with the admin token."""
    connection = http.client.HTTPConnection(core.listen, timeout=60)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Authorization": f"Bearer {core.token}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def enroll_token(core: CoreProcess) -> str:
    code, answer = ask(core, "POST", "/v1/enrollment-tokens", {})
    assert code < 300, answer
    return str(answer["token"])


def dispatch(core: CoreProcess, kind: str, node: str, **fields: Any) -> str:
    code, answer = ask(core, "POST", "/v1/dispatch", {"kind": kind, "node": node} | fields)
    assert code < 300, answer
    return str(answer["action_id"])


def action(core: CoreProcess, action_id: str) -> dict[str, Any]:
    code, answer = ask(core, "GET", f"/v1/actions/{action_id}")
    assert code == 200, answer
    found: dict[str, Any] = answer
    return found


def wait_ended(core: CoreProcess, names: Iterable[str], seconds: float = 90) -> None:
    """Until all of these (at most 200) have ended as the core knows it, on a node of any haste."""
    wanted = set(names)
    left = wanted

    def ended() -> bool:
        nonlocal left
        listed = ask(core, "GET", "/v1/actions?limit=200")[1]["actions"]
        left = wanted - {one["id"] for one in listed if one["execution_status"] in FINAL}
        return not left

    wait_until(ended, seconds, lambda: f"not ended: {sorted(left)}")


def events_of_nodes(core: CoreProcess) -> list[dict[str, Any]]:
    """The core's whole stream, what nodes told only."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        code, answer = ask(core, "GET", f"/v1/events?after={after}&limit=500")
        assert code == 200, answer
        if not answer["events"]:
            return [event for event in found if event["by"] == "node"]
        found += answer["events"]
        after = found[-1]["id"]


def events_at_node(node: NodeProcess) -> list[dict[str, Any]]:
    """The node's whole history."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        answer = node.call("GET", f"/v1/events?after={after}&limit=1000")[1]
        if not answer["events"]:
            return found
        found += answer["events"]
        after = answer["after"]
