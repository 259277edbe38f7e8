"""The core's routes and their tables say the same: paths, roles, schemas, parameters, documents."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from typing import Any

import pytest

from agent.core.api.description import OPERATIONS, all_schemas, describe_core
from agent.core.app import Core, routes_of
from agent.core.people.principal import Role
from agent.core.store.inline import InlineStore
from agent.infra.clock import SystemClock
from agent.infra.openapi import Operation
from agent.wire.definition import FIELDS
from tests.architecture.test_docs import DOCS, section

CREDENTIAL = "credential"


def title(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def served() -> list[str]:
    core = Core(InlineStore.in_memory(), SystemClock(), secrets.randbits)
    return [
        f"{method} {route.path}"  # type: ignore[attr-defined]
        for route in routes_of(core, None)
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    ]


def test_every_route_is_described_and_every_description_is_served() -> None:
    described = [title(one) for one in OPERATIONS]
    assert sorted(described) == sorted(served()), "agent/core/api/described/"


def test_every_schema_that_is_named_exists_and_is_used() -> None:
    schemas = all_schemas()
    named = {name for one in OPERATIONS for name in (one.body, one.answer) if name}
    named |= {name for one in OPERATIONS for _, name in one.others}
    named |= set(re.findall(r"#/components/schemas/(\w+)", str(schemas)))
    assert named | {"Error"} == set(schemas), "agent/core/api/described/"


def test_a_dispatch_and_a_definition_are_described_with_every_field() -> None:
    schemas = all_schemas()
    assert set(FIELDS) <= set(schemas["Definition"]["properties"])
    assert set(FIELDS) <= set(schemas["Action"]["properties"])
    ours = {"owner", "revision", "requester", "approval", "recurring_id", "nominal_at"}
    assert set(FIELDS) - ours <= set(schemas["NewAction"]["properties"])


def test_every_operation_has_a_name_of_its_own_a_group_and_a_role() -> None:
    """What a generated client is made of."""
    names = Counter(one.name for one in OPERATIONS)
    assert max(names.values()) == 1, names.most_common(3)
    for one in OPERATIONS:
        assert re.fullmatch(r"[a-z][a-z_]+", one.name), title(one)
        assert one.tag, title(one)
        needs_role = not one.open and one.scheme != CREDENTIAL
        assert (one.role in [role.value for role in Role]) == needs_role, title(one)


def test_what_nobody_lists_is_not_listed() -> None:
    """The universal answers stand in one place; a client's text about one error is told once."""
    for one in OPERATIONS:
        for pair in one.errors:
            assert pair not in ((422, "invalid"), (503, "unavailable"), (403, "forbidden")) or (
                one.open
            ), f"{title(one)}: {pair} holds everywhere"


def test_the_document_is_one() -> None:
    document = describe_core()
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names) == len(OPERATIONS)
    for name in re.findall(r"'#/components/schemas/(\w+)'", str(document)):
        assert name in document["components"]["schemas"]


@pytest.mark.parametrize("role", list(Role))
def test_the_table_of_roles_is_the_code_s(role: Role) -> None:
    """docs/access.md tells who may call what; another test asks the running code."""
    text = section(DOCS / "access.md", "Roles")
    rows: dict[str, Any] = dict(
        re.findall(r"^\| `([A-Z]+ /[^`]+)` \| (\w+) \|", text, re.MULTILINE)
    )
    told = {name for name, needed in rows.items() if needed == role.value}
    assert told == {title(one) for one in OPERATIONS if one.role == role.value}, "docs/access.md"
