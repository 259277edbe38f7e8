"""The zone that this machine's clock shows: what cron on the same machine would go by."""

from __future__ import annotations

import os
from pathlib import Path

from agent.domain.schedule.zones import UnknownZone, zone_of

LOCALTIME = Path("/etc/localtime")
FALLBACK = "UTC"
_DATABASE = "zoneinfo/"


def system_zone(localtime: Path = LOCALTIME) -> str:
    """The IANA name that `TZ` or the link /etc/localtime gives; UTC where neither names one."""
    for name in (os.environ.get("TZ", "").removeprefix(":"), _linked(localtime)):
        if name and not name.startswith("/"):
            try:
                zone_of(name)
            except UnknownZone:
                continue
            return name
    return FALLBACK


def _linked(localtime: Path) -> str:
    try:
        target = str(localtime.readlink())
    except OSError:
        return ""  # a copy of the file instead of a link does not say its name
    return target.partition(_DATABASE)[2]
