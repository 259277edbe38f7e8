"""The story: what is asked of which node, what is done to the processes, and what must come of it.

Everything goes through the commands, as a person would type them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from place import Place, Trouble
from screen import Screen

NODES = ("north", "south", "east")
LOOK_EVERY_S = 0.4
STEP_S_MAX = 40.0
FINAL = {"FINISHED", "FAILED", "WONT_START", "WONT_FINISH"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must have become of one action."""

    id: str
    node: str
    title: str
    phase: str = "DONE"
    reason: str = "exit_zero"
    exit_code: int | None = 0
    verdict: str | None = None
    reaches_node: bool = True
    """What was not approved never leaves the core."""


EXPECTED = (
    Expected(id="at-once", node="south", title="at once, with progress"),
    Expected(id="delayed", node="east", title="four seconds later"),
    Expected(id="window-closes", node="south", title="a window that closes before it ends",
             phase="NOT_FINISHED", reason="window_closed", exit_code=None),
    Expected(id="long-exclusive", node="east", title="holds the node's exclusive place"),
    Expected(id="window-passes", node="east", title="waits behind it until its window has passed",
             phase="NOT_STARTED", reason="window_passed", exit_code=None),
    Expected(id="fails", node="south", title="a script that fails",
             phase="FAILED", reason="exit_nonzero", exit_code=3),
    Expected(id="cancelled", node="south", title="cancelled at the core while it runs",
             phase="CANCELLED", reason="withdrawn", exit_code=None),
    Expected(id="diagnostics", node="south", title="shipped kind: a report of the node"),
    Expected(id="healthcheck", node="east", title="shipped kind: is the core's port open?"),
    Expected(id="reminder", node="south", title="a rule delays it by three seconds"),
    Expected(id="approved", node="east", title="a rule wants a person's word, and gets it"),
    Expected(id="rejected", node="south", title="waited for a person, who said no",
             phase="REJECTED", reason="", exit_code=None, reaches_node=False),
    Expected(id="ends-while-away", node="north", title="agentd killed -9; ends before it is back",
             phase="FAILED", reason="exit_nonzero", exit_code=7, verdict="finished_while_away"),
    Expected(id="adopted", node="north", title="agentd killed -9; still runs when it is back",
             verdict="adopted"),
    Expected(id="sent-meanwhile", node="north", title="sent while agentd was dead"),
    Expected(id="core-away", node="east", title="due while the core is stopped"),
    Expected(id="made-on-node", node="east", title="agentctl run, while the core is stopped"),
)  # fmt: skip


class Story:
    """Plays it, watching."""

    def __init__(self, place: Place, screen: Screen) -> None:
        self._place = place
        self._screen = screen
        self._pool = ThreadPoolExecutor(len(NODES))
        self._seen: dict[str, dict[str, Any]] = {}
        self._looked_at = 0.0
        self.stamps = place.path / "stamps"
        self.experiment: dict[str, str] = {}
        self.refusal = ""

    def play(self) -> None:
        """All of it. Raises `Trouble` where it cannot go on."""
        self._set_up()
        self._send_most()
        self._decide()
        self._kill_an_agentd()
        self._stop_the_core()
        self._tell("Waiting for the rest to end, on the nodes and then at the core.")
        wanted = {one.id for one in EXPECTED if one.reaches_node}
        self._until(lambda: wanted <= self._ended(), "not every action has ended on its node")
        self._until(self._core_knows, "the core has not heard of everything")
        self._look(at_once=True)

    def _set_up(self) -> None:
        self._tell("Starting the core …")
        self._place.start_core()
        for name in NODES:
            token = self._place.corectl_text("enroll-token", "--node", name)
            self._place.start_node(name, token)
        self._tell(f"Core at {self._place.core_url}; starting the nodes {', '.join(NODES)} …")
        list(self._pool.map(self._place.wait_node, NODES))
        faults = self._place.agentctl(NODES[0], "kinds")["faults"]
        if faults:
            raise Trouble(
                f"the runner refuses the demo's kinds: {faults[0]}. Choose another place for them: "
                "TMPDIR=/a/directory/that/is/yours scripts/demo"
            )

    def _send_most(self) -> None:
        self._tell("Sending actions: at once, delayed, with windows, failing …")
        send, soon = self._send, self._soon
        send("at-once", "progress", {"steps": 12, "step_s": 0.5})
        send("window-closes", "sleep", {"seconds": 300}, "--until", soon(6))
        send("cancelled", "sleep", {"seconds": 300})
        send("long-exclusive", "sleep_exclusive", {"seconds": 6})
        send("window-passes", "sleep_exclusive", {"seconds": 1}, "--until", soon(4))
        send("fails", "fail", {"code": 3, "message": "the disk of the demo is on strike"})
        send("delayed", "sleep", {"seconds": 0.5}, "--in", "4s")
        send("diagnostics", "collect_diagnostics", {"sections": ["load", "memory", "disks"]})
        port = {"type": "port", "port": self._place.core_port, "label": "the core"}
        send("healthcheck", "rerun_healthcheck", {"checks": [port]})

    def _decide(self) -> None:
        """Rules, labels and approvals: what the core does before a node hears of anything."""
        self._send("reminder", "sleep", {"seconds": 0.2}, "--metadata", '{"purpose": "reminder"}')
        restart = ("--metadata", '{"purpose": "restart"}')
        self._send("approved", "sleep", {"seconds": 0.2}, *restart)
        self._send("rejected", "sleep", {"seconds": 0.2}, *restart)
        waiting = len(self._place.corectl("approvals")["approvals"])
        self._tell(f"A rule delays a reminder; {waiting} restarts wait for a person …")
        self._place.corectl("approve", "approved", "--reason", "the demo is patient")
        self._place.corectl("reject", "rejected", "--reason", "not today")
        experiment = ("--metadata", '{"purpose": "experiment"}', "--payload", '{"seconds": 0.2}')
        self.refusal = self._place.corectl_refused("dispatch", "paint_the_house", "--node", "east")
        self._tell(f"A kind that east does not have: {self.refusal}")
        found = self._place.corectl("dispatch", "sleep", "--selector", "role", *experiment)
        self.experiment = {one["node"]: one["outcome"] for one in found["actions"]}
        self._tell("An experiment for everybody with a role: " + ", ".join(
            f"{node} {outcome}" for node, outcome in sorted(self.experiment.items())
        ))  # fmt: skip

    def _kill_an_agentd(self) -> None:
        away = {"file": str(self.stamps), "seconds": 3, "code": 7}
        self._send("ends-while-away", "stamp", away)
        self._send("adopted", "stamp", {"file": str(self.stamps), "seconds": 10})
        self._until(
            lambda: {"ends-while-away", "adopted"} <= self._in_phase("RUNNING"), "north is idle"
        )
        pid = self._place.kill9("north")
        self._tell(f"kill -9 of agentd on north (pid {pid}); its scripts run on without it")
        self._send("sent-meanwhile", "sleep", {"seconds": 0.2})
        self._until(lambda: "cancelled" in self._in_phase("RUNNING"), "nothing to cancel")
        self._place.corectl("cancel", "cancelled", "--reason", "the demo wants it")
        self._tell("corectl cancel: south is to stop a running script")
        self._until(lambda: self._stamped("ends-while-away", "end"), "the script did not end")
        self._place.start_node("north")
        self._tell("north's agentd is started again, and asks its runner what happened")
        self._place.wait_node("north")

    def _stop_the_core(self) -> None:
        self._send("core-away", "sleep", {"seconds": 0.2}, "--in", "4s")
        self._until(
            lambda: "core-away" in self._in_phase("SCHEDULED"), "east has not got it in time"
        )
        self._place.stop("core")
        self._tell("The core is stopped. east knows what to do, and takes orders of its own:")
        payload = json.dumps({"seconds": 0.2})
        self._place.agentctl(
            "east", "run", "sleep", "--id", "made-on-node", "--payload", payload, "--wait"
        )
        self._until(lambda: "core-away" in self._in_phase("DONE"), "east did not run it alone")
        self._place.start_core()
        self._tell("The core is back, and hears what happened meanwhile")

    # -- looking ----------------------------------------------------------------------------

    def _tell(self, line: str) -> None:
        self._screen.tell(line)

    def _send(self, action_id: str, kind: str, payload: dict[str, Any], *options: str) -> None:
        node = next(one.node for one in EXPECTED if one.id == action_id)
        self._place.corectl(
            "dispatch", kind, "--node", node, "--id", action_id, "--payload", json.dumps(payload),
            *options,
        )  # fmt: skip
        self._look()

    def _soon(self, seconds: float) -> str:
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"

    def _until(self, true: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + STEP_S_MAX
        while not true():
            if time.monotonic() > until:
                raise Trouble(f"{otherwise} after {STEP_S_MAX:g} s")
            time.sleep(0.05)
            self._look()

    def _look(self, *, at_once: bool = False) -> None:
        """Ask every node for its list, not more often than a screen needs."""
        if not at_once and time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        for name, listed in zip(NODES, self._pool.map(self._listed, NODES), strict=True):
            for action in listed:
                self._seen[action["id"]] = action | {"node": name}
        order = [one.id for one in EXPECTED]
        known = sorted((i for i in self._seen if i in order), key=order.index)
        self._screen.update({action_id: self._seen[action_id] for action_id in known})
        self._looked_at = time.monotonic()

    def _listed(self, name: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self._place.agentctl(name, "list", "--all")["actions"]
        return [
            self._place.agentctl(name, "show", action["id"])
            if (action["kind"], action["phase"]) == ("progress", "RUNNING")
            else action
            for action in listed
        ]

    def _in_phase(self, phase: str) -> set[str]:
        return {action_id for action_id, one in self._seen.items() if one["phase"] == phase}

    def _ended(self) -> set[str]:
        return {i for i, one in self._seen.items() if one["execution_status"] in FINAL}

    def _stamped(self, action_id: str, word: str) -> bool:
        return any(line[0] == action_id and line[2] == word for line in self.stamp_lines())

    def stamp_lines(self) -> list[list[str]]:
        """What the scripts on north wrote themselves: id, attempt, start or end, time."""
        if not self.stamps.exists():
            return []
        return [line.split() for line in self.stamps.read_text().splitlines()]

    def _core_knows(self) -> bool:
        found = self._place.corectl("actions", "--limit", "1000")["actions"]
        ended = {one["id"] for one in found if one["execution_status"] in FINAL}
        return {one.id for one in EXPECTED if one.reaches_node} <= ended
