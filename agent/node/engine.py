"""The engine: one loop, one timer set to the next due instant, one transaction per turn.

It owns what runs. Others change the database in transactions of their own and then `wake` it; it
never trusts memory for a decision that the database can answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from agent.domain.action import Action
from agent.domain.brake import Brake
from agent.domain.ending import ExitRecord, RunState
from agent.domain.manifest import Terms, agree_terms
from agent.domain.starting import Running, Slots
from agent.infra.clock import Alarm, NodeClock
from agent.node import log_events
from agent.node.catalogue import Kinds
from agent.node.changes import Changes
from agent.node.clock_watch import ClockWatch
from agent.node.gaps import Gaps
from agent.node.ledger import Ledger
from agent.node.metrics import Metrics
from agent.node.ports import (
    RunKey,
    Runner,
    RunnerAway,
    RunnerRefused,
    RunStatus,
    StartRequest,
    Store,
)
from agent.node.store.damage import StoreUnavailable
from agent.node.store.meta import Meta, pause_view, read_meta
from agent.node.turn import Ended, TurnInput, TurnResult, run_turn
from agent.node.waits import Waits

STORE_RETRY_S = 2.0
CLAIM_AGAIN_S = 5.0  # a runner that is being stopped answers so until it has gone
STOP_AGAIN_S = 15.0  # beyond the grace: a stop that did not come through is asked again


def run_key(action: Action) -> RunKey:
    """The name of the action's latest run at the runner."""
    return RunKey(action.row, action.start_no, action.definition.id)


class Engine:
    """Starts what is due and settles what ended."""

    def __init__(
        self,
        *,
        store: Store,
        ledger: Ledger,
        runner: Runner,
        kinds: Kinds,
        clock: NodeClock,
        alarm: Callable[[Callable[[], None]], Alarm],
        jitter: Callable[[], float],
        parallel_max: int,
        log: Any,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._runner = runner
        self._kinds = kinds
        self._clock = clock
        self._make_alarm = alarm
        self._jitter = jitter
        self._parallel_max = parallel_max
        self._log = log
        self._endings: list[Ended] = []
        self._waits = Waits()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unanswered: dict[RunKey, asyncio.Event] = {}
        """Starts that were asked for, of which nobody knows yet whether they happen."""
        self.running: dict[int, Action] = {}
        self.runner_ready = False
        self.evidence_read = False
        """Whether the runner has been heard in this life; before that nothing waiting is ended."""
        self.paused = False
        self.pause: Mapping[str, Any] = {}
        """Since when, by whom and why, for whoever shows it; the turn asks the database."""
        self.store_problem: str | None = None
        self.changes = Changes()
        self.metrics = Metrics()
        self.clock_watch = ClockWatch(clock, self.wake, log)
        self.gaps = Gaps()
        self.brakes: Sequence[Brake] = ()
        self.looked = asyncio.Event()
        """Set by the first turn: before it, nobody knows which brakes hold."""

    def wake(self) -> None:
        """Something changed that may let an action start or end; cheap, idempotent."""
        self._wake.set()

    def run_exited(self, key: RunKey, record: ExitRecord) -> None:
        """The runner tells that a run ended."""
        self.settle(Ended(key=key, state=RunState.EXITED, record=record))

    def settle(self, ended: Ended) -> None:
        """Take note that a run is over; the next turn commits it."""
        self._answered(ended.key)
        self._endings.append(ended)
        self.wake()

    def pause_changed(self, meta: Meta) -> None:
        """The node was paused or resumed, and that is committed."""
        if self.paused and not meta.paused:
            self.gaps.resumed(self.pause, self.clock_watch.now())
        self.paused = bool(meta.paused)
        self.pause = pause_view(meta)

    async def run(self) -> None:
        """Turn for ever. Ends only by cancellation; a failing disk is waited for, not fatal."""
        meta = await self._store.read(read_meta)
        self.pause_changed(meta)
        self._waits.began = self._clock.now()
        self.clock_watch.begin(meta.clock_mark)
        self.gaps.begins(meta.clock_mark, self.clock_watch.now())
        alarm = self._make_alarm(self.wake)
        try:
            while True:
                self._wake.clear()
                next_at = await self._turn_or_wait()
                alarm.set(next_at)
                await self._wake.wait()
        finally:
            alarm.close()
            for task in list(self._tasks):
                task.cancel()

    async def _turn_or_wait(self) -> datetime | None:
        endings, self._endings = self._endings, []
        if self.clock_watch.look():
            self._move_windows()
            self.changes.notify()
        given = self._input(endings)
        self.gaps.turned(given.slots, given.now, self.clock_watch.why_in_doubt())
        try:
            result = await self._store.write(lambda c: run_turn(c, self._ledger, given))
        except StoreUnavailable as error:
            self._endings = endings + self._endings
            self._store_failed(str(error))
            return None
        self._store_works()
        self.clock_watch.acted(changed=result.changed)
        self._act(result)
        return result.next_at

    def _input(self, endings: list[Ended]) -> TurnInput:
        ended_rows = {ended.key.row for ended in endings}
        running = [action for row, action in self.running.items() if row not in ended_rows]
        taken = [Running(lane=action.lane, app_names=action.locks) for action in running]
        slots = Slots.beside(
            taken, self._parallel_max, paused=self.paused, runner_away=not self.runner_ready,
            clock_doubtful=self.clock_watch.doubt is not None, brakes=self.brakes,
        )  # fmt: skip
        return TurnInput(
            now=self.clock_watch.now(),
            evidence_read=self.evidence_read,
            endings=endings,
            slots=slots,
            running=running,
            waits=self._waits,
            manifest_of=self._kinds.manifest,
            terms_of=self.terms,
            jitter=self._jitter(),
            mark=self.clock_watch.mark_to_keep(),
            mark_owed=self.clock_watch.is_mark_owed,
            stepped_s=self.clock_watch.stepped_s,
            corrected_s=self.clock_watch.corrected_s,
            moment=self.clock_watch.moment(),
            gaps=self.gaps.during,
        )

    def core_says(self, date: datetime) -> None:
        """The core's date, which may settle a doubt about ours."""
        if self.clock_watch.core_says(date):
            self.wake()

    def believed_now(self) -> datetime | None:
        """The wall clock, or None while it is in doubt (or nobody has looked yet)."""
        return self._clock.now() if self.clock_watch.is_believed else None

    def slots(self) -> Slots:
        """The places as they are in this moment, for whoever explains a wait."""
        return self._input([]).slots

    def _act(self, result: TurnResult) -> None:
        """After the commit: tell the runner and whoever listens."""
        self.metrics.turned(result.late_s, result.ended)
        for key in result.settled:
            ended = self.running.get(key.row)
            if ended is not None and ended.start_no == key.start_no:
                del self.running[key.row]
        for action_id, why in result.refused:
            self._log.error(log_events.TRANSITION_REFUSED, action_id=action_id, error=why)
        for action_id, why in result.parked:
            self._log.error(log_events.ACTION_PARKED, action_id=action_id, why=why)
        for action in result.ended:
            self._log.info(
                log_events.ACTION_ENDED,
                action_id=action.definition.id, status=action.execution_status.value,
                reason=action.reason, exit_code=action.exit_code, verdict=action.verdict,
            )  # fmt: skip
        for action in result.started:
            self.running[action.row] = action
            self._unanswered[run_key(action)] = asyncio.Event()
            self._spawn(self._start(action))
        for action in result.stops:
            self.stop(action)
        braked_otherwise = self.brakes != result.restraints.brakes
        self.brakes = result.restraints.brakes
        self.looked.set()
        for brake in result.restraints.gone:
            self._log.info(log_events.BRAKE_GONE, brake=brake.id, what=brake.what)
        if result.settled:
            self._spawn(self._collected(result.settled))
        if result.again:
            self.wake()
        if result.changed or braked_otherwise:
            self.changes.notify()

    async def _start(self, action: Action) -> None:
        """Ask for a start that is already committed; its answer may be that it is over."""
        key = run_key(action)
        status: RunStatus | None
        try:
            status = await self._runner.start(self._request(action))
        except RunnerAway:
            status = await self._claim(action)
        except RunnerRefused as error:
            refusal = ExitRecord(
                started_at=None, ended_at=self._clock.now(), spawn_error=f"refused: {error}"
            )
            self.settle(Ended(key=key, state=RunState.EXITED, record=refusal))
            return
        if status is None:
            return
        self._answered(key)
        self._log.info(
            log_events.ACTION_STARTED,
            action_id=key.id, kind=action.definition.kind, attempt=action.attempt,
            pid=status.pid, state=status.state.value,
        )  # fmt: skip
        if status.state is not RunState.RUNNING:
            self.settle(Ended(key=key, state=status.state, record=status.record))
            return
        current = self.running.get(action.row)
        if current is not None and current.stop_cause is not None:
            self.stop(current)

    async def _claim(self, action: Action) -> RunStatus | None:
        """What became of a start that the runner, still connected, could not answer.

        None where the connection is gone: then all that is STARTED is claimed when it is back.
        """
        while self.runner_ready and self._still_runs(action):
            await asyncio.sleep(CLAIM_AGAIN_S)
            with suppress(RunnerAway, RunnerRefused):
                return await self._runner.claim(run_key(action))
        return None

    def _request(self, action: Action) -> StartRequest:
        definition, terms = action.definition, self.terms(action)
        return StartRequest(
            key=run_key(action), attempt=action.attempt, kind=definition.kind,
            payload=definition.payload, metadata=definition.metadata,
            app_names=definition.app_names, from_date=definition.from_date,
            to_date=definition.to_date, correlation_id=definition.correlation_id,
            rollback_reference=definition.rollback_reference, dry_run=definition.dry_run,
            timeout_s=terms.timeout_s, grace_s=terms.grace_s, stop_at=definition.to_date,
        )  # fmt: skip

    def _answered(self, key: RunKey) -> None:
        known = self._unanswered.pop(key, None)
        if known is not None:
            known.set()

    async def until_answered(self, actions: list[Action]) -> None:
        """Wait until the runner has said of each of these whether it started.

        What is told about them to others before that could be overtaken by the start: a withdrawal
        is acknowledged only when no start can follow any more (P8).
        """
        for action in actions:
            unanswered = self._unanswered.get(run_key(action))
            if unanswered is not None:
                await unanswered.wait()

    async def _collected(self, keys: list[RunKey]) -> None:
        try:
            await self._runner.collected(keys)
        except (RunnerAway, RunnerRefused):
            return  # the records stay; claiming them again changes nothing

    def stop(self, action: Action) -> None:
        """Stop a started action whose cause is committed; asked again until it has ended."""
        if action.row in self.running:
            self.running[action.row] = action
        self._spawn(self._stop(action))

    async def _stop(self, action: Action) -> None:
        grace_s = self.terms(action).grace_s
        while self._still_runs(action):
            self._log.info(
                log_events.STOP_ASKED, action_id=action.definition.id, cause=action.stop_cause
            )
            try:
                cause = action.stop_cause or "withdrawn"
                await self._runner.stop(run_key(action), cause, grace_s)
            except (RunnerAway, RunnerRefused) as error:
                self._log.warning(
                    log_events.STOP_FAILED, action_id=action.definition.id, error=str(error)
                )
                if not self.runner_ready:
                    return  # when the runner is back, `adopt` asks again
            await asyncio.sleep(grace_s + STOP_AGAIN_S)

    def _still_runs(self, action: Action) -> bool:
        current = self.running.get(action.row)
        return current is not None and current.start_no == action.start_no

    def adopt(self, action: Action) -> None:
        """A run found alive is ours again, with whatever was decided about it meanwhile."""
        self._answered(run_key(action))
        self.running[action.row] = action
        if action.stop_cause is not None or not action.definition.should_be_executed:
            self.stop(action)
        elif (
            action.started_revision != action.definition.revision
            # A doubtful clock may have had it lifted, in this life of agentd or in the one before.
            or action.definition.to_date is not None
        ):
            self._spawn(self._move_deadline(action))

    def redefined(self, action: Action) -> None:
        """The definition of a started action changed: its window or a withdrawal may act."""
        if action.row not in self.running:
            return
        self.running[action.row] = action
        if action.stop_cause is not None:
            self.stop(action)
        else:
            self._spawn(self._move_deadline(action))

    def _move_windows(self) -> None:
        """No script is stopped by a clock that is in doubt, and each in time once it is not."""
        for action in self.running.values():
            if action.definition.to_date is not None:
                self._spawn(self._move_deadline(action))

    async def _move_deadline(self, action: Action) -> None:
        doubtful = self.clock_watch.doubt is not None
        stop_at = None if doubtful else action.definition.to_date
        try:
            await self._runner.set_deadline(run_key(action), stop_at)
        except (RunnerAway, RunnerRefused) as error:
            # Adopting the run tells it again; until then the old window holds.
            self._log.warning(
                log_events.STOP_FAILED, action_id=action.definition.id, error=str(error)
            )

    def terms(self, action: Action) -> Terms:
        """What holds for the action, by definition and manifest."""
        return agree_terms(action.definition, self._kinds.manifest(action.definition.kind))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error(log_events.TASK_DIED, error=repr(task.exception()))

    def _store_failed(self, problem: str) -> None:
        self.metrics.store_failed()
        if self.store_problem is None:
            self._log.error(log_events.STORE_FAILED, error=problem)
        self.store_problem = problem
        asyncio.get_running_loop().call_later(STORE_RETRY_S, self.wake)

    def _store_works(self) -> None:
        if self.store_problem is not None:
            self._log.info(log_events.STORE_RECOVERED)
            self.store_problem = None
