"""A recurring action as people read it: its schedule in words, its state, what comes and came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from agent.cli.times import clock_time, relative, span

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


def describe(rule: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """The lines of `recurring show`, without the definition's own fields."""
    zone = rule.get("zone")
    yield f"{rule['id']}  {rule['kind']}  {state_of(rule)}"
    yield f"  schedule      {in_words(rule.get('schedule'))}"
    for name, value in terms(rule.get("schedule")):
        yield f"  {name:<13} {value}"
    for name, at in (("next", rule.get("next_at")), ("last", rule.get("last_nominal_at"))):
        if at:
            yield f"  {name:<13} {in_zone(at, zone)}  ({relative(at, now)})"
    yield f"  runs          {rule.get('run_count', 0)}"
    if rule.get("ended_at"):
        yield f"  ended         {in_zone(rule['ended_at'], zone)}"
