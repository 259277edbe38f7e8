"""One seed, from the first boot to quiet: faults with the work going on, then no faults at all.

Two phases. While things break, only safety is asked of the system. Then everything is repaired,
and within a bound of virtual time everything that was asked for must have come to its end.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Mapping

from agent.core.actions.terms import Terms
from agent.core.approvals.judging import ApprovalTerms
from agent.core.nodes.enrolment import create_token
from agent.core.nodes.silence import Lease
from agent.core.occasion import Occasion
from tests.fakes.faulty_network import CALM, Link
from tests.fakes.sim_core import SimCore, raw_connection
from tests.fakes.virtual_clock import VirtualClock
from tests.fakes.virtual_loop import run_virtual
from tests.simulation.evidence import Evidence, Sample, take_evidence, take_sample
from tests.simulation.faults import Breaker
from tests.simulation.house_rules import HouseRules
from tests.simulation.node import SimNode
from tests.simulation.observations import Observations
from tests.simulation.operators import Operators
from tests.simulation.people import QUESTION_TTL_S, draw_people
from tests.simulation.plan import Plan, Wish, draw_plan

SAMPLE_EVERY_S = 4.0
QUIET_WITHIN_S = 900.0  # a refused session waits two minutes, a fallback poll ten, back-off one
LOOK_EVERY_S = 5.0
LEASE = Lease(silent_after_s=20.0, lost_after_s=45.0)  # short, so that a partition is a silence
TERMS = Terms(rules=HouseRules(), approvals=ApprovalTerms(ttl_s=QUESTION_TTL_S))
REPORTS_TRAVEL_S = 130.0  # what nodes say of themselves has been tried again by then
MESSAGES_TRAVEL_S = 40.0  # the latest duplicate of the faulty phase has arrived by then


class Parts:
    """Which classes a world is made of; a test puts a broken one in to see it found."""

    node: type[SimNode] = SimNode
    core: type[SimCore] = SimCore


def simulate(
    seed: int, *, actions: int = 20, rules: int = 0, people: int = 0, parts: type[Parts] = Parts
) -> Evidence:
    """Run one seed to its end; what can be known of it then."""
    plan = draw_plan(seed, actions, rules)
    return simulate_plan(draw_people(plan, people) if people else plan, parts)


def simulate_plan(plan: Plan, parts: type[Parts] = Parts) -> Evidence:
    """Run a plan that somebody has changed."""
    return run_virtual(_run(plan, parts))


async def _run(plan: Plan, parts: type[Parts]) -> Evidence:
    world = World(plan, parts)
    try:
        await world.set_up()
        await world.live()
        is_quiet = await world.settle()
        return take_evidence(
            plan, world.seen, world.samples, raw_connection(world.core.connection),
            world.connections(), is_quiet=is_quiet,
        )  # fmt: skip
    finally:
        world.close()


class World:
    """A core, its nodes, the wires, and the people."""

    def __init__(self, plan: Plan, parts: type[Parts]) -> None:
        loop = asyncio.get_running_loop()
        self._plan = plan
        self._loop = loop
        self._parts = parts
        self.seen = Observations(loop.time)
        self.samples: list[Sample] = []
        self.core = parts.core(
            VirtualClock(loop), self._rng("core bits").getrandbits,
            self._pause("core", plan.store_pause_s), self.seen.note,
            TERMS if plan.is_tended else None, LEASE if plan.is_tended else None,
        )  # fmt: skip
        self.nodes: Mapping[str, SimNode] = {}
        self._operators = Operators(self.core, self.nodes, self.seen, self._rng("operators"))
        self._asking: list[asyncio.Task[None]] = []

    async def set_up(self) -> None:
        """Tokens for the nodes, and their first boot."""
        plan = self._plan
        occasion = Occasion(self.core.clock.now(), self.core.random_bits)
        assert self.core.services is not None, "it has just been started"
        store = self.core.services.store
        nodes = {}
        for name in plan.nodes:
            token, _ = await store.write(lambda c, n=name: create_token(c, occasion, n, 86400.0))  # type: ignore[misc]
            clock = VirtualClock(self._loop, plan.skew_s[name])
            pauses = (
                self._pause(f"{name} store", plan.store_pause_s),
                self._pause(f"{name} runner", plan.runner_pause_s),
            )
            link = Link(self._rng(f"link {name}"), plan.weather, self._watch(name))
            nodes[name] = self._parts.node(
                name, token, self.core, link, self.seen, self._rng(f"node {name}"),
                pauses, clock,
            )  # fmt: skip
            nodes[name].labels = plan.labels.get(name, {})
        self.nodes = nodes
        self._operators = Operators(self.core, nodes, self.seen, self._rng("operators"))
        self._breaker = Breaker(self.core, nodes, self.seen)
        for node in nodes.values():
            node.boot()

    async def live(self) -> None:
        """The faulty phase."""
        for wish in self._plan.wishes:
            self._loop.call_at(wish.at_s, self._ask, wish)
        for fault in self._plan.faults:
            self._loop.call_at(fault.at_s, self._breaker.strike, fault)
        while self._loop.time() < self._plan.faults_until_s:
            await asyncio.sleep(SAMPLE_EVERY_S)
            self._look()

    async def settle(self) -> bool:
        """Repair everything, wait until nothing is under way; whether that came in time."""
        self.seen.note("faults_end")
        self._breaker.repair_all()
        for node in self.nodes.values():
            node.link.weather = CALM
        await asyncio.gather(*self._asking)
        await asyncio.sleep(MESSAGES_TRAVEL_S)
        if self._plan.is_tended:
            await self._operators.thaw_all()
        until_s = self._loop.time() + QUIET_WITHIN_S
        while self._loop.time() < until_s:
            self._help_fenced()
            if self._forgets_freezes():
                await self._help_frozen()
            self._look()
            if self._is_quiet():
                self.seen.note("quiet")
                await asyncio.sleep(REPORTS_TRAVEL_S if self._plan.is_tended else 0.0)
                return True
            await asyncio.sleep(LOOK_EVERY_S)
        self.seen.note("never_quiet")
        return False

    def _help_fenced(self) -> None:
        """A late request of an earlier life can fence the living one; a person restarts it."""
        for node in self.nodes.values():
            if node.daemon is not None and node.daemon.state.fenced:
                node.watch("restarted_because_fenced")
                node.crash()
                node.boot()

    def _forgets_freezes(self) -> bool:
        """A core that was put back does not know what it froze since (docs/fleet.md)."""
        return any(True for _ in self.seen.of("core_restored"))

    async def _help_frozen(self) -> None:
        for node in self.nodes.values():
            await node.lift_by_hand()

    def connections(self) -> dict[str, sqlite3.Connection]:
        """The nodes' databases."""
        return {name: node.connection for name, node in self.nodes.items()}

    def close(self) -> None:
        """Let go of everything."""
        for node in self.nodes.values():
            node.crash()
            node.connection.close()
        self.core.close()

    def _ask(self, wish: Wish) -> None:
        self._asking.append(asyncio.ensure_future(self._operators.grant(wish)))

    def _look(self) -> None:
        core = raw_connection(self.core.connection)
        self.samples.append(take_sample(self._loop.time(), core, self.connections()))

    def _is_quiet(self) -> bool:
        """Everything has ended, everything was told and acknowledged."""
        newest = self.samples[-1]
        return newest.open == 0 and newest.unsent == 0

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{self._plan.seed} {name}")

    def _pause(self, name: str, longest_s: float) -> Callable[[], float]:
        rng = self._rng(f"pause {name}")
        return lambda: rng.random() * longest_s

    def _watch(self, name: str) -> Callable[..., None]:
        return lambda what, /, **values: self.seen.note(what, name, **values)
