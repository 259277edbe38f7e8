"""Two cores on one PostgreSQL are one system; whichever is killed, it loses nothing."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import fleet, stamps
from tests.e2e.conftest import MakeNode
from tests.e2e.test_core_killed import assert_each_once_and_in_order, wait_reported
from tests.fakes.core_process import CoreProcess
from tests.fakes.node_process import NodeProcess, wait_until
from tests.fakes.postgres import Postgres

AT_ONCE_S = 5.0  # a poll that nobody wakes takes a minute
Pair = tuple[CoreProcess, CoreProcess]


def two_on(url: str, directory: Path) -> Pair:
    one, other = (CoreProcess(directory / name, database=url) for name in ("core-a", "core-b"))
    return one.start(), other.start()


@pytest.fixture
def pair(postgres: Postgres, tmp_path: Path) -> Iterator[Pair]:
    both = two_on(postgres.empty_database(), tmp_path)
    yield both
    for core in both:
        core.stop()


def node_at(core: CoreProcess, make_node: MakeNode) -> NodeProcess:
    started = make_node(core=core.url, token=fleet.enroll_token(core)).start()
    wait_until(lambda: bool(started.status()["core"]["connected"]), 20, "not connected")
    return started


def test_what_one_dispatches_the_other_delivers_at_once(pair: Pair, make_node: MakeNode) -> None:
    here, there = pair
    assert here.token != there.token, "each state directory has a token of its own"
    node = node_at(here, make_node)
    wait_reported(node)
    body = {"kind": "tiny", "node": "n1"}
    for _ in range(3):
        begun = time.monotonic()
        code, answer = fleet.ask(there, "POST", "/v1/dispatch?wait=30", body)
        assert (code, answer["outcome"]) == (200, "executed")
        assert time.monotonic() - begun < AT_ONCE_S
    known = [fleet.action(core, answer["action_id"]) for core in pair]
    assert known[0] == known[1]


def test_either_may_be_killed_in_the_middle(
    pair: Pair, make_node: MakeNode, tmp_path: Path
) -> None:
    node = node_at(pair[0], make_node)
    names = [f"d{number}" for number in range(50)]
    payload = {"file": str(tmp_path / "f"), "seconds": 0.05, "code": 0}
    threads = [
        threading.Thread(target=_dispatch_all, args=(names[part::4], pair, payload), daemon=True)
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    for core in pair:
        time.sleep(0.25)
        core.kill()
        core.start()
    for thread in threads:
        thread.join(60)
    fleet.wait_ended(pair[1], names)
    wait_reported(node)
    assert stamps.read(tmp_path / "f", "start") == {(name, 1): 1 for name in names}
    assert_each_once_and_in_order(pair[1], node)
    for name in names:
        assert fleet.action(pair[1], name)["phase"] == "DONE"


def _dispatch_all(names: list[str], pair: Pair, payload: object) -> None:
    """Each until one of the cores says that it has it, as a client with a list would."""
    for number, name in enumerate(names):
        turn = number
        while True:
            core, turn = pair[turn % 2], turn + 1
            body = {"id": name, "kind": "stamp", "node": "n1", "payload": payload}
            try:
                code, answer = fleet.ask(core, "POST", "/v1/dispatch", body)
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
                continue
            if code < 300 or answer["error"] == "exists":
                break
            assert code == 503, answer


def test_a_restart_of_the_database_is_survived(make_node: MakeNode, tmp_path: Path) -> None:
    server = Postgres().start()
    pair = two_on(server.empty_database(), tmp_path)
    try:
        node = node_at(pair[0], make_node)
        fleet.dispatch(pair[1], "tiny", "n1", id="before")
        node.wait_status("before")
        wait_reported(node)
        server.stop()
        refused = fleet.ask(pair[1], "POST", "/v1/dispatch", {"kind": "tiny", "node": "n1"})
        assert (refused[0], refused[1]["error"]) == (503, "unavailable")
        assert fleet.ask(pair[0], "GET", "/v1/actions/before")[0] == 503
        node.run("tiny", id="meanwhile")
        node.wait_status("meanwhile")
        server.start()
        fleet.dispatch(pair[1], "tiny", "n1", id="after")
        node.wait_status("after")
        wait_reported(node)
        assert_each_once_and_in_order(pair[1], node)
        for name in ("before", "meanwhile", "after"):
            assert fleet.action(pair[0], name)["phase"] == "DONE"
        wait_until(lambda: _wakes(pair), 20, "the cores do not hear of one another again")
    finally:
        for core in pair:
            core.stop()
        server.clean_up()


def _wakes(pair: Pair) -> bool:
    begun = time.monotonic()
    answer = fleet.ask(pair[1], "POST", "/v1/dispatch?wait=30", {"kind": "tiny", "node": "n1"})[1]
    return answer["outcome"] == "executed" and time.monotonic() - begun < AT_ONCE_S
