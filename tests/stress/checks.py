"""What everybody saw and was told, held against what is stored. Each finding is a line of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import create_engine, select
from sqlalchemy.engine import Connection

from agent.core.store.port import AnyRow
from agent.core.store.schema import actions, agents, approvals, deliveries, events, recurring
from agent.core.timers import next_due
from agent.domain.phase import Phase
from tests.stress.node import StressNode
from tests.stress.operators import Books
from tests.stress.reader import Reader
from tests.stress.world import World

SHOWN = 5  # examples of one sort of finding
BECOMES_DUE = {Phase.SCHEDULED.value, Phase.QUEUED.value}
OPEN = ("NULL", "STARTED")
_NEVER_SENT = ("pending", "rejected", "expired")


async def ask_the_core(world: World) -> Iterable[str]:
    """What only the core itself can tell: the audit chain, and both twins of the phases."""
    found: list[str] = []
    after: str | None = None
    while True:
        query = {} if after is None else {"after": after}
        verdict = (await world.ask("GET", "/v1/audit/verify", params=query)).body
        if not verdict["ok"]:
            found.append(f"the audit chain is broken: {verdict['broken']}")
        after = verdict["next"]
        if after is None or not verdict["ok"]:
            break
    everything = {one["row"]: one["phase"] for one in await _listed(world, {})}
    by_phase: dict[Any, str] = {}
    for phase in Phase:
        for one in await _listed(world, {"phase": phase.value}):
            by_phase[one["row"]] = phase.value
    for key, phase_word in everything.items():
        # What is due in between is another thing in the second list than it was in the first.
        if by_phase.get(key) != phase_word and {by_phase.get(key), phase_word} != BECOMES_DUE:
            found.append(f"{key} is shown as {phase_word} and listed as {by_phase.get(key)}")
    return found


async def _listed(world: World, query: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = "0"
    while True:
        page = (await world.ask("GET", "/v1/actions",
                                params={**query, "limit": "500", "after": after})).body  # fmt: skip
        found += [{**one, "row": (one["node"], one["id"], one["owner"])} for one in page["actions"]]
        if page["next"] is None:
            return found
        after = page["next"]


def look_into(
    url: str, nodes: Sequence[StressNode], readers: Sequence[Reader], books: Books
) -> list[str]:
    """Everything that the tables tell; the cores are down, or idle."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        rows = connection.execute(select(actions).where(actions.c.owner == "core")).all()
        there = {row.id: row for row in connection.execute(
            select(agents.c.id, agents.c.decommissioned_at, agents.c.own_labels, agents.c.report)
        )}  # fmt: skip
        found = [
            *_of_answers(rows, books),
            *_of_rules(connection, books),
            *_of_questions(connection, rows),
            *_of_streams(connection, readers),
            *_of_events(connection),
        ]
        for node in nodes:
            if there[node.id].decommissioned_at is not None:
                found += _of_a_node_that_is_gone(connection, node.id, rows)
            elif not node.is_away:  # else its credential ended, and nobody has enrolled it again
                found += _of_node(node, [row for row in rows if row.agent_id == node.id])
        found += _of_members(connection, rows, there)
    engine.dispose()
    return found


def is_anything_due(url: str) -> bool:
    """Whether a timer is still to be fired: those of a core that was killed wait a minute."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        due_at = next_due(connection)
    engine.dispose()
    return due_at is not None and due_at <= datetime.now(UTC)


def _of_answers(rows: Sequence[AnyRow], books: Books) -> Iterator[str]:
    stored = {row.id for row in rows}
    count = Counter((row.agent_id, row.id) for row in rows)
    yield from _some(f"{one} is stored {n} times" for one, n in count.items() if n > 1)
    yield from _some(
        f"{one} was answered and is not stored" for one in books.actions.keys() - stored
    )
    yield from _some(f"{one} was refused and is stored" for one in books.never & stored)


def _of_rules(connection: Connection, books: Books) -> Iterator[str]:
    standing = {
        row.id for row in connection.execute(
            select(recurring.c.id).where(recurring.c.deleted_at.is_(None))
        )
    }  # fmt: skip
    known = set(connection.execute(select(recurring.c.id)).scalars())
    yield from _some(f"{one} was deleted, and stands" for one in books.deleted & standing)
    yield from _some(f"{one} was made, and is unknown" for one in set(books.recurring) - known)


def _of_members(
    connection: Connection, rows: Sequence[AnyRow], there: dict[str, AnyRow]
) -> Iterator[str]:
    """Each standing recurring action with a zone is wanted on exactly the nodes of that zone."""
    zones = {
        one: msgspec.json.decode(row.own_labels).get("zone")
        for one, row in there.items()
        # One that was enrolled again gets them with its first report.
        if row.decommissioned_at is None and row.report is not None
    }
    wrong: list[str] = []
    for rule in connection.execute(select(recurring).where(recurring.c.selector.is_not(None))):
        waits = (msgspec.json.decode(rule.definition).get("approval") or {}).get(
            "state", "approved"
        )
        is_over = rule.deleted_at is not None or waits != "approved"
        meant = set() if is_over else {one for one, zone in zones.items()
                                       if f"zone={zone}" == rule.selector}  # fmt: skip
        has = {row.agent_id for row in rows if row.id == rule.id and row.wanted} & zones.keys()
        if meant != has:
            wrong.append(f"{rule.id} ({rule.selector}, over: {is_over}) lacks {meant - has}, "
                         f"is too much on {has - meant}")  # fmt: skip
    for rule in connection.execute(select(recurring).where(recurring.c.node.is_not(None))):
        has = {row.agent_id for row in rows if row.id == rule.id and row.wanted}
        if rule.deleted_at is not None and has:
            wrong.append(f"{rule.id} was deleted and is wanted on {has}")
        elif has - {rule.node}:
            wrong.append(f"{rule.id} is for {rule.node} and wanted on {has}")
    yield from _some(wrong)


def _of_questions(connection: Connection, rows: Sequence[AnyRow]) -> Iterator[str]:
    state = {(row.agent_id, row.id): row.approval_state for row in rows}
    open_ones: Counter[tuple[str, str]] = Counter()
    for one in connection.execute(select(approvals).where(approvals.c.state == "pending")):
        open_ones[one.agent_id, one.action_id] += 1
    yield from _some(f"{one} has {n} open questions" for one, n in open_ones.items() if n > 1)
    yield from _some(
        f"{row.agent_id} {row.id} waits, and nobody is asked" for row in rows
        if row.approval_state == "pending" and row.wanted and row.status == "NULL"
        and (row.agent_id, row.id) not in open_ones
    )  # fmt: skip
    yield from _some(
        f"{one} is asked about, and is {state[one]}" for one in open_ones
        if state.get(one) in ("rejected", "expired")
    )  # fmt: skip


def _of_streams(connection: Connection, readers: Sequence[Reader]) -> Iterator[str]:
    stored = list(connection.execute(select(events.c.id).order_by(events.c.id)).scalars())
    for number, reader in enumerate(readers):
        if reader.seen != stored:
            missed = sorted(set(stored) - set(reader.seen))
            twice = [one for one, n in Counter(reader.seen).items() if n > 1]
            moved = sum(a >= b for a, b in zip(reader.seen, reader.seen[1:], strict=False))
            yield (
                f"reader {number}: {len(missed)} of {len(stored)} events missed "
                f"{missed[:SHOWN]}, {len(twice)} came twice {twice[:SHOWN]}, {moved} out of order"
            )


def _of_events(connection: Connection) -> Iterator[str]:
    """The order of each node's own events is that of its numbers, without a gap."""
    query = select(events.c.agent_id, events.c.epoch, events.c.seq).where(events.c.seq.is_not(None))
    last: dict[tuple[str, str], int] = {}
    for row in connection.execute(query.order_by(events.c.id)):
        place = (row.agent_id, row.epoch)
        if row.seq != last.get(place, 0) + 1:
            yield f"event {row.seq} of {place} follows {last.get(place, 0)}"
        last[place] = row.seq


def _of_node(node: StressNode, rows: Sequence[AnyRow]) -> Iterator[str]:
    mine = {row.id: row for row in rows}
    yield from _some(f"{node.id} has {one}, which nobody knows" for one in node.held.keys() - mine)
    wrong: list[str] = []
    for action_id, row in mine.items():
        held = node.held.get(action_id)
        was_sent = row.delivered_seq is not None
        if held is None:
            if was_sent and row.wanted:
                wrong.append(f"{node.id} never got {action_id}, which was sent")
            elif row.approval_state not in _NEVER_SENT and row.wanted:
                wrong.append(f"{action_id} was never sent to {node.id}")
            continue
        if held.revision != row.revision and row.status in OPEN:  # of what is over nobody is told
            wrong.append(
                f"{node.id} has {action_id} ({row.status}) at {held.revision}, stored is "
                f"{row.revision} (wanted: {row.wanted}, approval: {row.approval_state})"
            )
        if held.status != row.status:
            wrong.append(f"{action_id} is {held.status} on {node.id} and {row.status} here")
    yield from _some(wrong)


def _of_a_node_that_is_gone(
    connection: Connection, node: str, rows: Sequence[AnyRow]
) -> Iterator[str]:
    waiting = [row.id for row in rows
               if row.agent_id == node and row.wanted and row.status == "NULL"]  # fmt: skip
    if waiting:
        yield f"{node} is out of service, and {waiting[:SHOWN]} waits for it"
    left = connection.execute(select(deliveries.c.seq).where(deliveries.c.agent_id == node)).all()
    if left:
        yield f"{node} is out of service, and {len(left)} deliveries wait for it"


def _some(found: Iterable[str]) -> Iterator[str]:
    """The first of them, and how many more there are."""
    every = sorted(found)
    yield from every[:SHOWN]
    if len(every) > SHOWN:
        yield f"… and {len(every) - SHOWN} more like {every[0]}"
