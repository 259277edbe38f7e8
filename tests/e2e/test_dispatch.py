"""Seed 003's three use cases, with a real core, node and runner; and what a crash may not lose.

The delays of the rules are seconds here, and a day where nobody waits for its end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.domain.instants import format_instant, parse_instant
from tests.e2e import fleet, stamps
from tests.fakes.core_process import CoreProcess
from tests.fakes.node_process import NodeProcess, copy_kinds, wait_until

pytestmark = pytest.mark.timeout(120)

RULES = """\
rules:
  - name: delay-reminders
    priority: 10
    description: "Remind after a while"
    condition:
      field: action.action_type
      eq: "send_reminder"
    action:
      type: schedule
      delay_seconds: 3
  - name: remind-tomorrow
    priority: 5
    condition:
      all:
        - field: action.action_type
          eq: "send_reminder"
        - field: action.metadata.when
          eq: "tomorrow"
    action:
      type: schedule
      delay_seconds: 86400
  - name: escalate-after-half-an-hour
    priority: 20
    condition:
      field: action.action_type
      eq: "escalate"
    action:
      type: schedule
      delay_seconds: 1800
"""
NODE = "n1"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("dispatch")
    rules = found / "rules"
    rules.mkdir()
    (rules / "scheduled.yaml").write_text(RULES)
    kinds = copy_kinds(found / "kinds", "stamp")
    for name in ("send_reminder", "escalate"):
        for suffix in ("", ".toml"):
            copied = kinds / f"{name}{suffix}"
            copied.write_bytes((kinds / f"stamp{suffix}").read_bytes())
            copied.chmod(0o755 if not suffix else 0o644)
    return found


@pytest.fixture(scope="module")
def core(place: Path) -> Iterator[CoreProcess]:
    process = CoreProcess(place / "core", rules_dir=place / "rules").start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def node(place: Path, core: CoreProcess) -> Iterator[NodeProcess]:
    (place / "node").mkdir()
    process = NodeProcess(
        place / "node", place / "kinds", core=core.url, token=fleet.enroll_token(core),
        agent_id=NODE,
    )  # fmt: skip
    process.start()
    connected(process)
    yield process
    process.clean_up()


def connected(node: NodeProcess) -> None:
    wait_until(lambda: bool(node.status()["core"]["connected"]), 30, "not connected")


def send(core: CoreProcess, **document: Any) -> dict[str, Any]:
    code, answer = fleet.ask(core, "POST", "/v1/dispatch", {"node": NODE, **document})
    assert code == 200, answer
    found: dict[str, Any] = answer
    return found


def stamp(place: Path, name: str, **more: Any) -> dict[str, Any]:
    return {"file": str(place / name), "seconds": 0, **more}


def started(place: Path, name: str) -> dict[tuple[str, int], int]:
    return dict(stamps.read(place / name, "start"))


def wait_phase(core: CoreProcess, action_id: str, phase: str) -> dict[str, Any]:
    wait_until(
        lambda: fleet.action(core, action_id)["phase"] == phase, 30,
        lambda: f"{action_id} is {fleet.action(core, action_id)['phase']}, not {phase}",
    )  # fmt: skip
    return fleet.action(core, action_id)


def wait_settled(core: CoreProcess, action_id: str) -> None:
    """Until the node has said what became of the cancellation."""
    wait_until(lambda: fleet.action(core, action_id)["requested"] is None, 30, "not settled")
    assert fleet.action(core, action_id)["phase"] == "CANCELLED"


def in_seconds(seconds: float) -> str:
    return format_instant(datetime.now(UTC) + timedelta(seconds=seconds))


def test_a_reminder_fires_by_the_node_s_own_timer_once_though_the_core_is_killed(
    core: CoreProcess, node: NodeProcess, place: Path
) -> None:
    asked_at = time.time()
    answer = send(core, action_type="send_reminder", payload=stamp(place, "reminder"))
    assert (answer["outcome"], answer["rule"]) == ("scheduled", "delay-reminders")
    name, due = answer["action_id"], parse_instant(answer["scheduled_for"]).timestamp()
    assert 2.9 < due - asked_at < 6
    assert node.wait_status(name, "NULL")["phase"] == "SCHEDULED", "the node has it at once"
    core.kill()
    assert node.wait_status(name)["execution_status"] == "FINISHED"
    began = stamps.first_after(place / "reminder", due)
    assert 0 <= began < 1.5, "by its own timer, at the time, without a core"
    core.start()
    assert wait_phase(core, name, "DONE")["attempt"] == 1
    assert started(place, "reminder") == {(name, 1): 1}


def test_an_answered_dispatch_survives_kill_9_before_any_node_had_it(
    core: CoreProcess, node: NodeProcess, place: Path
) -> None:
    assert node.stop() == 0
    names = []
    for number in range(2):
        answer = send(core, kind="stamp", payload=stamp(place, "durable"), id=f"durable-{number}")
        assert answer["outcome"] == "queued"
        core.kill()
        core.start()
        names.append(answer["action_id"])
    assert [fleet.action(core, name)["delivered"] for name in names] == [False] * 2
    node.start()
    for name in names:
        wait_phase(core, name, "DONE")
    assert started(place, "durable") == {(name, 1): 1 for name in names}


def test_tomorrow_s_reminder_is_listed_moved_and_called_off(
    core: CoreProcess, node: NodeProcess, place: Path
) -> None:
    connected(node)
    tomorrow = {"action_type": "send_reminder", "metadata": {"when": "tomorrow"}}
    one = send(core, **tomorrow, payload=stamp(place, "one"))
    two = send(core, **tomorrow, payload=stamp(place, "two"))
    ahead = parse_instant(one["scheduled_for"]) - datetime.now(UTC)
    assert timedelta(hours=23.9) < ahead < timedelta(hours=24.1)
    listed = fleet.ask(core, "GET", f"/v1/actions?phase=SCHEDULED&node={NODE}")[1]["actions"]
    assert {one["action_id"], two["action_id"]} <= {action["id"] for action in listed}
    for name in (one["action_id"], two["action_id"]):
        node.wait_status(name, "NULL")
    soon = {"from_date": in_seconds(1), "reason": "now rather"}
    code, moved = fleet.ask(core, "POST", f"/v1/actions/{one['action_id']}/reschedule", soon)
    assert (code, moved["requested"]["type"], moved["revision"]) == (200, "reschedule", 2)
    assert wait_phase(core, one["action_id"], "DONE")["requested"] is None
    assert started(place, "one") == {(one["action_id"], 1): 1}
    code, late = fleet.ask(core, "POST", f"/v1/actions/{one['action_id']}/reschedule", soon)
    assert (code, late["error"]) == (409, "already_ended")
    assert fleet.ask(core, "POST", f"/v1/actions/{two['action_id']}/cancel", {})[0] == 200
    assert node.wait_status(two["action_id"])["reason"] == "withdrawn"
    wait_settled(core, two["action_id"])
    assert started(place, "two") == {}


def test_failed_ones_run_again_off_peak(core: CoreProcess, node: NodeProcess, place: Path) -> None:
    connected(node)
    for number in range(3):
        send(core, kind="stamp", correlation_id="nightly", id=f"job-{number}",
             payload=stamp(place, "nightly", code=number % 2))  # fmt: skip
    for number, phase in enumerate(["DONE", "FAILED", "DONE"]):
        wait_phase(core, f"job-{number}", phase)
    query = "/v1/actions?correlation_id=nightly&phase=FAILED"
    failed = [one["id"] for one in fleet.ask(core, "GET", query)[1]["actions"]]
    assert failed == ["job-1"]
    window = {"from_date": in_seconds(1.5), "to_date": in_seconds(30)}
    body = {**window, "payload": stamp(place, "nightly", code=0)}
    code, again = fleet.ask(core, "POST", "/v1/actions/job-1/retry?wait=20", body)
    assert (code, again["outcome"]) == (200, "executed")
    assert again["response"]["started_at"] >= window["from_date"]
    shown = fleet.action(core, again["action_id"])
    assert (shown["retry_of"], shown["correlation_id"]) == ("job-1", "nightly")
    assert fleet.action(core, "job-1")["phase"] == "FAILED"
    assert fleet.ask(core, "POST", "/v1/actions/durable-0/retry?dry_run=true", {})[0] == 200


def test_an_escalation_is_withdrawn_when_somebody_acknowledges(
    core: CoreProcess, node: NodeProcess, place: Path
) -> None:
    connected(node)
    alert = {"action_type": "escalate", "correlation_id": "alert-7"}
    one = send(core, **alert, payload=stamp(place, "escalation"))
    assert (one["outcome"], one["rule"]) == ("scheduled", "escalate-after-half-an-hour")
    other = send(core, action_type="escalate", correlation_id="alert-8",
                 payload=stamp(place, "escalation"))  # fmt: skip
    node.wait_status(one["action_id"], "NULL")
    path = "/v1/actions/cancel?correlation_id=alert-7"
    code, told = fleet.ask(core, "POST", path, {"reason": "acknowledged by olga"})
    assert (code, [action["action_id"] for action in told["actions"]]) == (200, [one["action_id"]])
    assert node.wait_status(one["action_id"])["reason"] == "withdrawn"
    wait_settled(core, one["action_id"])
    assert fleet.action(core, other["action_id"])["phase"] == "SCHEDULED", "another alert's stays"
    assert fleet.ask(core, "POST", "/v1/actions/cancel?correlation_id=alert-8", {})[0] == 200
    assert started(place, "escalation") == {}


def test_what_was_due_while_the_node_was_down_runs_late_or_is_said_to_have_expired(
    core: CoreProcess, node: NodeProcess, place: Path
) -> None:
    connected(node)
    soon, end = in_seconds(2), in_seconds(2.7)
    given = {"kind": "stamp", "from_date": soon, "payload": stamp(place, "late")}
    late, gone = send(core, **given), send(core, **given, to_date=end)
    for answer in (late, gone):
        node.wait_status(answer["action_id"], "NULL")
    node.kill9()
    wait_until(lambda: in_seconds(0) > end, 10, "the clock stands still")
    node.start()
    assert wait_phase(core, late["action_id"], "DONE")["attempt"] == 1
    missed = wait_phase(core, gone["action_id"], "NOT_STARTED")
    assert missed["reason"] == "window_passed", "told, not dropped"
    assert started(place, "late") == {(late["action_id"], 1): 1}
