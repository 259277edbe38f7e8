"""A node's report as it came in, and what of it changes all the time. Pure.

The node tells its clock with every report, and its scripts' progress each second: neither is a
change of what the node *is*, and neither is worth a commit or an event of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from agent.domain.instants import parse_instant
from agent.wire.messages import NodeReport
from agent.wire.strict_json import encode_text

SKEW_MS_MAX = 2**53
_plain = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class FreshReport:
    """A report at its arrival. `skew_ms`: the node's clock minus ours, None if it told no time."""

    text: str
    at: datetime
    skew_ms: int | None


def fresh(report: NodeReport, now: datetime) -> FreshReport:
    """The report as it is stored."""
    return FreshReport(encode_text(report), now, skew_ms(report, now))


def skew_ms(report: NodeReport, now: datetime) -> int | None:
    """How far the node's clock is ahead of ours; what the way took is in it."""
    told = report.clock.get("now")
    if not isinstance(told, str):
        return None
    try:
        skew = round((parse_instant(told) - now).total_seconds() * 1000)
    except ValueError:
        return None
    return max(-SKEW_MS_MAX, min(SKEW_MS_MAX, skew))


def is_news(stored: str | None, report: FreshReport) -> bool:
    """Whether the node is otherwise than it was stored last."""
    return stored is None or _lasting(_plain(stored)) != _lasting(_plain(report.text))


def _lasting(report: Mapping[str, Any]) -> dict[str, Any]:
    lasting = {name: value for name, value in report.items() if name != "progress"}
    clock = report.get("clock")
    if isinstance(clock, dict):
        lasting["clock"] = {name: value for name, value in clock.items() if name != "now"}
    return lasting
