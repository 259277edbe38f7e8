"""Whatever one script does, the one beside it starts, runs and ends as if it were alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.runner.catalogue import Catalogue, Manifest, Script
from agent.runner.limits import OUTPUT_CAP_BYTES, PROGRESS_FILE_BYTES_MAX
from tests.integration.runner.box import Box, wait_for
from tests.integration.runner.client import Client

pytestmark = pytest.mark.timeout(60)

VICTIM = "cat >/dev/null; echo begins; sleep 0.3; echo ends; echo oops >&2; exit 3"
VICTIM_S = 0.3
LATE_S = 1.0  # on a busy machine of two cores; a victim that waits for its neighbour waits longer

HOSTILE = {
    "floods": "exec head -c 10G /dev/zero",
    "floods_both": "head -c 10G /dev/zero >&2 & exec head -c 10G /dev/zero",
    "ignores_term": 'trap "" TERM INT HUP; while :; do sleep 0.1; done',
    "forks": "for i in $(seq 500); do sleep 60 & done; wait",
    "closes_output": "exec >&- 2>&-; sleep 60",
    "holds_output": "sleep 60 & exit 0",
    "reads_nothing": "exit 0",
    "nuls": 'while :; do printf "\\0\\377\\376\\200"; done',
    "removes_progress": 'while :; do echo "{}" >>"$AGENT_PROGRESS"; rm -f "$AGENT_PROGRESS"; done',
    "fills_progress": 'exec head -c 10G /dev/zero >>"$AGENT_PROGRESS"',
    "progress_is_a_fifo": 'mkfifo "$AGENT_PROGRESS"; sleep 60',
    "stops_itself": "kill -STOP $$; sleep 60",
}  # fmt: skip


def watch_victim(box: Box, client: Client, row: int) -> dict[str, Any]:
    """Start it, and see every part of its life on time."""
    begun = time.monotonic()
    client.start(row, "victim", payload={"text": "x" * 50_000})
    assert time.monotonic() - begun < LATE_S, "the socket answers"
    record: dict[str, Any] = client.notice(row)["record"]
    assert time.monotonic() - begun < VICTIM_S + 2 * LATE_S, "its end is told"
    assert record["code"] == 3
    assert VICTIM_S - 0.05 <= record["duration_s"] < VICTIM_S + LATE_S
    assert (box.runs / f"{row}.1.out").read_text() == "begins\nends\n"
    assert (box.runs / f"{row}.1.err").read_text() == "oops\n"
    return record


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_one_beside_it_notices_nothing(box: Box, kind: str) -> None:
    box.kind("victim", VICTIM)
    box.kind(kind, HOSTILE[kind], "grace_s = 0.1")
    client = box.start()
    client.start(1, kind, payload={"text": "y" * 200_000})
    watch_victim(box, client, 2)
    client.ask("progress", items=[[1, 1], [2, 1]])
    assert client.ask("status")["memory_bytes"] < 40 << 20
    state = client.ask("stop", row=1, start_no=1, id="a1", cause="withdrawn", grace_s=0.1)["state"]
    if state == "running":
        assert client.notice(1, timeout_s=20)["record"]["survivors"] == 0
    wait_for(lambda: not box.scripts_alive())
    kept = sum(path.stat().st_size for path in box.runs.glob("1.1.*"))
    assert kept <= 2 * OUTPUT_CAP_BYTES + 200_000 or kind == "fills_progress"


def test_a_progress_file_is_cut_again_and_again(box: Box) -> None:
    box.kind("fills", 'while :; do head -c 1M /dev/zero >>"$AGENT_PROGRESS"; sleep 0.05; done')
    client = box.start()
    client.start(1, "fills")
    path = box.runs / "1.1.progress"
    wait_for(lambda: path.exists() and path.stat().st_size > PROGRESS_FILE_BYTES_MAX)
    wait_for(lambda: path.stat().st_size <= PROGRESS_FILE_BYTES_MAX)


def test_what_a_trap_starts_does_not_hold_the_end_for_the_whole_grace(box: Box) -> None:
    """Born after the TERM: it is told when the main process has gone, not killed much later."""
    body = "trap 'sleep 300 & echo left; exit 9' TERM; echo up; while :; do sleep 0.05; done"
    box.kind("trapped", body)
    client = box.start()
    client.start(1, "trapped")
    wait_for((box.runs / "1.1.out").exists)
    begun = time.monotonic()
    client.ask("stop", row=1, start_no=1, id="a1", cause="withdrawn", grace_s=30)
    record = client.notice(1)["record"]
    assert time.monotonic() - begun < 5
    assert (record["code"], record["survivors"]) == (9, 0)


def test_what_a_trap_starts_may_finish_its_work(box: Box) -> None:
    """While the main process waits for it, it is its clean-up: no TERM for that."""
    body = (
        "trap 'sh -c \"sleep 0.5; echo cleaned\"; exit 9' TERM; echo up; "
        "while :; do sleep 0.05; done"
    )
    box.kind("trapped", body)
    client = box.start()
    client.start(1, "trapped")
    wait_for((box.runs / "1.1.out").exists)
    client.ask("stop", row=1, start_no=1, id="a1", cause="withdrawn", grace_s=30)
    assert client.notice(1)["record"]["code"] == 9
    assert (box.runs / "1.1.out").read_text() == "up\ncleaned\n"


def test_the_manifest_is_that_of_the_script_that_runs(tmp_path: Path) -> None:
    """It changes between the reading of the manifest and the opening of the script."""
    tmp_path.chmod(0o755)
    box = Box(tmp_path)
    box.kind("twofold", "exit 1", "timeout_s = 1")
    catalogue = Swapped(str(box.scripts))
    catalogue.on_open = lambda: box.kind("twofold", "exit 2", "timeout_s = 2")
    script = catalogue.open_script("twofold", dry_run=False)
    assert (os.read(script.fd, 99), script.manifest["timeout_s"]) == (b"#!/bin/sh\nexit 2\n", 2)
    os.close(script.fd)


class Swapped(Catalogue):
    """A catalogue at whose first opening of a script somebody else is quicker."""

    on_open: Callable[[], object] | None = None

    def _open_checked(self, name: str, manifest: Manifest) -> Script:
        act, self.on_open = self.on_open, None
        if act is not None:
            act()
        return super()._open_checked(name, manifest)


def test_the_file_that_was_checked_is_the_one_that_runs(box: Box) -> None:
    """However often it is swapped: each run is one whole file, and its digest is told."""
    for name, code in (("good", 1), ("evil", 2)):
        path = box.path / name
        path.write_text(f"#!/bin/sh\n# {name}\nexit {code}\n")
        path.chmod(0o755)
    box.kind("swapped", "exit 1")
    client = box.start()
    pid = os.fork()
    if pid == 0:  # swaps until it is ended
        while True:
            for name in ("good", "evil"):
                os.link(box.path / name, box.scripts / ".new")
                (box.scripts / ".new").rename(box.scripts / "swapped")
    try:
        found: dict[str, set[int]] = {}
        for row in range(1, 60):
            client.start(row, "swapped")
            record = client.notice(row)["record"]
            assert record["spawn_error"] is None
            found.setdefault(record["script_digest"], set()).add(record["code"])
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert all(len(codes) == 1 for codes in found.values()), found
