"""The whole way: dispatched, run by a script, its end stored; beside Procrastinate and DBOS.

All on one PostgreSQL server with its own defaults, each in a database of its own, eight scripts at
a time, all with the same static program. The clock runs from the first dispatch until the last end
is durable where its owner would look for it.
"""

from __future__ import annotations

import select
import time
from pathlib import Path

from core_start import REAL, real_node
from cores import POSTGRES, SQLITE, Core
from figures import Section, Target, middle
from place import HERE, Place, Trouble, wait_until
from postgres import Postgres

PARALLEL = 8
BATCH = 100
WORK_S_MAX = 300.0
TIMES_PEERS_MIN = 5.0
PEERS = {"Procrastinate": "procrastinate3.py", "DBOS": "dbos2.py"}


def measure(place: Place, bin_dir: Path, peers: Path, *, quick: bool) -> Section:
    """Rounds of all systems in turn; medians."""
    count, rounds = (200, 1) if quick else (1000, 3)
    server = Postgres(place, peers)
    runs: dict[str, list[dict[str, float]]] = {}
    for number in range(rounds):
        for name in (POSTGRES, SQLITE):
            print(f"  core_through, round {number + 1} of {rounds}: ours, {name}", flush=True)
            core = Core(place, bin_dir, server.database() if name == POSTGRES else None)
            runs.setdefault(f"cored and agentd, {name}", []).append(
                _ours(place, bin_dir, core, count)
            )
        for name in PEERS:
            print(f"  core_through, round {number + 1} of {rounds}: {name}", flush=True)
            runs.setdefault(name, []).append(_peer(place, peers, server.database(), name, count))
    found = {name: middle(some) for name, some in runs.items()}
    section = Section(
        name="core_through",
        title=f"{count} actions dispatched, run and their ends stored, {PARALLEL} in parallel",
        columns=["actions /s"],
        rows={name: [f"{one['rate']:.0f}"] for name, one in found.items()},
        bars={name: one["rate"] for name, one in found.items()},
        bars_title="actions per second, from dispatch to the stored end",
    )
    ours = found[f"cored and agentd, {POSTGRES}"]["rate"]
    section.targets += [
        Target(text=f"rate on PostgreSQL against {name}", found=ours / found[name]["rate"],
               bound=TIMES_PEERS_MIN, at_least=True)
        for name in PEERS
    ]  # fmt: skip
    return section


def _ours(place: Place, bin_dir: Path, core: Core, count: int) -> dict[str, float]:
    core.start()
    node = real_node(place, bin_dir, core)
    place.forget_stamps()
    caller = core.connect()
    began = time.monotonic()
    for start in range(0, count, BATCH):
        some = range(start, min(start + BATCH, count))
        batch = [{"id": f"a{number}", "kind": "tiny_action", "node": REAL} for number in some]
        core.call("POST", "/v1/dispatch/batch", {"actions": batch}, caller)
    ended = core.wait_finished(REAL, count, WORK_S_MAX)
    caller.close()
    node.stop()
    core.stop()
    _require_all(place, "ours", count)
    return {"rate": count / (ended - began)}


def _peer(place: Place, peers: Path, url: str, name: str, count: int) -> dict[str, float]:
    """The program says `ready`, is told `go`, and says `done` when all ends are stored."""
    place.forget_stamps()
    log = place.fresh(name) / "log"
    command = [
        str(peers / "python"), "-B", str(HERE / "peers" / PEERS[name]), url,
        str(place.actions / "tiny_action"), str(count), str(PARALLEL),
    ]  # fmt: skip
    process = place.spawn(command, log)
    assert process.stdin is not None
    assert process.stdout is not None

    def told(word: bytes, seconds: float) -> None:
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if not ready or process.stdout.readline() != word + b"\n":  # type: ignore[union-attr]
            raise Trouble(f"{name} did not say {word!r}:\n{log.read_text()[-2000:]}")

    told(b"ready", 60)
    began = time.monotonic()
    process.stdin.write(b"go\n")
    process.stdin.flush()
    told(b"done", WORK_S_MAX)
    took = time.monotonic() - began
    place.end(process)
    _require_all(place, name, count)
    return {"rate": count / took}


def _require_all(place: Place, name: str, count: int) -> None:
    wait_until(lambda: place.count_stamps() >= count, 5, f"{name} did not start all {count}")
