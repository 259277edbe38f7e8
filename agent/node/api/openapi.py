"""The local API as an OpenAPI 3.1 document, built from one table (`agent.node.api.documented`)."""

from __future__ import annotations

import re
from typing import Any

from agent.node.api.documented import OPERATIONS, Operation
from agent.node.api.schemas import SCHEMAS, ref
from agent.version import VERSION

_PATH_PARAMETER = re.compile(r"{(\w+)}")
_UNIVERSAL = ((401, "unauthorized"), (403, "forbidden"))
"""What every call but the open ones can be answered."""


def describe_api() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "agentd's local API",
            "version": VERSION,
            "description": "On the Unix socket the kernel says who calls; over TCP a token does.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
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
