"""200 one-shots over 20 s: how late the action itself starts to run after its due instant.

All systems run at the same time, a third of a step apart, so that a neighbour's noise meets each of
them alike. That our status is committed before the start is seen by actions that look it up.
"""

from __future__ import annotations

import time
from pathlib import Path

from figures import Section, Target, middle, percentile
from place import Place, Trouble, wait_until
from systems import OURS, Node, Peer

STEP_S = 0.1
LEAD_S = 6.0
WITNESSES = 20
_WITNESS = """#!{python}
import os, sqlite3
db = sqlite3.connect("file:{store}/agent.db?mode=ro", uri=True)
found = db.execute(
    "SELECT execution_status FROM actions WHERE id = ?", (os.environ["AGENT_ACTION_ID"],)
).fetchone()
with open("{seen}", "a") as file:
    file.write(found[0] + "\\n")
"""


def measure(place: Place, bin_dir: Path, peers: Path, *, quick: bool) -> Section:
    """Rounds of all three together; medians of their percentiles."""
    count, rounds = (50, 1) if quick else (200, 3)
    runs: dict[str, list[dict[str, float]]] = {OURS: [], "APScheduler 3": [], "bare": []}
    for number in range(rounds):
        print(f"  lateness, round {number + 1} of {rounds}", flush=True)
        late = _round(place, bin_dir, peers, count)
        for name, values in late.items():
            runs[name].append({"p50": percentile(values, 50), "p99": percentile(values, 99)})
    found = {name: middle(some) for name, some in runs.items()}
    section = Section(
        name="lateness",
        title=f"{count} one-shots over {count * STEP_S:g} s (bash)",
        columns=["median ms", "99th percentile ms"],
        bars={name: one["p99"] for name, one in found.items()},
        bars_title="lateness, 99th percentile, ms (less is better)",
    )
    for name, one in found.items():
        section.rows[name] = [f"{one['p50']:.1f}", f"{one['p99']:.1f}"]
    ours = found[OURS]["p99"]
    section.targets = [
        Target(text="p99 against APScheduler 3", found=ours / found["APScheduler 3"]["p99"],
               bound=1.0),
        Target(text="p99 against the bare loop", found=ours / found["bare"]["p99"], bound=2.0),
    ]  # fmt: skip
    seen = _witnesses(place, bin_dir)
    section.notes.append(
        f"Status on disk before the start: {seen.count('STARTED')} of {WITNESSES} actions found "
        "themselves committed as STARTED when they began (SQLite: WAL, synchronous FULL)."
    )
    return section


def _round(place: Place, bin_dir: Path, peers: Path, count: int) -> dict[str, list[float]]:
    place.forget_stamps()
    node = Node(place, bin_dir)
    others = [Peer(place, peers, "APScheduler 3"), Peer(place, peers, "bare")]
    node.start()
    begin = time.time() + LEAD_S + 0.01 * count
    systems = [node, *others]
    due: dict[str, tuple[str, float]] = {}
    for place_in_step, system in enumerate(systems):
        first = begin + STEP_S * place_in_step / len(systems)
        plan = [
            (f"{place_in_step}-{n}", first + STEP_S * n, str(place.actions / "bash_action"))
            for n in range(count)
        ]
        due |= {action_id: (system.name, at) for action_id, at, _ in plan}
        system.plan(plan)
    for peer in others:
        peer.start()
    if time.time() > begin:
        raise Trouble("planning took longer than LEAD_S; is the machine very busy?")
    time.sleep(max(0.0, begin + STEP_S * count - time.time()))
    wait_until(lambda: place.count_stamps() >= len(due), 20, "not all were started")
    for system in systems:
        system.stop()
    late: dict[str, list[float]] = {system.name: [] for system in systems}
    for action_id, at in place.stamps():
        name, due_at = due[action_id]
        late[name].append((at - due_at) * 1000)
    return late


def _witnesses(place: Place, bin_dir: Path) -> list[str]:
    """What actions read of themselves in the database at their very start."""
    node = Node(place, bin_dir)
    seen = node.store.with_name("seen")
    seen.unlink(missing_ok=True)
    text = _WITNESS.format(python=bin_dir / "python", store=node.store, seen=seen)
    place.install("witness", text.encode())
    node.start()
    now = time.time()
    node.plan([(f"w{n}", now + 1 + 0.05 * n, "witness") for n in range(WITNESSES)])
    node.wait_drained(30)
    node.stop()
    return seen.read_text().split()
