"""Who may import whom (DESIGN §10). A failing line here says which arrow is wrong and why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "agent"

ALLOWED = {
    "domain": {"domain"},
    "wire": {"domain", "wire"},
    "infra": {"domain", "wire", "infra"},
    "runner": {"runner"},
    "node": {"domain", "wire", "infra", "node"},
    "core": {"domain", "wire", "infra", "core"},
    "cli": {"domain", "wire", "infra", "cli"},
    "client": {"domain", "wire", "client"},
}
WHY = {
    "domain": "the domain is pure and knows nobody",
    "wire": "the wire knows the domain only",
    "infra": "an edge knows domain and wire only",
    "runner": "the hands keep running while everything else is replaced: standard library only",
    "node": "the node never needs the core's code, nor the runner's (it asks by socket)",
    "core": "the core never needs the node's code",
    "cli": "commands are API clients, nothing more",
    "client": "what somebody else's program imports brings nothing but the words and the wire",
}
# The one door beside the API: what `agentctl` reads while the daemon is down (DESIGN §6).
EXCEPTIONS = {("cli", "agent.node.offline")}
STANDARD_ONLY = {"runner"}
PURE_FORBIDDEN = {
    "asyncio", "os", "sqlite3", "socket", "subprocess", "threading", "time", "random", "secrets",
    "pathlib", "logging", "httpx", "structlog", "uuid",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield node.lineno, node.module or ""


def room(path: Path) -> str | None:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_house(path: Path) -> None:
    own = room(path)
    if own is None:
        return
    for line, name in imported(path):
        if not name.startswith("agent.") or name == "agent.version":
            continue
        other = name.split(".")[1]
        allowed = other in ALLOWED[own] or (own, name) in EXCEPTIONS
        assert allowed, f"{path}:{line}: {own} imports {name}, but {WHY[own]}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "domain").rglob("*.py")), ids=lambda p: p.name)
def test_the_domain_does_no_io(path: Path) -> None:
    for line, name in imported(path):
        top = name.split(".")[0]
        assert top not in PURE_FORBIDDEN, (
            f"{path}:{line}: the domain imports {name}; time, randomness and I/O are passed in"
        )


@pytest.mark.parametrize("path", sorted((PACKAGE / "runner").rglob("*.py")), ids=lambda p: p.name)
def test_the_runner_needs_the_standard_library_only(path: Path) -> None:
    import sys

    for line, name in imported(path):
        top = name.split(".")[0]
        own = name.startswith(("agent.runner", "_sha"))  # _sha2, once _sha256: see digest.py
        fine = own or top in sys.stdlib_module_names
        assert fine, f"{path}:{line}: the runner imports {name}; {WHY['runner']}"


def test_the_clock_is_read_in_one_file() -> None:
    """Passing time in is what makes the whole system simulable."""
    readers = {"datetime.now", "datetime.utcnow", "time.time", "time.monotonic"}
    allowed = {PACKAGE / "infra" / "clock.py"}
    for path in modules():
        if path in allowed or room(path) in {"runner", "cli"}:
            continue  # the runner has its own clock file; commands show times to people
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in readers, f"{path}:{node.lineno}: {called}(): take a Clock"


HTTP_EDGES = {"node/sync/http_core.py", "core/nodes/node_api.py", "core/events/receiver.py"}
"""Who calls somebody else: a node its core, the core a node and a receiver of events."""


def test_only_the_http_edges_know_httpx() -> None:
    for path in modules():
        if str(path.relative_to(PACKAGE)) in HTTP_EDGES or room(path) == "client":
            continue
        for line, name in imported(path):
            assert name.split(".")[0] != "httpx", f"{path}:{line}: httpx stays in {HTTP_EDGES}"
