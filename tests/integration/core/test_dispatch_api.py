"""Dispatch over HTTP: statuses, shapes, roles, and what bad input is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import pytest
from sqlalchemy import insert

from agent.core.store.schema import agent_labels, agents
from tests.fakes.core_inside import CoreInside, core_inside
from tests.fakes.dispatching_core import START

pytestmark = pytest.mark.timeout(60)
Test = Callable[[CoreInside], Awaitable[None]]


def inside(test: Test) -> Callable[[], None]:
    """With a core of its own, which has two nodes that never reported."""

    @wraps(test)
    def run() -> None:
        async def all_of_it() -> None:
            async with core_inside() as core:
                await add_nodes(core, "web-1", "web-2")
                await test(core)

        asyncio.run(all_of_it())

    del run.__wrapped__  # or pytest asks for a fixture `core`
    return run


async def add_nodes(core: CoreInside, *names: str) -> None:
    fresh = {"enrolled_at": START, "stream_epoch": "e", "acked_mark": "m"}
    rows = [{"id": name, **fresh} for name in names]
    held = [{"agent_id": name, "key": "role", "value": "web"} for name in names]
    await core.store.write(lambda c: c.execute(insert(agents), rows))
    await core.store.write(lambda c: c.execute(insert(agent_labels), held))


async def post(core: CoreInside, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
    answer = await core.ask("POST", path, json=body, **more)
    return answer.status_code, answer.json()


@inside
async def test_answers_have_the_shapes_that_are_documented(core: CoreInside) -> None:
    code, one = await post(core, "/v1/dispatch", {"kind": "k", "node": "web-1"})
    assert (code, set(one)) == (200, {"outcome", "action_id"})
    code, many = await post(core, "/v1/dispatch", {"kind": "k", "labels": {"role": "web"}})
    assert (code, set(many)) == (200, {"outcome", "correlation_id", "actions"})
    assert [set(part) for part in many["actions"]] == [{"node", "outcome", "action_id"}] * 2
    code, any_one = await post(
        core, "/v1/dispatch", {"kind": "k", "selector": "role=web", "pick": "any"}
    )
    assert (code, set(any_one)) == (200, {"node", "outcome", "action_id"})
    found = await core.ask("GET", f"/v1/actions?correlation_id={many['correlation_id']}")
    assert len(found.json()["actions"]) == 2
    code, told = await post(core, f"/v1/actions/cancel?correlation_id={many['correlation_id']}")
    assert (code, set(told)) == (200, {"correlation_id", "actions", "more"})
    assert {part["outcome"] for part in told["actions"]} == {"requested"}


@inside
async def test_a_batch_tells_each_its_own_and_is_200(core: CoreInside) -> None:
    good = {"kind": "k", "node": "web-1"}
    body = {"actions": [good, {"kind": "k"}, {**good, "node": "nobody"}, {**good, "id": "a"},
                        {**good, "id": "a"}]}  # fmt: skip
    code, found = await post(core, "/v1/dispatch/batch", body)
    assert code == 200
    assert [(one["outcome"], one.get("status"), one.get("error")) for one in found["results"]] == [
        ("queued", None, None), ("failed", 422, "invalid"), ("failed", 404, "not_found"),
        ("queued", None, None), ("failed", 409, "exists"),
    ]  # fmt: skip
    assert found["results"][1]["faults"][0]["path"] == "node"
    code, dry = await post(core, "/v1/dispatch/batch?dry_run=true", {"actions": [good]})
    assert (code, dry["results"][0]["would_be"]) == (200, "queued")


@inside
async def test_roles_are_asked_for(core: CoreInside) -> None:
    viewer, operator = await core.token("viewer"), await core.token("operator")
    approver = await core.token("approver", "anna")
    body = {"kind": "k", "node": "web-1", "risk_level": "dangerous", "approve": True}
    of_operators = [f"/v1/actions/a/{verb}" for verb in ("cancel", "retry", "reschedule")]
    for path in ("/v1/dispatch", "/v1/dispatch/batch", "/v1/actions/cancel", *of_operators):
        assert (await post(core, path, {}, token=viewer))[0] == 403, path
    code, refused = await post(core, "/v1/dispatch", body, token=operator)
    assert (code, refused["error"]) == (403, "forbidden")
    code, answer = await post(core, "/v1/dispatch", body, token=approver)
    assert (code, answer["outcome"], answer["approved_by"]) == (200, "queued", "anna")


@inside
async def test_bad_input_is_4xx_with_its_faults(core: CoreInside) -> None:
    node = {"kind": "k", "node": "web-1"}
    cases: list[tuple[str, Any, int, str]] = [
        ("/v1/dispatch", [], 422, ""),
        ("/v1/dispatch", {"kind": "k", "selector": "role=(", "dedup_key": ""}, 422, "selector"),
        ("/v1/dispatch", {**node, "correlation_id": "a\0b"}, 422, "correlation_id"),
        ("/v1/dispatch", {**node, "service": "a\0b"}, 422, "service"),
        ("/v1/dispatch", {**node, "dedup_key": "k", "dedup_ttl_s": 10**18}, 422, "dedup_ttl_s"),
        ("/v1/dispatch", {**node, "approve": "yes"}, 422, "approve"),
        ("/v1/dispatch?dry_run=perhaps", node, 422, "dry_run"),
        ("/v1/dispatch/batch", {"actions": [], "dryrun": 1}, 422, "dryrun"),
        ("/v1/dispatch/batch?wait=5", {"actions": [node]}, 422, "wait"),
        ("/v1/actions/cancel", {}, 422, "correlation_id"),
        ("/v1/actions/cancel?correlation_id=x", {"raeson": 1}, 422, "raeson"),
        ("/v1/actions/nobody/reschedule", {"from_date": "2030-01-01T00:00:00Z"}, 404, ""),
        ("/v1/actions/nobody/reschedule", {"from_date": 5}, 422, "from_date"),
        ("/v1/actions/nobody/retry", {}, 404, ""),
    ]
    for path, body, status, fault in cases:
        code, answer = await post(core, path, body)
        assert code == status, (path, body, answer)
        assert not fault or fault in [one["path"] for one in answer["faults"]], (path, answer)
    for query in ("since=tomorrow", "approval=maybe", "until=1", "limit=0", "colour=red"):
        assert (await core.ask("GET", f"/v1/actions?{query}")).status_code == 422, query
    broken = await core.ask("POST", "/v1/dispatch", content=b'{"kind": "k", "kind": "l"}')
    assert (broken.status_code, broken.json()["error"]) == (400, "not_json")


@inside
async def test_two_at_once_with_one_key_are_one(core: CoreInside) -> None:
    body = {"kind": "k", "node": "web-1", "dedup_key": "once"}
    found = await asyncio.gather(*(post(core, "/v1/dispatch", body) for _ in range(20)))
    outcomes = sorted(answer["outcome"] for _, answer in found)
    assert outcomes == ["deduplicated"] * 19 + ["queued"]
    assert len({answer["action_id"] for _, answer in found}) == 1
