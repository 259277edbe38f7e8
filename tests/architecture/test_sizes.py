"""Files aim at 200 lines and functions at 30; past 400 and 70 somebody must say why, here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
REASONS: dict[str, str] = {}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
FORBIDDEN_WORDS = ("TODO", "FIXME", "XXX", "NotImplementedError")


def sources() -> list[Path]:
    return sorted((ROOT / "agent").rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_one_idea(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    text = path.read_text()
    assert path.stem not in FORBIDDEN_NAMES, f"{name}: name it by what it holds"
    lines = text.count("\n")
    assert lines <= FILE_LINES_MAX or name in REASONS, f"{name} has {lines} lines; split it"
    assert ast.get_docstring(ast.parse(text)), f"{name} opens without its law"
    for word in FORBIDDEN_WORDS:
        assert word not in text, f"{name} promises more than it does: {word}"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_stay_readable(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{path.name}:{node.name} has {lines} lines"


def test_packages_re_export_nothing() -> None:
    for path in (ROOT / "agent").rglob("__init__.py"):
        body = ast.parse(path.read_text()).body
        assert all(isinstance(node, ast.Expr) for node in body), f"{path} does something at import"
