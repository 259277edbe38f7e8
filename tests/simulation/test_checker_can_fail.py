"""The checker must be able to fail: parts broken on purpose, and what it says of them.

Each test puts one wrong part into an otherwise real world and looks for the promise that breaks in
some of a few seeds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from agent.core.actions import placing
from agent.core.approvals import deciding, judging
from agent.core.nodes.events import take_in_order
from agent.core.store.schema import approvals
from agent.domain import reconcile, starting
from agent.domain.approval import ApprovalDecision
from agent.domain.ending import RunState
from agent.node import ledger, occurrences, turn
from agent.node.catalogue import Kinds
from agent.node.daemon import open_life
from agent.node.engine import Engine
from agent.node.ledger import Ledger
from agent.node.ports import RunKey, RunStatus, StartRequest
from agent.node.sync import apply as node_apply
from agent.node.sync.apply import Applied
from agent.node.sync.report import Report
from tests.fakes.fake_runner import FakeRunner
from tests.fakes.inline_node_store import InlineNodeStore
from tests.simulation.checker.check import check
from tests.simulation.evidence import Evidence
from tests.simulation.node import SimNode
from tests.simulation.people import draw_people
from tests.simulation.plan import Fault, draw_plan
from tests.simulation.world import Parts, simulate, simulate_plan

SEEDS_TRIED_MAX = 30

pytestmark = pytest.mark.timeout(90)


def expect(promise: str, parts: type[Parts] = Parts, first: int = 0) -> None:
    """The checker names this promise within a few seeds."""
    found: set[str] = set()
    for seed in range(first, first + SEEDS_TRIED_MAX):
        found |= {violation.promise for violation in check(simulate(seed, parts=parts))}
        if promise in found:
            return
    pytest.fail(f"{promise} was not found broken, only {found or 'nothing'}")


def with_node(**broken: Any) -> type[Parts]:
    """A world whose nodes have these parts."""
    node = type("BrokenNode", (SimNode,), broken)
    return type("BrokenParts", (Parts,), {"node": node})


class ForgetsTombstones(FakeRunner):
    """Says that a run never started, and starts it when the request arrives after all."""

    def claim(self, key: RunKey) -> RunStatus:
        status = super().claim(key)
        if self.runs[key.row, key.start_no].tombstone:
            del self.runs[key.row, key.start_no]
        return status


class StartsTwice(FakeRunner):
    """Starts every eighth action's script two times."""

    def start(self, request: StartRequest) -> RunStatus:
        is_new = (request.key.row, request.key.start_no) not in self.runs
        status = super().start(request)
        if is_new and status.state is RunState.RUNNING and request.key.row % 8 == 0:
            self._spawn(request)
        return status


class SkipsEvents(Ledger):
    """Changes a status now and then without writing its event."""

    skipped = 0

    def move(
        self, connection: sqlite3.Connection, action: Any, transition: Any, **more: Any
    ) -> Any:
        moved = super().move(connection, action, transition, **more)
        SkipsEvents.skipped += 1
        if SkipsEvents.skipped % 9 == 0:
            connection.execute("DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)")
        return moved


class ForgetsWhatRuns(Engine):
    """Believes that all its places are always free."""

    def _input(self, endings: Any) -> Any:
        running, self.running = self.running, {}
        given = super()._input(endings)
        self.running = running
        return given


class AcknowledgesEarly(Engine):
    """Lets the core know of a withdrawal while the start is still on its way."""

    async def until_answered(self, actions: Iterable[Any]) -> None:
        """Not at all."""


def test_a_runner_that_starts_twice_is_found() -> None:
    expect("P1", with_node(runner_of=StartsTwice))


def test_a_runner_that_forgets_tombstones_is_found() -> None:
    """Where the connection often breaks with a start on its way, which then arrives."""
    found: set[str] = set()
    for seed in range(SEEDS_TRIED_MAX):
        cuts = tuple(Fault(at_s * 1.0, "runner_cut", "n1", 0.0) for at_s in range(4, 90, 4))
        plan = replace(draw_plan(seed, 60), runner_pause_s=0.5, store_pause_s=0.0, faults=cuts)
        evidence = simulate_plan(plan, with_node(runner_of=ForgetsTombstones))
        found |= {violation.promise for violation in check(evidence)}
        if "P1" in found:
            return
    pytest.fail(f"only {found}")


def test_a_ledger_that_skips_an_event_is_found() -> None:
    expect("P4", with_node(ledger_of=SkipsEvents))


def test_an_engine_that_overlaps_is_found() -> None:
    expect("queue", with_node(engine_of=ForgetsWhatRuns))


def test_a_start_after_an_acknowledged_withdrawal_is_found() -> None:
    for seed in range(SEEDS_TRIED_MAX):
        plan = replace(draw_plan(seed, 60), runner_pause_s=3.0, store_pause_s=0.0, faults=())
        evidence = simulate_plan(plan, with_node(engine_of=AcknowledgesEarly))
        if "P8" in {violation.promise for violation in check(evidence)}:
            return
    pytest.fail("P8 was not found broken")


def test_an_engine_that_starts_what_was_withdrawn_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def keep(*_: Any, **__: Any) -> None:
        return None

    def no_ending(current: Any, incoming: Any, now: Any) -> Any:
        change = real(current, incoming, now)
        return type(change)(verdict=change.verdict, definition=change.definition,
                            due_at=change.due_at)  # fmt: skip

    real = reconcile.decide_definition
    monkeypatch.setattr("agent.node.ledger.decide_definition", no_ending)
    monkeypatch.setattr(turn, "decide_unwanted", keep)
    monkeypatch.setattr(starting, "decide_unwanted", keep)
    monkeypatch.setattr(node_apply, "_cannot_run", keep)
    expect("P8")


def test_a_core_that_stores_an_event_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(event_seq: int, batch: Any, known: Any) -> Any:
        fresh, seq, refusal = take_in_order(event_seq, batch, known)
        doubled = [
            type(event)(**{**_fields(event), "mark": event.mark + "2"})
            for event in fresh if event.seq % 7 == 0
        ]  # fmt: skip
        return [*fresh, *doubled], seq, refusal

    monkeypatch.setattr("agent.core.nodes.pushes.take_in_order", twice)
    expect("P4")


def _fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__slots__}


def test_a_core_that_loses_an_event_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(event_seq: int, batch: Any, known: Any) -> Any:
        fresh, seq, refusal = take_in_order(event_seq, batch, known)
        return [event for event in fresh if event.seq % 11], seq, refusal

    monkeypatch.setattr("agent.core.nodes.pushes.take_in_order", lossy)
    expect("P4")


def test_a_node_that_takes_old_revisions_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Swaps(Ledger):
        """Puts the revision back by one now and then."""

        def move(
            self, connection: sqlite3.Connection, action: Any, transition: Any, **more: Any
        ) -> Any:
            moved = super().move(connection, action, transition, **more)
            connection.execute(
                "UPDATE actions SET revision = 1 WHERE row = ? AND revision > 1", (action.row,)
            )
            return moved

    expect("P7", with_node(ledger_of=Swaps))


def test_a_store_that_tells_before_the_commit_is_found() -> None:
    class Hasty(InlineNodeStore):
        """Answers, and forgets to commit, now and then."""

        count = 0

        async def write(self, operation: Callable[[sqlite3.Connection], Any]) -> Any:
            Hasty.count += 1
            if Hasty.count % 23:
                return await super().write(operation)
            self._require_life()
            self._connection.execute("BEGIN")
            try:
                return operation(self._connection)
            finally:
                self._connection.execute("ROLLBACK")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.simulation.node.InlineNodeStore", Hasty)
        expect("P6")


def test_a_daemon_that_dies_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Applied:
        raise ZeroDivisionError

    monkeypatch.setattr("agent.node.sync.pull.apply_pull", fails)
    evidence: Evidence = simulate(0)
    assert "bug" in {violation.promise for violation in check(evidence)}


def expect_of_rules(text: str, parts: type[Parts] = Parts, first: int = 0) -> None:
    """The checker says so of a recurring action, within a few seeds that have some."""
    found: list[str] = []
    for seed in range(first, first + SEEDS_TRIED_MAX):
        evidence = simulate(seed, actions=2, rules=2, parts=parts)
        found = [str(violation) for violation in check(evidence)]
        if any(text in one for one in found):
            return
    pytest.fail(f"{text!r} was not found, only {found[:3] or 'nothing'}")


def test_two_occurrences_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that forgets that two occurrences of one recurring action never run at once."""
    monkeypatch.setattr(ledger, "_never_beside_its_kin", lambda *_: False)
    expect_of_rules("ran together", first=8)


def test_an_instant_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occurrences.Planner, "miss", lambda *_: None)
    expect_of_rules("is told 0 times")


def expect_of_people(text: str, parts: type[Parts] = Parts, first: int = 0) -> None:
    """The checker says so where people approve and freeze, within a few seeds."""
    found: list[str] = []
    for seed in range(first, first + SEEDS_TRIED_MAX):
        evidence = simulate(seed, actions=4, people=8, parts=parts)
        found = [str(violation) for violation in check(evidence)]
        if any(text in one for one in found):
            return
    pytest.fail(f"{text!r} was not found, only {found[:3] or 'nothing'}")


def test_a_core_that_delivers_what_waits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "waits", lambda _: False)
    expect_of_people("was sent to n1, and nobody had approved it")


def test_a_start_that_nobody_approved_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither side looks: the core forgets to ask, and the node to refuse."""

    def never(*_: Any, **__: Any) -> ApprovalDecision:
        return ApprovalDecision(needed=False, record=None, why="", risk=None)

    monkeypatch.setattr(judging, "decide_approval", never)
    monkeypatch.setattr(Kinds, "approval_faults", lambda *_: ())
    expect_of_people("was started, and nobody had approved it")


def test_an_approval_without_its_record_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(connection: Any, occasion: Any, row: Any, definition: Any) -> None:
        real(connection, occasion, row, replace(definition, approval=None))

    real = placing.release
    monkeypatch.setattr(deciding, "release", bare)
    expect_of_people("without the record of its approval")


def test_an_approval_of_what_was_rejected_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that leaves the question open, and takes a second answer to it."""

    def reopen(connection: Any, occasion: Any, row: Any, *given: Any) -> None:
        real(connection, occasion, row, *given)
        again = update(approvals).where(approvals.c.row == row.row).values(state="pending")
        connection.execute(again)

    real = deciding._close
    monkeypatch.setattr(deciding, "_close", reopen)
    monkeypatch.setattr(deciding, "_is_open", lambda *_: True)
    expect_of_people("was rejected and is approved")


def test_an_expiry_that_never_comes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "_expire_one", lambda *_: None)
    expect_of_people("never became quiet")


def test_an_engine_that_ignores_a_freeze_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "find_brake", lambda *_: None)
    expect_of_people("which is frozen")


def test_a_freeze_that_a_restart_forgets_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that holds freezes in memory alone."""

    def forgetful(connection: sqlite3.Connection, *given: Any) -> Any:
        connection.execute("UPDATE brakes SET expires_at = created_at WHERE freeze IS NOT NULL")
        return real(connection, *given)

    real = open_life
    monkeypatch.setattr("tests.simulation.node.open_life", forgetful)
    expect_of_people("which is frozen")


def test_a_node_that_tells_a_restored_core_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Report, "again", lambda *_: None)
    found: list[str] = []
    for seed in range(20, 20 + SEEDS_TRIED_MAX):
        restores = tuple(Fault(float(at), "core_restore", "", 2.0) for at in range(20, 90, 9))
        plan = draw_people(replace(draw_plan(seed, 4), faults=restores), 8)
        found = [str(violation) for violation in check(simulate_plan(plan))]
        if any("the core shows" in one for one in found):
            return
    pytest.fail(f"it was not found, only {found[:3] or 'nothing'}")
