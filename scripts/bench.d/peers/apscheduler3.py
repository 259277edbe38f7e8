"""APScheduler 3 with its SQLAlchemy job store on SQLite: one job per planned action.

Its SQLite stands as SQLAlchemy opens it (rollback journal, synchronous FULL): durable.
"""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler


def fire(action_id: str, action: str) -> None:
    """Run the action and wait for it."""
    environment = {"AGENT_ACTION_ID": action_id, "PATH": "/usr/bin:/bin"}
    subprocess.run([action], env=environment, check=False)


def main() -> None:
    store, plan, parallel = sys.argv[1], sys.argv[2], int(sys.argv[3])
    is_new = not Path(store, "jobs.db").exists()
    scheduler = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url=f"sqlite:///{store}/jobs.db")},
        executors={"default": ThreadPoolExecutor(parallel)},
        job_defaults={"misfire_grace_time": None},
        timezone=UTC,
    )
    scheduler.start(paused=is_new)
    if is_new:
        for action_id, due, action in json.loads(Path(plan).read_text()):
            scheduler.add_job(
                fire, "date", run_date=datetime.fromtimestamp(due, UTC), id=action_id,
                args=[action_id, action],
            )  # fmt: skip
        scheduler.resume()
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
