"""Every package that was asked for by name is used for real, and here is where."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# package: (the file where it does its work, what of it is called there)
WHERE = {
    "schedule": ("agent/node/duties.py", "schedule.Scheduler"),
    "sqlite-utils": ("agent/node/store/schema.py", "Migrations"),
    "httpx": ("agent/node/sync/http_core.py", "httpx.AsyncClient"),
    "tenacity": ("agent/node/sync/backoff.py", "AsyncRetrying"),
    "structlog": ("agent/infra/logs.py", "structlog.configure"),
    "click": ("agent/cli/agentctl.py", "click.group"),
    "pytest": ("tests/integration/cli/conftest.py", "pytest.fixture"),
    "freezegun": ("tests/unit/node/test_duties.py", "freeze_time"),
}
FOR_TESTS = {"pytest", "freezegun"}


def project() -> dict[str, object]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


@pytest.mark.parametrize("package", WHERE)
def test_it_is_declared(package: str) -> None:
    declared = project()
    extras = declared["optional-dependencies"]
    assert isinstance(extras, dict)
    wanted = extras["dev"] if package in FOR_TESTS else declared["dependencies"]
    assert isinstance(wanted, list)
    assert any(line.startswith(package) for line in wanted)


@pytest.mark.parametrize("package", WHERE)
def test_it_is_imported_and_called_where_we_say(package: str) -> None:
    file, used = WHERE[package]
    tree = ast.parse((ROOT / file).read_text())
    module = package.replace("-", "_")
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert module in imported, f"{file} does not import {module}"
    mentioned = {
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)
    }
    assert used in mentioned, f"{file} does not use {used}"
