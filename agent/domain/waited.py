"""What an action that started late, or never, had waited for: its evidence as a clause. Pure.

One teller per wait that can end; a test fails if one is missing. What it waits for in this moment
is in `agent.domain.why_waiting`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.domain.instants import parse_instant
from agent.domain.spans import instant_text

WAITED_FOR = "waited_for"
"""The member of a transition's evidence that names the wait; what goes with it stands beside it."""
DAEMON_DOWN = "daemon_down"
Evidence = Mapping[str, Any]


def tell_waited(evidence: Evidence) -> str | None:
    """`the exclusive place was taken by A until …`; None where nothing is known of a wait."""
    word = evidence.get(WAITED_FOR)
    if word is None:
        return None
    teller = TELLERS.get(word)
    return f"it waited ({word})" if teller is None else f"{teller(evidence)}{_until(evidence)}"


def _exclusive(evidence: Evidence) -> str:
    return f"its place, the exclusive one, was taken by {_holder(evidence)}"


def _parallel(evidence: Evidence) -> str:
    return f"all parallel places were taken, the last of them by {_holder(evidence)}"


def _holds(evidence: Evidence) -> str:
    return f"as many holds ran as may at once, among them {_holder(evidence)}"


def _app(evidence: Evidence) -> str:
    lock = str(evidence.get("lock", ""))
    if lock.startswith("@"):
        return f"an occurrence of {lock[1:]} ran, {_holder(evidence)}"
    return f"the application {lock} was in use by {_holder(evidence)}"


def _paused(evidence: Evidence) -> str:
    return f"this node was paused{_by(evidence)}{_why(evidence)}"


def _braked(evidence: Evidence) -> str:
    brake, what = evidence.get("brake", "a brake"), evidence.get("what", "it")
    return f"brake {brake}{_by(evidence)} held {what}{_why(evidence)}"


def _holder(evidence: Evidence) -> str:
    return str(evidence.get("holder") or "another one")


def _by(evidence: Evidence) -> str:
    return f" by {evidence['by']}" if evidence.get("by") else ""


def _why(evidence: Evidence) -> str:
    return f" ({evidence['why']})" if evidence.get("why") else ""


def _until(evidence: Evidence) -> str:
    until = evidence.get("until")
    return f" until {instant_text(parse_instant(until))}" if until else ""


TELLERS: Mapping[str, Callable[[Evidence], str]] = {
    "exclusive_busy": _exclusive,
    "parallel_full": _parallel,
    "holds_full": _holds,
    "app_busy": _app,
    "paused": _paused,
    "braked": _braked,
    "runner_away": lambda _: "the runner could not be reached",
    "clock_doubtful": lambda _: "the wall clock was doubtful",
    DAEMON_DOWN: lambda _: "agentd was not running",
}
