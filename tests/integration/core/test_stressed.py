"""The campaign of `scripts/stress-core`, for a few seconds: two cores, and kill -9 of one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from tests.fakes.postgres import Postgres
from tests.stress.command import campaign
from tests.stress.world import start_cores


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_everything_at_once(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.empty_database()
    seats = start_cores(tmp_path, 2, database=url)
    try:
        found = asyncio.run(campaign(seats, Random(4), url, 3.0, (5, 4), 2.0))
    finally:
        codes = [seat.core.stop() for seat in seats]
    assert (found, codes) == ([], [0, 0])
