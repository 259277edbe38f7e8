"""A recurring action and the nodes it is for, changed at the same moment by two cores."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from agent.core import timers
from agent.core.occasion import Occasion
from agent.core.recurring.service import RecurringService
from agent.core.timers import TimerKind
from agent.wire.definition import FEATURES
from tests.fakes.core_backends import Backend, InProcess
from tests.fakes.postgres import Postgres
from tests.fakes.racing import Play, Races
from tests.fakes.reporting_node import ReportingNode

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def races(postgres: Postgres) -> Races:
    return Races(postgres.database())


def service(backend: Backend) -> RecurringService:
    assert isinstance(backend, InProcess)
    return RecurringService(backend.store, backend.clock, secrets.randbits, backend.wakeups)


def occasion(backend: Backend) -> Occasion:
    assert isinstance(backend, InProcess)
    return Occasion(backend.clock.now(), secrets.randbits)


async def fire(backend: Backend) -> None:
    assert isinstance(backend, InProcess)
    handlers = service(backend).timer_handlers()
    await backend.store.write(lambda c: timers.fire_due(c, occasion(backend), handlers))


@pytest.mark.parametrize("created_first", [True, False])
def test_a_node_that_comes_to_match_meanwhile_gets_it(races: Races, *, created_first: bool) -> None:
    node = races.play(ReportingNode.enrolled)
    role = secrets.token_hex(4)
    report = {
        "version": "1", "catalogue": [{"kind": "sleep", "faults": []}], "labels": {"role": role},
        "features": sorted(FEATURES),
    }  # fmt: skip
    document = {"id": role, "kind": "sleep", "schedule": "every 5m", "selector": f"role={role}"}

    async def create(backend: Backend) -> dict[str, Any]:
        return await service(backend).create(document)

    async def tell(backend: Backend) -> None:
        await backend.node(node.who, report)

    plays = (create, tell) if created_first else (tell, create)
    for result in races.meet(*plays):
        if isinstance(result, Exception):
            raise result
    races.play(fire)
    shown = races.play(lambda backend: service(backend).get(role))
    assert [one["node"] for one in shown["on"]] == [node.id]


def test_a_pause_does_not_withdraw_it_from_a_node_that_matches_again(races: Races) -> None:
    """It has read the labels before they change back, and waits for the node's lock behind that."""
    node = races.play(ReportingNode.enrolled)
    role = secrets.token_hex(4)
    document = {"id": role, "kind": "sleep", "schedule": "every 5m", "selector": f"role={role}"}

    def telling(labels: dict[str, str]) -> Play:
        report = {
            "version": "1", "catalogue": [{"kind": "sleep", "faults": []}], "labels": labels,
            "features": sorted(FEATURES),
        }  # fmt: skip
        return lambda backend: backend.node(node.who, report)

    async def nothing_to_do(backend: Backend) -> None:
        """The timer of the first change, fired in the instant when all was as it should be."""
        assert isinstance(backend, InProcess)
        kind = TimerKind.RECURRING_NODE
        await backend.store.write(lambda c: timers.disarm(c, kind, node.id))

    races.play(telling({"role": role}))
    races.play(lambda backend: service(backend).create(document))
    races.play(telling({"role": "another"}))
    races.play(nothing_to_do)
    ends = races.meet(telling({"role": role}), lambda backend: service(backend).pause(role, "busy"))
    assert not any(isinstance(end, Exception) for end in ends), ends
    races.play(fire)
    action = races.play(lambda backend: backend.action(role, node=node.id))
    assert (action["should_be_executed"], action["schedule"]["paused"]) == (True, True)


def test_setting_a_timer_that_is_being_fired_waits_for_nobody(races: Races) -> None:
    """Its handler may be waiting for a lock that whoever sets it holds."""
    kind, ref = TimerKind.RECURRING_NODE, secrets.token_hex(4)

    async def arm(backend: Backend) -> None:
        assert isinstance(backend, InProcess)

        def work(connection: Connection) -> None:
            connection.execute(text("SET LOCAL lock_timeout = '300ms'"))
            timers.arm(connection, kind, ref, occasion(backend).now)

        await backend.store.write(work)

    async def due(backend: Backend) -> bool:
        assert isinstance(backend, InProcess)
        return await backend.store.read(lambda c: timers.next_due(c, [kind])) is not None

    async def begin_to_fire(backend: Backend) -> None:
        assert isinstance(backend, InProcess)
        nothing: timers.Handlers = {kind: lambda connection, occasion, refs: []}
        await backend.store.write(lambda c: timers.fire_due(c, occasion(backend), nothing))

    races.play(arm)
    assert races.play(due)
    assert races.meet(begin_to_fire, arm) == (None, None)
    assert races.play(due), "its handler was over already: it is set anew"
