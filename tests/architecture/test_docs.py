"""Documents cannot rot: what exists is documented, and the diagram is the table's."""

from __future__ import annotations

import ast
import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from agent.cli.agentctl import COMMANDS
from agent.cli.corectl import main as corectl
from agent.core.settings import SETTINGS as CORE_SETTINGS
from agent.domain import ending
from agent.domain.lifecycle import ExecutionStatus, Reason
from agent.domain.phase import Phase
from agent.domain.starting import Wait
from agent.node.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
VERDICTS = (
    ending.ADOPTED, ending.FINISHED_WHILE_AWAY, ending.NEVER_STARTED, ending.OUTCOME_UNKNOWN,
    ending.RESTORED,
)  # fmt: skip


def section(page: Path, heading: str) -> str:
    """The text under a heading, up to the next one of its level."""
    _, found, rest = page.read_text().partition(f"\n## {heading}\n")
    assert found, f"{page} has no section {heading!r}"
    return rest.partition("\n## ")[0]


def constants(source: Path) -> list[str]:
    """The strings that a module of names assigns."""
    return [
        str(node.value.value)
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    ]


def routes(*sources: Path) -> list[str]:
    """Paths of the route tables, written as `METHOD /path`."""
    pattern = re.compile(r'"(GET|POST|PUT|DELETE)",\s*"(/[^"]*)"')
    swapped = re.compile(r'Route\("(/[^"]*)"[^\n]*methods=\["(GET|POST|PUT|DELETE)"\]')
    text = "".join(source.read_text() for source in sources)
    found = [f"{method} {path}" for method, path in pattern.findall(text)]
    return found + [f"{method} {path}" for path, method in swapped.findall(text)]


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("Execution status", [word.value for word in ExecutionStatus]),
        ("Phases", [word.value for word in Phase]),
        ("Reasons", [word.value for word in Reason]),
        ("Why a due action waits", [word.value for word in Wait]),
        ("Verdicts", VERDICTS),
    ],
)
def test_the_glossary_has_a_line_for_every_word(heading: str, words: list[str]) -> None:
    told = re.findall(r"^\| `([^`]+)` \|", section(DOCS / "glossary.md", heading), re.MULTILINE)
    assert sorted(told) == sorted(words), f"docs/glossary.md, {heading}"


def test_every_setting_is_documented_with_its_variable() -> None:
    text = section(DOCS / "operations.md", "Settings")
    for key in SETTINGS:
        assert f"| `{key}` | `AGENT_{key.upper()}` |" in text, f"docs/operations.md: {key}"
    core = (DOCS / "core-api.md").read_text()
    for key in CORE_SETTINGS:
        assert f"`{key}`" in core, f"docs/core-api.md: {key}"
        assert f"`CORE_{key.upper()}`" in core, f"docs/core-api.md: {key}"


@pytest.mark.parametrize(("half", "page"), [("node", "operations.md"), ("core", "core-api.md")])
def test_every_log_event_is_documented(half: str, page: str) -> None:
    text = (DOCS / page).read_text()
    for name in constants(ROOT / "agent" / half / "log_events.py"):
        assert f"`{name}`" in text, f"docs/{page}: the log event {name}"


def test_every_command_is_documented() -> None:
    text = section(DOCS / "operations.md", "Commands")
    for name in COMMANDS:
        assert f"`agentctl {name}" in text, f"docs/operations.md: agentctl {name}"
    core = (DOCS / "core-api.md").read_text()
    for name in corectl.commands:
        assert name in core, f"docs/core-api.md: corectl {name}"


def test_every_route_of_the_node_is_documented() -> None:
    text = (DOCS / "node-api.md").read_text()
    found = routes(ROOT / "agent" / "node" / "api" / "routes.py")
    assert len(found) >= 12
    for route in found:
        assert f"`{route}" in text, f"docs/node-api.md: {route}"


def test_the_lifecycle_is_drawn_from_its_table() -> None:
    script = _load(ROOT / "scripts" / "lifecycle-diagram")
    page = (DOCS / "architecture.md").read_text()
    _, _, rest = page.partition(script.BEGIN)
    assert rest.partition(script.END)[0].strip() == script.draw(), (
        "run scripts/lifecycle-diagram --write"
    )


def test_links_lead_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "systemd" / "README.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page}: {target}"


def test_decisions_are_numbered_without_holes_and_have_their_parts() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        for part in ("**Context.**", "**Decision.**", "**Consequences.**"):
            assert part in page.read_text(), f"{page}: {part}"


def test_what_the_code_refers_to_exists() -> None:
    """`docs/…` in a comment or message is a promise too."""
    for source in (ROOT / "agent").rglob("*.py"):
        for name in re.findall(r"docs/[a-z0-9/_-]+\.md", source.read_text()):
            assert (ROOT / name).exists(), f"{source}: {name}"
        for number in re.findall(r"docs/decisions/(\d{4})", source.read_text()):
            assert list((DOCS / "decisions").glob(f"{number}-*.md")), f"{source}: {number}"


def _load(path: Path) -> ModuleType:
    spec = spec_from_loader(path.stem, SourceFileLoader(path.stem, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
