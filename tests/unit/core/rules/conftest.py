"""Rules from text, and scenes to ask them about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.core.rules.book import RuleBook
from agent.core.rules.loading import load_rules
from agent.core.rules.rule import Scene
from agent.domain.errors import InvalidDocument

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
Load = Callable[..., RuleBook]
Faults = Callable[..., list[str]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """`load(rules_yaml="…", more_cel="…")`: files named by the arguments."""

    def made(**files: str) -> RuleBook:
        for name, text in files.items():
            stem, _, suffix = name.rpartition("_")
            (tmp_path / f"{stem}.{suffix}").write_text(text)
        return load_rules(tmp_path)

    return made


@pytest.fixture
def faults(load: Load) -> Faults:
    """What is wrong with them."""

    def found(**files: str) -> list[str]:
        with pytest.raises(InvalidDocument) as caught:
            load(**files)
        return [str(fault) for fault in caught.value.faults]

    return found


def scene(action: dict[str, Any] | None = None, node: dict[str, Any] | None = None) -> Scene:
    return Scene(action or {}, node or {}, NOW)


def rule(condition: str, action: str = "{type: suppress}", name: str = "r") -> str:
    """One YAML rule; the condition and the action in flow style."""
    return f"rules:\n  - name: {name}\n    condition: {condition}\n    action: {action}\n"
