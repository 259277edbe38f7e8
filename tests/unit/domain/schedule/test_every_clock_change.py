"""Every clock change of every zone, 2000–2037, against oracles that know nothing of our arithmetic.

The changes come from the zone files themselves; what a rule should do around one comes from
`zoneinfo` (minute by minute for rules that follow the clock, PEP 495 for fixed times) and from
cronsim's own walk over plain wall-clock times. Zones with the same changes are looked at once.
"""

from __future__ import annotations

import struct
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from itertools import pairwise, takewhile
from pathlib import Path

from cronsim import CronSim

from agent.domain.schedule.at_text import read_at
from agent.domain.schedule.catching_up import walk
from agent.domain.schedule.cron import read_cron
from agent.domain.schedule.rules import OnTheClock
from agent.domain.schedule.zones import piece_at, zone_of

FIRST, LAST = datetime(2000, 1, 1), datetime(2038, 1, 1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DAY_SKIPPED = {"Pacific/Apia", "Pacific/Fakaofo"}
LOOK_EVERY_MINUTES = 5  # all lines but one name such minutes, and all offsets are of such length
LOOK_EVERY = timedelta(minutes=LOOK_EVERY_MINUTES)
RULES_PER_CHANGE = 1  # of each sort; every kind of change meets every rule, the others in turn

FOLLOWING = {  # the line → whether a wall-clock (hour, minute) belongs to it, at second 0
    "*/15 * * * *": lambda h, m: m % 15 == 0,
    "30 * * * *": lambda h, m: m == 30,
    "0 */2 * * *": lambda h, m: m == 0 and h % 2 == 0,
    "*/20 0-3 * * *": lambda h, m: m % 20 == 0 and h <= 3,
    "0 */10 2 * * *": lambda h, m: m % 10 == 0 and h == 2,
    "* 1,2,3 * * *": lambda h, m: h in {1, 2, 3},
}
FIXED = {  # the line → the same for cronsim on wall-clock time
    "30 2 * * *": "30 2 * * *",
    "0,30 0-3 * * *": "0,30 0-3 * * *",
    "0 0 * * *": "0 0 * * *",
    "59 23 * * *": "59 23 * * *",
    "15 30 1,2 * * *": "15 30 1,2 * * *",
    "at 2:30 and 2:45 am": "30,45 2 * * *",
    "every sunday at 3:00": "0 3 * * 0",
}


def zone_file(name: str) -> bytes | None:
    for base in zoneinfo.TZPATH:
        path = Path(base, name)
        if path.is_file():
            return path.read_bytes()
    package, _, leaf = f"tzdata.zoneinfo.{name.replace('/', '.')}".rpartition(".")
    found = resources.files(package).joinpath(leaf)
    return found.read_bytes() if found.is_file() else None


@cache
def distinct_zones() -> dict[str, bytes]:
    """Zones with the same changes and the same rule for later ones are one, whatever was before."""
    seen: dict[object, tuple[str, bytes]] = {}
    for name in sorted(zoneinfo.available_timezones()):
        data = zone_file(name)
        if data is not None:
            changes = tuple(change for change in changes_in_file(data) if change[0] >= FIRST)
            seen.setdefault((changes, data.splitlines()[-1]), (name, data))
    return dict(seen.values())


def changes_in_file(data: bytes) -> Iterator[tuple[datetime, timedelta, timedelta]]:
    """(instant, offset before, offset after) as TZif (RFC 9636) has them."""
    one = struct.unpack(">6l", data[20:44])
    at = 44 + one[3] * 5 + one[4] * 6 + one[5] + one[2] * 8 + one[1] + one[0]
    _, _, _, times, types, _ = struct.unpack(">6l", data[at + 20 : at + 44])
    at += 44
    instants = struct.unpack(f">{times}q", data[at : at + times * 8])
    kinds = data[at + times * 8 : at + times * 9]
    at += times * 9
    offsets = [struct.unpack(">l", data[at + n * 6 : at + n * 6 + 4])[0] for n in range(types)]
    before = offsets[0]
    for instant, kind in zip(instants, kinds, strict=True):
        after = offsets[kind]
        if after != before and abs(instant) < 2**33:
            moment = datetime(1970, 1, 1) + timedelta(seconds=instant)
            yield moment, timedelta(seconds=before), timedelta(seconds=after)
        before = after


@cache
def all_changes() -> dict[tuple[datetime, timedelta, timedelta], str]:
    """Every distinct change as our pieces have it, with a zone where it happens."""
    found: dict[tuple[datetime, timedelta, timedelta], str] = {}
    for name in distinct_zones():
        moment = FIRST
        while moment < LAST:
            piece = piece_at(zone_of(name), moment)
            if piece.before != piece.offset and piece.start >= FIRST:
                found.setdefault((piece.start, piece.before, piece.offset), name)
            moment = piece.end
    return found


def test_our_pieces_are_the_changes_of_the_zone_files() -> None:
    ours = set(all_changes())
    theirs = {
        change
        for data in distinct_zones().values()
        for change in changes_in_file(data)
        if FIRST <= change[0] < LAST
    }
    assert theirs - ours == set()
    assert len(ours) > 2_000
    # Files of the slim sort leave the regular changes to a rule at their end: ours has them too.
    latest = max(change[0] for change in theirs)
    assert {
        change for change in ours - theirs if change[0] < min(latest, datetime(2007, 1, 1))
    } == set()


def instants(
    rule: OnTheClock, begin: datetime, end: datetime, *, thorough: bool = True
) -> list[datetime]:
    """They rise; and all three ways to ask a rule must agree."""
    low, high = begin.replace(tzinfo=UTC), end.replace(tzinfo=UTC)
    found = list(walk(rule, low, high))
    assert all(a < b for a, b in pairwise(found)), "not strictly rising"
    if not thorough:
        return [moment.replace(tzinfo=None) for moment in found]
    assert rule.count(low, high) == len(found)
    back, at = [], high
    while (previous := rule.before(at)) is not None and previous >= low:
        back.append(previous)
        at = previous
    assert back[::-1] == found
    return [moment.replace(tzinfo=None) for moment in found]


def oracle_following(zone: str, line: str, begin: datetime, end: datetime) -> list[datetime]:
    matches, where = FOLLOWING[line], zoneinfo.ZoneInfo(zone)
    found = []
    step = 1 if line.startswith("* ") else LOOK_EVERY_MINUTES
    assert begin.minute % step == 0
    for n in range(0, int((end - begin) / timedelta(minutes=1)), step):
        moment = begin + timedelta(minutes=n)
        wall = moment.replace(tzinfo=UTC).astimezone(where)
        if wall.second == 0 and matches(wall.hour, wall.minute):
            found.append(moment)
    return found


@cache
def walls_on(line: str, day: int) -> tuple[datetime, ...]:
    """Many zones change on the same days."""
    begin = datetime.fromordinal(day)
    before = begin - timedelta(seconds=1)
    return tuple(takewhile(lambda wall: wall < begin + DAY, CronSim(FIXED[line], before)))


def oracle_fixed(zone: str, line: str, change: datetime, around: timedelta) -> list[datetime]:
    where = zoneinfo.ZoneInfo(zone)
    beyond = around + DAY if zone in DAY_SKIPPED else around + 17 * HOUR  # offset and shift
    found = set()
    days = range((change - beyond).toordinal(), (change + beyond).toordinal() + 1)
    for wall in (wall for day in days for wall in walls_on(line, day)):
        moment = wall.replace(tzinfo=where, fold=0).astimezone(UTC)
        skipped = moment.astimezone(where).replace(tzinfo=None) != wall
        found.add(change if skipped else moment.replace(tzinfo=None))
    return sorted(moment for moment in found if change - around <= moment < change + around)


def rule_in(zone: str, line: str) -> OnTheClock:
    words = line.startswith(("at", "every"))
    local = read_at(line).local_rule(FIRST.date()) if words else read_cron(line)
    return OnTheClock(local, zone_of(zone))


def sample(lines: list[str], number: int, *, new_kind: bool) -> list[str]:
    if new_kind:
        return lines
    lines = [line for line in lines if not line.startswith("* ")]  # too many instants for all
    return [lines[(number * RULES_PER_CHANGE + n) % len(lines)] for n in range(RULES_PER_CHANGE)]


def test_nothing_is_lost_or_doubled_at_any_change_of_any_zone() -> None:
    kinds = set()
    for number, ((at, before, after), zone) in enumerate(all_changes().items()):
        kind = (before, after, (at + before).time())
        new = kind not in kinds
        kinds.add(kind)
        around = max(3 * HOUR, abs(after - before) + 2 * HOUR)
        assert before % LOOK_EVERY == after % LOOK_EVERY == timedelta(0), "looks too rarely"
        begin = (at - around).replace(second=0)
        begin -= timedelta(minutes=begin.minute % LOOK_EVERY_MINUTES)
        for line in sample(list(FOLLOWING), number, new_kind=new):
            rule = rule_in(zone, line)
            found = instants(rule, begin, begin + 2 * around, thorough=new)
            assert found == oracle_following(zone, line, begin, begin + 2 * around), (
                zone,
                at,
                line,
            )
            if new:  # asked in two pieces that meet at the change itself
                assert found == instants(rule, begin, at) + instants(rule, at, begin + 2 * around)
        for line in sample(list(FIXED), number, new_kind=new):
            rule = rule_in(zone, line)
            found = instants(rule, at - DAY, at + DAY, thorough=new)
            assert found == oracle_fixed(zone, line, at, DAY), (zone, at, line)
            if new:
                assert found == instants(rule, at - DAY, at) + instants(rule, at, at + DAY)


def test_a_daily_time_happens_once_on_every_local_day_of_four_decades() -> None:
    """In the zones with the oddest clocks; a day that was left out counts with the one after it."""
    for zone in ("Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"):
        found = list(walk(rule_in(zone, "30 2 * * *"), _utc(FIRST), _utc(LAST)))
        days = [
            (moment.astimezone(zone_of(zone)) - timedelta(minutes=1)).date() for moment in found
        ]
        missing = {FIRST.date() + n * DAY for n in range(2, (LAST - FIRST).days - 2)} - set(days)
        left_out = {datetime(2011, 12, 30).date()} if zone == "Pacific/Apia" else set()
        assert missing <= left_out
        assert len(days) - len(set(days)) <= len(left_out)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
