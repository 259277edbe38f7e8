"""Our core as it is measured: a `cored` in a process of its own, and nodes enrolled beforehand.

The rows of thousands of nodes are made by the core's own functions while it is down: nobody waits
for twenty thousand requests that are not measured.
"""

from __future__ import annotations

import http.client
import json
import secrets
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from place import Place, Trouble, wait_until

from agent.core.nodes.enrolment import create_token, enroll
from agent.core.occasion import Occasion
from agent.core.store.database import database_of
from agent.core.store.migrate import migrate
from agent.wire.messages import Enroll

SQLITE, POSTGRES = "SQLite", "PostgreSQL"
START_S_MAX = 60.0
COUNTED_EVERY_S = 0.05  # it costs the core a count of all rows of the node


class Core:
    """One `cored` on a free port."""

    def __init__(self, place: Place, bin_dir: Path, database: str | None = None) -> None:
        self.store = place.fresh("core")
        self.log = self.store.with_name(f"{self.store.name}.log")
        self.database = database or f"sqlite:///{self.store / 'core.db'}"
        self._place = place
        self._command = [
            str(bin_dir / "python"), "-m", "agent.core.main", "--state-dir", str(self.store),
            "--listen", "127.0.0.1:0", "--database", self.database,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def enroll(self, count: int) -> list[tuple[str, str]]:
        """(name, credential) of as many nodes; before the start."""
        database = database_of(self.database)
        migrate(database)
        occasion = Occasion(datetime.now(UTC), secrets.randbits)
        engine = database.open_engine(writes=True)
        made = []
        with engine.begin() as connection:
            for number in range(count):
                token, _ = create_token(connection, occasion, None, 3600.0)
                name = f"sim-{number:05}"
                answer = enroll(connection, occasion, Enroll(token=token, nonce="n", agent_id=name))
                made.append((answer.agent_id, answer.credential))
        engine.dispose()
        return made

    def start(self, **settings: object) -> Core:
        """Until it listens."""
        listen = self.store / "listen"
        listen.unlink(missing_ok=True)
        variables = {f"CORE_{name.upper()}": str(value) for name, value in settings.items()}
        self._process = self._place.spawn(self._command, self.log, variables)
        process = self._process

        def ready() -> bool:
            if process.poll() is not None:
                raise Trouble(f"cored did not start:\n{self.log.read_text()[-2000:]}")
            return listen.exists()

        wait_until(ready, START_S_MAX, "cored does not listen")
        self.port = int(listen.read_text().strip().rpartition(":")[2])
        return self

    @property
    def token(self) -> str:
        """The first admin's."""
        return (self.store / "admin.token").read_text().strip()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._place.end(self._process)

    def connect(self) -> http.client.HTTPConnection:
        """A connection that is kept."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.connect()
        return connection

    def call(
        self, method: str, path: str, body: Any = None,
        caller: http.client.HTTPConnection | None = None,
    ) -> Any:  # fmt: skip
        """One request of an operator; its JSON. Trouble where it is refused."""
        connection = caller or self.connect()
        headers = {"Authorization": f"Bearer {self.token}"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        data = response.read()
        if caller is None:
            connection.close()
        if response.status >= 400:
            raise Trouble(f"{method} {path}: {response.status} {data.decode()[:500]}")
        return json.loads(data)

    def wait_finished(self, node: str, count: int, seconds: float) -> float:
        """Until the core has stored so many ends of the node's actions; the moment."""
        caller = self.connect()
        deadline = time.monotonic() + seconds
        while True:
            counts = self.call("GET", f"/v1/agents/{node}", None, caller)["counts"]
            if counts.get("FINISHED", 0) >= count:
                caller.close()
                return time.monotonic()
            if time.monotonic() > deadline:
                raise Trouble(f"the core has {counts} after {seconds:g} s")
            time.sleep(COUNTED_EVERY_S)
