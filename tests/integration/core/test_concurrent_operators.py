"""What people change at the same time, on one PostgreSQL: seen by each other, and in no circle.

Each of these failed once: what met was not seen, or ended in a deadlock.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from agent.core import timers
from agent.core.app import Core
from agent.core.occasion import Occasion
from agent.core.recurring.backfilling import Backfill
from agent.core.store.locks import lock_agent, lock_agents
from agent.core.store.schema import actions, freeze_nodes
from agent.core.timers import TimerKind
from agent.domain.errors import NotFound
from tests.fakes.core_backends import Backend, InProcess
from tests.fakes.postgres import Postgres
from tests.fakes.racing import Play, Races
from tests.fakes.reporting_node import ReportingNode

pytestmark = pytest.mark.timeout(60)
EVERY = {"every": "1h"}


@pytest.fixture(scope="module")
def races(postgres: Postgres) -> Races:
    return Races(postgres.database())


class Writer(Core):
    """A whole core over the store of one of the two."""

    def __init__(self, backend: InProcess) -> None:
        super().__init__(backend.store, backend.clock, secrets.randbits)
        self.store = backend.store
        self.clock = backend.clock


def as_core(call: Callable[[Writer], Awaitable[Any]]) -> Play:
    """What it does."""

    async def play(backend: Backend) -> Any:
        assert isinstance(backend, InProcess)
        return await call(Writer(backend))

    return play


def fire(core: Writer) -> Awaitable[Any]:
    occasion = Occasion(core.clock.now(), secrets.randbits)
    return core.store.write(lambda c: timers.fire_due(c, occasion, core.timer_handlers))


def node(races: Races) -> str:
    return str(races.play(ReportingNode.enrolled).id)


def labelled(name: str, zone: str) -> Play:
    return as_core(lambda core: core.fleet.edit(name, {"labels": {"zone": zone}}, "anna"))


def every_hour(rule: str, **where: str) -> Play:
    body = {"id": rule, "kind": "sleep", "schedule": EVERY, **where}
    return as_core(lambda core: core.recurring.create(body))


def gone(name: str) -> Play:
    return as_core(lambda core: core.fleet.decommission(name, {"reason": "old"}, "anna"))


def wanted_on(races: Races, rule: str) -> list[str]:
    query = select(actions.c.agent_id).where(actions.c.id == rule, actions.c.wanted.is_(True))
    return list(
        races.play(
            as_core(lambda core: core.store.read(lambda c: c.execute(query).scalars().all()))
        )
    )


def fresh() -> str:
    return f"z{secrets.token_hex(4)}"


@pytest.mark.parametrize("label_first", [True, False])
def test_a_label_and_a_recurring_action_see_each_other(races: Races, label_first: bool) -> None:
    name, zone, rule = node(races), fresh(), fresh()
    both = [labelled(name, zone), every_hour(rule, selector=f"zone={zone}")]
    results = races.meet(*(both if label_first else both[::-1]))
    assert not any(isinstance(one, Exception) for one in results), results
    races.play(as_core(fire))
    assert wanted_on(races, rule) == [name]


def test_a_recurring_action_is_not_sent_to_who_just_went(races: Races) -> None:
    name, zone, rule = node(races), fresh(), fresh()
    races.play(labelled(name, zone))
    races.meet(gone(name), every_hour(rule, selector=f"zone={zone}"))
    assert wanted_on(races, rule) == []


def test_a_backfill_is_not_for_who_just_went(races: Races) -> None:
    name, rule = node(races), fresh()
    races.play(every_hour(rule, node=name))
    asked = Backfill(node=name)
    _, found = races.meet(gone(name), as_core(lambda core: core.recurring.backfill(rule, asked)))
    assert isinstance(found, NotFound), found


def test_a_freeze_does_not_reach_who_just_went(races: Races) -> None:
    name, zone = node(races), fresh()
    races.play(labelled(name, zone))
    body = {"selector": f"zone={zone}", "reason": "x"}
    _, made = races.meet(gone(name), as_core(lambda core: core.fleet.freeze(body, "anna")))
    query = select(freeze_nodes.c.agent_id).where(freeze_nodes.c.freeze_id == made["id"])
    found = races.play(
        as_core(lambda core: core.store.read(lambda c: c.execute(query).scalars().all()))
    )
    assert found == []


def test_a_thaw_of_several_freezes_locks_in_one_order(races: Races) -> None:
    first, last = sorted([node(races), node(races)])
    selector = f"zone={fresh()}"

    async def freeze_each(core: Writer) -> None:
        for name in (last, first):  # the older freeze has the later name
            made = await core.fleet.freeze({"selector": selector, "reason": "x"}, "anna")
            row = {"agent_id": name, "freeze_id": made["id"], "state": "unreported"}
            await core.store.write(partial(put_member, row=row, core=core))

    def put_member(connection: Connection, row: dict[str, Any], core: Writer) -> None:
        connection.execute(insert(freeze_nodes), [{**row, "at": core.clock.now()}])

    races.play(as_core(freeze_each))
    both = races.cross(
        lambda c: lock_agent(c, first),
        as_core(lambda core: core.fleet.thaw({"selector": selector}, "anna")),
        as_core(lambda core: core.store.write(lambda c: lock_agent(c, last))),
    )
    assert not any(isinstance(one, Exception) for one in both), both


def test_a_timer_that_is_set_while_it_is_fired_waits_for_nobody(races: Races) -> None:
    name = node(races)
    seen: list[str] = []

    async def set_it(core: Writer) -> None:
        occasion = Occasion(core.clock.now(), secrets.randbits)
        await core.store.write(
            lambda c: timers.arm(c, TimerKind.RECURRING_NODE, name, occasion.now)
        )

    def handler(connection: Connection, occasion: Occasion, refs: Sequence[str]) -> list[Any]:
        lock_agents(connection, refs)
        seen.extend(refs)
        return []

    async def fire_it(core: Writer) -> int:
        occasion = Occasion(core.clock.now(), secrets.randbits)
        handlers = {TimerKind.RECURRING_NODE: handler}
        return (await core.store.write(lambda c: timers.fire_some(c, occasion, handlers, 9))).count

    races.play(as_core(set_it))
    both = races.cross(lambda c: lock_agent(c, name), as_core(fire_it), as_core(set_it))
    assert both == (None, 1)
    assert seen == [name]


def test_an_edit_of_a_recurring_action_and_the_end_of_its_node(races: Races) -> None:
    name, rule = node(races), fresh()
    races.play(every_hour(rule, node=name))
    plain = {"id": rule, "kind": "sleep", "schedule": {"every": "2h"}, "node": name}
    careful = {**plain, "approval_required": True}
    races.play(as_core(lambda core: core.recurring.update(rule, careful)))  # now a question is open
    both = races.cross(
        lambda c: lock_agent(c, name),
        as_core(lambda core: core.recurring.update(rule, plain)),
        gone(name),
    )
    assert not any(isinstance(one, Exception) for one in both), both
    assert wanted_on(races, rule) == []


def test_a_repeat_in_a_batch_beside_one_whose_node_just_went(races: Races) -> None:
    name, other, key = node(races), node(races), fresh()
    again = {"kind": "sleep", "node": other, "dedup_key": key}
    races.play(as_core(lambda core: core.dispatch.dispatch(again)))
    batch = {"actions": [again, {"kind": "sleep", "node": name}]}
    _, items = races.meet(gone(name), as_core(lambda core: core.dispatch.dispatch_batch(batch)))
    assert items[0]["outcome"] == "deduplicated"
    assert items[1].code == "decommissioned"


def test_who_just_went_is_not_nudged(races: Races) -> None:
    name = node(races)
    _, told = races.meet(gone(name), as_core(lambda core: core.nudging.one(name, "anna")))
    assert told.code == "decommissioned"
