"""Recurring actions on a real node, and dispatched by a real core."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import fleet, stamps
from tests.e2e.conftest import MakeNode
from tests.fakes.core_process import CoreProcess
from tests.fakes.node_process import NodeProcess, wait_until

pytestmark = pytest.mark.alone

EVERY_S = 1
DOWN_S = 3.5


def occurrences(node: NodeProcess, name: str) -> list[dict[str, Any]]:
    code, answer = node.call("GET", f"/v1/actions?recurring={name}&limit=500")
    assert code == 200, answer
    found: list[dict[str, Any]] = answer["actions"]
    return found


def instants(found: list[dict[str, Any]]) -> Counter[str]:
    """Nominal instant → how many rows speak of it, as itself or in a range that was missed."""
    seen: Counter[str] = Counter()
    for one in found:
        missed = one.get("missed")
        if not missed:
            seen[one["nominal_at"]] += 1
            continue
        at = datetime.fromisoformat(missed["first"])
        while at <= datetime.fromisoformat(missed["last"]):
            seen[at.isoformat().replace("+00:00", "Z")] += 1
            at += timedelta(seconds=EVERY_S)
    return seen


@pytest.mark.timeout(60)
def test_killed_and_down_no_instant_twice_none_lost(node: NodeProcess, tmp_path: Path) -> None:
    file = tmp_path / "stamps"
    rule = {
        "id": "tick", "kind": "stamp", "payload": {"file": str(file), "seconds": 0},
        "schedule": {"every": f"{EVERY_S}s", "overlap": "queue"},
    }  # fmt: skip
    code, made = node.call("POST", "/v1/actions", rule)
    assert (code, made["state"]) == (201, "active"), made
    wait_until(lambda: len(occurrences(node, "tick")) >= 2, 20, "it does not tick")
    node.kill9()
    time.sleep(DOWN_S)
    node.start()
    before = len(occurrences(node, "tick"))
    wait_until(lambda: len(occurrences(node, "tick")) >= before + 2, 20, "it ticks no more")
    code, over = node.call("DELETE", "/v1/recurring/tick")
    assert (code, over["state"], over["ended_reason"]) == (200, "ended", "withdrawn")
    node.wait_quiet()
    found = occurrences(node, "tick")
    seen = instants(found)
    first, last = min(seen), max(seen)
    span_s = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
    assert set(seen.values()) == {1}, "an instant has one row, or is in one range"
    assert len(seen) == span_s / EVERY_S + 1, "no instant without a word"
    ran = [one["id"] for one in found if one["execution_status"] == "FINISHED"]
    assert stamps.read(file, "start") == {(action_id, 1): 1 for action_id in ran}


@pytest.mark.timeout(60)
def test_what_people_do_with_one(node: NodeProcess) -> None:
    schedule = {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "duration": "1h"}
    rule = {"id": "nightly", "kind": "sleep", "payload": {"seconds": 0}, "schedule": schedule}
    assert node.call("POST", "/v1/recurring", rule)[0] == 201
    assert node.call("POST", "/v1/recurring", rule)[1]["error"] == "conflict"
    assert node.call("POST", "/v1/actions", rule | {"schedule": None})[1]["error"] == "conflict"

    code, ran = node.call("POST", "/v1/recurring/nightly/run")
    assert (code, ran["recurring_id"]) == (201, "nightly"), ran
    assert ran["id"].endswith(".b1")
    assert node.wait_status(ran["id"])["execution_status"] == "FINISHED"

    past = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-04T00:00:00Z"}
    code, filled = node.call("POST", "/v1/recurring/nightly/backfill", past)
    assert (code, filled["created"]) == (
        201,
        [f"nightly@2026-01-0{day}T02:00:00Z.b1" for day in (1, 2, 3)],
    )
    for action_id in filled["created"]:
        assert node.wait_status(action_id)["execution_status"] == "FINISHED"
    assert node.call("GET", "/v1/recurring/nightly")[1]["run_count"] == 0, "by hand is not counted"
    too_many = {"from": "1990-01-01T00:00:00Z", "to": "2020-01-01T00:00:00Z"}
    code, refused = node.call("POST", "/v1/recurring/nightly/backfill", too_many)
    assert (code, refused["error"]) == (409, "too_many"), refused
    assert "10957 instants" in refused["message"]

    code, paused = node.call("POST", "/v1/recurring/nightly/pause", {"reason": "a move"})
    assert (paused["state"], paused["paused"]) == ("paused", "a move")
    forecast = node.call("GET", "/v1/forecast?id=nightly")[1]
    assert forecast["fires"][0]["notes"] == ["paused: a move"], forecast
    assert node.call("POST", "/v1/recurring/nightly/resume")[1]["state"] == "active"

    schedule["cron"] = "0 4 * * *"
    code, edited = node.call("PUT", "/v1/recurring/nightly", rule | {"schedule": schedule})
    assert (code, edited["revision"]) == (200, 2)
    code, refused = node.call("PUT", "/v1/recurring/nightly", rule | {"schedule": "at lunch"})
    assert (code, refused["error"]) == (422, "invalid"), refused
    code, listed = node.call("GET", "/v1/recurring")
    assert [one["id"] for one in listed["recurring"]] == ["nightly"]
    code, unknown = node.call("POST", "/v1/recurring", rule | {"id": "x", "kind": "nope"})
    assert code == 422
    assert unknown["faults"][0]["path"] == "kind"
    node.stop()
    node.start()
    assert node.call("GET", "/v1/recurring/nightly")[1]["revision"] == 2
    assert node.call("DELETE", "/v1/recurring/nightly")[1]["state"] == "ended"
    assert node.call("POST", "/v1/recurring", rule)[1]["revision"] == 3, "it begins anew"
    assert node.call("POST", "/v1/actions/nightly/cancel")[1]["ended_reason"] == "cancelled_on_node"


@pytest.mark.timeout(60)
def test_dispatched_by_a_core_it_runs_and_is_seen_there(
    make_node: MakeNode, tmp_path: Path
) -> None:
    core = CoreProcess(tmp_path / "core").start()
    try:
        node = make_node(core=core.url, token=fleet.enroll_token(core)).start()
        wait_until(lambda: bool(node.status()["core"]["connected"]), 20, "not connected")
        schedule = {"every": "1s", "overlap": "queue"}
        fleet.dispatch(core, "sleep", "n1", id="tick", payload={"seconds": 0}, schedule=schedule)
        assert fleet.action(core, "tick")["phase"] == "SCHEDULED"

        def ran_here() -> list[dict[str, Any]]:
            found = fleet.ask(core, "GET", "/v1/actions?limit=100")[1]["actions"]
            return [one for one in found if one["id"].startswith("tick@")]

        wait_until(lambda: any(one["phase"] == "DONE" for one in ran_here()), 20, "nothing is told")
        assert {one["owner"] for one in ran_here()} == {"core"}
        code, refused = node.call("DELETE", "/v1/recurring/tick")
        assert (code, refused["error"]) == (409, "conflict")
        node.call("POST", "/v1/recurring/tick/pause", {"reason": "by hand"})
        told = [e for e in fleet.events_of_nodes(core) if e["action_id"] == "tick"]
        wait_until(
            lambda: any(
                (event.get("recurring") or {}).get("paused") == "by hand"
                for event in fleet.events_of_nodes(core)
            ),
            20, f"the core is not told: {told}",
        )  # fmt: skip
        node.call("POST", "/v1/recurring/tick/resume")
        code, answer = fleet.ask(core, "POST", "/v1/actions/tick/cancel", {})
        assert code == 200, answer
        wait_until(
            lambda: node.call("GET", "/v1/recurring/tick")[1]["ended_reason"] == "withdrawn",
            20, "never withdrawn",
        )  # fmt: skip
        node.wait_quiet()
        assert fleet.action(core, "tick")["phase"] == "CANCELLED"
        wait_until(
            lambda: all(one["phase"] in ("DONE", "CANCELLED", "NOT_STARTED") for one in ran_here()),
            20, "not all ends are told",
        )  # fmt: skip
    finally:
        core.stop()
