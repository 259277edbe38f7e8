"""A thousand actions that fall due at once, eight in parallel: how quickly they are worked off.

The rate is by the actions' own stamps, from the due instant to the last start: a scheduler that
looks only now and then is that much slower. fsyncs and CPU time are counted from the due instant
until nothing is left to do, over all processes of the scheduler.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

from figures import Section, Target, middle, percentile
from place import Place, Trouble, wait_until
from processes import SyncCounter, usage
from systems import OURS, PEERS, Node, Peer

PARALLEL = 8
LEAD_S = 2.0  # to the due instant, and so much more per action that is to be planned before
LEAD_S_PER_ACTION = 0.008
WORK_S_MAX = 180.0
SETTLE_S = 0.5  # a peer commits its last results in this time
API_EVERY_S = 0.02
Make = Callable[[], Node | Peer]


class Late(Trouble):
    """The due instant came before everything was planned."""


def measure(place: Place, bin_dir: Path, peers: Path, *, quick: bool) -> Section:
    """Rounds of all systems in turn; medians."""
    count, rounds = (300, 1) if quick else (1000, 3)
    systems: dict[str, Make] = {OURS: lambda: Node(place, bin_dir, PARALLEL)}
    for name in PEERS:
        systems[name] = lambda name=name: Peer(place, peers, name, PARALLEL)
    found: dict[str, dict[str, float]] = {}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    for number in range(rounds):
        for name, make in systems.items():
            print(f"  burst, round {number + 1} of {rounds}: {name}", flush=True)
            bash = _one(place, make, "bash_action", count)
            tiny = _one(place, make, "tiny_action", count)
            runs[name].append(tiny | {"bash": bash["rate"]})
    found = {name: middle(some) for name, some in runs.items()}
    section = Section(
        name="burst",
        title=f"{count} due at once, {PARALLEL} in parallel",
        columns=["bash /s", "static /s", "fsyncs per action", "CPU ms per action"],
        bars={name: figures["rate"] for name, figures in found.items()},
        bars_title="tiny static actions per second",
    )
    for name, one in found.items():
        syncs = f"{one['syncs']:.2f}" if place.preload else "?"
        section.rows[name] = [
            f"{one['bash']:.0f}", f"{one['rate']:.0f}", syncs, f"{one['cpu_ms']:.2f}"
        ]  # fmt: skip
    _judge(section, found, counted=place.preload is not None)
    if not place.has_static:
        section.notes.append("No static action could be built: bash stands in its place.")
    section.notes.append(_api_latency(place, Node(place, bin_dir, PARALLEL), count))
    return section


def _judge(section: Section, found: dict[str, dict[str, float]], *, counted: bool) -> None:
    ours = found[OURS]
    durable = max(found["APScheduler 3"]["rate"], found["Huey"]["rate"])
    section.targets += [
        Target(text="rate against the better durable peer", found=ours["rate"] / durable,
               bound=1.5, at_least=True),
        Target(text="rate against the bare loop", found=ours["rate"] / found["bare"]["rate"],
               bound=0.5, at_least=True),
    ]  # fmt: skip
    if counted:
        section.targets.append(
            Target(text="fsyncs per action", found=ours["syncs"], bound=1.5, unit="")
        )


def _one(place: Place, make: Make, action: str, count: int) -> dict[str, float]:
    """On a busy machine planning may take longer than it was given: then once more, with more."""
    for lead_s in (LEAD_S, 4 * LEAD_S):
        try:
            return _try(place, make(), action, count, lead_s)
        except Late:
            continue
    return _try(place, make(), action, count, 16 * LEAD_S)


def _try(
    place: Place, system: Node | Peer, action: str, count: int, lead_s: float
) -> dict[str, float]:
    place.forget_stamps()
    counter = None
    if place.preload is not None:
        counter = SyncCounter(system.store.with_name(f"{system.store.name}.syncs"), place.preload)
    environment = counter.environment if counter else {}
    due_at = _begin(place, system, action, count, environment, lead_s)
    syncs, before = counter.count if counter else 0, usage(system.pids())
    time.sleep(max(0.0, due_at - time.time()))
    system.go()
    wait_until(
        lambda: place.count_stamps() >= count, WORK_S_MAX, f"{system.name} did not start all"
    )
    if isinstance(system, Node):
        system.wait_drained(WORK_S_MAX)
    else:
        time.sleep(SETTLE_S)
    spent = usage(system.pids()).since(before)
    syncs = (counter.count if counter else 0) - syncs
    system.stop()
    at = sorted(moment for _, moment in place.stamps())
    if len(at) != count or len({i for i, _ in place.stamps()}) != count:
        raise Trouble(f"{system.name} started {len(at)} of {count}")
    return {
        "rate": count / (at[-1] - due_at),
        "syncs": syncs / count,
        "cpu_ms": spent.cpu_s * 1000 / count,
    }


def _begin(
    place: Place, system: Node | Peer, action: str, count: int, environment: dict[str, str],
    lead_s: float,
) -> float:  # fmt: skip
    """Plan all for one instant, ready before it; the instant."""
    due_at = time.time() + lead_s + LEAD_S_PER_ACTION * count
    plan = [(f"a{number}", due_at, str(place.actions / action)) for number in range(count)]
    if isinstance(system, Node):
        system.start(environment)
        system.plan(plan)
    else:
        system.plan(plan)
        system.start(environment)
    if time.time() > due_at - SETTLE_S:
        system.stop()
        raise Late(f"{system.name} needed longer than {lead_s:g} s to plan {count} actions")
    time.sleep(max(0.0, due_at - SETTLE_S - time.time()))
    return due_at


def _api_latency(place: Place, node: Node, count: int) -> str:
    """How long `status` and a page of the list take while the burst runs."""
    place.forget_stamps()
    due_at = _begin(place, node, "tiny_action", count, {}, 4 * LEAD_S)
    taken: list[float] = []
    done = Event()

    def ask() -> None:
        caller = node.connect()
        while not done.is_set():
            for path in ("/v1/status", "/v1/actions?limit=50"):
                began = time.monotonic()
                node.call("GET", path, None, caller)
                taken.append((time.monotonic() - began) * 1000)
                time.sleep(API_EVERY_S)

    time.sleep(max(0.0, due_at - time.time()))
    asking = Thread(target=ask)
    asking.start()
    wait_until(lambda: place.count_stamps() >= count, WORK_S_MAX, "agentd did not start all")
    done.set()
    asking.join()
    node.stop()
    return (
        f"API of agentd during the burst, {len(taken)} requests (status, a page of the list): "
        f"median {percentile(taken, 50):.1f} ms, 99th percentile {percentile(taken, 99):.1f} ms."
    )
