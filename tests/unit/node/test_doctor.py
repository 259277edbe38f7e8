"""The doctor's judges: what is well, what somebody should look at, and what hurts now."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.domain.brake import Brake
from agent.domain.instants import format_instant
from agent.node.doctor.check import State
from agent.node.doctor.database import DatabaseFound
from agent.node.doctor.judge_database import judge_database
from agent.node.doctor.judge_machine import judge_machine
from agent.node.doctor.judge_running import RunningFound, judge_running
from agent.node.doctor.machine import FileFound, MachineFound
from agent.node.ports import RunnerReport
from agent.node.store.meta import Meta
from tests.unit.domain.builders import NOW, after

DAY = 86_400
DATABASE = DatabaseFound(
    integrity=(), counts_kept={"NULL": 1, "FINISHED": 2, "FAILED": 0},
    counts_real={"NULL": 1, "FINISHED": 2}, events_missing=0, meta=Meta(), newest_seq=9, outbox=0,
    oldest_unsent_at=None, parked=0, refused=0, brakes=(), zones=frozenset(),
)  # fmt: skip
MACHINE = MachineFound(
    own_uid=5, files=(FileFound("/s", 5, 0o700, private=True),), missing=(),
    free_bytes=50 << 30, total_bytes=100 << 30, free_inodes=10**6, total_inodes=10**7,
    fds_open=20, fds_max=65_536, zones_missing=(),
)  # fmt: skip
RUNNER = RunnerReport(version="1", pid=7, running=1, uncollected=0, containment="cgroup")
RUNNING = RunningFound(
    own_version="1", runner=RUNNER, runner_problem=None, started=frozenset({(1, 1)}),
    known=frozenset({(1, 1)}), store_problem=None, kinds=3, kind_faults=(), core_url="http://c",
    core_enrolled=True, core_connected=True, core_fenced=False, core_polling=False,
    core_problem=None, last_pull_at=after(-30), clock_synchronised=True, clock_doubt=None,
    backup_at=after(-DAY),
)  # fmt: skip
LATELY, LONG_AGO = format_instant(after(-7200)), format_instant(after(-2 * DAY))
LONG_AGO_8 = format_instant(after(-8 * DAY))
ENROLLED = Meta(enrolled="n1")


def restore_told(**fields: Any) -> Meta:
    told = {
        "at": format_instant(after(-60)),
        "why": "the database was damaged: x",
        "pending": False,
        "made_at": format_instant(after(-DAY)),
        "restraints": "as they were set last",
    }
    return Meta(restored=json.dumps(told | fields))


def brake(**fields: Any) -> Brake:
    values: dict[str, Any] = {"id": 3, "kind": "k", "labels": {}, "reason": "r", "by": "b"}
    return Brake(**values, created_at=NOW, **fields)


def judged(found: Any) -> dict[str, Any]:
    if isinstance(found, DatabaseFound):
        checks = list(judge_database(found, NOW))
    elif isinstance(found, MachineFound):
        checks = list(judge_machine(found))
    else:
        checks = list(judge_running(found, NOW))
    assert len({check.name for check in checks}) == len(checks), "each name once"
    for check in checks:
        assert (check.advice is None) == (check.state is State.OK), "advice where it is needed"
    return {check.name: check for check in checks}


@pytest.mark.parametrize("found", [DATABASE, MACHINE, RUNNING], ids=["database", "machine", "run"])
def test_a_well_node_has_no_advice(found: Any) -> None:
    assert {check.state for check in judged(found).values()} == {State.OK}


@pytest.mark.parametrize(
    ("found", "change", "name", "state"),
    [
        (DATABASE, {"integrity": ("page 3 is bad",)}, "database_integrity", "fail"),
        (DATABASE, {"integrity": None}, "database_integrity", "ok"),
        (DATABASE, {"counts_real": {"NULL": 2, "FINISHED": 2}}, "database_counts", "fail"),
        (DATABASE, {"counts_real": {"FINISHED": 2}}, "database_counts", "fail"),
        (DATABASE, {"counts_real": None}, "database_counts", "ok"),
        (DATABASE, {"events_missing": 2}, "events_contiguous", "fail"),
        (DATABASE, {"events_missing": None}, "events_contiguous", "ok"),
        (DATABASE, {"parked": 2}, "parked_actions", "warn"),
        (DATABASE, {"meta": restore_told(doubtful=0, unknown_actions=0)}, "restored", "ok"),
        (DATABASE, {"meta": restore_told(pending=True)}, "restored", "warn"),
        (DATABASE, {"meta": restore_told(doubtful=1, doubtful_ids=["x"])}, "restored", "warn"),
        (DATABASE, {"meta": restore_told(unknown_actions=1)}, "restored", "warn"),
        (DATABASE, {"meta": restore_told(restraints="lost since that copy")}, "restored", "warn"),
        (DATABASE, {"meta": restore_told(doubtful=1, at=LONG_AGO_8)}, "restored", "ok"),
        (RUNNING, {"backups_wanted": False, "backup_at": None}, "backup", "ok"),
        (DATABASE, {"refused": 1}, "refused_definitions", "warn"),
        (DATABASE, {"meta": ENROLLED, "outbox": 5, "oldest_unsent_at": after(-60)}, "outbox", "ok"),
        (
            DATABASE, {"meta": ENROLLED, "outbox": 5, "oldest_unsent_at": after(-DAY)},
            "outbox", "warn",
        ),
        (
            DATABASE, {"meta": ENROLLED, "outbox": 200_000, "oldest_unsent_at": after(-60)},
            "outbox", "warn",
        ),
        (DATABASE, {"meta": Meta(pulled_seq=8, pulled_at=LATELY)}, "backend", "ok"),
        (DATABASE, {"meta": Meta(pulled_seq=8, pulled_at=LONG_AGO)}, "backend", "warn"),
        (
            DATABASE, {"meta": Meta(pulled_seq=8, pulled_at=LATELY), "newest_seq": 200_000},
            "backend", "warn",
        ),
        (DATABASE, {"meta": Meta(paused=1)}, "pause", "warn"),
        (DATABASE, {"meta": Meta(paused=1, paused_at=format_instant(after(-60)))}, "pause", "ok"),
        (
            DATABASE, {"meta": Meta(paused=1, paused_at=format_instant(after(-2 * DAY)))},
            "pause", "warn",
        ),
        (DATABASE, {"brakes": (brake(),)}, "brakes", "ok"),
        (DATABASE, {"brakes": (brake(expires_at=after(DAY)),)}, "brakes", "ok"),
        (DATABASE, {"brakes": (brake(expires_at=after(60)),)}, "brakes", "warn"),
        (DATABASE, {"brakes": (brake(expires_at=after(-60)),)}, "brakes", "ok"),
        (MACHINE, {"files": (FileFound("/s", 6, 0o700, private=True),)}, "permissions", "fail"),
        (MACHINE, {"files": (FileFound("/s", 5, 0o750, private=True),)}, "permissions", "fail"),
        (MACHINE, {"files": (FileFound("/k", 0, 0o755, private=False),)}, "permissions", "ok"),
        (MACHINE, {"files": (FileFound("/k", 0, 0o775, private=False),)}, "permissions", "fail"),
        (MACHINE, {"missing": ("/s/agent.sock",)}, "permissions", "fail"),
        (MACHINE, {"free_bytes": 1 << 30}, "disk_space", "warn"),
        (MACHINE, {"free_bytes": 100 << 20}, "disk_space", "warn"),
        (MACHINE, {"free_bytes": 1 << 20}, "disk_space", "fail"),
        (MACHINE, {"free_inodes": 9_999}, "inodes", "warn"),
        (MACHINE, {"free_inodes": 499}, "inodes", "fail"),
        (MACHINE, {"free_inodes": 0, "total_inodes": 0}, "inodes", "ok"),
        (MACHINE, {"fds_open": 65_400}, "descriptors", "warn"),
        (MACHINE, {"fds_max": 256}, "descriptors", "warn"),
        (MACHINE, {"zones_missing": ("Europe/Berlin",)}, "zone_data", "fail"),
        (RUNNING, {"store_problem": "disk full"}, "database_writable", "fail"),
        (RUNNING, {"backup_at": None}, "backup", "warn"),
        (RUNNING, {"backup_at": after(-3 * DAY)}, "backup", "warn"),
        (RUNNING, {"runner": None, "runner_problem": "gone"}, "runner", "fail"),
        (RUNNING, {"runner_problem": "serves another directory"}, "runner", "fail"),
        (RUNNING, {"runner": replace(RUNNER, version="0")}, "runner", "warn"),
        (RUNNING, {"runner": replace(RUNNER, containment="attributed")}, "containment", "warn"),
        (RUNNING, {"runner": replace(RUNNER, survivors=2)}, "containment", "fail"),
        (RUNNING, {"runner": replace(RUNNER, containment=None)}, "containment", "warn"),
        (RUNNING, {"known": frozenset()}, "runs", "fail"),
        (RUNNING, {"started": frozenset()}, "runs", "fail"),
        (RUNNING, {"runner": replace(RUNNER, running=2)}, "runs", "warn"),
        (RUNNING, {"runner": replace(RUNNER, uncollected=500)}, "uncollected_records", "warn"),
        (RUNNING, {"kind_faults": ("x: mode 0777",)}, "catalogue", "fail"),
        (RUNNING, {"kinds": 0}, "catalogue", "warn"),
        (RUNNING, {"core_url": None, "core_connected": False}, "core", "ok"),
        (RUNNING, {"core_fenced": True}, "core", "fail"),
        (RUNNING, {"core_enrolled": False}, "core", "fail"),
        (RUNNING, {"core_connected": False}, "core", "warn"),
        (RUNNING, {"core_problem": "events are refused"}, "core", "warn"),
        (RUNNING, {"core_polling": True}, "core", "warn"),
        (RUNNING, {"last_pull_at": after(-3600)}, "core", "warn"),
        (RUNNING, {"clock_synchronised": False}, "clock", "warn"),
        (RUNNING, {"clock_doubt": "it shows 1970"}, "clock", "fail"),
    ],
)  # fmt: skip
def test_each_judge(found: Any, change: dict[str, Any], name: str, state: str) -> None:
    assert judged(replace(found, **change))[name].state.value == state


def test_advice_tells_what_was_found() -> None:
    check = judged(replace(DATABASE, counts_real={"NULL": 2, "FINISHED": 2}))["database_counts"]
    assert check.found == "NULL 1 kept, 2 there"
    files = (FileFound("/s/api.token", 5, 0o644, private=True),)
    check = judged(replace(MACHINE, files=files))["permissions"]
    assert check.found == "/s/api.token has mode 0644: chmod go-rwx"


def test_what_a_restore_left_in_doubt_is_named() -> None:
    told = restore_told(doubtful=30, doubtful_ids=[f"a{n}" for n in range(30)], unknown_actions=0)
    check = judged(replace(DATABASE, meta=told))["restored"]
    assert "30 (a0, a1, " in check.found
    assert "a19, …) doubtful" in check.found
    assert "what came later is lost" in check.found
    assert "look whether its work was done" in str(check.advice)


def test_why_rows_are_put_aside() -> None:
    found = replace(DATABASE, parked=3, parked_why=(("its definition was lost", 3),))
    assert "3: its definition was lost" in judged(found)["parked_actions"].found
