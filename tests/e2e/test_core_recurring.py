"""A recurring action of the core by label: real core, real nodes, from its creation to its end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.domain.instants import format_instant
from tests.e2e import fleet
from tests.e2e.conftest import MakeNode
from tests.fakes.core_process import CoreProcess
from tests.fakes.node_process import NodeProcess, wait_until

pytestmark = pytest.mark.alone

RULE = "/v1/recurring/tick"


@pytest.fixture
def core(tmp_path: Path) -> Iterator[CoreProcess]:
    core = CoreProcess(tmp_path / "core").start()
    yield core
    core.stop()


def add(core: CoreProcess, make_node: MakeNode, name: str, **labels: str) -> NodeProcess:
    token = fleet.enroll_token(core)
    node = make_node(name, core=core.url, token=token, agent_id=name).start()
    wait_until(lambda: bool(node.status()["core"]["connected"]), 20, f"{name} is not connected")
    code, answer = fleet.ask(core, "PATCH", f"/v1/agents/{name}", {"labels": labels})
    assert code == 200, answer
    return node


def asked(core: CoreProcess, method: str, path: str, body: Any = None) -> dict[str, Any]:
    code, answer = fleet.ask(core, method, path, body)
    assert code < 300, answer
    found: dict[str, Any] = answer
    return found


def on(core: CoreProcess) -> dict[str, dict[str, Any]]:
    """How it stands on each node, as the core knows it."""
    return {one["node"]: one for one in asked(core, "GET", RULE)["on"]}


def done_on(core: CoreProcess, node: str) -> list[str]:
    found = asked(core, "GET", f"{RULE}/history?node={node}&limit=500")["actions"]
    return [one["id"] for one in found if one["phase"] == "DONE"]


def rule_at(node: NodeProcess) -> dict[str, Any]:
    found: dict[str, Any] = node.call("GET", "/v1/recurring/tick")[1]
    return found


@pytest.mark.timeout(90)
def test_by_label_from_its_creation_to_its_end(make_node: MakeNode, core: CoreProcess) -> None:
    one, two = (add(core, make_node, name, role="web") for name in ("n1", "n2"))
    rule = {
        "id": "tick", "kind": "sleep", "payload": {"seconds": 0}, "selector": "role=web",
        "schedule": {"every": "1s", "overlap": "queue", "catch_up": "skip"},
    }  # fmt: skip
    made = asked(core, "POST", "/v1/recurring", rule)
    assert [part["outcome"] for part in made["actions"]] == ["scheduled", "scheduled"]

    wait_until(
        lambda: all(len(done_on(core, name)) >= 2 for name in ("n1", "n2")), 20, "it does not tick"
    )
    wait_until(lambda: (on(core)["n1"]["run_count"] or 0) >= 2, 20, "how it stands is not told")
    assert on(core)["n2"]["state"] == "active"
    assert asked(core, "GET", f"{RULE}/forecast?limit=4")["fires"]

    _pause_holds_and_resume_goes_on(core, one)

    edited = asked(core, "PUT", RULE, {**rule, "payload": {"seconds": 0.01}, "revision": 3})
    assert edited["revision"] == 4
    wait_until(
        lambda: all(node.call("GET", "/v1/recurring/tick")[1]["revision"] == 4
                    for node in (one, two)), 20, "the edit does not arrive",
    )  # fmt: skip

    three = add(core, make_node, "n3", role="web")
    wait_until(lambda: len(done_on(core, "n3")) >= 1, 20, "who joins later does not get it")
    asked(core, "PATCH", "/v1/agents/n3", {"labels": {"role": "db"}})
    wait_until(lambda: rule_at(three)["ended_reason"] == "withdrawn", 20, "it stays on n3")

    _goes_on_without_the_core(core, one)
    _is_backfilled(core, one)

    assert asked(core, "DELETE", RULE)["state"] == "deleted"
    wait_until(
        lambda: {rule_at(node)["ended_reason"] for node in (one, two)} == {"withdrawn"}, 20,
        "it does not end",
    )  # fmt: skip
    wait_until(lambda: on(core)["n2"]["state"] == "ended", 20, "the core is not told")
    assert done_on(core, "n1"), "its history stays"


def _pause_holds_and_resume_goes_on(core: CoreProcess, node: NodeProcess) -> None:
    asked(core, "POST", f"{RULE}/pause", {"reason": "a move"})
    wait_until(lambda: rule_at(node)["paused_by"] == "owner", 20, "the pause does not arrive")
    wait_until(lambda: on(core)["n1"]["paused"] == "by the core: a move", 20, "it is not told")
    before = rule_at(node)["run_count"]
    code, refused = node.call("POST", "/v1/recurring/tick/resume")
    assert (code, refused["error"]) == (409, "paused_by_owner"), refused
    held_at = rule_at(node)["last_nominal_at"]
    paused_until = datetime.now(UTC) + timedelta(seconds=2)
    wait_until(lambda: datetime.now(UTC) > paused_until, 20, "time stands still")
    assert rule_at(node)["run_count"] == before, "nothing is planned meanwhile"
    asked(core, "POST", f"{RULE}/resume", {})
    wait_until(lambda: rule_at(node)["run_count"] >= before + 2, 20, "it does not go on")
    code, listed = node.call("GET", "/v1/actions?recurring=tick&limit=500")
    missed = [one for one in listed["actions"] if one["reason"] == "missed"]
    assert any(one["missed"]["first"] > held_at and "a move" in one["missed"]["why"]
               for one in missed), missed  # fmt: skip


def _goes_on_without_the_core(core: CoreProcess, node: NodeProcess) -> None:
    core.kill()
    before = rule_at(node)["run_count"]
    wait_until(lambda: rule_at(node)["run_count"] >= before + 2, 20, "it needs the core")
    core.start()
    ran = f"tick@{rule_at(node)['last_nominal_at']}"
    wait_until(lambda: ran in done_on(core, "n1"), 30, "what ran meanwhile is not told")


def _is_backfilled(core: CoreProcess, node: NodeProcess) -> None:
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    body = {
        "from": format_instant(end - timedelta(seconds=2)), "to": format_instant(end), "node": "n1",
    }  # fmt: skip
    told = asked(core, "POST", f"{RULE}/backfill", body)
    assert told["count"] == 2, told
    names = [one["action_id"] for one in told["actions"]]
    assert all(name.endswith(".b10001") for name in names)
    wait_until(lambda: set(names) <= set(done_on(core, "n1")), 20, "the past does not run")
    run = asked(core, "POST", f"{RULE}/run", {"node": "n1"})["actions"][0]["action_id"]
    assert node.wait_status(run)["execution_status"] == "FINISHED"
