"""DBOS 2 on PostgreSQL: a queue of workflows of one step each, looked at a hundred times a second.

Arguments: URL ACTION COUNT PARALLEL. Says `ready`, waits for the word, says `done`.
"""

import subprocess
import sys
import time

import psycopg
from dbos import DBOS, Queue, SetWorkflowID

URL, ACTION, COUNT, PARALLEL = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

DBOS(
    config={
        "name": "bench",
        "system_database_url": URL,
        "run_admin_server": False,
        "log_level": "ERROR",
    }
)
queue = Queue("bench", concurrency=PARALLEL, polling_interval_sec=0.01)


@DBOS.step()
def run(action_id: str) -> None:
    """Run the action and wait for it."""
    environment = {"AGENT_ACTION_ID": action_id, "PATH": "/usr/bin:/bin"}
    subprocess.run([ACTION], env=environment, check=True)


@DBOS.workflow()
def fire(action_id: str) -> None:
    """One step."""
    run(action_id)


def main() -> None:
    DBOS.launch()
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(COUNT):
        with SetWorkflowID(f"a{number}"):
            queue.enqueue(fire, f"a{number}")
    query = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'"
    with psycopg.connect(URL, autocommit=True) as connection:
        while connection.execute(query).fetchone()[0] < COUNT:
            time.sleep(0.02)
    print("done", flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main()
