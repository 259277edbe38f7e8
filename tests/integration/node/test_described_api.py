"""The local API against its own description: every route is served, every answer has its shape."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from agent.infra.openapi import JSON, Operation
from agent.infra.unix_path import socket_address
from agent.node import metric_names
from agent.node.api.documented import OPERATIONS
from tests.architecture.test_docs import constants
from tests.fakes.node_process import ROOT, NodeProcess

EXAMPLES: dict[str, Any] = {
    "POST /v1/actions": {"kind": "tiny", "labels": {"a": "b"}, "app_names": ["web"]},
    "POST /v1/brake": {"kind": "fail", "for_s": 60, "reason": "test"},
    "POST /v1/recurring": {"id": "rule2", "kind": "tiny", "schedule": {"every": "1 day"}},
    "PUT /v1/recurring/{id}": {"kind": "tiny", "schedule": {"every": "2 days"}},
    "POST /v1/recurring/{id}/pause": {"reason": "test"},
    "POST /v1/recurring/{id}/backfill": {
        "from": "2026-01-01T00:00:00Z", "to": "2026-01-03T00:00:00Z",
    },
    "POST /v1/pause": {"reason": "test"},
    "POST /v1/drain": {"wait_s": 0},
}  # fmt: skip
DRAFT = "https://json-schema.org/draft/2020-12/schema"
LAST = ("POST /v1/sync", "DELETE /v1/recurring/{id}")
"""Refused without a core; and what would take the others' rule away."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("described") / "state"
    directory.mkdir(mode=0o700)
    node = NodeProcess(directory)
    try:
        node.start()
        node.run("tiny", id="done")
        node.wait_status("done")
        node.run("sleep", {"seconds": 3600}, id="runs")
        node.wait_status("runs", "STARTED")
        assert node.call("POST", "/v1/recurring", rule("rule"))[0] == 201
        yield node
    finally:
        node.clean_up()


@pytest.fixture(scope="module")
def described(node: NodeProcess) -> dict[str, Any]:
    code, document = node.call("GET", "/openapi.json")
    assert code == 200
    found: dict[str, Any] = document
    return found


def rule(name: str) -> dict[str, Any]:
    return {"id": name, "kind": "tiny", "schedule": {"cron": "0 3 * * *", "timezone": "UTC"}}


def concrete(operation: Operation, node: NodeProcess) -> str:
    """Its path with an id that is there."""
    name = "rule" if "/recurring/" in operation.path else "done"
    if "/brake/" in operation.path:
        brake = {"kind": "fail", "for_s": 60, "reason": "test"}
        name = str(node.call("POST", "/v1/brake", brake)[1]["id"])
    if operation.path.endswith("/cancel"):
        name = node.run("sleep", {"seconds": 1}, from_date="2099-01-01T00:00:00Z")
    return operation.path.replace("{id}", name)


def faults(described: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    whole = schema | {"components": described["components"]}
    validator = jsonschema_rs.validator_for(whole, validate_formats=True)
    return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(value)]


def raw(node: NodeProcess, path: str) -> tuple[str, str]:
    """Head and body as they come."""
    with socket.socket(socket.AF_UNIX) as sock:
        with socket_address(node.state_dir / "agent.sock") as address:
            sock.connect(address)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n".encode())
        data = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = data.decode().partition("\r\n\r\n")
    return head, body


def test_the_description_is_a_whole_document(described: dict[str, Any]) -> None:
    assert described["openapi"] == "3.1.0"
    schemas = described["components"]["schemas"]
    for name in re.findall(r"'#/components/schemas/(\w+)'", str(described)):
        assert name in schemas
    for schema in schemas.values():
        jsonschema_rs.meta.validate(schema | {"$schema": DRAFT})
    names = [one["operationId"] for path in described["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names) == len(OPERATIONS)


def in_order() -> list[Operation]:
    def key(operation: Operation) -> bool:
        return f"{operation.method} {operation.path}" in LAST

    return sorted(OPERATIONS, key=key)


@pytest.mark.parametrize("operation", in_order(), ids=lambda o: f"{o.method} {o.path}")
def test_every_answer_has_the_shape_that_is_written_down(
    node: NodeProcess, described: dict[str, Any], operation: Operation
) -> None:
    if operation.media != JSON:
        return
    name = f"{operation.method} {operation.path}"
    code, value = node.call(operation.method, concrete(operation, node), EXAMPLES.get(name))
    expected = 409 if name == "POST /v1/sync" else operation.status
    assert code == expected, value
    responses = described["paths"][operation.path][operation.method.lower()]["responses"]
    schema = responses[str(code)]["content"][JSON]["schema"]
    assert not faults(described, schema, value)
    if operation.path in ("/v1/pause", "/v1/drain"):
        node.call("POST", "/v1/resume")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
def test_an_unknown_parameter_is_refused_everywhere(
    node: NodeProcess, described: dict[str, Any], operation: Operation
) -> None:
    path = operation.path.replace("{id}", "1")
    code, value = node.call(operation.method, f"{path}?no_such=1")
    assert (code, value["error"]) == (422, "invalid")
    assert value["faults"][0]["path"] == "no_such"
    assert not faults(described, {"$ref": "#/components/schemas/Error"}, value)


def test_known_parameters_are_taken(node: NodeProcess) -> None:
    for query in (
        "view=queue&limit=1", "status=FINISHED&kind=tiny", "recurring=rule", "view=finished",
    ):  # fmt: skip
        assert node.call("GET", f"/v1/actions?{query}")[0] == 200, query
    assert node.call("GET", "/v1/events?after=0&limit=1&wait=0&ack=false")[0] == 200


def test_prometheus_can_read_every_metric_that_is_named(node: NodeProcess) -> None:
    head, body = raw(node, "/metrics")
    assert "content-type: text/plain; version=0.0.4; charset=utf-8" in head.lower()
    described = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram)$", body, re.MULTILINE))
    assert described == set(constants(ROOT / "agent" / "node" / "metric_names.py"))
    sample = re.compile(r'[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (\+Inf|-?[0-9.e+-]+)')
    for line in body.splitlines():
        assert line.startswith("# ") or sample.fullmatch(line), line
    assert f'{metric_names.ENDINGS}{{status="FINISHED",reason="exit_zero"}}' in body
    running = re.search(rf"^{metric_names.RUNNING} (\d+)$", body, re.MULTILINE)
    assert running
    assert int(running[1]) >= 1, "others of this module may run beside it"


def test_the_doctor_finds_a_well_node(node: NodeProcess) -> None:
    code, answer = node.call("GET", "/v1/doctor")
    assert code == 200
    bad = [check for check in answer["checks"] if check["state"] == "fail"]
    assert not bad
    found = {check["name"]: check["found"] for check in answer["checks"]}
    assert found["runs"] == "1 actions are STARTED, and each has its run"


def test_a_retry_is_a_new_action_of_an_ended_one_only(node: NodeProcess) -> None:
    code, again = node.call("POST", "/v1/actions/done/retry")
    assert (code, again["retry_of"], again["owner"]) == (201, "done", "node")
    assert node.wait_status(again["id"])["execution_status"] == "FINISHED"
    assert node.show("done")["execution_status"] == "FINISHED"
    code, refused = node.call("POST", "/v1/actions/runs/retry")
    assert (code, refused["error"]) == (409, "not_final")
    assert node.call("POST", "/v1/actions/none/retry")[0] == 404
    code, refused = node.call("POST", "/v1/actions/done/retry", {"payload": {}})
    assert (code, refused["faults"][0]["path"]) == (422, "payload")


def test_faults_of_form_and_of_kind_are_told_together(node: NodeProcess) -> None:
    body = {"kind": "nope", "from_date": "soon", "grace_s": -1}
    code, refused = node.call("POST", "/v1/actions", body)
    assert (code, {fault["path"] for fault in refused["faults"]}) == (
        422, {"kind", "from_date", "grace_s"},
    )  # fmt: skip


def test_a_window_that_is_over_ends_the_action_visibly(node: NodeProcess) -> None:
    past = {"kind": "tiny", "id": "past", "to_date": "2020-01-01T00:00:00Z"}
    assert node.call("POST", "/v1/actions", past)[0] == 201
    code, shown = node.call("GET", "/v1/actions/past?wait=10")
    assert code == 200
    assert (shown["execution_status"], shown["reason"]) == ("WONT_START", "window_passed")


def test_what_ends_without_ever_starting_is_counted_too(node: NodeProcess) -> None:
    name = node.run("tiny", from_date="2099-01-01T00:00:00Z")
    counted = 'agentd_endings_total{status="WONT_START",reason="cancelled_on_node"} '
    before = raw(node, "/metrics")[1].partition(counted)[2].partition("\n")[0] or "0"
    assert node.call("POST", f"/v1/actions/{name}/cancel")[0] == 200
    after = raw(node, "/metrics")[1].partition(counted)[2].partition("\n")[0]
    assert int(after) == int(before) + 1
