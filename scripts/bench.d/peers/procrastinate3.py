"""Procrastinate 3 on PostgreSQL: its worker in this process, woken by LISTEN; jobs put in at once.

Arguments: URL ACTION COUNT PARALLEL. Says `ready`, waits for the word, says `done`.
"""

import asyncio
import subprocess
import sys

from procrastinate import App, PsycopgConnector

URL, ACTION, COUNT, PARALLEL = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
BATCH = 100
app = App(connector=PsycopgConnector(conninfo=URL))


@app.task(name="fire")
def fire(action_id: str) -> None:
    """Run the action and wait for it."""
    environment = {"AGENT_ACTION_ID": action_id, "PATH": "/usr/bin:/bin"}
    subprocess.run([ACTION], env=environment, check=True)


async def main() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        working = asyncio.create_task(
            app.run_worker_async(concurrency=PARALLEL, install_signal_handlers=False)
        )
        await asyncio.sleep(1)  # it listens by then
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for start in range(0, COUNT, BATCH):
            some = range(start, min(start + BATCH, COUNT))
            await fire.batch_defer_async(*({"action_id": f"a{number}"} for number in some))
        query = "SELECT count(*) AS n FROM procrastinate_jobs WHERE status = 'succeeded'"
        while (await app.connector.execute_query_one_async(query))["n"] < COUNT:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        print("done", flush=True)
        working.cancel()


asyncio.run(main())
