"""kill -9 with 7 actions running and 68 queued: what is lost, what runs twice, how soon it goes on.

The actions sleep two seconds, and write a line when they start and one when they end. Killed is
what a service manager would end: the scheduler with its scripts; of ours agentd, because scripts
are not its but the runner's. It is started again when nothing runs any more.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from figures import Section, Target
from place import Place, wait_until
from systems import OURS, Node, Peer

RUNNING, QUEUED = 7, 68
LEAD_S = 4.0
QUIET_S = 5.0  # nothing started for so long: nothing will
ALL_TAKEN_S = 1.0  # since the starts: by now all 75 are where the scheduler keeps them
ENDED_S = 2.0
WORK_S_MAX = 120.0
BOTH = "agentd, runner killed too"


def measure(place: Place, bin_dir: Path, peers: Path, *, quick: bool) -> Section:
    """Each system once: these are counts, not times."""
    section = Section(
        name="kill",
        title=f"kill -9 with {RUNNING} running and {QUEUED} queued",
        columns=["lost", "started twice", "first start after restart, s"],
    )
    names = [OURS, *([] if quick else [BOTH]), "APScheduler 3", "Huey", "bare"]
    for name in names:
        print(f"  kill -9: {name}", flush=True)
        lost, doubled, first_s = _one(place, bin_dir, peers, name)
        section.rows[name] = [
            str(lost), str(doubled), "never" if first_s is None else f"{first_s:.2f}"
        ]  # fmt: skip
        if name == OURS:
            section.targets = [
                Target(text="lost", found=lost, bound=0, unit=""),
                Target(text="doubled", found=doubled, bound=0, unit=""),
            ]
    if not quick:
        section.notes.append(
            f"With the runner killed too, the outcome of the {RUNNING} is unknown: they run again "
            "as their next attempt, because on_restart is `rerun`; with `never` they would not."
        )
    return section


def _one(place: Place, bin_dir: Path, peers: Path, name: str) -> tuple[int, int, float | None]:
    """(lost, started twice, seconds to the first start after the restart)."""
    place.forget_stamps()
    node = Node(place, bin_dir, RUNNING) if name in (OURS, BOTH) else None
    system = node or Peer(place, peers, name, RUNNING)
    total = RUNNING + QUEUED
    due_at = time.time() + LEAD_S
    action = str(place.actions / "sleeping_action")
    plan = [(f"k{number}", due_at, action) for number in range(total)]
    if node:
        node.start()
        node.plan(plan)
    else:
        system.plan(plan)
        system.start()
    time.sleep(max(0.0, due_at - time.time()))
    system.go()
    wait_until(lambda: place.count_stamps() >= RUNNING, 30, f"{name} started too few")
    time.sleep(ALL_TAKEN_S)
    system.kill9()
    if node and name == BOTH:
        node.kill9_runner()
    time.sleep(ENDED_S)  # what still runs ends without the scheduler
    started = place.count_stamps()
    before = time.time()
    system.start()
    _wait_quiet(place, total)
    system.stop()
    stamps = place.stamps()
    times = Counter(action_id for action_id, _ in stamps)
    ended = {action_id for action_id, _ in place.stamps("end")}
    after = [at for _, at in stamps[started:]]
    lost = sum(f"k{number}" not in ended for number in range(total))
    first_s = min(after) - before if after else None
    return lost, sum(count > 1 for count in times.values()), first_s


def _wait_quiet(place: Place, total: int) -> None:
    """Until all have ended, or nothing happens any more."""
    until = time.monotonic() + WORK_S_MAX
    seen, since = -1, time.monotonic()
    while time.monotonic() < until:
        ends = place.count_stamps(b" end ")
        if place.count_stamps() + ends != seen:
            seen, since = place.count_stamps() + ends, time.monotonic()
        if time.monotonic() - since > (QUIET_S if ends < total else 1.5):
            return
        time.sleep(0.05)
