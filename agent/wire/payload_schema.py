"""A payload against the `payload_schema` of its kind's manifest: the same check on both halves.

The core refuses what a node's catalogue would refuse, before anything is stored; the node checks
again, for its catalogue may have changed since. A schema is nobody's reason to fetch anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.domain.errors import Fault
from agent.wire.schema_unfolding import schema_problem

FAULTS_PER_PAYLOAD_MAX = 20


def compile_schema(schema: Mapping[str, Any]) -> Any:
    """A validator, or the Fault that the schema itself has. Imported late: 8 MB few nodes need."""
    import jsonschema_rs  # noqa: PLC0415

    problem = schema_problem(schema)
    if problem is not None:
        return Fault("kind", f"the payload_schema of its manifest {problem}")
    try:
        return jsonschema_rs.validator_for(dict(schema), retriever=_retrieve_nothing)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        first = str(error).partition("\n")[0]
        return Fault("kind", f"the payload_schema of its manifest is not a JSON Schema: {first}")


def payload_faults(validator: Any, payload: Mapping[str, Any]) -> tuple[Fault, ...]:
    """What is wrong with the payload; `validator` is what `compile_schema` made."""
    if isinstance(validator, Fault):
        return (validator,)
    faults = []
    for error in validator.iter_errors(dict(payload)):
        path = ".".join(["payload", *(str(part) for part in error.instance_path)])
        faults.append(Fault(path, error.message))
        if len(faults) == FAULTS_PER_PAYLOAD_MAX:
            break
    return tuple(faults)


def _retrieve_nothing(uri: str) -> Any:
    raise ValueError(f"a schema may not refer to {uri}: nothing is fetched")
