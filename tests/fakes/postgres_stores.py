"""Stores over fresh PostgreSQL databases, for stories that are told over one in memory as well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.core.store.threaded import ThreadedStore
from tests.fakes.postgres import Postgres


@contextmanager
def postgres_stores(postgres: Postgres) -> Iterator[Callable[[], ThreadedStore]]:
    """A function that opens one, each in a database of its own; all are closed at the end."""
    opened: list[ThreadedStore] = []

    def open_store() -> ThreadedStore:
        store = ThreadedStore(postgres.database())
        store.open()
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        asyncio.run(store.close())
