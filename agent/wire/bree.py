"""bree's words inside a schedule, as ours: `interval`, `timeout`, `hasSeconds`, in milliseconds.

Its combinations are refused as bree's own validator refuses them: interval with cron, timeout with
date. What bree configures elsewhere is named with our place for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.domain.errors import Fault
from agent.domain.schedule.spans import read_span_s
from agent.wire import fields as f
from agent.wire.schedule_text import interval, interval_or_times, milliseconds

WORDS = ("interval", "timeout", "hasSeconds")
ELSEWHERE = {
    "closeWorkerAfterMs": "is bree's: write timeout_s (seconds) beside the schedule",
    "cronValidate": "is bree's and not needed: cron lines are always checked",
    "path": "is bree's: the definition's kind names the script",
    "name": "is bree's: the definition's id is the name",
    "worker": "is bree's: the definition's payload goes to the script",
}
_NOT_BESIDE = (("interval", "cron"), ("timeout", "date"))


def translate(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """The document with bree's words replaced, and what is wrong with them."""
    given = dict(document)
    faults = [
        Fault(word, f"cannot stand beside {other}: both say when; keep one")
        for word, other in _NOT_BESIDE
        if word in given and other in given
    ]
    clashing = {fault.path for fault in faults}
    for word, read in (("interval", _interval), ("timeout", _timeout), ("hasSeconds", _six)):
        if word not in given:
            continue
        try:
            found = read(given.pop(word), given)
        except ValueError as error:
            faults.append(Fault(word, str(error)))
            continue
        for name, value in found.items() if word not in clashing else ():
            if name in given:
                faults.append(Fault(word, f"and {name} say the same; keep one"))
            given.setdefault(name, value)
    return given, faults


def _interval(value: Any, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Milliseconds (0: none), or words for an interval or for times of day."""
    if isinstance(value, str):
        return interval_or_times(value)
    if isinstance(value, dict):
        raise ValueError("later's schedule objects are not read; write cron, every or at")
    seconds = milliseconds(value)
    return {"every": interval(seconds)} if seconds else {}


def _timeout(value: Any, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Milliseconds or words until the first run; false: none."""
    if value is False:
        return {}
    if not isinstance(value, str):
        return {"delay_s": milliseconds(value)}
    try:
        return {"delay_s": read_span_s(value)}
    except ValueError as error:
        raise ValueError(f"{error}; for a time of day write at, with max_runs 1") from None


def _six(value: Any, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether the cron line has six fields; ours are counted, so both must agree."""
    six = f.boolean(value)
    line = given.get("cron")
    if isinstance(line, str) and len(line.split()) in {5, 6} and six != (len(line.split()) == 6):
        raise ValueError(f"is {str(six).lower()}, but the line has {len(line.split())} fields")
    return {}
