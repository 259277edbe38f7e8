"""A real core for each test that kills it, one for all that only ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.core_process import CoreProcess


@pytest.fixture
def core(tmp_path: Path) -> Iterator[CoreProcess]:
    running = CoreProcess(tmp_path / "core").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def shared_core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreProcess]:
    running = CoreProcess(tmp_path_factory.mktemp("shared") / "core").start()
    yield running
    running.stop()
