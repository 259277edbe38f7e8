"""The core comes back from a backup: nothing is cancelled or run again by it, both sides agree."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import fleet, stamps
from tests.e2e.conftest import MakeNode
from tests.fakes.core_process import CoreProcess
from tests.fakes.node_process import NodeProcess, wait_until

FAR = "2099-01-01T00:00:00Z"


@pytest.fixture
def core(tmp_path: Path) -> Iterator[CoreProcess]:
    process = CoreProcess(tmp_path / "core").start()
    yield process
    process.stop()


@pytest.fixture
def node(core: CoreProcess, make_node: MakeNode) -> NodeProcess:
    started = make_node(core=core.url, token=fleet.enroll_token(core)).start()
    wait_until(lambda: bool(started.status()["core"]["connected"]), 20, "not connected")
    return started


def wait_phase(core: CoreProcess, action_id: str, phase: str) -> None:
    wait_until(
        lambda: fleet.ask(core, "GET", f"/v1/actions/{action_id}")[1].get("phase") == phase,
        30,
        lambda: f"{action_id}: {fleet.ask(core, 'GET', f'/v1/actions/{action_id}')[1]}",
    )


def test_older_state_heals(core: CoreProcess, node: NodeProcess, tmp_path: Path) -> None:
    stamped = {"file": str(tmp_path / "f"), "seconds": 0.0, "code": 0}
    fleet.dispatch(core, "stamp", "n1", id="before", payload=stamped)
    fleet.dispatch(core, "stamp", "n1", id="later", from_date=FAR, payload=stamped)
    fleet.dispatch(core, "stamp", "n1", id="withdrawn", from_date=FAR, payload=stamped)
    wait_phase(core, "before", "DONE")
    assert core.stop() == 0
    backup = tmp_path / "backup.db"
    shutil.copy(core.state_dir / "core.db", backup)

    core.start()
    fleet.dispatch(core, "stamp", "n1", id="since", payload=stamped)
    fleet.dispatch(core, "stamp", "n1", id="since-later", from_date=FAR, payload=stamped)
    assert fleet.ask(core, "POST", "/v1/actions/withdrawn/cancel", {})[0] == 200
    wait_phase(core, "since", "DONE")
    wait_phase(core, "withdrawn", "CANCELLED")
    wait_until(lambda: node.call("GET", "/v1/actions/since-later")[0] == 200, 10, "not there")

    assert core.stop() == 0
    for name in ("core.db", "core.db-wal", "core.db-shm"):
        (core.state_dir / name).unlink(missing_ok=True)
    shutil.copy(backup, core.state_dir / "core.db")
    core.start()

    # What the core forgot it hears of again; what it believes open and has ended stays ended.
    for name, phase in (
        ("before", "DONE"),
        ("since", "DONE"),
        ("later", "SCHEDULED"),
        ("since-later", "SCHEDULED"),
        ("withdrawn", "CANCELLED"),
    ):
        wait_phase(core, name, phase)
    assert stamps.read(tmp_path / "f", "start") == {("before", 1): 1, ("since", 1): 1}
    at_node = {one["id"] for one in node.call("GET", "/v1/actions?view=queue")[1]["actions"]}
    assert at_node == {"later", "since-later"}
    # The two go on as if nothing had been: what is dispatched now runs once.
    fleet.dispatch(core, "stamp", "n1", id="after", payload=stamped)
    wait_phase(core, "after", "DONE")
    assert stamps.read(tmp_path / "f", "start")["after", 1] == 1
    # Also what it had forgotten is its own again: it can be cancelled.
    assert fleet.action(core, "since-later")["kind"] == "stamp"
    assert fleet.ask(core, "POST", "/v1/actions/since-later/cancel", {})[0] == 200
    wait_phase(core, "since-later", "CANCELLED")
    wait_until(
        lambda: node.call("GET", "/v1/actions/since-later")[1]["execution_status"] == "WONT_START",
        10,
        "not withdrawn",
    )
