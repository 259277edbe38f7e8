"""Huey on SQLite with fsync, its consumer with threads. `--queue`: without an eta, when told to go.

Its schedule is read once a second. A task without an eta never was in the schedule: that is a queue
and no scheduler, but quicker.
"""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from huey import SqliteHuey

STORE = sys.argv[1]
huey = SqliteHuey("bench", filename=f"{STORE}/huey.db", fsync=True, utc=True)


@huey.task()
def fire(action_id: str, action: str) -> None:
    """Run the action and wait for it."""
    environment = {"AGENT_ACTION_ID": action_id, "PATH": "/usr/bin:/bin"}
    subprocess.run([action], env=environment, check=False)


def main() -> None:
    plan, parallel = sys.argv[2], int(sys.argv[3])
    told = Path(STORE, "planned")
    is_new = not told.exists()
    if is_new:
        for action_id, due, action in json.loads(Path(plan).read_text()):
            if "--queue" in sys.argv:
                fire(action_id, action)
            else:
                at = datetime.fromtimestamp(due, UTC)
                fire.schedule((action_id, action), eta=at)
        told.touch()
    print("ready", flush=True)
    if is_new and "--queue" in sys.argv:
        sys.stdin.readline()  # the word to begin
    huey.create_consumer(
        workers=parallel, worker_type="thread", periodic=False, initial_delay=0.01, max_delay=0.1,
        scheduler_interval=1,
    ).run()  # fmt: skip


if __name__ == "__main__":
    main()
