"""Both doors of the node protocol. One real core serves the suite; nodes are new each time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tests.fakes.core_backends import Backend, InProcess, OverHttp
from tests.fakes.core_process import CoreProcess
from tests.fakes.postgres import Postgres

Door = Callable[[], AbstractAsyncContextManager[Backend]]


@pytest.fixture(scope="session")
def core_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreProcess]:
    core = CoreProcess(tmp_path_factory.mktemp("contract") / "core").start()
    yield core
    assert core.stop() == 0


@pytest.fixture(scope="session")
def postgres_core_process(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> Iterator[CoreProcess]:
    directory = tmp_path_factory.mktemp("contract_postgres") / "core"
    core = CoreProcess(directory, database=postgres.empty_database()).start()
    yield core
    assert core.stop() == 0


@pytest.fixture(params=["in_process", "over_http", "postgres"])
def door(request: pytest.FixtureRequest) -> Door:
    if request.param != "in_process":
        behind = {"over_http": "core_process", "postgres": "postgres_core_process"}
        core = request.getfixturevalue(behind[request.param])
        return lambda: OverHttp.to(core)

    @asynccontextmanager
    async def inside() -> AsyncIterator[Backend]:
        yield InProcess()

    return inside
