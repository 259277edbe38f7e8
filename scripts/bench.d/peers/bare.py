"""The bare limit: a heap, SQLite (WAL, FULL), posix_spawn, pidfds. It commits and spawns, no more.

`--group`: all that a turn ends and starts is one commit; else each change is one, as it comes.
"""

import heapq
import json
import os
import select
import sqlite3
import sys
import time
from pathlib import Path

store, plan, parallel = sys.argv[1], sys.argv[2], int(sys.argv[3])
is_group = "--group" in sys.argv
is_new = not Path(store, "bare.db").exists()
db = sqlite3.connect(f"{store}/bare.db", isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = FULL")
if is_new:
    db.execute("CREATE TABLE actions (id TEXT PRIMARY KEY, due REAL, action TEXT, status TEXT)")
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO actions (id, due, action, status) VALUES (?, ?, ?, 'NULL')",
        json.loads(Path(plan).read_text()),
    )
    db.execute("COMMIT")
waiting = [
    (due, action_id, action)
    for due, action_id, action in db.execute(
        "SELECT due, id, action FROM actions WHERE status IN ('NULL', 'STARTED')"
    )
]
heapq.heapify(waiting)
running = {}  # pidfd → id


def commit(changes: list[tuple[str, str]]) -> None:
    """Write statuses, in one transaction or one by one."""
    if not changes:
        return
    if is_group:
        db.execute("BEGIN")
    for change in changes:
        db.execute("UPDATE actions SET status = ? WHERE id = ?", change)
    if is_group:
        db.execute("COMMIT")


print("ready", flush=True)
while True:
    timeout = None
    if waiting and len(running) < parallel:
        timeout = max(0.0, waiting[0][0] - time.time())
    ended = select.select(list(running), [], [], timeout)[0]
    changes = []
    for fd in ended:
        os.waitid(os.P_PIDFD, fd, os.WEXITED)
        os.close(fd)
        changes.append(("FINISHED", running.pop(fd)))
    starting, now = [], time.time()
    while waiting and len(running) + len(starting) < parallel and waiting[0][0] <= now:
        starting.append(heapq.heappop(waiting))
    commit(changes + [("STARTED", action_id) for _, action_id, _ in starting])
    for _, action_id, action in starting:
        environment = {"AGENT_ACTION_ID": action_id, "PATH": "/usr/bin:/bin"}
        pid = os.posix_spawn(action, [action], environment)
        running[os.pidfd_open(pid)] = action_id
