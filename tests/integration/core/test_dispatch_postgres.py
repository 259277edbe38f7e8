"""Dispatch at two `cored` on one PostgreSQL: once by key and id, and nobody waits in a circle."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent.core.actions.listing import ActionRef
from agent.core.rules.verdict import Result, Verdict
from agent.core.store.database import database_of
from agent.core.store.schema import actions, deliveries
from agent.core.store.threaded import ThreadedStore
from agent.domain.errors import Refused
from tests.fakes.dispatching_core import START, DispatchingCore, FunctionRules, scenario
from tests.fakes.postgres import Postgres
from tests.unit.core.dispatch.test_pipeline import in_seconds

pytestmark = pytest.mark.timeout(90)
NODES = [f"web-{number}" for number in range(8)]


@asynccontextmanager
async def two_cores(postgres: Postgres, **terms: Any) -> AsyncIterator[list[DispatchingCore]]:
    url = postgres.database()
    stores = [ThreadedStore(database_of(url)) for _ in range(2)]
    for store in stores:
        store.open()
    cores = [DispatchingCore(store, **terms) for store in stores]
    await cores[0].add_nodes(*NODES, labels={"role": "web"})
    yield cores
    for store in stores:
        await store.close()


def outcomes(answers: list[Any]) -> Counter[str]:
    return Counter(
        answer.code if isinstance(answer, Refused) else answer["outcome"] for answer in answers
    )


def test_of_many_with_one_key_or_id_one_is_stored(postgres: Postgres) -> None:
    @scenario
    async def play() -> None:
        rule = Verdict(result=Result.DEDUPLICATE, rule="once")
        rules = FunctionRules(lambda action, _: rule if action["kind"] == "ruled" else Verdict())
        async with two_cores(postgres, rules=rules) as cores:
            given = [core.send(node=NODES[0], dedup_key="k") for core in cores * 10]
            assert outcomes(await asyncio.gather(*given)) == {"queued": 1, "deduplicated": 19}
            ruled = [core.send("ruled", node=NODES[1], payload={"a": 1}) for core in cores * 10]
            assert outcomes(await asyncio.gather(*ruled)) == {"queued": 1, "deduplicated": 19}
            named = [
                core.send(node=NODES[number % 8], id="mine")
                for number, core in enumerate(cores * 10)
            ]
            found = await asyncio.gather(*named, return_exceptions=True)
            assert outcomes(found) == {"queued": 1, "exists": 19}
            assert len(await cores[0].rows(actions)) == 3

    play()


def test_batches_with_the_same_ids_in_any_order_store_each_once(postgres: Postgres) -> None:
    """Both cores want a hundred ids on eight nodes, one forwards and one backwards."""

    @scenario
    async def play() -> None:
        async with two_cores(postgres) as cores:
            wanted = [
                {"id": f"x{number}", "kind": "sleep", "node": NODES[number % 8]}
                for number in range(100)
            ]
            given = [
                core.dispatch.dispatch_batch({"actions": some})
                for core, some in zip(cores * 3, [wanted, wanted[::-1]] * 3, strict=True)
            ]
            answers = [one for found in await asyncio.gather(*given) for one in found]
            assert outcomes(answers) == {"queued": 100, "exists": 500}
            assert len(await cores[0].rows(actions)) == 100
            streams = Counter(row.agent_id for row in await cores[0].rows(deliveries))
            assert sum(streams.values()) == 100

    play()


def test_fan_outs_and_cancellations_meet_without_waiting_in_a_circle(postgres: Postgres) -> None:
    @scenario
    async def play() -> None:
        async with two_cores(postgres) as cores:
            one, other = cores

            async def churn(core: DispatchingCore, number: int) -> None:
                answer = await core.send(selector="role=web", from_date=in_seconds(9e8))
                mine = answer["actions"][number % 8]["action_id"]
                await other.dispatch.reschedule(
                    ActionRef(id=mine), {"from_date": in_seconds(9.5e8)}
                )
                told = await one.dispatch.cancel_correlated(answer["correlation_id"])
                assert {part["outcome"] for part in told["actions"]} == {"requested"}

            await asyncio.gather(*(churn(core, number) for number, core in enumerate(cores * 6)))
            rows = await one.rows(actions)
            assert len(rows) == 12 * 8
            assert not any(row.wanted for row in rows)
            numbers = Counter((row.agent_id, row.seq) for row in await one.rows(deliveries))
            assert set(numbers.values()) == {1}, "a number is given once"

    play()


def test_the_whole_way_on_postgresql(postgres: Postgres) -> None:
    @scenario
    async def play() -> None:
        async with two_cores(postgres) as (core, _):
            first = await core.send(
                selector="role in (web, db), node!=web-0", correlation_id="c", dedup_key="d",
                service="s",
            )  # fmt: skip
            assert len(first["actions"]) == 7
            again = await core.send(selector="role=web", dedup_key="d")
            assert again["actions"][0]["action_id"] == first["actions"][0]["action_id"]
            waiting = await core.send(node="web-0", risk_level="dangerous", correlation_id="c")
            assert waiting["outcome"] == "pending_approval"
            assert len(await core.ids(correlation_id="c")) == 8
            assert len(await core.ids(service="s", since=START)) == 7
            name = first["actions"][0]["action_id"]
            await core.report(name, status="FAILED", reason="exit", attempt=1)
            retried = await core.dispatch.retry(ActionRef(id=name), {})
            assert await core.ids(retry_of=name) == [retried["action_id"]]
            told = await core.dispatch.cancel_correlated("c")
            assert Counter(part["outcome"] for part in told["actions"]) == {
                "requested": 7, "cancelled": 1,
            }  # fmt: skip

    play()
