"""A definition from a command line: the options that `run` and `recurring` share, read.

All faults of a line are told together. What a schedule means is the daemon's to judge: words go to
it as they were typed, so that it can name every fault of them at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from agent.cli.times import read_when
from agent.cli.values import json_value
from agent.domain.instants import format_instant, parse_instant, parse_span_s

OVERLAPS = ("skip", "queue", "cancel_running", "allow")
CATCH_UPS = ("skip", "latest", "all")
T = TypeVar("T")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_WHAT: tuple[Decorator, ...] = (
    click.option("--payload", metavar="JSON|@FILE", help="What the script is given; @- is stdin."),
    click.option("--metadata", metavar="JSON|@FILE", help="Kept and shown with the action."),
    click.option("--label", "labels", multiple=True, metavar="K=V",
                 help="For lists and brakes; at a core, without --node and --selector, the nodes "
                 "that carry it."),
    click.option("--app", "apps", multiple=True, metavar="NAME",
                 help="Never beside another of NAME."),
    click.option("--timeout", metavar="SPAN", help="Stop it after so long."),
    click.option("--attempts", type=click.IntRange(1, 1000), metavar="N",
                 help="Try again if it fails, so often in all."),
    click.option("--on-restart", type=click.Choice(("rerun", "never")),
                 help="If nobody can know how it ended."),
    click.option("--start-deadline", metavar="SPAN", help="Too late to start after so long."),
    click.option("--correlation-id", metavar="TEXT", help="Shown and handed on everywhere."),
    click.option("--dry-run", is_flag=True, help="Start the script, told to change nothing (and "
                 "only if its kind has a dry run). It is an action like any other."),
)  # fmt: skip
_WHEN: tuple[Decorator, ...] = (
    click.option("--at", metavar="WHEN", help="Once, as 2026-01-15T12:00:00+01:00 or +10m; or "
                 "again and again, as 'monday at 10:15'."),
    click.option("--in", "delay", metavar="SPAN", help="Start (or begin) after 10s, 5m, 1h30m."),
    click.option("--until", metavar="WHEN", help="The window's end; +10m counts from now."),
)  # fmt: skip
_AGAIN: tuple[Decorator, ...] = (
    click.option("--schedule", "words", metavar="WORDS", help="'every 5 minutes', 'at 10:15 am', "
                 "or a cron line."),
    click.option("--cron", metavar="LINE", help="5 fields, or 6 with seconds."),
    click.option("--every", metavar="WORDS", help="15m, '3 days and 4 hours'."),
    click.option("--date", metavar="WHEN", help="At one instant, told as missed if it has passed."),
    click.option("--after", metavar="ID", help="Each time that action has finished."),
    click.option("--from", "begin", metavar="WHEN", help="Not before; intervals count from it."),
    click.option("--timezone", metavar="ZONE", help="As Europe/Berlin; default: the node's."),
    click.option("--duration", metavar="SPAN", help="Each occurrence has a window of this length."),
    click.option("--jitter", metavar="SPAN", help="Later by up to so much, always the same here."),
    click.option("--overlap", type=click.Choice(OVERLAPS), help="While the last one still runs."),
    click.option("--catch-up", type=click.Choice(CATCH_UPS), help="Missed ones that run late."),
    click.option("--catch-up-age", metavar="SPAN", help="Only those that were missed since."),
    click.option("--catch-up-count", type=click.IntRange(min=1), metavar="N",
                 help="Only so many of them."),
    click.option("--count-from", type=click.Choice(("start", "completion")),
                 help="With --every: what an interval counts from."),
    click.option("--ends-at", metavar="WHEN", help="No occurrence after it."),
    click.option("--max-runs", type=click.IntRange(min=1), metavar="N", help="So often."),
)  # fmt: skip
_SCHEDULE_KEYS = frozenset(
    {"words", "cron", "every", "date", "after", "timezone", "duration", "jitter", "overlap"}
    | {"catch_up", "catch_up_age", "catch_up_count", "count_from", "ends_at", "max_runs"}
)
_AS_WORDS = "'10:15 am', 'monday at 10:15', 'every weekday at 7 pm', 'every 2 days at 10:15'"
_TIME_OF_DAY = re.compile(r"(?i)\d:\d\d|\d\s*[ap]\.?m\b|\bnoon\b|\bmidnight\b|day\b")


def definition_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Everything that describes an action or a recurring action, but its kind and id."""
    for option in reversed(_WHAT + _WHEN + _AGAIN):
        function = option(function)
    return function


class Reading:
    """Values read one by one, their faults gathered."""

    def __init__(self, given: Mapping[str, Any], now: datetime) -> None:
        self.given = given
        self.now = now
        self.faults: list[str] = []

    def value(self, option: str, key: str, reader: Callable[[str], T]) -> T | None:
        """What was given for the option; None if nothing was, or if it is wrong."""
        if self.given[key] is None:
            return None
        try:
            return reader(self.given[key])
        except ValueError as error:
            self.faults.append(f"{option}: {error}")
        except click.UsageError as error:
            self.faults.append(error.message)
        return None

    def when(self, option: str, key: str) -> str | None:
        """An instant, as the API wants it."""
        found = self.value(option, key, lambda text: read_when(text, self.now))
        return None if found is None else format_instant(found)

    def span_s(self, option: str, key: str) -> float | None:
        """Seconds."""
        return self.value(option, key, parse_span_s)

    def json(self, option: str, key: str) -> Any:
        """JSON, or a file with it."""
        return self.value(option, key, lambda text: json_value(text, option))

    def labels(self, option: str, key: str) -> dict[str, str] | None:
        """`k=v`, several times."""
        found = {}
        for text in self.given[key]:
            name, equals, value = text.partition("=")
            if not name or not equals:
                self.faults.append(f"{option}: {text!r} is not of the form key=value")
            found[name] = value
        return found or None

    def finish(self) -> None:
        """Raises `UsageError` with all faults."""
        if self.faults:
            raise click.UsageError("\n".join(self.faults))


def compose(given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The members of the definition that the options describe; only those that were given.

    Raises `UsageError` with all faults at once.
    """
    read = Reading(given, now)
    document = {
        "payload": read.json("--payload", "payload"),
        "metadata": read.json("--metadata", "metadata"),
        "labels": read.labels("--label", "labels"),
        "app_names": list(given["apps"]) or None,
        "timeout_s": read.span_s("--timeout", "timeout"),
        "retry": None if given["attempts"] is None else {"max_attempts": given["attempts"]},
        "on_restart": given["on_restart"],
        "start_deadline_s": read.span_s("--start-deadline", "start_deadline"),
        "correlation_id": given["correlation_id"],
        "dry_run": given["dry_run"] or None,
        "to_date": _end(read),
        **_when(read),
    }
    read.finish()
    return {key: value for key, value in document.items() if value is not None}


def _end(read: Reading) -> str | None:
    """An end that has passed is a slip: the daemon would take it and end the action at once."""
    end = read.when("--until", "until")
    if end is not None and parse_instant(end) <= read.now:
        read.faults.append(f"--until: {end} has passed; it could never start")
    return end


def _when(read: Reading) -> dict[str, Any]:
    """`from_date` of an action, or `schedule` (and `from_date`) of a recurring one."""
    given = read.given
    at = given["at"]
    recurs = _recurs(at) or any(given[key] is not None for key in _SCHEDULE_KEYS)
    if at is not None and given["delay"] is not None:
        read.faults.append("--at and --in exclude each other")
    if recurs:
        return {"from_date": read.when("--from", "begin"), "schedule": _schedule(read)}
    starts = [option for option, key in (("--at", "at"), ("--from", "begin")) if given[key]]
    if len(starts) == 2:
        read.faults.append("--at and --from exclude each other")
    start = read.value("--at", "at", lambda text: _instant(text, read.now))
    start = start or read.when("--from", "begin")
    delay_s = read.span_s("--in", "delay")
    if delay_s is not None:
        start = format_instant(read.now + timedelta(seconds=delay_s))
    return {"from_date": start}


def _recurs(at: str | None) -> bool:
    """`10:15 am` and `monday at 10:15` recur; what begins as a date is one, right or wrong."""
    text = (at or "").strip()
    if text[:4].isdecimal():
        return False
    return text.lower().startswith("every ") or bool(_TIME_OF_DAY.search(text))


def _instant(text: str, now: datetime) -> str:
    """One start. Raises ValueError, which lists the words of a schedule too where words came."""
    try:
        return format_instant(read_when(text, now))
    except ValueError as error:
        again = f"; or, again and again, {_AS_WORDS}" if text.strip()[:1].isalpha() else ""
        raise ValueError(f"{error}{again}") from None


def _schedule(read: Reading) -> dict[str, Any] | str:
    """As typed where it is words alone; the daemon reads both."""
    given = read.given
    schedule = {
        "cron": given["cron"],
        "every": given["every"],
        "at": given["at"],
        "date": read.when("--date", "date"),
        "after": given["after"],
        "timezone": given["timezone"],
        "duration_s": read.span_s("--duration", "duration"),
        "jitter_s": read.span_s("--jitter", "jitter"),
        "delay_s": read.span_s("--in", "delay"),
        "overlap": given["overlap"],
        "catch_up": _catch_up(read),
        "count_from": given["count_from"],
        "ends_at": read.when("--ends-at", "ends_at"),
        "max_runs": given["max_runs"],
    }
    told = {key: value for key, value in schedule.items() if value is not None}
    if given["words"] is None:
        return told
    return {**_of_words(given["words"], read), **told} if told else str(given["words"])


def _of_words(words: str, read: Reading) -> dict[str, Any]:
    """What the words say as members, so that other options can stand beside them."""
    from agent.domain.errors import InvalidDocument  # noqa: PLC0415
    from agent.wire.schedule import decode_schedule, encode_schedule  # noqa: PLC0415

    try:
        return encode_schedule(decode_schedule(words))
    except InvalidDocument as error:
        read.faults += [f"--schedule: {fault.message}" for fault in error.faults]
    except ValueError as error:
        read.faults.append(f"--schedule: {error}")
    return {}


def _catch_up(read: Reading) -> dict[str, Any] | None:
    told = {
        "mode": read.given["catch_up"],
        "max_age_s": read.span_s("--catch-up-age", "catch_up_age"),
        "max_count": read.given["catch_up_count"],
    }
    return {key: value for key, value in told.items() if value is not None} or None


def changed_schedule(before: Any, changes: Any) -> Any:
    """The schedule with the changes in it; a new word for *when* takes the old one's place."""
    if changes is None:
        return before
    if isinstance(changes, str) or not isinstance(before, dict):
        return changes
    whens = {"cron", "every", "at", "date", "after"}
    kept = {
        key: value for key, value in before.items() if not (key in whens and whens & set(changes))
    }
    if isinstance(kept.get("catch_up"), dict) and isinstance(changes.get("catch_up"), dict):
        changes = {**changes, "catch_up": {**kept["catch_up"], **changes["catch_up"]}}
    return {**kept, **changes}
