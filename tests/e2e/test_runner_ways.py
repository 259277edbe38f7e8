"""What the node makes of its runner: its catalogue, its output, its limits, and the right one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node_process import NodeProcess, _UnixConnection, copy_kinds, wait_until

pytestmark = [pytest.mark.timeout(120), pytest.mark.alone]


@contextmanager
def node_on(state: Path, scripts: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(state, scripts)
    try:
        yield node.start()
    finally:
        node.clean_up()


def add_kind(scripts: Path, name: str, body: str, manifest: str | None = None) -> None:
    path = scripts / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    if manifest is not None:
        (scripts / f"{name}.toml").write_text(manifest)
        (scripts / f"{name}.toml").chmod(0o644)


def kinds(node: NodeProcess) -> dict[str, Any]:
    return {kind["kind"]: kind for kind in node.call("GET", "/v1/kinds")[1]["kinds"]}


def output(node: NodeProcess, action_id: str, query: str) -> tuple[bytes, dict[str, str]]:
    connection: HTTPConnection = _UnixConnection(node.state_dir / "agent.sock")
    connection.request("GET", f"/v1/actions/{action_id}/output?{query}")
    response = connection.getresponse()
    found = response.read(), {name.lower(): value for name, value in response.getheaders()}
    connection.close()
    return found


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return copy_kinds(tmp_path / "scripts", "sleep", "tiny")


def test_kinds_come_and_go_without_a_restart_and_without_being_asked_for(
    tmp_path: Path, scripts: Path
) -> None:
    with node_on(tmp_path / "n", scripts) as node:
        read = node.log.read_text().count("catalogue_read")
        add_kind(scripts, "newcomer", "exit 0")
        wait_until(lambda: node.log.read_text().count("catalogue_read") > read, 10, "not noticed")
        assert node.wait_status(node.run("newcomer"))["execution_status"] == "FINISHED"
        waiting = node.run("sleep", {"seconds": 0.5})
        (scripts / "newcomer").unlink()
        wait_until(lambda: "newcomer" not in kinds(node), 10, "still there")
        assert node.call("POST", "/v1/actions", {"kind": "newcomer"})[0] == 422
        assert node.wait_status(waiting)["execution_status"] == "FINISHED"


def test_a_kind_shows_its_user_its_limits_and_what_is_wrong_with_its_schema(
    tmp_path: Path, scripts: Path
) -> None:
    add_kind(scripts, "limited", "exit 0", 'limits = { cpu_s = 5, file_bytes = "1M" }')
    add_kind(scripts, "schemed", "exit 0", '[payload_schema]\ntype = "objekt"')
    add_kind(scripts, "nobodys", "exit 0", 'user = "no-such-account"')
    with node_on(tmp_path / "n", scripts) as node:
        found = kinds(node)
        assert found["limited"]["limits"] == {"cpu_s": 5, "file_bytes": 1 << 20}
        assert found["limited"]["faults"] == []
        assert found["nobodys"]["user"] == "no-such-account"
        assert "no such account" in found["nobodys"]["faults"][0]
        assert "payload_schema" in found["schemed"]["faults"][0]
        runner = node.status()["runner"]
        assert runner["containment"] in ("cgroup", "attributed")
        assert (runner["scripts_dir"], runner["survivors"]) == (str(scripts), 0)


def test_what_exceeded_a_limit_says_so(tmp_path: Path, scripts: Path) -> None:
    add_kind(scripts, "writes", f"exec dd if=/dev/zero of={tmp_path}/big bs=1k count=100",
             'limits = { file_bytes = "4K" }')  # fmt: skip
    with node_on(tmp_path / "n", scripts) as node:
        ended = node.wait_status(node.run("writes"))
        assert ended["execution_status"] == "FAILED"
        assert ended["error"] == "exceeded its limit file_bytes (signal 25, SIGXFSZ)"


def test_both_streams_in_order_also_after_a_restart_of_agentd(
    tmp_path: Path, scripts: Path
) -> None:
    body = "for i in 1 2 3; do echo out$i; sleep 0.05; echo err$i >&2; sleep 0.05; done; sleep 0.5"
    add_kind(scripts, "talks", body)
    with node_on(tmp_path / "n", scripts) as node:
        action = node.run("talks")
        node.wait_status(action, "STARTED")
        node.kill9()
        node.start()
        node.wait_status(action)
        whole = b"out1\nerr1\nout2\nerr2\nout3\nerr3\n"
        data, headers = output(node, action, "stream=both")
        assert data == whole
        assert headers["x-output-total"] == str(len(whole))
        assert "x-output-pruned" not in headers
        assert output(node, action, "stream=both&offset=7&follow=true")[0] == whole[7:]
        for path in (node.state_dir / "runs").glob("*.out"):
            path.unlink()
        data, headers = output(node, action, "stream=stdout")
        assert (data, headers["x-output-pruned"]) == (b"", "true")


def test_a_runner_that_serves_other_scripts_is_seen_off(tmp_path: Path, scripts: Path) -> None:
    other = copy_kinds(tmp_path / "other", "tiny")
    add_kind(other, "where", "echo other")
    with node_on(tmp_path / "n", scripts) as first:
        slow = first.run("sleep", {"seconds": 2})
        first.wait_status(slow, "STARTED")
        pid = first.status()["runner"]["pid"]
        first.kill9()
        second = NodeProcess(tmp_path / "n", other)
        second.runner_pids.add(pid)
        try:
            second.start(wait=False)
            wait_until(lambda: "nothing starts until" in problem(second), 10, "not told")
            assert f"{scripts}, not {other}" in problem(second)
            waiting = second.run("tiny")
            assert second.show(waiting)["execution_status"] == "NULL"
            ended = second.wait_status(slow)
            assert (ended["execution_status"], ended["verdict"]) == ("FINISHED", "adopted")
            assert second.wait_status(waiting)["execution_status"] == "FINISHED"
            runner = second.status()["runner"]
            assert (runner["scripts_dir"], runner["problem"]) == (str(other), None)
            assert runner["pid"] != pid
            second.runner_pids.add(runner["pid"])
            assert "where" in kinds(second)
        finally:
            second.clean_up()


def problem(node: NodeProcess) -> str:
    try:
        return str(node.status()["runner"]["problem"])
    except OSError:
        return ""
