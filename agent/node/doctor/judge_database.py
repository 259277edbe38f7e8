"""Judgement on what was measured in the database. Pure: values in, checks out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from agent.domain.instants import parse_instant
from agent.domain.spans import between_text, instant_text
from agent.node.doctor.check import Check, fail, ok, warn
from agent.node.doctor.database import DatabaseFound
from agent.node.store.parking import read_object
from agent.node.what_is_lost import restored_from

PAUSED_LONG = timedelta(days=1)  # a pause is for an afternoon; longer ones are often forgotten
BRAKE_ENDS_SOON = timedelta(hours=1)
BACKEND_AWAY = timedelta(days=1)
UNSENT_OLD = timedelta(hours=1)
OUTBOX_LARGE = 100_000  # a tenth of its bound
RESTORED_LONG_AGO = timedelta(days=7)  # whoever wanted to look has looked
IDS_SHOWN = 20
RESTORED_ADVICE = (
    "of a doubtful one look whether its work was done (`agentctl why ID`), then cancel or retry "
    "it; submit, pause and brake again what was lost; and look at the disk"
)


def judge_database(found: DatabaseFound, now: datetime) -> Iterator[Check]:
    """One check after another."""
    yield judge_integrity(found.integrity)
    yield judge_counts(found)
    yield judge_events(found.events_missing, found.newest_seq)
    yield judge_parked(found.parked, found.parked_why)
    yield judge_restored(found, now)
    yield judge_refused(found.refused)
    yield judge_outbox(found, now)
    yield judge_backend(found, now)
    yield judge_pause(found, now)
    yield judge_brakes(found, now)


def judge_integrity(faults: tuple[str, ...] | None) -> Check:
    """SQLite's own check of the file."""
    name = "database_integrity"
    if faults is None:
        return ok(name, "no fault within the time that the check may take; it is a large database")
    if not faults:
        return ok(name, "SQLite finds no fault in the whole file")
    told = "; ".join(faults[:3])
    return fail(
        name,
        f"SQLite finds {len(faults)} faults: {told}",
        "restart agentd: it puts a damaged database aside and restores the last good backup; "
        "then look for a failing disk in the kernel's log",
    )


def judge_counts(found: DatabaseFound) -> Check:
    """The kept counts against the rows; a change in between is looked at once more."""
    name = "database_counts"
    if found.counts_real is None:
        total = sum(found.counts_kept.values())
        return ok(name, f"{total} actions, too many to count again within the time")
    kept = {status: number for status, number in found.counts_kept.items() if number}
    wrong = sorted(
        f"{status} {kept.get(status, 0)} kept, {found.counts_real.get(status, 0)} there"
        for status in {*kept, *found.counts_real}
        if kept.get(status, 0) != found.counts_real.get(status, 0)
    )
    if not wrong:
        return ok(name, f"the kept counts agree with {sum(kept.values())} rows")
    return fail(name, "; ".join(wrong), "report this: it is an error of ours, and status is wrong")


def judge_events(missing: int | None, newest: int) -> Check:
    """History has no unexplained holes."""
    name = "events_contiguous"
    if missing is None:
        return ok(name, "too many events to look at all of them within the time")
    if missing == 0:
        return ok(name, f"every event up to {newest} that should be there is there")
    return fail(
        name,
        f"{missing} events are missing and no gap tells of them",
        "the database was changed by another program, or is damaged: restore a backup",
    )


def judge_parked(parked: int, causes: tuple[tuple[str, int], ...] = ()) -> Check:
    """Rows that are put aside: of a newer version, damaged, or known by their runs alone."""
    name = "parked_actions"
    if not parked:
        return ok(name, "this version can handle every stored action")
    return warn(
        name,
        f"{parked} actions are put aside and do not start"
        + "".join(f"; {number}: {why}" for why, number in causes),
        "`agentctl why ID` says why of each; what a newer version stored waits for one, "
        "what else cannot be read is there to be cancelled",
    )


def judge_restored(found: DatabaseFound, now: datetime) -> Check:
    """The latest restore, and what nobody can know since."""
    name = "restored"
    told = read_object(found.meta.restored)
    if not isinstance(told, dict):
        return ok(name, "the database was never restored")
    at = parse_instant(told["at"])
    text = f"{instant_text(at)}: {told['why']}; {restored_from(told)}"
    if told.get("restraints"):
        text += f"; pauses and brakes: {told['restraints']}"
    if told.get("pending"):
        return warn(name, text, "nothing starts until the runner's records are read")
    text += f"; {_named(told, 'doubtful', 'doubtful_ids')} doubtful"
    text += f"; {_named(told, 'unknown_actions', 'unknown_ids')} without their definitions"
    lost = str(told.get("restraints")).startswith("lost")
    if now - at > RESTORED_LONG_AGO or not (
        told.get("doubtful") or told.get("unknown_actions") or lost
    ):
        return ok(name, text)
    return warn(name, text, RESTORED_ADVICE)


def _named(told: Mapping[str, Any], number: str, ids: str) -> str:
    """How many, and the first of them."""
    total, names = told.get(number) or 0, (told.get(ids) or [])[:IDS_SHOWN]
    more = ", …" if total > len(names) else ""
    return f"{total} ({', '.join(names)}{more})" if names else f"{total}"


def judge_refused(refused: int) -> Check:
    """Definitions of the core that this node could not accept."""
    name = "refused_definitions"
    if not refused:
        return ok(name, "no definition of the core was refused")
    return warn(
        name,
        f"{refused} definitions of the core were refused as faulty and are not carried out",
        "the log has the faults of each (definition_refused); correct them at the core",
    )


def judge_outbox(found: DatabaseFound, now: datetime) -> Check:
    """What the core has not been told yet."""
    name = "outbox"
    if not found.meta.enrolled:
        return ok(name, "there is no core, so nothing is owed to one")
    if not found.outbox or found.oldest_unsent_at is None:
        return ok(name, "the core has been told everything")
    age = now - found.oldest_unsent_at
    told = f"{found.outbox} events wait for the core, the oldest for "
    told += between_text(found.oldest_unsent_at, now)
    if age < UNSENT_OLD and found.outbox < OUTBOX_LARGE:
        return ok(name, told)
    return warn(
        name, told, "see the check `core`; at a million events the oldest are folded into a gap"
    )


def judge_backend(found: DatabaseFound, now: datetime) -> Check:
    """A backend that pulls, and for whose sake events are kept."""
    name, meta = "backend", found.meta
    if not meta.pulled_seq:
        return ok(name, "no backend pulls events from here")
    asked = parse_instant(meta.pulled_at)
    told = f"a backend has {meta.pulled_seq} of {found.newest_seq} events and was last heard of "
    told += f"{between_text(asked, now)} ago"
    if now - asked < BACKEND_AWAY and found.newest_seq - meta.pulled_seq < OUTBOX_LARGE:
        return ok(name, told)
    return warn(name, told, "is it there? After a week, or a million events, it has to begin anew")


def judge_pause(found: DatabaseFound, now: datetime) -> Check:
    """A pause that somebody may have forgotten."""
    name, meta = "pause", found.meta
    if not meta.paused:
        return ok(name, "the node is not paused")
    since = parse_instant(meta.paused_at) if meta.paused_at else None
    told = "paused"
    told += f" since {instant_text(since)} ({between_text(since, now)})" if since else ""
    told += f" by {meta.paused_by}" if meta.paused_by else ""
    told += f": {meta.pause_reason}" if meta.pause_reason else ""
    if since is not None and now - since < PAUSED_LONG:
        return ok(name, told)
    return warn(name, f"{told}; nothing starts", "`agentctl resume`, if it was forgotten")


def judge_brakes(found: DatabaseFound, now: datetime) -> Check:
    """Brakes that are about to let go."""
    name = "brakes"
    holding = [brake for brake in found.brakes if not brake.has_expired(now)]
    if not holding:
        return ok(name, "no brake is on")
    told = [f"{brake.id} holds {brake.what} ({brake.reason})" for brake in holding[:5]]
    ending = [
        brake.id
        for brake in holding
        if brake.expires_at is not None and brake.expires_at - now < BRAKE_ENDS_SOON
    ]
    if not ending:
        return ok(name, "; ".join(told))
    numbers = ", ".join(str(number) for number in ending)
    return warn(
        name,
        f"{'; '.join(told)}; {numbers} expire within the hour",
        "what they hold starts then; brake anew if it must not",
    )
