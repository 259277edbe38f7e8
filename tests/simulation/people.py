"""What people do beside dispatching: they approve, reject, wait too long, freeze, thaw, relabel.

Drawn apart, after everything else: a seed's other wishes are what they are without these.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from tests.simulation.plan import KINDS, Plan, Wish, draw_document, instant

QUESTION_TTL_S = 20.0  # of the core of a simulation: many questions shall end unanswered
RULES = ("ask", "suppress", "delay:3", "delay:11")
"""What `HouseRules` does with an action whose metadata names one."""
WAITING: tuple[dict[str, Any], ...] = (
    {"risk_level": "dangerous"},
    {"risk_level": "guarded"},
    {"approval_required": True},
    {"metadata": {"rule": "ask"}},
)
SITES = ("east", "west")
SELECTORS = ("site=east", "site in (east, west)", "tier=gold", "node=n1", "!tier")


def draw_people(plan: Plan, cases: int) -> Plan:
    """The plan with so many actions that somebody has to look at, and with freezes."""
    rng = random.Random(f"plan of people {plan.seed}")
    wishes = [wish for number in range(cases) for wish in _draw_case(rng, plan, number)]
    wishes += _draw_freezes(rng, plan)
    everything = sorted([*plan.wishes, *wishes], key=lambda wish: wish.at_s)
    labels = {name: {"site": rng.choice(SITES)} for name in plan.nodes}
    return replace(plan, wishes=tuple(everything), labels=labels, is_tended=True)


def must_wait(plan: Plan) -> frozenset[str]:
    """The actions that no node may hear of before a person said yes; retries of them as well."""
    asked = {
        wish.id
        for wish in plan.wishes
        if wish.what == "dispatch" and wish.values.get("waits") is True
    }
    return frozenset(asked | {retry_of(name) for name in asked})


def retry_of(name: str) -> str:
    """What somebody calls the repetition of an action."""
    return f"{name}-again"


def _draw_case(rng: random.Random, plan: Plan, number: int) -> list[Wish]:
    node, name = rng.choice(plan.nodes), f"p{number:02}"
    at_s = rng.uniform(0.0, plan.faults_until_s * 0.8)
    document = draw_document(rng, name, at_s)
    document["kind"] = rng.choice(KINDS[:-1])
    if rng.random() < 0.3:
        document.pop("from_date", None)
        document |= {"metadata": {"rule": rng.choice(RULES[1:])}}
        wishes = [Wish(at_s, "dispatch", node, name, {"document": document})]
        return wishes + _draw_changes(rng, node, name, at_s)
    document |= rng.choice(WAITING)
    wishes = [Wish(at_s, "dispatch", node, name, {"document": document, "waits": True})]
    return wishes + _draw_answers(rng, node, name, at_s)


def _draw_answers(rng: random.Random, node: str, name: str, at_s: float) -> list[Wish]:
    """Somebody answers, or two at once, or nobody; some of them too late."""
    wishes = [
        Wish(at_s + rng.uniform(0.0, 1.3 * QUESTION_TTL_S), what, node, name)
        for what in rng.choice(
            (["approve"], ["approve"], ["approve", "reject"], ["reject"], ["reject"], [])
        )
    ]
    if rng.random() < 0.2:
        wishes.append(Wish(at_s + rng.uniform(0.0, 30.0), "cancel", node, name, {"stop": True}))
    wishes += _draw_changes(rng, node, name, at_s)
    if rng.random() < 0.3:  # of the change, where there was one
        wishes.append(Wish(at_s + rng.uniform(5.0, 40.0), "approve", node, name))
    return wishes


def _draw_changes(rng: random.Random, node: str, name: str, at_s: float) -> list[Wish]:
    wishes = []
    if rng.random() < 0.3:
        to_s = at_s + rng.uniform(0.0, 40.0)
        body = {"from_date": instant(to_s), "to_date": instant(to_s + rng.uniform(5.0, 30.0))}
        when_s = at_s + rng.uniform(0.0, 20.0)
        wishes.append(Wish(when_s, "reschedule", node, name, {"body": body}))
    if rng.random() < 0.3:
        again = {"id": retry_of(name), "from_date": instant(at_s)}
        body = {**again, "to_date": instant(at_s + 90.0)}
        wishes.append(Wish(at_s + rng.uniform(5.0, 50.0), "retry", node, name, {"body": body}))
    return wishes


def _draw_freezes(rng: random.Random, plan: Plan) -> list[Wish]:
    wishes = []
    until_s = plan.faults_until_s
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        at_s, selector = rng.uniform(0.0, until_s * 0.8), rng.choice(SELECTORS)
        body: dict[str, Any] = {"selector": selector, "reason": "a look at what it does"}
        if rng.random() < 0.3:
            body["kind"] = rng.choice(KINDS[:-1])
        if rng.random() < 0.3:
            body["for_s"] = round(rng.uniform(3.0, 30.0), 3)
        wishes.append(Wish(at_s, "freeze", plan.nodes[0], "", {"body": body}))
        if rng.random() < 0.7:
            thaw_s = at_s + rng.choice((rng.uniform(0.0, 2.0), rng.uniform(2.0, 30.0)))
            wishes.append(Wish(thaw_s, "thaw", plan.nodes[0], "", {"body": {"selector": selector}}))
    for _ in range(rng.choice((0, 1, 3))):
        values = {"labels": {"tier": rng.choice(("gold", "tin", None))}}
        wishes.append(
            Wish(rng.uniform(0.0, until_s), "relabel", rng.choice(plan.nodes), "", values)
        )
    return wishes
