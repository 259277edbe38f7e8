"""`corectl` as people and scripts call it: words, JSON, exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from tests.fakes.core_backends import OverHttp
from tests.fakes.core_process import ROOT, CoreProcess
from tests.fakes.reporting_node import ReportingNode, execution

pytestmark = pytest.mark.timeout(60)


def corectl(core: CoreProcess, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    ours = {"CORE_URL": core.url, "CORE_TOKEN_FILE": str(core.token_file), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "agent.cli.corectl", *words],
        env={**os.environ, **ours, **environ}, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip


def document(found: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(found.stdout)


class Worker:
    """A node that runs whatever comes, in a thread, until told to end."""

    def __init__(self, core: CoreProcess, *, status: str = "FINISHED") -> None:
        self.status = status
        self.node_id = ""
        self._ready = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(core)), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    async def _run(self, core: CoreProcess) -> None:
        async with OverHttp.to(core) as backend:
            node = await ReportingNode.enrolled(backend)
            self.node_id = node.id
            await node.pull()
            self._ready.set()
            while not self._stop:
                for action in (await node.pull(0.2))["actions"]:
                    await self._execute(node, action)

    async def _execute(self, node: ReportingNode, action: dict[str, Any]) -> None:
        name = action["id"]
        started = node.moved(name, "NULL", "STARTED", "due", attempt=1)
        reason, code = ("exit_zero", 0) if self.status == "FINISHED" else ("exit_nonzero", 7)
        ended = node.moved(
            name, "STARTED", self.status, reason, attempt=1, exit_code=code,
            ended_at="2026-03-01T12:00:01Z",
        )  # fmt: skip
        await node.push(started, ended)

    def stop(self) -> None:
        self._stop = True
        self._thread.join(10)


def test_enroll_token_prints_the_token_alone(shared_core: CoreProcess) -> None:
    found = corectl(shared_core, "enroll-token")
    assert found.returncode == 0
    assert len(found.stdout.strip()) == 43
    assert found.stdout.count("\n") == 1
    made = document(corectl(shared_core, "enroll-token", "--node", "n1", "--ttl", "5m", "--json"))
    assert set(made) == {"token", "node", "expires_at"}
    assert made["node"] == "n1"


def test_json_before_or_behind_the_command(shared_core: CoreProcess) -> None:
    behind = document(corectl(shared_core, "actions", "--json"))
    before = document(corectl(shared_core, "--json", "actions"))
    assert behind == before


def test_a_dispatch_that_is_waited_for(shared_core: CoreProcess) -> None:
    worker = Worker(shared_core)
    found = corectl(
        shared_core, "dispatch", "sleep", "--node", worker.node_id, "--payload", '{"s": 1}',
        "--app", "web", "--app", "db", "--timeout", "30s", "--correlation-id", "c-1",
        "--wait", "--json",
    )  # fmt: skip
    worker.stop()
    assert found.returncode == 0, found.stderr
    shown = document(found)
    assert shown["phase"] == "DONE"
    assert (shown["payload"], shown["app_names"]) == ({"s": 1}, ["web", "db"])
    assert (shown["timeout_s"], shown["correlation_id"]) == (30.0, "c-1")


def test_a_failed_action_is_exit_code_1(shared_core: CoreProcess) -> None:
    worker = Worker(shared_core, status="FAILED")
    found = corectl(shared_core, "dispatch", "fail", "--node", worker.node_id, "--wait-for", "20s")
    worker.stop()
    assert found.returncode == 1
    assert "FAILED (exit code 7, exit_nonzero)" in found.stdout


def test_waiting_in_vain_is_exit_code_1(shared_core: CoreProcess) -> None:
    node = asyncio.run(enrolled(shared_core))
    found = corectl(shared_core, "dispatch", "sleep", "--node", node, "--wait-for", "0.3")
    assert found.returncode == 1
    assert "has not ended yet" in found.stdout


async def enrolled(core: CoreProcess) -> str:
    async with OverHttp.to(core) as backend:
        return (await ReportingNode.enrolled(backend)).id


def test_the_life_of_a_scheduled_action(shared_core: CoreProcess) -> None:
    node = asyncio.run(enrolled(shared_core))
    found = corectl(shared_core, "dispatch", "sleep", "--node", node, "--in", "1h", "--id", "later")
    assert found.returncode == 0
    assert "scheduled" in found.stdout
    assert (
        corectl(shared_core, "dispatch", "sleep", "--node", node, "--id", "later").returncode == 5
    )
    shown = document(corectl(shared_core, "show", "later", "--json"))
    assert set(shown) >= {
        "id", "node", "kind", "execution_status", "phase", "reason", "attempt", "exit_code",
        "started_at", "ended_at", "requested", "revision_applied",
    }  # fmt: skip
    assert (shown["phase"], shown["execution_status"]) == ("SCHEDULED", "NULL")
    assert "SCHEDULED" in corectl(shared_core, "show", "later").stdout
    listed = corectl(shared_core, "actions", "--node", node)
    assert "later" in listed.stdout
    assert "SCHEDULED  in " in listed.stdout
    cancelled = corectl(shared_core, "cancel", "later", "--reason", "no need")
    assert cancelled.returncode == 0
    assert "CANCELLED" in cancelled.stdout
    history = corectl(shared_core, "history", "later")
    assert "cancel_requested" in history.stdout
    told = document(corectl(shared_core, "history", "later", "--json"))
    assert [event["type"] for event in told["events"]] == ["dispatched", "cancel_requested"]


def test_a_dry_run_says_so(shared_core: CoreProcess) -> None:
    node = asyncio.run(enrolled(shared_core))
    found = corectl(shared_core, "dispatch", "sleep", "--node", node, "--dry-run")
    assert (found.returncode, "nothing was changed" in found.stdout) == (0, True)
    assert document(corectl(shared_core, "actions", "--node", node, "--json"))["actions"] == []


def test_agents_are_listed_and_shown(shared_core: CoreProcess) -> None:
    node = asyncio.run(enrolled(shared_core))
    assert node in corectl(shared_core, "agents").stdout
    assert f"node         {node}" in corectl(shared_core, "agents", node).stdout
    assert document(corectl(shared_core, "agents", node, "--json"))["id"] == node
    assert corectl(shared_core, "nudge", node).returncode == 0
    assert document(corectl(shared_core, "agents", node, "--json"))["undelivered"] == 1


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["show", "nothing"], 4, "no action"),
        (["agents", "nobody"], 4, "no node"),
        (["dispatch", "sleep", "--node", "nobody"], 4, "no node"),
        (["dispatch", "No Kind", "--node", "nobody"], 5, "kind"),
        (["dispatch", "sleep"], 2, "--node"),
        (["dispatch", "sleep", "--node", "n", "--payload", "{"], 2, "--payload"),
        (["dispatch", "sleep", "--node", "n", "--payload", "@/none"], 2, "No such file"),
        (["dispatch", "sleep", "--node", "n", "--payload", "@/dev/zero"], 2, "larger than"),
        (["dispatch", "sleep", "--node", "n", "--payload", "@/"], 2, "Is a directory"),
        (["dispatch", "sleep", "--node", "n", "--payload", '"\udcff"'], 2, "not UTF-8"),
        (["dispatch", "sleep", "--node", "n\udcff"], 2, "not UTF-8"),
        (["show", "\udcff"], 2, "not UTF-8"),
        (["dispatch", "sleep", "--node", "a", "--node", "b"], 2, "one node per dispatch"),
        (["show", "--", "-x"], 4, "no action"),
        (["dispatch", "sleep", "--node", "nobody", "--at", "+10m", "--until", "+1h"], 4, "no node"),
        (["dispatch", "sleep", "--node", "n", "--at", "2026-01-01"], 2, "RFC 3339"),
        (["dispatch", "sleep", "--node", "n", "--at", "x", "--in", "1s"], 2, "exclude"),
        (["dispatch", "sleep", "--node", "n", "--in", "soon"], 2, "length of time"),
        (["--core", "http://127.0.0.1:1", "agents"], 3, "nobody listens"),
        (["--core", "http://no.such.host.invalid", "agents"], 3, "cannot reach"),
        (["--core", "ftp://x", "agents"], 2, "not a URL"),
        (["--core", "http://127.0.0.1:99999", "agents"], 2, "not a URL"),
        (["--core", "http://[::1", "agents"], 2, "not a URL"),
        (["--token-file", __file__, "agents"], 2, "one token"),
        (["--token-file", "/none", "agents"], 2, "token file"),
        (["--token-file", "/dev/null", "agents"], 2, "is empty"),
        (["sing"], 2, "No such command"),
    ],
)
def test_exit_codes(shared_core: CoreProcess, words: list[str], code: int, told: str) -> None:
    found = corectl(shared_core, *words)
    assert found.returncode == code, found.stderr
    assert told in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""


def test_a_closed_pipe_is_no_failed_action(shared_core: CoreProcess) -> None:
    """As `corectl … | head` with `set -o pipefail`: 141, and not a word of complaint."""
    reading, writing = os.pipe()
    os.close(reading)
    command = started(shared_core, "agents", "--json", stdout=writing)
    os.close(writing)
    _, told = command.communicate(timeout=20)
    assert (command.returncode, told) == (141, "")


def test_ctrl_c_while_waiting_tells_what_goes_on(shared_core: CoreProcess) -> None:
    node = asyncio.run(enrolled(shared_core))
    command = started(shared_core, "dispatch", "sleep", "--node", node, "--id", "goes-on", "--wait")
    while corectl(shared_core, "show", "goes-on").returncode != 0:
        time.sleep(0.05)
    time.sleep(0.3)
    command.send_signal(signal.SIGINT)
    _, told = command.communicate(timeout=20)
    assert command.returncode == 130
    assert "goes-on goes on" in told


def test_a_wait_survives_a_restart_of_the_core(core: CoreProcess) -> None:
    node = asyncio.run(enrolled(core))
    command = started(core, "dispatch", "sleep", "--node", node, "--id", "long", "--wait")
    while corectl(core, "show", "long").returncode != 0:
        time.sleep(0.05)
    core.kill()
    time.sleep(0.5)
    core.start()
    assert corectl(core, "cancel", "long").returncode == 0
    told, _ = command.communicate(timeout=20)
    assert (command.returncode, told) == (1, "long CANCELLED\n")


def started(core: CoreProcess, *words: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    ours = {"CORE_URL": core.url, "CORE_TOKEN_FILE": str(core.token_file), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "agent.cli.corectl", *words],
        env={**os.environ, **ours}, stdout=stdout, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_failures_are_documents_too(shared_core: CoreProcess) -> None:
    found = corectl(shared_core, "show", "nothing", "--json")
    assert found.returncode == 4
    assert document(found)["error"] == "not_found"


def test_it_imports_neither_half_nor_what_is_slow() -> None:
    script = "import agent.cli.corectl, sys; print(' '.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                           env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)  # fmt: skip
    modules = set(found.stdout.split())
    slow = {"asyncio", "httpx", "sqlalchemy", "structlog", "starlette", "rich"}
    assert not modules & slow
    assert not any(name.startswith(("agent.core", "agent.node")) for name in modules)


def test_a_recurring_action_is_shown_as_its_node_reports_it(shared_core: CoreProcess) -> None:
    standing = {
        "state": "paused", "paused": "freeze", "next_at": None, "next_nominal_at": None,
        "last_nominal_at": "2026-03-01T02:00:00Z", "run_count": 1, "ended_at": None,
        "ended_reason": None, "zone": "Europe/Berlin", "offset_s": 0.0,
    }  # fmt: skip
    over = {"state": "ended", "paused": None, "ended_reason": "max_runs",
            "ended_at": "2026-03-01T02:00:01Z"}  # fmt: skip

    async def told(*reports: dict[str, Any], rule_id: str) -> None:
        async with OverHttp.to(shared_core) as backend:
            node = await ReportingNode.enrolled(backend)
            definition = {"id": rule_id, "kind": "backup", "owner": "node", "revision": 1,
                          "schedule": {"cron": "0 3 * * *"}}  # fmt: skip
            for report in reports:
                node.event("local_definition", rule_id, definition=definition,
                           execution=execution("NULL"), recurring=report)  # fmt: skip
            await node.push()

    asyncio.run(told(standing, rule_id="paused-rule"))
    asyncio.run(told(standing, standing | over, rule_id="ended-rule"))
    asyncio.run(told(standing | over | {"run_count": 0}, rule_id="never-ran"))
    shown = corectl(shared_core, "show", "paused-rule").stdout
    for part in ("SCHEDULED", "cron 0 3 * * *", "paused (freeze)", "2026-03-01 03:00:00 CET"):
        assert part in shown
    assert document(corectl(shared_core, "show", "ended-rule", "--json"))["phase"] == "DONE"
    assert "ended (max_runs)" in corectl(shared_core, "show", "ended-rule").stdout
    assert document(corectl(shared_core, "show", "never-ran", "--json"))["phase"] == "NOT_STARTED"
    listed = document(corectl(shared_core, "actions", "--phase", "SCHEDULED", "--json"))["actions"]
    ids = {one["id"] for one in listed}
    assert "paused-rule" in ids
    assert not {"ended-rule", "never-ran"} & ids
    lines = corectl(shared_core, "history", "paused-rule").stdout
    assert "paused (freeze), revision 1, cron 0 3 * * *, 1 run" in lines
    assert "{" not in lines


def test_what_holds_a_node_back_is_seen_from_the_core(shared_core: CoreProcess) -> None:
    brake = {
        "id": 1, "kind": "deploy", "labels": {}, "reason": "change freeze", "by": "ann",
        "created_at": "2026-03-01T12:00:00Z", "expires_at": "2090-01-01T00:00:00Z",
    }  # fmt: skip
    pause = {"paused": True, "pause_reason": "reboot", "paused_by": "bob",
             "paused_at": "2026-03-01T12:00:00Z", "draining": False}  # fmt: skip

    async def told() -> str:
        async with OverHttp.to(shared_core) as backend:
            node = await ReportingNode.enrolled(backend)
            report = {"version": "0.1", "protocol": 1, "features": [], "host": "h",
                      "catalogue": [], "clock": {}, "brakes": [brake], "pause": pause,
                      "progress": []}  # fmt: skip
            await backend.node(node.who, report)
            return node.id

    name = asyncio.run(told())
    shown = corectl(shared_core, "agents", name).stdout
    assert "reboot; by bob, since 2026-03-01T12:00:00Z" in shown
    assert "kind deploy until 2090-01-01T00:00:00Z: change freeze (by ann)" in shown
    listed = corectl(shared_core, "agents").stdout.splitlines()
    line = next(line for line in listed if line.startswith(name))
    assert "paused, brake on kind deploy" in line
