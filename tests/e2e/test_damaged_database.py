"""A damaged `agent.db` under real daemons: put aside, restored, evidence read, served again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e import stamps
from tests.e2e.conftest import MakeNode
from tests.fakes.node_process import NodeProcess, wait_until

pytestmark = pytest.mark.timeout(90)
Damage = Callable[[Path], None]
PAGE = 4096
RUNS_S = 4


def corrupt_pages(database: Path) -> None:
    """Everything but the first page."""
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(PAGE)
        file.write(os.urandom(size - PAGE))


def remove_only_the_log(_database: Path) -> None:
    """It is whole, and older than it was: as if somebody had put a copy back, and told nobody."""


def back_up(node: NodeProcess, but: str | None = None) -> None:
    """The daemon makes one soon after a start that finds none; `but` is the time of an older."""
    wait_until(
        lambda: node.status()["backup"]["last_verified_at"] not in (None, but),
        20,
        "no backup was made",
    )


def history_behind_the_backup(node: NodeProcess, file: Path) -> None:
    """What the backup believes NULL ended, runs or is unknown to it when the damage comes."""
    assert node.call("POST", "/v1/pause", {})[0] == 200
    for name, seconds, code in (("ends", 0, 3), ("runs", RUNS_S, 5)):
        payload = {"file": str(file), "seconds": seconds, "code": code}
        node.run("stamp", payload, id=name, app_names=[name])
    back_up(node)
    older = node.status()["backup"]["last_verified_at"]
    node.stop()
    for path in node.state_dir.joinpath("backups").iterdir():
        path.unlink()
    node.start()
    back_up(node, but=older)
    assert node.call("POST", "/v1/resume")[0] == 200
    assert node.call("POST", "/v1/brake", {"kind": "held", "reason": "since"})[0] == 201
    payload = {"file": str(file), "seconds": 0, "code": 4}
    node.run("stamp", payload, id="unknown")
    node.run("stamp", {"file": str(file), "seconds": RUNS_S, "code": 6}, id="runs-unknown")
    for name in ("ends", "unknown"):
        node.wait_status(name)
    for name in ("runs", "runs-unknown"):
        node.wait_status(name, "STARTED")


def assert_true_to_the_evidence(node: NodeProcess, file: Path) -> None:
    wait_until(lambda: node.status()["restored"]["pending"] is False, 20, "evidence was not read")
    for name, code in (("ends", 3), ("unknown", 4)):
        action = node.wait_status(name)
        assert (action["execution_status"], action["exit_code"]) == ("FAILED", code)
    restored = node.status()["restored"]
    assert restored["unknown_ids"] == ["unknown", "runs-unknown"]
    assert (restored["doubtful"], restored["doubtful_ids"]) == (0, []), "all have their true ends"
    assert "being restored" not in restored["why"]
    assert (restored["starts_found"], restored["unknown_actions"]) == (4, 2)
    for name, code in (("runs", 5), ("runs-unknown", 6)):
        action = node.wait_status(name)
        assert (action["execution_status"], action["exit_code"]) == ("FAILED", code), action
    starts = stamps.read(file, "start")
    assert starts == {(name, 1): 1 for name in ("ends", "runs", "unknown", "runs-unknown")}
    assert not node.status()["paused"], "resumed since the backup"
    assert [brake["kind"] for brake in node.status()["brakes"]] == ["held"], "set since the backup"
    source = restored["source"] or ""
    wait_until(lambda: node.status()["backup"]["file"] > source, 20, "no backup was made soon")
    code, answer = node.call("GET", "/v1/actions/never-was")
    assert (code, "came later is lost" in answer["message"]) == (404, True)
    node.run("tiny", id="after")
    assert node.wait_status("after")["execution_status"] == "FINISHED"


@pytest.mark.parametrize("damage", [corrupt_pages, remove_only_the_log])
def test_found_at_the_start(make_node: MakeNode, tmp_path: Path, damage: Damage) -> None:
    node = make_node().start()
    history_behind_the_backup(node, tmp_path / "f")
    node.kill9()
    damage(node.state_dir / "agent.db")
    for suffix in ("-wal", "-shm"):
        node.state_dir.joinpath(f"agent.db{suffix}").unlink()
    node.start()
    assert_true_to_the_evidence(node, tmp_path / "f")
    assert node.state_dir.joinpath("corrupt").exists() is (damage is corrupt_pages)


def test_found_while_it_runs(make_node: MakeNode, tmp_path: Path) -> None:
    node = make_node().start()
    pid = node.status()["pid"]
    history_behind_the_backup(node, tmp_path / "f")
    pid = node.status()["pid"]
    remove_pages_under_the_daemon(node)
    wait_until(lambda: restored(node), 30, lambda: node.log.read_text()[-3000:])
    assert node.status()["pid"] == pid, "the same process serves again"
    assert_true_to_the_evidence(node, tmp_path / "f")


def remove_pages_under_the_daemon(node: NodeProcess) -> None:
    corrupt_pages(node.state_dir / "agent.db")
    wal = node.state_dir / "agent.db-wal"
    with wal.open("r+b") as file:
        file.seek(32)
        file.write(os.urandom(max(0, wal.stat().st_size - 32)))


def restored(node: NodeProcess) -> bool:
    """Ask like anybody; errors on the way are 503 with a clear word, or no answer."""
    try:
        code, answer = node.call("GET", "/v1/actions?limit=500")
    except OSError:
        return False
    if code != 200:
        assert (code, answer["error"]) == (503, "unavailable"), answer
        return False
    return bool((node.status().get("restored") or {}).get("at"))
