"""One seed's plan: which faults there are and when, and what people ask for and when. Values only.

Not every seed has every fault: a run with two of them in plenty finds what a run with a little of
everything does not.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from agent.domain.instants import format_instant
from tests.fakes.faulty_network import Weather
from tests.fakes.virtual_clock import START_AT

FAULTS: Mapping[str, tuple[float, float]] = {
    # kind: how long it lasts, in seconds
    "node_crash": (0.0, 20.0),
    "runner_crash": (0.0, 8.0),
    "runner_cut": (0.0, 0.0),
    "partition": (0.5, 40.0),
    "core_crash": (0.0, 20.0),
    "node_disk_full": (0.5, 15.0),
    "core_disk_full": (0.5, 15.0),
    "core_restore": (0.5, 10.0),
    "node_restore": (0.5, 10.0),
}
RESTORES = ("core_restore", "node_restore")
RESTORING_SEEDS = 0.2  # the share of seeds in which a database may be replaced by an older one
KINDS = ("beside", "beside", "single", "single.once", "beside.once", "bounded", "unheard.of")
APPS = ("web", "db", "cache")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something breaks at `at_s` for `lasts_s`, at a node or (node "") at the core."""

    at_s: float
    kind: str
    node: str
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody asks for something: `what` is a method of `Operators`."""

    at_s: float
    what: str
    node: str
    id: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a seed decides before anything runs."""

    seed: int
    nodes: tuple[str, ...]
    faults_until_s: float
    skew_s: Mapping[str, float]
    weather: Weather
    store_pause_s: float
    runner_pause_s: float
    faults: tuple[Fault, ...]
    wishes: tuple[Wish, ...]
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    is_tended: bool = False
    """Whether the core has its rules and loops, and somebody looks after what waits."""


def draw_plan(seed: int, actions: int = 20, rules: int = 0) -> Plan:
    """The plan of a seed. `rules` recurring actions are drawn apart, after everything else."""
    plan = _draw_plan(seed, actions)
    if not rules:
        return plan
    rng = random.Random(f"plan of rules {seed}")
    wishes = [wish for number in range(rules) for wish in _draw_rule(rng, plan, number)]
    # What ran since a backup is not known to the node that is put back to it; that is another test.
    faults = tuple(fault for fault in plan.faults if fault.kind != "node_restore")
    everything = sorted([*plan.wishes, *wishes], key=lambda wish: wish.at_s)
    return replace(plan, wishes=tuple(everything), faults=faults)


def _draw_rule(rng: random.Random, plan: Plan, number: int) -> list[Wish]:
    """A recurring action that ends by itself, and what somebody does to it."""
    node, name = rng.choice(plan.nodes), f"r{number:02}"
    at_s = rng.uniform(0.0, plan.faults_until_s * 0.4)
    until_s = at_s + rng.uniform(5.0, plan.faults_until_s - at_s)
    schedule: dict[str, Any] = {
        "every": f"{rng.choice((1, 2, 5, 13))}s",
        "overlap": rng.choice(("skip", "queue", "cancel_running", "allow")),
        "catch_up": {"mode": rng.choice(("skip", "latest", "all")), "max_count": 5},
        "ends_at": instant(round(until_s)),
    }
    if rng.random() < 0.3:
        schedule["max_runs"] = rng.randint(1, 8)
    document = draw_document(rng, name, at_s)
    for field_name in ("to_date", "start_deadline_s"):
        document.pop(field_name, None)
    document["kind"] = rng.choice(KINDS[:-1])
    if schedule["overlap"] in ("queue", "allow"):
        # A hundred may wait; they shall have had their turns before it must be quiet.
        document.pop("retry", None)
        document["payload"]["seconds"] = min(document["payload"]["seconds"], 2.0)
    document |= {"schedule": schedule, "from_date": instant(round(at_s))}
    what = rng.choice(("dispatch", "submit_rule"))
    wishes = [Wish(at_s, what, node, name, {"document": document})]
    if rng.random() < 0.3:
        wishes.append(Wish(rng.uniform(at_s, until_s), "cancel", node, name, {"stop": True}))
    return wishes


def _draw_plan(seed: int, actions: int) -> Plan:
    rng = random.Random(f"plan {seed}")
    nodes = ("n1",) if rng.random() < 0.75 else ("n1", "n2")
    until_s = rng.uniform(60.0, 150.0)
    return Plan(
        seed=seed,
        nodes=nodes,
        faults_until_s=until_s,
        skew_s={name: rng.choice((0.0, 0.0, rng.uniform(-3, 3))) for name in nodes},
        weather=_draw_weather(rng),
        store_pause_s=rng.choice((0.0, 0.002, 0.05, 0.4)),
        runner_pause_s=rng.choice((0.0, 0.005, 0.3, 2.0)),
        faults=tuple(_draw_faults(rng, nodes, until_s)),
        wishes=tuple(_draw_wishes(rng, nodes, until_s, actions)),
    )


def _draw_weather(rng: random.Random) -> Weather:
    slow_s = rng.choice((0.005, 0.05, 1.0))
    bad = rng.choice((0.0, 0.02, 0.15))
    return Weather(
        delay_s=(0.0005, slow_s),
        lost=bad * rng.random(),
        doubled=bad * rng.random(),
        late_s=(0.0, rng.choice((1.0, 30.0))),
    )


def _draw_faults(rng: random.Random, nodes: tuple[str, ...], until_s: float) -> list[Fault]:
    usual = [kind for kind in FAULTS if kind not in RESTORES]
    kinds = [kind for kind in usual if rng.random() < 0.5]
    if rng.random() < RESTORING_SEEDS:
        kinds.append(rng.choice(RESTORES))
    every_s = rng.choice((5.0, 15.0, 40.0))
    faults = []
    at_s = rng.expovariate(1 / every_s)
    while kinds and at_s < until_s:
        kind = rng.choice(kinds)
        lasts_s = rng.uniform(*FAULTS[kind]) * rng.choice((0.05, 1.0))
        node = "" if kind.startswith("core") else rng.choice(nodes)
        faults.append(Fault(at_s, kind, node, lasts_s))
        at_s += rng.expovariate(1 / every_s)
    return faults


def _draw_wishes(
    rng: random.Random, nodes: tuple[str, ...], until_s: float, actions: int
) -> list[Wish]:
    wishes = []
    for number in range(actions):
        node, name = rng.choice(nodes), f"a{number:02}"
        at_s = rng.uniform(0.0, until_s * 0.8)
        document = draw_document(rng, name, at_s)
        local = rng.random() < 0.25
        what = "submit" if local else "dispatch"
        wishes.append(Wish(at_s, what, node, name, {"document": document}))
        wishes += _draw_followers(rng, node, name, at_s, local=local)
    if rng.random() < 0.3:
        wishes.append(Wish(rng.uniform(0, until_s), "nudge", rng.choice(nodes), ""))
    return sorted(wishes, key=lambda wish: wish.at_s)


def _draw_followers(
    rng: random.Random, node: str, name: str, at_s: float, *, local: bool
) -> list[Wish]:
    """What somebody asks about the same action afterwards."""
    later_s = at_s + rng.choice((rng.uniform(0, 2), rng.uniform(0, 30)))
    draw = rng.random()
    if draw < 0.22:
        return [Wish(later_s, "cancel", node, name, {"stop": rng.random() < 0.7})]
    if draw < 0.30:
        return [Wish(later_s, "cancel_locally", node, name)]
    if draw < 0.45 and not local:
        edits = [Wish(later_s, "edit", node, name, {"changes": _draw_edit(rng, later_s)})]
        if rng.random() < 0.4:
            edits.append(Wish(later_s + rng.uniform(0, 5), "cancel", node, name, {"stop": True}))
        return edits
    return []


def _draw_edit(rng: random.Random, at_s: float) -> dict[str, Any]:
    changes: dict[str, Any] = {"labels": {"edited": f"{at_s:.3f}"}}
    if rng.random() < 0.6:
        changes["to_date"] = instant(at_s + rng.uniform(0.5, 20.0))
    return changes


def draw_document(rng: random.Random, name: str, at_s: float) -> dict[str, Any]:
    """What somebody dispatches."""
    codes = rng.choice(([0], [0], [0], [1], [1, 0], [75, 1, 0]))
    document: dict[str, Any] = {
        "id": name,
        "kind": rng.choice(KINDS),
        "grace_s": rng.choice((0.5, 3.0)),
        "payload": {
            "seconds": round(rng.choice((0.0, rng.uniform(0, 2), rng.uniform(0, 15))), 3),
            "codes": codes,
            "on_term": rng.choice(("die", "die", "ignore", "exit")),
        },
    }
    from_s = at_s + rng.choice((0.0, rng.uniform(-2, 2), rng.uniform(0, 40)))
    if rng.random() < 0.6:
        document["from_date"] = instant(from_s)
    if rng.random() < 0.35:
        document["to_date"] = instant(max(from_s, at_s) + rng.uniform(0.5, 25))
    if rng.random() < 0.5:
        document["retry"] = {"max_attempts": rng.randint(1, 3), "delay_s": rng.uniform(0.2, 8)}
    if rng.random() < 0.3:
        document["app_names"] = sorted(rng.sample(APPS, rng.randint(1, 2)))
    if rng.random() < 0.15:
        document["timeout_s"] = rng.uniform(0.5, 8)
    if rng.random() < 0.1:
        document["start_deadline_s"] = rng.uniform(0.5, 10)
    if rng.random() < 0.2:
        document["on_restart"] = "never"
    return document


def instant(at_s: float) -> str:
    """A virtual second as a date."""
    moment: datetime = START_AT + timedelta(seconds=round(at_s, 6))
    return format_instant(moment)
