"""A schema that would hold up whoever checks by it is refused; others work as written."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.errors import Fault
from agent.wire.payload_schema import compile_schema, payload_faults
from agent.wire.schema_unfolding import DEPTH_MAX, schema_problem

pytestmark = pytest.mark.timeout(20)
TREE = {
    "$defs": {"node": {"properties": {"children": {"items": {"$ref": "#/$defs/node"}}}}},
    "properties": {"root": {"$ref": "#/$defs/node"}, "$id": {"type": "string"}},
}


def folded(word: str, times: int, reference: str = "$ref") -> dict[str, Any]:
    """Each definition refers to the next one twice."""
    ladder: dict[str, Any] = {
        f"a{at}": {word: [{reference: f"#/$defs/a{at + 1}"}] * 2} for at in range(times)
    }
    return {"$defs": {**ladder, f"a{times}": False}, "$ref": "#/$defs/a0"}


def anchored(times: int) -> dict[str, Any]:
    ladder = [{"$anchor": f"a{at}", "anyOf": [{"$ref": f"#a{at + 1}"}] * 2} for at in range(times)]
    return {"$defs": {"all": {"allOf": [*ladder, {"$anchor": f"a{times}"}]}}, "$ref": "#a0"}


def chained(length: int) -> dict[str, Any]:
    chain: dict[str, Any] = {f"a{at}": {"$ref": f"#/$defs/a{at + 1}"} for at in range(length)}
    return {"$defs": {**chain, f"a{length}": {}}, "$ref": "#/$defs/a0"}


@pytest.mark.parametrize(
    "schema",
    [
        folded("anyOf", 40), folded("allOf", 40), folded("oneOf", 40, "$dynamicRef"),
        anchored(40), chained(5000), chained(DEPTH_MAX),
        {"properties": {"x": {"$id": "urn:other", "$ref": "#/$defs/a"}}},
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "definitions": {"x": {"id": "urn:other"}},
        },
    ],
)  # fmt: skip
def test_what_would_take_for_ever_is_a_fault_of_the_kind(schema: dict[str, Any]) -> None:
    found = compile_schema(schema)
    assert isinstance(found, Fault)
    assert found.path == "kind"
    assert payload_faults(found, {"x": 1}) == (found,)


@pytest.mark.parametrize(
    "schema",
    [
        {}, TREE, folded("anyOf", 8), chained(20), {"$id": "urn:whole", "$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#/allOf/0"}]}, {"enum": [{"id": "x"}]},
        {"$ref": "#/allOf/" + "9" * 5000}, {"$ref": "#/nowhere/~1~0/%41"}, {"$ref": 5},
    ],
)  # fmt: skip
def test_what_ends_soon_is_no_problem(schema: dict[str, Any]) -> None:
    assert schema_problem(schema) is None


def test_a_schema_that_refers_to_itself_still_works() -> None:
    validator = compile_schema(TREE)
    assert payload_faults(validator, {"root": {"children": [{"children": []}]}, "$id": "x"}) == ()
    [fault] = payload_faults(validator, {"$id": 5})
    assert fault.path == "payload.$id"
