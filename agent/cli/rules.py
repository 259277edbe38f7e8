"""A recurring action as people read it: its schedule in words, its state, what comes and came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from agent.cli.times import age_s, clock_time, relative, span

AFTER_RESUME = "after resume"
_SPANS = {"duration_s": "window", "jitter_s": "jitter", "delay_s": "first after"}


def in_words(schedule: Any) -> str:
    """When it fires, short: one column of a table.

    >>> in_words({"cron": "0 3 * * *", "timezone": "Europe/Berlin"})
    'cron 0 3 * * * (Europe/Berlin)'
    """
    if not isinstance(schedule, Mapping):
        return str(schedule)
    told = next(
        (
            _led_by(word, str(schedule[word]))
            for word in ("cron", "every", "at", "date", "after")
            if schedule.get(word) is not None
        ),
        f"in {span(schedule['delay_s'])}" if schedule.get("delay_s") is not None else "-",
    )
    zone = schedule.get("timezone")
    return f"{told} ({zone})" if zone else told


def _led_by(word: str, value: str) -> str:
    """The word before its value, unless the value begins with it or says by itself when.

    >>> _led_by("every", "every 5 minutes"), _led_by("at", "monday at 10:15"), _led_by("at", "2:30")
    ('every 5 minutes', 'monday at 10:15', 'at 2:30')
    """
    says_itself = value.startswith(f"{word} ") or (word == "at" and not value[:1].isdigit())
    return value if says_itself else f"{word} {value}"


def terms(schedule: Any) -> Iterator[tuple[str, str]]:
    """The rest of the schedule, as (name, value)."""
    if not isinstance(schedule, Mapping):
        return
    for key, name in _SPANS.items():
        if schedule.get(key) is not None:
            yield name, span(schedule[key])
    catch_up = schedule.get("catch_up")
    if isinstance(catch_up, Mapping):
        mode = str(catch_up.get("mode", "latest"))
        parts = [mode]
        if mode != "skip" and catch_up.get("max_age_s") is not None:
            parts.append(f"missed within {span(catch_up['max_age_s'])}")
        if mode == "all" and catch_up.get("max_count") is not None:
            parts.append(f"{catch_up['max_count']} at most")
        catch_up = ", ".join(parts)
    for name, value in (
        ("overlap", schedule.get("overlap")),
        ("catch up", catch_up),
        ("counted from", _counted_from(schedule)),
        ("ends at", schedule.get("ends_at")),
        ("max runs", schedule.get("max_runs")),
    ):
        if value is not None:
            yield name, str(value)


def _counted_from(schedule: Mapping[str, Any]) -> Any:
    """Only where it is not what everybody expects."""
    found = schedule.get("count_from")
    return None if found == "start" else found


def state_of(rule: Mapping[str, Any]) -> str:
    """`active`, `paused (reason)`, `ended (reason)`."""
    why = {"paused": rule.get("paused"), "ended": rule.get("ended_reason")}.get(rule["state"])
    return f"{rule['state']} ({why})" if isinstance(why, str) and why else str(rule["state"])


def rule_told(rule: Mapping[str, Any], revision: Any, schedule: Any) -> str:
    """How a recurring action stands since one of its events, on a line.

    >>> rule_told({"state": "paused", "paused": "freeze"}, 2, {"every": "5m"})
    'paused (freeze), revision 2, every 5m'
    """
    told = [state_of({"state": "?", **rule}), f"revision {revision}"]
    if schedule:  # an event of the core's own rule does not repeat it
        told.append(in_words(schedule))
    if rule.get("next_at"):
        told.append(f"next {clock_time(rule['next_at'])}")
    if rule.get("run_count"):
        count = rule["run_count"]
        told.append(f"{count} run{'s'[: count != 1]}")
    return ", ".join(told)


def in_zone(instant: str | None, zone: str | None) -> str:
    """Local time with its zone, as the schedule's people think of it.

    >>> in_zone("2026-01-15T03:00:00Z", "Europe/Berlin")
    '2026-01-15 04:00:00 CET'
    """
    if instant is None:
        return "-"
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415

    from agent.domain.instants import parse_instant  # noqa: PLC0415

    moment = parse_instant(instant)
    try:
        local = moment.astimezone(ZoneInfo(zone) if zone else None)
    except (ZoneInfoNotFoundError, ValueError):  # a zone of the node that this machine lacks
        return clock_time(instant)
    return f"{local:%Y-%m-%d %H:%M:%S %Z}"


def kind_of(rule: Mapping[str, Any], kinds: Mapping[str, Any] | None) -> str:
    """Its kind, and whether this node can run it; `kinds` None: not known.

    >>> kind_of({"kind": "backup"}, {"other": {}})
    'backup (not installed)'
    """
    name = str(rule["kind"])
    if kinds is None or rule.get("state") == "ended":
        return name
    if name not in kinds:
        return f"{name} (not installed)"
    return f"{name} (faulty)" if kinds[name].get("faults") else name


def next_of(rule: Mapping[str, Any], now: datetime) -> str:
    """When it starts next, seen from now; of a paused one nothing does before it is resumed."""
    if rule.get("next_at") and rule.get("state") == "paused":
        return AFTER_RESUME
    return relative(rule.get("next_at"), now)


def describe(
    rule: Mapping[str, Any], now: datetime, kinds: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """The lines of `recurring show`, without the definition's own fields."""
    zone = rule.get("zone")
    yield f"{rule['id']}  {kind_of(rule, kinds)}  {state_of(rule)}"
    yield f"  schedule      {in_words(rule.get('schedule'))}"
    for name, value in terms(rule.get("schedule")):
        yield f"  {name:<13} {value}"
    if rule.get("offset_s"):
        yield f"  here          {span(rule['offset_s'])} later, by the jitter: always the same"
    if rule.get("next_at"):
        when = f"{in_zone(rule['next_at'], zone)}  ({relative(rule['next_at'], now)})"
        if rule.get("state") == "paused":
            is_past = age_s(rule["next_at"], now) > 0  # it was planned before the pause
            when = AFTER_RESUME if is_past else f"{AFTER_RESUME}; were it active: {when}"
        yield f"  next          {when}"
    last = rule.get("last_nominal_at")
    if last:
        yield f"  last          {in_zone(last, zone)}  ({relative(last, now)})"
    yield f"  runs          {rule.get('run_count', 0)}"
    if rule.get("ended_at"):
        yield f"  ended         {in_zone(rule['ended_at'], zone)}"
