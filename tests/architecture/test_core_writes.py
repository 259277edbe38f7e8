"""Two tables are written in one place each, or readers and nodes would miss something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "agent" / "core"
_INSERT = r"(?:insert\(|insert_all\(\s*\w+,\s*){table}\b"


@pytest.mark.parametrize(
    ("table", "home", "why"),
    [
        ("events", "journal.py", "journal.store leaves the mark that readers stop at"),
        ("deliveries", "nodes/stream.py", "stream.put_deliveries wakes the nodes at every cored"),
    ],
)
def test_one_place_inserts(table: str, home: str, why: str) -> None:
    pattern = re.compile(_INSERT.format(table=table))
    found = {
        str(path.relative_to(CORE))
        for path in CORE.rglob("*.py")
        if "migrations" not in path.parts and pattern.search(path.read_text())
    }
    assert found == {home}, f"only {home} inserts into {table}: {why}"
