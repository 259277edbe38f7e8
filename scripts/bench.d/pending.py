"""A node with 100,000 and a million future actions beside an empty one: start, memory, adding.

The rows are copies of one that the node accepted itself, with ids and instants of their own, made
in the database while the node is down: nobody waits for a million requests.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from figures import Section, Target
from place import Place
from processes import MIB, usage
from systems import Node

DAY_S = 86_400
TEMPLATE = "pending-000000000"
_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"


@dataclass
class Found:
    """Of one node, over its restarts."""

    ready_s: list[float] = field(default_factory=list)
    add_ms: list[float] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)


def measure(place: Place, bin_dir: Path, _peers: Path, *, quick: bool) -> Section:
    """Restarts and additions in turn with those of an empty node; medians."""
    sizes = (100_000,) if quick else (100_000, 1_000_000)
    restarts, adds = (3, 50) if quick else (5, 200)
    section = Section(
        name="pending",
        title="pending actions of the future",
        columns=["restart to ready, s", "RSS MiB", "adding one, ms"],
    )
    for size in sizes:
        print(f"  pending: {size:,}", flush=True)
        nodes = {0: Node(place, bin_dir), size: Node(place, bin_dir)}
        for node in nodes.values():
            node.start()
            at = time.time() + DAY_S
            node.plan([(TEMPLATE, at, str(place.actions / "tiny_action"))])
            node.stop()
        fill(nodes[size].store / "agent.db", size - 1)
        found = {key: Found() for key in nodes}
        for number in range(restarts):
            _round(nodes, found, f"r{number}", adds // restarts)
        for key, one in found.items():
            section.rows[f"{key:,} pending" if key else f"1 pending, beside {size:,}"] = [
                f"{median(one.ready_s):.3f}", f"{median(one.rss) / MIB:.1f}",
                f"{median(one.add_ms):.2f}",
            ]  # fmt: skip
        section.targets += _targets(found[0], found[size], size)
    return section


def _targets(empty: Found, full: Found, size: int) -> list[Target]:
    return [
        Target(text=f"{size:,} pending: ready against empty",
               found=median(full.ready_s) / median(empty.ready_s), bound=2.0),
        Target(text=f"{size:,} pending: memory beyond empty",
               found=(median(full.rss) - median(empty.rss)) / MIB, bound=5.0, unit=" MiB"),
        Target(text=f"{size:,} pending: adding one against empty",
               found=median(full.add_ms) / median(empty.add_ms), bound=1.15),
    ]  # fmt: skip


def _round(nodes: dict[int, Node], found: dict[int, Found], name: str, adds: int) -> None:
    callers = {}
    for key, node in nodes.items():
        found[key].ready_s.append(node.start())
        callers[key] = node.connect()
    at = time.time() + DAY_S
    for number in range(adds):
        for key, node in nodes.items():
            body = {"id": f"{name}-{number}", "kind": "tiny_action", "from_date": _rfc3339(at)}
            began = time.monotonic()
            node.call("POST", "/v1/actions", body, callers[key])
            found[key].add_ms.append((time.monotonic() - began) * 1000)
    for key, node in nodes.items():
        for path in ("/v1/status", "/v1/actions?limit=100"):
            node.call("GET", path, None, callers[key])
        found[key].rss.append(usage(node.pids()).rss)
        node.stop()


def _rfc3339(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def fill(path: Path, count: int) -> None:
    """`count` copies of the one action and its event, a second apart."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")  # nothing here is worth keeping
    columns = [row[1] for row in db.execute("PRAGMA table_info(actions)")]
    changed = {
        "row": "row + i",
        "id": "printf('pending-%09d', i)",
        "definition": f"replace(definition, '{TEMPLATE}', printf('pending-%09d', i))",
        "due_at": "due_at + i * 1000000",
    }
    values = ", ".join(changed.get(name, f'"{name}"') for name in columns)
    names = ", ".join(f'"{name}"' for name in columns)
    numbers = _NUMBERS.format(count=count)
    db.execute("BEGIN")
    db.execute(
        f"INSERT INTO actions ({names}) {numbers} SELECT {values} FROM actions, n WHERE id = ?",
        (TEMPLATE,),
    )
    db.execute(
        f"INSERT INTO events (seq, mark, row, type, at, body) {numbers}"
        " SELECT (SELECT max(seq) FROM events) + i, printf('%016x', i), row + i, type, at,"
        f" replace(body, '{TEMPLATE}', printf('pending-%09d', i)) FROM events, n"
        " WHERE row = (SELECT row FROM actions WHERE id = ?)",
        (TEMPLATE,),
    )
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
