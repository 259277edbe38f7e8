"""A node of the simulation: the real `agentd`, wired as `daemon.py` and `connection.py` do it.

The machine (database, credential, runner, wire) outlives the daemon; each life of that is a fresh
set of the real objects, with another generation, another instance and the same ports.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from agent.domain.ids import new_mark
from agent.node.catalogue import Kinds
from agent.node.commands import Commands, QueueLimits
from agent.node.credential import Credential
from agent.node.daemon import open_life
from agent.node.engine import Engine
from agent.node.hands import Hands
from agent.node.ledger import Ledger
from agent.node.recurring_commands import RecurringCommands
from agent.node.store import brakes, events
from agent.node.store.damage import StoreUnavailable
from agent.node.sync.pull import Pull
from agent.node.sync.push import Push
from agent.node.sync.report import Report
from agent.node.sync.session import Session
from agent.node.sync.state import SyncState
from agent.version import VERSION
from tests.fakes.fake_runner import FakeRunner
from tests.fakes.fake_runner_port import FakeRunnerPort
from tests.fakes.faulty_network import Link, NetworkCore
from tests.fakes.inline_node_store import InlineNodeStore, open_database
from tests.fakes.sim_core import SimCore
from tests.fakes.virtual_clock import VirtualClock
from tests.fakes.virtual_loop import Life
from tests.simulation.catalogue import CATALOGUE, PARALLEL_MAX
from tests.simulation.observations import Observations, TraceLog

FALLBACK_PULL_S = 60.0
POLL_AGAIN_S = 600.0
BOOT_AGAIN_S = 2.0  # systemd's RestartSec, when a start failed or the daemon gave up


class FakeCredentials:
    """`CredentialFile` in memory."""

    def __init__(self) -> None:
        self._kept: Credential | None = None
        self._nonce: str | None = None

    def read(self) -> Credential | None:
        """The credential, or None before enrolment."""
        return self._kept

    def write(self, credential: Credential) -> None:
        """Replace it."""
        self._kept, self._nonce = credential, None

    def put_aside(self) -> None:
        """Out of use."""
        self._kept = None

    def nonce(self, make: Callable[[], str]) -> str:
        """The same one for every try of one enrolment."""
        self._nonce = self._nonce or make()
        return self._nonce


class SimNode:
    """The machine. `ledger_of` and `engine_of` let a test put a broken part in."""

    ledger_of: type[Ledger] = Ledger
    engine_of: type[Engine] = Engine
    runner_of: type[FakeRunner] = FakeRunner

    def __init__(
        self, name: str, token: str, core: SimCore, link: Link, observations: Observations,
        rng: random.Random, pauses: tuple[Callable[[], float], Callable[[], float]],
        clock: VirtualClock,
    ) -> None:  # fmt: skip
        self.name = name
        self.token = token
        self.core = core
        self.link = link
        self.clock = clock
        self.rng = rng
        self.store_pause_s, self.runner_pause_s = pauses
        self._observations = observations
        self.connection = open_database()
        self.credentials = FakeCredentials()
        self.runner = self.runner_of(clock=clock, catalogue=CATALOGUE, watch=self.watch)
        self.disk_full = False
        self.labels: Mapping[str, str] = {}
        self.daemon: Agentd | None = None
        self._births = 0

    def watch(self, what: str, /, **values: Any) -> None:
        """Note something about this node."""
        self._observations.note(what, self.name, **values)

    def late_s(self) -> float | None:
        """Whether and when a request of a broken connection reaches the runner."""
        return self.rng.choice((None, 0.0, self.rng.uniform(0.0, 8.0)))

    def boot(self) -> None:
        """Start `agentd`, unless it runs."""
        if self.daemon is None:
            self._births += 1
            self.daemon = Agentd(self, self._births)
            self.watch("booted", birth=self._births)

    def crash(self) -> None:
        """kill -9 of `agentd`; its runner and its scripts know nothing of it."""
        daemon, self.daemon = self.daemon, None
        if daemon is not None:
            daemon.life.kill()
            daemon.port.break_connection()

    def crash_runner(self) -> None:
        """kill -9 of the runner."""
        self.runner.crash()
        if self.daemon is not None:
            self.daemon.port.break_connection()

    def fill_disk(self, full: bool) -> None:
        """No commit succeeds while it is full."""
        self.disk_full = full
        if self.daemon is not None:
            self.daemon.store.disk_full = full

    def tell_held(self) -> None:
        """Note which freezes are held, as of the newest event."""
        held = [brake for brake in brakes.active(self.connection, None) if brake.freeze is not None]
        freezes = [(brake.freeze, brake.kind, brake.expires_at) for brake in held]
        self.watch("held", freezes=freezes, seq=events.next_seq(self.connection) - 1)

    async def lift_by_hand(self) -> None:
        """Whoever owns the node lifts what the core holds back here."""
        daemon = self.daemon
        held = [brake for brake in brakes.active(self.connection, None) if brake.freeze is not None]
        if daemon is None or daemon.commands is None or not held:
            return
        self.watch("lifted_by_hand", freezes=[("thaw", brake.freeze) for brake in held])
        for brake in held:
            await daemon.store.write(lambda c, number=brake.id: brakes.lift(c, number))  # type: ignore[misc]
        daemon.engine.wake()

    def died(self, error: BaseException) -> None:
        """A loop of the daemon ended by an error: it goes down, and is started again."""
        self.watch("daemon_died", error=repr(error))
        self.crash()
        asyncio.get_running_loop().call_later(BOOT_AGAIN_S, self.boot)


class Agentd:
    """One life of `agentd`."""

    def __init__(self, node: SimNode, birth: int) -> None:
        self.node = node
        self.life = Life(f"{node.name}-{birth}")
        self.random_bits = random.Random(f"{node.rng.random()}").getrandbits
        self.jitter = random.Random(f"{node.rng.random()}").random
        self.log = TraceLog(node.watch)
        self.store = InlineNodeStore(node.connection, node.store_pause_s, self.life)
        self.store.disk_full = node.disk_full
        self.port = FakeRunnerPort(node.runner, node.runner_pause_s, node.late_s, self.life)
        self.kinds = Kinds()
        self.ledger = node.ledger_of(self.random_bits)
        self.state = SyncState(url="sim")
        self.commands: Commands | None = None
        self._spawn(self._live())

    async def _live(self) -> None:
        try:
            meta = await self.store.write(lambda c: open_life(c, self.node.name, self.random_bits))
        except StoreUnavailable:
            await asyncio.sleep(BOOT_AGAIN_S)
            self.node.crash()  # a start that fails; the service manager tries again
            self.node.boot()
            return
        self._build(meta.generation)
        if self.node.labels:
            self.node.tell_held()
        self._spawn(self.engine.run())
        self._spawn(self.hands.run())
        self._spawn(self._sync())

    def _build(self, generation: int) -> None:
        clock, store = self.node.clock, self.store
        self.engine = self.node.engine_of(
            store=store, ledger=self.ledger, runner=self.port, kinds=self.kinds, clock=clock,
            alarm=clock.alarm, jitter=self.jitter, parallel_max=PARALLEL_MAX, log=self.log,
        )  # fmt: skip
        self.hands = Hands(
            runner=self.port, engine=self.engine, store=store, kinds=self.kinds,
            ledger=self.ledger, clock=clock, generation=generation, log=self.log,
        )  # fmt: skip
        self.commands = Commands(
            store=store, ledger=self.ledger, engine=self.engine, hands=self.hands,
            kinds=self.kinds, clock=clock, random_bits=self.random_bits, limits=QueueLimits(),
        )  # fmt: skip
        self.recurring = RecurringCommands(
            store=store, ledger=self.ledger, engine=self.engine, kinds=self.kinds,
            commands=self.commands,
        )  # fmt: skip

    async def _sync(self) -> None:
        node, instance = self.node, new_mark(self.random_bits)
        core = NetworkCore(node.core, node.link, self.life, instance)
        common: dict[str, Any] = {"core": core, "clock": node.clock, "jitter": self.jitter}
        pull = Pull(
            **common, store=self.store, ledger=self.ledger, engine=self.engine,
            hands=self.hands, kinds=self.kinds, state=self.state, log=self.log,
        )  # fmt: skip
        push = Push(
            **common, store=self.store, random_bits=self.random_bits, state=self.state,
            log=self.log,
        )  # fmt: skip
        report = Report(
            **common, runner=self.port, engine=self.engine, kinds=self.kinds, version=VERSION,
            host=node.name, labels=node.labels,
        )  # fmt: skip
        self.engine.changes.listen(push.wake)
        self.engine.changes.listen(report.wake)
        self.hands.on_kinds = report.wake
        push.on_doubt = report.again
        pull.on_restrained = self._restrained
        pull.on_polling = lambda _: self._spawn(self._fall_back(pull))
        session = Session(
            core=core, identify=core.identify, store=self.store,
            credentials=node.credentials,  # type: ignore[arg-type]
            engine=self.engine, hands=self.hands, pull=pull, push=push, report=report,
            state=self.state, jitter=self.jitter, random_bits=self.random_bits, log=self.log,
        )  # fmt: skip
        await session.run(node.token, node.name)

    async def _restrained(self) -> None:
        self.node.tell_held()

    async def _fall_back(self, pull: Pull) -> None:
        """The duties while polls are cut: a pull each minute, and a long poll now and then."""
        for _ in range(int(POLL_AGAIN_S / FALLBACK_PULL_S)):
            await asyncio.sleep(FALLBACK_PULL_S)
            pull.nudge()
        self.state.polling = False
        pull.nudge()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.life.spawn(work).add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.life.dead or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.node.died(error)
