"""`corectl approvals | approve | reject` against a real core: words, JSON, exit codes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e import fleet
from tests.fakes.core_process import CoreProcess
from tests.integration.core.test_corectl import corectl

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def core(shared_core: CoreProcess) -> CoreProcess:
    for name in ("web-1", "web-2"):
        body = {"token": fleet.enroll_token(shared_core), "nonce": "n", "agent_id": name}
        code, answer = fleet.ask(shared_core, "POST", "/v1/agents/enroll", body)
        assert code == 200, answer
    return shared_core


def dispatch(core: CoreProcess, name: str, node: str = "web-1", **fields: Any) -> None:
    fleet.dispatch(core, "work", node, id=name, risk_level="guarded", **fields)


def test_decided_by_either_id_and_told_to_people_and_programs(core: CoreProcess) -> None:
    dispatch(core, "one", payload={"n": 1}, proposed_by="supervisor")
    dispatch(core, "two")
    listed = corectl(core, "approvals", "--json")
    found = {one["action_id"]: one for one in json.loads(listed.stdout)["approvals"]}
    assert set(found) == {"one", "two"}
    shown = corectl(core, "approvals", "show", "one").stdout
    for told in ('{"n":1}', "supervisor", "admin", "guarded", found["one"]["digest"]):
        assert told in shown, shown
    wrong = corectl(core, "approve", "one", "--digest", "0" * 64)
    assert (wrong.returncode, "look again" in wrong.stderr) == (5, True)
    assert corectl(core, "approve", "one", "--reason", "ok").stdout == "one approved on web-1\n"
    by_approval = corectl(core, "reject", found["two"]["id"], "--json")
    assert json.loads(by_approval.stdout)["state"] == "rejected"
    assert "approved by admin at" in corectl(core, "show", "one").stdout
    rejected = corectl(core, "approvals", "--state", "rejected").stdout.splitlines()
    assert [line.split()[0] for line in rejected] == ["ACTION", "two"]
    for name in ("one", found["two"]["id"]):
        again = corectl(core, "approve", name)
        assert (again.returncode, "by admin at" in again.stderr) == (5, True), again.stderr
    assert corectl(core, "approve", "nothing").returncode == 4
    assert corectl(core, "approvals", "show", "nothing").returncode == 4


def test_everything_of_one_correlation_id(core: CoreProcess) -> None:
    for name, node in (("a", "web-1"), ("b", "web-2"), ("c", "web-2")):
        dispatch(core, name, node, correlation_id="run-7")
    some = corectl(core, "reject", "--correlation-id", "run-7", "--node", "web-1")
    assert some.stdout == "a rejected on web-1\n"
    rest = corectl(core, "approve", "--correlation-id", "run-7")
    assert sorted(rest.stdout.splitlines()) == ["b approved on web-2", "c approved on web-2"]
    none = corectl(core, "approve", "--correlation-id", "run-7")
    assert (none.returncode, none.stdout) == (0, "nothing waits with this correlation id\n")
    both = corectl(core, "approve", "a", "--correlation-id", "run-7")
    assert both.returncode == 2


def test_a_question_ends_by_itself(core: CoreProcess) -> None:
    """The timer of a running core, not a look at it, ends it."""
    until = datetime.now(UTC) + timedelta(seconds=1.2)
    dispatch(core, "brief", to_date=until.isoformat())
    code, action = fleet.ask(core, "GET", "/v1/actions/brief?wait=20")
    assert (code, action["phase"]) == (200, "EXPIRED")
    assert datetime.now(UTC) >= until
    assert "expired" in corectl(core, "history", "brief").stdout
    late = corectl(core, "approve", "brief")
    assert (late.returncode, "expired at" in late.stderr) == (5, True)


def test_links_are_told_alone(core: CoreProcess) -> None:
    dispatch(core, "linked")
    made = corectl(core, "approvals", "link", "linked", "--ttl", "1h", "--for", "olga")
    lines = dict(line.split(None, 1) for line in made.stdout.splitlines())
    assert lines["approve"].startswith(f"{core.url}/v1/links/")
    assert lines["reject"] != lines["approve"]
    assert "(in 1 h)" in lines["until"]
    code, answer = fleet.ask(core, "POST", lines["reject"].removeprefix(core.url))
    assert (code, answer["decided_by"]) == (200, "link:olga")
    assert corectl(core, "approvals", "link", "linked").returncode == 5
