"""Everything that is PostgreSQL's own: how to open it, how long what may take, what errors mean.

Writers are READ COMMITTED, each with a transaction per piece of work; that they do not disturb one
another is the matter of `locks`. Readers are REPEATABLE READ, READ ONLY: one snapshot for one read.
Nothing waits for ever: not to connect, not for a lock, not for a statement.
"""

from __future__ import annotations

from secrets import token_hex
from typing import Any

import psycopg
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Connection, ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from agent.core.store.database import Failure
from agent.core.store.notices import ORIGIN
from agent.domain.errors import Fault, InvalidDocument

WRITERS = 3  # measured: more only take the interpreter from one another, fewer wait for the disk
READERS = 4
CONNECT_S_MAX = 5
STATEMENT_MS_MAX = 30_000
LOCK_MS_MAX = 10_000
IDLE_MS_MAX = 60_000  # inside a transaction: somebody stopped our process with all its locks
SCHEMA_LOCK_MS_MAX = 300_000  # another `cored` that starts may be migrating a big table
SCHEMA_LOCK = 0x636F7265_64000001  # "cored": no other advisory lock of one key is a constant
PLAN_ANEW_FROM = 16  # transactions of a connection; then at 32, 64 …
_BEGUN = "begun"

# libpq's words, for those that the URL does not give itself.
_CONNECTING: dict[str, Any] = {
    "connect_timeout": CONNECT_S_MAX,
    "application_name": "cored",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_SECRET = frozenset({"password", "sslpassword"})
_MET_ANOTHER = frozenset({"40001", "40P01", "23505"})  # serialization, deadlock, a unique row
_GONE = ("08", "57P0", "25P03", "25P04")  # connection, shutdown, and two time-outs that hang up
_NO_COLUMN_HOLDS = frozenset({"22003", "22021", "22P05"})  # too large a number; no UTF-8; NUL
_NOT_A_DATABASE = "is not a database; write postgresql://user@host/name"


class PostgresDatabase:
    """A database on a server, opened by any number of processes."""

    file = None
    writers = WRITERS
    readers = READERS

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url).set(drivername="postgresql+psycopg")
        except (ArgumentError, ValueError):  # a port that is no number
            raise InvalidDocument([Fault("database", f"this {_NOT_A_DATABASE}")]) from None
        if not parsed.database:
            raise InvalidDocument([Fault("database", f"without a name this {_NOT_A_DATABASE}")])
        self._url = parsed
        self.shown = _without_secrets(parsed)
        self.origin = token_hex(8)  # tells our own notices from those of other processes

    def open_engine(self, *, writes: bool) -> Engine:
        """An engine for one thread's connection."""
        return self._open(writes=writes, statement_ms=STATEMENT_MS_MAX, lock_ms=LOCK_MS_MAX)

    def open_for_schema(self) -> Engine:
        """Statements may take as long as they need, and another's migration is waited for."""
        return self._open(writes=True, statement_ms=0, lock_ms=SCHEMA_LOCK_MS_MAX)

    def _open(self, *, writes: bool, statement_ms: int, lock_ms: int) -> Engine:
        engine = create_engine(
            self._url,
            connect_args=self.connecting(),
            poolclass=NullPool,
            hide_parameters=True,  # an error's text goes to the log, payloads and digests do not
            use_native_hstore=False,
        )

        @event.listens_for(engine, "connect")
        def _configure(connection: psycopg.Connection, record: Any) -> None:
            record.info[ORIGIN] = self.origin
            connection.execute(
                f"SET statement_timeout = {statement_ms}; SET lock_timeout = {lock_ms}; "
                f"SET idle_in_transaction_session_timeout = {IDLE_MS_MAX}"
            )
            connection.commit()
            connection.read_only = not writes
            connection.isolation_level = (
                psycopg.IsolationLevel.READ_COMMITTED
                if writes
                else psycopg.IsolationLevel.REPEATABLE_READ
            )

        event.listen(engine, "handle_error", _without_values)
        event.listen(engine, "begin", _plan_anew)
        return engine

    def connecting(self) -> dict[str, Any]:
        """What a connection is asked for besides the URL."""
        return {key: value for key, value in _CONNECTING.items() if key not in self._url.query}

    def plain_connection(self) -> dict[str, Any]:
        """The same for the driver itself, without SQLAlchemy."""
        dialect: Any = PGDialect_psycopg
        _, given = dialect().create_connect_args(self._url)
        return {**given, **self.connecting()}

    def lock_schema(self, connection: Connection) -> None:
        """Wait until no other process migrates."""
        connection.execute(text(f"SELECT pg_advisory_lock({SCHEMA_LOCK})"))

    def failure_of(self, error: BaseException) -> Failure:
        """By the standard's codes; an error without one is the connection's."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, OverflowError | UnicodeEncodeError):
            return Failure.BAD_VALUE
        if not isinstance(cause, psycopg.Error):
            return Failure.OF_THE_WORK
        code = cause.sqlstate
        if code is None:
            return _without_code(cause)
        if code in _MET_ANOTHER:
            return Failure.AGAIN
        if code.startswith(_GONE):
            return Failure.LOST
        if code in _NO_COLUMN_HOLDS:
            return Failure.BAD_VALUE
        own = isinstance(
            cause, psycopg.IntegrityError | psycopg.DataError | psycopg.ProgrammingError
        )
        return Failure.OF_THE_WORK if own else Failure.UNAVAILABLE


def _plan_anew(connection: Connection) -> None:
    """Forget the plans of a smaller database: now and then, ever more rarely.

    A plan that was made while a table was empty reads all of it, and is kept until the server
    has gathered statistics, which takes it a minute or so of a busy beginning.
    """
    count = connection.info.get(_BEGUN, 0) + 1
    connection.info[_BEGUN] = count
    if count >= PLAN_ANEW_FROM and count & (count - 1) == 0:
        connection.exec_driver_sql("DISCARD PLANS")


def _without_values(context: ExceptionContext) -> BaseException | None:
    """The server's details quote rows, and an error's text goes to the log."""
    cause, wrapped = context.original_exception, context.sqlalchemy_exception
    if not isinstance(cause, psycopg.Error) or not isinstance(wrapped, DBAPIError):
        return None
    if cause.diag.message_primary is None:
        return None
    cause.args = (cause.diag.message_primary,)
    return type(wrapped)(
        context.statement,
        None,
        cause,
        hide_parameters=True,
        connection_invalidated=context.is_disconnect,
    )


def _without_code(cause: psycopg.Error) -> Failure:
    """The driver's own errors never reached the server."""
    if isinstance(cause, psycopg.DataError):
        return Failure.BAD_VALUE  # a NUL character
    if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        return Failure.LOST
    return Failure.OF_THE_WORK


def _without_secrets(url: URL) -> str:
    plain = url.difference_update_query(_SECRET).set(drivername="postgresql")
    return plain.render_as_string(hide_password=True)
