"""Every operation, with requests made from its description: no 5xx, no undocumented answer.

The same requests each time, and few of them: `scripts/fuzz-core` runs for as long as one likes,
with others every time, on both stores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from schemathesis.generation.case import Case

from tests.fakes.api_fuzz import World, ask, described
from tests.fakes.core_process import CoreProcess

REQUESTS_MAX = 100  # per operation: a dispatch alone has five hundred members at their bounds
asked: Counter[str] = Counter()

schema = described()
schema.config.generation.update(
    max_examples=4, deterministic=True, no_shrink=True, with_security_parameters=False
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    core = CoreProcess(tmp_path_factory.mktemp("fuzzed") / "core").start()
    yield World(core.url, core.token).fill()
    assert core.stop() == 0


@schema.parametrize()
@settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_no_answer_is_a_surprise(world: World, case: Case) -> None:
    asked[case.operation.label] += 1
    if asked[case.operation.label] <= REQUESTS_MAX:
        ask(world, case)
