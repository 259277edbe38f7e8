"""The runner stands alone: standard library only, one version, every bound holds another's."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

from agent.runner import limits
from agent.runner.daemon import runs_max
from agent.runner.messages import REQUESTS

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "agent" / "runner").glob("*.py"))
# hashlib maps libcrypto; the others cost a megabyte or more of a process that has twelve
TOO_LARGE = {"asyncio", "logging", "dataclasses", "inspect", "subprocess", "pathlib", "hashlib"}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def test_it_imports_the_standard_library_and_itself_only() -> None:
    for path in FILES:
        for name in imported(path):
            top = name.partition(".")[0]
            is_own = name.startswith("agent.runner")
            assert is_own or top in sys.stdlib_module_names or top in ("_sha2", "_sha256"), (
                f"{path.name} imports {name}: the runner must keep running while all else is "
                "replaced, so it depends on nothing of ours and on nobody else"
            )
            if path.name != "digest.py":
                assert top not in TOO_LARGE, f"{path.name} imports {name}, which is too large"


def test_files_open_with_their_law() -> None:
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.name} has no law"


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == limits.VERSION


def test_every_request_is_documented() -> None:
    text = (ROOT / "docs" / "runner-protocol.md").read_text()
    for name, fields in REQUESTS.items():
        assert f"`{name} {{" in text, f"{name} is not in docs/runner-protocol.md"
        for field in fields:
            assert field in text, f"{name}.{field} is not in docs/runner-protocol.md"


def test_hello_fits_in_a_line_however_much_runs() -> None:
    entry = 128 + 64 + 3 * 20 + 2 * 20 + 100
    most = limits.RUNS_PER_PARALLEL * limits.PARALLEL_MAX + limits.RUNS_EXTRA
    assert most * entry < limits.LINE_BYTES_MAX


def test_the_bound_on_runs_leaves_descriptors() -> None:
    assert runs_max(8, 1_024) == 96
    assert runs_max(128, 1_024) == (1_024 - limits.FDS_RESERVED) // limits.FDS_PER_RUN
    assert runs_max(8, 10) == 1
