"""Pages of the starts on file: every one once, whatever lies between them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.runner import ledger as ledger_module
from agent.runner.ledger import Ledger
from agent.runner.names import Key
from agent.runner.record import STATE_START, STATE_TOMBSTONE, encode_file


def put(ledger: Ledger, key: Key, state: str) -> None:
    marker = {"state": state, "row": key.row, "start_no": key.start_no, "id": f"a{key.row}",
              "attempt": 1, "kind": "tiny", "boot_id": "b"}  # fmt: skip
    fd = ledger.create(key, encode_file(marker))
    assert fd is not None
    os.close(fd)


def test_pages_end_and_miss_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "RECORDS_PAGE_MAX", 3)
    ledger = Ledger(str(tmp_path))
    for row in (11, 2, 30, 4, 5, 6):
        put(ledger, Key(row, 1), STATE_START)
    put(ledger, Key(4, 2), STATE_TOMBSTONE)
    put(ledger, Key(40, 1), STATE_TOMBSTONE)
    (tmp_path / "7.1.run").write_bytes(b"torn")
    found, after, more = [], Key(0, 0), True
    while more:
        page, more = ledger.list_starts(after)
        assert len(page) <= 3
        found += [item["row"] for item in page]
        after = Key(found[-1], 1)
    assert found == [2, 4, 5, 6, 11, 30]
