"""Many rows in one statement. On SQLite that is `executemany`, which costs next to nothing; on
PostgreSQL a statement per row would be a message per row, so the rows travel as one JSON document
and the server takes it apart. Both are made once and go to the driver as they are: what SQLAlchemy
does with each row and statement on the way is more than the database does.

All rows of one call have the same columns, and come in the order in which they are numbered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import Table, text
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql.elements import TextClause

Rows = Sequence[Mapping[str, Any]]
_Readers = dict[str, Callable[[Any], Any]]


def insert_all(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert the rows, in order."""
    if not rows:
        return
    names = tuple(rows[0])
    if len(rows) == 1 or connection.dialect.name == "sqlite":
        statement, readers = _insert_one(table, names, connection.dialect)
        connection.exec_driver_sql(statement, _bound(rows, names, readers))
        return
    many, readers = _insert(table, names, connection.dialect)
    connection.execute(many, {"rows": _document(rows, readers)})


def update_all(connection: Connection, table: Table, key: str, rows: Rows) -> None:
    """Set every other column of each row whose `key` is the same."""
    if not rows:
        return
    names = tuple(rows[0])
    if len(rows) == 1 or connection.dialect.name == "sqlite":
        statement, readers = _update_one(table, key, names, connection.dialect)
        named = (*(name for name in names if name != key), key)
        connection.exec_driver_sql(statement, _bound(rows, named, readers))
        return
    many, readers = _update(table, key, names, connection.dialect)
    connection.execute(many, {"rows": _document(rows, readers)})


def _bound(rows: Rows, names: Sequence[str], readers: _Readers) -> list[tuple[Any, ...]]:
    """The values in this order, each as the driver wants it."""
    ways = [(name, readers.get(name)) for name in names]
    return [
        tuple([row[name] if way is None else way(row[name]) for name, way in ways]) for row in rows
    ]


def _document(rows: Rows, readers: _Readers) -> str:
    """The rows as JSON, each value as the driver would get it."""
    if not readers:
        return msgspec.json.encode(rows).decode()
    plain = [
        {**row, **{name: to_stored(row[name]) for name, to_stored in readers.items()}}
        for row in rows
    ]
    return msgspec.json.encode(plain).decode()


@lru_cache
def _insert(table: Table, names: tuple[str, ...], dialect: Dialect) -> tuple[TextClause, _Readers]:
    columns = ", ".join(f'"{name}"' for name in names)
    return (
        text(
            f'INSERT INTO "{table.name}" ({columns}) SELECT {columns} '
            f"FROM {_from_json(table, names, dialect)}"
        ),
        _readers(table, names, dialect),
    )


@lru_cache
def _update(
    table: Table, key: str, names: tuple[str, ...], dialect: Dialect
) -> tuple[TextClause, _Readers]:
    changed = ", ".join(f'"{name}" = given."{name}"' for name in names if name != key)
    return (
        text(
            f'UPDATE "{table.name}" SET {changed} FROM {_from_json(table, names, dialect)} '
            f'WHERE "{table.name}"."{key}" = given."{key}"'
        ),
        _readers(table, names, dialect),
    )


@lru_cache
def _insert_one(table: Table, names: tuple[str, ...], dialect: Dialect) -> tuple[str, _Readers]:
    columns = ", ".join(f'"{name}"' for name in names)
    values = ", ".join([_placeholder(dialect)] * len(names))
    statement = f'INSERT INTO "{table.name}" ({columns}) VALUES ({values})'
    return statement, _readers(table, names, dialect)


@lru_cache
def _update_one(
    table: Table, key: str, names: tuple[str, ...], dialect: Dialect
) -> tuple[str, _Readers]:
    value = _placeholder(dialect)
    changed = ", ".join(f'"{name}" = {value}' for name in names if name != key)
    statement = f'UPDATE "{table.name}" SET {changed} WHERE "{key}" = {value}'
    return statement, _readers(table, names, dialect)


def _placeholder(dialect: Dialect) -> str:
    return "?" if dialect.paramstyle == "qmark" else "%s"


def _from_json(table: Table, names: tuple[str, ...], dialect: Dialect) -> str:
    typed = ", ".join(f'"{name}" {table.c[name].type.compile(dialect)}' for name in names)
    return f"json_to_recordset(CAST(:rows AS json)) AS given({typed})"


def _readers(table: Table, names: tuple[str, ...], dialect: Dialect) -> _Readers:
    """The columns whose values are stored as something else than they are here."""
    found = {
        name: table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names
    }
    return {name: to_stored for name, to_stored in found.items() if to_stored is not None}
