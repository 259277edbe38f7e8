"""An API as an OpenAPI 3.1 document: the table's columns, the schemas' bricks, and the builder.

Used by both daemons, each with a table of its own (docs/decisions/0015). Answers are open: a member
that a later version adds is no fault of its reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.version import VERSION

Schema = dict[str, Any]

JSON = "application/json"
BYTES = "application/octet-stream"
PLAIN = "text/plain"
HTML = "text/html"
YAML = "application/yaml"
FORM = "application/x-www-form-urlencoded"
EVENT_STREAM = "text/event-stream"

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
WHOLE: Schema = {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1}
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


def between(low: float, high: float, kind: str = "number") -> Schema:
    """A number within bounds, both included."""
    return {"type": kind, "minimum": low, "maximum": high}


def many(schema: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": schema}


def shape(members: Mapping[str, Schema], *optional: str, all_of: str | None = None) -> Schema:
    """An object that has these members; those named in `optional` may be missing."""
    required = [name for name in members if name not in optional]
    found: Schema = {"type": "object", "properties": dict(members), "required": required}
    return found if all_of is None else {"allOf": [ref(all_of), found]}


def closed(members: Mapping[str, Schema], *optional: str) -> Schema:
    """The same, and nothing else: a body that is read strictly."""
    return shape(members, *optional) | {"additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One member of the query string, or one header."""

    name: str
    schema: dict[str, Any]
    says: str
    needed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route. `body` and `answer` name schemas; `errors` maps codes to their `error` words."""

    method: str
    path: str
    says: str
    name: str = ""
    """What a generated client calls it; made of method and path unless given."""
    tag: str = ""
    """The group it belongs to."""
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    body: str | None = None
    body_needed: bool = False
    body_also: tuple[str, ...] = ()
    """Media types, besides JSON, in which the body may come, as text."""
    status: int = 200
    answer: str | None = None
    """None: text or bytes of `media`; with 204, nothing at all."""
    media: str = JSON
    also: tuple[str, ...] = ()
    """Media types, as text, that the answer has instead where the caller asks for them."""
    others: tuple[tuple[int, str], ...] = ()
    """Further codes that are no errors, with the schema of each."""
    errors: tuple[tuple[int, str], ...] = ()
    open: bool = False
    role: str = ""
    """What the token must be for; shown, and held against the code by a test."""
    scheme: str = "token"


def get(path: str, answer: str | None, says: str, *query: Parameter, **more: Any) -> Operation:
    """`GET`."""
    return Operation(method="GET", path=path, answer=answer, says=says, query=query, **more)


def post(path: str, answer: str, says: str, *query: Parameter, **more: Any) -> Operation:
    """`POST`."""
    return Operation(method="POST", path=path, answer=answer, says=says, query=query, **more)


def put(path: str, answer: str, says: str, *query: Parameter, **more: Any) -> Operation:
    """`PUT`."""
    return Operation(method="PUT", path=path, answer=answer, says=says, query=query, **more)


def delete(path: str, answer: str | None, says: str, *query: Parameter, **more: Any) -> Operation:
    """`DELETE`; 204 where there is no answer."""
    more.setdefault("status", 204 if answer is None else 200)
    return Operation(method="DELETE", path=path, answer=answer, says=says, query=query, **more)


LIMIT = Parameter("limit", WHOLE, "how many at most")
AFTER = Parameter("after", TEXT, "`next` of the page before")
WAIT = Parameter("wait", NUMBER, "seconds to wait at most (60)")
MISSING = (404, "not_found")
INVALID = (422, "invalid")
AWAY = (503, "unavailable")

_PATH_PARAMETER = re.compile(r"{(\w+)}")
Errors = tuple[tuple[int, str], ...]
_UNIVERSAL: Errors = ((401, "unauthorized"), (403, "forbidden"))


_TOKEN: Mapping[str, Schema] = {"token": {"type": "http", "scheme": "bearer"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What holds for every operation of an API: the answers that nobody lists."""

    universal: Errors = _UNIVERSAL
    """What every call but the open ones can be answered."""
    everywhere: Errors = ()
    """What the open ones can be answered, too."""
    with_body: Errors = ()
    schemes: Mapping[str, Schema] = field(default_factory=lambda: _TOKEN)


def describe_api(
    title: str,
    description: str,
    operations: Iterable[Operation],
    schemas: Mapping[str, Schema],
    house: House | None = None,
) -> dict[str, Any]:
    """The whole document."""
    house = house or House()
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, house)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": VERSION, "description": description},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(schemas),
            "securitySchemes": dict(house.schemes),
        },
    }


def _describe(operation: Operation, house: House) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.name or _operation_id(operation),
        "summary": operation.says,
        "responses": _responses(operation, house),
    }
    if operation.tag:
        found["tags"] = [operation.tag]
    if operation.role:
        found["x-role"] = operation.role
        found["description"] = f"Needs the role `{operation.role}`."
    parameters = [
        *_path_parameters(operation.path),
        *_parameters("query", operation.query),
        *_parameters("header", operation.headers),
    ]
    if parameters:
        found["parameters"] = parameters
    if operation.body is not None:
        content = {JSON: {"schema": ref(operation.body)}}
        content |= {media: {"schema": TEXT} for media in operation.body_also}
        found["requestBody"] = {"required": operation.body_needed, "content": content}
    if operation.open:
        found["security"] = []
    elif operation.scheme != "token":
        found["security"] = [{operation.scheme: []}]
    return found


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"\w+", operation.path.removeprefix("/v1"))
    return "_".join([operation.method.lower(), *words])


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_PARAMETER.findall(path)
    ]


def _parameters(place: str, parameters: Iterable[Parameter]) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "in": place, "schema": one.schema, "description": one.says}
        | ({"required": True} if one.needed else {})
        for one in parameters
    ]


def _responses(operation: Operation, house: House) -> dict[str, Any]:
    found: dict[str, Any] = {str(operation.status): _success(operation)}
    for code, name in operation.others:
        found[str(code)] = _answered(operation.says, {JSON: {"schema": ref(name)}})
    errors = (*operation.errors, *house.everywhere)
    errors += () if operation.open else house.universal
    errors += house.with_body if operation.body is not None else ()
    for code in sorted({code for code, _ in errors}):
        words = dict.fromkeys(word for other, word in errors if other == code and word)
        told = ", ".join(f"`{word}`" for word in words)
        schema = ref("Error") if told else ref(operation.answer or "Error")
        found[str(code)] = _answered(told or "not well", {JSON: {"schema": schema}})
    return found


def _success(operation: Operation) -> dict[str, Any]:
    if operation.status == 204:
        return {"description": operation.says}
    schema = TEXT if operation.answer is None else ref(operation.answer)
    content = {operation.media: {"schema": schema}}
    content |= {media: {"schema": TEXT} for media in operation.also}
    return _answered(operation.says, content)


def _answered(says: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": says, "content": content}
