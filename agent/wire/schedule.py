"""Schedules as JSON: our words, people's words and bree's, all read into one `Schedule`.

An object with our fields, or a plain text ("every 5 minutes", "at 10:15 am", a cron line). bree's
`interval`, `timeout` and `hasSeconds` are read as bree means them (milliseconds), and its
combinations are refused as bree refuses them. Faults are reported together. See docs/schedules.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agent.domain.errors import FAULTS_SHOWN_MAX, Fault, InvalidDocument, shown
from agent.domain.instants import SPAN_S_MAX, format_instant
from agent.domain.schedule.spans import read_every_s
from agent.domain.schedule.spec import CatchUp, CatchUpMode, CountFrom, Overlap, Schedule
from agent.wire import bree
from agent.wire import fields as f
from agent.wire.fields import NAME_CHARS_MAX, Field, nearest, read_closed, read_fields
from agent.wire.schedule_text import cron_line, interval, plain_text, span, times, zone

DURATION_S_MAX = 366 * 86_400.0
JITTER_S_MAX = 7 * 86_400.0  # spreading further than a week is another schedule
CATCH_UP_COUNT_MAX = 1000  # each is an occurrence with a row of its own
CATCH_UP_AGE_S_MAX = 366 * 86_400.0  # what lies further back is found and counted in one turn
RUNS_MAX = 2**31
PAUSED_REASON_CHARS_MAX = 1024
_WHEN = ("cron", "every", "at", "after")
_SPANS = {"duration": "duration_s", "jitter": "jitter_s", "delay": "delay_s"}
_ELSEWHERE = bree.ELSEWHERE | {
    "timeout_s": "belongs beside the schedule, not into it",
    "from_date": "belongs beside the schedule, not into it",
    "to_date": "belongs beside the schedule, not into it",
}


def decode_schedule(value: Any) -> Schedule:
    """JSON → Schedule. Raises `InvalidDocument` with every fault, its paths inside the schedule."""
    if isinstance(value, str):
        try:
            return Schedule(**plain_text(value.strip()))
        except ValueError as error:
            raise InvalidDocument([Fault("", str(error))]) from None
    if not isinstance(value, dict):
        raise InvalidDocument([Fault("", f"must be an object or a text, not {shown(value)}")])
    given, faults = bree.translate({k: v for k, v in value.items() if v is not None})
    faults += _short_names(given)
    values, field_faults = read_fields(given, _FIELDS)
    faults += field_faults + _unknown(given)
    faults += _joint_faults(given, values)
    if faults:
        raise InvalidDocument(faults)
    if "timezone" in values and values["timezone"] == "":
        del values["timezone"]
    return Schedule(**values)


def encode_schedule(schedule: Schedule) -> dict[str, Any]:
    """The schedule as plain JSON values; what says nothing is left out."""
    document: dict[str, Any] = {}
    for name in _FIELDS:
        value = getattr(schedule, name)
        if value is None or value is False:
            continue
        if isinstance(value, datetime):
            value = format_instant(value)
        elif isinstance(value, CatchUp):
            value = {
                "mode": value.mode.value,
                "max_age_s": value.max_age_s,
                "max_count": value.max_count,
            }
        document[name] = value.value if isinstance(value, Overlap | CountFrom) else value
    return document


def _catch_up(value: Any) -> CatchUp:
    if isinstance(value, str):
        return CatchUp(mode=f.choice(CatchUpMode)(value))
    values = read_closed(
        value,
        {
            "mode": Field(f.choice(CatchUpMode)),
            "max_age_s": Field(span(0, CATCH_UP_AGE_S_MAX)),
            "max_count": Field(f.integer(1, CATCH_UP_COUNT_MAX)),
        },
    )
    return CatchUp(**values)


_FIELDS: Mapping[str, Field] = {
    "cron": Field(cron_line),
    "every": Field(interval),
    "at": Field(times),
    "date": Field(f.instant),
    "after": Field(f.action_id),
    "timezone": Field(zone),
    "duration_s": Field(span(1, DURATION_S_MAX)),
    "jitter_s": Field(span(0, JITTER_S_MAX)),
    "delay_s": Field(span(0, SPAN_S_MAX)),
    "ends_at": Field(f.instant),
    "max_runs": Field(f.integer(1, RUNS_MAX)),
    "overlap": Field(f.choice(Overlap)),
    "catch_up": Field(_catch_up),
    "count_from": Field(f.choice(CountFrom)),
    "paused": Field(f.boolean),
    "paused_reason": Field(f.text(PAUSED_REASON_CHARS_MAX)),
}


def _short_names(given: dict[str, Any]) -> list[Fault]:
    """`duration`, `jitter` and `delay` replaced by the fields they mean."""
    faults = []
    for short, name in _SPANS.items():
        if short in given:
            if name in given:
                faults.append(Fault(short, f"and {name} say the same; keep one"))
            given[name] = given.pop(short)
    return faults


def _unknown(given: Mapping[str, Any]) -> list[Fault]:
    faults = []
    for key in [key for key in given if key not in _FIELDS][:FAULTS_SHOWN_MAX]:
        ours = f.snake_case(key)
        if key in _ELSEWHERE:
            message = _ELSEWHERE[key]
        elif ours in _FIELDS:
            message = f"is called {ours!r} here"
        else:
            message = f"is not known here{nearest(key, [*_FIELDS, *_SPANS, *bree.WORDS])}"
        faults.append(Fault(key[:NAME_CHARS_MAX], message))
    return faults


def _joint_faults(given: Mapping[str, Any], values: Mapping[str, Any]) -> list[Fault]:
    """What no field can say alone."""
    faults = []
    when = [name for name in _WHEN if name in given]
    if len(when) > 1:
        faults.append(Fault(when[1], f"cannot stand beside {when[0]}: both say when; keep one"))
    if not when and "date" not in given and "delay_s" not in given:
        faults.append(Fault("", "does not say when: write one of cron, every, at, date, after"))
    if "date" in given and "delay_s" in given:
        faults.append(Fault("delay_s", "cannot stand beside date: both say when; keep one"))
    if "date" in given and "after" in given:
        faults.append(Fault("date", "cannot stand beside after: both say when; keep one"))
    if values.get("count_from") is CountFrom.COMPLETION and "every" not in given:
        faults.append(Fault("count_from", "completion goes with every only: nothing else counts"))
    jitter, duration = values.get("jitter_s"), values.get("duration_s")
    if jitter and duration is not None and jitter >= duration:
        faults.append(
            Fault("jitter_s", f"{jitter:g} s leaves nothing of the window of {duration:g} s")
        )
    if jitter and "every" in values and jitter > read_every_s(values["every"]):
        faults.append(Fault("jitter_s", f"{jitter:g} s is longer than the interval"))
    if "date" in values and "ends_at" in values and values["date"] > values["ends_at"]:
        faults.append(Fault("ends_at", "lies before date, so nothing would ever run"))
    if "paused_reason" in values and not values.get("paused"):
        faults.append(Fault("paused_reason", "says why of a pause; give paused: true with it"))
    return faults
