"""Pushes that arrive together once more, on PostgreSQL, where others write beside them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from agent.core.store.port import Store
from tests.fakes.postgres import Postgres
from tests.fakes.postgres_stores import postgres_stores
from tests.unit.core import test_arrivals
from tests.unit.core.test_arrivals import Scene, play

pytestmark = pytest.mark.timeout(60)
STORIES = [
    test_arrivals.test_pushes_that_arrive_together_are_one_transaction,
    test_arrivals.test_what_one_push_is_refused_for_is_nothing_to_the_others,
    test_arrivals.test_one_that_the_database_refuses_takes_nobody_with_it,
    test_arrivals.test_a_new_start_of_agentd_takes_over_beside_the_others,
]
_LOCK = text("SELECT 1 FROM agents WHERE id = :id FOR UPDATE")


@pytest.fixture
def open_store(postgres: Postgres) -> Iterator[Callable[[], Store]]:
    with postgres_stores(postgres) as opening:
        yield opening


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_on_postgres(story: Any, open_store: Callable[[], Store]) -> None:
    play(story.story, open_store)


def test_a_node_that_somebody_else_is_changing_holds_no_other_up(
    open_store: Callable[[], Store],
) -> None:
    async def story(scene: Scene) -> None:
        busy, fine = await scene.enroll(2)
        locked, free = threading.Event(), threading.Event()

        def hold(connection: Connection) -> None:
            connection.execute(_LOCK, {"id": busy.id})
            locked.set()
            assert free.wait(20)

        holding = asyncio.ensure_future(scene.store.write(hold))
        await asyncio.to_thread(locked.wait, 20)
        waiting = asyncio.ensure_future(busy.push(busy.created("a")))
        try:
            assert await asyncio.wait_for(fine.push(fine.created("a")), 20) == {"acked": 2}
            assert not waiting.done()
        finally:
            free.set()
        await holding
        assert await waiting == {"acked": 2}

    play(story, open_store)
