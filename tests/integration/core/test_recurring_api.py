"""`/v1/recurring` of a real core, on both stores: who matches has it, whatever happens at once."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.fleet import ask
from tests.fakes.core_process import CoreProcess
from tests.fakes.node_process import wait_until
from tests.fakes.plain_node import KIND, PlainNode
from tests.fakes.postgres import Postgres

pytestmark = pytest.mark.timeout(60)
EVERY = {"every": "10m"}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def core(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CoreProcess]:
    settings: dict[str, Any] = {}
    if request.param == "postgres":
        postgres: Postgres = request.getfixturevalue("postgres")
        settings["database"] = postgres.empty_database()
    core = CoreProcess(tmp_path_factory.mktemp("recurring") / "core", **settings).start()
    yield core
    assert core.stop() == 0


def asked(core: CoreProcess, method: str, path: str, body: Any = None) -> dict[str, Any]:
    code, answer = ask(core, method, path, body)
    assert code < 300, answer
    found: dict[str, Any] = answer
    return found


def add(core: CoreProcess, **labels: str) -> PlainNode:
    return PlainNode(core.url, core.token, None, **labels)


def wanted_on(core: CoreProcess, name: str) -> list[str]:
    return [one["node"] for one in asked(core, "GET", f"/v1/recurring/{name}")["on"]
            if one["wanted"]]  # fmt: skip


def sent_to(node: PlainNode) -> list[Any]:
    """What comes next; the first answer of all comes at once, and may be empty."""
    return node.pull(5) or node.pull(10)


def test_codes_and_words(core: CoreProcess) -> None:
    node = add(core)
    name = f"r-{secrets.token_hex(4)}"
    body = {"id": name, "kind": "sleep", "node": node.id, "schedule": EVERY}
    code, made = ask(core, "POST", "/v1/recurring", body)
    assert (code, made["outcome"], made["actions"][0]["node"]) == (201, "scheduled", node.id)
    path = f"/v1/recurring/{name}"
    for method, where, sent, status, word in (
        ("POST", "/v1/recurring", body, 409, "exists"),
        ("POST", "/v1/dispatch", body, 409, "exists"),
        ("POST", "/v1/recurring", {**body, "id": "x", "node": "nobody"}, 404, "not_found"),
        ("POST", "/v1/recurring", {**body, "schedule": "at lunch"}, 422, "invalid"),
        ("POST", "/v1/recurring", [], 422, "invalid"),
        ("GET", "/v1/recurring/nothing", None, 404, "not_found"),
        ("PUT", "/v1/recurring/nothing", body, 404, "not_found"),
        ("PUT", path, {**body, "revision": 7}, 409, "conflict"),
        ("PUT", path, {**body, "id": "other"}, 422, "invalid"),
        ("POST", f"{path}/pause", {"why": "x"}, 422, "invalid"),
        ("POST", f"{path}/backfill", {"from": "2026-01-01T00:00:00Z"}, 422, "invalid"),
        ("POST", f"{path}/run", {"node": "nobody"}, 404, "not_found"),
        ("GET", f"{path}/forecast?until=2020-01-01T00:00:00Z", None, 422, "invalid"),
        ("GET", "/v1/forecast?selector=a+in+b", None, 422, "invalid"),
    ):
        code, refused = ask(core, method, where, sent)
        assert (code, refused["error"]) == (status, word), (method, where, refused)
    assert asked(core, "DELETE", path)["state"] == "deleted"
    code, refused = ask(core, "POST", f"{path}/pause", {})
    assert (code, refused["error"]) == (409, "deleted")


def test_labels_and_kinds_decide_who_has_it(core: CoreProcess) -> None:
    role, name = secrets.token_hex(4), f"r-{secrets.token_hex(4)}"
    first = add(core, role=role)
    body = {"id": name, "kind": "sleep", "selector": f"role={role}", "schedule": EVERY}
    asked(core, "POST", "/v1/recurring", body)
    assert [one["id"] for one in sent_to(first)] == [name]
    later = add(core, role=role)
    assert [one["id"] for one in sent_to(later)] == [name], "it joins, and is woken"
    asked(core, "PATCH", f"/v1/agents/{first.id}", {"labels": {"role": "other"}})
    (withdrawn,) = sent_to(first)
    assert withdrawn["should_be_executed"] is False
    assert wanted_on(core, name) == [later.id]
    unable = PlainNode(core.url, core.token, None)
    unable.report([], role=role)
    unable.report([KIND], role=role)
    assert [one["id"] for one in sent_to(unable)] == [name], "its catalogue has the kind now"
    asked(core, "POST", f"/v1/agents/{later.id}/decommission", {"reason": "old"})
    wait_until(lambda: wanted_on(core, name) == [unable.id], 10, "it stays on a node that is gone")


def test_many_changes_at_once_end_in_one_truth(core: CoreProcess) -> None:
    """Edits, pauses and nodes that come and go meet; nobody is left with an older revision."""
    role, name = secrets.token_hex(4), f"r-{secrets.token_hex(4)}"
    nodes = [add(core, role=role) for _ in range(4)]
    body = {"id": name, "kind": "sleep", "selector": f"role={role}", "schedule": EVERY}
    asked(core, "POST", "/v1/recurring", body)
    failed: list[Any] = []

    def edit() -> None:
        for number in range(8):
            said = ask(
                core, "PUT", f"/v1/recurring/{name}", {**body, "payload": {"seconds": number}}
            )
            verb = "pause" if number % 2 else "resume"
            also = ask(core, "POST", f"/v1/recurring/{name}/{verb}", {})
            failed.extend(one for one in (said, also) if one[0] >= 300)

    def relabel(node: PlainNode) -> None:
        for number in range(8):
            label = {"role": role if number % 2 else "away", "turn": str(number)}
            said = ask(core, "PATCH", f"/v1/agents/{node.id}", {"labels": label})
            failed.extend([said] if said[0] >= 300 else [])

    threads = [threading.Thread(target=edit)]
    threads += [threading.Thread(target=relabel, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    everybody = sorted(node.id for node in nodes)
    wait_until(lambda: wanted_on(core, name) == everybody, 10, "not all of them have it")

    def agree() -> bool:
        newest = [node.pull()[-1:] for node in nodes]
        sent = [page[0] for page in newest if page] or [{}]
        return all(one.get("payload", {}).get("seconds") == 7 for one in sent)

    wait_until(agree, 10, "somebody has an older one")
    assert asked(core, "GET", f"/v1/recurring/{name}")["state"] == "paused"
