"""The node in a few lines, from `GET /v1/status`: what `status` prints and a board begins with.

Pure. What is as it should be takes one quiet line; what is not is said in capitals, so that no
colour is needed to see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from agent.cli.lines import BAD, DIM, PLAIN, TITLE, WARN, Line
from agent.cli.times import age_s, relative, span

BRAKES_SHOWN_MAX = 4
NAME_WIDTH = 9
MARGIN = 2 + NAME_WIDTH
_MARGIN = " " * MARGIN
_DRAINED = "drained: nothing runs, and nothing"


def facts(
    status: Mapping[str, Any], now: datetime, since: datetime | None = None
) -> Iterator[Line]:
    """Everything but the actions themselves. `since` is when agentd was seen to go away."""
    yield headline(status, now, since)
    if status.get("labels"):
        yield _named("labels", ", ".join(f"{k}={v}" for k, v in status["labels"].items()))
    yield from _counts(status, now)
    yield from _core(status["core"], now)
    yield _named("runner", _runner(status["runner"]), _bad_unless(status["runner"]["connected"]))
    yield from _warnings(status, now)


def headline(status: Mapping[str, Any], now: datetime, since: datetime | None = None) -> Line:
    """Who this is, and whether its agentd runs."""
    name = status["agent_id"] or "(no name yet)"
    if status["daemon"] == "down":
        when = ""
        if since is not None:
            gone_s = max(0.0, (now - since).total_seconds())
            when = f" since {since.astimezone():%H:%M:%S} ({span(gone_s)})"
        return Line(f"{name}: agentd is DOWN{when}; this is what its database says", BAD)
    up = span(status["uptime_s"])
    running = f"{name}: agentd {status['version']} is running, pid {status['pid']}, up {up}"
    return Line(running, TITLE)


def _counts(status: Mapping[str, Any], now: datetime) -> Iterator[Line]:
    counts = status["counts"]
    waiting = counts["NULL"] - status["queued"]
    parked = status.get("parked")
    told = f"{counts['STARTED']} running, {status['queued']} queued, {waiting} scheduled"
    yield _named("actions", told + _next_due(status["next_due_at"], now))
    yield _named(
        "ended",
        f"{counts['FINISHED']} finished, {counts['FAILED']} failed, "
        f"{counts['WONT_FINISH']} not finished, {counts['WONT_START']} not started",
    )
    yield from _rules(status.get("recurring") or {})
    if parked:
        told = f"{parked} actions are put aside and do not start; agentctl doctor says why"
        yield _named("PARKED", told, WARN)


def _next_due(instant: str | None, now: datetime) -> str:
    """Of what is due already it is the one that waits longest."""
    if not instant:
        return ""
    late_s = age_s(instant, now)
    if late_s > 0:
        return f"; oldest waits {span(late_s)}"
    return f"; next due {relative(instant, now)}"


def _rules(recurring: Mapping[str, int]) -> Iterator[Line]:
    """How many recurring actions there are, where there are any."""
    told = ", ".join(
        f"{recurring[word]} {word}" for word in ("active", "paused", "ended") if recurring.get(word)
    )
    if told:
        yield _named("recurs", told)


def _core(core: Mapping[str, Any], now: datetime) -> Iterator[Line]:
    well = core["connected"] or (core["url"] is None and not core["enrolled"])
    told = _core_told(core, now)
    if core["url"]:
        yield _named("core", core["url"])
        yield Line(_MARGIN + told, _bad_unless(well and not core["fenced"]))
    else:
        yield _named("core", told, _bad_unless(well and not core["fenced"]))


def _core_told(core: Mapping[str, Any], now: datetime) -> str:
    outbox = f"{core['outbox']} events to report" if core["outbox"] else "everything reported"
    if core["fenced"]:
        return f"FENCED: {core['problem']}"
    if core["connected"]:
        pulled = (
            f", last pull {relative(core['last_pull_at'], now)}" if core["last_pull_at"] else ""
        )
        polling = ", by polling" if core["polling"] else ""
        return f"connected{polling}{pulled}; {outbox}"
    if core["url"] is None and not core["enrolled"]:
        return "none; this node works alone"
    return f"not connected: {core['problem'] or 'not yet'}; {outbox}"


def _runner(runner: Mapping[str, Any]) -> str:
    if runner["connected"]:
        return f"{runner['version']} is running, pid {runner['pid']}"
    if runner["pid"]:
        return f"is running, pid {runner['pid']}; {runner['problem']}"
    return f"not connected: {runner['problem']}"


def _warnings(status: Mapping[str, Any], now: datetime) -> Iterator[Line]:
    clock = status.get("clock") or {}
    if clock.get("state") == "doubtful":
        told = f"doubtful: {clock['why']}; nothing starts or ends by it"
        yield _named("CLOCK", f"{told} until {relative(clock['until'], now)} at most", WARN)
    if status["paused"]:
        yield _named("PAUSED", _pause(status, now), WARN)
    yield from _brakes(status.get("brakes") or [], status.get("braked") or 0, now)
    if status["refused_definitions"]:
        told = f"{status['refused_definitions']} definitions of the core; see the log"
        yield _named("REFUSED", told, WARN)
    restored = status.get("restored")
    if restored:
        told = f"{relative(restored['at'], now)}: {restored['why']}"
        doubtful = f"{restored.get('doubtful') or 0} doubtful"
        if restored.get("pending"):
            doubtful = "the runner's records are being read, and nothing starts"
        if str(restored.get("restraints")).startswith("lost"):
            doubtful += ", pauses and brakes set since the copy are LOST"
        yield _named("RESTORED", f"{told}; {doubtful}, see agentctl doctor", WARN)
    yield from _backup(status.get("backup"), now)
    if status["store_problem"]:
        yield _named("PROBLEM", f"the database cannot be written: {status['store_problem']}", BAD)


def _pause(status: Mapping[str, Any], now: datetime) -> str:
    reason, by, at = (status.get(key) for key in ("pause_reason", "paused_by", "paused_at"))
    told = f"{reason}; " if reason else ""
    if by and at:
        told += f"by {by} {relative(at, now)}; "
    what = "nothing"
    if status.get("draining"):
        left = status["counts"]["STARTED"]
        what = f"draining: {left} still run, and nothing" if left else _DRAINED
    return f"{told}{what} starts until `agentctl resume`"


def _brakes(brakes: list[Mapping[str, Any]], waiting: int, now: datetime) -> Iterator[Line]:
    for brake in brakes[:BRAKES_SHOWN_MAX]:
        yield _named("BRAKE", brake_told(brake, now), WARN)
    if waiting:
        yield Line(f"{_MARGIN}{waiting} due wait for a brake", WARN)
    if len(brakes) > BRAKES_SHOWN_MAX:
        yield Line(f"{_MARGIN}… and {len(brakes) - BRAKES_SHOWN_MAX} more: agentctl brake", WARN)


def brake_told(brake: Mapping[str, Any], now: datetime) -> str:
    """One brake: what it holds, how long still, why."""
    left = "until it is released"
    if brake.get("expires_at"):
        left = f"for {span(max(0.0, -age_s(brake['expires_at'], now)))} more"
    by = f" (by {brake['by']})" if brake.get("by") else ""
    return f"{brake['id']} holds {held(brake)} {left}: {brake.get('reason') or 'no reason'}{by}"


def held(brake: Mapping[str, Any]) -> str:
    """What a brake is on."""
    told = [f"kind {brake['kind']}"] if brake.get("kind") else []
    told += [f"{key}={value}" for key, value in (brake.get("labels") or {}).items()]
    return ", ".join(told) or "everything"


def _backup(backup: Any, now: datetime) -> Iterator[Line]:
    if not isinstance(backup, Mapping):
        return
    if backup.get("problem"):
        yield _named("BACKUP", str(backup["problem"]), BAD)
    elif backup.get("last_verified_at"):
        yield _named("backup", f"verified {relative(backup['last_verified_at'], now)}", DIM)


def _named(name: str, value: str, style: str = PLAIN) -> Line:
    return Line(f"  {name:<{NAME_WIDTH}}{value}", style)


def _bad_unless(well: Any) -> str:
    return PLAIN if well else WARN
