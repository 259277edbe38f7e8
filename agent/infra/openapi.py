"""An API as an OpenAPI 3.1 document: the table's columns, the schemas' bricks, and the builder.

Used by both daemons, each with a table of its own (docs/decisions/0015). Answers are open: a member
that a later version adds is no fault of its reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.version import VERSION

Schema = dict[str, Any]

JSON = "application/json"
BYTES = "application/octet-stream"
PLAIN = "text/plain"

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
OBJECT: Schema = {"type": "object"}
INSTANT: Schema = {"type": "string", "format": "date-time"}
ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"}
KIND: Schema = {"type": "string", "pattern": "^[a-z0-9][a-z0-9_.-]{0,63}$"}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT}


def ref(name: str) -> Schema:
    """One of the named schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def words(values: Any) -> Schema:
    """One of the words of an enumeration."""
    return {"type": "string", "enum": [str(value.value) for value in values]}


def maybe(schema: Schema) -> Schema:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": schema}


def shape(members: Mapping[str, Schema], *optional: str, all_of: str | None = None) -> Schema:
    """An object that has these members; those named in `optional` may be missing."""
    required = [name for name in members if name not in optional]
    found: Schema = {"type": "object", "properties": dict(members), "required": required}
    return found if all_of is None else {"allOf": [ref(all_of), found]}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One member of the query string."""

    name: str
    schema: dict[str, Any]
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route. `body` and `answer` name schemas; `errors` maps codes to their `error` words."""

    method: str
    path: str
    says: str
    query: tuple[Parameter, ...] = ()
    body: str | None = None
    body_needed: bool = False
    status: int = 200
    answer: str | None = None
    media: str = JSON
    errors: tuple[tuple[int, str], ...] = ()
    open: bool = False


def get(path: str, answer: str | None, says: str, *query: Parameter, **more: Any) -> Operation:
    """`GET`."""
    return Operation(method="GET", path=path, answer=answer, says=says, query=query, **more)


def post(path: str, answer: str, says: str, *query: Parameter, **more: Any) -> Operation:
    """`POST`."""
    return Operation(method="POST", path=path, answer=answer, says=says, query=query, **more)


LIMIT = Parameter("limit", WHOLE, "how many at most")
AFTER = Parameter("after", TEXT, "`next` of the page before")
WAIT = Parameter("wait", NUMBER, "seconds to wait at most (60)")
MISSING = (404, "not_found")
INVALID = (422, "invalid")
AWAY = (503, "unavailable")

_PATH_PARAMETER = re.compile(r"{(\w+)}")
_UNIVERSAL = ((401, "unauthorized"), (403, "forbidden"))
"""What every call but the open ones can be answered."""


def describe_api(
    title: str, description: str, operations: Iterable[Operation], schemas: Mapping[str, Schema]
) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": VERSION, "description": description},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(schemas),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.says,
        "responses": _responses(operation),
    }
    parameters = [*_path_parameters(operation.path), *_query_parameters(operation)]
    if parameters:
        found["parameters"] = parameters
    if operation.body is not None:
        found["requestBody"] = {
            "required": operation.body_needed,
            "content": {"application/json": {"schema": ref(operation.body)}},
        }
    if operation.open:
        found["security"] = []
    return found


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"\w+", operation.path.removeprefix("/v1"))
    return "_".join([operation.method.lower(), *words])


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_PARAMETER.findall(path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "in": "query", "schema": one.schema, "description": one.says}
        for one in operation.query
    ]


def _responses(operation: Operation) -> dict[str, Any]:
    schema = {"type": "string"} if operation.answer is None else ref(operation.answer)
    found: dict[str, Any] = {
        str(operation.status): {
            "description": operation.says,
            "content": {operation.media: {"schema": schema}},
        }
    }
    errors = operation.errors if operation.open else (*operation.errors, *_UNIVERSAL)
    for code in sorted({code for code, _ in errors}):
        told = ", ".join(f"`{word}`" for other, word in errors if other == code and word)
        schema = ref("Error") if told else ref(operation.answer or "Error")
        found[str(code)] = {
            "description": told or "not well",
            "content": {"application/json": {"schema": schema}},
        }
    return found
