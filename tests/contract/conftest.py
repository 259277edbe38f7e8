"""Both doors of the node protocol. One real core serves the suite; nodes are new each time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tests.fakes.core_backends import Backend, InProcess, OverHttp
from tests.fakes.core_process import CoreProcess

Door = Callable[[], AbstractAsyncContextManager[Backend]]


@pytest.fixture(scope="session")
def core_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreProcess]:
    core = CoreProcess(tmp_path_factory.mktemp("contract") / "core").start()
    yield core
    assert core.stop() == 0


@pytest.fixture(params=["in_process", "over_http"])
def door(request: pytest.FixtureRequest) -> Door:
    if request.param == "over_http":
        core = request.getfixturevalue("core_process")
        return lambda: OverHttp.to(core)

    @asynccontextmanager
    async def inside() -> AsyncIterator[Backend]:
        yield InProcess()

    return inside
