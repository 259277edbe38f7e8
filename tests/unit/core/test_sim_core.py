"""The simulation's core: what its own faults must not do to the process that simulates."""

from __future__ import annotations

import secrets

from agent.infra.clock import SystemClock
from tests.fakes.sim_core import SimCore, raw_connection


def test_a_restored_core_has_another_connection() -> None:
    """SQLite may crash where statements of a connection outlive a `deserialize` on it."""
    core = SimCore(SystemClock(), secrets.randbits)
    before, copy = raw_connection(core.connection), core.backup()
    core.crash()
    core.restore(copy)
    assert raw_connection(core.connection) is not before
    core.start()
    assert not core.knows_credentials(1)
    core.close()
