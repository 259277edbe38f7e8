"""What the daemon answers of itself is written down: routes, metrics, checks, definitions."""

from __future__ import annotations

import re
from pathlib import Path

from agent.node.api.documented import OPERATIONS
from agent.node.api.schemas import SCHEMAS
from agent.wire.definition import FIELDS
from tests.architecture.test_docs import DOCS, ROOT, constants, routes, section

NODE = ROOT / "agent" / "node"
CORE = ROOT / "agent" / "core"


def test_every_route_is_described_and_every_description_is_served() -> None:
    """The route table and the table of its OpenAPI are two files that say the same."""
    served = routes(NODE / "api" / "routes.py")
    described = [f"{one.method} {one.path}" for one in OPERATIONS]
    assert sorted(described) == sorted(set(served)), "agent/node/api/documented.py"


def test_every_schema_that_is_named_exists_and_is_used() -> None:
    named = {name for one in OPERATIONS for name in (one.body, one.answer) if name}
    named |= set(re.findall(r"#/components/schemas/(\w+)", str(SCHEMAS)))
    assert named | {"Error"} == set(SCHEMAS), "agent/node/api/schemas.py"


def test_the_definition_is_described_with_every_field() -> None:
    described = set(SCHEMAS["NewDefinition"]["properties"])
    assert set(FIELDS) <= described, "agent/node/api/schemas.py"


def test_every_metric_is_documented() -> None:
    text = (DOCS / "metrics.md").read_text()
    told = re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)
    named = {*constants(NODE / "metric_names.py"), *constants(CORE / "metric_names.py")}
    assert sorted(told) == sorted(named), "docs/metrics.md"


def test_every_check_of_the_doctor_is_documented() -> None:
    text = section(DOCS / "troubleshooting.md", "The doctor")
    told = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(told) == sorted(_checks()), "docs/troubleshooting.md, The doctor"


def _checks() -> set[str]:
    found: set[str] = set()
    for source in (NODE / "doctor").glob("judge_*.py"):
        found.update(re.findall(r'name(?:, \w+)? = "(\w+)"', source.read_text()))
        found.update(re.findall(r'name, \w+ = "(\w+)", ', source.read_text()))
    return found


def test_metric_names_say_their_unit() -> None:
    """Prometheus' convention: counters end in `_total`, instants and lengths in `_seconds`."""
    for name in constants(Path(CORE / "metric_names.py")):
        assert re.fullmatch(r"(cored|process)_[a-z_]+", name)
    for name in constants(Path(NODE / "metric_names.py")):
        assert re.fullmatch(r"(agentd|process)_[a-z_]+", name)
