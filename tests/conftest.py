"""For every tier: what tests start can be interrupted, however the tests were started.

A shell starts what it puts into the background with SIGINT ignored, and children inherit that.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.fakes.postgres import Postgres

signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL, started for the first test that asks for it."""
    server = Postgres().start()
    yield server
    server.clean_up()
